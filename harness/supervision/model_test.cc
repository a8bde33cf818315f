// TreeLogic against the model of model.h: random trees, random things that happen to them, and
// after each step the same tree, or the same end. And that the comparison finds wrong models.
// Then without a model, where starts and stops take their time: what must hold all the same.
//
// CRASHWORTHY_SEED=n replays the run that a failure names; CRASHWORTHY_LONG makes ten times as
// many.
#include "harness/supervision/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "harness/os/random.h"
#include "harness/supervision/behaviour_rows.h"
#include "harness/supervision/fake_backend.h"

namespace crashworthy {
namespace {

using namespace rows;

constexpr int kStepsOfARun = 60;

// Trees.

class TreeMaker {
 public:
  explicit TreeMaker(Random* random) : random_(*random) {}

  SupervisorSpec tree(int depth) {
    const auto strategy = pick({Strategy::kOneForOne, Strategy::kOneForAll, Strategy::kRestForOne,
                                depth == 0 ? Strategy::kOneForOne : Strategy::kDynamic});
    SupervisorSpec made = rows::tree(strategy, {}, static_cast<int>(random_.below(7)),
                                     seconds(1 + static_cast<int>(random_.below(9))));
    const bool is_dynamic = strategy == Strategy::kDynamic;
    if (!is_dynamic) {
      made.auto_shutdown = pick({AutoShutdown::kNever, AutoShutdown::kNever,
                                 AutoShutdown::kAnySignificant, AutoShutdown::kAllSignificant});
    }
    const std::uint64_t count = is_dynamic   ? 1
                                : depth == 0 ? 1 + random_.below(4)
                                             : random_.below(4);
    for (std::uint64_t i = 0; i < count; ++i) {
      made.children.push_back(child(std::string(1, static_cast<char>('a' + i)), made, depth));
    }
    return made;
  }

  ChildSpec child(const std::string& id, const SupervisorSpec& above, int depth) {
    ChildSpec made = worker(id);
    if (depth < 2 && random_.below(10) < 4) made = nested(id, tree(depth + 1));
    made.restart = pick({RestartType::kPermanent, RestartType::kPermanent, RestartType::kTransient,
                         RestartType::kTemporary});
    const bool inner_ends =
        !made.supervisor || made.supervisor->auto_shutdown != AutoShutdown::kNever;
    made.significant = above.auto_shutdown != AutoShutdown::kNever &&
                       made.restart != RestartType::kPermanent && inner_ends &&
                       random_.below(2) == 0;
    if (random_.below(3) == 0) {
      made.stop = pick({StopPolicy{StopPolicy::Kind::kKill, {}},
                        StopPolicy{StopPolicy::Kind::kInfinite, {}},
                        StopPolicy{StopPolicy::Kind::kTime, seconds(1)}});
    }
    return made;
  }

 private:
  template <typename T>
  T pick(std::initializer_list<T> of) {
    return *(of.begin() + random_.below(of.size()));
  }
  Random& random_;
};

// Actions.

// Few paths exit with a code of their own when they are asked to end.
std::map<std::string, int> stop_codes() {
  return {{"a", 0}, {"b", 143}, {"c", 3}, {"a/a", 3}, {"b/a", 0}, {"a/b", 143}, {"a/a/a", 3}};
}

class ActionMaker {
 public:
  ActionMaker(Random* random, TreeMaker* trees) : random_(*random), trees_(*trees) {}

  // What may happen next in `model`. While something waits at a suspended supervisor, nothing is
  // added elsewhere: whose turn would be first is nobody's promise.
  Action next(const Model& model) {
    const Model::Known known = model.known();
    const auto waiting = model.waiting();
    for (;;) {
      const Action action = any(known);
      if (!waiting) return action;
      const bool resumes = action.kind == Action::Kind::kResume;
      if (resumes || action.kind == Action::Kind::kAdvance) return action;
      if (action.kind == Action::Kind::kStartsFail) return action;
      if (!goes_to(action, *waiting)) continue;
      return action;
    }
  }

  Action any(const Model::Known& known) {
    const std::uint64_t dice = random_.below(1000);
    if (dice < 340) return process_ends(known);
    if (dice < 420) return stop_child(some_path(known));
    if (dice < 500) return restart_child(some_path(known));
    if (dice < 540) return delete_child(some_path(known));
    if (dice < 640) return start(known);
    if (dice < 690) return suspend(path_or_root(known));
    if (dice < 760) return resume_one(known);
    if (dice < 850) return pass(milliseconds(random_.below(4000)));
    if (dice < 870) return pass(seconds(1 + static_cast<int>(random_.below(9))));
    if (dice < 970) return starts_fail(some_path(known), static_cast<int>(1 + random_.below(3)));
    if (dice < 990) return count(known);
    return dice < 996 ? shut_down() : kill_all();
  }

 private:
  using Paths = std::vector<std::string>;

  static bool goes_to(const Action& action, const std::string& supervisor) {
    if (action.kind == Action::Kind::kStartChild) return action.path == supervisor;
    if (action.kind == Action::Kind::kShutdown || action.kind == Action::Kind::kKill) return true;
    if (action.path.empty() || action.kind == Action::Kind::kSuspend ||
        action.kind == Action::Kind::kCountRestart) {
      return false;
    }
    const auto slash = action.path.rfind('/');
    return (slash == std::string::npos ? "" : action.path.substr(0, slash)) == supervisor;
  }

  Action process_ends(const Model::Known& known) {
    // Who is stopped can only be killed.
    const bool suspended = known.processes.empty() || random_.below(6) == 0;
    const Paths& paths = suspended ? known.suspended_processes : known.processes;
    if (paths.empty()) return pass(milliseconds(1));
    const std::string& path = pick(paths);
    if (suspended || random_.below(3) == 0) return dies(path);
    return exits(path, static_cast<int>(random_.below(2)));
  }

  Action start(const Model::Known& known) {
    const std::string supervisor =
        random_.below(10) == 0 ? some_path(known) : pick(known.supervisors);
    SupervisorSpec above;  // As if it heeded significant children: it need not.
    above.auto_shutdown =
        random_.below(3) == 0 ? AutoShutdown::kAnySignificant : AutoShutdown::kNever;
    const std::string id(1, static_cast<char>('a' + random_.below(6)));
    ChildSpec child = trees_.child(id, above, 2 - static_cast<int>(random_.below(2)));
    if (random_.below(15) == 0) child.id = "x/y";
    if (random_.below(15) == 0) child.function.clear();
    return start_child(supervisor, child);
  }

  Action resume_one(const Model::Known& known) {
    if (!known.suspended_supervisors.empty() && random_.below(2) == 0) {
      return resume(pick(known.suspended_supervisors));
    }
    return resume(path_or_root(known));
  }

  Action count(const Model::Known& known) {
    const std::string path = pick(known.supervisors);
    const bool suspended = std::ranges::count(known.suspended_supervisors, path) > 0;
    return suspended ? pass(milliseconds(1)) : count_restart(path);
  }

  // Mostly of a child that is there.
  std::string some_path(const Model::Known& known) {
    const std::uint64_t dice = random_.below(20);
    if (dice == 0) return "z";
    if (dice == 1) return pick(known.supervisors) + "/z";
    if (dice == 2) return "";
    return known.children.empty() ? "a" : pick(known.children);
  }
  std::string path_or_root(const Model::Known& known) {
    return random_.below(4) == 0 ? "" : some_path(known);
  }
  const std::string& pick(const Paths& paths) { return paths[random_.below(paths.size())]; }

  Random& random_;
  TreeMaker& trees_;
};

// Runs.

// The same text as Model::text(), from the logic.
void add_text(const TreeLogic& logic, const SupervisorInfo& info, std::string& text) {
  const auto counts = logic.count_children(info.path);
  text += "'" + info.path + "' " + std::string(life_state_name(info.state)) + ", left " +
          std::to_string(info.budget_left) + ", " + (counts ? describe(*counts) : "no counts");
  const auto children = logic.which_children(info.path);
  for (const ChildInfo& child : children.value_or(std::vector<ChildInfo>())) {
    text += "\n  " + describe(child) + (child.last_end ? " " + child.last_end->describe() : "");
  }
  text += "\n";
  for (const auto& entry : info.children) {
    for (const SupervisorInfo& below : entry.below) add_text(logic, below, text);
  }
}

std::string text_of(const TreeLogic& logic, std::int64_t now) {
  const SupervisorInfo info = logic.info(now);
  if (logic.ended()) return "ended, " + std::string(life_state_name(info.state)) + "\n";
  std::string text;
  add_text(logic, info, text);
  return text;
}

// "a permanent 5s, b transient kill significant [one_for_one 3 in 9 s: ...]"
std::string spec_text(const SupervisorSpec& tree) {
  std::string text = std::string(strategy_name(tree.strategy)) + " " +
                     std::to_string(tree.intensity) + " in " +
                     std::to_string(tree.period / seconds(1)) + " s, " +
                     std::string(auto_shutdown_name(tree.auto_shutdown)) + ":";
  for (const ChildSpec& child : tree.children) {
    text += " " + child.id + " " + std::string(restart_name(child.restart)) + " " +
            stop_name(child.stop_policy()) + (child.significant ? " significant" : "");
    if (child.supervisor) text += " [" + spec_text(*child.supervisor) + "]";
    text += ",";
  }
  return text;
}

std::string action_text(const Action& action) {
  std::string text = "action " + std::to_string(static_cast<int>(action.kind)) + " '" +
                     action.path + "' " + action.child.id + " " + std::to_string(action.number);
  if (action.child.supervisor) text += " [" + spec_text(*action.child.supervisor) + "]";
  return action.time.count() == 0 ? text : text + " " + std::to_string(action.time.count()) + " ns";
}

std::vector<std::string> answers_in(const std::string& seen) {
  std::vector<std::string> answers;
  for (std::size_t begin = 0; begin < seen.size();) {
    const std::size_t end = std::min(seen.find("; ", begin), seen.size());
    if (seen.compare(begin, 7, "answer ") == 0) answers.push_back(seen.substr(begin, end - begin));
    begin = end + 2;
  }
  return answers;
}

// One tree, and what happens to it, until it ends.
class Duel {
 public:
  Duel(std::uint64_t seed, Wrong wrong)
      : random_(seed),
        trees_(&random_),
        actions_(&random_, &trees_),
        world_(keep(trees_.tree(0))),
        model_(spec_, stop_codes(), wrong) {
    for (const auto& [path, code] : stop_codes()) {
      world_.act(conduct(path, exits_with(code)));
    }
  }

  // How they differ; empty when they do not.
  std::string go() {
    story_ = spec_text(spec_) + "\n";
    if (random_.below(10) == 0) {
      for (const char* path : {"a", "b", "a/a"}) fail_before_boot(path);
    }
    std::string found = step(boot());
    for (int i = 0; i < kStepsOfARun && found.empty() && !model_.ended(); ++i) {
      found = step(actions_.next(model_));
    }
    if (found.empty() && !model_.ended()) found = step(kill_all());
    return found;
  }
  int steps() const { return steps_; }

 private:
  const SupervisorSpec& keep(SupervisorSpec spec) { return spec_ = std::move(spec); }

  void fail_before_boot(const std::string& path) {
    if (random_.below(2) == 0) return;
    world_.act(starts_fail(path, 1));
    model_.act(starts_fail(path, 1), world_.now());
    story_ += action_text(starts_fail(path, 1)) + "\n";
  }

  std::string step(const Action& action) {
    ++steps_;
    world_.act(action);
    model_.act(action, world_.now());
    story_ += action_text(action) + "\n";
    std::string problem;
    const std::string seen = world_.transcript().take();
    auto in_logic = answers_in(seen);
    auto in_model = model_.take_answers();
    std::ranges::sort(in_logic);
    std::ranges::sort(in_model);
    if (in_logic != in_model) problem = "answers differ";
    if (world_.logic().ended() != model_.ended()) problem = "one has ended, or otherwise";
    const std::string logic = text_of(world_.logic(), world_.now());
    const std::string model = model_.text(world_.now());
    if (logic != model) problem = "the trees differ";
    if (problem.empty() && (model_.ended() || steps_ % 16 == 0)) problem = complaints();
    if (problem.empty()) return "";
    return problem + "\n" + story_ + "seen: " + seen +
           "\nanswers of the model: " + ::testing::PrintToString(in_model) + "\nlogic:\n" + logic +
           "model:\n" + model;
  }

  std::string complaints() const {
    const auto complaints = world_.complaints();
    return complaints.empty() ? "" : "complaint: " + complaints.front();
  }

  SupervisorSpec spec_;
  Random random_;
  TreeMaker trees_;
  ActionMaker actions_;
  World world_;
  Model model_;
  std::string story_;
  int steps_ = 0;
};

std::uint64_t first_seed() {
  const char* given = std::getenv("CRASHWORTHY_SEED");
  return given ? std::strtoull(given, nullptr, 10) : 1;
}

int wanted_steps() {
  if (std::getenv("CRASHWORTHY_SEED") != nullptr) return 1;
  return std::getenv("CRASHWORTHY_LONG") != nullptr ? 1'000'000 : 100'000;
}

TEST(Model, AgreesWithTheLogicStepForStep) {
  int steps = 0;
  std::uint64_t seed = first_seed();
  for (; steps < wanted_steps(); ++seed) {
    Duel run(seed, Wrong::kNothing);
    const std::string found = run.go();
    steps += run.steps();
    ASSERT_TRUE(found.empty()) << found << "replay with CRASHWORTHY_SEED=" << seed;
  }
  RecordProperty("steps", steps);
  std::printf("%d steps in %d trees\n", steps, static_cast<int>(seed - first_seed()));
}

// The steps after which a comparison with a wrong model finds it; 0: it does not.
int steps_to_find(Wrong wrong) {
  int steps = 0;
  for (std::uint64_t seed = 1; steps < 20'000; ++seed) {
    Duel run(seed, wrong);
    const bool found = !run.go().empty();
    steps += run.steps();
    if (found) return steps;
  }
  return 0;
}

TEST(Model, ComparisonFindsEachWrongModel) {
  for (const Wrong wrong :
       {Wrong::kOneRestartMore, Wrong::kWindowIsClosed, Wrong::kRestartsCompleted,
        Wrong::kGroupCountsEach, Wrong::kGroupLeavesStopped, Wrong::kKeepsTemporary,
        Wrong::kHeedsStops, Wrong::kRetriesFromTheFirst, Wrong::kForgetsWaiting}) {
    EXPECT_GT(steps_to_find(wrong), 0) << "wrong model " << static_cast<int>(wrong);
  }
}

// Without a model.

// What TreeLogic says is there.
void add_known(const SupervisorInfo& info, Model::Known& known) {
  known.supervisors.push_back(info.path);
  if (info.state == LifeState::kIntermitted) known.suspended_supervisors.push_back(info.path);
  for (const auto& entry : info.children) {
    const ChildInfo& child = entry.child;
    known.children.push_back(child.path);
    const bool suspended = child.state == LifeState::kIntermitted;
    if (child.pid != 0) {
      (suspended ? known.suspended_processes : known.processes).push_back(child.path);
    }
    for (const SupervisorInfo& below : entry.below) add_known(below, known);
  }
}

// A tree in which starts and stops take time, hang, or fail in any way, while everything else
// happens to it.
class Storm {
 public:
  explicit Storm(std::uint64_t seed)
      : random_(seed),
        trees_(&random_),
        actions_(&random_, &trees_),
        world_(troubled(trees_.tree(0)), random_.below(2) == 0, seed) {}

  // What did not hold; empty: everything did.
  std::string go() {
    say_conducts();
    world_.act(boot());
    for (int i = 0; i < 40 && !world_.logic().ended(); ++i) {
      Model::Known known;
      add_known(world_.logic().info(world_.now()), known);
      const Action action = random_.below(8) == 0 ? trouble(known) : actions_.any(known);
      story_ += action_text(action) + "\n";
      world_.act(action);
      ++steps_;
    }
    return end();
  }
  int steps() const { return steps_; }

 private:
  // Waits, readiness, heartbeats and deadlines for some of the children.
  SupervisorSpec troubled(SupervisorSpec tree) {
    for (ChildSpec& child : tree.children) {
      const std::uint64_t dice = random_.below(6);
      if (child.supervisor) {
        child.supervisor = std::make_shared<SupervisorSpec>(troubled(*child.supervisor));
      } else if (dice == 0) {
        child.ready = Readiness{3, milliseconds(700)};
      } else if (dice == 1) {
        child.heartbeat = Heartbeat{4, milliseconds(200), 3};
      } else if (dice == 2) {
        child.deadline = seconds(2);
      }
      if (random_.below(4) == 0) child.backoff = Backoff{milliseconds(300), seconds(1), 0.5};
    }
    return tree;
  }

  Conduct random_conduct() {
    Conduct conduct = exits_with(static_cast<int>(random_.below(3)));
    conduct.stop = static_cast<Conduct::Stop>(random_.below(3));
    conduct.stop_after = milliseconds(random_.below(2) * random_.below(1500));
    conduct.ready = static_cast<Conduct::Ready>(random_.below(4));
    conduct.ready_after = milliseconds(random_.below(2) * random_.below(900));
    return conduct;
  }

  void say_conducts() {
    for (const char* path : {"a", "b", "c", "a/a", "a/b", "b/a", "b/b", "c/a", "a/a/a"}) {
      if (random_.below(2) == 0) world_.act(conduct(path, random_conduct()));
    }
  }

  Action trouble(const Model::Known& known) {
    if (known.children.empty()) return pass(milliseconds(1));
    const std::string& path = known.children[random_.below(known.children.size())];
    const bool lives = std::ranges::count(known.processes, path) > 0;
    const std::uint64_t dice = random_.below(3);
    if (dice == 0 && lives) return silent(path);
    if (dice == 1) return prepares_fail(path, 1);
    return conduct(path, random_conduct());
  }

  std::string end() {
    if (!world_.logic().ended() && random_.below(2) == 0) {
      world_.act(shut_down());
      world_.advance(seconds(random_.below(20)));
    }
    if (!world_.logic().ended()) world_.act(kill_all());
    world_.advance(seconds(1));
    const std::string seen = world_.transcript().take();
    std::string problem;
    if (!world_.logic().ended()) problem = "kill() does not end the tree";
    for (const std::string& complaint : world_.complaints()) problem += complaint + "\n";
    return problem.empty() ? "" : problem + "\n" + story_ + lines(seen);
  }

  static std::string lines(std::string text) {
    for (std::size_t at = 0; (at = text.find("; ", at)) != std::string::npos;) {
      text.replace(at, 2, "\n");
    }
    return text;
  }

  Random random_;
  TreeMaker trees_;
  ActionMaker actions_;
  World world_;
  std::string story_;
  int steps_ = 0;
};

TEST(Model, NothingIsLostWhenStartsAndStopsTakeTheirTime) {
  int steps = 0;
  for (std::uint64_t seed = first_seed(); steps < wanted_steps(); ++seed) {
    Storm storm(seed);
    const std::string found = storm.go();
    steps += storm.steps() + 1;
    ASSERT_TRUE(found.empty()) << found << "\nreplay with CRASHWORTHY_SEED=" << seed;
  }
}

}  // namespace
}  // namespace crashworthy

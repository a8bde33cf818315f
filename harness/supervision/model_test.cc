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
#include "harness/supervision/model_moves.h"

namespace crashworthy {
namespace {

using namespace rows;

constexpr int kStepsOfARun = 60;

// Few paths exit with a code of their own when they are asked to end.
std::map<std::string, int> stop_codes() {
  return {{"a", 0}, {"b", 143}, {"c", 3}, {"a/a", 3}, {"b/a", 0}, {"a/b", 143}, {"a/a/a", 3}};
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
        spec_(troubled(trees_.tree(0))),
        world_(spec_, random_.below(2) == 0, seed),
        story_(spec_text(spec_) + "\n") {}

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
  SupervisorSpec spec_;
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

#include "harness/supervision/model_moves.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "harness/supervision/behaviour_rows.h"
#include "harness/supervision/transcript.h"

namespace crashworthy {

using namespace rows;

// Trees.

SupervisorSpec TreeMaker::tree(int depth) {
  const auto strategy = pick({Strategy::kOneForOne, Strategy::kOneForAll, Strategy::kRestForOne,
                              depth == 0 ? Strategy::kOneForOne : Strategy::kDynamic});
  SupervisorSpec made = rows::tree(strategy, {}, static_cast<int>(random_.below(7)),
                                   seconds(1 + static_cast<int>(random_.below(9))));
  const bool is_dynamic = strategy == Strategy::kDynamic;
  if (!is_dynamic) {
    made.auto_shutdown = pick({AutoShutdown::kNever, AutoShutdown::kNever,
                               AutoShutdown::kAnySignificant, AutoShutdown::kAllSignificant});
  }
  const std::uint64_t count = is_dynamic ? 1 : depth == 0 ? 1 + random_.below(4) : random_.below(4);
  for (std::uint64_t i = 0; i < count; ++i) {
    made.children.push_back(child(std::string(1, static_cast<char>('a' + i)), made, depth));
  }
  return made;
}

ChildSpec TreeMaker::child(const std::string& id, const SupervisorSpec& above, int depth) {
  ChildSpec made = worker(id);
  if (depth < 2 && random_.below(10) < 4) made = nested(id, tree(depth + 1));
  made.restart = pick({RestartType::kPermanent, RestartType::kPermanent, RestartType::kTransient,
                       RestartType::kTemporary});
  const bool inner_ends =
      !made.supervisor || made.supervisor->auto_shutdown != AutoShutdown::kNever;
  made.significant = above.auto_shutdown != AutoShutdown::kNever &&
                     made.restart != RestartType::kPermanent && inner_ends && random_.below(2) == 0;
  if (random_.below(3) == 0) {
    made.stop =
        pick({StopPolicy{StopPolicy::Kind::kKill, {}}, StopPolicy{StopPolicy::Kind::kInfinite, {}},
              StopPolicy{StopPolicy::Kind::kTime, seconds(1)}});
  }
  return made;
}

// Actions.

Action ActionMaker::next(const Model& model) {
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

Action ActionMaker::any(const Model::Known& known) {
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

bool ActionMaker::goes_to(const Action& action, const std::string& supervisor) {
  if (action.kind == Action::Kind::kStartChild) return action.path == supervisor;
  if (action.kind == Action::Kind::kShutdown || action.kind == Action::Kind::kKill) return true;
  if (action.path.empty() || action.kind == Action::Kind::kSuspend ||
      action.kind == Action::Kind::kCountRestart) {
    return false;
  }
  const auto slash = action.path.rfind('/');
  return (slash == std::string::npos ? "" : action.path.substr(0, slash)) == supervisor;
}

Action ActionMaker::process_ends(const Model::Known& known) {
  // Who is stopped can only be killed.
  const bool suspended = known.processes.empty() || random_.below(6) == 0;
  const Paths& paths = suspended ? known.suspended_processes : known.processes;
  if (paths.empty()) return pass(milliseconds(1));
  const std::string& path = pick(paths);
  if (suspended || random_.below(3) == 0) return dies(path);
  return exits(path, static_cast<int>(random_.below(2)));
}

Action ActionMaker::start(const Model::Known& known) {
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

Action ActionMaker::resume_one(const Model::Known& known) {
  if (!known.suspended_supervisors.empty() && random_.below(2) == 0) {
    return resume(pick(known.suspended_supervisors));
  }
  return resume(path_or_root(known));
}

Action ActionMaker::count(const Model::Known& known) {
  const std::string path = pick(known.supervisors);
  const bool suspended = std::ranges::count(known.suspended_supervisors, path) > 0;
  return suspended ? pass(milliseconds(1)) : count_restart(path);
}

// Mostly of a child that is there.
std::string ActionMaker::some_path(const Model::Known& known) {
  const std::uint64_t dice = random_.below(20);
  if (dice == 0) return "z";
  if (dice == 1) return pick(known.supervisors) + "/z";
  if (dice == 2) return "";
  return known.children.empty() ? "a" : pick(known.children);
}

std::string ActionMaker::path_or_root(const Model::Known& known) {
  return random_.below(4) == 0 ? "" : some_path(known);
}

// Words.

namespace {

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

}  // namespace

std::string text_of(const TreeLogic& logic, std::int64_t now) {
  const SupervisorInfo info = logic.info(now);
  if (logic.ended()) return "ended, " + std::string(life_state_name(info.state)) + "\n";
  std::string text;
  add_text(logic, info, text);
  return text;
}

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

}  // namespace crashworthy

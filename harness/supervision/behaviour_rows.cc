#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

using Kind = Action::Kind;

Action action(Kind kind, std::string path = "", int number = 0) {
  Action action;
  action.kind = kind;
  action.path = std::move(path);
  action.number = number;
  return action;
}

Step question(Kind kind, std::string path, std::string text) {
  Action asked = action(kind, std::move(path));
  asked.text = std::move(text);
  return {std::move(asked), "", false};
}

SupervisorSpec with(SupervisorSpec tree, AutoShutdown auto_shutdown) {
  tree.auto_shutdown = auto_shutdown;
  return tree;
}

}  // namespace

Child worker(const std::string& id) {
  Child child(id);
  child.function = kChildFunction;
  child.crash_loop.count = 0;
  return child;
}

Child nested(const std::string& id, SupervisorSpec tree) {
  Child child(id);
  child.supervisor = std::make_shared<SupervisorSpec>(std::move(tree));
  child.crash_loop.count = 0;
  return child;
}

SupervisorSpec tree(Strategy strategy, Children children, int intensity, Nanoseconds period) {
  SupervisorSpec tree;
  tree.strategy = strategy;
  tree.intensity = intensity;
  tree.period = period;
  tree.children = std::move(children);
  return tree;
}

SupervisorSpec one_for_one(Children children, int intensity, Nanoseconds period) {
  return tree(Strategy::kOneForOne, std::move(children), intensity, period);
}

SupervisorSpec one_for_all(Children children, int intensity, Nanoseconds period) {
  return tree(Strategy::kOneForAll, std::move(children), intensity, period);
}

SupervisorSpec rest_for_one(Children children, int intensity, Nanoseconds period) {
  return tree(Strategy::kRestForOne, std::move(children), intensity, period);
}

SupervisorSpec dynamic(ChildSpec child, int intensity, Nanoseconds period) {
  return tree(Strategy::kDynamic, {std::move(child)}, intensity, period);
}

SupervisorSpec ends_with_any(SupervisorSpec tree) {
  return with(std::move(tree), AutoShutdown::kAnySignificant);
}

SupervisorSpec ends_with_all(SupervisorSpec tree) {
  return with(std::move(tree), AutoShutdown::kAllSignificant);
}

Conduct ignores_stop() {
  Conduct conduct;
  conduct.stop = Conduct::Stop::kIgnores;
  return conduct;
}

Conduct dies_after(Nanoseconds time) {
  Conduct conduct;
  conduct.stop_after = time;
  return conduct;
}

Conduct exits_with(int code, Nanoseconds after) {
  Conduct conduct = dies_after(after);
  conduct.stop = Conduct::Stop::kExits;
  conduct.stop_code = code;
  return conduct;
}

Conduct ready_after(Nanoseconds time) {
  Conduct conduct;
  conduct.ready_after = time;
  return conduct;
}

Conduct never_ready() {
  Conduct conduct;
  conduct.ready = Conduct::Ready::kNever;
  return conduct;
}

Conduct closes_ready() {
  Conduct conduct;
  conduct.ready = Conduct::Ready::kCloses;
  return conduct;
}

Conduct exits_before_ready(int code, Nanoseconds after) {
  Conduct conduct = ready_after(after);
  conduct.ready = Conduct::Ready::kExits;
  conduct.ready_code = code;
  return conduct;
}

Action boot() { return action(Kind::kBoot); }

Action conduct(const std::string& path, Conduct conduct) {
  Action made = action(Kind::kConduct, path);
  made.conduct = conduct;
  return made;
}

Action starts_fail(const std::string& path, int count) {
  return action(Kind::kStartsFail, path, count);
}

Action prepares_fail(const std::string& path, int count) {
  return action(Kind::kPreparesFail, path, count);
}

Action exits(const std::string& path, int code) { return action(Kind::kExits, path, code); }
Action dies(const std::string& path, int signal) { return action(Kind::kDies, path, signal); }
Action silent(const std::string& path) { return action(Kind::kSilent, path); }

Action pass(Nanoseconds time) {
  Action made = action(Kind::kAdvance);
  made.time = time;
  return made;
}

Action together(std::vector<Action> actions) {
  Action made = action(Kind::kTogether);
  made.together = std::move(actions);
  return made;
}

Action start_child(const std::string& supervisor, ChildSpec child) {
  Action made = action(Kind::kStartChild, supervisor);
  made.child = std::move(child);
  return made;
}

Action restart_child(const std::string& path) { return action(Kind::kRestartChild, path); }
Action stop_child(const std::string& path) { return action(Kind::kStopChild, path); }
Action delete_child(const std::string& path) { return action(Kind::kDeleteChild, path); }
Action suspend(const std::string& path) { return action(Kind::kSuspend, path); }
Action resume(const std::string& path) { return action(Kind::kResume, path); }
Action shut_down() { return action(Kind::kShutdown); }
Action kill_all() { return action(Kind::kKill); }

Action count_restart(const std::string& path) {
  Action made = action(Kind::kCountRestart, path);
  made.text = "a spare was used";
  return made;
}

Step children(const std::string& supervisor, const std::string& text) {
  return question(Kind::kExpectChildren, supervisor, text);
}

Step counts(const std::string& supervisor, int specs, int active, int supervisors, int workers) {
  return question(Kind::kExpectCounts, supervisor,
                  std::to_string(specs) + " specs, " + std::to_string(active) + " active, " +
                      std::to_string(supervisors) + " supervisors, " + std::to_string(workers) +
                      " workers");
}

Step child_is(const std::string& path, const std::string& text) {
  return question(Kind::kExpectChild, path, text);
}

Step spec_is(const std::string& path, const std::string& text) {
  return question(Kind::kExpectSpec, path, text);
}

Step budget_is(const std::string& supervisor, int left) {
  return question(Kind::kExpectBudget, supervisor, std::to_string(left));
}

Step end_is(const std::string& text) { return question(Kind::kExpectEnd, "", text); }
Step end_says(const std::string& part) { return question(Kind::kExpectEndText, "", part); }
Step chain_is(const std::string& text) { return question(Kind::kExpectChain, "", text); }

Step accepted(SupervisorSpec tree) { return refused(std::move(tree), "ok"); }

Step refused(SupervisorSpec tree, const std::string& pointer) {
  Step step = question(Kind::kExpectChecked, "", pointer);
  step.action.tree = std::move(tree);
  return step;
}

std::string seq(std::initializer_list<std::string> parts) {
  std::string all;
  for (const std::string& part : parts) {
    if (!part.empty()) all += (all.empty() ? "" : "; ") + part;
  }
  return all;
}

std::string born(const std::string& path) {
  return path + " initial; " + path + " ready; " + path + " running";
}

// The root is what its youngest part is: initial until the last child is ready.
std::string booted(const std::vector<std::string>& paths) {
  if (paths.empty()) return "root initial; root ready; root running";
  std::string all = "root initial";
  for (std::size_t i = 0; i + 1 < paths.size(); ++i) all = seq({all, born(paths[i])});
  const std::string& last = paths.back();
  return seq(
      {all, last + " initial", last + " ready", "root ready", last + " running", "root running"});
}

std::string fails(const std::string& path) {
  return seq({path + " initial", path + " ready", path + " start failed", path + " terminated"});
}

std::string stopped(const std::string& path) {
  return path + " ended SIGTERM; " + path + " completed";
}

std::string killed(const std::string& path) {
  return path + " ended SIGKILL; " + path + " terminated";
}

std::string crashed(const std::string& path) {
  return path + " ended exit 1; " + path + " terminated";
}

std::string restarted(const std::string& path, int budget) {
  return seq({left(path, budget), born(path)});
}

std::string left(const std::string& path, int left) {
  return path + " restart left " + std::to_string(left);
}

std::string started(const std::string& path) { return order_done("start " + path, born(path)); }

std::string answer(const std::string& order, const std::string& result) {
  return "answer " + order + ": " + result;
}

std::string order_done(const std::string& order, const std::string& seen) {
  return seq({"order " + order, seen, answer(order, "ok")});
}

std::vector<Step> steps(std::initializer_list<std::vector<Step>> parts) {
  std::vector<Step> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace crashworthy::rows

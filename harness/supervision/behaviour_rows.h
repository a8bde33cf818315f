// The words in which the rows of the table of behaviours are written.
#pragma once

#include <csignal>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "harness/supervision/behaviours.h"

namespace crashworthy::rows {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A child, changed by what follows: worker("a").transient().
class Child : public ChildSpec {
 public:
  explicit Child(std::string name) { id = std::move(name); }
  Child&& transient() { return with(&ChildSpec::restart, RestartType::kTransient); }
  Child&& temporary() { return with(&ChildSpec::restart, RestartType::kTemporary); }
  Child&& restarted(RestartType how) { return with(&ChildSpec::restart, how); }
  Child&& make_significant() { return with(&ChildSpec::significant, true); }
  Child&& counts_as_supervisor() { return with(&ChildSpec::type, ChildType::kSupervisor); }
  Child&& killed() { return stopped({StopPolicy::Kind::kKill, {}}); }
  Child&& waited_for() { return stopped({StopPolicy::Kind::kInfinite, {}}); }
  Child&& stops_within(Nanoseconds time) { return stopped({StopPolicy::Kind::kTime, time}); }
  Child&& tells_ready(Nanoseconds timeout = seconds(30)) {
    return with(&ChildSpec::ready, Readiness{3, timeout});
  }
  Child&& ready_by_heartbeat(Nanoseconds timeout = seconds(30)) {
    return with(&ChildSpec::ready, Readiness{std::nullopt, timeout});
  }
  Child&& beats(Nanoseconds interval, int misses) {
    return with(&ChildSpec::heartbeat, Heartbeat{4, interval, misses});
  }
  Child&& ends_by(Nanoseconds time) { return with(&ChildSpec::deadline, time); }
  Child&& backs_off(Nanoseconds first, Nanoseconds max, double jitter = 0) {
    return with(&ChildSpec::backoff, Backoff{first, max, jitter});
  }
  Child&& loops_at(int count, Nanoseconds within) {
    return with(&ChildSpec::crash_loop, CrashLoop{count, within});
  }

 private:
  template <typename Field, typename Value>
  Child&& with(Field ChildSpec::*field, Value value) {
    this->*field = std::move(value);
    return std::move(*this);
  }
  Child&& stopped(StopPolicy policy) { return with(&ChildSpec::stop, policy); }
};

// Crash loops are told of only where a row is about them.
Child worker(const std::string& id);
Child nested(const std::string& id, SupervisorSpec tree);

// Trees. OTP's suite allows 2 restarts in an hour, and so do these.
using Children = std::vector<ChildSpec>;
SupervisorSpec tree(Strategy strategy, Children children, int intensity = 2,
                    Nanoseconds period = hours(1));
SupervisorSpec one_for_one(Children children, int intensity = 2, Nanoseconds period = hours(1));
SupervisorSpec one_for_all(Children children, int intensity = 2, Nanoseconds period = hours(1));
SupervisorSpec rest_for_one(Children children, int intensity = 2, Nanoseconds period = hours(1));
SupervisorSpec dynamic(ChildSpec child, int intensity = 2, Nanoseconds period = hours(1));
SupervisorSpec ends_with_any(SupervisorSpec tree);  // auto_shutdown
SupervisorSpec ends_with_all(SupervisorSpec tree);

// Conducts.
Conduct ignores_stop();
Conduct dies_after(Nanoseconds time);
Conduct exits_with(int code, Nanoseconds after = {});
Conduct ready_after(Nanoseconds time);
Conduct never_ready();
Conduct closes_ready();
Conduct exits_before_ready(int code, Nanoseconds after = {});

// Actions.
Action boot();
Action conduct(const std::string& path, Conduct conduct);
Action starts_fail(const std::string& path, int count);
Action prepares_fail(const std::string& path, int count);
Action exits(const std::string& path, int code);
Action dies(const std::string& path, int signal = SIGKILL);
Action silent(const std::string& path);
Action pass(Nanoseconds time);
Action together(std::vector<Action> actions);
Action start_child(const std::string& supervisor, ChildSpec child);
Action restart_child(const std::string& path);
Action stop_child(const std::string& path);
Action delete_child(const std::string& path);
Action suspend(const std::string& path);
Action resume(const std::string& path);
Action shut_down();
Action kill_all();
Action count_restart(const std::string& path);

// Questions, as steps of which nothing is seen.
Step children(const std::string& supervisor, const std::string& text);
Step counts(const std::string& supervisor, int specs, int active, int supervisors, int workers);
Step child_is(const std::string& path, const std::string& text);
Step spec_is(const std::string& path, const std::string& text);
Step budget_is(const std::string& supervisor, int left);
Step end_is(const std::string& text);
Step end_says(const std::string& part);
Step chain_is(const std::string& text);
Step accepted(SupervisorSpec tree);
Step refused(SupervisorSpec tree, const std::string& pointer);

// What is seen. seq() joins; the others are what it often is.
std::string seq(std::initializer_list<std::string> parts);
std::string born(const std::string& path);                  // initial, ready, running
std::string booted(const std::vector<std::string>& paths);  // A flat tree.
std::string fails(const std::string& path);                 // A start that fails.
std::string stopped(const std::string& path);               // Obeys.
std::string killed(const std::string& path);
std::string crashed(const std::string& path);              // exits(path, 1)
std::string restarted(const std::string& path, int left);  // With its birth.
std::string left(const std::string& path, int left);       // Without.
std::string started(const std::string& path);              // The order start, done.
std::string answer(const std::string& order, const std::string& result);
std::string order_done(const std::string& order, const std::string& seen = "");

std::vector<Step> steps(std::initializer_list<std::vector<Step>> parts);

// The groups of rows.
std::vector<Behaviour> start_rows();
std::vector<Behaviour> stop_rows();
std::vector<Behaviour> restart_rows();
std::vector<Behaviour> group_rows();
std::vector<Behaviour> order_rows();
std::vector<Behaviour> restarting_rows();
std::vector<Behaviour> dynamic_rows();
std::vector<Behaviour> significant_rows();
std::vector<Behaviour> readiness_rows();
std::vector<Behaviour> watch_rows();
std::vector<Behaviour> backoff_rows();
std::vector<Behaviour> suspend_rows();
std::vector<Behaviour> ending_rows();
std::vector<Behaviour> cause_rows();

}  // namespace crashworthy::rows

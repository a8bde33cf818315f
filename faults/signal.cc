// process.kill: SIGKILL through the victim's pidfd.
//
// Whether a victim holds an item can only be known while it cannot move: it is stopped first,
// looked at, and killed or let go on. The clock starts when pidfd_send_signal(SIGKILL) has
// returned; the pidfd and the wait status confirm the death.
#include <csignal>
#include <nlohmann/json.hpp>

#include "faults/injection.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr int kStopPatienceMs = 200;
constexpr int kMaxTries = 50;  // Victims looked at per trigger.

class SignalInjection : public Injection {
 public:
  using Injection::Injection;

 protected:
  bool fire(SubjectView& subject) override {
    for (int attempt = 0; attempt < kMaxTries; ++attempt) {
      auto victim = pick_victim(subject);
      if (!victim) return false;
      if (!fault_.victim.holding_item) return kill(std::move(*victim));
      if (stop_holding(subject, *victim)) return kill(std::move(*victim));
    }
    return false;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    if (!has_ended(victim_.pidfd.get()))
      return {"indeterminate", "the victim was still alive at the end", std::nullopt};
    std::optional<WaitStatus> status = exit_status_from_kernel(victim_.pidfd.get());
    for (const ObservedEnd& end : evidence.ends) {
      if (!status && victim_.pid != 0 && end.pid == victim_.pid) status = end.status;
    }
    if (!status) return {"indeterminate", "the victim died, but nobody saw of what", std::nullopt};
    log_step("evidence", {{"status", status->describe()}, {"raw", status->raw()}});
    for (const ObservedEnd& end : evidence.ends) {
      if (victim_.pid != 0 && end.pid == victim_.pid && end.time_ns < before_ns_)
        return {"not_activated", "the victim had ended before our signal", std::nullopt};
    }
    if (!status->signalled() || status->signal() != SIGKILL) {
      return {"not_activated", "the victim " + status->describe() + " before the signal reached it",
              std::nullopt};
    }
    return {"confirmed", "", sent_ns_};
  }

 private:
  // Stops the victim and looks whether it holds an item now; lets it go on if not.
  bool stop_holding(SubjectView& subject, Victim& victim) {
    if (!send_signal(victim.pidfd.get(), SIGSTOP)) return false;
    const bool stopped = wait_until_stopped(victim.host_pid, kStopPatienceMs);
    subject.refresh();
    for (const WorkerState& worker : subject.workers().alive()) {
      if (stopped && worker.pid == victim.pid && worker.holds) {
        victim.worker = worker;
        return true;
      }
    }
    (void)send_signal(victim.pidfd.get(),
                      SIGCONT);  // If it has ended meanwhile, there is nothing to continue.
    return false;
  }

  bool kill(Victim victim) {
    victim_ = std::move(victim);
    log_step("fire", {{"signal", "SIGKILL"}, {"victim", victim_json()}});
    before_ns_ = now_ns();
    // A signal to a zombie succeeds: one that has ended is nobody's victim.
    const bool alive = !has_ended(victim_.pidfd.get());
    const auto sent = send_signal(victim_.pidfd.get(), SIGKILL);
    sent_ns_ = now_ns();
    if (!alive || !sent) {
      log_step("missed", {{"reason", "the victim had ended already"}});
      victim_ = Victim{};
      return false;
    }
    log_step("fired", {{"sent_from_ns", before_ns_}, {"sent_ns", sent_ns_}});
    return true;
  }

  std::int64_t before_ns_ = 0;
  std::int64_t sent_ns_ = 0;
};

}  // namespace

std::unique_ptr<Injection> make_signal_injection(FaultSpec fault, ResolvedTrigger trigger,
                                                 std::uint64_t seed, bool disarmed, StepLog log) {
  return std::make_unique<SignalInjection>(std::move(fault), trigger, seed, disarmed,
                                           std::move(log));
}

}  // namespace crashworthy

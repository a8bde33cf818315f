// process.kill: SIGKILL through the victim's pidfd.
//
// Whether a victim holds an item can only be known while it cannot move: it is stopped first,
// looked at, and killed or let go on. The clock starts when pidfd_send_signal(SIGKILL) has
// returned; the pidfd and the wait status confirm the death.
#include <csignal>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
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
      if (!fault_.victim.holding_item || stop_holding(subject, *victim))
        return kill(std::move(*victim));
    }
    return false;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    for (std::size_t i = 0; i < victims_.size(); ++i) {
      Outcome outcome = confirm_one(victims_[i], sent_[i], evidence);
      if (outcome.verdict != Verdict::kConfirmed) return outcome;
    }
    return confirmed(sent_.front().after_ns);
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

  struct Sent {
    std::int64_t before_ns = 0;
    std::int64_t after_ns = 0;
  };

  Outcome confirm_one(const Victim& victim, const Sent& sent, const InjectionEvidence& evidence) {
    if (!has_ended(victim.pidfd.get()))
      return indeterminate("the victim was still alive at the end");
    std::optional<WaitStatus> status = exit_status_from_kernel(victim.pidfd.get());
    const ObservedEnd* end = evidence.end_of(victim.pid, 0);
    if (!status && end != nullptr) status = end->status;
    if (!status) return indeterminate("the victim died, but nobody saw of what");
    log_step("evidence", {{"status", status->describe()}, {"raw", status->raw()}});
    if (end != nullptr && end->time_ns < sent.before_ns)
      return not_activated("the victim had ended before our signal");
    if (!status->signalled() || status->signal() != SIGKILL) {
      return not_activated("the victim " + status->describe() + " before the signal reached it");
    }
    return confirmed(sent.after_ns);
  }

  bool kill(Victim victim) {
    log_step("fire", {{"signal", "SIGKILL"}, {"victim", to_json(victim, fault_.victim.role)}});
    Sent sent;
    sent.before_ns = now_ns();
    // A signal to a zombie succeeds: one that has ended is nobody's victim.
    const bool alive = !has_ended(victim.pidfd.get());
    const auto done = send_signal(victim.pidfd.get(), SIGKILL);
    sent.after_ns = now_ns();
    if (!alive || !done) {
      log_step("missed", {{"reason", "the victim had ended already"}});
      return false;
    }
    log_step("fired", {{"sent_from_ns", sent.before_ns}, {"sent_ns", sent.after_ns}});
    victims_.push_back(std::move(victim));
    sent_.push_back(sent);
    return true;
  }

  std::vector<Sent> sent_;  // One for each victim.
};

}  // namespace

std::unique_ptr<Injection> make_signal_injection(InjectionSetup setup) {
  return std::make_unique<SignalInjection>(std::move(setup));
}

}  // namespace crashworthy

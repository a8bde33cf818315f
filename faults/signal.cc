// process.kill, process.signal, process.term, process.kill_supervisor: signals through the victims'
// pidfds.
//
// Whether a victim holds an item can only be known while it cannot move: it is stopped first,
// looked at, and struck or let go on. The clock starts when pidfd_send_signal() has returned; the
// pidfd and the wait status confirm a death. A signal that a handler took is confirmed when the
// kernel has nothing of it pending any more and the process lives on; what is ignored or stays
// blocked is not. A process that was asked to terminate may have ended of its own accord: it counts
// only if it died of SIGTERM or had a handler for it.
#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
#include "faults/process_state.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kNever = INT64_MAX;
constexpr int kStopPatienceMs = 200;
// How long a process that was killed may take to die.
constexpr int kDyingMs = 200;
constexpr int kMaxTries = 50;  // Sets of victims looked at per trigger.
// A handler takes a signal at once; one that is still pending after this long is blocked.
constexpr std::int64_t kTakenPatienceNs = 100'000'000;
constexpr std::int64_t kLookEveryNs = 1'000'000;

class SignalInjection : public Injection {
 public:
  SignalInjection(InjectionSetup setup, int signal)
      : Injection(std::move(setup)), signal_(signal) {}

 protected:
  bool fire(SubjectView& subject) override {
    for (int attempt = 0; attempt < kMaxTries; ++attempt) {
      std::vector<Victim> chosen = pick_victims(subject);
      if (chosen.empty()) return false;
      if (fault_.victim.holding_item && !stop_holding(subject, chosen)) continue;
      // The youngest first: a child may end with its parent.
      std::reverse(chosen.begin(), chosen.end());
      before_strike(subject, chosen.front());
      return strike_all(std::move(chosen));
    }
    return false;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    for (std::size_t i = 0; i < victims_.size(); ++i) {
      Outcome outcome = confirm_one(i, evidence);
      if (outcome.verdict != Verdict::kConfirmed) return outcome;
    }
    if (missed_ > 0) {
      return indeterminate(std::to_string(missed_) +
                           " of those chosen had ended before the signal was sent");
    }
    const auto wanted = watch_.trigger().times;
    const std::string count = std::to_string(firings_) + " of " + std::to_string(wanted) + " fired";
    return confirmed(sent_.front().after_ns, wanted > 1 ? count : "");
  }

  struct Sent {
    std::int64_t before_ns = 0;
    std::int64_t after_ns = 0;
    SignalSets sets;  // Of the victim, just before.
  };

  virtual Outcome confirm_one(std::size_t number, const InjectionEvidence& evidence) {
    return confirm_death(number, evidence, {signal_});
  }
  virtual void before_strike(SubjectView&, const Victim&) {}

  // How the victim ended; empty when it lives or nobody saw of what it died. Written as evidence.
  std::optional<WaitStatus> end_of(std::size_t number, const InjectionEvidence& evidence) {
    const Victim& victim = victims_[number];
    if (!has_ended(victim.pidfd.get())) return std::nullopt;
    const std::optional<WaitStatus> status = death_of(victim, evidence);
    const ObservedEnd* end = evidence.end_of(victim.pid, 0);
    if (status) {
      json proof{{"pid", victim.pid}, {"status", status->describe()}, {"raw", status->raw()}};
      if (end != nullptr) proof["ended_ns"] = end->time_ns;
      log_step("evidence", proof);
    }
    return status;
  }

  // That it died of one of `signals`, after ours was sent.
  Outcome confirm_death(std::size_t number, const InjectionEvidence& evidence,
                        const std::vector<int>& signals) {
    const Victim& victim = victims_[number];
    if (!wait_for_end(victim.pidfd.get(), kDyingMs))
      return indeterminate("the victim was still alive at the end");
    const auto status = end_of(number, evidence);
    if (!status) return indeterminate("the victim died, but nobody saw of what");
    const ObservedEnd* end = evidence.end_of(victim.pid, 0);
    if (end != nullptr && end->time_ns < sent_[number].before_ns)
      return not_activated("the victim had ended before our signal");
    const bool ours = status->signalled() &&
                      std::find(signals.begin(), signals.end(), status->signal()) != signals.end();
    if (!ours) {
      return not_activated("the victim " + status->describe() + " before the signal reached it");
    }
    return confirmed(sent_[number].after_ns);
  }

  const int signal_;
  std::vector<Sent> sent_;  // One for each victim.

 private:
  // Stops them and looks whether each holds an item now; lets all go on if one does not.
  bool stop_holding(SubjectView& subject, std::vector<Victim>& chosen) {
    bool all_stopped = true;
    for (const Victim& victim : chosen) {
      all_stopped = send_signal(victim.pidfd.get(), SIGSTOP).ok() &&
                    wait_until_stopped(victim.host_pid, kStopPatienceMs) && all_stopped;
    }
    subject.refresh();
    const std::vector<WorkerState> workers = subject.workers().alive();
    const bool all_hold = std::all_of(chosen.begin(), chosen.end(), [&](Victim& victim) {
      const auto state = std::find_if(
          workers.begin(), workers.end(),
          [&](const WorkerState& worker) { return worker.pid == victim.pid && worker.holds; });
      if (state != workers.end()) victim.worker = *state;
      return state != workers.end();
    });
    if (!all_stopped || !all_hold) let_go(chosen);
    return all_stopped && all_hold;
  }

  // One that has ended meanwhile needs nothing.
  static void let_go(const std::vector<Victim>& chosen) {
    for (const Victim& victim : chosen) (void)send_signal(victim.pidfd.get(), SIGCONT);
  }

  bool strike_all(std::vector<Victim> chosen) {
    const bool held = fault_.victim.holding_item && signal_ != SIGKILL && signal_ != SIGSTOP;
    std::size_t struck = 0;
    for (Victim& victim : chosen) struck += strike(std::move(victim), held);
    if (struck == 0) return false;  // Others are looked for.
    missed_ += chosen.size() - struck;
    ++firings_;
    return true;
  }

  bool strike(Victim victim, bool held) {
    log_step("fire",
             {{"signal", signal_name(signal_)}, {"victim", to_json(victim, fault_.victim.role)}});
    Sent sent;
    sent.sets = signal_sets(victim.host_pid).value_or(SignalSets{});
    sent.before_ns = now_ns();
    // A signal to a zombie succeeds: one that has ended is nobody's victim.
    const bool alive = !has_ended(victim.pidfd.get());
    const auto done = send_signal(victim.pidfd.get(), signal_);
    sent.after_ns = now_ns();
    if (held) (void)send_signal(victim.pidfd.get(), SIGCONT);
    if (!alive || !done) {
      log_step("missed", {{"reason", "the victim had ended already"}});
      return false;
    }
    log_step("fired", {{"sent_from_ns", sent.before_ns}, {"sent_ns", sent.after_ns}});
    victims_.push_back(std::move(victim));
    sent_.push_back(sent);
    return true;
  }

  std::size_t missed_ = 0;
  std::int64_t firings_ = 0;
};

// process.signal: any of them.
class AnySignalInjection : public SignalInjection {
 public:
  explicit AnySignalInjection(InjectionSetup setup, int signal)
      : SignalInjection(std::move(setup), signal) {}

 protected:
  // What became of a signal that does not kill can only be seen while the victim lives.
  void work(SubjectView&) override {
    while (seen_.size() < victims_.size()) seen_.emplace_back();
    for (std::size_t i = 0; i < victims_.size(); ++i) {
      if (seen_[i].looked || has_ended(victims_[i].pidfd.get())) continue;
      look_at(i);
    }
  }

  std::int64_t next_work_ns() const override {
    const bool open =
        seen_.size() < victims_.size() ||
        std::any_of(seen_.begin(), seen_.end(), [](const Seen& seen) { return !seen.looked; });
    return open ? now_ns() + kLookEveryNs : kNever;
  }

  Outcome confirm_one(std::size_t i, const InjectionEvidence& evidence) override {
    while (seen_.size() < victims_.size()) seen_.emplace_back();
    const Seen& seen = seen_[i];
    if (seen.stopped || seen.taken) return confirmed(sent_[i].after_ns);
    const SignalSets& sets = sent_[i].sets;
    if (sets.ignores(signal_)) return not_activated("the victim ignores " + name());
    if (seen.looked && sets.blocks(signal_))
      return indeterminate("the victim blocks " + name() + ", which stayed pending");
    if (!sets.catches(signal_) && ignored_by_default(signal_))
      return not_activated("without a handler " + name() + " does nothing");
    if (sets.catches(signal_) && has_ended(victims_[i].pidfd.get())) {
      (void)end_of(i, evidence);
      return indeterminate("the victim has a handler for " + name() +
                           " and ended before it could be seen whether that took it");
    }
    return confirm_death(i, evidence, {signal_});
  }

  std::string heal() override {
    bool stops = false;
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      if (stops_by_default(signal_) && !has_ended(victims_[i].pidfd.get()))
        stops = send_signal(victims_[i].pidfd.get(), SIGCONT).ok() || stops;
    }
    return stops ? "SIGCONT sent to those that live" : "nothing to undo";
  }

 private:
  struct Seen {
    bool looked = false;  // It is known, or will never be.
    bool stopped = false;
    bool taken = false;
  };

  std::string name() const { return signal_name(signal_); }
  static bool ignored_by_default(int signal) {
    return signal == SIGCHLD || signal == SIGURG || signal == SIGWINCH || signal == SIGCONT;
  }
  static bool stops_by_default(int signal) {
    return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
  }

  void look_at(std::size_t i) {
    Seen& seen = seen_[i];
    const auto now = signal_sets(victims_[i].host_pid);
    if (!now) return;
    const bool caught = sent_[i].sets.catches(signal_);
    seen.stopped =
        !caught && stops_by_default(signal_) && is_stopped_by_signal(victims_[i].host_pid);
    seen.taken = caught && !now->pending(signal_);
    seen.looked = seen.stopped || seen.taken || now_ns() > sent_[i].after_ns + kTakenPatienceNs;
    if (!seen.looked) return;
    log_step("evidence", {{"pid", victims_[i].pid},
                          {"caught", caught},
                          {"ignored", sent_[i].sets.ignores(signal_)},
                          {"blocked", sent_[i].sets.blocks(signal_)},
                          {"pending", now->pending(signal_)},
                          {"stopped", seen.stopped}});
  }

  std::vector<Seen> seen_;
};

// process.term: SIGTERM, and SIGKILL to whoever is still there when the grace is over.
class TermInjection : public SignalInjection {
 public:
  explicit TermInjection(InjectionSetup setup) : SignalInjection(std::move(setup), SIGTERM) {}

 protected:
  void work(SubjectView&) override {
    while (killed_.size() < victims_.size()) killed_.push_back(false);
    for (std::size_t i = 0; i < victims_.size(); ++i) {
      if (killed_[i] || now_ns() < grace_end(i) || has_ended(victims_[i].pidfd.get())) continue;
      killed_[i] = send_signal(victims_[i].pidfd.get(), SIGKILL).ok();
      log_step("grace_over", {{"pid", victims_[i].pid}, {"signal", "SIGKILL"}});
    }
  }

  std::int64_t next_work_ns() const override {
    std::int64_t next = kNever;
    for (std::size_t i = 0; i < victims_.size(); ++i) {
      if (i < killed_.size() && killed_[i]) continue;
      if (!has_ended(victims_[i].pidfd.get())) next = std::min(next, grace_end(i));
    }
    return next;
  }

  Outcome confirm_one(std::size_t i, const InjectionEvidence& evidence) override {
    killed_.resize(victims_.size());
    const bool used_up = killed_[i];
    log_step("evidence", {{"pid", victims_[i].pid}, {"grace_used_up", used_up}});
    if (used_up) return confirm_death(i, evidence, {SIGKILL, SIGTERM});
    const auto status = end_of(i, evidence);
    const bool by_handler = status && status->exited() && sent_[i].sets.catches(SIGTERM);
    const ObservedEnd* end = evidence.end_of(victims_[i].pid, sent_[i].before_ns);
    if (by_handler && end != nullptr) return confirmed(sent_[i].after_ns);
    if (status && status->signalled() && status->signal() == SIGKILL)
      return indeterminate("the victim was killed by somebody else within its grace");
    return confirm_death(i, evidence, {SIGTERM});
  }

 private:
  std::int64_t grace_end(std::size_t i) const { return sent_[i].after_ns + fault_.number("grace"); }
  std::vector<bool> killed_;  // By us, after the grace.
};

// process.kill_supervisor: whoever it watched must not be left to chance: what becomes of its
// children is written down.
class SupervisorInjection : public SignalInjection {
 public:
  explicit SupervisorInjection(InjectionSetup setup) : SignalInjection(std::move(setup), SIGKILL) {}

 protected:
  void before_strike(SubjectView& subject, const Victim& victim) override {
    for (TreeProcessFd& child : open_members(subject, below(subject.host_pids(), victim.host_pid)))
      children_.push_back({child.pid, parent_of(child.pid), std::move(child.pidfd)});
  }

  void work(SubjectView&) override {
    if (!victims_.empty() && !told_ && now_ns() >= look_ns()) tell();
  }
  std::int64_t next_work_ns() const override {
    return victims_.empty() || told_ ? kNever : look_ns();
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    if (!told_) tell();
    return SignalInjection::confirm(evidence);
  }

 private:
  struct Child {
    pid_t pid = 0;
    pid_t parent = 0;
    UniqueFd pidfd;
  };

  // Time enough for those that end with it, not for those that were about to end anyway.
  static constexpr std::int64_t kFateAfterNs = 200'000'000;
  std::int64_t look_ns() const { return sent_.front().after_ns + kFateAfterNs; }

  void tell() {
    told_ = true;
    json fates = json::array();
    for (const Child& child : children_) {
      const bool ended = has_ended(child.pidfd.get());
      const auto status = exit_status_from_kernel(child.pidfd.get());
      const pid_t parent = ended ? 0 : parent_of(child.pid);
      fates.push_back({{"host_pid", child.pid},
                       {"fate", !ended   ? "alive"
                                : status ? status->describe()
                                         : "ended"},
                       {"adopted", !ended && parent != child.parent}});
    }
    log_step("children", {{"after_ns", now_ns() - sent_.front().after_ns}, {"children", fates}});
  }

  std::vector<Child> children_;
  bool told_ = false;
};

}  // namespace

std::unique_ptr<Injection> make_signal_injection(InjectionSetup setup) {
  const std::string& name = setup.fault.fault;
  if (name == "process.term") return std::make_unique<TermInjection>(std::move(setup));
  if (name == "process.kill_supervisor")
    return std::make_unique<SupervisorInjection>(std::move(setup));
  if (name == "process.kill") return std::make_unique<SignalInjection>(std::move(setup), SIGKILL);
  const int signal = static_cast<int>(setup.fault.number("signal"));
  return std::make_unique<AnySignalInjection>(std::move(setup), signal);
}

}  // namespace crashworthy

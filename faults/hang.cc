// process.hang: SIGSTOP, and SIGCONT after `duration` or when the trial ends.
//
// It counts when every thread of the victim was seen stopped. Whoever dies or is continued by
// somebody else meanwhile was hung all the same; that is written down.
#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kNever = INT64_MAX;
constexpr int kStopPatienceMs = 50;  // In one go: the trial waits meanwhile.
constexpr std::int64_t kLookEveryNs = 1'000'000;

class HangInjection : public Injection {
 public:
  using Injection::Injection;
  ~HangInjection() override { continue_all(); }

 protected:
  bool fire(SubjectView& subject) override {
    bool any = false;
    for (Victim& victim : pick_victims(subject)) {
      log_step("fire", {{"signal", "SIGSTOP"}, {"victim", to_json(victim, fault_.victim.role)}});
      Hang hang;
      hang.sent_ns = now_ns();
      if (has_ended(victim.pidfd.get()) || !send_signal(victim.pidfd.get(), SIGSTOP)) {
        log_step("missed", {{"reason", "the victim had ended already"}});
        continue;
      }
      any = true;
      victims_.push_back(std::move(victim));
      hangs_.push_back(hang);
      if (wait_until_stopped(victims_.back().host_pid, kStopPatienceMs)) look_at(hangs_.size() - 1);
    }
    return any;
  }

  void work(SubjectView&) override {
    for (std::size_t i = 0; i < hangs_.size(); ++i) {
      Hang& hang = hangs_[i];
      if (hang.over) continue;
      if (has_ended(victims_[i].pidfd.get())) {
        end(i, "ended while it was hung");
      } else if (now_ns() >= due_ns(hang)) {
        let_go(i);
      } else if (hang.stopped_ns == 0) {
        look_at(i);
      }
    }
  }

  std::int64_t next_work_ns() const override {
    std::int64_t next = kNever;
    for (const Hang& hang : hangs_) {
      if (!hang.over)
        next = std::min(next, hang.stopped_ns == 0 ? now_ns() + kLookEveryNs : due_ns(hang));
    }
    return next;
  }

  Outcome confirm(const InjectionEvidence&) override {
    for (std::size_t i = 0; i < hangs_.size(); ++i) {
      const Hang& hang = hangs_[i];
      log_step("evidence", {{"pid", victims_[i].pid},
                            {"threads_stopped", hang.threads},
                            {"sent_ns", hang.sent_ns},
                            {"stopped_ns", hang.stopped_ns},
                            {"then", hang.over ? hang.how : "still hung at the end"}});
    }
    for (const Hang& hang : hangs_) {
      if (hang.stopped_ns == 0)
        return indeterminate("SIGSTOP was sent, but not all threads were seen stopped");
    }
    return confirmed(hangs_.front().stopped_ns);
  }

  std::string heal() override {
    return continue_all() ? "SIGCONT sent to those still hung" : "nothing to undo";
  }

 private:
  struct Hang {
    std::int64_t sent_ns = 0;
    std::int64_t stopped_ns = 0;  // All threads; 0: not seen yet.
    std::size_t threads = 0;      // So many.
    bool over = false;
    std::string how;  // It was over.
  };

  std::int64_t due_ns(const Hang& hang) const {
    // A thread that the kernel does not let stop must not keep the others stopped for ever.
    const std::int64_t from_ns = hang.stopped_ns != 0 ? hang.stopped_ns : hang.sent_ns;
    return fault_.has("duration") ? from_ns + fault_.number("duration") : kNever;
  }

  void look_at(std::size_t i) {
    const std::string states = thread_states(victims_[i].host_pid);
    if (states.empty() || states.find_first_not_of('T') != std::string::npos) return;
    hangs_[i].stopped_ns = now_ns();
    hangs_[i].threads = states.size();
    log_step("fired", {{"pid", victims_[i].pid},
                       {"threads", states.size()},
                       {"sent_ns", hangs_[i].sent_ns},
                       {"stopped_ns", hangs_[i].stopped_ns}});
  }

  void let_go(std::size_t i) {
    const bool still = is_stopped_by_signal(victims_[i].host_pid);
    (void)send_signal(victims_[i].pidfd.get(), SIGCONT);
    end(i, still ? "continued by us" : "somebody else had continued it");
  }

  void end(std::size_t i, const char* how) {
    hangs_[i].over = true;
    hangs_[i].how = how;
    log_step("hang_over", {{"pid", victims_[i].pid}, {"how", how}});
  }

  // True when there was anybody.
  bool continue_all() {
    bool any = false;
    for (std::size_t i = 0; i < hangs_.size(); ++i) {
      if (!hangs_[i].over) any = send_signal(victims_[i].pidfd.get(), SIGCONT).ok() || any;
      hangs_[i].over = true;
    }
    return any;
  }

  std::vector<Hang> hangs_;  // One for each victim.
};

}  // namespace

std::unique_ptr<Injection> make_hang_injection(InjectionSetup setup) {
  return std::make_unique<HangInjection>(std::move(setup));
}

}  // namespace crashworthy

// process.kill_tree: a process and all below it are stopped, so that nobody can start another or
// see the others die, and then killed.
//
// "Below" is who descends from the victim at that moment; where it is the subject's main process,
// orphans count too: everything of the subject is below it.
#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
#include "faults/process_state.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr int kMaxPasses = 100;
constexpr int kStopPatienceMs = 200;
constexpr int kEndPatienceMs = 2'000;

class TreeKillInjection : public Injection {
 public:
  using Injection::Injection;
  ~TreeKillInjection() override { kill_all(); }

 protected:
  bool fire(SubjectView& subject) override {
    auto victim = pick_victim(subject);
    if (!victim || victim->host_pid == 0 || has_ended(victim->pidfd.get())) return false;
    const std::vector<pid_t> all = subject.host_pids();
    const bool everything = !all.empty() && all.front() == victim->host_pid;
    const auto tree_now = [&] {
      std::vector<pid_t> pids = subject.host_pids();
      if (everything) return pids;
      pids = below(pids, victim->host_pid);
      pids.insert(pids.begin(), victim->host_pid);
      return pids;
    };
    log_step("fire", {{"signal", "SIGKILL"}, {"victim", to_json(*victim, fault_.victim.role)}});
    stop_all(subject, tree_now);
    sent_ns_ = now_ns();
    kill_all();
    log_step("fired", {{"processes", struck_.size()}, {"sent_ns", now_ns()}});
    for (const TreeProcessFd& struck : struck_) wait_for_end(struck.pidfd.get(), kEndPatienceMs);
    // Whoever was started by somebody who had not stopped yet.
    for (int pass = 0; pass < kMaxPasses && stop_new(subject, tree_now()); ++pass) {
      kill_all();
      for (const TreeProcessFd& struck : struck_) wait_for_end(struck.pidfd.get(), kEndPatienceMs);
    }
    left_ = open_members(subject, tree_now()).size();
    log_step("evidence",
             {{"processes", struck_.size()}, {"left", left_}, {"none_left_ns", now_ns()}});
    victims_.push_back(*std::move(victim));
    return true;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    const Victim& victim = victims_.front();
    if (left_ > 0)
      return indeterminate(std::to_string(left_) + " processes of the tree were not ended");
    const std::optional<WaitStatus> status = death_of(victim, evidence);
    if (!status) return indeterminate("the tree is gone, but nobody saw of what the victim died");
    log_step("evidence", {{"status", status->describe()}, {"raw", status->raw()}});
    if (!status->signalled() || status->signal() != SIGKILL)
      return not_activated("the victim " + status->describe() + " before the signal reached it");
    return confirmed(sent_ns_, std::to_string(struck_.size()) + " processes killed");
  }

 private:
  // Until a whole pass finds nobody new: those that are stopped start nobody.
  template <typename Tree>
  void stop_all(const SubjectView& subject, const Tree& tree) {
    for (int pass = 0; pass < kMaxPasses && stop_new(subject, tree()); ++pass) {
    }
  }

  // Parents come before their children. True when anybody was new.
  bool stop_new(const SubjectView& subject, std::vector<pid_t> pids) {
    pids.erase(std::remove_if(pids.begin(), pids.end(), [this](pid_t pid) { return known(pid); }),
               pids.end());
    bool any = false;
    for (TreeProcessFd& found : open_members(subject, pids)) {
      any = true;
      (void)send_signal(found.pidfd.get(), SIGSTOP);
      wait_until_stopped(found.pid, kStopPatienceMs);
      struck_.push_back(std::move(found));
    }
    return any;
  }

  bool known(pid_t pid) const {
    return std::any_of(struck_.begin(), struck_.end(), [pid](const TreeProcessFd& struck) {
      return struck.pid == pid && !has_ended(struck.pidfd.get());
    });
  }

  void kill_all() {
    for (const TreeProcessFd& struck : struck_) (void)send_signal(struck.pidfd.get(), SIGKILL);
  }

  std::vector<TreeProcessFd> struck_;
  std::int64_t sent_ns_ = 0;
  std::size_t left_ = 0;
};

}  // namespace

std::unique_ptr<Injection> make_tree_kill_injection(InjectionSetup setup) {
  return std::make_unique<TreeKillInjection>(std::move(setup));
}

}  // namespace crashworthy

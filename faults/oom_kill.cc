// resource.oom_kill: the victim is moved into a memory cgroup of its own, below the one it is in,
// whose limit it exceeds with what it uses next; then the kernel's OOM killer strikes it.
//
// What it used before stays charged to where it was, so the limit is far below that. The kernel
// counts its kills in the cgroup: that counter and the exit status are the proof. The path is on
// the disk before the cgroup is made, and a guardian removes it when the harness dies.
#include <nlohmann/json.hpp>

#include "faults/control_group.h"
#include "faults/mechanisms.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kNever = INT64_MAX;
constexpr std::int64_t kLookEveryNs = 2'000'000;

class OomInjection : public Injection {
 public:
  using Injection::Injection;

 protected:
  bool fire(SubjectView& subject) override {
    auto victim = pick_victim(subject);
    if (!victim || victim->host_pid == 0 || has_ended(victim->pidfd.get())) return false;
    auto place = ControlGroup::place_for(victim->host_pid, "memory");
    if (!place) return refused(place.error(), *victim);
    announce({Resource::at(Resource::Kind::kCgroup, *place)});
    auto group = ControlGroup::create(*place);
    if (!group) return refused(group.error(), *victim);
    group_ = std::make_unique<ControlGroup>(*std::move(group));
    announce({Resource::at(Resource::Kind::kCgroup, *place)});
    const bool unified = group_->unified();
    counter_file_ = unified ? "memory.events" : "memory.oom_control";
    before_ = kills();
    if (!before_) {
      return refused({ErrorKind::kMissing, 0, "this kernel counts no OOM kills", {}}, *victim);
    }
    const std::string limit = std::to_string(fault_.number("limit"));
    log_step("fire", {{"limit_bytes", fault_.number("limit")},
                      {"victim", to_json(*victim, fault_.victim.role)}});
    if (auto set = group_->write(unified ? "memory.max" : "memory.limit_in_bytes", limit); !set)
      return refused(set.error(), *victim);
    // Swap would only put it off.
    (void)group_->write(unified ? "memory.swap.max" : "memory.swappiness", "0");
    applied_ns_ = now_ns();
    if (has_ended(victim->pidfd.get())) return refused(gone(), *victim);
    if (auto moved = group_->add(victim->host_pid); !moved) return refused(moved.error(), *victim);
    // It may have been struck at once; who ended without that may have left its number to others.
    if (has_ended(victim->pidfd.get()) && kills() == before_) return refused(gone(), *victim);
    log_step("fired", {{"applied_ns", applied_ns_}});
    victims_.push_back(*std::move(victim));
    return true;
  }

  // The cgroup is not needed for longer than the victim.
  void work(SubjectView&) override {
    if (!victims_.empty() && group_ && has_ended(victims_.front().pidfd.get())) leave();
  }
  std::int64_t next_work_ns() const override {
    return victims_.empty() || !group_ ? kNever : now_ns() + kLookEveryNs;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    if (group_) leave();
    const Victim& victim = victims_.front();
    if (!has_ended(victim.pidfd.get()) && after_ == before_)
      return not_activated("the victim lived on within the limit");
    const std::optional<WaitStatus> status = death_of(victim, evidence);
    const ObservedEnd* end = evidence.end_of(victim.pid, applied_ns_);
    log_step("evidence", {{"oom_kills", after_.value_or(0) - *before_},
                          {"status", status ? json(status->describe()) : json(nullptr)}});
    if (!after_ || *after_ <= *before_)
      return not_activated("the OOM killer did not strike before the victim ended");
    if (!status) return indeterminate("the OOM killer struck, but nobody saw the victim's end");
    if (!status->signalled() || status->signal() != SIGKILL)
      return indeterminate("the OOM killer struck, but the victim " + status->describe());
    return confirmed(end != nullptr ? end->time_ns : seen_ns_);
  }

  std::string heal() override {
    if (group_) leave();
    return created_ ? (removed_ ? "cgroup removed"
                                : "the cgroup is still in use; its guardian "
                                  "removes it")
                    : "nothing to undo";
  }

 private:
  // Version 2 counts those in groups below it too, which the victim may have made.
  std::optional<std::int64_t> kills() const {
    const auto own = group_->number(counter_file_, "oom_kill");
    return own && !group_->unified() ? group_->total(counter_file_, "oom_kill") : own;
  }

  void leave() {
    after_ = kills();
    seen_ns_ = now_ns();
    removed_ = group_->remove();
    created_ = true;
    group_.reset();
  }

  static Error gone() { return {ErrorKind::kGone, 0, "the victim has ended", {}}; }

  // Where the machine does not allow it: final. A victim that has ended meanwhile is not.
  bool refused(const Error& error, const Victim& victim) {
    if (group_) leave();
    if (!has_ended(victim.pidfd.get())) skip(error.message);
    return false;
  }

  std::unique_ptr<ControlGroup> group_;
  std::string counter_file_;
  std::optional<std::int64_t> before_;
  std::optional<std::int64_t> after_;
  std::int64_t applied_ns_ = 0;
  std::int64_t seen_ns_ = 0;
  bool created_ = false;
  bool removed_ = false;
};

}  // namespace

std::unique_ptr<Injection> make_oom_injection(InjectionSetup setup) {
  return std::make_unique<OomInjection>(std::move(setup));
}

}  // namespace crashworthy

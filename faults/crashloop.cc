// process.crashloop: the victim is killed, and whoever takes its place, until `times` have died.
//
// Its place is the worker's number where the probe tells of it, else what the rule says: the role,
// or the command. Each kill is confirmed by itself.
#include <csignal>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kNever = INT64_MAX;
constexpr std::int64_t kLookEveryNs = 1'000'000;

class CrashloopInjection : public Injection {
 public:
  using Injection::Injection;
  // The last kill: recovery counts from there.
  std::int64_t fired_ns() const override { return sent_.empty() ? 0 : sent_.back(); }

 protected:
  bool fire(SubjectView& subject) override {
    auto victim = pick_victim(subject);
    if (!victim || !kill(std::move(*victim))) return false;
    place_ = fault_.victim;
    place_.pick = Pick::kRandom;
    place_.count = 1;
    place_.incarnation.reset();
    place_.holding_item = false;
    if (const auto& worker = victims_.front().worker) place_.worker = worker->worker;
    return true;
  }

  void work(SubjectView& subject) override {
    if (victims_.empty() || complete() || !has_ended(victims_.back().pidfd.get())) return;
    subject.refresh();
    for (Victim& next : choose_victims(subject, place_, random_)) {
      if (!complete() && !has_ended(next.pidfd.get())) (void)kill(std::move(next));
    }
  }

  std::int64_t next_work_ns() const override {
    return victims_.empty() || complete() ? kNever : now_ns() + kLookEveryNs;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    const std::string count =
        std::to_string(victims_.size()) + " of " + std::to_string(fault_.number("times"));
    for (const Victim& victim : victims_) {
      const std::optional<WaitStatus> status = death_of(victim, evidence);
      if (!status) return indeterminate("a victim died, but nobody saw of what");
      log_step("evidence", {{"pid", victim.pid}, {"status", status->describe()}});
      if (!status->signalled() || status->signal() != SIGKILL)
        return not_activated("a victim " + status->describe() + " before the signal reached it");
    }
    if (!complete())
      return not_activated(count + " were killed: nobody took the place of the last");
    return confirmed(sent_.front(), count + " killed");
  }

 private:
  bool complete() const {
    return victims_.size() >= static_cast<std::size_t>(fault_.number("times"));
  }

  bool kill(Victim victim) {
    log_step("fire", {{"signal", "SIGKILL"},
                      {"number", victims_.size() + 1},
                      {"victim", to_json(victim, fault_.victim.role)}});
    const bool alive = !has_ended(victim.pidfd.get());
    if (!alive || !send_signal(victim.pidfd.get(), SIGKILL)) {
      log_step("missed", {{"reason", "the victim had ended already"}});
      return false;
    }
    sent_.push_back(now_ns());
    log_step("fired", {{"sent_ns", sent_.back()}});
    victims_.push_back(std::move(victim));
    return true;
  }

  VictimRule place_;
  std::vector<std::int64_t> sent_;  // One for each victim.
};

}  // namespace

std::unique_ptr<Injection> make_crashloop_injection(InjectionSetup setup) {
  return std::make_unique<CrashloopInjection>(std::move(setup));
}

}  // namespace crashworthy

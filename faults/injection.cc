#include "faults/injection.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kNever = INT64_MAX;
// How often somebody is looked for who fits, where nobody tells when that may be.
constexpr std::int64_t kLookForVictimNs = 2'000'000;
// How long the machine's init may take to reap an orphan.
constexpr std::int64_t kReapedWithinNs = 200'000'000;

}  // namespace

const ObservedEnd* InjectionEvidence::end_of(std::int32_t pid, std::int64_t from_ns) const {
  for (const ObservedEnd& end : ends) {
    if (pid != 0 && end.pid == pid && end.time_ns >= from_ns) return &end;
  }
  return nullptr;
}

std::unique_ptr<Injection> Injection::plan(InjectionSetup setup) {
  const auto make = setup.fault.row().make;
  return make(std::move(setup));
}

Injection::Injection(InjectionSetup setup)
    : fault_(std::move(setup.fault)),
      random_(setup.seed),
      disarmed_(setup.disarmed),
      watch_(std::move(setup.trigger)),
      log_(std::move(setup.log)),
      repeated_(std::move(setup.victims)) {}

Injection::Outcome Injection::confirmed(std::int64_t activated_ns, std::string reason) {
  return {Verdict::kConfirmed, std::move(reason), activated_ns};
}
Injection::Outcome Injection::not_activated(std::string reason) {
  return {Verdict::kNotActivated, std::move(reason), std::nullopt};
}
Injection::Outcome Injection::indeterminate(std::string reason) {
  return {Verdict::kIndeterminate, std::move(reason), std::nullopt};
}

Result<void> Injection::prepare(LaunchPlan&) { return {}; }
void Injection::on_launched(SubjectView&) {}
bool Injection::fire(SubjectView&) { return false; }
void Injection::work(SubjectView&) {}
std::int64_t Injection::next_work_ns() const { return kNever; }

Result<void> Injection::arm(LaunchPlan& launch) {
  log_step("plan", {{"fault", to_json(fault_, watch_.trigger())}, {"disarmed", disarmed_}}, true);
  if (auto prepared = prepare(launch); !prepared) return prepared;
  if (skipped_.empty()) log_step("arm", json::object());
  return {};
}

void Injection::launched(SubjectView& subject) {
  if (!skipped_.empty()) return;
  on_launched(subject);
  if (disarmed_ || !skipped_.empty() || fault_.trigger_kind() != TriggerKind::kLaunch) return;
  fired_ns_ = now_ns();
  watch_.fired(fired_ns_);
  log_step("fired", {{"in_force_from", "the launch"}});
}

void Injection::look(SubjectView& subject, const Moment& seen, std::int64_t most) {
  if (!skipped_.empty() || disarmed_) return;
  Moment moment = seen;
  looked_ns_ = moment.now_ns;
  work(subject);
  held_ = false;
  if (fault_.trigger_kind() == TriggerKind::kLaunch) return;
  while (skipped_.empty() && watch_.due(moment)) {
    if (counted()) {
      if (!std::exchange(gate_open_, true)) open_gate();
      return;
    }
    held_ = most-- <= 0;
    if (held_) return;
    subject.refresh();
    const std::size_t struck = victims_.size();
    waiting_ = !fire(subject);
    if (waiting_) return;
    fired_ns_ = now_ns();
    for (std::size_t i = struck; i < victims_.size(); ++i) victims_[i].struck_ns = fired_ns_;
    watch_.fired(fired_ns_);
    // What was delivered before it is no recovery from it.
    moment.fired_ns = fired_ns_;
  }
}

std::int64_t Injection::next_ns(const Moment& moment) const {
  if (!skipped_.empty() || disarmed_) return kNever;
  std::int64_t next = next_work_ns();
  if (fault_.trigger_kind() == TriggerKind::kLaunch) return next;
  if (waiting_ || held_) next = std::min(next, looked_ns_ + kLookForVictimNs);
  if (!gate_open_) next = std::min(next, watch_.next_ns(moment));
  return next;
}

std::optional<std::uint64_t> Injection::next_item() const {
  return skipped_.empty() && !disarmed_ ? watch_.next_item() : std::nullopt;
}

void Injection::abandon() {
  if (std::exchange(over_, true)) return;
  log_step("heal", {{"done", heal()}});
}

void Injection::finish(const InjectionEvidence& evidence) {
  over_ = true;
  const auto name_of = [](Verdict verdict) {
    return verdict == Verdict::kConfirmed      ? "confirmed"
           : verdict == Verdict::kNotActivated ? "not_activated"
                                               : "indeterminate";
  };
  Outcome outcome;
  if (disarmed_) {
    outcome = not_activated("disarmed");
  } else if (skipped_.empty() && !fired() && !counted()) {
    outcome =
        not_activated(waiting_ ? "its moment came, but no victim of the rule was found until the "
                                 "end"
                               : "its moment never came: the subject ended before it");
  } else if (skipped_.empty()) {
    outcome = confirm(evidence);
  }
  const std::string name = skipped_.empty() ? name_of(outcome.verdict) : "skipped";
  const std::string reason = skipped_.empty() ? outcome.reason : skipped_;
  log_step("confirm", {{"outcome", name}, {"reason", reason}});
  log_step("heal", {{"done", heal()}});
  log_step("confirm_healed", {{"subject_gone", evidence.subject_gone}});
  json victims = json::array();
  for (const Victim& victim : victims_) victims.push_back(to_json(victim, fault_.victim.role));
  json result{{"type", "injection_result"},
              {"time_ns", now_ns()},
              {"name", fault_.name},
              {"fault", fault_.fault},
              {"outcome", name},
              {"reason", reason},
              {"victim", victims.empty() ? json(nullptr) : victims.front()},
              {"victims", victims}};
  result["activated_ns"] = outcome.activated_ns ? json(*outcome.activated_ns) : json(nullptr);
  log_(std::move(result), false);
}

void Injection::log_step(const char* step, json details, bool synced) {
  details["type"] = "injection";
  details["step"] = step;
  details["name"] = fault_.name;
  details["time_ns"] = now_ns();
  log_(std::move(details), synced);
}

void Injection::announce(const std::vector<Resource>& resources) {
  json list = json::array();
  for (const Resource& resource : resources) list.push_back(to_json(resource));
  log_step("resources", {{"resources", std::move(list)}}, true);
}

void Injection::skip(std::string reason) {
  skipped_ = std::move(reason);
  log_step("skip", {{"reason", skipped_}});
}

std::optional<WaitStatus> Injection::death_of(const Victim& victim,
                                              const InjectionEvidence& evidence) {
  const ObservedEnd* end = evidence.end_of(victim.pid, 0);
  const std::int64_t until = now_ns() + kReapedWithinNs;
  do {
    if (const auto status = exit_status_from_kernel(victim.pidfd.get())) return status;
    if (end != nullptr) return end->status;
    if (!has_ended(victim.pidfd.get())) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  } while (now_ns() < until);
  return std::nullopt;
}

std::vector<Victim> Injection::pick_victims(SubjectView& subject) {
  if (fault_.victim.role == Role::kSupervisor && !subject.supervised()) {
    skip("this arm has no supervisor");
    return {};
  }
  if (!repeated_.empty()) return pick_again(subject);
  return choose_victims(subject, fault_.victim, random_);
}

// Those of the next firing of the repeated trial, all of them or none.
std::vector<Victim> Injection::pick_again(const SubjectView& subject) {
  std::size_t struck = victims_.size();
  for (const std::vector<VictimRule>& firing : repeated_) {
    if (struck >= firing.size()) {
      struck -= firing.size();
      continue;
    }
    std::vector<Victim> victims;
    for (std::size_t i = struck; i < firing.size(); ++i) {
      std::vector<Victim> found = choose_victims(subject, firing[i], random_);
      if (found.empty()) return {};
      victims.push_back(std::move(found.front()));
    }
    return victims;
  }
  return {};
}

std::optional<Victim> Injection::pick_victim(SubjectView& subject) {
  std::vector<Victim> victims = pick_victims(subject);
  if (victims.empty()) return std::nullopt;
  return std::move(victims.front());
}

}  // namespace crashworthy

#include "faults/injection.h"

#include <nlohmann/json.hpp>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using nlohmann::json;

}  // namespace

Injection::Injection(FaultSpec fault, ResolvedTrigger trigger, std::uint64_t seed, bool disarmed,
                     StepLog log)
    : fault_(std::move(fault)),
      trigger_(trigger),
      random_(seed),
      disarmed_(disarmed),
      log_(std::move(log)) {}

Result<std::unique_ptr<Injection>> Injection::plan(const FaultSpec& fault,
                                                   const ResolvedTrigger& trigger,
                                                   std::uint64_t seed, bool disarmed, StepLog log) {
  switch (fault.row().mechanism) {
    case Mechanism::kSignal:
      return make_signal_injection(fault, trigger, seed, disarmed, std::move(log));
    case Mechanism::kFaultPoint:
      return make_point_injection(fault, trigger, seed, disarmed, std::move(log));
    case Mechanism::kResourceLimit:
      return make_limit_injection(fault, trigger, seed, disarmed, std::move(log));
  }
  return usage_error("fault '" + fault.fault + "' has no mechanism");
}

Result<void> Injection::prepare(ProbeRing&) { return {}; }

Result<void> Injection::arm(ProbeRing& ring) {
  log_step("plan",
           {{"fault", to_json(fault_)}, {"trigger", to_json(trigger_)}, {"disarmed", disarmed_}},
           true);
  if (auto prepared = prepare(ring); !prepared) return prepared;
  if (trigger_.item) ring.watch(ProbeEvent::kTaken, static_cast<std::uint64_t>(*trigger_.item));
  state_ = InjectionState::kArmed;
  log_step("arm", json::object());
  return {};
}

std::optional<std::int64_t> Injection::fire_after_ns() const { return trigger_.after_ns; }

void Injection::on_trigger(SubjectView& subject, ProbeRing& ring, bool by_time) {
  ring.clear_event();
  if (state_ != InjectionState::kArmed || !skipped_.empty() || disarmed_ || trigger_.hit) return;
  if (trigger_.item && ring.count(ProbeEvent::kTaken) < static_cast<std::uint64_t>(*trigger_.item))
    return;
  if (trigger_.after_ns && !by_time && watch_step_ == 0) return;
  subject.refresh();
  if (fire(subject)) {
    state_ = InjectionState::kFired;
    ring.watch(ProbeEvent::kStarted, 0);
    return;
  }
  if (!skipped_.empty()) return;
  // Nobody fits just now: look again when the next unit of work begins.
  watch_step_ = ring.count(ProbeEvent::kStarted) + 1;
  ring.watch(ProbeEvent::kStarted, watch_step_);
}

void Injection::finish(const InjectionEvidence& evidence) {
  Outcome outcome;
  if (!skipped_.empty()) {
    outcome = {"skipped", skipped_, std::nullopt};
  } else if (disarmed_) {
    outcome = {"not_activated", "disarmed", std::nullopt};
  } else if (state_ != InjectionState::kFired && !trigger_.hit) {
    outcome = {"not_activated",
               watch_step_ != 0
                   ? "its moment came, but no victim of the rule was found until the end"
                   : "its moment never came: the subject ended before it",
               std::nullopt};
  } else {
    outcome = confirm(evidence);
  }
  log_step("confirm", {{"outcome", outcome.name}, {"reason", outcome.reason}});
  log_step("heal", {{"done", heal()}});
  log_step("confirm_healed", {{"subject_gone", evidence.subject_gone}});
  json result{{"type", "injection_result"}, {"time_ns", now_ns()},      {"fault", fault_.fault},
              {"outcome", outcome.name},    {"reason", outcome.reason}, {"victim", victim_json()}};
  result["activated_ns"] = outcome.activated_ns ? json(*outcome.activated_ns) : json(nullptr);
  log_(std::move(result), false);
  state_ = InjectionState::kFinished;
}

void Injection::log_step(const char* step, json details, bool synced) {
  details["type"] = "injection";
  details["step"] = step;
  details["time_ns"] = now_ns();
  log_(std::move(details), synced);
}

void Injection::skip(std::string reason) {
  skipped_ = std::move(reason);
  log_step("skip", {{"reason", skipped_}});
}

std::optional<Victim> Injection::pick_victim(SubjectView& subject) {
  const VictimRule& rule = fault_.victim;
  std::vector<Victim> candidates;
  const auto add = [&](std::int32_t pid, std::optional<WorkerState> worker) {
    if (pid == 0) return;
    auto pidfd = subject.open(pid);
    if (pidfd) candidates.push_back({pid, 0, std::move(*pidfd), worker});
  };
  if (rule.role == Role::kWorker && (subject.workers().any() || subject.isolated())) {
    for (const WorkerState& worker : subject.workers().alive()) {
      if (worker.holds || !rule.holding_item) add(worker.pid, worker);
    }
  } else if (rule.role == Role::kWorker && rule.holding_item) {
    return std::nullopt;  // No worker has told of itself yet; one that never does holds nothing
                          // that we know of.
  } else if (rule.role == Role::kWorker || rule.role == Role::kMain) {
    add(subject.main_pid(), subject.workers().by_pid(subject.main_pid()));
  } else if (rule.role == Role::kSupervisor) {
    if (!subject.supervised()) skip("this arm has no supervisor");
    if (subject.supervised()) add(subject.supervisor_pid(), std::nullopt);
  } else {
    for (const pid_t pid : subject.host_pids()) {
      auto pidfd = open_pidfd(pid);
      const std::int32_t own = pid_in_own_namespace(pid).value_or(0);
      if (pidfd && own != 0)
        candidates.push_back({own, pid, std::move(*pidfd), subject.workers().by_pid(own)});
    }
  }
  if (candidates.empty()) return std::nullopt;
  Victim victim = std::move(candidates[random_.below(candidates.size())]);
  if (auto host = pid_of(victim.pidfd.get())) victim.host_pid = *host;
  return victim;
}

json Injection::victim_json() const {
  if (victim_.pid == 0 && victim_.host_pid == 0) return nullptr;
  json object{{"role", role_name(fault_.victim.role)},
              {"pid", victim_.pid},
              {"host_pid", victim_.host_pid}};
  if (victim_.worker) {
    object["worker"] = victim_.worker->worker;
    object["incarnation"] = victim_.worker->incarnation;
    if (victim_.worker->holds) {
      object["item"] = victim_.worker->holds->item;
      object["part"] = victim_.worker->holds->part;
    }
  }
  return object;
}

}  // namespace crashworthy

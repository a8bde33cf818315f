// One injection: plan, arm, fire, confirm, heal, confirm healed, each step stamped and handed to
// the history as it happens.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "faults/fault_spec.h"
#include "faults/victim.h"
#include "harness/os/random.h"
#include "harness/os/wait_status.h"

namespace crashworthy {

enum class InjectionState { kPlanned, kArmed, kFired, kFinished };

// What became of a process, from whoever saw it end; the evidence that an injection is judged by.
struct ObservedEnd {
  std::int32_t pid = 0;  // As the subject sees it.
  WaitStatus status;
  std::int64_t time_ns = 0;
};

// What is known when the subject has ended and is gone.
struct InjectionEvidence {
  std::vector<ObservedEnd> ends;
  std::vector<ProbeRecord> records;  // All of the trial.
  bool subject_gone = true;          // No process of it is left.
};

// Where the steps are written: the trial's history. `synced`: before returning it must be on the
// disk.
using StepLog = std::function<void(nlohmann::json step, bool synced)>;

class Injection {
 public:
  virtual ~Injection() = default;

  // Prepares an injection of `fault`. `disarmed`: everything is done but the firing.
  static Result<std::unique_ptr<Injection>> plan(const FaultSpec& fault,
                                                 const ResolvedTrigger& trigger, std::uint64_t seed,
                                                 bool disarmed, StepLog log);

  // Before the launch. The plan is on disk when this returns.
  Result<void> arm(ProbeRing& ring);

  // What the subject must inherit: (our descriptor, variable to which its number there is
  // appended).
  virtual std::optional<std::pair<int, std::string>> inherited() const { return std::nullopt; }

  // The delay after the launch at which to call fire(), if the trigger is a time.
  std::optional<std::int64_t> fire_after_ns() const;

  // The trigger may have come: by time (`by_time`), or because the probe's watched count was
  // reached. Does nothing unless it has.
  void on_trigger(SubjectView& subject, ProbeRing& ring, bool by_time);

  // After the subject's end: decides the outcome from the evidence, heals, confirms it, and writes
  // "injection_result".
  void finish(const InjectionEvidence& evidence);

  bool fired() const { return state_ >= InjectionState::kFired; }

  // For the mechanisms; others use plan().
  Injection(FaultSpec fault, ResolvedTrigger trigger, std::uint64_t seed, bool disarmed,
            StepLog log);

 protected:
  struct Outcome {
    std::string name;  // confirmed, not_activated, skipped, indeterminate
    std::string reason;
    std::optional<std::int64_t> activated_ns;
  };
  // Fires at once; false when it has to wait for a better moment (no victim holds an item just
  // now).
  virtual bool fire(SubjectView& subject) = 0;
  virtual Outcome confirm(const InjectionEvidence& evidence) = 0;
  // Undoes what still lasts; returns what was done for the record.
  virtual std::string heal() { return "nothing to undo"; }
  virtual Result<void> prepare(ProbeRing& ring);

  // Writes a step with its stamp.
  void log_step(const char* step, nlohmann::json details, bool synced = false);
  void skip(std::string reason);
  // Picks by the rule, or says why nobody fits (final: skip; else: try again at the next trigger).
  std::optional<Victim> pick_victim(SubjectView& subject);
  nlohmann::json victim_json() const;

  FaultSpec fault_;
  ResolvedTrigger trigger_;
  Random random_;
  bool disarmed_;
  StepLog log_;
  InjectionState state_ = InjectionState::kPlanned;
  std::string skipped_;
  Victim victim_;
  std::uint64_t watch_step_ =
      0;  // Not 0: the trigger has come, and a victim is looked for at each unit of work begun.
};

std::unique_ptr<Injection> make_signal_injection(FaultSpec, ResolvedTrigger, std::uint64_t seed,
                                                 bool disarmed, StepLog);
std::unique_ptr<Injection> make_point_injection(FaultSpec, ResolvedTrigger, std::uint64_t seed,
                                                bool disarmed, StepLog);
std::unique_ptr<Injection> make_limit_injection(FaultSpec, ResolvedTrigger, std::uint64_t seed,
                                                bool disarmed, StepLog);

}  // namespace crashworthy

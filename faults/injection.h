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
#include "faults/launch_plan.h"
#include "faults/resource.h"
#include "faults/victim.h"
#include "harness/os/random.h"
#include "harness/os/wait_status.h"

namespace crashworthy {

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

  // The end of `pid` at `from_ns` or later; null when nobody reported it.
  const ObservedEnd* end_of(std::int32_t pid, std::int64_t from_ns) const;
};

// Where the steps are written: the trial's history. `synced`: before returning it must be on the
// disk.
using StepLog = std::function<void(nlohmann::json step, bool synced)>;

struct InjectionSetup {
  FaultSpec fault;
  Trigger trigger;  // Resolved.
  std::uint64_t seed = 0;
  bool disarmed = false;  // Everything is done but the firing.
  StepLog log;
  // Of a repetition: whom each firing strikes, whatever the fault's rule would choose. Empty: as
  // the rule says.
  std::vector<std::vector<VictimRule>> victims = {};
};

// A mechanism derives from it and overrides what it needs. All calls come from the thread that runs
// the trial; a mechanism may have threads of its own, which end in heal() or its destructor.
class Injection {
 public:
  static std::unique_ptr<Injection> plan(InjectionSetup setup);
  explicit Injection(InjectionSetup setup);  // For the mechanisms.
  virtual ~Injection() = default;

  // Before the launch, of which it may want something. The plan is on disk when this returns.
  Result<void> arm(LaunchPlan& launch);
  // So have all others of the trial: this is the launch as it will be.
  virtual void all_armed(const LaunchPlan&) {}
  // The command has been executed.
  void launched(SubjectView& subject);
  // Something has happened, or next_ns() has come: fires if its moment has, at most `most` times.
  void look(SubjectView& subject, const Moment& seen, std::int64_t most = INT64_MAX);
  // After the subject's end: decides the outcome from the evidence, heals, confirms it, and writes
  // "injection_result".
  void finish(const InjectionEvidence& evidence);
  // Nobody will judge it (the trial was given up): undoes what still lasts. Nothing after finish().
  void abandon();

  // When to look again, at the latest; INT64_MAX: when something happens.
  std::int64_t next_ns(const Moment& moment) const;
  // Readable when to look.
  virtual std::vector<int> descriptors() const { return {}; }
  // The number of taken items at which to look.
  std::optional<std::uint64_t> next_item() const;
  // Its moment has come, and nobody fits: look whenever a unit of work begins.
  bool waits_for_victim() const { return waiting_; }
  // The last firing; 0: none.
  virtual std::int64_t fired_ns() const { return fired_ns_; }
  bool fired() const { return fired_ns() != 0; }
  // How often it has fired; of a counted one: whether.
  std::int64_t firings() const { return counted() ? fired() : watch_.firings(); }
  bool skipped() const { return !skipped_.empty(); }
  // It does nothing (any more): disarmed, or skipped.
  bool idle() const { return disarmed_ || !skipped_.empty(); }
  const FaultSpec& fault() const { return fault_; }

 protected:
  enum class Verdict { kConfirmed, kNotActivated, kIndeterminate };
  struct Outcome {
    Verdict verdict = Verdict::kIndeterminate;
    std::string reason;
    std::optional<std::int64_t> activated_ns;
  };
  static Outcome confirmed(std::int64_t activated_ns, std::string reason = {});
  static Outcome not_activated(std::string reason);
  static Outcome indeterminate(std::string reason);

  // What must be there before the launch. Unless disarmed_, a fault that is in force from the
  // launch on, or that the victim fires by itself, is set up here. May call skip().
  virtual Result<void> prepare(LaunchPlan& launch);
  virtual void on_launched(SubjectView& subject);
  // kCounted with conditions: from now on hits or calls count.
  virtual void open_gate() {}
  // kMoment: fires at once; false when it has to wait for a better moment (nobody fits just now).
  virtual bool fire(SubjectView& subject);
  // At each look from the launch on: what the mechanism does by itself in time (repeats, undoing).
  virtual void work(SubjectView& subject);
  // When it has such work; INT64_MAX: none.
  virtual std::int64_t next_work_ns() const;
  // Whether it was activated. Not called when skipped, disarmed, or, for kMoment, never fired.
  virtual Outcome confirm(const InjectionEvidence& evidence) = 0;
  // Undoes what still lasts, also when it was never fired or was skipped; returns what was done,
  // for the record.
  virtual std::string heal() { return "nothing to undo"; }

  // Writes a step with its stamp.
  void log_step(const char* step, nlohmann::json details, bool synced = false);
  // Before something is made or changed outside of the subject's tree that would outlive us: what
  // it is lies on the disk when this returns, so that `crashworthy recover` can undo it. Announce
  // what was made once more when it is there: then its inode is known too.
  void announce(const std::vector<Resource>& resources);
  // It cannot be done here or on this subject, for this reason. Final.
  void skip(std::string reason);
  // How the victim, which has ended, did so: from the kernel, or from whoever reported it. Waits a
  // little for whoever is to reap it, without which the kernel does not tell.
  static std::optional<WaitStatus> death_of(const Victim& victim,
                                            const InjectionEvidence& evidence);
  // For fire(): those of the rule, or none when nobody fits (skipped: never; else: perhaps later).
  std::vector<Victim> pick_victims(SubjectView& subject);
  // The same for mechanisms that strike one.
  std::optional<Victim> pick_victim(SubjectView& subject);

  FaultSpec fault_;
  Random random_;
  const bool disarmed_;
  std::vector<Victim> victims_;  // All that were struck, in their order.
  TriggerWatch watch_;

 private:
  bool counted() const { return fault_.trigger_kind() == TriggerKind::kCounted; }

  std::vector<Victim> pick_again(const SubjectView& subject);

  StepLog log_;
  const std::vector<std::vector<VictimRule>> repeated_;
  std::string skipped_;
  bool waiting_ = false;
  bool held_ = false;  // Its moment has come, but it may not fire yet.
  bool over_ = false;  // finish() or abandon() has been called.
  bool gate_open_ = false;
  std::int64_t fired_ns_ = 0;
  std::int64_t looked_ns_ = 0;
};

}  // namespace crashworthy

// One trial: launch, inject, observe, end, check; everything it learns goes into its history.
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "harness/experiment/injected_subject.h"
#include "harness/experiment/subject_setup.h"
#include "harness/process/containment.h"
#include "results/history.h"

namespace crashworthy {

struct TrialSpec {
  int number = 0;  // 0: the golden run.
  int block = 0;
  int order = 0;  // In its block.
  const ArmSpec* arm = nullptr;
  const FaultCase* faults = nullptr;  // Null: the twin, without a fault.
  std::vector<Trigger> triggers;      // Resolved: one for each of them.
  Schedule schedule;                  // Of a repetition.
  std::uint64_t seed = 0;
  bool disarmed = false;
  std::chrono::nanoseconds timeout{};
  std::optional<std::uint64_t> disk_bytes;  // As of the experiment.
  bool rerun = false;                       // Afterwards the command is run again.
  std::chrono::nanoseconds linger{};      // For what is left of a command when its main has ended.
  std::chrono::nanoseconds hang_after{};  // Silent and idle for so long, at least: it hangs.
  std::filesystem::path directory;        // Of its history.
  std::filesystem::path scratch;          // Removed at its end.
  // Of a golden run: where its outputs go, beside `scratch`; empty: they end with it.
  std::filesystem::path keep_outputs;
  std::string run;
};

struct TrialOutcome {
  bool ran_to_end = false;
  bool interrupted = false;      // By a signal to the harness; the history has no end.
  std::string ended;             // "exited with 0", "killed by SIGKILL", "did not end within 10 s".
  std::string stderr_tail;       // Last lines, for messages.
  std::int64_t duration_ns = 0;  // Launch to end of the main process.
  std::string containment;       // Level in force and why not a better one.
};

// Runs one trial. `golden` is null for the golden run itself, whose outputs are then read into
// `*read_golden_into`. `interrupt_fd`: readable when the user wants to stop (a signalfd). Fails for
// what is the harness's trouble (a full disk, a helper that is missing) or the user's (the command
// cannot be started); nothing of the subject is left then.
Result<TrialOutcome> run_trial(const TrialSpec& spec, const PreparedSubject& subject,
                               const Golden* golden, Golden* read_golden_into, int interrupt_fd);

}  // namespace crashworthy

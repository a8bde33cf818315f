// `crashworthy replay`: a recorded trial once more, with the same faults at the same moments, into
// the same victims, in the same order; and whether that came true.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "faults/fault_spec.h"
#include "harness/experiment/injected_subject.h"
#include "results/history.h"

namespace crashworthy {

// What a history says of the faults of its trial.
struct RecordedTrial {
  std::vector<FaultSpec> faults;
  std::vector<Trigger> triggers;        // Resolved.
  std::vector<nlohmann::json> results;  // "injection_result" of each; null where there is none.
  Schedule schedule() const;
};
Result<RecordedTrial> recorded_trial(const TrialHistory& history);

// In what `again` differs from `first`: triggers, outcomes, victims (by role, place and life of a
// worker, else by number and program in the tree; of workers who fire it themselves by role and
// life) and order. Empty: in nothing.
std::vector<std::string> differences(const RecordedTrial& first, const RecordedTrial& again);

struct ReplayOptions {
  std::filesystem::path directory;  // A record of inject, or a run directory.
  std::optional<int> trial;         // Of a run directory.
  std::filesystem::path out;
};
struct ReplayResult {
  std::filesystem::path record;
  std::vector<nlohmann::json> injections;  // Of the repetition, each with what is said of it.
  std::vector<std::string> differences;
  std::string ended;
  int interrupted_by = 0;
};
Result<ReplayResult> replay(const ReplayOptions& options);

}  // namespace crashworthy

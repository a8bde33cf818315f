// A run directory on disk, read whole: what `report` and `compare` start from.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "results/measures.h"
#include "results/summary.h"

namespace crashworthy {

struct Run {
  std::filesystem::path directory;
  std::vector<TrialResult> trials;    // In order of their number.
  std::vector<std::string> warnings;  // Trials that could not be read, torn ends.
  Summary summary;                    // Computed from the histories just now.
};

// Reads experiment.json, plan.json and trials/*, computes the summary again. Works on what there
// is: a run that was cut off gives a summary with a warning. Fails when DIR is no run directory.
Result<Run> load_run(const std::filesystem::path& directory);

// Summary of `trials`. `experiment` and `plan` are the documents of the run directory
// (docs/results-format.md).
Summary summarize(const nlohmann::json& experiment, const nlohmann::json& plan,
                  const std::vector<TrialResult>& trials);

}  // namespace crashworthy

// Runs an experiment from its file to its report.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "harness/experiment/experiment.h"
#include "results/run.h"

namespace crashworthy {

struct RunOptions {
  std::filesystem::path
      out;  // The run directory; empty: results/runs/<experiment>/<UTC time>, with a `latest` link.
  std::optional<int> blocks;
  std::optional<std::uint64_t> seed;
  bool disarm = false;
  bool progress = true;  // On stderr.
  bool colour = false;
};

struct RunResult {
  Run run;
  std::filesystem::path directory;
  int interrupted_by =
      0;  // The signal with which the user stopped it, after everything was cleaned up; else 0.
};

// `text`: the experiment file as written, kept in the run directory. Results already measured stay
// there whatever happens.
Result<RunResult> run_experiment(const Experiment& experiment, const std::string& text,
                                 const RunOptions& options);

// Computes summary.json and report.html of a run directory from its histories and writes them
// there.
Result<Run> write_results(const std::filesystem::path& directory);

}  // namespace crashworthy

#include "results/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/os/file.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

Result<json> read_json(const fs::path& path) {
  auto text = read_file(path);
  if (!text) return text.error();
  json document = json::parse(*text, nullptr, false);
  if (document.is_discarded()) return corrupt_error("'" + path.string() + "' is not JSON");
  return document;
}

std::vector<fs::path> trial_directories(const fs::path& run) {
  std::vector<fs::path> found;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(run / "trials", failure)) {
    if (entry.is_directory()) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

Result<Run> load_run(const fs::path& directory) try {
  auto plan = read_json(directory / "plan.json");
  std::error_code failure;
  if (!plan && fs::exists(directory / "golden", failure)) {
    return Error{
        ErrorKind::kNoData,
        0,
        "'" + directory.string() + "' was cut off before its first trial: nothing was measured",
        {}};
  }
  if (!plan) {
    return usage_error("'" + directory.string() + "' is no run directory: " + plan.error().message,
                       "name the directory that `crashworthy run` printed");
  }
  auto experiment = read_json(directory / "experiment.json");
  if (!experiment) return experiment.error();
  if (!plan->is_object() || plan->value("schema", 0) != kSchemaVersion) {
    return corrupt_error("'" + (directory / "plan.json").string() +
                         "' has another schema than this program reads");
  }
  Run run;
  run.directory = directory;
  for (const fs::path& trial : trial_directories(directory)) {
    auto history = read_history(trial);
    if (!history) {
      run.warnings.push_back(history.error().message);
      continue;
    }
    if (history->truncated)
      run.warnings.push_back("'" + trial.string() + "' has a torn end, which is left out");
    run.trials.push_back(measure_trial(*history));
    if (!run.trials.back().complete) {
      run.warnings.push_back(
          fmt::format("trial {} was cut off and is left out", run.trials.back().number));
    }
  }
  run.summary = summarize(*experiment, *plan, run.trials);
  run.summary.warnings.insert(run.summary.warnings.end(), run.warnings.begin(), run.warnings.end());
  return run;
} catch (const json::exception& failure) {
  return corrupt_error("'" + directory.string() + "': " + failure.what());
}

}  // namespace crashworthy

#include "results/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/os/file.h"
#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

Result<json> read_json(const fs::path& path) {
  auto text = read_file(path);
  if (!text) return text.error();
  auto document = parse_json(*text);
  if (!document)
    return corrupt_error("'" + path.string() + "' is not JSON: " + document.error().message);
  return document;
}

std::vector<fs::path> trial_directories(const fs::path& run) {
  std::vector<fs::path> found;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(run / "trials", failure)) {
    if (entry.is_directory(failure)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// The history is of this run, of a trial that was planned so, and of none that was read already.
bool is_planned(const json& plan, const json& header, const std::vector<TrialResult>& read) {
  const int number = header.value("trial", 0);
  const bool again = std::any_of(read.begin(), read.end(),
                                 [&](const TrialResult& trial) { return trial.number == number; });
  if (again || header.value("run", "") != plan.value("run", "")) return false;
  for (const json& planned : plan.value("trials", json::array())) {
    if (planned.value("trial", 0) != number) continue;
    return planned.value("arm", "") == header.value("arm", "") &&
           planned.value("fault", "") == header.value("fault", "") &&
           planned.value("block", 0) == header.value("block", 0);
  }
  return false;
}

}  // namespace

Result<Run> load_run(const fs::path& directory) try {
  auto plan = read_json(directory / "plan.json");
  std::error_code failure;
  if (!fs::exists(directory / "plan.json", failure) && fs::exists(directory / "golden", failure)) {
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
    if (!is_planned(*plan, history->events.front(), run.trials)) {
      run.warnings.push_back("'" + trial.string() +
                             "' is no trial of this run's plan, or is there twice: it is left out");
      continue;
    }
    run.trials.push_back(measure_trial(*history));
    if (history->truncated) run.trials.back().complete = false;
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

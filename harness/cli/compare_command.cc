// crashworthy report and compare: judging again, from what lies on disk.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "harness/cli/commands.h"
#include "harness/experiment/runner.h"
#include "harness/os/file.h"
#include "results/compare.h"
#include "results/report/comparison.h"
#include "results/report/terminal.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

int dump_run(const fs::path& directory) {
  std::error_code failure;
  int status = 0;
  std::vector<fs::path> trials;
  for (const auto& entry : fs::directory_iterator(directory / "trials", failure))
    trials.push_back(entry.path());
  if (failure)
    return fail(
        usage_error("'" + directory.string() + "' is no run directory: " + failure.message()));
  std::sort(trials.begin(), trials.end());
  for (const fs::path& trial : trials) {
    auto history = read_history(trial);
    if (!history) {
      status = fail(history.error());
      continue;
    }
    std::fputs(dump_history(*history).c_str(), stdout);
  }
  return status;
}

// A summary from a run directory (computed again from its histories) or from a summary.json.
Result<Summary> load_summary(const fs::path& path) {
  std::error_code failure;
  if (fs::is_directory(path, failure)) {
    auto run = load_run(path);
    if (!run) return run.error();
    return run->summary;
  }
  auto text = read_file(path);
  if (!text) return usage_error(text.error().message, "name a run directory or its summary.json");
  const json document = json::parse(*text, nullptr, false);
  if (document.is_discarded())
    return usage_error("'" + path.string() + "' is not JSON",
                       "name a run directory or its summary.json");
  auto summary = summary_from_json(document);
  if (!summary) return summary.error().with_context(path.string());
  return summary;
}

}  // namespace

int report_command(const std::string& directory, bool dump, bool as_json) {
  if (dump) return dump_run(directory);
  auto run = write_results(directory);
  if (!run) return fail(run.error());
  if (as_json) {
    std::printf("%s\n", to_json(run->summary)
                            .dump(1, ' ', false, nlohmann::json::error_handler_t::replace)
                            .c_str());
  } else {
    std::printf("%s", terminal_report(run->summary, {use_colour(), 100}).c_str());
    std::printf("\nReport   %s\n", (fs::path(directory) / "report.html").c_str());
  }
  return run_verdict_exit_code(run->summary.verdict);
}

int compare_command(const std::string& base, const std::string& contender, bool as_json,
                    bool markdown) {
  auto baseline = load_summary(base);
  if (!baseline) return fail(baseline.error());
  auto other = load_summary(contender);
  if (!other) return fail(other.error());
  auto comparison = compare(*baseline, *other);
  if (!comparison) return fail(comparison.error());
  if (as_json) {
    std::printf(
        "%s\n",
        to_json(*comparison).dump(1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    const std::string text = markdown ? markdown_comparison(*comparison)
                                      : terminal_comparison(*comparison, {use_colour(), 100});
    std::printf("%s", text.c_str());
  }
  return comparison_exit_code(comparison->verdict);
}

}  // namespace crashworthy

// Summary: what all trials of a run say together. summary.json is exactly this
// (docs/results-format.md).
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "results/measures.h"

namespace crashworthy {

enum class RunVerdict { kPass, kFail, kInconclusive, kError };
const char* run_verdict_name(RunVerdict verdict);
// 0 pass, 1 fail, 3 inconclusive, 5 error.
int run_verdict_exit_code(RunVerdict verdict);

// One measure of one cell over its trials.
struct MeasureSummary {
  std::optional<double> estimate;   // The median of the trials, or the paired estimate where the
                                    // measure is a comparison.
  std::optional<double> low, high;  // 95 % interval.
  std::string unit;                 // "ns", "items/s", "ratio", "count".
  bool censored = false;            // No estimate because at least half the trials never got there.
  std::string reason;               // Why there is no estimate, or no interval.
  int outside = 0;  // So many samples are from outside alone, where others are the subject's own.
  std::vector<std::optional<double>>
      samples;  // One a trial in order of `blocks`; empty where censored or not measured.
  std::vector<bool> sample_censored;
  std::vector<int> blocks;
};

struct CellSummary {
  std::string arm;
  std::string fault;
  int trials = 0;
  int confirmed = 0;  // Trials whose injection was confirmed.
  int recovered = 0;  // Of those; in a cell without fault: of all trials.
  double recovered_low = 0, recovered_high = 1;  // Wilson 95 % interval of the share recovered.
  std::map<std::string, int> injections;         // Outcome name -> trials.
  std::map<std::string, int> stalls;             // Kind -> trials that did not end in time.
  // Of those whose injection was confirmed: run again afterwards, and everything was there then.
  int rerun = 0, rerun_whole = 0;
  std::int64_t late_publications = 0;  // Outputs that came after the main process's end.
  ItemCounts items;
  std::map<std::string, MeasureSummary> measures;
};

struct ExpectationResult {
  std::string text;
  std::string verdict;  // "true", "false", "undecided".
  std::string detail;   // What was found: "supervised.kill.items.lost is 2".
};

// An arm of the experiment that could not run on this machine.
struct SkippedArm {
  std::string arm;
  std::string reason;  // With the Debian package that would help.
};

struct GateLine {
  std::string measure;
  double margin = 0;  // 0.05 for "5%".
  std::string margin_text;
};

struct Summary {
  int schema = kSchemaVersion;
  std::string experiment;
  std::string run;  // Id of the run.
  RunVerdict verdict = RunVerdict::kError;
  std::vector<std::string> reasons;  // Why the verdict is not pass.
  std::string sentence;              // The finding in one plain sentence.
  std::string fingerprint;
  std::uint64_t seed = 0;
  int blocks = 0;
  bool disarmed = false;
  std::string plan_hash;  // Two runs with the same value did the same cells with the same seeds.
  std::optional<double>
      clock_error_ns;  // Median error of the recovery clock against a planted delay.
  std::vector<std::string> warnings;
  std::vector<SkippedArm> skipped_arms;
  std::vector<CellSummary> cells;
  std::vector<ExpectationResult> expectations;
  std::vector<GateLine> gate;

  const CellSummary* cell(const std::string& arm, const std::string& fault) const;
};

// As they stand in plan.json and in summary.json; what is no such list reads as empty.
nlohmann::json to_json(const std::vector<SkippedArm>& arms);
std::vector<SkippedArm> skipped_arms_from_json(const nlohmann::json& document);

nlohmann::json to_json(const Summary& summary);
// Refuses another schema version and missing or ill-typed fields, naming them.
Result<Summary> summary_from_json(const nlohmann::json& document);

}  // namespace crashworthy

// Comparison of two runs: a baseline and a contender (docs/results-format.md).
//
// Two things are judged.
// 1. Every gate line of the baseline: is the contender no worse by more than the margin? Three
//    verdicts, each line at one-sided 95%: it fails when the 95% bound of the ratio lies beyond the
//    margin, passes when it lies inside, and is inconclusive otherwise. A contender exactly at its
//    margin fails with chance 5% a line; lines are not corrected for one another, so keep to
//    kMostGateLines.
// 2. The items, without being asked, in all cells of the arms that a gate line names. Failures of
//    their own, as counts need no statistics:
//      - corrupt, lost, duplicated or misplaced items where the baseline had none;
//      - more of them than the baseline, at the same number of trials;
//      - failed or unfinished items where the baseline had none;
//      - without a fault, extra or stale temporary outputs where the baseline had none.
//    A run in which a planned fault was not confirmed, or which was cut off or failed in the
//    harness, proves nothing: the comparison is then at most inconclusive. More failed or
//    unfinished items than before, other arms, and other numbers of trials only give notes, as do
//    outputs that a fault leaves behind: there, chance moves the count.
//
// Samples are paired by block when both runs have the same seed, and thus the same fault phase in
// the same block; else compared as two groups, which is said. Pairing does not undo what changed on
// the machine between two runs: to gate small differences, run both in turn on a quiet machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "results/summary.h"

namespace crashworthy {

inline constexpr std::size_t kMostGateLines = 5;
inline constexpr double kGateLevel = 0.95;  // One-sided, of each gate line by itself.

enum class ComparisonVerdict { kPass, kFail, kInconclusive };
const char* comparison_verdict_name(ComparisonVerdict verdict);
// 0 pass, 1 fail, 3 inconclusive.
int comparison_exit_code(ComparisonVerdict verdict);

// One gate line for one cell.
struct GateComparison {
  std::string path;  // arm.fault.measure
  std::string measure;
  std::string unit;
  double margin = 0;
  std::string margin_text;
  bool lower_is_better = true;
  bool paired = false;
  std::size_t samples = 0;                    // Pairs; or the contender's samples, when not paired.
  std::size_t left_out = 0;                   // Blocks or samples without a value on one side.
  std::optional<double> baseline, contender;  // Medians, in `unit`; empty when never reached.
  std::optional<double> ratio;                // contender / baseline, of times or rates.
  std::optional<double> low, high;            // 95% interval of the ratio; infinite ends are empty.
  std::optional<double> minimum_detectable_effect;  // Beside an inconclusive verdict.
  ComparisonVerdict verdict = ComparisonVerdict::kInconclusive;
  std::string reason;  // Why there is no ratio, no interval or no decision.
};

// A count of items that grew.
struct ItemChange {
  std::string arm, fault;
  std::string what;  // "lost", "duplicated", ...
  std::int64_t baseline = 0, contender = 0;
  int baseline_trials = 0, contender_trials = 0;
  bool failure = false;  // Else a note.
};

struct Comparison {
  std::string experiment;
  std::string baseline_run, contender_run;
  ComparisonVerdict verdict = ComparisonVerdict::kInconclusive;
  std::vector<std::string> reasons;  // Why the verdict is not pass.
  std::vector<GateComparison> gate;
  std::vector<ItemChange> items;
  std::vector<std::string>
      broken;  // Expectations of the contender's own file that are false: a failure.
  std::vector<std::string> unproved;  // Faults that did not happen, in either run: never a pass.
  std::size_t cells = 0;              // That both runs have.
  std::vector<std::string> warnings;
};

// Judges `contender` by the gate of `baseline`. A run compared with itself passes, with ratios of
// exactly 1. Fails with kIncomparable (exit code 4) when schema, fingerprint or arming differ, when
// no cell is in both, or when the baseline has no gate line.
Result<Comparison> compare(const Summary& baseline, const Summary& contender);

nlohmann::json to_json(const Comparison& comparison);

}  // namespace crashworthy

#include "results/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "results/expectation.h"
#include "results/statistics/statistics.h"

namespace crashworthy {
namespace {

using nlohmann::json;
using statistics::kCensored;

Error incomparable(std::string message, std::string hint) {
  return {ErrorKind::kIncomparable, 0, std::move(message), std::move(hint)};
}

std::size_t common_cells(const Summary& baseline, const Summary& contender) {
  return static_cast<std::size_t>(std::count_if(
      baseline.cells.begin(), baseline.cells.end(),
      [&](const CellSummary& cell) { return contender.cell(cell.arm, cell.fault) != nullptr; }));
}

std::optional<Error> why_incomparable(const Summary& baseline, const Summary& contender) {
  if (baseline.schema != contender.schema) {
    return incomparable(fmt::format("unable to compare results of schema {} with schema {}",
                                    baseline.schema, contender.schema),
                        "compute both again with `crashworthy report DIR`");
  }
  if (baseline.fingerprint != contender.fingerprint) {
    return incomparable(
        fmt::format("unable to compare runs of different machines or builds: the baseline has "
                    "fingerprint '{}', the contender '{}'",
                    baseline.fingerprint, contender.fingerprint),
        "run the baseline again here, best in turn with the contender");
  }
  if (baseline.disarmed != contender.disarmed) {
    return incomparable("unable to compare a disarmed run with an armed one",
                        "run both with faults, or both with --disarm");
  }
  if (common_cells(baseline, contender) == 0) {
    return incomparable("unable to compare runs that have no cell (arm and fault) in common",
                        "run the same experiment file for both");
  }
  if (baseline.gate.empty()) {
    return incomparable(
        "the baseline has no gate, so nothing says which measures matter and how much worse is too "
        "much",
        R"(add to its experiment file "gate": [{"measure": "ARM.none.throughput", "margin": "5%"}])"
        ", and run it again");
  }
  return std::nullopt;
}

// The samples of one measure in one cell, by block; kCensored where it was never reached.
std::map<int, double> samples_of(const MeasureSummary& measure, const std::string& name) {
  // The cost is kept as a difference from 1; its ratio is what can be compared by ratio.
  const double offset = name == "protection_cost" ? 1 : 0;
  std::map<int, double> out;
  for (std::size_t i = 0; i < measure.samples.size() && i < measure.blocks.size(); ++i) {
    const bool censored = i < measure.sample_censored.size() && measure.sample_censored[i];
    if (measure.samples[i]) out[measure.blocks[i]] = *measure.samples[i] + offset;
    if (!measure.samples[i] && censored) out[measure.blocks[i]] = kCensored;
  }
  return out;
}

struct Samples {
  std::vector<double> baseline, contender;
  std::size_t left_out = 0;
};

Samples pair_by_block(const std::map<int, double>& baseline,
                      const std::map<int, double>& contender) {
  Samples out;
  for (const auto& [block, value] : baseline) {
    const auto found = contender.find(block);
    if (found == contender.end()) continue;
    out.baseline.push_back(value);
    out.contender.push_back(found->second);
  }
  out.left_out = baseline.size() + contender.size() - 2 * out.baseline.size();
  return out;
}

Samples two_groups(const std::map<int, double>& baseline, const std::map<int, double>& contender) {
  Samples out;
  for (const auto& [block, value] : baseline) out.baseline.push_back(value);
  for (const auto& [block, value] : contender) out.contender.push_back(value);
  return out;
}

std::optional<double> finite(double value) {
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::optional<double> median_of(const std::vector<double>& samples) {
  const auto estimate = statistics::median_estimate(samples);
  return estimate ? finite(estimate->value) : std::nullopt;
}

bool identical(const Samples& samples) {
  return !samples.baseline.empty() && samples.baseline == samples.contender &&
         std::any_of(samples.baseline.begin(), samples.baseline.end(),
                     [](double value) { return std::isfinite(value); });
}

Result<statistics::RatioEstimate> ratio_of(const Samples& samples, bool paired, double confidence) {
  return paired ? statistics::paired_log_ratio(samples.baseline, samples.contender, confidence)
                : statistics::unpaired_log_ratio(samples.baseline, samples.contender, confidence);
}

ComparisonVerdict to_verdict(statistics::Verdict verdict) {
  switch (verdict) {
    case statistics::Verdict::kPass:
      return ComparisonVerdict::kPass;
    case statistics::Verdict::kFail:
      return ComparisonVerdict::kFail;
    case statistics::Verdict::kInconclusive:
      return ComparisonVerdict::kInconclusive;
  }
  return ComparisonVerdict::kInconclusive;
}

// Estimate with its 95% interval for the reader, verdict by the one-sided bounds at kGateLevel.
void judge_samples(const Samples& samples, GateComparison& line) {
  if (identical(samples) && line.paired) {
    line.ratio = line.low = line.high = 1;
    line.verdict = ComparisonVerdict::kPass;
    return;
  }
  const auto shown = ratio_of(samples, line.paired, 0.95);
  const auto judged = ratio_of(samples, line.paired, statistics::gate_confidence(1 - kGateLevel));
  if (!shown || !judged) {
    line.reason = (shown ? judged : shown).error().message;
    return;
  }
  line.ratio = finite(shown->ratio.value);
  if (const auto& interval = shown->ratio.interval) {
    line.low = finite(interval->low);
    line.high = finite(interval->high);
  }
  line.left_out += shown->dropped_pairs;
  line.verdict = to_verdict(
      statistics::non_inferior(judged->ratio.interval, line.margin, line.lower_is_better));
  if (line.verdict != ComparisonVerdict::kInconclusive) return;
  line.minimum_detectable_effect = shown->minimum_detectable_effect;
  line.reason = judged->ratio.reason.empty()
                    ? "the interval reaches across the margin: more blocks "
                      "or a quieter machine would decide"
                    : judged->ratio.reason;
}

GateComparison compare_line(const GateLine& gate, const MeasurePath& path, const Summary& baseline,
                            const Summary& contender) {
  GateComparison line;
  line.path = path.arm + "." + path.fault + "." + path.measure;
  line.measure = path.measure;
  line.unit = measure_unit(path.measure);
  line.margin = gate.margin;
  line.margin_text = gate.margin_text;
  line.lower_is_better = !higher_is_better(path.measure);
  if (!(gate.margin >= 0) || (!line.lower_is_better && gate.margin >= 1)) {
    line.reason = "the margin must lie between 0% and 100%";
    return line;
  }
  std::array<std::map<int, double>, 2> sides;
  const std::array<std::pair<const Summary*, const char*>, 2> runs{
      {{&baseline, "baseline"}, {&contender, "contender"}}};
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const CellSummary* cell = runs[i].first->cell(path.arm, path.fault);
    if (cell != nullptr && cell->measures.contains(path.measure)) {
      sides[i] = samples_of(cell->measures.at(path.measure), path.measure);
    }
    if (!sides[i].empty()) continue;
    line.reason = fmt::format("the {} has no sample of it", runs[i].second);
    if (cell != nullptr && cell->measures.contains(path.measure)) {
      const std::string& why = cell->measures.at(path.measure).reason;
      if (!why.empty()) line.reason += ": " + why;
    }
    return line;
  }
  Samples samples = pair_by_block(sides[0], sides[1]);
  line.paired = baseline.seed == contender.seed && baseline.plan_hash == contender.plan_hash &&
                !samples.baseline.empty();
  if (!line.paired) samples = two_groups(sides[0], sides[1]);
  line.samples = samples.contender.size();
  line.left_out = samples.left_out;
  line.baseline = median_of(samples.baseline);
  line.contender = median_of(samples.contender);
  judge_samples(samples, line);
  return line;
}

bool matches(const std::string& pattern, const std::string& name) {
  return pattern == "*" || pattern == name;
}

// A line with `*` becomes one for every cell that the baseline has.
void compare_gate(const GateLine& gate, const Summary& baseline, const Summary& contender,
                  Comparison& out, std::set<std::string>& arms) {
  const auto path = parse_measure_path(gate.measure);
  if (!path || path->is_count()) {
    GateComparison line;
    line.path = gate.measure;
    line.margin_text = gate.margin_text;
    line.reason = path ? "counts of items are compared without a gate: remove the line"
                       : path.error().message;
    out.gate.push_back(std::move(line));
    return;
  }
  const std::size_t before = out.gate.size();
  for (const CellSummary& cell : baseline.cells) {
    if (!matches(path->arm, cell.arm) || !matches(path->fault, cell.fault)) continue;
    arms.insert(cell.arm);
    out.gate.push_back(
        compare_line(gate, {cell.arm, cell.fault, path->measure}, baseline, contender));
  }
  if (out.gate.size() == before) {
    out.gate.push_back(compare_line(gate, *path, baseline, contender));
  }
}

struct Counted {
  std::string what;
  std::int64_t baseline, contender;
  bool any_increase_fails;
  bool first_fails = true;
};

// `control`: of cells without a fault.
std::vector<Counted> counts_of(const ItemCounts& a, const ItemCounts& b, bool control) {
  std::vector<Counted> out;
  for (const ItemClass c :
       {ItemClass::kCorrupt, ItemClass::kLost, ItemClass::kFailed, ItemClass::kUnfinished}) {
    const bool strict = c == ItemClass::kCorrupt || c == ItemClass::kLost;
    out.push_back({item_class_name(c), a.of(c), b.of(c), strict});
  }
  out.push_back({"duplicated", a.duplicated, b.duplicated, true});
  out.push_back({"misplaced", a.misplaced, b.misplaced, true});
  out.push_back({"extra", a.extra, b.extra, false, control});
  out.push_back({"stale temporary", a.stale_temporary, b.stale_temporary, false, control});
  return out;
}

void compare_items(const CellSummary& baseline, const CellSummary& contender, bool gated,
                   std::vector<ItemChange>& out) {
  for (const Counted& counted :
       counts_of(baseline.items, contender.items, baseline.fault == "none")) {
    if (counted.contender <= counted.baseline) continue;
    const bool fails = baseline.trials > 0 &&
                       ((counted.baseline == 0 && counted.first_fails) ||
                        (counted.any_increase_fails && baseline.trials == contender.trials));
    out.push_back({baseline.arm, baseline.fault, counted.what, counted.baseline, counted.contender,
                   baseline.trials, contender.trials, gated && fails});
  }
}

// What keeps a run from proving anything about protection.
void find_unproved(const Summary& run, const char* side, const std::set<std::string>& gated_arms,
                   Comparison& out) {
  for (const CellSummary& cell : run.cells) {
    if (cell.fault == "none" || cell.confirmed == cell.trials || run.disarmed) continue;
    if (!gated_arms.contains(cell.arm)) continue;
    out.unproved.push_back(fmt::format("{}: {}.{}: {} of {} injections confirmed", side, cell.arm,
                                       cell.fault, cell.confirmed, cell.trials));
  }
  if (run.verdict == RunVerdict::kFail)
    out.broken.push_back(std::string(side) + ": an expectation of its own is false");
  if (run.verdict == RunVerdict::kError)
    out.unproved.push_back(std::string(side) + ": the harness failed");
}

void decide(Comparison& out) {
  bool failed = !out.broken.empty();
  bool open = out.gate.empty() || !out.unproved.empty();
  for (const GateComparison& line : out.gate) {
    if (line.verdict == ComparisonVerdict::kPass) continue;
    const bool fails = line.verdict == ComparisonVerdict::kFail;
    failed = failed || fails;
    open = open || !fails;
    out.reasons.push_back(
        fails ? fmt::format("{} is worse by more than {}", line.path, line.margin_text)
              : fmt::format("{} is inconclusive: {}", line.path, line.reason));
  }
  for (const ItemChange& change : out.items) {
    if (!change.failure) continue;
    failed = true;
    out.reasons.push_back(fmt::format("{}.{}: {} items {}, {} in the baseline", change.arm,
                                      change.fault, change.contender, change.what,
                                      change.baseline));
  }
  out.reasons.insert(out.reasons.end(), out.broken.begin(), out.broken.end());
  out.reasons.insert(out.reasons.end(), out.unproved.begin(), out.unproved.end());
  out.verdict = failed ? ComparisonVerdict::kFail
                       : (open ? ComparisonVerdict::kInconclusive : ComparisonVerdict::kPass);
}

void warn(const Summary& baseline, const Summary& contender, Comparison& out) {
  if (baseline.experiment != contender.experiment) {
    out.warnings.push_back("the runs are of different experiments: '" + baseline.experiment +
                           "' and '" + contender.experiment + "'");
  }
  if (baseline.fingerprint.empty()) {
    out.warnings.push_back("neither run knows its machine: the difference may be the machine's");
  }
  if (baseline.seed != contender.seed) {
    out.warnings.push_back(fmt::format(
        "other seeds ({} and {}), so samples are not paired and the result is advisory; run the "
        "contender with --seed {}",
        baseline.seed, contender.seed, baseline.seed));
  }
  if (out.gate.size() > kMostGateLines) {
    out.warnings.push_back(
        fmt::format("{} gate lines, each at {:.0f}%: some will fail by chance; keep to {}",
                    out.gate.size(), kGateLevel * 100, kMostGateLines));
  }
  for (const CellSummary& cell : baseline.cells) {
    if (contender.cell(cell.arm, cell.fault) == nullptr) {
      out.warnings.push_back("the contender did not run " + cell.arm + "." + cell.fault);
    }
  }
  if (contender.verdict != RunVerdict::kPass) {
    out.warnings.push_back(std::string("the contender's own verdict is ") +
                           run_verdict_name(contender.verdict));
  }
}

json number_or_null(const std::optional<double>& value) {
  return value ? json(*value) : json(nullptr);
}

json in_unit(const std::optional<double>& value, const std::string& unit) {
  if (value && unit == "ns") return std::llround(*value);
  return number_or_null(value);
}

json gate_to_json(const GateComparison& line) {
  return {{"path", line.path},
          {"unit", line.unit},
          {"margin", line.margin},
          {"better", line.lower_is_better ? "lower" : "higher"},
          {"paired", line.paired},
          {"samples", line.samples},
          {"left_out", line.left_out},
          {"baseline", in_unit(line.baseline, line.unit)},
          {"contender", in_unit(line.contender, line.unit)},
          {"ratio", number_or_null(line.ratio)},
          {"low", number_or_null(line.low)},
          {"high", number_or_null(line.high)},
          {"minimum_detectable_effect", number_or_null(line.minimum_detectable_effect)},
          {"verdict", comparison_verdict_name(line.verdict)},
          {"reason", line.reason}};
}

}  // namespace

const char* comparison_verdict_name(ComparisonVerdict verdict) {
  switch (verdict) {
    case ComparisonVerdict::kPass:
      return "pass";
    case ComparisonVerdict::kFail:
      return "fail";
    case ComparisonVerdict::kInconclusive:
      return "inconclusive";
  }
  return "unknown";
}

int comparison_exit_code(ComparisonVerdict verdict) {
  switch (verdict) {
    case ComparisonVerdict::kPass:
      return 0;
    case ComparisonVerdict::kFail:
      return 1;
    case ComparisonVerdict::kInconclusive:
      return 3;
  }
  return 3;
}

Result<Comparison> compare(const Summary& baseline, const Summary& contender) {
  if (auto reason = why_incomparable(baseline, contender)) return *std::move(reason);
  Comparison out;
  out.experiment = baseline.experiment;
  out.baseline_run = baseline.run;
  out.contender_run = contender.run;
  out.cells = common_cells(baseline, contender);
  std::set<std::string> gated_arms;
  for (const GateLine& line : baseline.gate) {
    compare_gate(line, baseline, contender, out, gated_arms);
  }
  for (const CellSummary& cell : baseline.cells) {
    const CellSummary* other = contender.cell(cell.arm, cell.fault);
    if (other != nullptr) compare_items(cell, *other, gated_arms.contains(cell.arm), out.items);
  }
  warn(baseline, contender, out);
  find_unproved(baseline, "baseline", gated_arms, out);
  out.broken.clear();  // What the baseline broke is not the contender's regression.
  find_unproved(contender, "contender", gated_arms, out);
  decide(out);
  return out;
}

json to_json(const Comparison& comparison) {
  json gate = json::array();
  for (const GateComparison& line : comparison.gate) gate.push_back(gate_to_json(line));
  json items = json::array();
  for (const ItemChange& change : comparison.items) {
    items.push_back({{"arm", change.arm},
                     {"fault", change.fault},
                     {"what", change.what},
                     {"baseline", change.baseline},
                     {"contender", change.contender},
                     {"baseline_trials", change.baseline_trials},
                     {"contender_trials", change.contender_trials},
                     {"failure", change.failure}});
  }
  return {{"schema", kSchemaVersion},
          {"experiment", comparison.experiment},
          {"baseline_run", comparison.baseline_run},
          {"contender_run", comparison.contender_run},
          {"verdict", comparison_verdict_name(comparison.verdict)},
          {"reasons", comparison.reasons},
          {"level", kGateLevel},
          {"gate", std::move(gate)},
          {"items", std::move(items)},
          {"cells", comparison.cells},
          {"warnings", comparison.warnings}};
}

}  // namespace crashworthy

#include "results/expectation.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <utility>

#include "harness/os/clock.h"

namespace crashworthy {
namespace {

struct MeasureRow {
  const char* name;
  const char* unit;
};
constexpr std::array<MeasureRow, 14> kMeasures{{{"throughput", "items/s"},
                                                {"makespan", "ns"},
                                                {"detect", "ns"},
                                                {"initiate", "ns"},
                                                {"repair", "ns"},
                                                {"process", "ns"},
                                                {"first_good", "ns"},
                                                {"outage_gap", "ns"},
                                                {"equivalent_outage", "ns"},
                                                {"first_effect", "ns"},
                                                {"next_good", "ns"},
                                                {"quiesced", "ns"},
                                                {"redone", "count"},
                                                {"protection_cost", "ratio"}}};
constexpr std::array<const char*, 13> kItemNames{
    "offered",    "ok",        "corrupt", "failed", "lost",  "unfinished",
    "duplicated", "misplaced", "torn",    "empty",  "extra", "stale_temporary",
    "redone"};

std::string known_measures() {
  std::string names;
  for (const MeasureRow& row : kMeasures) names += std::string(row.name) + ", ";
  names += "recovered, items.";
  for (const char* name : kItemNames)
    names += std::string(name) + (name == kItemNames.back() ? "" : "|");
  return names;
}

bool known_measure(std::string_view name) {
  if (name == "recovered" || !measure_unit(name).empty()) return true;
  if (!name.starts_with("items.")) return false;
  for (const char* item : kItemNames) {
    if (name.substr(6) == item) return true;
  }
  return false;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

Result<double> parse_value(std::string_view text, const MeasurePath& path) {
  if (measure_unit(path.measure) == "ns") {
    auto duration = parse_duration(text);
    if (!duration) return duration.error();
    return static_cast<double>(duration->count());
  }
  double value = 0;
  const char* end = text.data() + text.size();
  auto [rest, failure] = std::from_chars(text.data(), end, value);
  if (failure != std::errc()) return usage_error("'" + std::string(text) + "' is not a number");
  const std::string_view unit =
      trimmed(std::string_view(rest, static_cast<std::size_t>(end - rest)));
  if (unit == "%") return value / 100;
  if (unit.empty() || unit == "/s" || unit == "items/s") return value;
  return usage_error("'" + std::string(unit) + "' is no unit of " + path.measure);
}

std::int64_t count_of(const CellSummary& cell, std::string_view measure) {
  const ItemCounts& items = cell.items;
  if (measure == "recovered") return cell.recovered;
  const std::string_view name = measure.substr(6);
  if (name == "offered") return items.offered;
  if (name == "duplicated") return items.duplicated;
  if (name == "misplaced") return items.misplaced;
  if (name == "torn") return items.torn;
  if (name == "empty") return items.empty;
  if (name == "extra") return items.extra;
  if (name == "stale_temporary") return items.stale_temporary;
  if (name == "redone") return items.redone;
  for (std::size_t i = 0; i < kItemClassCount; ++i) {
    if (name == item_class_name(static_cast<ItemClass>(i))) return items.classes[i];
  }
  return 0;
}

bool compare_exactly(double found, const std::string& comparison, double wanted) {
  if (comparison == "==") return found == wanted;
  if (comparison == "<") return found < wanted;
  if (comparison == "<=") return found <= wanted;
  if (comparison == ">") return found > wanted;
  return found >= wanted;
}

enum class Truth { kTrue, kUndecided, kFalse };

// The whole interval must lie on the right side; all of it on the wrong side is false; else nobody
// knows.
Truth compare_interval(double low, double high, const std::string& comparison, double wanted) {
  const bool low_holds = compare_exactly(low, comparison, wanted);
  const bool high_holds = compare_exactly(high, comparison, wanted);
  if (low_holds && high_holds) return Truth::kTrue;
  if (!low_holds && !high_holds) return Truth::kFalse;
  return Truth::kUndecided;
}

std::string with_unit(double value, const std::string& unit) {
  if (unit == "ns") return format_duration(value);
  if (unit == "ratio") return fmt::format("{:+.1f}%", value * 100);
  return unit == "count" ? fmt::format("{:g}", value) : fmt::format("{:.3g} {}", value, unit);
}

std::pair<Truth, std::string> judge_measure(const Expectation& expectation,
                                            const CellSummary& cell) {
  const auto found = cell.measures.find(expectation.path.measure);
  if (found == cell.measures.end()) return {Truth::kUndecided, "was not measured"};
  const MeasureSummary& measure = found->second;
  if (measure.low && (measure.high || measure.censored || measure.estimate)) {
    // Without an upper end, but with a lower one, some trials never got there: the end is infinite.
    const bool open = !measure.high;
    const double high = measure.high.value_or(std::numeric_limits<double>::infinity());
    const Truth truth =
        compare_interval(*measure.low, high, expectation.comparison, expectation.value);
    return {truth, fmt::format("lies in [{}, {}]", with_unit(*measure.low, measure.unit),
                               open ? "never" : with_unit(high, measure.unit))};
  }
  return {Truth::kUndecided, "is not known: " + measure.reason};
}

std::pair<Truth, std::string> judge(const Expectation& expectation, const CellSummary& cell) {
  if (!expectation.path.is_count()) return judge_measure(expectation, cell);
  if (cell.trials == 0) return {Truth::kUndecided, "is not known: no trial of this cell was run"};
  const std::int64_t count = count_of(cell, expectation.path.measure);
  const bool holds =
      compare_exactly(static_cast<double>(count), expectation.comparison, expectation.value);
  return {holds ? Truth::kTrue : Truth::kFalse, fmt::format("is {}", count)};
}

bool matches(const std::string& pattern, const std::string& name) {
  return pattern == "*" || pattern == name;
}

}  // namespace

std::string measure_unit(std::string_view measure) {
  for (const MeasureRow& row : kMeasures) {
    if (measure == row.name) return row.unit;
  }
  return {};
}

bool higher_is_better(std::string_view measure) { return measure == "throughput"; }

Result<MeasurePath> parse_measure_path(std::string_view text) {
  const std::size_t first = text.find('.');
  const std::size_t second = first == std::string_view::npos ? first : text.find('.', first + 1);
  if (second == std::string_view::npos || first == 0 || second == first + 1) {
    return usage_error("'" + std::string(text) + "' is no measure path",
                       "write ARM.FAULT.MEASURE: \"supervised.kill.first_good\"");
  }
  MeasurePath path{std::string(text.substr(0, first)),
                   std::string(text.substr(first + 1, second - first - 1)),
                   std::string(text.substr(second + 1))};
  if (!known_measure(path.measure)) {
    return usage_error("unknown measure '" + path.measure + "'",
                       "known measures: " + known_measures());
  }
  return path;
}

Result<Expectation> parse_expectation(std::string_view text) {
  const std::size_t at = text.find_first_of("<>=!");
  if (at == std::string_view::npos) {
    return usage_error("'" + std::string(text) + "' compares nothing",
                       "write \"ARM.FAULT.MEASURE < VALUE\"");
  }
  const std::size_t end = text.find_first_not_of("<>=!", at);
  Expectation expectation;
  expectation.text = std::string(text);
  expectation.comparison =
      std::string(text.substr(at, end == std::string_view::npos ? end : end - at));
  static constexpr std::array<const char*, 5> kComparisons{"==", "<", "<=", ">", ">="};
  bool known = false;
  for (const char* comparison : kComparisons) known = known || expectation.comparison == comparison;
  if (!known)
    return usage_error("unknown comparison '" + expectation.comparison + "'",
                       "use ==, <, <=, > or >=");
  auto path = parse_measure_path(trimmed(text.substr(0, at)));
  if (!path) return path.error();
  expectation.path = *path;
  if (expectation.comparison == "==" && !path->is_count()) {
    return usage_error("'==' needs an exact count, and " + path->measure + " is measured",
                       "use < or >");
  }
  auto value = parse_value(trimmed(end == std::string_view::npos ? "" : text.substr(end)), *path);
  if (!value) return value.error();
  expectation.value = *value;
  return expectation;
}

ExpectationResult evaluate(const Expectation& expectation, const Summary& summary) {
  Truth worst = Truth::kTrue;
  std::string detail;
  bool any = false;
  for (const CellSummary& cell : summary.cells) {
    if (!matches(expectation.path.arm, cell.arm) || !matches(expectation.path.fault, cell.fault))
      continue;
    const auto [truth, found] = judge(expectation, cell);
    if (!any || truth > worst) {
      worst = truth;
      detail = cell.arm + "." + cell.fault + "." + expectation.path.measure + " " + found;
    }
    any = true;
  }
  for (const SkippedArm& skipped : summary.skipped_arms) {
    if (skipped.arm == expectation.path.arm)
      return {expectation.text, "undecided", "the arm was skipped: " + skipped.reason};
  }
  if (!any) return {expectation.text, "undecided", "no cell matches"};
  static constexpr std::array<const char*, 3> kNames{"true", "undecided", "false"};
  return {expectation.text, kNames[static_cast<std::size_t>(worst)], detail};
}

}  // namespace crashworthy

#include "results/report/format.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>

namespace crashworthy::report {
namespace {

struct Scale {
  double factor = 1;
  std::string suffix;
};

Scale scale_of(double value, std::string_view unit, const Script& script) {
  const double size = std::abs(value);
  if (unit == "ns") {
    if (size >= 1e9) return {1e-9, " s"};
    if (size >= 1e6) return {1e-6, " ms"};
    if (size >= 1e3) return {1e-3, std::string(" ") + script.micro};
    return {1, size == 0 ? " ms" : " ns"};
  }
  if (unit == "items/s") return {1, "/s"};
  return {};
}

int magnitude(double value) {
  return value == 0 ? 0 : static_cast<int>(std::floor(std::log10(std::abs(value))));
}

// Three significant digits of the value, and enough for two of the interval's width, at most six
// after the point.
int decimals_for(double value, std::optional<double> low, std::optional<double> high) {
  int decimals = std::clamp(2 - magnitude(value), 0, 6);
  if (low && high && std::isfinite(*low) && std::isfinite(*high) && *high > *low) {
    const int needed = 1 - magnitude(*high - *low);
    decimals = std::clamp(std::max(decimals, needed), 0, std::min(decimals + 2, 6));
  }
  return value == 0 ? 0 : decimals;
}

std::string fixed(double value, int decimals, const Script& script, bool signed_value = false) {
  if (std::isnan(value)) return script.none;
  if (std::isinf(value)) return script.infinity;
  std::string digits = fmt::format("{:.{}f}", std::abs(value), decimals);
  const bool zero = digits.find_first_not_of("0.") == std::string::npos;
  if (value < 0 && !zero) return script.minus + digits;
  return signed_value && !zero ? "+" + digits : digits;
}

}  // namespace

std::string number(double value, const Script& script) {
  if (!std::isfinite(value)) return fixed(value, 0, script);
  return fixed(value, decimals_for(value, {}, {}), script);
}

std::string count(std::int64_t value) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string percent(double fraction, const Script& script, bool signed_value) {
  return fixed(fraction * 100, 1, script, signed_value) + (std::isfinite(fraction) ? "%" : "");
}

ShownValue show_value(double value, std::optional<double> low, std::optional<double> high,
                      std::string_view unit, const Script& script) {
  const Scale scale = scale_of(value, unit, script);
  const auto scaled = [&](std::optional<double> end) -> std::optional<double> {
    return end ? std::optional(*end * scale.factor) : std::nullopt;
  };
  if (!std::isfinite(value)) return {fixed(value, 0, script), {}};
  const double shown = value * scale.factor;
  int decimals = decimals_for(shown, scaled(low), scaled(high));
  if (unit == "count" && shown == std::floor(shown)) decimals = 0;
  ShownValue out{fixed(shown, decimals, script) + scale.suffix, {}};
  if (low) {
    out.interval = fmt::format("[{}, {}]", fixed(*scaled(low), decimals, script),
                               high ? fixed(*scaled(high), decimals, script) : script.infinity);
  }
  return out;
}

std::string show_value(double value, std::string_view unit, const Script& script) {
  return show_value(value, {}, {}, unit, script).value;
}

ShownValue show_change(double change, std::optional<double> low, std::optional<double> high,
                       const Script& script) {
  ShownValue out{percent(change, script, true), {}};
  if (low) {
    out.interval = fmt::format("[{}, {}]", percent(*low, script, true),
                               high ? percent(*high, script, true) : script.infinity);
  }
  return out;
}

ShownValue show_measure(std::string_view name, const MeasureSummary& measure,
                        const Script& script) {
  if (name == "protection_cost") {
    return show_change(*measure.estimate, measure.low, measure.high, script);
  }
  return show_value(*measure.estimate, measure.low, measure.high, measure.unit, script);
}

int trials_that_count(const CellSummary& cell) {
  return cell.fault == "none" ? cell.trials : cell.confirmed;
}

ShownShare show_recovered(const CellSummary& cell, const Script& script) {
  const int trials = trials_that_count(cell);
  ShownShare out{fmt::format("{}/{}", cell.recovered, trials), {}};
  if (trials == 0) {
    out.bound = cell.fault == "none" ? "no trial" : "no confirmed fault";
  } else if (cell.recovered == trials) {
    out.bound = script.at_least + percent(cell.recovered_low, script);
  } else if (cell.recovered == 0) {
    out.bound = script.at_most + percent(cell.recovered_high, script);
  } else {
    out.bound = percent(cell.recovered_low, script) + " to " + percent(cell.recovered_high, script);
  }
  return out;
}

std::string rerun_text(const CellSummary& cell) {
  return cell.rerun == 0 ? std::string("-") : fmt::format("{}/{}", cell.rerun_whole, cell.rerun);
}

std::string stalls_text(const CellSummary& cell) {
  std::string text;
  for (const auto& [kind, trials] : cell.stalls) {
    const std::string word = kind == "hang" ? "hung" : kind == "disk" ? "over its disk" : kind;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", trials, word);
  }
  return text.empty() ? "0" : text;
}

std::string measure_label(std::string_view measure) {
  struct Row {
    std::string_view name;
    const char* label;
  };
  static constexpr std::array<Row, 4> kLabels{{{"first_good", "first good work"},
                                               {"next_good", "next good output"},
                                               {"redone", "redone work"},
                                               {"protection_cost", "protection cost"}}};
  for (const Row& row : kLabels) {
    if (row.name == measure) return row.label;
  }
  return words(measure);
}

std::string words(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '_', ' ');
  return out;
}

std::string upper(std::string_view name) {
  std::string out(name);
  for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return out;
}

std::vector<std::string> arms_of(const Summary& summary) {
  std::vector<std::string> arms;
  for (const CellSummary& cell : summary.cells) {
    if (std::find(arms.begin(), arms.end(), cell.arm) == arms.end()) arms.push_back(cell.arm);
  }
  return arms;
}

std::vector<std::string> faults_of(const Summary& summary) {
  std::vector<std::string> faults;
  for (const CellSummary& cell : summary.cells) {
    if (std::find(faults.begin(), faults.end(), cell.fault) == faults.end()) {
      faults.push_back(cell.fault);
    }
  }
  std::stable_partition(faults.begin(), faults.end(),
                        [](const std::string& fault) { return fault == "none"; });
  return faults;
}

const MeasureSummary* find_measure(const CellSummary* cell, const std::string& name) {
  if (cell == nullptr) return nullptr;
  const auto found = cell->measures.find(name);
  return found == cell->measures.end() ? nullptr : &found->second;
}

std::string reference_arm(const Summary& summary) {
  std::string reference;
  for (const CellSummary& cell : summary.cells) {
    const MeasureSummary* cost = find_measure(&cell, "protection_cost");
    if (cell.fault != "none" || (cost != nullptr && cost->estimate)) continue;
    if (!reference.empty()) return {};
    reference = cell.arm;
  }
  return reference;
}

}  // namespace crashworthy::report

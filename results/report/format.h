// How numbers, intervals and shares are written for people; the same words in every report.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "results/summary.h"

namespace crashworthy::report {

// Plain for terminals, typographic for pages. Both are safe in HTML once passed through html(),
// and neither holds a control character.
struct Script {
  const char* micro;
  const char* minus;
  const char* at_least;
  const char* at_most;
  const char* none;      // Where there is nothing to show.
  const char* infinity;  // The end of an interval that was never reached.
};
inline constexpr Script kPlain{"us", "-", ">= ", "<= ", "-", "never"};
inline constexpr Script kTypographic{"µs", "−", "≥ ", "≤ ", "–", "never"};

// `value` with three significant digits, but no fewer than all before the point: "257", "46.0".
std::string number(double value, const Script& script);
// Groups of three digits, "12,300".
std::string count(std::int64_t value);
// "12.5%"; with a sign when `signed_value`.
std::string percent(double fraction, const Script& script, bool signed_value = false);

// A number of `unit` ("ns", "items/s", "ratio", "count"), with its interval in the same scale. With
// a low end alone, the other one was never reached.
struct ShownValue {
  std::string value;     // "46.0 ms"
  std::string interval;  // "[44.0, 48.1]", or empty.
};
ShownValue show_value(double value, std::optional<double> low, std::optional<double> high,
                      std::string_view unit, const Script& script);
// "46.0 ms".
std::string show_value(double value, std::string_view unit, const Script& script);
// A relative difference: -0.027 is "-2.7%".
ShownValue show_change(double change, std::optional<double> low, std::optional<double> high,
                       const Script& script);
// The estimate of `measure` with its interval; the protection cost as a difference in percent. Only
// when there is an estimate.
ShownValue show_measure(std::string_view name, const MeasureSummary& measure, const Script& script);

// "10/10 (>= 72.2%)", "0/10 (<= 27.8%)", "7/10 (39.7% to 89.2%)", "0/0 (no confirmed fault)".
struct ShownShare {
  std::string count;  // "10/10"
  std::string bound;  // ">= 72.2%"
};
ShownShare show_recovered(const CellSummary& cell, const Script& script);

// Why trials of a cell did not end in time: "2 hung, 1 slow"; "0" for none.
std::string stalls_text(const CellSummary& cell);
// "3/5": whole when run again, of those that were; "-": none was.
std::string rerun_text(const CellSummary& cell);

// What a reader calls a measure: "first_good" is "first good output". Unknown names are printed as
// they are.
std::string measure_label(std::string_view measure);

// "not activated": an outcome's or verdict's name in a file, as words.
std::string words(std::string_view name);
std::string upper(std::string_view name);
// -- The table of a summary --

// In the order of first appearance; "none" comes first among the faults.
std::vector<std::string> arms_of(const Summary& summary);
std::vector<std::string> faults_of(const Summary& summary);
const MeasureSummary* find_measure(const CellSummary* cell, const std::string& name);
// The trials that a share of recovered ones refers to.
int trials_that_count(const CellSummary& cell);
// The arm that the protection costs of the others are relative to; empty when it is not evident.
std::string reference_arm(const Summary& summary);

}  // namespace crashworthy::report

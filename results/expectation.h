// Expectations: "supervised.*.items.lost == 0", "supervised.kill.first_good < 20ms". Judged on the
// interval, not on the point.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "harness/os/result.h"
#include "results/summary.h"

namespace crashworthy {

// ARM.FAULT.MEASURE, or ARM.FAULT.items.CLASS, or ARM.FAULT.recovered; ARM and FAULT may be `*`.
struct MeasurePath {
  std::string arm;
  std::string fault;
  std::string measure;  // "first_good", "items.lost", "recovered".
  bool is_count() const { return measure.starts_with("items.") || measure == "recovered"; }
};
// Refuses what is no path or names an unknown measure, and says which are known.
Result<MeasurePath> parse_measure_path(std::string_view text);

struct Expectation {
  MeasurePath path;
  std::string comparison;  // == < <= > >=
  double value = 0;        // In the measure's own unit: ns, items/s, a ratio or a count.
  std::string text;        // As written.
};
// `==` is for counts: a measured quantity has no exact value.
Result<Expectation> parse_expectation(std::string_view text);

// One result a line; with wildcards the worst of all matching cells counts (false, then undecided).
// A path without a matching cell is undecided.
ExpectationResult evaluate(const Expectation& expectation, const Summary& summary);

// The unit of a measure ("ns", "items/s", "ratio", "count"), empty when unknown.
std::string measure_unit(std::string_view measure);
// True for throughput: more is better. Times, costs and redone work: less is better.
bool higher_is_better(std::string_view measure);

}  // namespace crashworthy

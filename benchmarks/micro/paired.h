// Measures several ways to do one thing in turns, in random order within each round, and prints
// medians and the ratio of each to a yardstick with its 95 % interval, from the pairs of the
// rounds.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy::benchmark {

struct Side {
  std::string name;
  // Does it once, and returns how many nanoseconds it took.
  std::function<Result<double>()> measure;
};

struct Series {
  std::string name;
  std::vector<double> samples;  // Nanoseconds, in the order of the rounds.
};

// `rounds` rounds after `warm_up` ones that are not counted. Says on stderr how far it is when that
// is a terminal. Fails with the first failure of a side, which it names.
Result<std::vector<Series>> measure_in_turns(const std::vector<Side>& sides, int rounds,
                                             int warm_up, std::uint64_t seed);

// A line each: median, p99 (the sample's), ratio to `yardstick` with its interval and the minimum
// detectable effect. `title` says what was measured. Needs at least 6 rounds. Returns the same as
// JSON.
Result<nlohmann::json> report(const std::string& title, const std::vector<Series>& all,
                              std::size_t yardstick, bool print);

}  // namespace crashworthy::benchmark

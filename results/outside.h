// What a trial's history says about a fault from outside alone: its first effect, the next good
// output, the first one of a process born later, and when everything was quiet
// (docs/measures.md).
#pragma once

#include <cstdint>
#include <set>

#include "results/measures.h"

namespace crashworthy {

// Fills in the outside stamps of `result`, and those measures: first_effect, next_good, quiesced.
// `good`: the items that were judged ok. Call it when the other stamps are known.
void measure_from_outside(const TrialHistory& history, const std::set<std::uint64_t>& good,
                          TrialResult& result);

// Activation to the first good output by a process that was born after it, or why that is not
// known.
Sample first_good_from_outside(const TrialHistory& history, const std::set<std::uint64_t>& good,
                               const TrialResult& result);

}  // namespace crashworthy

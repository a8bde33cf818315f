// The baseline gate: what two fault-free runs do not agree on cannot be held against a fault.
#pragma once

#include "harness/experiment/checker.h"
#include "harness/os/result.h"

namespace crashworthy {

// Compares the outputs of two fault-free runs, both kept in their `files`, and gives the golden
// outputs that trials are judged by: the second run's. An output whose bytes differ and whose
// content does not is compared by its content; a text in which nothing but numbers, dates and paths
// change, with those lines masked; a temporary file of one run is left out. Each is noted in the
// result. Anything else is kNoData: which outputs differ, how, and what to try.
Result<Golden> agree(const Golden& first, const Golden& second);

// What the user should know of it, each kind in one sentence: what is compared otherwise than by
// bytes, what cannot be decoded, what was left out.
std::vector<std::string> golden_notes(const Golden& golden);

}  // namespace crashworthy

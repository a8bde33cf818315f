// Settings that are right by themselves and make no sense together, or with this fault.
#pragma once

#include <string>

#include "faults/fault_spec.h"
#include "harness/os/result.h"

namespace crashworthy {

// A number of `key` against its bounds; the error says which would do.
Result<void> check_bounds(const FaultKey& key, std::int64_t number, const std::string& as_written);

// Everything of `fault` that can be known to fail before anything runs. `pointer` is where it lies.
Result<void> check_fault(const FaultSpec& fault, const std::string& pointer);

}  // namespace crashworthy

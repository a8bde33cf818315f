// What an arm needs of the machine: programs and Python modules, each of a Debian package. An arm
// whose needs are not met is skipped, and says so.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "harness/experiment/experiment.h"
#include "results/summary.h"

namespace crashworthy {

// The list in an experiment file; `pointer` is where it lies.
Result<std::vector<Need>> read_needs(const nlohmann::json& value, const std::string& pointer);

// Takes the arms that cannot run here out of `experiment` and returns them with their reasons, in
// order. Fails with kMissing when none is left, or when what all of them need is missing. Starts a
// Python for each module that is asked for.
Result<std::vector<SkippedArm>> skip_arms(Experiment& experiment);

}  // namespace crashworthy

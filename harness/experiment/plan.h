// The plan: every cell of every block, in the order of the run, with its seed. All chance comes
// from the one seed.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "harness/experiment/experiment.h"

namespace crashworthy {

struct PlannedTrial {
  int number = 0;  // From 1, in the order of the run.
  int block = 0;   // From 1.
  int order = 0;   // Position in its block, from 0.
  std::size_t arm = 0;
  std::optional<std::size_t> fault;  // Empty: the twin.
  std::uint64_t seed = 0;
  // One for each fault of the case, the same for all arms of a block: cells of a block differ in
  // nothing else.
  std::vector<Trigger> triggers;
};

// Blocks of all cells (arms x (none + faults)), each in random order.
std::vector<PlannedTrial> make_plan(const Experiment& experiment, int blocks, std::uint64_t seed,
                                    std::int64_t golden_ns);

nlohmann::json to_json(const std::vector<PlannedTrial>& plan, const Experiment& experiment);

// What must agree for two runs to have done the same cells with the same seeds.
std::string plan_hash(const Experiment& experiment, int blocks, std::uint64_t seed);

}  // namespace crashworthy

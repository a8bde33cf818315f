#include "harness/experiment/plan.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "harness/os/random.h"

namespace crashworthy {

using nlohmann::json;

namespace {

std::vector<Trigger> resolve_all(const FaultCase& faults, std::uint64_t seed,
                                 std::int64_t golden_ns) {
  std::vector<Trigger> triggers;
  for (const FaultSpec& fault : faults.faults) {
    triggers.push_back(resolve(fault.trigger, fault.trigger_kind(),
                               derive_seed(seed, "trigger", triggers.size()), golden_ns));
  }
  return triggers;
}

}  // namespace

std::vector<PlannedTrial> make_plan(const Experiment& experiment, int blocks, std::uint64_t seed,
                                    std::int64_t golden_ns) {
  std::vector<PlannedTrial> plan;
  for (int block = 1; block <= blocks; ++block) {
    std::vector<PlannedTrial> cells;
    for (std::size_t arm = 0; arm < experiment.arms.size(); ++arm) {
      PlannedTrial cell;
      cell.block = block;
      cell.arm = arm;
      cells.push_back(cell);
      for (std::size_t fault = 0; fault < experiment.faults.size(); ++fault) {
        cell.fault = fault;
        cell.seed = derive_seed(seed, "fault:" + experiment.faults[fault].name,
                                static_cast<std::uint64_t>(block));
        cell.triggers = resolve_all(experiment.faults[fault], cell.seed, golden_ns);
        cells.push_back(cell);
      }
    }
    Random random(derive_seed(seed, "order", static_cast<std::uint64_t>(block)));
    random.shuffle(cells);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      cells[i].order = static_cast<int>(i);
      cells[i].number = static_cast<int>(plan.size()) + 1;
      plan.push_back(cells[i]);
    }
  }
  return plan;
}

json to_json(const std::vector<PlannedTrial>& plan, const Experiment& experiment) {
  json trials = json::array();
  for (const PlannedTrial& trial : plan) {
    json injections = json::array();
    for (std::size_t i = 0; i < trial.triggers.size(); ++i) {
      injections.push_back(to_json(experiment.faults[*trial.fault].faults[i], trial.triggers[i]));
    }
    trials.push_back({{"trial", trial.number},
                      {"block", trial.block},
                      {"order", trial.order},
                      {"arm", experiment.arms[trial.arm].name},
                      {"fault", trial.fault ? experiment.faults[*trial.fault].name : "none"},
                      {"seed", trial.seed},
                      {"injections", injections}});
  }
  return trials;
}

std::string plan_hash(const Experiment& experiment, int blocks, std::uint64_t seed) {
  std::string text = fmt::format("{} {} {}", experiment.name, blocks, seed);
  for (const ArmSpec& arm : experiment.arms) text += "|" + arm.name;
  for (const FaultCase& faults : experiment.faults) {
    for (const FaultSpec& fault : faults.faults) text += "|" + to_json(fault).dump();
  }
  return fmt::format("{:016x}", derive_seed(0, text));
}

}  // namespace crashworthy

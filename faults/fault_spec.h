// What to inject, into whom, when: one fault of an experiment, as written and as resolved for a
// block.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "faults/catalogue.h"
#include "harness/os/result.h"

namespace crashworthy {

enum class Role { kWorker, kMain, kSupervisor, kAny };
const char* role_name(Role role);

struct VictimRule {
  Role role = Role::kWorker;
  bool holding_item = false;
};

// A number, or a range from which one is drawn a block, so that repeated trials do not all hit the
// same moment.
struct Range {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

struct FaultSpec {
  std::string name;   // In the experiment: "kill".
  std::string fault;  // In the catalogue: "process.kill".
  std::string point;  // "tile.filter", or empty.
  VictimRule victim;
  std::optional<Range> item;      // when.item
  std::optional<Range> hit;       // when.hit
  std::optional<Range> after_ns;  // when.after
  std::int64_t repeat_times = 1;
  std::int64_t repeat_every = 1;
  std::optional<std::uint64_t> headroom;  // set.headroom, bytes

  const FaultRow& row() const;
};

// The trigger of one block: exactly one of these.
struct ResolvedTrigger {
  std::optional<std::int64_t> item;
  std::optional<std::int64_t> hit;
  std::optional<std::int64_t> after_ns;
};

// Reads {"name", "fault": "NAME[@POINT]", "victim", "when", "set"}. `pointer` is the JSON pointer
// of the object, for messages.
Result<FaultSpec> parse_fault(const nlohmann::json& object, const std::string& pointer);

// Draws the moment. `golden_ns` is the duration of a fault-free run, for a fault without `when`.
ResolvedTrigger resolve_trigger(const FaultSpec& fault, std::uint64_t seed, std::int64_t golden_ns);

nlohmann::json to_json(const FaultSpec& fault);
nlohmann::json to_json(const ResolvedTrigger& trigger);

}  // namespace crashworthy

// What to inject, into whom, when: one fault of an experiment, as written.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "faults/catalogue.h"
#include "faults/trigger.h"
#include "harness/os/result.h"

namespace crashworthy {

enum class Role { kWorker, kMain, kSupervisor, kAny };
const char* role_name(Role role);

// Which of those that fit.
enum class Pick { kRandom, kOldest, kNewest, kAll };
const char* pick_name(Pick pick);

struct VictimRule {
  Role role = Role::kWorker;
  bool holding_item = false;
  std::optional<std::int64_t> worker;       // The number of its place,
  std::optional<std::int64_t> incarnation;  // and which of its lives.
  std::string command;                      // A glob: its program's name, or its command line.
  std::optional<std::int64_t> child;  // The n-th process of the tree, by birth, from 1 (the main).
  Pick pick = Pick::kRandom;
  std::int64_t count = 1;  // So many of them, at least 1; nobody fits if there are fewer.
};

// The value of a `set` key: as written, and as a number of its unit (ns, bytes, a signal, an
// errno), where it has one.
struct Setting {
  std::string text;
  std::int64_t number = 0;
};

struct FaultSpec {
  std::string name;   // In the experiment: "kill".
  std::string fault;  // In the catalogue: "process.kill".
  std::string point;  // "tile.filter", "jpeg_read_header", or empty.
  VictimRule victim;
  Trigger trigger;
  std::map<std::string, Setting> settings;  // By key without "set.", fallbacks included.

  const FaultRow& row() const;
  TriggerKind trigger_kind() const { return row().trigger_with(point); }
  bool has(const std::string& key) const { return settings.contains(key); }
  // Of a key that is there.
  std::int64_t number(const std::string& key) const { return settings.at(key).number; }
  const std::string& text(const std::string& key) const { return settings.at(key).text; }
};

// Reads {"name", "fault": "NAME[@POINT]", "victim", "when", "set"}. `pointer` is the JSON pointer
// of the object, for messages.
Result<FaultSpec> parse_fault(const nlohmann::json& object, const std::string& pointer);

// As parse_fault() reads it; `trigger` in the place of its own.
nlohmann::json to_json(const FaultSpec& fault, const Trigger& trigger);
nlohmann::json to_json(const FaultSpec& fault);

}  // namespace crashworthy

// The catalogue: every fault this program can inject, one row each. `crashworthy faults` prints it,
// the parser checks experiment files against it, and docs/faults.md is generated from it. A new
// fault is a row here, a line in the table of outcomes, and a test (see CONTRIBUTING.md).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "faults/trigger.h"

namespace crashworthy {

class Injection;
struct InjectionSetup;

// How the value of a `set` key is written.
enum class KeyType {
  kReserved,  // Of `victim` or `when`, which have readers of their own.
  kCount,     // A whole number of at least 0.
  kDuration,  // "200ms"
  kSize,      // "64M"
  kPortion,   // "50%" (then the number is of that), or a size
  kText,
  kSignal,  // "SIGTERM"
  kErrno,   // "EIO"
  kCalls,   // "write", "write,pwrite64": system calls.
};

struct FaultKey {
  const char* key;      // "when.item", "victim.role", "set.headroom".
  const char* meaning;  // With its unit and default.
  KeyType type = KeyType::kReserved;
  const char* fallback = nullptr;  // As it would be written; null: absent, if it is not given.
  bool required = false;
  // Of a number, in its unit (a portion in percent: of its share).
  std::int64_t least = 0;
  std::int64_t most = INT64_MAX;
};

enum class PointRule {
  kNone,
  kOptional,  // NAME, or NAME@POINT.
  kRequired,  // NAME@POINT
};

struct FaultRow {
  const char* name;
  const char* mechanism;  // The file that does it: "signal", "trace", "notify".
  PointRule point;
  TriggerKind trigger;       // Without a point. With one it is kCounted.
  const char* count_key;     // "hit" or "call" where it is counted, else null.
  const char* summary;       // What it does.
  const char* in_real_life;  // What it stands for.
  const char* proof;         // How activation is proved.
  const char* undone;        // How it is healed.
  const char* needs;         // What the machine must allow, and what it falls back to.
  std::span<const FaultKey> keys;
  const char* example;
  std::unique_ptr<Injection> (*make)(InjectionSetup);

  TriggerKind trigger_with(std::string_view at) const {
    return at.empty() ? trigger : TriggerKind::kCounted;
  }
};

std::span<const FaultRow> fault_catalogue();
// Null when there is no such fault.
const FaultRow* find_fault(std::string_view name);
std::vector<std::string> fault_names();

}  // namespace crashworthy

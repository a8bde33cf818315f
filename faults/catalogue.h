// The catalogue: every fault this program can inject, one row each. `crashworthy faults` prints it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace crashworthy {

enum class Mechanism { kSignal, kFaultPoint, kResourceLimit };

struct FaultKey {
  const char* key;      // "when.item", "victim.role", "set.headroom".
  const char* meaning;  // With its unit and default.
};

struct FaultRow {
  const char* name;
  Mechanism mechanism;
  bool needs_point;          // Written NAME@POINT.
  const char* summary;       // What it does.
  const char* in_real_life;  // What it stands for.
  const char* proof;         // How activation is proved.
  const char* undone;        // How it is healed.
  std::span<const FaultKey> keys;
  const char* example;
};

std::span<const FaultRow> fault_catalogue();
// Null when there is no such fault.
const FaultRow* find_fault(std::string_view name);
std::vector<std::string> fault_names();

}  // namespace crashworthy

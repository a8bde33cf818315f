// What this machine allows, found by trying it: for `crashworthy doctor`.
#pragma once

#include <string>
#include <vector>

namespace crashworthy {

struct Capability {
  std::string what;
  bool works = false;
  std::string detail;  // How, or why not.
};

// The levels of containment, from the strongest; which of them a run gets.
std::vector<Capability> containment_levels();
// What the mechanisms of the faults need, each tried on a process or a place of our own.
std::vector<Capability> fault_mechanisms();

}  // namespace crashworthy

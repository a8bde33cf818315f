#include "faults/process_state.h"

#include <algorithm>
#include <cstdlib>
#include <map>

#include "harness/os/proc.h"

namespace crashworthy {
namespace {

std::uint64_t mask_of(pid_t pid, const std::string& name) {
  return std::strtoull(status_field(pid, name).c_str(), nullptr, 16);
}

}  // namespace

std::optional<SignalSets> signal_sets(pid_t pid) {
  if (status_field(pid, "SigCgt").empty()) return std::nullopt;
  SignalSets sets;
  sets.pending_mask = mask_of(pid, "SigPnd") | mask_of(pid, "ShdPnd");
  sets.blocked_mask = mask_of(pid, "SigBlk");
  sets.ignored_mask = mask_of(pid, "SigIgn");
  sets.caught_mask = mask_of(pid, "SigCgt");
  return sets;
}

pid_t parent_of(pid_t pid) {
  const auto stat = read_stat(pid);
  return stat ? stat->parent : 0;
}

std::vector<pid_t> below(const std::vector<pid_t>& pids, pid_t root) {
  std::map<pid_t, pid_t> parents;
  for (const pid_t pid : pids) parents[pid] = parent_of(pid);
  std::vector<pid_t> found{root};
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (const auto& [pid, parent] : parents) {
      if (parent == found[i] && std::find(found.begin(), found.end(), pid) == found.end())
        found.push_back(pid);
    }
  }
  found.erase(found.begin());
  return found;
}

}  // namespace crashworthy

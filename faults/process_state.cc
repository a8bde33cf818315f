#include "faults/process_state.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "harness/os/file.h"

namespace crashworthy {
namespace {

std::string directory_of(pid_t pid) { return "/proc/" + std::to_string(pid); }

std::uint64_t mask_of(pid_t pid, const std::string& name) {
  return std::strtoull(status_line(pid, name).c_str(), nullptr, 16);
}

// What follows the name in its `stat`: "T 1 ...".
std::string after_name(const std::filesystem::path& directory) {
  const auto stat = read_file(directory / "stat");
  const std::size_t at = stat ? stat->rfind(')') : std::string::npos;
  return at == std::string::npos || at + 2 >= stat->size() ? "" : stat->substr(at + 2);
}

}  // namespace

std::string status_line(pid_t pid, const std::string& name) {
  const auto status = read_file(directory_of(pid) + "/status");
  if (!status) return {};
  const std::string key = "\n" + name + ":\t";
  const std::size_t at = status->find(key);
  if (at == std::string::npos) return {};
  const std::size_t from = at + key.size();
  return status->substr(from, status->find('\n', from) - from);
}

std::optional<SignalSets> signal_sets(pid_t pid) {
  if (status_line(pid, "SigCgt").empty()) return std::nullopt;
  SignalSets sets;
  sets.pending_mask = mask_of(pid, "SigPnd") | mask_of(pid, "ShdPnd");
  sets.blocked_mask = mask_of(pid, "SigBlk");
  sets.ignored_mask = mask_of(pid, "SigIgn");
  sets.caught_mask = mask_of(pid, "SigCgt");
  return sets;
}

bool all_tasks_stopped(pid_t pid) {
  std::error_code failure;
  bool any = false;
  for (std::filesystem::directory_iterator at(directory_of(pid) + "/task", failure), end;
       !failure && at != end; at.increment(failure)) {
    const std::string rest = after_name(at->path());
    if (rest.empty()) continue;  // The thread has ended meanwhile.
    if (rest[0] != 'T') return false;
    any = true;
  }
  return any && !failure;
}

pid_t parent_of(pid_t pid) {
  const std::string rest = after_name(directory_of(pid));
  return rest.empty() ? 0 : std::atoi(rest.c_str() + 1);
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

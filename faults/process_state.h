// What /proc says of a process at this moment.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace crashworthy {

// What a process does with signals, and which wait for it.
struct SignalSets {
  std::uint64_t pending_mask = 0;  // Of the process or of any of its threads.
  std::uint64_t blocked_mask = 0;  // By its main thread.
  std::uint64_t ignored_mask = 0;
  std::uint64_t caught_mask = 0;

  bool pending(int signal) const { return has(pending_mask, signal); }
  bool blocks(int signal) const { return has(blocked_mask, signal); }
  bool ignores(int signal) const { return has(ignored_mask, signal); }
  bool catches(int signal) const { return has(caught_mask, signal); }

 private:
  static bool has(std::uint64_t mask, int signal) { return (mask >> (signal - 1) & 1) != 0; }
};

// Empty when it has ended.
std::optional<SignalSets> signal_sets(pid_t pid);

// 0 when it has ended.
pid_t parent_of(pid_t pid);

// Those of `pids` that are children of `root`, or of its children, and so on.
std::vector<pid_t> below(const std::vector<pid_t>& pids, pid_t root);

}  // namespace crashworthy

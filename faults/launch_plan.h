// What the injections of a trial want of the launch of its subject. They add to it while they are
// armed; whoever launches the subject does as it says.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

class CallServer;

struct LaunchPlan {
  struct Mount {
    std::string source;  // A file or directory of ours, or "tmpfs".
    std::filesystem::path target;
    std::string options;
  };

  std::vector<std::string> argv;         // A wrapper puts itself before it.
  std::vector<std::string> environment;  // "NAME=value"
  std::filesystem::path directory;       // The subject's working directory.
  // Files that the subject reads, as given to the harness: what input.* may choose from. Empty when
  // nobody said.
  std::vector<std::filesystem::path> inputs;
  // True when `inputs` are this trial's alone. They may be replaced, renamed and removed, but not
  // written through: some are links to the originals.
  bool inputs_are_copies = false;
  std::filesystem::path output;  // The directory that it writes to; empty: not known.
  // Ours, for files of an injection; it exists, and is removed after the trial.
  std::filesystem::path scratch;

  // Of fault_point.cc: the one table that all fault points of the trial have.
  std::shared_ptr<void> points;

  // (Our descriptor, its number in the subject.)
  std::vector<std::pair<int, int>> descriptors;
  std::vector<Mount> mounts;  // Needs namespaces; refused elsewhere.
  std::string no_mounts;      // Why they would be refused; empty: they work here.
  // System calls of the whole tree that are reported to a listener, which this server is given:
  // filled in by CallServer, for all injections of the trial.
  std::vector<int> notified_calls;
  std::function<void(UniqueFd)> on_listener;
  std::shared_ptr<CallServer> call_server;
  // Called with our pid of the command's process before it executes anything.
  std::vector<std::function<Result<void>(pid_t)>> before_exec;

  // Gives the subject our descriptor under a number that is far from those that programs use;
  // returns that number.
  int inherit(int descriptor) {
    int number = kFirstNumber;
    for (const auto& [ours, taken] : descriptors) number = std::max(number, taken + 1);
    descriptors.emplace_back(descriptor, number);
    return number;
  }
  // Whether the subject's `number` is one of ours that lie far from those that programs use.
  bool is_our_number(int number) const {
    return number >= kProbeNumber &&
           std::any_of(descriptors.begin(), descriptors.end(),
                       [number](const auto& entry) { return entry.second == number; });
  }

 private:
  static constexpr int kProbeNumber = 100;
  static constexpr int kFirstNumber = 102;
};

}  // namespace crashworthy

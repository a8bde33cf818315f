// The observer: stamps when outputs appear, from outside. Live it only stamps; what they contain is
// read after the trial.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

struct Publication {
  std::string name;  // Relative to the root.
  std::int64_t time_ns = 0;
};

// Watches a directory tree by inotify: a file closed after writing, or renamed into place. Whether
// it was complete then is not known; the last publication of a name is the one that counts. One
// thread uses it.
class OutputObserver {
 public:
  static Result<OutputObserver> create(const std::filesystem::path& root);
  int fd() const { return inotify_.get(); }
  // Appends what happened since the last call, stamped now. Never blocks.
  void read(std::vector<Publication>& out);
  // True when the kernel's queue overflowed: some stamps are missing.
  bool overflowed() const { return overflowed_; }

 private:
  void watch(const std::filesystem::path& directory, const std::string& prefix,
             std::vector<Publication>* found);
  UniqueFd inotify_;
  std::filesystem::path root_;
  std::map<int, std::string>
      prefixes_;  // Watch -> path of its directory relative to the root, with a slash.
  bool overflowed_ = false;
};

}  // namespace crashworthy

// Whether this process is a forked copy of the one that made something. Asked on hot paths, so it
// takes no system call; what clone(2) or _Fork() copies is not noticed.
#pragma once

#include <cstdint>

namespace crashworthy {

// By how many calls of fork() since the first question this process came to be.
std::uint32_t fork_depth();

// The process in which this was made.
class Owner {
 public:
  bool is_here() const { return depth_ == fork_depth(); }

 private:
  std::uint32_t depth_ = fork_depth();
};

}  // namespace crashworthy

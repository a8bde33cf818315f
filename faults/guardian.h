// A small process that removes what we have made in a file system when we end without having done
// so, SIGKILL included.
#pragma once

#include <sys/stat.h>

#include <filesystem>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

class Guardian {
 public:
  // Removes what lies at a path, which was `made` by us; async-signal-safe.
  using Removal = void (*)(const char* path, const struct stat& made);

  Guardian() = default;
  Guardian(Guardian&&) noexcept = default;
  Guardian& operator=(Guardian&&) noexcept = default;
  ~Guardian() { dismiss(); }

  // What is to be removed is there. The process holds nothing of ours open.
  static Result<Guardian> start(const std::filesystem::path& path, Removal remove);
  // It removes what is still there and ends; waits a second for that at most.
  void dismiss();

 private:
  UniqueFd lifeline_;  // The process acts when this end is closed everywhere.
  UniqueFd process_;   // pidfd
};

}  // namespace crashworthy

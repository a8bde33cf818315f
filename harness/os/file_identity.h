// Which file a descriptor stands for, beyond its number.
#pragma once

#include <sys/types.h>

#include "harness/os/result.h"

namespace crashworthy {

// Of a process that shares its descriptors with code that it does not know: that may have closed
// one, and opened a file that has its number now.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;

  static Result<FileIdentity> of(int fd);
  // Whether the descriptor is open and stands for this file.
  bool is(int fd) const;
};

}  // namespace crashworthy

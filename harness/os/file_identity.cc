#include "harness/os/file_identity.h"

#include <sys/stat.h>

#include <cerrno>

namespace crashworthy {

Result<FileIdentity> FileIdentity::of(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return system_error("inspect a descriptor", errno);
  return FileIdentity{info.st_dev, info.st_ino};
}

bool FileIdentity::is(int fd) const {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && info.st_dev == device && info.st_ino == inode;
}

}  // namespace crashworthy

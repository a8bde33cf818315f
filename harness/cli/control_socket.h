// The Unix socket through which a running tree is asked and told: its two ends.
#pragma once

#include <sys/types.h>

#include <filesystem>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// The listening end. Only its owner may connect: it is made with mode 0600. The destructor removes
// it, if what lies there is still this one.
class ControlSocket {
 public:
  // Listens at `path`. A socket there at which nobody listens any more is replaced; anything else
  // is kUsage, and stays.
  static Result<ControlSocket> listen(const std::filesystem::path& path);
  ControlSocket(ControlSocket&& other) noexcept = default;
  ControlSocket& operator=(ControlSocket&& other) = delete;
  ~ControlSocket();

  int fd() const { return fd_.get(); }

 private:
  ControlSocket() = default;

  UniqueFd fd_;
  std::filesystem::path path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

// The other end: connects without waiting. kGone when nobody listens there.
Result<UniqueFd> connect_control(const std::filesystem::path& path);

}  // namespace crashworthy

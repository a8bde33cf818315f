// Anonymous shared memory (memfd) and its mapping.
#pragma once

#include <cstddef>
#include <string>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// Owns a MAP_SHARED mapping of a memfd, and the descriptor unless it was released. The memory lives
// as long as anybody maps it or holds the descriptor, so it survives the death of any other process
// that uses it. Zero-filled and sparse.
class SharedMemory {
 public:
  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  // A new region of `size` bytes. `name` shows in /proc/PID/maps. The descriptor is close-on-exec.
  static Result<SharedMemory> create(const std::string& name, std::size_t size);
  // Maps an existing memfd whole and takes the descriptor.
  static Result<SharedMemory> attach(UniqueFd fd);

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  int fd() const { return fd_.get(); }
  // Without the descriptor, a process can no longer map the memory anew, with other rights.
  void close_descriptor() { fd_.reset(); }

 private:
  UniqueFd fd_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace crashworthy

// LineWriter: lines for a file, a pipe or a terminal, without ever waiting for it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// Writes each line at once. What the other side does not take now (a full pipe, a stopped terminal,
// a full disk) is kept, up to kMaxKept bytes, and tried again; after that lines are dropped whole
// and counted. The first failure is told once on stderr. Not thread-safe.
class LineWriter {
 public:
  static constexpr std::size_t kMaxKept = 1 << 20;

  // Appends to `path`, which is made if need be. kUsage when that cannot be done.
  static Result<LineWriter> append_to(const std::filesystem::path& path);
  // Borrows a descriptor, such as stderr.
  explicit LineWriter(int borrowed) : fd_(borrowed) {}

  // `line` is without its end.
  void write(std::string_view line);
  // Tries again what is kept.
  void flush();
  // Something is kept: flush() should be called when fd() is writable.
  bool waits() const { return !kept_.empty(); }
  int fd() const { return fd_; }
  // Lines that never will be written, as far as is known now.
  std::uint64_t lost() const { return lost_; }

 private:
  LineWriter() = default;
  void complain(int number);

  UniqueFd owned_;
  int fd_ = -1;
  std::string name_;  // Empty for stderr, whose failure cannot be told.
  std::string kept_;
  std::uint64_t lost_ = 0;
  bool complained_ = false;
};

}  // namespace crashworthy

// LineWriter: lines for a file, a pipe or a terminal, without ever waiting for it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// Writes each line at once. What the other side does not take now (a full pipe, a stopped terminal,
// a full disk) is kept, up to kMaxKept bytes, and tried again; after that lines are dropped whole
// and counted. What it never will take (a pipe without a reader, a terminal that is gone) is
// dropped. The first failure is told once on stderr, if that takes it. Not thread-safe.
class LineWriter {
 public:
  static constexpr std::size_t kMaxKept = 1 << 20;
  // How long nothing is tried after a failure of which poll(2) cannot tell the end.
  static constexpr std::int64_t kRetryNs = 1'000'000'000;

  // Appends to `path`, which is made if need be. kUsage when that cannot be done.
  static Result<LineWriter> append_to(const std::filesystem::path& path);
  // Borrows a descriptor that is shared with others, such as stderr. A pipe or a terminal is opened
  // anew, so as not to wait; where the kernel refuses that (it belongs to somebody else), writing
  // may wait when others fill it in the very moment.
  explicit LineWriter(int borrowed);

  // `line` is without its end.
  void write(std::string_view line);
  // Tries again what is kept, unless that has just failed.
  void flush();
  // The same, whatever has just failed.
  void flush_now();
  // Something is kept.
  bool waits() const { return !kept_.empty(); }
  // flush() should be called when fd() is writable, ...
  bool polls(std::int64_t now) const { return waits() && now >= retry_at_; }
  // ... or when so many ns have passed.
  std::optional<std::int64_t> timeout(std::int64_t now) const;
  int fd() const { return fd_; }
  // Lines that never will be written, as far as is known now.
  std::uint64_t lost() const { return lost_; }

 private:
  enum class Way {
    kWrite,    // It never waits: non-blocking, or a regular file.
    kSend,     // A socket.
    kAskFirst  // It waits, unless poll(2) is asked first.
  };

  LineWriter() = default;
  bool ready() const;
  ssize_t put();
  void failed(int number);
  void complain(int number, bool kept);

  UniqueFd owned_;
  int fd_ = -1;
  Way way_ = Way::kWrite;
  std::string name_;  // Empty for stderr, whose failure cannot be told.
  std::string kept_;
  std::int64_t retry_at_ = 0;
  std::uint64_t lost_ = 0;
  bool complained_ = false;
};

}  // namespace crashworthy

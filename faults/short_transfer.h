// A read or write of a caller who waits, done by us in its place, with fewer bytes than it asked
// for.
#pragma once

#include <sys/stat.h>
#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "faults/call_server.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

class ShortTransfer {
 public:
  // Whether calls of this number are transfers that can be shortened.
  static bool can_do(int number);
  // The bytes that `call` asks for; empty when its memory cannot be read.
  static std::optional<std::uint64_t> asked(const ReportedCall& call);

  // Takes hold of the caller's file. `size`: so many bytes at most.
  ShortTransfer(const ReportedCall& call, std::uint64_t size);

  struct Attempt {
    enum class Kind {
      kDone,    // `bytes` were transferred.
      kWait,    // Again when descriptor() is ready for `events`: the caller would have to wait too.
      kRefused  // Nothing was done, because of `error`.
    };
    Kind kind = Kind::kRefused;
    std::uint64_t bytes = 0;
    bool cut = false;  // The whole call would have transferred more.
    short events = 0;
    int error = 0;
  };
  Attempt attempt();
  int descriptor() const { return file_.get(); }

 private:
  enum class File { kRegular, kSocket, kOther };

  int open_file();
  int open_without_waiting(const struct stat& info, int flags);
  ssize_t write_out();
  ssize_t read_in();
  bool more_to_read() const;

  ReportedCall call_;
  std::uint64_t asked_ = 0;
  std::vector<iovec> theirs_;  // The first `size` bytes of the caller's buffers.
  std::vector<char> ours_;
  UniqueFd file_;
  File kind_ = File::kOther;
  bool caller_waits_ = true;  // Its file is not non-blocking.
  int error_ = 0;
};

}  // namespace crashworthy

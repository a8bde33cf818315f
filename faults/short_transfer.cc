#include "faults/short_transfer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "faults/caller.h"

namespace crashworthy {
namespace {

// Numbers of devices, those that are themselves when they are opened once more.
constexpr unsigned kMemoryDevices = 1;  // null, zero, full, urandom, ...
constexpr unsigned kTerminals = 4;
constexpr unsigned kFirstPty = 136;
constexpr unsigned kLastPty = 143;
constexpr std::uint64_t kMostBuffers = 1024;                  // UIO_MAXIOV
constexpr std::uint64_t kMostBytes = 0x7ffff000;              // The kernel's own bound of a call.
constexpr std::uint64_t kMostOurs = std::uint64_t{64} << 20;  // What passes through our memory.

struct Layout {
  bool writes;
  bool vectored;
  bool positioned;
  bool flagged;
};

std::optional<Layout> layout_of(int number) {
  switch (number) {
    case SYS_read:
      return Layout{false, false, false, false};
    case SYS_write:
      return Layout{true, false, false, false};
    case SYS_pread64:
      return Layout{false, false, true, false};
    case SYS_pwrite64:
      return Layout{true, false, true, false};
    case SYS_readv:
      return Layout{false, true, false, false};
    case SYS_writev:
      return Layout{true, true, false, false};
    case SYS_preadv:
      return Layout{false, true, true, false};
    case SYS_pwritev:
      return Layout{true, true, true, false};
    case SYS_preadv2:
      return Layout{false, true, true, true};
    case SYS_pwritev2:
      return Layout{true, true, true, true};
    default:
      return std::nullopt;
  }
}

// The caller's buffers; empty when they cannot be read.
std::optional<std::vector<iovec>> buffers_of(const ReportedCall& call) {
  auto* address = reinterpret_cast<void*>(call.arguments[1]);
  if (!layout_of(call.number)->vectored) {
    return std::vector<iovec>{{address, std::min(call.arguments[2], kMostBytes)}};
  }
  const std::uint64_t count = call.arguments[2];
  if (count == 0 || count > kMostBuffers) return std::nullopt;
  std::vector<iovec> buffers(count);
  const std::size_t bytes = count * sizeof(iovec);
  const ssize_t got = read_memory(call.tid, buffers.data(), bytes, {{address, bytes}});
  if (got != static_cast<ssize_t>(bytes)) return std::nullopt;
  return buffers;
}

std::uint64_t size_of(const std::vector<iovec>& buffers) {
  std::uint64_t size = 0;
  for (const iovec& buffer : buffers) {
    size += std::min<std::uint64_t>(buffer.iov_len, kMostBytes - size);
  }
  return size;
}

std::vector<iovec> first_bytes(std::vector<iovec> buffers, std::uint64_t size) {
  for (iovec& buffer : buffers) {
    buffer.iov_len = std::min<std::uint64_t>(buffer.iov_len, size);
    size -= buffer.iov_len;
  }
  return buffers;
}

}  // namespace

bool ShortTransfer::can_do(int number) { return layout_of(number).has_value(); }

std::optional<std::uint64_t> ShortTransfer::asked(const ReportedCall& call) {
  const auto buffers = buffers_of(call);
  if (!buffers) return std::nullopt;
  return size_of(*buffers);
}

ShortTransfer::ShortTransfer(const ReportedCall& call, std::uint64_t size) : call_(call) {
  auto buffers = buffers_of(call);
  if (!buffers) {
    error_ = EFAULT;
    return;
  }
  asked_ = size_of(*buffers);
  ours_.resize(std::min(size, kMostOurs));
  theirs_ = first_bytes(*std::move(buffers), ours_.size());
  error_ = open_file();
}

int ShortTransfer::open_file() {
  auto thread = open_thread(call_.tid);
  if (!thread) return thread.error().sys_errno;
  const int number = static_cast<int>(call_.arguments[0]);
  file_.reset(static_cast<int>(::syscall(SYS_pidfd_getfd, thread->get(), number, 0)));
  if (!file_.valid()) return errno;
  struct stat info {};
  if (::fstat(file_.get(), &info) != 0) return errno;
  if (S_ISREG(info.st_mode) || S_ISBLK(info.st_mode)) kind_ = File::kRegular;
  if (S_ISSOCK(info.st_mode)) kind_ = File::kSocket;
  const int flags = ::fcntl(file_.get(), F_GETFL);
  caller_waits_ = (flags & O_NONBLOCK) == 0;
  if (kind_ == File::kOther && caller_waits_) return open_without_waiting(info, flags);
  return 0;
}

// One thread serves all calls of the subject: it must wait in none. What could make it wait, and
// cannot be asked not to, is left alone.
int ShortTransfer::open_without_waiting(const struct stat& info, int flags) {
  const unsigned device = S_ISCHR(info.st_mode) ? major(info.st_rdev) : 0;
  if (device == kMemoryDevices) return 0;
  const bool terminal = (device >= kFirstPty && device <= kLastPty) ||
                        (device == kTerminals && minor(info.st_rdev) > 0);
  if (!S_ISFIFO(info.st_mode) && !terminal) return EOPNOTSUPP;
  // The same one through a file of ours, on which we do not wait.
  const std::string path = "/proc/self/fd/" + std::to_string(file_.get());
  const int mode = (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  UniqueFd own(::open(path.c_str(), mode));
  if (!own.valid()) return errno;
  file_ = std::move(own);
  return 0;
}

ShortTransfer::Attempt ShortTransfer::attempt() {
  Attempt attempt;
  const bool writes = layout_of(call_.number)->writes;
  attempt.error = error_;
  attempt.events = writes ? POLLOUT : POLLIN;
  if (error_ != 0) return attempt;
  pollfd ready{file_.get(), attempt.events, 0};
  const bool waits = kind_ != File::kRegular && ::poll(&ready, 1, 0) == 0;
  const ssize_t count = waits ? -1 : writes ? write_out() : read_in();
  if (waits) errno = EAGAIN;
  if (count < 0) {
    attempt.error = errno;
    // (A regular file that says so was asked not to wait, by flags of the call.)
    if (errno == EAGAIN && caller_waits_ && kind_ != File::kRegular)
      attempt.kind = Attempt::Kind::kWait;
    return attempt;
  }
  attempt.kind = Attempt::Kind::kDone;
  attempt.bytes = static_cast<std::uint64_t>(count);
  // What stopped before the end of what we tried would have stopped there anyway, but for a caller
  // who would have waited for room.
  const bool whole = attempt.bytes == ours_.size();
  attempt.cut = writes ? whole || caller_waits_ : whole && more_to_read();
  attempt.cut = attempt.cut && attempt.bytes < asked_;
  return attempt;
}

ssize_t ShortTransfer::write_out() {
  const ssize_t got = read_memory(call_.tid, ours_.data(), ours_.size(), theirs_);
  if (got != static_cast<ssize_t>(ours_.size()) || !call_.waits()) {
    errno = EFAULT;
    return -1;
  }
  const Layout layout = *layout_of(call_.number);
  const iovec data{ours_.data(), ours_.size()};
  const auto offset = static_cast<off_t>(call_.arguments[3]);
  if (layout.flagged)
    return ::pwritev2(file_.get(), &data, 1, offset, static_cast<int>(call_.arguments[5]));
  if (layout.positioned) return ::pwrite(file_.get(), data.iov_base, data.iov_len, offset);
  if (kind_ == File::kSocket)
    return ::send(file_.get(), data.iov_base, data.iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
  return ::write(file_.get(), data.iov_base, data.iov_len);
}

ssize_t ShortTransfer::read_in() {
  if (!call_.waits()) {
    errno = ESRCH;
    return -1;
  }
  const Layout layout = *layout_of(call_.number);
  const iovec data{ours_.data(), ours_.size()};
  const auto offset = static_cast<off_t>(call_.arguments[3]);
  ssize_t count = 0;
  if (layout.flagged) {
    count = ::preadv2(file_.get(), &data, 1, offset, static_cast<int>(call_.arguments[5]));
  } else if (layout.positioned) {
    count = ::pread(file_.get(), data.iov_base, data.iov_len, offset);
  } else if (kind_ == File::kSocket) {
    count = ::recv(file_.get(), data.iov_base, data.iov_len, MSG_DONTWAIT);
  } else {
    count = ::read(file_.get(), data.iov_base, data.iov_len);
  }
  if (count <= 0) return count;
  // What the caller gave as its buffer may end early: then it is told of fewer.
  return write_memory(call_.tid, ours_.data(), static_cast<std::size_t>(count),
                      first_bytes(theirs_, static_cast<std::uint64_t>(count)));
}

// After a read.
bool ShortTransfer::more_to_read() const {
  if (kind_ != File::kRegular) {
    int waiting = 0;
    if (::ioctl(file_.get(), FIONREAD, &waiting) == 0) return waiting > 0;
    pollfd ready{file_.get(), POLLIN, 0};
    return ::poll(&ready, 1, 0) > 0;
  }
  const Layout layout = *layout_of(call_.number);
  const auto given = static_cast<off_t>(call_.arguments[3]);
  const off_t at = layout.positioned && given >= 0 ? given + static_cast<off_t>(ours_.size())
                                                   : ::lseek(file_.get(), 0, SEEK_CUR);
  char next = 0;
  return ::pread(file_.get(), &next, 1, at) == 1;
}

}  // namespace crashworthy

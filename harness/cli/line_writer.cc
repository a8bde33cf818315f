#include "harness/cli/line_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "harness/os/clock.h"

namespace crashworthy {

Result<LineWriter> LineWriter::append_to(const std::filesystem::path& path) {
  LineWriter writer;
  // O_NONBLOCK: a named pipe that nobody reads is refused instead of waited for.
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  writer.owned_.reset(::open(path.c_str(), kFlags, 0644));
  if (!writer.owned_.valid())
    return usage_error("unable to append to '" + path.string() + "': " + std::strerror(errno));
  writer.fd_ = writer.owned_.get();
  writer.name_ = path.string();
  return writer;
}

LineWriter::LineWriter(int borrowed) : fd_(borrowed) {
  struct stat status {};
  if (::fstat(fd_, &status) != 0 || S_ISREG(status.st_mode)) return;
  if (S_ISSOCK(status.st_mode)) {
    way_ = Way::kSend;
    return;
  }
  // O_NONBLOCK belongs to the open file description, which is the children's too: an own one.
  // (Not for a regular file: what is shared there is the place where the next one writes.)
  const std::string path = "/proc/self/fd/" + std::to_string(fd_);
  owned_.reset(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_APPEND | O_CLOEXEC | O_NOCTTY));
  if (owned_.valid()) {
    fd_ = owned_.get();
  } else {
    way_ = Way::kAskFirst;
  }
}

void LineWriter::write(std::string_view line) {
  if (kept_.size() + line.size() + 1 > kMaxKept) {
    ++lost_;
  } else {
    kept_ += line;
    kept_ += '\n';
  }
  flush();
}

void LineWriter::flush() {
  if (kept_.empty() || now_ns() < retry_at_) return;
  while (!kept_.empty()) {
    if (way_ == Way::kAskFirst && !ready()) return;
    const ssize_t count = put();
    if (count > 0) {
      kept_.erase(0, static_cast<std::size_t>(count));
      continue;
    }
    const int number = count == 0 ? EAGAIN : errno;
    if (number == EINTR) continue;
    return failed(number);
  }
}

void LineWriter::flush_now() {
  retry_at_ = 0;
  flush();
}

std::optional<std::int64_t> LineWriter::timeout(std::int64_t now) const {
  if (!waits() || now >= retry_at_) return std::nullopt;
  return retry_at_ - now;
}

// Whether poll(2) has anything to say: an error counts, for the next write tells which.
bool LineWriter::ready() const {
  pollfd asked{fd_, POLLOUT, 0};
  return ::poll(&asked, 1, 0) == 1;
}

// A pipe that is writable takes PIPE_BUF bytes without waiting, and in one piece.
ssize_t LineWriter::put() {
  const std::size_t size = std::min<std::size_t>(kept_.size(), PIPE_BUF);
  if (way_ == Way::kSend) return ::send(fd_, kept_.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
  return ::write(fd_, kept_.data(), size);
}

void LineWriter::failed(int number) {
  if (number == EAGAIN) {
    // Where poll() says otherwise, waiting with it would be a busy loop.
    if (ready()) retry_at_ = now_ns() + kRetryNs;
    return;
  }
  // A full disk is always "writable", and may have room again.
  const bool keep = number == ENOSPC || number == EDQUOT;
  if (keep) {
    retry_at_ = now_ns() + kRetryNs;
  } else {
    lost_ += static_cast<std::uint64_t>(std::count(kept_.begin(), kept_.end(), '\n'));
    kept_.clear();
  }
  complain(number, keep);
}

void LineWriter::complain(int number, bool kept) {
  if (complained_ || name_.empty()) return;
  complained_ = true;
  LineWriter(STDERR_FILENO)
      .write("crashworthy: error: unable to append to '" + name_ + "': " + std::strerror(number) +
             (kept ? "\n  the tree goes on; up to 1 MiB is kept and tried again"
                   : "\n  the tree goes on; these lines are lost"));
}

}  // namespace crashworthy

#include "harness/cli/line_writer.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

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
  while (!kept_.empty()) {
    // stderr is shared with others, so it cannot be made non-blocking. A pipe that is writable
    // takes PIPE_BUF bytes without waiting.
    pollfd ready{fd_, POLLOUT, 0};
    if (::poll(&ready, 1, 0) < 1 || (ready.revents & (POLLOUT | POLLERR)) == 0) return;
    const ssize_t count = ::write(fd_, kept_.data(), std::min<std::size_t>(kept_.size(), PIPE_BUF));
    if (count > 0) {
      kept_.erase(0, static_cast<std::size_t>(count));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return;
    if (errno == EPIPE) {  // Nobody will ever read it.
      lost_ += static_cast<std::uint64_t>(std::count(kept_.begin(), kept_.end(), '\n'));
      kept_.clear();
    }
    return complain(errno);
  }
}

void LineWriter::complain(int number) {
  if (complained_ || name_.empty()) return;
  complained_ = true;
  std::fprintf(stderr,
               "crashworthy: error: unable to append to '%s': %s\n"
               "  the tree goes on; up to 1 MiB is kept and tried again\n",
               name_.c_str(), std::strerror(number));
}

}  // namespace crashworthy

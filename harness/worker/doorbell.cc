#include "harness/worker/doorbell.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace crashworthy {

Result<Doorbell> Doorbell::create() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    return system_error("make the doorbell of a worker pool", errno);
  }
  Doorbell made;
  made.listener_.reset(ends[0]);
  made.bell_.reset(ends[1]);
  auto pipe = FileIdentity::of(ends[1]);
  if (!pipe) return pipe.error().with_context("make the doorbell of a worker pool");
  made.pipe_ = *pipe;
  return made;
}

void Doorbell::clear() const {
  std::array<char, 4096> rung;
  [[maybe_unused]] const ssize_t ignored = ::read(listener_.get(), rung.data(), rung.size());
}

// Full means readable already.
void Doorbell::ring() const {
  [[maybe_unused]] const ssize_t ignored = ::write(bell_.get(), "", 1);
}

bool Doorbell::ring_if_there() const {
  if (!pipe_.is(bell_.get())) return false;
  ssize_t written = 0;
  do {
    written = ::write(bell_.get(), "", 1);
  } while (written < 0 && errno == EINTR);
  return written > 0 || errno == EAGAIN;
}

}  // namespace crashworthy

#include "faults/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>

#include "harness/os/clock.h"

namespace crashworthy {
namespace {

constexpr std::size_t kChunk = 1 << 16;
constexpr std::size_t kPolite = PIPE_BUF;  // A pipe that takes anything takes so much at once.
constexpr std::size_t kMaxConnections = 1000;
constexpr std::size_t kMaxChanged = 64;  // Remembered.
constexpr std::int64_t kRestPatienceNs = 30'000'000'000;
// For writers that are not of the subject and hold the stream open after its end.
constexpr std::int64_t kEndPatienceNs = 1'000'000'000;
constexpr std::uint64_t kDigestStart = 0xcbf29ce484222325u;

std::uint64_t digest(std::uint64_t hash, std::string_view bytes) {
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  return hash;
}

bool is_socket(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode);
}

std::uint64_t waiting_bytes(int fd) {
  int count = 0;
  return fd >= 0 && ::ioctl(fd, FIONREAD, &count) == 0 ? static_cast<std::uint64_t>(count) : 0;
}

UniqueFd connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fd.reset();
  return fd;
}

UniqueFd duplicate(const UniqueFd& fd) { return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

}  // namespace

Relay::Lane Relay::make_lane(UniqueFd in, UniqueFd out, bool struck) {
  Lane lane;
  struct stat info {};
  lane.polite = (::fcntl(out.get(), F_GETFL) & O_NONBLOCK) == 0;
  lane.own_pipe = !lane.polite && ::fstat(out.get(), &info) == 0 && S_ISFIFO(info.st_mode);
  lane.in = std::move(in);
  lane.out = std::move(out);
  lane.struck = struck;
  return lane;
}

Result<std::unique_ptr<Relay>> Relay::between(UniqueFd in, UniqueFd out) {
  std::unique_ptr<Relay> relay(new Relay());
  relay->lanes_.push_back(make_lane(std::move(in), std::move(out), true));
  if (auto started = relay->start(); !started) return started.error();
  return relay;
}

Result<std::unique_ptr<Relay>> Relay::listening(UniqueFd listener, std::filesystem::path upstream,
                                                bool back) {
  std::unique_ptr<Relay> relay(new Relay());
  relay->listener_ = std::move(listener);
  relay->upstream_ = std::move(upstream);
  relay->back_ = back;
  if (auto started = relay->start(); !started) return started.error();
  return relay;
}

Result<void> Relay::start() {
  counts_.digest_in = counts_.digest_out = kDigestStart;
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return system_error("create an event descriptor", errno);
  // It takes no signal of the harness, and its failed writes are errors, no SIGPIPE.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread(&Relay::run, this);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {};
}

Relay::~Relay() { finish(); }

void Relay::strike(Strike strike) {
  const std::lock_guard lock(mutex_);
  strikes_.push_back(std::move(strike));
  ::eventfd_write(wake_.get(), 1);
}

void Relay::finish() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    finishing_ = true;
    listener_.reset();
    moved_ns_ = now_ns();
    ::eventfd_write(wake_.get(), 1);
  }
  thread_.join();
  for (Lane& lane : lanes_) {
    if (!lane.struck) continue;
    counts_.lost += lane.rest.size();
    counts_.unread += waiting_bytes(lane.peek.get());
  }
  lanes_.clear();
}

Relay::Counts Relay::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void Relay::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const std::int64_t now = now_ns();
    begin_strikes(now);
    if (is_over(now)) return;
    std::vector<pollfd> fds{{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Lane& lane : lanes_) {
      const bool reads = lane.rest.empty() && !lane.quiet;
      fds.push_back({reads ? lane.in.get() : -1, POLLIN, 0});
      // Without events it still tells that its reader is gone.
      fds.push_back({lane.out.get(), static_cast<short>(lane.rest.empty() ? 0 : POLLOUT), 0});
    }
    std::int64_t wait_ns = finishing_ ? kEndPatienceNs / 10 : INT64_MAX;
    if (stalled_from_ns_ != 0 && strikes_.front().stall_ns != INT64_MAX)
      wait_ns = std::max<std::int64_t>(0, stalled_from_ns_ + strikes_.front().stall_ns - now);
    const timespec timeout{wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
    lock.unlock();
    const int ready =
        ::ppoll(fds.data(), fds.size(), wait_ns == INT64_MAX ? nullptr : &timeout, nullptr);
    lock.lock();
    if (ready <= 0) continue;
    eventfd_t woken = 0;
    if (fds[0].revents != 0) ::eventfd_read(wake_.get(), &woken);
    std::size_t at = 2;
    for (auto lane = lanes_.begin(); lane != lanes_.end(); ++lane, at += 2) {
      if ((fds[at + 1].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
        end(*lane);
      } else if (fds[at + 1].revents != 0) {
        write_rest(*lane);
      } else if (fds[at].revents != 0) {
        on_input(*lane);
      }
    }
    lanes_.remove_if([](const Lane& lane) { return !lane.in.valid() && !lane.peek.valid(); });
    if (fds[1].revents != 0 && !finishing_) accept_one();
  }
}

// What needs no byte to begin.
void Relay::begin_strikes(std::int64_t now) {
  end_stall(now);
  if (!begun_ && !strikes_.empty() && counts_.in >= strikes_.front().from) {
    const Action action = strikes_.front().action;
    begun_ = action != Action::kClose;
    passed_ = 0;
    if (action == Action::kStall) stalled_from_ns_ = now;
    if (action == Action::kStall) mark_struck(now);
    bool closing = false;
    for (Lane& lane : lanes_) {
      if (action != Action::kClose || !lane.struck || !lane.in.valid()) continue;
      lane.closing = closing = true;
    }
    // Without a connection it waits for one.
    if (closing) mark_struck(now);
    if (closing) strikes_.pop_front();
  }
  for (Lane& lane : lanes_) {
    if (lane.closing && lane.rest.empty()) close_out(lane);
  }
}

void Relay::close_out(Lane& lane) {
  if (!lane.out.valid()) return;
  if (lane.own_pipe && lane.struck) {
    const std::string path = "/proc/self/fd/" + std::to_string(lane.out.get());
    lane.peek.reset(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }
  if (is_socket(lane.out.get())) ::shutdown(lane.out.get(), SHUT_WR);
  lane.out.reset();
}

void Relay::end_stall(std::int64_t now) {
  if (stalled_from_ns_ == 0) return;
  const std::int64_t lasted = now - stalled_from_ns_;
  if (!finishing_ && lasted < strikes_.front().stall_ns) return;
  counts_.stalled_ns += lasted;
  stalled_from_ns_ = 0;
  strikes_.pop_front();
  begun_ = false;
  for (Lane& lane : lanes_) lane.quiet = false;
}

bool Relay::is_over(std::int64_t now) {
  if (!finishing_) return false;
  bool rest = false;
  bool open = false;
  for (const Lane& lane : lanes_) {
    rest = rest || !lane.rest.empty();
    open = open || lane.in.valid();
  }
  return !open || now - moved_ns_ > (rest ? kRestPatienceNs : kEndPatienceNs);
}

void Relay::accept_one() {
  UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.valid()) return;
  UniqueFd server = connect_to(upstream_.string());
  if (!server.valid() || lanes_.size() >= 2 * kMaxConnections) {
    ++counts_.refused;
    return;
  }
  ++counts_.connections;
  lanes_.push_back(make_lane(duplicate(client), duplicate(server), !back_));
  lanes_.push_back(make_lane(std::move(server), std::move(client), back_));
}

void Relay::on_input(Lane& lane) {
  if (stalled(lane)) {
    lane.quiet = true;
    if (counts_.held == 0) counts_.held = waiting_bytes(lane.in.get());
    return;
  }
  std::size_t size = kChunk;
  // A strike begins exactly at its byte.
  if (lane.struck && !begun_ && !strikes_.empty() && strikes_.front().from > counts_.in)
    size = std::min<std::size_t>(size, strikes_.front().from - counts_.in);
  std::string data(size, '\0');
  const ssize_t count = ::read(lane.in.get(), data.data(), data.size());
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    end(lane);
    return;
  }
  data.resize(static_cast<std::size_t>(count));
  moved_ns_ = now_ns();
  if (lane.struck)
    on_data(lane, std::move(data));
  else
    lane.rest = std::move(data);
  if (lane.in.valid()) write_rest(lane);
}

void Relay::on_data(Lane& lane, std::string data) {
  const std::uint64_t offset = counts_.in;  // Of its first byte.
  counts_.in += data.size();
  counts_.digest_in = digest(counts_.digest_in, data);
  if (!lane.out.valid()) {  // Closed.
    counts_.cut += data.size();
    end(lane);
    return;
  }
  if (!begun_) {
    lane.rest = std::move(data);
    return;
  }
  const Strike& strike = strikes_.front();
  if (passed_ == 0) mark_struck(now_ns());
  bool over = false;
  const std::uint64_t size = data.size();
  if (strike.action == Action::kDrop) {
    const std::uint64_t dropped = std::min(size, strike.drop - passed_);
    counts_.cut += dropped;
    data.erase(0, dropped);
    over = passed_ + dropped == strike.drop;
  } else {
    std::uint64_t last = 0;
    for (const std::uint64_t bit : strike.bits) {
      last = std::max(last, bit / 8);
      if (bit / 8 < passed_ || bit / 8 >= passed_ + size) continue;
      const std::uint64_t at = bit / 8 - passed_;
      const auto before = static_cast<std::uint8_t>(data[at]);
      const auto after = static_cast<std::uint8_t>(before ^ (1u << bit % 8));
      data[at] = static_cast<char>(after);
      ++counts_.flipped;
      if (counts_.changed.size() < kMaxChanged)
        counts_.changed.push_back({offset + at, before, after});
    }
    over = passed_ + size > last;
  }
  passed_ += size;
  if (over) {
    strikes_.pop_front();
    begun_ = false;
  }
  lane.rest = std::move(data);
}

void Relay::write_rest(Lane& lane) {
  const std::size_t size = lane.polite ? std::min(lane.rest.size(), kPolite) : lane.rest.size();
  if (size == 0) return;
  const ssize_t count = ::write(lane.out.get(), lane.rest.data(), size);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count < 0) {
    end(lane);
    return;
  }
  moved_ns_ = now_ns();
  const auto written = static_cast<std::size_t>(count);
  if (lane.struck) {
    counts_.out += written;
    counts_.digest_out = digest(counts_.digest_out, std::string_view(lane.rest).substr(0, written));
  }
  lane.rest.erase(0, written);
}

// Nothing comes any more, or nobody is there to take it: both sides learn of it.
void Relay::end(Lane& lane) {
  if (lane.struck) counts_.lost += lane.rest.size();
  lane.rest.clear();
  if (lane.in.valid() && is_socket(lane.in.get())) ::shutdown(lane.in.get(), SHUT_RD);
  close_out(lane);
  lane.in.reset();
}

void Relay::mark_struck(std::int64_t now) {
  ++counts_.strikes;
  if (counts_.struck_ns != 0) return;
  counts_.struck_ns = now;
  counts_.struck_in = counts_.in;
  counts_.struck_out = counts_.out;
}

}  // namespace crashworthy

#include "harness/supervision/behaviour_process.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <type_traits>
#include <utility>

#include "harness/os/check.h"
#include "harness/os/clock.h"

namespace crashworthy {
namespace {

static_assert(std::is_trivially_copyable_v<ProcessOrder>);

constexpr const char* kAddressVariable = "CRASHWORTHY_TEST_CONTROL";
constexpr int kReadyFd = 3;
constexpr int kHeartbeatFd = 4;
constexpr int kBacklog = 1024;
constexpr int kLostCode = 98;  // The test is gone.

// An abstract address: nothing is left in the file system.
sockaddr_un address_of(const std::string& name, socklen_t* size) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  CRASHWORTHY_CHECK(name.size() + 1 < sizeof address.sun_path);
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  *size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

UniqueFd connect_to_test() {
  const char* name = std::getenv(kAddressVariable);
  if (name == nullptr) ::_exit(kLostCode);
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  socklen_t size = 0;
  const sockaddr_un address = address_of(name, &size);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    ::_exit(kLostCode);
  }
  return socket;
}

ProcessOrder receive_order(int socket) {
  ProcessOrder order;
  ssize_t count = 0;
  do {
    count = ::recv(socket, &order, sizeof order, 0);
  } while (count < 0 && errno == EINTR);
  if (count != sizeof order) ::_exit(kLostCode);
  return order;
}

[[noreturn]] void die_of(int signal) {
  ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  while (true) ::raise(signal);
}

// The life of a process. A time is a CLOCK_MONOTONIC ns; empty: not to come.
class BehavingProcess {
 public:
  BehavingProcess() : begin_(now_ns()), socket_(connect_to_test()) {
    order_ = receive_order(socket_.get());
    if (conduct().stop != Conduct::Stop::kDies || conduct().stop_after.count() > 0) catch_stop();
    if (order_.ready && !order_.by_heartbeat) ready_at_ = begin_ + conduct().ready_after.count();
    if (order_.beat_ns > 0) beat_at_ = begin_ + conduct().ready_after.count();
    if (::send(socket_.get(), "", 1, MSG_NOSIGNAL) != 1) ::_exit(kLostCode);
  }

  [[noreturn]] void live() {
    while (true) {
      pollfd poll_fds[] = {{socket_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
      ::poll(poll_fds, 2, left_ms());
      if (poll_fds[0].revents != 0) obey(receive_order(socket_.get()));
      if (poll_fds[1].revents != 0) on_stop();
      const std::int64_t now = now_ns();
      if (stop_at_ && *stop_at_ <= now) end();
      if (ready_at_ && *ready_at_ <= now) be_ready();
      if (beat_at_ && *beat_at_ <= now) beat(now);
    }
  }

 private:
  const Conduct& conduct() const { return order_.conduct; }

  void catch_stop() {
    sigset_t terminate;
    ::sigemptyset(&terminate);
    ::sigaddset(&terminate, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &terminate, nullptr);
    stop_.reset(::signalfd(-1, &terminate, SFD_CLOEXEC | SFD_NONBLOCK));
  }

  int left_ms() const {
    std::optional<std::int64_t> next;
    for (const auto& time : {stop_at_, ready_at_, beat_at_}) {
      if (time && (!next || *time < *next)) next = time;
    }
    if (!next) return -1;
    return static_cast<int>(std::max<std::int64_t>(0, *next - now_ns() + 999'999) / 1'000'000);
  }

  void on_stop() {
    signalfd_siginfo info{};
    (void)!::read(stop_.get(), &info, sizeof info);
    if (conduct().stop == Conduct::Stop::kIgnores || stop_at_) return;
    stop_at_ = now_ns() + conduct().stop_after.count();
  }

  [[noreturn]] void end() {
    if (conduct().stop == Conduct::Stop::kExits) ::_exit(conduct().stop_code);
    die_of(SIGTERM);
  }

  void be_ready() {
    ready_at_.reset();
    switch (conduct().ready) {
      case Conduct::Ready::kSays:
        (void)!::write(kReadyFd, "\n", 1);
        break;
      case Conduct::Ready::kCloses:
        ::close(kReadyFd);
        break;
      case Conduct::Ready::kExits:
        ::_exit(conduct().ready_code);
      case Conduct::Ready::kNever:
        break;
    }
  }

  void beat(std::int64_t now) {
    beat_at_.reset();
    if (order_.ready && conduct().ready == Conduct::Ready::kNever) return;
    if (::write(kHeartbeatFd, "x", 1) == 1) beat_at_ = now + order_.beat_ns;
  }

  void obey(const ProcessOrder& order) {
    switch (order.kind) {
      case ProcessOrder::Kind::kExit:
        ::_exit(order.number);
      case ProcessOrder::Kind::kRaise:
        die_of(order.number);
      case ProcessOrder::Kind::kSilence:
        beat_at_.reset();
        break;
      case ProcessOrder::Kind::kConduct:
        break;
    }
  }

  std::int64_t begin_;
  UniqueFd socket_;
  ProcessOrder order_;
  UniqueFd stop_;  // SIGTERM, unless it simply dies of it.
  std::optional<std::int64_t> stop_at_;
  std::optional<std::int64_t> ready_at_;
  std::optional<std::int64_t> beat_at_;
};

}  // namespace

int behave(const std::string&) { BehavingProcess().live(); }

ProcessControl::ProcessControl()
    : listener_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  const std::string name =
      "crashworthy-test-" + std::to_string(::getpid()) + "-" + std::to_string(now_ns());
  socklen_t size = 0;
  const sockaddr_un address = address_of(name, &size);
  const int bound = ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), size);
  CRASHWORTHY_CHECK(bound == 0 && ::listen(listener_.get(), kBacklog) == 0, errno);
  ::setenv(kAddressVariable, name.c_str(), 1);
}

ProcessControl::~ProcessControl() { ::unsetenv(kAddressVariable); }

void ProcessControl::update() {
  while (true) {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) break;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) continue;
    processes_[peer.pid] = Process{std::move(socket), false};
  }
  for (auto entry = processes_.begin(); entry != processes_.end();) {
    char answer = 0;
    const ssize_t count = ::recv(entry->second.socket.get(), &answer, 1, MSG_DONTWAIT);
    if (count == 1) entry->second.settled = true;
    const bool gone = count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR);
    entry = gone ? processes_.erase(entry) : std::next(entry);
  }
}

bool ProcessControl::is_settled(pid_t pid) const {
  const auto found = processes_.find(pid);
  return found != processes_.end() && found->second.settled;
}

bool ProcessControl::send(pid_t pid, const ProcessOrder& order) {
  const auto found = processes_.find(pid);
  return found != processes_.end() &&
         ::send(found->second.socket.get(), &order, sizeof order, MSG_NOSIGNAL) == sizeof order;
}

}  // namespace crashworthy

#include "harness/worker/zygote.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <limits>
#include <string>
#include <utility>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/worker/zygote_main.h"
#include "harness/worker/zygote_wire.h"

namespace crashworthy {
namespace {

using Kind = ZygoteReport::Kind;

constexpr std::int64_t kEndPatienceNs = 200'000'000;
constexpr int kRefusedPatienceMs = 1000;  // More than a zygote gives its stopped twin.
constexpr std::int64_t kSilenceNs = 1'000'000'000;
constexpr std::int64_t kHungNs = 30'000'000'000;
constexpr std::int64_t kPreparationNs = 60'000'000'000;  // The warm-up job is the user's.
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

// A joined thread is still counted for some microseconds while the kernel takes it down.
constexpr int kThreadTries = 20;
constexpr timespec kThreadPause{0, 500'000};

// TSan starts a thread of its own with the first of the user's, or in a forked child; it takes care
// of that one at a fork.
#if defined(__SANITIZE_THREAD__)
#define CRASHWORTHY_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CRASHWORTHY_UNDER_TSAN 1
#endif
#endif
#ifdef CRASHWORTHY_UNDER_TSAN
constexpr long kThreadsAllowed = 2;
#else
constexpr long kThreadsAllowed = 1;
#endif

// The number of threads of this process, or -1: the link count of its task directory tells, so
// nothing is listed.
long thread_count() {
  struct stat info {};
  if (::stat("/proc/self/task", &info) != 0) return -1;
  return static_cast<long>(info.st_nlink) - 2;
}

// Blocks every signal while it lives, so that no handler of the parent runs in a fresh child.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

// The peer sees the end although somebody else, a forked copy of us, has the socket, too.
void hang_up(UniqueFd& socket) {
  if (socket.valid()) ::shutdown(socket.get(), SHUT_RDWR);
  socket.reset();
}

// SIGKILL. False when we may not: we have given up that right since we forked it.
bool may_kill(const UniqueFd& pidfd) {
  const auto sent = send_signal(pidfd.get(), SIGKILL);
  return sent || sent.error().sys_errno != EPERM;
}

struct Sockets {
  UniqueFd ours;
  UniqueFd theirs;
};

Result<Sockets> make_sockets() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return system_error("create the socket pair of a zygote", errno);
  }
  return Sockets{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace

Result<void> require_single_thread() {
  long threads = thread_count();
  for (int i = 0; threads > kThreadsAllowed && i < kThreadTries; ++i) {
    ::nanosleep(&kThreadPause, nullptr);
    threads = thread_count();
  }
  if (threads < 0) return system_error("count the threads of this process in /proc", errno);
  if (threads <= kThreadsAllowed) return {};
  return usage_error("unable to fork workers: this process has " + std::to_string(threads) +
                         " threads, and a forked copy would have only one of them",
                     "make the worker pool before anything starts a thread (for OpenCV: "
                     "cv::setNumThreads(1) first)");
}

Error with_limit_hint(Error error) {
  if (!error.hint.empty()) return error;
  switch (error.sys_errno) {
    case EMFILE:
      error.hint =
          "raise the limit of open descriptors (ulimit -n): a pool needs one for each of "
          "its processes, and some";
      break;
    case EAGAIN:
      error.hint = "raise the limit of the user's processes (ulimit -u), or of the cgroup's (pids)";
      break;
    case ENOMEM:
      error.hint = "free memory, or raise what limits it (ulimit -v, the cgroup's memory)";
      break;
    default:
      break;
  }
  return error;
}

Zygotes::~Zygotes() { end(); }

bool Zygotes::end() {
  if (!owner_.is_here()) {
    for (Zygote& zygote : zygotes_) zygote = Zygote();
    return true;
  }
  bool all = true;
  // They see this, and end what their workers have left behind, too.
  for (Zygote& zygote : zygotes_) hang_up(zygote.socket);
  const std::int64_t until = now_ns() + kEndPatienceNs;
  for (Zygote& zygote : zygotes_) {
    if (!zygote.pidfd.valid()) continue;
    const std::int64_t left = std::max<std::int64_t>(until - now_ns(), 0);
    wait_for_end(zygote.pidfd.get(), static_cast<int>(left / 1'000'000));
    // Its twin kills it, if we may not.
    const int patience = may_kill(zygote.pidfd) ? -1 : kRefusedPatienceMs;
    all = wait_for_end(zygote.pidfd.get(), patience) && all;
    if (zygote.ours) [[maybe_unused]]
      const auto reaped = reap(zygote.pidfd.get());
    zygote = Zygote();
  }
  return all;
}

Result<void> Zygotes::fork_first(std::size_t index) {
  if (auto alone = require_single_thread(); !alone) return alone.error();
  auto sockets = make_sockets();
  if (!sockets) return sockets.error();
  auto self = open_pidfd(::getpid());
  if (!self) return self.error();
  std::fflush(nullptr);  // Else the child would print our buffered text once more.
  const pid_t coordinator = ::getpid();
  const SignalsBlocked blocked;
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("fork a zygote", errno);
  if (pid == 0) {
    // While it prepares itself it cannot watch us, and until it has a twin nobody would end it if
    // it were stopped. This ends with the thread that made the pool, which is our only one now;
    // later the pidfd tells.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != coordinator) ::_exit(0);
    for (Zygote& other : zygotes_) other = Zygote();
    sockets->ours.reset();
    settle_in();
    if (body_.prepare) body_.prepare();
    run_zygote(body_, std::move(sockets->theirs), *std::move(self), UniqueFd());
  }
  Zygote& made = zygotes_[index];
  made = Zygote();
  made.pid = pid;
  made.ours = true;
  made.socket = std::move(sockets->ours);
  auto pidfd = open_pidfd(pid);
  if (!pidfd) {
    ::kill(pid, SIGKILL);  // Our child, and not reaped: the pid is still its own.
    ::waitpid(pid, nullptr, 0);
    made = Zygote();
    return pidfd.error();
  }
  made.pidfd = *std::move(pidfd);
  return {};
}

Result<void> Zygotes::boot() {
  if (auto forked = fork_first(0); !forked) return forked.error();
  Zygote& first = zygotes_[0];
  ZygotePacket packet;
  UniqueFd none;
  pollfd ready{first.socket.get(), POLLIN, 0};
  constexpr int kPatienceMs = static_cast<int>(kPreparationNs / 1'000'000);
  int answers = 0;
  do {
    answers = ::poll(&ready, 1, kPatienceMs);
  } while (answers < 0 && errno == EINTR);
  if (answers == 0) {
    end();
    return Error{ErrorKind::kTimeout, 0,
                 "the zygote of the worker pool did not get ready within a minute",
                 "the warm-up job runs there: does it end?"};
  }
  first.ready = receive_packet(first.socket.get(), &packet, sizeof packet, none) == Packet::kWhole;
  if (!first.ready) {
    wait_for_end(first.pidfd.get(), -1);
    const auto status = reap(first.pidfd.get());
    std::string end = "ended";
    if (status && *status) end = ((*status)->signalled() ? "was " : "") + (*status)->describe();
    first = Zygote();
    return Error{ErrorKind::kGone, 0, "the zygote of the worker pool " + end + " at its start",
                 "the warm-up job runs there: does it work by itself?"};
  }
  if (auto asked = request_twin(0); !asked) return asked.error();
  // Before any worker is asked for, so that the two share them.
  std::vector<ZygoteReport> told;
  while (zygotes_[1].socket.valid() && zygotes_[1].pid == 0) {
    while (::poll(&ready, 1, -1) < 0 && errno == EINTR) continue;
    read(0, told);
    if (!told.empty()) {
      return Error{ErrorKind::kGone, 0, "the zygote of the worker pool died at its start", {}};
    }
  }
  return {};
}

Result<void> Zygotes::request_twin(std::size_t from) {
  auto sockets = make_sockets();
  if (!sockets) return sockets.error();
  const ZygoteRequest request{ZygoteRequestKind::kTwin, 0, 0};
  Zygote& asked = zygotes_[from];
  // Should it be dead, the next reports say so.
  if (send_packet(asked.socket.get(), &request, sizeof request, sockets->theirs.get(), false) ==
          0 &&
      asked.asked++ == 0) {
    asked.asked_ns = now_ns();
  }
  Zygote& twin = zygotes_[1 - from];
  twin = Zygote();
  twin.socket = std::move(sockets->ours);
  return {};
}

Result<std::uint32_t> Zygotes::fork_worker(std::uint32_t cell, std::uint32_t generation) {
  const auto usable = [](const Zygote& zygote) { return zygote.pid != 0 && zygote.socket.valid(); };
  Zygote* best = nullptr;
  for (Zygote& zygote : zygotes_) {
    if (usable(zygote) && (best == nullptr || zygote.workers < best->workers)) best = &zygote;
  }
  if (best == nullptr) return Error{ErrorKind::kGone, 0, "no zygote is there to fork a worker", {}};
  const ZygoteRequest request{ZygoteRequestKind::kWorker, cell, generation};
  const int refused = send_packet(best->socket.get(), &request, sizeof request, -1, false);
  if (refused != 0) return system_error("ask a zygote for a worker", refused);
  ++best->workers;
  if (best->asked++ == 0) best->asked_ns = now_ns();
  return static_cast<std::uint32_t>(best - zygotes_.data());
}

std::array<int, Zygotes::kCount> Zygotes::sockets() const {
  return {zygotes_[0].socket.get(), zygotes_[1].socket.get()};
}

Result<std::vector<ZygoteReport>> Zygotes::reports() {
  std::vector<ZygoteReport> told;
  for (std::size_t i = 0; i < kCount; ++i) read(i, told);
  if (auto revived = revive(); !revived) return revived.error();
  return told;
}

void Zygotes::read(std::size_t index, std::vector<ZygoteReport>& reports) {
  Zygote& zygote = zygotes_[index];
  while (zygote.socket.valid()) {
    ZygotePacket packet;
    UniqueFd pidfd;
    const Packet got = receive_packet(zygote.socket.get(), &packet, sizeof packet, pidfd);
    if (got == Packet::kNothing) return;
    if (got == Packet::kClosed) return bury(index, reports);
    const auto kind = static_cast<Kind>(packet.kind);
    const bool answer = kind == Kind::kStarted || kind == Kind::kFailed || kind == Kind::kTwin;
    if (answer && zygote.asked > 0) --zygote.asked;
    zygote.asked_ns = now_ns();
    if (kind == Kind::kFailed && packet.cell == kNoCell) {
      zygotes_[1 - index] = Zygote();  // No twin for now; one zygote is enough to go on.
      twin_refused_ = true;
      continue;
    }
    if (kind == Kind::kFailed || kind == Kind::kEnded) --zygote.workers;
    if (kind == Kind::kTwin) {
      zygotes_[1 - index].pid = packet.pid;
      zygotes_[1 - index].pidfd = std::move(pidfd);
      continue;
    }
    if (kind == Kind::kReady) {
      zygote.ready = true;
      if (zygote.pid == 0) {  // Who forked it has died before it told.
        zygote.pid = packet.pid;
        zygote.pidfd = std::move(pidfd);
      }
      continue;
    }
    reports.push_back({kind, packet.cell, packet.generation, packet.pid, packet.value,
                       static_cast<std::uint32_t>(index), std::move(pidfd)});
  }
}

void Zygotes::bury(std::size_t index, std::vector<ZygoteReport>& reports) {
  Zygote& dead = zygotes_[index];
  hang_up(dead.socket);
  if (dead.pidfd.valid()) {
    may_kill(dead.pidfd);
    if (dead.ours) {
      wait_for_end(dead.pidfd.get(), -1);
      [[maybe_unused]] const auto reaped = reap(dead.pidfd.get());
    }
  }
  const bool was_there = std::exchange(dead, Zygote()).pid != 0;
  twin_refused_ = false;
  if (!was_there)
    return;  // Who was asked to fork it died before. Nobody had asked it for anything.
  ZygoteReport gone;
  gone.kind = Kind::kGone;
  gone.zygote = static_cast<std::uint32_t>(index);
  reports.push_back(std::move(gone));
}

Result<void> Zygotes::revive() {
  for (std::size_t i = 0; i < kCount; ++i) {
    if (zygotes_[i].socket.valid()) continue;
    if (zygotes_[1 - i].socket.valid()) {
      if (twin_refused_) continue;
      // One that is itself on its way has to be there first.
      if (zygotes_[1 - i].pid != 0) twin_refused_ = !request_twin(1 - i).ok();
      continue;
    }
    if (auto forked = fork_first(i); !forked) {
      const Error why = with_limit_hint(forked.error());
      return Error{
          ErrorKind::kGone, 0,
          "both zygotes of the worker pool are dead, and no new one can be forked: " + why.message,
          why.hint};
    }
  }
  return {};
}

std::int64_t Zygotes::silent_at(const Zygote& zygote) {
  if (zygote.asked == 0) return kNever;
  if (!zygote.ready) return zygote.asked_ns + kPreparationNs;
  return std::max(zygote.asked_ns, zygote.looked_ns) + kSilenceNs;
}

std::int64_t Zygotes::silent_at() const {
  std::int64_t first = kNever;
  for (const Zygote& zygote : zygotes_) first = std::min(first, silent_at(zygote));
  return first;
}

void Zygotes::kill(std::uint32_t zygote) {
  const UniqueFd& pidfd = zygotes_[zygote].pidfd;
  if (pidfd.valid() && !may_kill(pidfd)) kill_worker(1 - zygote, kNoCell, 0);
}

void Zygotes::kill_worker(std::uint32_t zygote, std::uint32_t cell, std::uint32_t generation) {
  const UniqueFd& socket = zygotes_[zygote].socket;
  const ZygoteRequest request{ZygoteRequestKind::kKill, cell, generation};
  // Should it not get through, whoever waits for the end asks again.
  if (socket.valid()) send_packet(socket.get(), &request, sizeof request, -1, false);
}

void Zygotes::kill_silent(std::int64_t now) {
  for (Zygote& zygote : zygotes_) {
    if (silent_at(zygote) > now) continue;
    const auto index = static_cast<std::uint32_t>(&zygote - zygotes_.data());
    if (zygote.ready && now - zygote.asked_ns < kHungNs && runs(index)) {
      zygote.looked_ns = now;
      continue;
    }
    zygote.asked_ns = now;
    kill(index);
  }
}

bool Zygotes::runs(std::uint32_t zygote) const {
  const auto stat = read_file("/proc/" + std::to_string(zygotes_[zygote].pid) + "/stat");
  const std::size_t name_end = stat ? stat->rfind(')') : std::string::npos;
  if (name_end == std::string::npos || name_end + 2 >= stat->size()) return false;
  const char state = (*stat)[name_end + 2];
  return state != 'T' && state != 't';
}

}  // namespace crashworthy

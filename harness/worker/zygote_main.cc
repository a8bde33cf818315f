#include "harness/worker/zygote_main.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <map>
#include <utility>

#include "harness/os/check.h"
#include "harness/os/pidfd.h"
#include "harness/worker/zygote_wire.h"

namespace crashworthy {

void settle_in() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

namespace {

using Kind = ZygoteReport::Kind;

class ZygoteProcess {
 public:
  ZygoteProcess(const ZygoteBody& body, UniqueFd socket, UniqueFd coordinator, UniqueFd twin)
      : body_(body),
        socket_(std::move(socket)),
        coordinator_(std::move(coordinator)),
        twin_(std::move(twin)) {}

  [[noreturn]] void run() {
    // Away from the terminal's signals: whether Ctrl-C ends the workers is the coordinator's
    // matter.
    ::setpgid(0, 0);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // What workers leave behind comes to us, and is ended.
    settle_in();
    ::signal(SIGHUP, SIG_IGN);  // The kernel's, when our parent dies while we are stopped.
    listen_to_children();
    tell_of_us();
    for (;;) {
      std::array<pollfd, 3> polls{pollfd{socket_.get(), POLLIN, 0},
                                  pollfd{children_.get(), POLLIN, 0},
                                  pollfd{coordinator_.get(), POLLIN, 0}};
      if (::poll(polls.data(), polls.size(), -1) < 0) continue;  // By a signal.
      if (polls[2].revents != 0) end_both();
      if (polls[1].revents != 0) reap_all();
      if (polls[0].revents != 0) take_requests();
    }
  }

 private:
  struct Child {
    std::uint32_t cell;
    std::uint32_t generation;
  };

  void tell_of_us() {
    const auto self = open_pidfd(::getpid());
    tell({static_cast<std::uint32_t>(Kind::kReady), 0, 0, ::getpid(), 0}, self ? self->get() : -1);
  }

  void listen_to_children() {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    children_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    CRASHWORTHY_CHECK(children_.valid(), errno);
  }

  // The coordinator is dead. Should the twin be stopped, it cannot see this itself. What the
  // workers of a twin that we forked leave behind comes to us; the one that has forked us has to
  // see to that itself, and is given the time.
  [[noreturn]] void end_both() {
    const bool is_child = twin_pid_ != 0;
    if (is_child) kill_twin();
    end_workers();
    constexpr int kTwinPatienceMs = 500;
    if (!is_child && twin_.valid()) {
      wait_for_end(twin_.get(), kTwinPatienceMs);
      kill_twin();
    }
    ::_exit(0);
  }

  void kill_twin() {
    if (twin_.valid()) [[maybe_unused]]
      const auto sent = send_signal(twin_.get(), SIGKILL);
  }

  // The socket has failed. If the coordinator has closed it, or is dead, then the twin ends, too,
  // should it be stopped or not.
  [[noreturn]] void end() {
    constexpr int kHangUpPatienceMs = 100;
    std::array<pollfd, 2> polls{pollfd{socket_.get(), 0, 0}, pollfd{coordinator_.get(), POLLIN, 0}};
    if (::poll(polls.data(), polls.size(), kHangUpPatienceMs) > 0) end_both();
    end_workers();
    ::_exit(0);
  }

  void end_workers() {
    for (const auto& [pid, child] : workers_) ::kill(pid, SIGKILL);
    for (const auto& [pid, child] : workers_) {
      while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
    }
    workers_.clear();
    // Each round may bring the children of those that the last one has killed. What our twin's
    // workers leave behind comes to us once they and the twin are dead.
    constexpr int kRounds = 100;
    for (int i = 0; i < kRounds && (kill_adopted() || twin_pid_ != 0); ++i) {
      for (pid_t pid = 1; pid > 0;) {
        pid = ::waitpid(-1, nullptr, WNOHANG);
        if (pid == twin_pid_) twin_pid_ = 0;
      }
      ::usleep(1000);
    }
  }

  // Waits for room: the coordinator reads soon, or is dead, and then so is the socket.
  void tell(const ZygotePacket& packet, int descriptor = -1) {
    if (send_packet(socket_.get(), &packet, sizeof packet, descriptor, true) != 0) end();
  }

  void take_requests() {
    for (;;) {
      ZygoteRequest request;
      UniqueFd passed;
      switch (receive_packet(socket_.get(), &request, sizeof request, passed)) {
        case Packet::kNothing:
          return;
        case Packet::kClosed:
          end();
        case Packet::kWhole:
          take_request(request, std::move(passed));
      }
    }
  }

  void take_request(const ZygoteRequest& request, UniqueFd passed) {
    switch (request.kind) {
      case ZygoteRequestKind::kWorker:
        return fork_worker({request.cell, request.generation});
      case ZygoteRequestKind::kTwin:
        return fork_twin(std::move(passed));
      case ZygoteRequestKind::kKill:
        return request.cell == kNoCell ? kill_twin() : kill_worker(request);
    }
  }

  void kill_worker(const ZygoteRequest& request) {
    for (const auto& [pid, child] : workers_) {
      if (child.cell == request.cell && child.generation == request.generation) {
        ::kill(pid, SIGKILL);
      }
    }
  }

  void fork_worker(const Child& child) {
    std::fflush(nullptr);
    const pid_t zygote = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) become_worker(zygote, child.cell);
    ZygotePacket packet{static_cast<std::uint32_t>(Kind::kFailed), child.cell, child.generation, 0,
                        errno};
    if (pid < 0) return tell(packet);
    auto pidfd = open_pidfd(pid);  // Not reaped yet: the pid is still its own.
    if (!pidfd) {
      packet.value = pidfd.error().sys_errno;
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
      return tell(packet);
    }
    workers_.emplace(pid, child);
    packet.kind = static_cast<std::uint32_t>(Kind::kStarted);
    packet.pid = pid;
    packet.value = 0;
    tell(packet, pidfd->get());
  }

  [[noreturn]] void become_worker(pid_t zygote, std::uint32_t cell) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // It may have died before the line above: then no signal will ever come.
    if (::getppid() != zygote) ::_exit(0);
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);
    // Else a stopped worker would cost the whole group its life when the zygote's parent dies: the
    // kernel hangs up orphaned groups with stopped members.
    ::setpgid(0, 0);
    settle_in();
    socket_.reset();
    children_.reset();
    coordinator_.reset();
    twin_.reset();
    body_.worker(cell);
    ::_exit(0);
  }

  void fork_twin(UniqueFd socket) {
    std::fflush(nullptr);
    auto self = open_pidfd(::getpid());
    const pid_t pid = self ? ::fork() : -1;
    if (pid == 0) {
      socket_.reset();
      children_.reset();
      twin_.reset();
      run_zygote(body_, std::move(socket), std::move(coordinator_), *std::move(self));
    }
    ZygotePacket packet{static_cast<std::uint32_t>(Kind::kTwin), 0, 0, pid, 0};
    auto pidfd = pid > 0 ? open_pidfd(pid) : Result<UniqueFd>(system_error("fork", errno));
    // There are two to end each other now, or have been asked for: see Zygotes::fork_first().
    ::prctl(PR_SET_PDEATHSIG, 0);
    if (!pidfd) {
      if (pid > 0) {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
      }
      packet = {static_cast<std::uint32_t>(Kind::kFailed), kNoCell, 0, 0, pidfd.error().sys_errno};
      return tell(packet);
    }
    twin_ = *std::move(pidfd);
    twin_pid_ = pid;
    tell(packet, twin_.get());
  }

  void reap_all() {
    signalfd_siginfo info{};
    while (::read(children_.get(), &info, sizeof info) > 0) continue;
    for (;;) {
      int raw = 0;
      const pid_t pid = ::waitpid(-1, &raw, WNOHANG);
      if (pid <= 0) return;
      if (pid == twin_pid_) twin_pid_ = 0;
      const auto found = workers_.find(pid);
      // The twin, or what a worker left behind.
      const bool ours = found != workers_.end();
      const Child child = ours ? found->second : Child{};
      if (ours) workers_.erase(found);
      kill_adopted();  // Each death may have brought us what the dead one had started.
      if (!ours) continue;
      tell({static_cast<std::uint32_t>(Kind::kEnded), child.cell, child.generation, pid, raw});
    }
  }

  // Children that we have not forked are what dead workers have left. True when there was any.
  bool kill_adopted() {
    bool any = false;
    std::ifstream list("/proc/thread-self/children");
    for (pid_t pid = 0; list >> pid;) {
      if (workers_.count(pid) != 0 || pid == twin_pid_) continue;
      ::kill(pid, SIGKILL);
      any = true;
    }
    return any;
  }

  const ZygoteBody& body_;
  UniqueFd socket_;
  UniqueFd coordinator_;
  UniqueFd twin_;
  pid_t twin_pid_ = 0;  // While it is our child.
  UniqueFd children_;   // SIGCHLD.
  std::map<pid_t, Child> workers_;
};

}  // namespace

void run_zygote(const ZygoteBody& body, UniqueFd socket, UniqueFd coordinator,
                UniqueFd twin) noexcept {
  ZygoteProcess(body, std::move(socket), std::move(coordinator), std::move(twin)).run();
}

}  // namespace crashworthy

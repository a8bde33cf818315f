// The outer process: chooses the containment, starts the reaper, guards it.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>

#include "harness/os/pidfd.h"
#include "harness/process/cgroup.h"
#include "harness/process/init.h"
#include "harness/process/message.h"
#include "harness/process/process_tree.h"

namespace crashworthy {
namespace {

class Outer {
 public:
  explicit Outer(const Command& command) : command_(command) {}

  int run() {
    ::setsid();
    auto self = open_pidfd(::getpid());
    auto harness = open_pidfd(::getppid());
    // Another parent than the harness: that has ended already.
    if (!self || !harness || ::getppid() != command_.harness) return 0;
    self_ = *std::move(self);
    harness_ = *std::move(harness);
    wake_when_the_harness_ends();
    if (!start_in_best_containment()) {
      say_uncontained();
      return 0;
    }
    ::close(kControlFd);  // From here on the reaper speaks.
    ::close(kSpecFd);
    for (const auto& descriptor : command_.descriptors) ::close(descriptor.source);
    if (command_.gate >= 0) ::close(command_.gate);
    let_go_of_output();
    wait_for(reaper_.get());
    if (containment_ == Containment::kPidNamespace) {
      (void)send_signal(reaper_.get(), SIGKILL);
      ::waitpid(-1, nullptr, 0);  // A zombie would be left to the machine's init.
    } else {
      end_descendants(cgroup_.get());
    }
    return 0;
  }

 private:
  // The end of the lifeline makes the kernel send SIGCONT to our process group, that is to this
  // process and the reaper, so that nobody stays who was stopped before.
  static void wake_when_the_harness_ends() {
    ::fcntl(kLaunchLifelineFd, F_SETOWN, -::getpgrp());
    ::fcntl(kLaunchLifelineFd, F_SETSIG, SIGCONT);
    ::fcntl(kLaunchLifelineFd, F_SETFL, O_ASYNC);
  }

  bool start_in_best_containment() {
    if (command_.forced) return start_in(*command_.forced);
    return std::any_of(kContainments.begin(), kContainments.end(),
                       [this](Containment containment) { return start_in(containment); });
  }

  bool start_in(Containment containment) {
    containment_ = containment;
    if (containment != Containment::kPidNamespace) ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (containment == Containment::kCgroup) {
      if (auto ready = prepare_cgroup(); !ready) {
        refused("cgroup refused: " + ready.error().message);
        return false;
      }
    }
    const int error = try_reaper();
    if (error == 0) return true;
    const char* name = containment == Containment::kPidNamespace ? "pid namespace" : "process";
    refused(std::string(name) + " refused: " + std::strerror(error));
    drop_cgroup();
    return false;
  }

  void refused(const std::string& why) { reason_ += (reason_.empty() ? "" : "; ") + why; }

  // Starts the reaper; 0, or the errno of what makes this level useless.
  int try_reaper() {
    int pipe[2];
    if (::pipe2(pipe, O_CLOEXEC) != 0) return errno;
    UniqueFd setup(pipe[0]);
    UniqueFd write_end(pipe[1]);
    ReaperStart start;
    start.command = &command_;
    start.containment = containment_;
    start.reason = command_.forced ? "asked for" : reason_;
    start.outer = self_.get();
    start.harness = harness_.get();
    start.cgroup = cgroup_.get();
    start.setup = write_end.get();
    auto pid = start_reaper(start);
    if (!pid) return pid.error().sys_errno;
    write_end.reset();
    auto pidfd = open_pidfd(*pid);
    if (!pidfd) return pidfd.error().sys_errno;
    reaper_ = *std::move(pidfd);
    wait_for(setup.get());
    // The harness is gone, or has ended the subject already: not a matter of this level. The reaper
    // counts as started, and is ended by who called.
    if (!any_ended({setup.get()})) return 0;
    SetupResult result;
    if (::read(setup.get(), &result, sizeof result) != sizeof result) result.error = ECHILD;
    if (result.error == 0) return 0;
    (void)send_signal(reaper_.get(), SIGKILL);
    ::waitpid(*pid, nullptr, 0);
    return result.error;
  }

  // A cgroup of its own, into which a child may really move.
  Result<void> prepare_cgroup() {
    auto cgroup = create_cgroup("crashworthy-" + std::to_string(::getpid()));
    if (!cgroup) return cgroup.error();
    cgroup_ = *std::move(cgroup);
    auto join = open_cgroup_processes(cgroup_.get());
    int error = join ? 0 : join.error().sys_errno;
    if (join) {
      const pid_t child = ::fork();
      if (child == 0) ::_exit(::write(join->get(), "0", 1) == 1 ? 0 : errno);
      int status = 0;
      error = child > 0 && ::waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : errno;
    }
    if (error == 0) return {};
    drop_cgroup();
    return system_error("move a process into it", error);
  }

  void drop_cgroup() {
    if (!cgroup_.valid()) return;
    remove_cgroup(cgroup_.get());
    cgroup_.reset();
  }

  // Waits until `descriptor` is readable or the harness is gone.
  void wait_for(int descriptor) {
    pollfd fds[] = {
        {descriptor, POLLIN, 0}, {kLaunchLifelineFd, POLLIN, 0}, {harness_.get(), POLLIN, 0}};
    while (::poll(fds, std::size(fds), -1) < 0) {
    }
  }

  void say_uncontained() {
    Message message;
    message.stage = Stage::kContainment;
    std::strncpy(message.reason, reason_.c_str(), sizeof message.reason - 1);
    send_message(kControlFd, message, {}, 0, 0);
  }

  const Command& command_;
  UniqueFd self_;  // pidfds
  UniqueFd harness_;
  UniqueFd reaper_;
  UniqueFd cgroup_;
  Containment containment_ = Containment::kPidNamespace;
  std::string reason_;
};

}  // namespace

bool any_ended(std::initializer_list<int> descriptors) {
  return std::any_of(descriptors.begin(), descriptors.end(), [](int fd) {
    pollfd poll_fd{fd, POLLIN, 0};
    return fd >= 0 && ::poll(&poll_fd, 1, 0) > 0;
  });
}

UniqueFd make_child_signal() {
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  return UniqueFd(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
}

void let_go_of_output() {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  if (null > 2) ::close(null);
}

void end_descendants(int cgroup) {
  const UniqueFd children = make_child_signal();
  for (PassPause pause;;) {
    if (cgroup >= 0) kill_cgroup(cgroup);
    signal_descendants(::getpid(), {SIGKILL});
    pid_t reaped = 0;
    while ((reaped = ::waitpid(-1, nullptr, WNOHANG)) > 0) pause.shorten();
    if (reaped < 0 && errno == ECHILD) break;
    pollfd poll_fd{children.get(), POLLIN, 0};
    ::poll(&poll_fd, 1, pause.next_ms());
    char drained[1024];
    (void)!::read(children.get(), drained, sizeof drained);
  }
  if (cgroup < 0) return;
  // A process of the cgroup that was never below us (moved in by hand) ends here.
  while (!wait_until_empty(cgroup, std::chrono::milliseconds(100))) kill_cgroup(cgroup);
  remove_cgroup(cgroup);
}

int run_outer(bool is_shim) {
  auto command = read_command(kSpecFd);
  for (int fd = kControlFd;
       command && fd <= kFirstSubjectFd + static_cast<int>(command->descriptors.size()); ++fd) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  if (command) {
    command->is_shim = is_shim;
    return Outer(*command).run();
  }
  Message message;
  message.stage = Stage::kProtocol;
  message.error = command.error().sys_errno;
  send_message(kControlFd, message, {}, 0, 0);
  return 0;
}

}  // namespace crashworthy

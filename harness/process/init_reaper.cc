// The reaper: starts the command, reaps everything, reports every end.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>
#include <span>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/process/cgroup.h"
#include "harness/process/init.h"
#include "harness/process/message.h"

namespace crashworthy {
namespace {

class Reaper {
 public:
  explicit Reaper(const ReaperStart& start) : start_(start), children_(make_child_signal()) {}

  // Until the tree is empty or must end.
  void run() {
    if (!start()) return;
    while (!over_) {
      pollfd fds[] = {{kLaunchLifelineFd, POLLIN, 0}, {start_.harness, POLLIN, 0},
                      {start_.outer, POLLIN, 0},      {children_.get(), POLLIN, 0},
                      {failure_.get(), POLLIN, 0},    {blocked_ ? kControlFd : -1, POLLOUT, 0}};
      if (::poll(fds, std::size(fds), -1) < 0) continue;
      if (fds[0].revents != 0 || fds[1].revents != 0 || fds[2].revents != 0) return;
      if (fds[4].revents != 0) learn_whether_started();
      drain_signals();
      reap_all();
    }
  }

 private:
  bool start() {
    UniqueFd join;
    if (start_.cgroup >= 0) {
      auto processes = open_cgroup_processes(start_.cgroup);
      if (!processes) return fail(Stage::kJoinCgroup, processes.error().sys_errno);
      join = *std::move(processes);
    }
    int pipe[2];
    if (::pipe2(pipe, O_CLOEXEC) != 0) return fail(Stage::kFork, errno);
    failure_.reset(pipe[0]);
    UniqueFd write_end(pipe[1]);
    auto pid = start_command(*start_.command, write_end.get(), join.get());
    if (!pid) return fail(Stage::kFork, pid.error().sys_errno);
    main_ = *pid;
    for (const auto& descriptor : start_.command->descriptors) ::close(descriptor.source);
    let_go_of_output();
    return true;
  }

  bool fail(Stage stage, int error) {
    Message message;
    message.stage = stage;
    message.error = error;
    send_message(kControlFd, message, {}, 0, 0);
    over_ = true;
    return false;
  }

  // `failure_` has something to say, or was closed by a successful exec.
  void learn_whether_started() {
    ExecFailure failure;
    const ssize_t count = ::read(failure_.get(), &failure, sizeof failure);
    failure_.reset();
    if (count == sizeof failure) {
      fail(failure.stage, failure.error);
    } else {
      say_started();
    }
  }

  void say_started() {
    Message message;
    message.kind = MessageKind::kStarted;
    message.pid = main_;
    message.time_ns = now_ns();
    message.containment = static_cast<std::uint32_t>(start_.containment);
    std::strncpy(message.reason, start_.reason.c_str(), sizeof message.reason - 1);
    auto main = open_pidfd(main_);
    auto self = open_pidfd(::getpid());
    if (!main || !self) {
      fail(Stage::kFork, (main ? self : main).error().sys_errno);
      return;
    }
    int fds[3] = {main->get(), self->get(), start_.cgroup};
    send(&message, std::span(fds).first(start_.cgroup >= 0 ? 3 : 2), 0);
  }

  // Sends with the credentials of the process that is spoken of, so that the harness learns its own
  // pid of it; without where that is refused. False when the socket is full.
  bool send(Message* message, std::span<const int> descriptors, int flags) {
    message->names_process = message->pid > 0 ? 1 : 0;
    int error = send_message(kControlFd, *message, descriptors, message->pid, flags);
    if (error == EPERM || error == ESRCH) {
      message->names_process = 0;
      error = send_message(kControlFd, *message, descriptors, 0, flags);
    }
    return error != EAGAIN;  // Any other failure: the harness is gone, which the lifeline tells.
  }

  void drain_signals() {
    char buffer[128];
    while (::read(children_.get(), buffer, sizeof buffer) > 0) {
    }
  }

  // A process is reaped after its report was sent: while the socket is full it stays a zombie.
  void reap_all() {
    blocked_ = false;
    while (!over_ && !blocked_) {
      siginfo_t info{};
      if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
        if (errno == ECHILD) say_childless();
        return;
      }
      if (info.si_pid == 0) return;
      if (info.si_pid == main_ && failure_.valid()) learn_whether_started();
      if (!over_ && report_end(info)) ::waitpid(info.si_pid, nullptr, 0);
    }
  }

  bool report_end(const siginfo_t& info) {
    if (pending_.pid != info.si_pid) pending_.time_ns = now_ns();
    pending_.pid = info.si_pid;
    pending_.kind = info.si_pid == main_ ? MessageKind::kMainEnded : MessageKind::kDescendantEnded;
    pending_.raw_status = WaitStatus::from_siginfo(info).raw();
    blocked_ = !send(&pending_, {}, MSG_DONTWAIT);
    if (!blocked_) pending_ = Message{};
    return !blocked_;
  }

  void say_childless() {
    Message message;
    message.kind = MessageKind::kChildless;
    message.time_ns = now_ns();
    blocked_ = !send(&message, {}, MSG_DONTWAIT);
    over_ = !blocked_;
  }

  const ReaperStart& start_;
  UniqueFd children_;  // A signalfd.
  UniqueFd failure_;   // Open until it is known whether the command was executed.
  pid_t main_ = 0;
  Message pending_;  // What did not fit into the socket, with its stamp.
  bool blocked_ = false;
  bool over_ = false;
};

}  // namespace

[[noreturn]] void run_reaper(const ReaperStart& start) {
  Reaper(start).run();
  // In a namespace the kernel ends the rest with us.
  if (start.containment != Containment::kPidNamespace) end_descendants(start.cgroup);
  ::_exit(0);
}

}  // namespace crashworthy

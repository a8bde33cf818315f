// The reaper of a subject: starts the command, reaps everything, reports every end.
#include "harness/process/init_reaper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <iterator>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/process/cgroup.h"
#include "harness/process/init.h"
#include "harness/process/message.h"

namespace crashworthy {

std::optional<Reaper::Ready> Reaper::wait(short control_events, int timeout_ms) {
  pollfd fds[] = {
      {kLaunchLifelineFd, POLLIN, 0}, {start_.harness, POLLIN, 0},
      {start_.outer, POLLIN, 0},      {children_.get(), POLLIN, 0},
      {failure_.get(), POLLIN, 0},    {control_events != 0 ? kControlFd : -1, control_events, 0}};
  while (::poll(fds, std::size(fds), timeout_ms) < 0) {
  }
  if (fds[0].revents != 0 || fds[1].revents != 0 || fds[2].revents != 0) return std::nullopt;
  return Ready{fds[4].revents != 0, fds[3].revents != 0, fds[5].revents != 0,
               (fds[5].revents & POLLHUP) != 0};
}

std::optional<ExecFailure> Reaper::start_main(std::vector<Command::Descriptor> descriptors,
                                              int join) {
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) return ExecFailure{Stage::kFork, errno};
  failure_.reset(pipe[0]);
  UniqueFd write_end(pipe[1]);
  auto pid = start_command(*start_.command, std::move(descriptors), write_end.get(), join);
  if (pid) {
    main_ = *pid;
    return std::nullopt;
  }
  failure_.reset();
  return ExecFailure{Stage::kFork, pid.error().sys_errno};
}

std::optional<ExecFailure> Reaper::take_outcome() {
  ExecFailure failure;
  const ssize_t count = ::read(failure_.get(), &failure, sizeof failure);
  failure_.reset();
  if (count == sizeof failure) return failure;
  return std::nullopt;
}

bool Reaper::send(Message* message, std::span<const int> descriptors, bool names_process,
                  int flags) {
  message->names_process = names_process ? 1 : 0;
  int error =
      send_message(kControlFd, *message, descriptors, names_process ? message->pid : 0, flags);
  if (names_process && (error == EPERM || error == ESRCH)) {
    message->names_process = 0;
    error = send_message(kControlFd, *message, descriptors, 0, flags);
  }
  return error != EAGAIN;
}

Reaper::Look Reaper::look_for_ended(siginfo_t* ended) {
  *ended = {};
  if (::waitid(P_ALL, 0, ended, WEXITED | WNOHANG | WNOWAIT) != 0) {
    return errno == ECHILD ? Look::kChildless : Look::kNobody;
  }
  return ended->si_pid == 0 ? Look::kNobody : Look::kSomebody;
}

Message Reaper::end_message(const siginfo_t& ended) const {
  Message message;
  message.kind = ended.si_pid == main_ ? MessageKind::kMainEnded : MessageKind::kDescendantEnded;
  message.pid = ended.si_pid;
  message.raw_status = WaitStatus::from_siginfo(ended).raw();
  message.time_ns = now_ns();
  return message;
}

void Reaper::drain_signals() {
  char buffer[128];
  while (::read(children_.get(), buffer, sizeof buffer) > 0) {
  }
}

namespace {

class SubjectReaper : private Reaper {
 public:
  explicit SubjectReaper(const ReaperStart& start) : Reaper(start) {}

  // Until the tree is empty or must end.
  void run() {
    if (!start()) return;
    while (!over_) {
      const auto ready = wait(blocked_ ? POLLOUT : 0, -1);
      if (!ready) return;
      if (ready->outcome) learn_whether_started();
      drain_signals();
      reap_all();
    }
  }

 private:
  bool start() {
    // Elsewhere they would be everybody's mounts.
    if (!start_.command->mounts.empty() && start_.containment != Containment::kPidNamespace) {
      return fail({Stage::kMount, EOPNOTSUPP});
    }
    // Before the fork: who looks at the held command finds them there.
    if (const int error = mount_all(*start_.command); error != 0) {
      return fail({Stage::kMount, error});
    }
    UniqueFd join;
    if (start_.cgroup >= 0) {
      auto processes = open_cgroup_processes(start_.cgroup);
      if (!processes) return fail({Stage::kJoinCgroup, processes.error().sys_errno});
      join = *std::move(processes);
    }
    const auto& descriptors = start_.command->descriptors;
    if (const auto failure = start_main(descriptors, join.get())) return fail(*failure);
    for (const auto& descriptor : descriptors) ::close(descriptor.source);
    let_go_of_output();
    if (start_.command->gate < 0) return true;
    ::close(start_.command->gate);
    Message message;
    message.kind = MessageKind::kHeld;
    message.pid = main_;
    send(&message, {}, true, 0);
    return true;
  }

  bool fail(const ExecFailure& failure) {
    Message message;
    message.stage = failure.stage;
    message.error = failure.error;
    send_message(kControlFd, message, {}, 0, 0);
    over_ = true;
    return false;
  }

  void learn_whether_started() {
    if (const auto failure = take_outcome()) {
      fail(*failure);
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
      fail({Stage::kFork, (main ? self : main).error().sys_errno});
      return;
    }
    int fds[3] = {main->get(), self->get(), start_.cgroup};
    send(&message, std::span(fds).first(start_.cgroup >= 0 ? 3 : 2), true, 0);
  }

  // A process is reaped after its report was sent: while the socket is full it stays a zombie.
  void reap_all() {
    blocked_ = false;
    while (!over_ && !blocked_) {
      siginfo_t ended;
      const Look look = look_for_ended(&ended);
      if (look == Look::kChildless) return say_childless();
      if (look == Look::kNobody) return;
      if (ended.si_pid == main_ && outcome_is_open()) learn_whether_started();
      if (!over_ && report_end(ended)) ::waitpid(ended.si_pid, nullptr, 0);
    }
  }

  bool report_end(const siginfo_t& ended) {
    if (pending_.pid != ended.si_pid) pending_ = end_message(ended);
    blocked_ = !send(&pending_, {}, true, MSG_DONTWAIT);
    if (!blocked_) pending_ = Message{};
    return !blocked_;
  }

  void say_childless() {
    Message message;
    message.kind = MessageKind::kChildless;
    message.time_ns = now_ns();
    blocked_ = !send(&message, {}, false, MSG_DONTWAIT);
    over_ = !blocked_;
  }

  Message pending_;  // What did not fit into the socket, with its stamp.
  bool blocked_ = false;
  bool over_ = false;
};

}  // namespace

[[noreturn]] void run_reaper(const ReaperStart& start) {
  if (start.command->is_shim) {
    run_shim_reaper(start);
  } else {
    SubjectReaper(start).run();
  }
  // In a namespace the kernel ends the rest with us.
  if (start.containment != Containment::kPidNamespace) end_descendants(start.cgroup);
  ::_exit(0);
}

}  // namespace crashworthy

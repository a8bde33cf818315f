#include "pipelines/each/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "harness/os/pidfd.h"

namespace crashworthy::each {
namespace {

constexpr int kExecPatienceMs = 1000;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("make a pipe", errno);
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Between fork and exec: async-signal-safe calls only.
[[noreturn]] void execute(char* const* argv, int in, int out, int failure, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // It died before that held.
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (::dup2(in, STDIN_FILENO) >= 0 && (out < 0 || ::dup2(out, STDOUT_FILENO) >= 0))
    ::execvp(argv[0], argv);
  const int number = errno;
  [[maybe_unused]] const ssize_t ignored = ::write(failure, &number, sizeof number);
  ::_exit(127);
}

// 0 once the program has been executed; else why it cannot be. Somebody may have stopped the child
// before: then nobody knows yet.
int wait_for_exec(int failure) {
  pollfd fd{failure, POLLIN, 0};
  while (::poll(&fd, 1, kExecPatienceMs) < 0 && errno == EINTR) {
  }
  int number = 0;
  if (fd.revents == 0 || ::read(failure, &number, sizeof number) != sizeof number) return 0;
  return number;
}

}  // namespace

Result<Child> start_child(const std::vector<std::string>& words, bool talks) {
  const std::string what = "start '" + words[0] + "'";
  auto failure = make_pipe();
  if (!failure) return failure.error().with_context(what);
  Pipe in;
  Pipe out;
  if (talks) {
    auto first = make_pipe();
    auto second = make_pipe();
    if (!first || !second) return (first ? second : first).error().with_context(what);
    in = *std::move(first);
    out = *std::move(second);
  } else {
    in.read.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!in.read.valid()) return system_error(what + ": open /dev/null", errno);
  }
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return system_error(what, errno);
  if (pid == 0) execute(argv.data(), in.read.get(), out.write.get(), failure->write.get(), parent);
  ::setpgid(pid, pid);  // By both, so that it holds for whoever goes on first.
  failure->write.reset();
  auto pidfd = open_pidfd(pid);
  const int number = pidfd ? wait_for_exec(failure->read.get()) : 0;
  if (!pidfd || number != 0) {
    ::kill(-pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    if (!pidfd) return pidfd.error().with_context(what);
    Error error = system_error(what, number);
    error.kind = ErrorKind::kUsage;
    return error;
  }
  Child child{pid, *std::move(pidfd), std::move(in.write), std::move(out.read)};
  for (const UniqueFd* end : {&child.input, &child.output}) {
    if (end->valid()) ::fcntl(end->get(), F_SETFL, O_NONBLOCK);
  }
  return child;
}

void kill_group(const Child& child) {
  ::kill(-child.pid, SIGKILL);
  ::kill(child.pid, SIGKILL);  // Should it have left its group.
}

}  // namespace crashworthy::each

// crashworthy supervise: a supervision tree from a file, in the foreground; fit to be the first
// process of a container.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <random>
#include <set>

#include "harness/cli/commands.h"
#include "harness/cli/control_server.h"
#include "harness/cli/line_writer.h"
#include "harness/os/clock.h"
#include "harness/supervision/tree.h"
#include "harness/supervision/tree_file.h"

namespace crashworthy {
namespace {

constexpr int kGaveUpExit = 1;
// One request may come as several signals: timeout(1) signals its child, then its process group,
// and a terminal and a shell may both pass on a Ctrl-C.
constexpr std::int64_t kSameRequestNs = 100'000'000;

// CLOCK_REALTIME ns for CLOCK_MONOTONIC ones. What is between the clocks is measured anew each
// time, but taken over only when somebody has set the clock: its noise would disorder the log.
class WallClock {
 public:
  std::int64_t of(std::int64_t monotonic_ns) {
    constexpr std::int64_t kNoise = 1'000'000;
    timespec time{};
    ::clock_gettime(CLOCK_REALTIME, &time);
    const std::int64_t between =
        static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec - now_ns();
    if (std::abs(between - between_) > kNoise) between_ = between;
    return monotonic_ns + between_;
  }

 private:
  std::int64_t between_ = 0;
};

// The signals that end the tree, and SIGCHLD, as a descriptor. What the caller wants ignored
// (nohup, a background job of a shell) stays ignored.
Result<UniqueFd> take_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGQUIT, SIGHUP}) {
    struct sigaction action {};
    ::sigaction(number, nullptr, &action);
    if (action.sa_handler != SIG_IGN) ::sigaddset(&set, number);
  }
  for (const int number : {SIGTERM, SIGCHLD}) {
    ::signal(number, SIG_DFL);  // An ignored SIGCHLD would lose how our children ended.
    ::sigaddset(&set, number);
  }
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return system_error("block signals", errno);
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return system_error("receive signals", errno);
  return fd;
}

// Were one of 0, 1 and 2 closed, the next file that we open would be the children's stdout.
void hold_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    const int made = ::open("/dev/null", O_RDWR);  // The lowest that is free: this one.
    if (made >= 0 && made != fd) ::close(made);
  }
}

// A line for stderr, which may be a pipe that nobody reads.
void tell(const std::string& line) { LineWriter(STDERR_FILENO).write(line); }

std::optional<std::int64_t> sooner(std::optional<std::int64_t> a, std::optional<std::int64_t> b) {
  return a && b ? std::min(*a, *b) : a ? a : b;
}

// Where the events of the tree go.
class Outputs {
 public:
  static Result<Outputs> open(const SuperviseArguments& arguments, const std::string& root) {
    Outputs outputs;
    outputs.root_ = root;
    if (!arguments.log.empty()) {
      auto log = LineWriter::append_to(arguments.log);
      if (!log) return log.error();
      outputs.log_ = *std::move(log);
    } else if (!arguments.quiet) {
      outputs.log_ = LineWriter(STDERR_FILENO);
    }
    if (arguments.events.empty()) return outputs;
    auto events = LineWriter::append_to(arguments.events);
    if (!events) return events.error();
    outputs.events_ = *std::move(events);
    return outputs;
  }

  void write(const Event& event) {
    const std::int64_t unix_ns = clock_.of(event.time_ns);
    if (log_ && event.kind == EventKind::kState) log_->write(log_line(event, unix_ns, root_));
    if (events_) events_->write(event_json(event, unix_ns));
  }
  void flush() {
    for (auto* writer : {&log_, &events_}) {
      if (*writer) (*writer)->flush();
    }
  }
  void add_to(std::vector<pollfd>& set, std::int64_t now) const {
    for (const auto* writer : {&log_, &events_}) {
      if (*writer && (*writer)->polls(now)) set.push_back({(*writer)->fd(), POLLOUT, 0});
    }
  }
  // ns until something is to be tried again.
  std::optional<std::int64_t> timeout(std::int64_t now) const {
    std::optional<std::int64_t> bound;
    for (const auto* writer : {&log_, &events_}) {
      if (*writer) bound = sooner(bound, (*writer)->timeout(now));
    }
    return bound;
  }
  // After the end: says what never was written.
  void close(const SuperviseArguments& arguments) {
    for (auto* writer : {&log_, &events_}) {
      if (*writer) (*writer)->flush_now();
    }
    const std::pair<const std::optional<LineWriter>*, const std::string*> files[] = {
        {&log_, &arguments.log}, {&events_, &arguments.events}};
    for (const auto& [writer, name] : files) {
      if (!*writer || name->empty() || ((*writer)->lost() == 0 && !(*writer)->waits())) continue;
      tell("crashworthy: error: '" + *name + "' is not complete: some of its lines are missing");
    }
  }

 private:
  std::optional<LineWriter> log_;
  std::optional<LineWriter> events_;
  std::string root_;
  WallClock clock_;
};

// Our children as the kernel lists them; those of the tree among them.
std::vector<pid_t> all_children() {
  std::vector<pid_t> pids;
  std::ifstream list("/proc/thread-self/children");
  for (pid_t pid = 0; list >> pid;) pids.push_back(pid);
  return pids;
}

// Reaps processes that became our children by the death of their parents, because we are the first
// process of a pid namespace, or by our own wish: as a subreaper we adopt what is left of a child
// when somebody kills both of its guards, and nobody else; it is killed. The tree's own are left to
// the tree, which wants to know how they ended.
void reap_strangers(const SupervisionTree& tree) {
  const std::vector<pid_t> list = tree.own_pids();
  const std::set<pid_t> own(list.begin(), list.end());
  while (true) {
    siginfo_t info{};
    const int found = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
    if (found != 0 || info.si_pid == 0) break;
    if (own.contains(info.si_pid)) break;
    ::waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG);
  }
  // One of the tree's own may stand in front of the others, and some may live: look at each.
  for (const pid_t pid : all_children()) {
    siginfo_t info{};
    if (own.contains(pid)) continue;
    // The first process adopts those of others too: of `docker exec`, say.
    if (::getpid() != 1) ::kill(pid, SIGKILL);  // Not reaped before: nobody else has its pid.
    ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG);
  }
}

class Supervision {
 public:
  Supervision(SupervisionTree tree, UniqueFd signals, Outputs& outputs)
      : tree_(std::move(tree)), signals_(std::move(signals)), outputs_(outputs) {}

  void serve(ControlSocket socket, TreeFacts facts) {
    server_.emplace(std::move(socket), tree_.logic(), std::move(facts));
  }

  Result<TreeEnd> run() {
    while (true) {
      if (auto ran = tree_.run(Nanoseconds(0)); !ran) return ran.error();
      if (server_) server_->send(now_ns());
      if (const auto end = tree_.logic().ended()) return *end;
      if (auto waited = wait(); !waited) return waited.error();
      outputs_.flush();
      take_signals();
      if (server_) server_->receive(now_ns());
    }
  }

  const std::string& end_text() const { return tree_.logic().end_text(); }

 private:
  Result<void> wait() {
    const std::int64_t now = now_ns();
    std::vector<pollfd> set{{tree_.event_fd(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    outputs_.add_to(set, now);
    std::optional<std::int64_t> bound = outputs_.timeout(now);
    if (const auto tree = tree_.timeout()) bound = sooner(bound, tree->count());
    if (server_) {
      server_->add_to(set, now);
      bound = sooner(bound, server_->timeout(now));
    }
    timespec time{};
    if (bound) time = {*bound / 1'000'000'000, *bound % 1'000'000'000};
    const int found = ::ppoll(set.data(), set.size(), bound ? &time : nullptr, nullptr);
    if (found < 0 && errno != EINTR) return system_error("wait for events", errno);
    return {};
  }

  void take_signals() {
    signalfd_siginfo info{};
    bool child_ended = false;
    while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (info.ssi_signo == SIGCHLD) {
        child_ended = true;
      } else if (asked_ns_ == 0) {
        asked_ns_ = now_ns();
        tree_.shutdown();
      } else if (now_ns() - asked_ns_ > kSameRequestNs) {
        tree_.kill();
      }
    }
    if (child_ended) reap_strangers(tree_);
  }

  SupervisionTree tree_;
  UniqueFd signals_;
  Outputs& outputs_;
  std::optional<ControlServer> server_;  // Before the tree in the order of ends.
  std::int64_t asked_ns_ = 0;            // When the first signal came.
};

std::uint64_t drawn_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

int gave_up(const std::string& name, TreeEnd end, const std::string& why) {
  tell("crashworthy: error: the tree '" + name + "' " +
       (end == TreeEnd::kStartFailed ? "could not be started" : "gave up") +
       (why.empty() ? "" : ": " + why));
  return kGaveUpExit;
}

}  // namespace

int supervise_command(const SuperviseArguments& arguments) {
  hold_standard_descriptors();
  auto file = read_tree_file(arguments.file);
  if (!file) return fail(file.error());
  if (arguments.check) {
    std::printf("ok\n");
    return 0;
  }
  auto outputs = Outputs::open(arguments, file->name);
  if (!outputs) return fail(outputs.error());
  auto signals = take_signals();
  if (!signals) return fail(signals.error());
  std::optional<ControlSocket> socket;
  if (!arguments.socket.empty()) {
    auto listening = ControlSocket::listen(arguments.socket);
    if (!listening) return fail(listening.error());
    socket.emplace(*std::move(listening));
  }
  const TreeFacts facts{file->name, arguments.seed.value_or(drawn_seed()), now_ns()};
  TreeOptions options;
  options.seed = facts.seed;
  options.sink = [&outputs](const Event& event) { outputs->write(event); };
  auto tree = SupervisionTree::create(std::move(file->root), std::move(options));
  if (!tree) return fail(tree.error().with_context(arguments.file));
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  Supervision supervision(*std::move(tree), *std::move(signals), *outputs);
  if (socket) supervision.serve(*std::move(socket), facts);
  const auto end = supervision.run();
  outputs->close(arguments);
  if (!end) return fail(end.error());
  if (*end == TreeEnd::kAsked || *end == TreeEnd::kAutoShutdown) return 0;
  return gave_up(facts.name, *end, supervision.end_text());
}

}  // namespace crashworthy

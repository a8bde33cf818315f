// A shim starts its command again and again, tells exactly how each incarnation ended, and keeps
// hold of the whole tree: in a crash, when it is stopped, suspended or killed, and whoever of the
// supervisor and the shim's own processes dies or is stopped. The tests at the end of
// containment_test.cc run all of it once more as an ordinary user.
#include "harness/process/shim.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <thread>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/process_test_support.h"
#include "harness/process/process_tree.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Kind = ShimEvent::Kind;

int restarts(int usual, int full) {
  return std::getenv("CRASHWORTHY_LONG") != nullptr ? full : usual;
}

// The main process, a child with a child, a daemon of its own session (double fork, so an orphan)
// and its child: five processes that sleep.
constexpr const char* kTree =
    "(sleep 1001 & exec sleep 1002) &\n"
    "(setsid sh -c 'sleep 1003 & exec sleep 1004' &) \n"
    "exec sleep 1005";
constexpr std::size_t kTreeSize = 5;

// Tries for ever to outrun whoever walks the tree.
constexpr const char* kForkStorm =
    "spawn() { while true; do (sleep 0.01 &); done; }; spawn & spawn & spawn & wait";

// What a shim tells, one event at a time.
class Told {
 public:
  explicit Told(Shim* shim) : shim_(shim) {}

  // The next event; kLost with a failure of the test when none comes within 10 s.
  ShimEvent next() {
    while (waiting_.empty()) {
      if (lost_) {
        ADD_FAILURE() << "the shim is lost already";
        return {};
      }
      pollfd poll_fd{shim_->event_fd(), POLLIN, 0};
      if (::poll(&poll_fd, 1, 10'000) <= 0) {
        ADD_FAILURE() << "the shim says nothing";
        return {};
      }
      auto events = shim_->read_events();
      if (!events) {
        ADD_FAILURE() << events.error().message;
        return {};
      }
      for (ShimEvent& event : *events) waiting_.push_back(std::move(event));
    }
    ShimEvent event = std::move(waiting_.front());
    waiting_.erase(waiting_.begin());
    lost_ = event.kind == Kind::kLost;
    return event;
  }
  ShimEvent next(Kind kind) {
    ShimEvent event = next();
    EXPECT_EQ(event.kind, kind) << event.error.message << event.status.describe();
    return event;
  }
  bool nothing_for(std::chrono::milliseconds time) {
    pollfd poll_fd{shim_->event_fd(), POLLIN, 0};
    return waiting_.empty() && ::poll(&poll_fd, 1, static_cast<int>(time.count())) == 0;
  }
  // The status of the incarnation, which ends now and leaves nothing.
  WaitStatus end() {
    const ShimEvent ended = next(Kind::kEnded);
    next(Kind::kEmpty);
    return ended.status;
  }

 private:
  Shim* shim_;
  std::vector<ShimEvent> waiting_;
  bool lost_ = false;
};

class ShimTest : public ProcessTest {
 protected:
  ShimSpec command(std::vector<std::string> argv) const {
    const LaunchSpec marked = shell("");
    ShimSpec spec;
    spec.argv = std::move(argv);
    spec.environment = marked.environment;
    spec.directory = directory_;
    return spec;
  }
  ShimSpec script(const std::string& text) const { return command({"sh", "-c", text}); }
  fs::path file(const std::string& name) const { return directory_ / name; }
  void write_program(const std::string& name, const std::string& text, mode_t mode) const {
    std::ofstream(file(name)) << text;
    ::chmod(file(name).c_str(), mode);
  }
  std::uintmax_t size_of(const std::string& name) const {
    std::error_code failure;
    const std::uintmax_t size = fs::file_size(file(name), failure);
    return failure ? 0 : size;
  }

  // Our marked processes but for the two of each shim.
  std::vector<pid_t> tree() const {
    std::vector<pid_t> pids;
    for (const pid_t pid : marked()) {
      const auto command = read_file("/proc/" + std::to_string(pid) + "/cmdline");
      const auto end = command ? command->find('\0') : 0;
      if (command && !command->substr(0, end).ends_with("crashworthy-init")) pids.push_back(pid);
    }
    return pids;
  }
  bool tree_is_whole() const {
    return eventually([this] {
      const auto pids = tree();
      return pids.size() == kTreeSize && std::all_of(pids.begin(), pids.end(), [](pid_t pid) {
               const auto command = read_file("/proc/" + std::to_string(pid) + "/cmdline");
               return command && command->rfind("sleep", 0) == 0;
             });
    });
  }
  static long open_descriptors(pid_t pid) {
    return std::distance(fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd"),
                         fs::directory_iterator());
  }
  static long zombies_below(pid_t parent) {
    long count = 0;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const auto state = read_process_state(std::atoi(entry.path().filename().c_str()));
      if (state && state->parent == parent && !state->live) ++count;
    }
    return count;
  }

  // A supervisor that has started the whole tree below a shim.
  Harness supervisor_with_tree() const {
    return Harness([this] {
      static std::optional<Result<Shim>> shim;
      shim = Shim::create(script(kTree));
      return *shim && (*shim)->start({}) && tree_is_whole();
    });
  }
};

// A pipe with `text` in it, for a command that reads what it is to do.
UniqueFd pipe_with(const std::string& text) {
  int pipe[2];
  EXPECT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  UniqueFd write_end(pipe[1]);
  EXPECT_TRUE(write_all(write_end.get(), text));
  return UniqueFd(pipe[0]);
}

// ---- Starts and ends ----

TEST_F(ShimTest, EachIncarnationIsToldFromItsStartToItsExactStatus) {
  auto shim = Shim::create(
      script("read code <&3; case $code in -*) kill $code $$ ;; *) exit $code ;; esac"));
  ASSERT_TRUE(shim) << shim.error().message;
  EXPECT_THAT(tree(), IsEmpty());
  Told told(&*shim);
  std::int64_t time = now_ns();
  const int count = restarts(100, 2000);
  for (int i = 0; i < count; ++i) {
    const bool signalled = i % 3 == 0;
    const int number = signalled ? (i % 2 == 0 ? SIGSEGV : SIGKILL) : i % 256;
    const UniqueFd input = pipe_with((signalled ? "-" : "") + std::to_string(number) + "\n");
    ASSERT_TRUE(shim->start({{input.get(), 3}}));
    const ShimEvent started = told.next(Kind::kStarted);
    EXPECT_TRUE(started.pidfd.valid());
    const ShimEvent ended = told.next(Kind::kEnded);
    EXPECT_EQ(ended.pid, started.pid);
    EXPECT_TRUE(has_ended(started.pidfd.get()));
    EXPECT_EQ(signalled ? ended.status.signalled() && ended.status.signal() == number
                        : ended.status.exited() && ended.status.exit_code() == number,
              true)
        << ended.status.describe() << " for " << number;
    EXPECT_LE(time, started.time_ns);
    EXPECT_LE(started.time_ns, ended.time_ns);
    time = told.next(Kind::kEmpty).time_ns;
    EXPECT_LE(ended.time_ns, time);
  }
  EXPECT_LE(time, now_ns());
  EXPECT_TRUE(told.nothing_for(20ms));
}

TEST_F(ShimTest, ACoreDumpIsToldAndTheCoreLimitIsOurs) {
  const auto pattern = read_file("/proc/sys/kernel/core_pattern");
  rlimit before{};
  ::getrlimit(RLIMIT_CORE, &before);
  if (!pattern || pattern->empty() || (*pattern)[0] == '|' || (*pattern)[0] == '/' ||
      before.rlim_max == 0) {
    GTEST_SKIP() << "core files do not go to the working directory here";
  }
  const rlimit all{before.rlim_max, before.rlim_max};
  ::setrlimit(RLIMIT_CORE, &all);
  fs::permissions(directory_, fs::perms::all);
  auto shim = Shim::create(script("kill -SEGV $$"));
  ::setrlimit(RLIMIT_CORE, &before);
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  EXPECT_EQ(told.end().describe(), "killed by SIGSEGV (core dumped)");
}

TEST_F(ShimTest, AStartedProcessIsKnownByItsPidAndPidfd) {
  auto shim = Shim::create(script("echo $$ >pid; exec sleep 1000"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  const ShimEvent started = told.next(Kind::kStarted);
  ASSERT_TRUE(eventually([&] { return size_of("pid") > 0; }));
  EXPECT_EQ(std::to_string(started.pid) + "\n", *read_file(file("pid")));
  EXPECT_EQ(pid_of_pidfd(started.pidfd.get()), started.pid);
  EXPECT_EQ(::getsid(started.pid), started.pid);
  ASSERT_TRUE(send_signal(started.pidfd.get(), SIGABRT));
  EXPECT_EQ(told.end().signal(), SIGABRT);
}

TEST_F(ShimTest, RestartsLeaveNothingBehind) {
  auto shim = Shim::create(script("(setsid sleep 1000 &) ; kill -SEGV $$"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  const auto run = [&] {
    const UniqueFd input = pipe_with("");
    ASSERT_TRUE(shim->start({{input.get(), 7}, {input.get(), 3}}));
    told.next(Kind::kStarted);
    EXPECT_EQ(told.end().signal(), SIGSEGV);
  };
  run();
  const pid_t outer = shim->own_pids()[0];
  const pid_t reaper = shim->own_pids()[1];
  const auto counts = [&] {
    return std::vector<long>{open_descriptors(::getpid()), open_descriptors(outer),
                             open_descriptors(reaper), zombies_below(reaper),
                             static_cast<long>(marked().size())};
  };
  const auto before = counts();
  EXPECT_EQ(before[3], 0);
  EXPECT_EQ(before[4], 2);
  const int count = restarts(200, 2000);
  for (int i = 0; i < count; ++i) run();
  EXPECT_EQ(counts(), before);
}

TEST_F(ShimTest, OnlyOneIncarnationAtATime) {
  auto shim = Shim::create(script("exec sleep 1000"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  EXPECT_EQ(shim->start({}).error().kind, ErrorKind::kUsage);
  told.next(Kind::kStarted);
  EXPECT_EQ(shim->start({}).error().kind, ErrorKind::kUsage);
  shim->kill();
  EXPECT_EQ(told.end().signal(), SIGKILL);
  EXPECT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
}

TEST_F(ShimTest, OrdersToAnEmptyTreeDoNothing) {
  auto shim = Shim::create(script("exit 3"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  const auto order_everything = [&] {
    shim->kill();
    shim->stop(SIGTERM);
    shim->suspend();
    shim->resume();
  };
  order_everything();
  EXPECT_TRUE(told.nothing_for(50ms));
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  EXPECT_EQ(told.end().exit_code(), 3);
  order_everything();
  EXPECT_TRUE(told.nothing_for(50ms));
}

// ---- What an incarnation is given ----

TEST_F(ShimTest, TheCommandHasExactlyTheListedDescriptors) {
  const int leaky = ::open("/dev/zero", O_RDONLY);  // Not close-on-exec.
  const UniqueFd full(::open("/dev/full", O_RDONLY | O_CLOEXEC));
  ShimSpec spec = command({"ls", "-l", "/proc/self/fd"});
  spec.stdout_file = file("list");
  auto shim = Shim::create(spec);
  ASSERT_TRUE(shim);
  Told told(&*shim);
  const auto list = [&](const std::vector<std::pair<int, int>>& descriptors) {
    fs::resize_file(spec.stdout_file, 0);
    EXPECT_TRUE(shim->start(descriptors));
    told.next(Kind::kStarted);
    EXPECT_TRUE(told.end().success());
    std::ifstream lines(spec.stdout_file);
    std::vector<std::string> found;
    for (std::string line; std::getline(lines, line);) {
      const auto arrow = line.find(" -> ");
      if (arrow == std::string::npos) continue;
      const std::string number = line.substr(line.rfind(' ', arrow - 1) + 1);
      if (number.find("/proc/") == std::string::npos) found.push_back(number);  // ls's own.
    }
    return found;
  };
  const std::string out = "1 -> " + fs::canonical(spec.stdout_file).string();
  const std::string error = "2 -> " + fs::read_symlink("/proc/self/fd/2").string();
  EXPECT_THAT(list({}), ElementsAre("0 -> /dev/null", out, error));
  EXPECT_THAT(list({{full.get(), 4}, {leaky, 9}, {full.get(), 5}}),
              ElementsAre("0 -> /dev/null", out, error, "4 -> /dev/full", "5 -> /dev/full",
                          "9 -> /dev/zero"));
  EXPECT_THAT(list({}), ElementsAre("0 -> /dev/null", out, error));
  ::close(leaky);
}

TEST_F(ShimTest, BadDescriptorsAreUsageErrors) {
  auto shim = Shim::create(script("exit 0"));
  ASSERT_TRUE(shim);
  const auto refused = [&](const std::vector<std::pair<int, int>>& descriptors) {
    const auto started = shim->start(descriptors);
    return !started && started.error().kind == ErrorKind::kUsage;
  };
  EXPECT_TRUE(refused({{0, 2}}));
  EXPECT_TRUE(refused({{0, -1}}));
  EXPECT_TRUE(refused({{0, 5}, {1, 5}}));
  EXPECT_TRUE(refused({{9999, 5}}));
  std::vector<std::pair<int, int>> many;
  for (int i = 0; i < 253; ++i) many.emplace_back(0, 3 + i);
  EXPECT_TRUE(shim->start(many));
  Told told(&*shim);
  told.next(Kind::kStarted);
  EXPECT_TRUE(told.end().success());
  many.emplace_back(0, 999);
  EXPECT_TRUE(refused(many));
}

// Neither the supervisor's nor the shim's copy keeps a pipe of an incarnation open.
TEST_F(ShimTest, NobodyElseHoldsTheDescriptorsOfAnIncarnation) {
  auto shim = Shim::create(script("echo hello >&5; exec 5>&-; exec sleep 1000"));
  ASSERT_TRUE(shim);
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd read_end(pipe[0]);
  UniqueFd write_end(pipe[1]);
  ASSERT_TRUE(shim->start({{write_end.get(), 5}}));
  write_end.reset();
  std::string text;
  char byte = 0;
  while (::read(read_end.get(), &byte, 1) == 1) text += byte;
  EXPECT_EQ(text, "hello\n");
}

TEST_F(ShimTest, EveryIncarnationWritesToTheSameOutput) {
  ShimSpec spec = script("echo out; echo err >&2");
  spec.stderr_file = file("err");
  const UniqueFd before(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  const UniqueFd ours(::open(file("out").c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  ::fflush(stdout);
  ::dup2(ours.get(), STDOUT_FILENO);
  auto shim = Shim::create(spec);
  ::dup2(before.get(), STDOUT_FILENO);
  ASSERT_TRUE(shim);
  Told told(&*shim);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(shim->start({}));
    told.next(Kind::kStarted);
    EXPECT_TRUE(told.end().success());
  }
  EXPECT_EQ(*read_file(file("out")), "out\nout\n");
  EXPECT_EQ(*read_file(file("err")), "err\nerr\n");
}

TEST_F(ShimTest, SignalsAreFreshInEveryIncarnation) {
  ShimSpec spec = command({"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"});
  spec.stdout_file = file("signals");
  ::signal(SIGPIPE, SIG_IGN);
  auto shim = Shim::create(spec);
  ::signal(SIGPIPE, SIG_DFL);
  ASSERT_TRUE(shim);
  Told told(&*shim);
  std::string expected;
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(shim->start({}));
    told.next(Kind::kStarted);
    EXPECT_TRUE(told.end().success());
    expected += "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n";
  }
  EXPECT_EQ(*read_file(spec.stdout_file), expected);
}

// ---- Failures to start ----

TEST_F(ShimTest, AProgramThatCannotBeFoundIsRefusedInTheWordsOfTheLauncher) {
  const auto both = [this](std::vector<std::string> argv) {
    LaunchSpec launch = shell("");
    launch.argv = argv;
    const auto subject = Subject::launch(launch);
    const auto shim = Shim::create(command(argv));
    EXPECT_FALSE(subject);
    EXPECT_FALSE(shim);
    if (subject || shim) return Error{};
    EXPECT_EQ(shim.error().kind, ErrorKind::kUsage);
    EXPECT_EQ(shim.error().message, subject.error().message);
    EXPECT_EQ(shim.error().hint, subject.error().hint);
    EXPECT_EQ(shim.error().sys_errno, subject.error().sys_errno);
    return shim.error();
  };
  EXPECT_EQ(both({"no-such-program"}).message,
            "unable to start 'no-such-program': no such program in PATH");
  EXPECT_EQ(both({"./demo"}).sys_errno, ENOENT);
  write_program("plain", "#!/bin/sh\n", 0644);
  EXPECT_THAT(both({"./plain"}).message, HasSubstr("is not executable"));
  EXPECT_THAT(both({directory_.string()}).message, HasSubstr("is a directory"));
  EXPECT_EQ(both({}).message, "no command to start");
  EXPECT_THAT(both({""}).message, HasSubstr("empty"));
  EXPECT_THAT(both({std::string("a\0b", 3)}).message, HasSubstr("NUL"));
}

// A start may fail when create() did not, and succeed again once the cause is gone.
TEST_F(ShimTest, AFailedStartSaysWhyAndTheNextOneMaySucceed) {
  fs::create_directory(file("place"));
  write_program("place/tool", "#!/bin/sh\nexit 4\n", 0755);
  ShimSpec spec = command({file("place/tool").string()});
  spec.directory = file("place");
  auto shim = Shim::create(spec);
  ASSERT_TRUE(shim) << shim.error().message;
  Told told(&*shim);
  const auto failure = [&] {
    EXPECT_TRUE(shim->start({}));
    const Error error = told.next(Kind::kStartFailed).error;
    EXPECT_EQ(error.kind, ErrorKind::kUsage);
    EXPECT_EQ(zombies_below(shim->own_pids()[1]), 0);
    return error;
  };
  ::chmod(file("place/tool").c_str(), 0600);
  EXPECT_THAT(failure().message, HasSubstr("is not executable"));
  write_program("place/tool", "#!/no/such/interpreter\n", 0755);
  EXPECT_THAT(failure().message, HasSubstr("interpreter"));
  write_program("place/tool", "no first line\n", 0755);
  EXPECT_EQ(failure().sys_errno, ENOEXEC);
  fs::remove(file("place/tool"));
  EXPECT_EQ(failure().sys_errno, ENOENT);
  fs::remove(file("place"));
  EXPECT_THAT(failure().message, HasSubstr("unable to enter its directory"));
  fs::create_directory(file("place"));
  write_program("place/tool", "#!/bin/sh\nexit 4\n", 0755);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  EXPECT_EQ(told.end().exit_code(), 4);
}

// ---- Ends of trees ----

TEST_F(ShimTest, WhatACrashLeavesBehindIsKilled) {
  auto shim = Shim::create(script(kTree));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(shim->start({}));
    const ShimEvent started = told.next(Kind::kStarted);
    ASSERT_TRUE(tree_is_whole());
    ASSERT_TRUE(send_signal(started.pidfd.get(), SIGSEGV));
    EXPECT_EQ(told.end().signal(), SIGSEGV);
    EXPECT_THAT(tree(), IsEmpty());
    EXPECT_EQ(zombies_below(shim->own_pids()[1]), 0);
  }
}

TEST_F(ShimTest, KillLeavesNothing) {
  auto shim = Shim::create(script(kTree));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(shim->start({}));
    told.next(Kind::kStarted);
    ASSERT_TRUE(tree_is_whole());
    shim->kill();
    EXPECT_EQ(told.end().signal(), SIGKILL);
    EXPECT_THAT(tree(), IsEmpty());
  }
}

// A kill that follows a start at once finds it before it is executed, or in its first instructions.
TEST_F(ShimTest, AnIncarnationMayBeKilledAtOnce) {
  auto shim = Shim::create(script("sleep 1000 & exec sleep 1001"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  const int count = restarts(50, 1000);
  for (int i = 0; i < count; ++i) {
    ASSERT_TRUE(shim->start({}));
    shim->kill();
    told.next(Kind::kStarted);
    EXPECT_EQ(told.end().signal(), SIGKILL);
    ASSERT_THAT(tree(), IsEmpty());
  }
}

TEST_F(ShimTest, ATreeThatForksAllTheTimeIsKilledToo) {
  auto shim = Shim::create(script(kForkStorm));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  for (const bool crash : {false, true}) {
    ASSERT_TRUE(shim->start({}));
    const ShimEvent started = told.next(Kind::kStarted);
    std::this_thread::sleep_for(200ms);
    if (crash) {
      ASSERT_TRUE(send_signal(started.pidfd.get(), SIGKILL));
    } else {
      shim->kill();
    }
    EXPECT_EQ(told.end().signal(), SIGKILL);
    EXPECT_THAT(tree(), IsEmpty());
  }
}

TEST_F(ShimTest, WhoIgnoresTheStopIsKilledByTheKill) {
  auto shim = Shim::create(script("trap '' TERM; sleep 1000 & echo >ready; wait; sleep 1000"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  ASSERT_TRUE(eventually([&] { return size_of("ready") > 0; }));
  shim->stop(SIGTERM);
  EXPECT_TRUE(told.nothing_for(200ms));
  shim->kill();
  EXPECT_EQ(told.end().signal(), SIGKILL);
  EXPECT_THAT(tree(), IsEmpty());
}

// The child tidies up after its parent has obeyed; without a stop it has no time for that.
TEST_F(ShimTest, AStopLetsTheRestOfTheTreeEndByItself) {
  auto shim =
      Shim::create(script("sh -c 'trap \"sleep 0.3; echo tidy >tidy; exit 0\" TERM; echo >ready;\n"
                          "while true; do sleep 0.01; done' & exec sleep 1000"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  for (const bool stop : {false, true}) {
    fs::remove(file("ready"));
    ASSERT_TRUE(shim->start({}));
    const ShimEvent started = told.next(Kind::kStarted);
    ASSERT_TRUE(eventually([&] { return size_of("ready") > 0; }));
    if (stop) {
      shim->stop(SIGTERM);
    } else {
      ASSERT_TRUE(send_signal(started.pidfd.get(), SIGTERM));
    }
    const ShimEvent ended = told.next(Kind::kEnded);
    EXPECT_EQ(ended.status.signal(), SIGTERM);
    const ShimEvent empty = told.next(Kind::kEmpty);
    EXPECT_EQ(fs::exists(file("tidy")), stop);
    if (stop) {
      EXPECT_GE(empty.time_ns - ended.time_ns, 200'000'000);
    }
  }
  // The stop was of that incarnation only.
  fs::remove(file("tidy"));
  fs::remove(file("ready"));
  ASSERT_TRUE(shim->start({}));
  const ShimEvent started = told.next(Kind::kStarted);
  ASSERT_TRUE(eventually([&] { return size_of("ready") > 0; }));
  ASSERT_TRUE(send_signal(started.pidfd.get(), SIGKILL));
  told.end();
  EXPECT_FALSE(fs::exists(file("tidy")));
}

TEST_F(ShimTest, SurvivorsOfAStopAreKilledByTheKill) {
  auto shim = Shim::create(
      script("sh -c 'trap \"\" TERM; echo >ready; sleep 1000; sleep 1000' & exec sleep 1000"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  ASSERT_TRUE(eventually([&] { return size_of("ready") > 0; }));
  shim->stop(SIGTERM);
  EXPECT_EQ(told.next(Kind::kEnded).status.signal(), SIGTERM);
  EXPECT_TRUE(told.nothing_for(200ms));
  EXPECT_EQ(shim->start({}).error().kind, ErrorKind::kUsage);
  shim->kill();
  told.next(Kind::kEmpty);
  EXPECT_THAT(tree(), IsEmpty());
}

TEST_F(ShimTest, AStoppedTreeCanBeAskedToEnd) {
  auto shim = Shim::create(script("sleep 1000 & exec sleep 1001"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  shim->suspend();
  told.next(Kind::kSuspended);
  shim->stop(SIGTERM);
  EXPECT_EQ(told.end().signal(), SIGTERM);
}

// ---- Suspension ----

TEST_F(ShimTest, ASuspendedTreeStandsStillUntilItIsResumed) {
  // Three processes that count, one of them a daemon.
  auto shim = Shim::create(
      script("count() { while true; do echo >>$1; sleep 0.001; done; }\n"
             "count one & (setsid sh -c 'while true; do echo >>two; sleep 0.001; done' &)\n"
             "count three"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  const auto sizes = [&] {
    return std::vector<std::uintmax_t>{size_of("one"), size_of("two"), size_of("three")};
  };
  const auto all_count_on = [&] {
    const auto before = sizes();
    return eventually([&] {
      const auto now = sizes();
      return now[0] > before[0] && now[1] > before[1] && now[2] > before[2];
    });
  };
  const int count = restarts(10, 200);
  for (int i = 0; i < count; ++i) {
    ASSERT_TRUE(all_count_on());
    shim->suspend();
    told.next(Kind::kSuspended);
    const auto before = sizes();
    const auto pids = tree();
    EXPECT_GE(pids.size(), 3u);
    for (const pid_t pid : pids) EXPECT_TRUE(all_threads_stopped(pid)) << pid;
    std::this_thread::sleep_for(20ms);
    EXPECT_EQ(sizes(), before);
    EXPECT_EQ(tree(), pids);
    shim->resume();
    told.next(Kind::kResumed);
  }
  ASSERT_TRUE(all_count_on());
  EXPECT_TRUE(told.nothing_for(20ms));
}

TEST_F(ShimTest, ASuspensionCatchesATreeThatForksAllTheTime) {
  auto shim = Shim::create(script(kForkStorm));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  std::this_thread::sleep_for(100ms);
  shim->suspend();
  told.next(Kind::kSuspended);
  const auto pids = tree();
  for (const pid_t pid : pids) EXPECT_TRUE(all_threads_stopped(pid)) << pid;
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(tree(), pids);
  shim->kill();
  EXPECT_EQ(told.end().signal(), SIGKILL);
}

TEST_F(ShimTest, TheEndOfASuspendedCommandWins) {
  auto shim = Shim::create(script("sleep 1000 & sleep 1001 & exec sleep 1002"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  const ShimEvent started = told.next(Kind::kStarted);
  shim->suspend();
  told.next(Kind::kSuspended);
  ASSERT_TRUE(send_signal(started.pidfd.get(), SIGKILL));
  EXPECT_EQ(told.end().signal(), SIGKILL);
  EXPECT_THAT(tree(), IsEmpty());
}

// ---- Guards ----

TEST_F(ShimTest, TheDestructorAndAnAssignmentLeaveNothing) {
  {
    auto shim = Shim::create(script(kTree));
    ASSERT_TRUE(shim);
    ASSERT_TRUE(shim->start({}));
    ASSERT_TRUE(tree_is_whole());
    auto other = Shim::create(script("exit 0"));
    ASSERT_TRUE(other);
    *shim = *std::move(other);
    EXPECT_THAT(tree(), IsEmpty());
    EXPECT_THAT(marked(), SizeIs(2));
    ASSERT_TRUE(shim->start({}));
    EXPECT_TRUE(Told(&*shim).next(Kind::kStarted).pidfd.valid());
  }
  EXPECT_THAT(marked(), IsEmpty());
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  const int count = restarts(50, 1000);
  for (int i = 0; i < count; ++i) {
    auto shim = Shim::create(script("sleep 1000 & sleep 1001"));
    ASSERT_TRUE(shim);
    ASSERT_TRUE(shim->start({}));
  }
  EXPECT_THAT(marked(), IsEmpty());
}

TEST_F(ShimTest, NothingSurvivesAKilledSupervisor) {
  Harness supervisor = supervisor_with_tree();
  ASSERT_TRUE(supervisor.ready());
  ASSERT_EQ(tree().size(), kTreeSize);
  supervisor.end();
  EXPECT_TRUE(nothing_left_within(1s));
}

struct Attack {
  int signal;
  bool outer;
  bool reaper;
};

// The shim's processes are killed or stopped, then the supervisor is killed.
TEST_F(ShimTest, NothingSurvivesADeadOrStoppedShimAndThenADeadSupervisor) {
  for (const Attack& attack :
       {Attack{SIGKILL, true, false}, Attack{SIGKILL, false, true}, Attack{SIGSTOP, true, false},
        Attack{SIGSTOP, false, true}, Attack{SIGSTOP, true, true}}) {
    SCOPED_TRACE(signal_name(attack.signal) + (attack.outer ? " outer" : "") +
                 (attack.reaper ? " reaper" : ""));
    Harness supervisor = supervisor_with_tree();
    ASSERT_TRUE(supervisor.ready());
    const auto below = descendants_of(supervisor.pid());
    ASSERT_GE(below.size(), kTreeSize + 2);
    // Parents come first: the outer process, then its only child.
    if (attack.outer) ::kill(below[0].pid, attack.signal);
    if (attack.reaper) ::kill(below[1].pid, attack.signal);
    if (attack.signal == SIGKILL) {
      EXPECT_TRUE(eventually([this] { return tree().empty(); }, 1s));
    }
    supervisor.end();
    EXPECT_TRUE(nothing_left_within(1s));
  }
}

TEST_F(ShimTest, ALostShimIsToldAndItsTreeEnds) {
  for (const std::size_t victim : {0u, 1u}) {
    auto shim = Shim::create(script(kTree));
    ASSERT_TRUE(shim);
    Told told(&*shim);
    ASSERT_TRUE(shim->start({}));
    told.next(Kind::kStarted);
    ASSERT_TRUE(tree_is_whole());
    ASSERT_EQ(::kill(shim->own_pids()[victim], SIGKILL), 0);
    told.next(Kind::kLost);
    EXPECT_TRUE(nothing_left_within(1s));
    EXPECT_EQ(shim->start({}).error().kind, ErrorKind::kGone);
    shim->kill();
    shim->stop(SIGTERM);
    EXPECT_THAT(*shim->read_events(), IsEmpty());
  }
}

TEST_F(ShimTest, ALostShimIsToldToWhoOrdersAStart) {
  auto shim = Shim::create(script("exit 0"));
  ASSERT_TRUE(shim);
  ASSERT_EQ(::kill(shim->own_pids()[1], SIGKILL), 0);
  EXPECT_TRUE(nothing_left_within(1s));
  EXPECT_EQ(shim->start({}).error().kind, ErrorKind::kGone);
  Told(&*shim).next(Kind::kLost);
  EXPECT_EQ(shim->start({}).error().kind, ErrorKind::kGone);
}

TEST_F(ShimTest, WhatALostShimHadToldBeforeIsTold) {
  auto shim = Shim::create(script("exit 5"));
  ASSERT_TRUE(shim);
  const pid_t reaper = shim->own_pids()[1];
  ASSERT_TRUE(shim->start({}));
  ASSERT_TRUE(eventually([this] { return tree().empty(); }));
  std::this_thread::sleep_for(50ms);
  ::kill(reaper, SIGSTOP);
  shim->resume();  // Which nobody reads any more.
  ::kill(reaper, SIGKILL);
  EXPECT_TRUE(nothing_left_within(1s));
  Told told(&*shim);
  told.next(Kind::kStarted);
  EXPECT_EQ(told.end().exit_code(), 5);
  told.next(Kind::kLost);
}

// Somebody who kills both at once leaves nobody to kill the tree but the kernel.
TEST_F(ShimTest, TheCommandDiesWithBothProcessesOfItsShim) {
  auto shim = Shim::create(script("exec sleep 1000"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  for (const pid_t pid : shim->own_pids()) ::kill(pid, SIGSTOP);
  for (const pid_t pid : shim->own_pids()) ::kill(pid, SIGKILL);
  told.next(Kind::kLost);
  EXPECT_TRUE(nothing_left_within(1s));
}

TEST_F(ShimTest, AStoppedShimCanBeKilledAndDestroyed) {
  for (const bool destroy : {false, true}) {
    auto shim = Shim::create(script(kTree));
    ASSERT_TRUE(shim);
    Told told(&*shim);
    ASSERT_TRUE(shim->start({}));
    told.next(Kind::kStarted);
    ASSERT_TRUE(tree_is_whole());
    for (const pid_t pid : shim->own_pids()) ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    if (destroy) continue;
    shim->kill();
    EXPECT_EQ(told.end().signal(), SIGKILL);
    EXPECT_THAT(tree(), IsEmpty());
  }
  EXPECT_THAT(marked(), IsEmpty());
}

// A fork of ours holds the descriptors of the shim, the lifeline too.
TEST_F(ShimTest, AForkOfTheSupervisorDoesNotKeepTheTreeAlive) {
  auto shim = std::make_optional(Shim::create(script(kTree)));
  ASSERT_TRUE(*shim);
  ASSERT_TRUE((*shim)->start({}));
  ASSERT_TRUE(tree_is_whole());
  const pid_t fork = ::fork();
  if (fork == 0) {
    while (true) ::pause();
  }
  const std::int64_t before = now_ns();
  shim.reset();
  EXPECT_LT(now_ns() - before, 2'000'000'000);
  EXPECT_THAT(tree(), IsEmpty());
  ::kill(fork, SIGKILL);
  ::waitpid(fork, nullptr, 0);
}

TEST_F(ShimTest, EventsThatNobodyReadsAreNotLost) {
  auto shim = Shim::create(script("sleep 1000 & exec sleep 1001"));
  ASSERT_TRUE(shim);
  ASSERT_TRUE(shim->start({}));
  const int count = 300;  // More than the socket holds.
  for (int i = 0; i < count; ++i) {
    shim->resume();
    std::this_thread::sleep_for(1ms);
  }
  shim->kill();
  Told told(&*shim);
  told.next(Kind::kStarted);
  for (int i = 0; i < count; ++i) ASSERT_EQ(told.next().kind, Kind::kResumed) << i;
  EXPECT_EQ(told.end().signal(), SIGKILL);
}

// Nothing is kept for ever for somebody who only orders.
TEST_F(ShimTest, WhoNeverReadsLosesTheShimAndNothingIsLeft) {
  auto shim = Shim::create(script("sleep 1000 & exec sleep 1001"));
  ASSERT_TRUE(shim);
  ASSERT_TRUE(shim->start({}));
  for (int i = 0; i < 2000; ++i) shim->resume();
  std::this_thread::sleep_for(100ms);
  for (int i = 0; i < 2000; ++i) shim->resume();
  EXPECT_TRUE(nothing_left_within(2s));
  const auto events = shim->read_events();
  ASSERT_TRUE(events);
  EXPECT_EQ(events->back().kind, Kind::kLost);
}

TEST_F(ShimTest, ManyShimsAreIndependent) {
  const int count = restarts(16, 256);
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit more{before.rlim_max, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &more);
  std::vector<Shim> shims;
  const long descriptors = open_descriptors(::getpid());
  for (int i = 0; i < count; ++i) {
    auto shim = Shim::create(script("exit " + std::to_string(i % 100)));
    ASSERT_TRUE(shim) << shim.error().message;
    shims.push_back(*std::move(shim));
  }
  EXPECT_LE(open_descriptors(::getpid()) - descriptors, 3 * count);
  for (Shim& shim : shims) ASSERT_TRUE(shim.start({}));
  for (int i = 0; i < count; ++i) {
    Told told(&shims[static_cast<std::size_t>(i)]);
    told.next(Kind::kStarted);
    EXPECT_EQ(told.end().exit_code(), i % 100);
  }
  ::setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace crashworthy

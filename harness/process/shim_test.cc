// A shim starts its command again and again, gives it what it should have, and tells exactly how
// each incarnation ended or why it was not started. shim_tree_test.cc and shim_guard_test.cc have
// the rest. The end of containment_test.cc runs all of it once more as an ordinary user.
#include "harness/process/shim.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/process_tree.h"
#include "harness/process/shim_test_support.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using ShimStart = ShimTest;

// A pipe with `text` in it, for a command that reads what it is to do.
UniqueFd pipe_with(const std::string& text) {
  int pipe[2];
  EXPECT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  UniqueFd write_end(pipe[1]);
  EXPECT_TRUE(write_all(write_end.get(), text));
  return UniqueFd(pipe[0]);
}

void write_program(const fs::path& path, const std::string& text, mode_t mode) {
  std::ofstream(path) << text;
  ::chmod(path.c_str(), mode);
}

TEST_F(ShimStart, EachIncarnationIsToldFromItsStartToItsExactStatus) {
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

TEST_F(ShimStart, ACoreDumpIsToldAndTheCoreLimitIsOurs) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer in crashworthy-init sets the core limit to 0";
#endif
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

TEST_F(ShimStart, AStartedProcessIsKnownByItsPidAndPidfd) {
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

TEST_F(ShimStart, RestartsLeaveNothingBehind) {
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

TEST_F(ShimStart, OnlyOneIncarnationAtATime) {
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

TEST_F(ShimStart, OrdersToAnEmptyTreeDoNothing) {
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

TEST_F(ShimStart, TheCommandHasExactlyTheListedDescriptors) {
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

TEST_F(ShimStart, BadDescriptorsAreUsageErrors) {
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
TEST_F(ShimStart, NobodyElseHoldsTheDescriptorsOfAnIncarnation) {
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

TEST_F(ShimStart, EveryIncarnationWritesToTheSameOutput) {
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

TEST_F(ShimStart, SignalsAreFreshInEveryIncarnation) {
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

TEST_F(ShimStart, AProgramThatCannotBeFoundIsRefusedInTheWordsOfTheLauncher) {
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
  write_program(file("plain"), "#!/bin/sh\n", 0644);
  EXPECT_THAT(both({"./plain"}).message, HasSubstr("is not executable"));
  EXPECT_THAT(both({directory_.string()}).message, HasSubstr("is a directory"));
  EXPECT_EQ(both({}).message, "no command to start");
  EXPECT_THAT(both({""}).message, HasSubstr("empty"));
  EXPECT_THAT(both({std::string("a\0b", 3)}).message, HasSubstr("NUL"));
}

// A start may fail when create() did not, and succeed again once the cause is gone.
TEST_F(ShimStart, AFailedStartSaysWhyAndTheNextOneMaySucceed) {
  fs::create_directory(file("place"));
  write_program(file("place/tool"), "#!/bin/sh\nexit 4\n", 0755);
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
  write_program(file("place/tool"), "#!/no/such/interpreter\n", 0755);
  EXPECT_THAT(failure().message, HasSubstr("interpreter"));
  write_program(file("place/tool"), "no first line\n", 0755);
  EXPECT_EQ(failure().sys_errno, ENOEXEC);
  fs::remove(file("place/tool"));
  EXPECT_EQ(failure().sys_errno, ENOENT);
  fs::remove(file("place"));
  EXPECT_THAT(failure().message, HasSubstr("unable to enter its directory"));
  fs::create_directory(file("place"));
  write_program(file("place/tool"), "#!/bin/sh\nexit 4\n", 0755);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  EXPECT_EQ(told.end().exit_code(), 4);
}

}  // namespace
}  // namespace crashworthy

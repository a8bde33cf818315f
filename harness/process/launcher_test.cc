// What a subject is given, how its end is told, and what a user reads when it cannot be started.
#include "harness/process/launcher.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <thread>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/process_test_support.h"
#include "harness/process/process_tree.h"
#include "harness/process/program_path.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Launcher : public ProcessTest {
 protected:
  Error failure_of(const LaunchSpec& spec) {
    auto subject = Subject::launch(spec);
    EXPECT_FALSE(subject);
    EXPECT_TRUE(nothing_left_within(2s));
    return subject ? Error{} : subject.error();
  }
  void write_script(const std::string& name, const std::string& text, mode_t mode) {
    std::ofstream(directory_ / name) << text;
    ::chmod((directory_ / name).c_str(), mode);
  }
};

TEST_F(Launcher, ReportsTheExactWaitStatus) {
  const std::int64_t before = now_ns();
  auto exited = Subject::launch(shell("exit 6"));
  ASSERT_TRUE(exited);
  const pid_t pid = exited->main_pid();
  const Report exit_report = main_report(&*exited);
  EXPECT_TRUE(exit_report.status.exited());
  EXPECT_EQ(exit_report.status.exit_code(), 6);
  EXPECT_EQ(exit_report.host_pid, pid);
  EXPECT_GT(exit_report.time_ns, before);
  EXPECT_LT(exit_report.time_ns, now_ns());

  auto killed = Subject::launch(shell("kill -ABRT $$"));
  ASSERT_TRUE(killed);
  EXPECT_EQ(main_report(&*killed).status.describe(), "killed by SIGABRT");
}

TEST_F(Launcher, TheMainProcessCanBeKilledByItsPidfd) {
  auto subject = Subject::launch(shell("exec sleep 1000"));
  ASSERT_TRUE(subject);
  ASSERT_TRUE(send_signal(subject->main_pidfd(), SIGSEGV));
  EXPECT_EQ(main_report(&*subject).status.signal(), SIGSEGV);
  EXPECT_TRUE(subject->wait_until_gone(5s));
}

TEST_F(Launcher, AMissingProgramIsAUsageError) {
  LaunchSpec spec = shell("");
  spec.argv = {"no-such-program"};
  Error error = failure_of(spec);
  EXPECT_EQ(error.kind, ErrorKind::kUsage);
  EXPECT_EQ(error.sys_errno, ENOENT);
  EXPECT_EQ(error.message, "unable to start 'no-such-program': no such program in PATH");
  EXPECT_THAT(error.hint, HasSubstr("absolute path"));
  spec.argv = {"./demo"};
  error = failure_of(spec);
  EXPECT_EQ(error.message, "unable to start './demo': No such file or directory");
  EXPECT_EQ(error.hint, "try an absolute path");
}

TEST_F(Launcher, WhatCannotBeExecutedIsAUsageErrorThatSaysWhy) {
  LaunchSpec spec = shell("");
  write_script("plain", "#!/bin/sh\n", 0644);
  spec.argv = {"./plain"};
  EXPECT_EQ(failure_of(spec).sys_errno, EACCES);
  EXPECT_THAT(failure_of(spec).message, HasSubstr("is not executable"));
  EXPECT_EQ(failure_of(spec).hint, "try chmod +x");
  spec.argv = {directory_.string()};
  EXPECT_THAT(failure_of(spec).message, HasSubstr("is a directory"));
  write_script("orphan", "#!/no/such/interpreter\n", 0755);
  spec.argv = {"./orphan"};
  EXPECT_THAT(failure_of(spec).message, HasSubstr("interpreter"));
  write_script("bare", "echo no first line\n", 0755);
  spec.argv = {"./bare"};
  EXPECT_EQ(failure_of(spec).sys_errno, ENOEXEC);
  EXPECT_THAT(failure_of(spec).hint, HasSubstr("#!"));
  for (const auto& argv : {std::vector<std::string>{}, {""}, {std::string("a\0b", 3)}}) {
    spec.argv = argv;
    EXPECT_EQ(failure_of(spec).kind, ErrorKind::kUsage);
  }
}

TEST_F(Launcher, AMissingDirectoryIsAUsageErrorThatNamesIt) {
  LaunchSpec spec = shell("true");
  spec.directory = directory_ / "nowhere";
  const Error error = failure_of(spec);
  EXPECT_EQ(error.kind, ErrorKind::kUsage);
  EXPECT_THAT(error.message, HasSubstr("nowhere"));
}

TEST_F(Launcher, LooksAlongThePathAsAShellDoes) {
  const auto with_path = [](const char* path) {
    return program_candidates("tool", {"A=1", std::string("PATH=") + path, "PATH=/later"});
  };
  EXPECT_THAT(with_path("/a:/b"), ElementsAre("/a/tool", "/b/tool"));
  EXPECT_THAT(with_path(":/b:"), ElementsAre("./tool", "/b/tool", "./tool"));
  EXPECT_THAT(with_path(""), ElementsAre("./tool"));
  EXPECT_THAT(program_candidates("x/tool", {"PATH=/a"}), ElementsAre("x/tool"));
  EXPECT_THAT(program_candidates("tool", {}), ::testing::Contains("/bin/tool"));
}

// What may not be executed on the way (a directory, a plain file) does not end the search, and
// relative entries count from the subject's directory.
TEST_F(Launcher, FindsTheFirstExecutableAndPassesArgv0AsWritten) {
  fs::create_directories(directory_ / "one" / "tool");
  fs::create_directories(directory_ / "two");
  fs::create_directories(directory_ / "three");
  write_script("two/tool", "#!/bin/sh\nexit 1\n", 0644);
  fs::create_symlink("/bin/sh", directory_ / "three" / "tool");
  LaunchSpec spec = shell("");
  spec.argv = {"tool", "-c", "tr '\\0' ' ' </proc/$$/cmdline"};
  spec.environment[0] = "PATH=one:two:three:/usr/bin:/bin";
  EXPECT_THAT(output_of("tool", spec), ::testing::StartsWith("tool -c tr"));
}

TEST_F(Launcher, TheEnvironmentIsExactlyTheOneGiven) {
  LaunchSpec spec = shell("");
  spec.argv = {"env"};
  spec.environment.push_back("EMPTY=");
  EXPECT_EQ(output_of("env", spec),
            spec.environment[0] + "\n" + spec.environment[1] + "\nEMPTY=\n");
}

TEST_F(Launcher, StdinIsEmptyAndTheDirectoryIsTheOneGiven) {
  EXPECT_EQ(output_of("readlink /proc/self/fd/0; cat; pwd -P"),
            "/dev/null\n" + fs::canonical(directory_).string() + "\n");
}

TEST_F(Launcher, OnlyListedDescriptorsAreInherited) {
  const int leaky = ::open("/dev/zero", O_RDONLY);  // Not close-on-exec.
  UniqueFd kept(::open("/dev/full", O_RDONLY | O_CLOEXEC));
  LaunchSpec spec = shell("");
  // 3 is the directory that ls reads.
  spec.argv = {"sh", "-c", "exec ls /proc/self/fd"};
  EXPECT_EQ(output_of("ls", spec), "0\n1\n2\n3\n");
  spec.descriptors = {{kept.get(), 7}};
  EXPECT_EQ(output_of("ls", spec), "0\n1\n2\n3\n7\n");
  spec.argv = {"readlink", "/proc/self/fd/7"};
  EXPECT_EQ(output_of("readlink", spec), "/dev/full\n");
  ::close(leaky);
}

// Numbers that cross each other, and those that crashworthy-init uses itself.
TEST_F(Launcher, DescriptorsArriveUnderTheirNumbersHoweverTheyCross) {
  std::vector<UniqueFd> files;
  LaunchSpec spec = shell("for f in 3 4 5 6 7 8; do cat <&$f; done");
  const std::vector<int> numbers{8, 3, 7, 4, 6, 5};
  for (const int number : numbers) {
    const fs::path file = directory_ / ("file" + std::to_string(number));
    std::ofstream(file) << number;
    files.emplace_back(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    spec.descriptors.emplace_back(files.back().get(), number);
  }
  EXPECT_EQ(output_of("cat", spec), "345678");
  ::lseek(files[0].get(), 0, SEEK_SET);
  spec.descriptors = {{files[0].get(), 0}};
  spec.argv = {"cat"};
  EXPECT_EQ(output_of("cat", spec), "8");
}

TEST_F(Launcher, BadDescriptorsAreUsageErrors) {
  LaunchSpec spec = shell("true");
  spec.descriptors = {{0, 5}, {1, 5}};
  EXPECT_THAT(failure_of(spec).message, HasSubstr("twice"));
  spec.descriptors = {{9999, 5}};
  EXPECT_THAT(failure_of(spec).message, HasSubstr("not open"));
  spec.descriptors = {{0, -1}};
  EXPECT_EQ(failure_of(spec).kind, ErrorKind::kUsage);
}

// A pipe that the subject writes into ends with the subject: no process of ours holds it open.
TEST_F(Launcher, NobodyElseHoldsTheSubjectsPipes) {
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd read_end(pipe[0]);
  UniqueFd write_end(pipe[1]);
  LaunchSpec spec = shell("echo hello >&5; exec 5>&-; exec sleep 1000");
  spec.descriptors = {{write_end.get(), 5}};
  auto subject = Subject::launch(spec);
  ASSERT_TRUE(subject);
  write_end.reset();
  std::string text;
  char byte = 0;
  while (::read(read_end.get(), &byte, 1) == 1) text += byte;
  EXPECT_EQ(text, "hello\n");
}

TEST_F(Launcher, OutputIsAppended) {
  LaunchSpec spec = shell("echo out; echo err >&2");
  spec.stdout_file = directory_ / "both";
  spec.stderr_file = directory_ / "both";
  for (int i = 0; i < 2; ++i) {
    auto subject = Subject::launch(spec);
    ASSERT_TRUE(subject);
    main_report(&*subject);
  }
  EXPECT_EQ(*read_file(spec.stdout_file), "out\nerr\nout\nerr\n");
}

TEST_F(Launcher, OutputPassesThroughWhenAskedTo) {
  const UniqueFd before(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  const UniqueFd file(::open((directory_ / "ours").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ::fflush(stdout);
  ::dup2(file.get(), STDOUT_FILENO);
  LaunchSpec spec = shell("echo through");
  spec.passthrough_output = true;
  auto subject = Subject::launch(spec);
  ::dup2(before.get(), STDOUT_FILENO);
  ASSERT_TRUE(subject);
  main_report(&*subject);
  EXPECT_EQ(*read_file(directory_ / "ours"), "through\n");
}

TEST_F(Launcher, TheCoreLimitIsPinned) {
  EXPECT_EQ(output_of("ulimit -Sc; ulimit -Hc"), "0\n0\n");
  rlimit ours{};
  ::getrlimit(RLIMIT_CORE, &ours);
  if (ours.rlim_max != RLIM_INFINITY && ours.rlim_max < 1 << 20) return;
  LaunchSpec spec = shell("ulimit -Sc; ulimit -Hc");
  spec.core_limit = 1 << 20;
  EXPECT_EQ(output_of("ulimit", spec), "2048\n2048\n");  // In blocks of 512 bytes.
}

// Ignored and blocked signals of the harness are not passed on; a session of its own is.
TEST_F(Launcher, SignalsAndSessionAreFresh) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
  LaunchSpec spec = shell("");
  spec.argv = {"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"};
  const std::string signals = output_of("grep", spec);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  EXPECT_EQ(signals, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
  auto subject = Subject::launch(shell("exec sleep 1000"));
  ASSERT_TRUE(subject);
  EXPECT_EQ(::getsid(subject->main_pid()), subject->main_pid());
}

TEST_F(Launcher, AnUnprivilegedSubjectGainsNothing) {
  if (::geteuid() == 0) GTEST_SKIP() << "runs as root";
  EXPECT_EQ(output_of("id -u; grep -E '^Cap(Prm|Eff|Amb)' /proc/self/status"),
            std::to_string(::geteuid()) +
                "\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
                "CapAmb:\t0000000000000000\n");
}

TEST_F(Launcher, ASubjectOutlivesTheThreadThatLaunchedIt) {
  std::optional<Result<Subject>> subject;
  std::thread launching([&] { subject = Subject::launch(shell("exec sleep 1000")); });
  launching.join();
  ASSERT_TRUE(*subject);
  std::this_thread::sleep_for(100ms);
  EXPECT_FALSE(has_ended((*subject)->main_pidfd()));
  EXPECT_THAT((*subject)->descendants(), ElementsAre((*subject)->main_pid()));
}

TEST_F(Launcher, ManyThreadsLaunchAtOnce) {
  constexpr int kThreads = 4;
  constexpr int kLaunches = 5;
  std::vector<std::thread> threads;
  std::vector<int> right(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t, &right] {
      for (int i = 0; i < kLaunches; ++i) {
        auto subject = Subject::launch(shell("exit " + std::to_string(10 * t + i)));
        if (subject && main_report(&*subject).status.exit_code() == 10 * t + i) ++right[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(right, ::testing::Each(kLaunches));
}

TEST_F(Launcher, NoDescriptorAndNoZombieStaysWithUs) {
  const auto count = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  const auto before = count();
  for (int i = 0; i < 3; ++i) {
    auto subject = Subject::launch(shell("exit 0"));
    ASSERT_TRUE(subject);
    LaunchSpec bad = shell("");
    bad.argv = {"no-such-program"};
    EXPECT_FALSE(Subject::launch(bad));
  }
  EXPECT_EQ(count(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(ProcessTree, SeesThisProcess) {
  const auto state = read_process_state(::getpid());
  ASSERT_TRUE(state);
  EXPECT_EQ(state->parent, ::getppid());
  EXPECT_TRUE(state->live);
  EXPECT_THAT(namespace_pids(::getpid()), ::testing::Contains(::getpid()));
  const auto self = open_pidfd(::getpid());
  EXPECT_EQ(pid_of_pidfd(self->get()), ::getpid());
  EXPECT_THAT(descendants_of(::getpid()), IsEmpty());
  EXPECT_FALSE(read_process_state(1 << 30));
}

}  // namespace
}  // namespace crashworthy

// What a launch may ask for besides the command: to be held before its exec, mounts of its own, and
// that system calls of its tree are reported. Each is seen from the command, and its failures leave
// nothing.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <functional>
#include <thread>

#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/launcher.h"
#include "harness/process/process_test_support.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::AnyOfArray;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Answers reported calls in a thread of its own until the tree has ended.
class Answering {
 public:
  // Sees the call; what it returns is the answer: an error (> 0), 0: go on, or none at all.
  using Answer = std::function<std::optional<int>(const seccomp_notif&)>;
  explicit Answering(Answer answer) : answer_(std::move(answer)) {}
  ~Answering() { join(); }
  std::function<void(UniqueFd)> on_listener() {
    return [this](UniqueFd listener) {
      ++listeners_;
      listener_ = std::move(listener);
      thread_ = std::thread([this] { run(); });
    };
  }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  int listeners() const { return listeners_; }
  // After join().
  const std::vector<int>& seen() const { return seen_; }

 private:
  void run() {
    while (true) {
      pollfd ready{listener_.get(), POLLIN, 0};
      ::poll(&ready, 1, -1);
      if ((ready.revents & POLLIN) == 0) return;
      seccomp_notif call{};
      if (::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) continue;
      seen_.push_back(call.data.nr);
      const std::optional<int> answer = answer_(call);
      if (!answer) continue;
      seccomp_notif_resp response{};
      response.id = call.id;
      response.error = -*answer;
      response.flags = *answer == 0 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
      ::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response);
    }
  }

  Answer answer_;
  UniqueFd listener_;
  std::thread thread_;
  std::vector<int> seen_;
  int listeners_ = 0;
};

std::optional<int> go_on(const seccomp_notif&) { return 0; }

// What mkdir(1) calls depends on the C library, and that on the architecture.
#if defined(SYS_mkdir)
const std::vector<int> kMkdir{SYS_mkdir, SYS_mkdirat};
#else
const std::vector<int> kMkdir{SYS_mkdirat};
#endif

class Filter : public ProcessTest {
 protected:
  LaunchSpec notified(const std::string& script, std::vector<int> calls, Answering& answering) {
    LaunchSpec spec = shell(script);
    spec.notified_calls = std::move(calls);
    spec.on_listener = answering.on_listener();
    return spec;
  }
};

// ---- Held ----

TEST_F(Filter, BeforeExecIsCalledWithTheCommandsPidWhichHasExecutedNothing) {
  pid_t held = 0;
  std::string program;
  LaunchSpec spec = shell("exit 5");
  spec.before_exec = [&](pid_t pid) -> Result<void> {
    held = pid;
    program = fs::read_symlink("/proc/" + std::to_string(pid) + "/exe").filename();
    return {};
  };
  auto subject = Subject::launch(spec);
  ASSERT_TRUE(subject) << subject.error().message;
  EXPECT_EQ(held, subject->main_pid());
  EXPECT_EQ(program, "crashworthy-init");
  EXPECT_EQ(main_report(&*subject).status.exit_code(), 5);
}

TEST_F(Filter, AFailingBeforeExecEndsTheLaunch) {
  LaunchSpec spec = shell("touch executed");
  spec.before_exec = [](pid_t) -> Result<void> { return usage_error("not like this"); };
  auto subject = Subject::launch(spec);
  ASSERT_FALSE(subject);
  EXPECT_THAT(subject.error().message, HasSubstr("not like this"));
  EXPECT_TRUE(nothing_left_within(2s));
  EXPECT_FALSE(fs::exists(directory_ / "executed"));
}

TEST_F(Filter, AHeldCommandEndsWithItsHarness) {
  Harness harness([this] {
    LaunchSpec spec = shell("sleep 1000");
    spec.before_exec = [](pid_t) -> Result<void> {
      ::kill(::getpid(), SIGKILL);
      return {};
    };
    return static_cast<bool>(Subject::launch(spec));
  });
  EXPECT_FALSE(harness.ready());
  EXPECT_TRUE(nothing_left_within(2s));
}

// ---- Mounts ----

TEST_F(Filter, AMountIsSeenByTheSubjectAndNotByUs) {
  fs::create_directory(directory_ / "small");
  std::ofstream(directory_ / "ours") << "ours";
  std::ofstream(directory_ / "theirs") << "before";
  LaunchSpec spec = shell("echo x >small/file && stat -f -c %T small && cat theirs");
  spec.mounts = {{"tmpfs", directory_ / "small", "size=65536"},
                 {directory_ / "ours", directory_ / "theirs", ""}};
  {
    LaunchSpec tried = spec;
    tried.argv = {"true"};
    auto subject = Subject::launch(tried);
    if (!subject && subject.error().message.find("mount") != std::string::npos)
      GTEST_SKIP() << subject.error().message;
  }
  EXPECT_EQ(output_of("", spec), "tmpfs\nours");
  EXPECT_THAT(fs::is_empty(directory_ / "small"), true);
  EXPECT_EQ(read_file(directory_ / "theirs").value(), "before");
}

TEST_F(Filter, WithoutNamespacesMountsAreRefused) {
  for (const auto level : {Containment::kSubreaper, Containment::kCgroup}) {
    LaunchSpec spec = shell("touch executed");
    spec.containment = level;
    spec.mounts = {{"tmpfs", directory_, ""}};
    auto subject = Subject::launch(spec);
    ASSERT_FALSE(subject);
    EXPECT_TRUE(nothing_left_within(2s));
    EXPECT_FALSE(fs::exists(directory_ / "executed"));
    if (subject.error().kind == ErrorKind::kMissing) continue;  // No cgroup here.
    EXPECT_THAT(subject.error().message, HasSubstr("mount"));
  }
}

TEST_F(Filter, AMountThatFailsEndsTheLaunch) {
  LaunchSpec spec = shell("touch executed");
  spec.mounts = {{"tmpfs", directory_ / "nowhere", ""}};
  auto subject = Subject::launch(spec);
  ASSERT_FALSE(subject);
  EXPECT_THAT(subject.error().message, HasSubstr("mount"));
  EXPECT_FALSE(fs::exists(directory_ / "executed"));
}

// ---- Reported calls ----

TEST_F(Filter, AReportedCallGetsOurAnswer) {
  Answering answering([](const seccomp_notif&) { return ENOSPC; });
  LaunchSpec spec = notified("mkdir there 2>&1; test ! -e there", kMkdir, answering);
  EXPECT_THAT(output_of("", spec), HasSubstr("No space left on device"));
  answering.join();
  EXPECT_THAT(answering.seen(), ElementsAre(AnyOfArray(kMkdir)));
  EXPECT_EQ(answering.listeners(), 1);
}

// The calls by which the command is started are not among those that are reported, whichever they
// are; those that it makes itself are.
TEST_F(Filter, TheStartOfTheCommandIsNotReported) {
  Answering answering(go_on);
  const std::vector<int> calls{SYS_execve, SYS_sendmsg, SYS_sendmmsg, SYS_write, SYS_exit_group};
  LaunchSpec spec = notified("/bin/true; echo done; exec /bin/true", calls, answering);
  EXPECT_EQ(output_of("", spec), "done\n");
  answering.join();
  EXPECT_THAT(answering.seen(),
              ElementsAre(SYS_execve, SYS_exit_group, SYS_write, SYS_execve, SYS_exit_group));
}

TEST_F(Filter, ACommandThatCannotBeExecutedIsToldAsWithoutAFilter) {
  Answering answering(go_on);
  LaunchSpec spec = notified("", {SYS_execve, SYS_write, SYS_sendmsg, SYS_exit_group}, answering);
  spec.argv = {"no-such-program"};
  auto subject = Subject::launch(spec);
  ASSERT_FALSE(subject);
  EXPECT_EQ(subject.error().sys_errno, ENOENT);
  answering.join();
  EXPECT_THAT(answering.seen(), IsEmpty());
}

TEST_F(Filter, AStaticProgramIsReportedToo) {
  Answering answering([](const seccomp_notif&) { return EIO; });
  LaunchSpec spec = notified("", {SYS_write}, answering);
  spec.argv = {find_helper("crashworthy-init").value()};  // By hand it says why not, and ends.
  spec.stderr_file = directory_ / "error";
  auto subject = Subject::launch(spec);
  ASSERT_TRUE(subject) << subject.error().message;
  EXPECT_EQ(main_report(&*subject).status.exit_code(), 64);
  answering.join();
  EXPECT_THAT(answering.seen(), Contains(SYS_write));
  EXPECT_THAT(answering.seen(), Each(SYS_write));
  EXPECT_EQ(read_file(directory_ / "error").value(), "");
}

TEST_F(Filter, WhoWaitsForAnAnswerCanBeKilled) {
  UniqueFd asked(::eventfd(0, EFD_CLOEXEC));
  Answering answering([&](const seccomp_notif&) -> std::optional<int> {
    const std::uint64_t one = 1;
    (void)!::write(asked.get(), &one, sizeof one);
    return std::nullopt;
  });
  auto subject = Subject::launch(notified("mkdir there", kMkdir, answering));
  ASSERT_TRUE(subject) << subject.error().message;
  pollfd ready{asked.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&ready, 1, 10'000), 1);
  subject->kill_tree();
  EXPECT_TRUE(subject->wait_until_gone(5s));
  answering.join();
  EXPECT_FALSE(fs::exists(directory_ / "there"));
}

TEST_F(Filter, WhenNobodyListensAnyMoreCallsFailWithENOSYS) {
  LaunchSpec spec = shell("mkdir there 2>&1; true");
  spec.notified_calls = kMkdir;
  spec.on_listener = [](UniqueFd listener) { listener.reset(); };
  EXPECT_THAT(output_of("", spec), HasSubstr("Function not implemented"));
}

// Killed at any moment, be it while calls wait for its answer: nothing is left, and nobody hangs.
TEST_F(Filter, NothingIsLeftWhenTheHarnessIsKilledWhileCallsWait) {
  for (const bool answers : {true, false}) {
    Harness harness([&] {
      static std::optional<Answering> answering;
      static std::optional<Result<Subject>> subject;
      answering.emplace(
          [&](const seccomp_notif&) { return answers ? std::optional<int>(0) : std::nullopt; });
      subject = Subject::launch(notified(
          "while true; do mkdir there; rmdir there; done & sleep 1000", kMkdir, *answering));
      ::usleep(100'000);
      return static_cast<bool>(*subject);
    });
    ASSERT_TRUE(harness.ready());
    EXPECT_FALSE(marked().empty());
    harness.end();
    EXPECT_TRUE(nothing_left_within(2s));
  }
}

TEST_F(Filter, WhatMakesNoSenseIsAUsageError) {
  LaunchSpec spec = shell("true");
  spec.notified_calls = {SYS_write};
  EXPECT_EQ(Subject::launch(spec).error().kind, ErrorKind::kUsage) << "to nobody";
  spec.on_listener = [](UniqueFd) {};
  spec.notified_calls.assign(251, SYS_write);
  EXPECT_EQ(Subject::launch(spec).error().kind, ErrorKind::kUsage) << "too many";
  spec.notified_calls.assign(250, SYS_getppid);
  std::copy(kMkdir.begin(), kMkdir.end(), spec.notified_calls.begin());
  spec.argv = {"mkdir", "there"};
  Answering answering(go_on);
  spec.on_listener = answering.on_listener();
  auto most = Subject::launch(spec);
  ASSERT_TRUE(most) << most.error().message;
  EXPECT_TRUE(main_report(&*most).status.success());
  answering.join();
  EXPECT_THAT(answering.seen(), ElementsAre(AnyOfArray(kMkdir)));
}

}  // namespace
}  // namespace crashworthy

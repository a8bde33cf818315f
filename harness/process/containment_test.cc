// Nothing survives: whatever of the harness, the guardians and the subject dies or is stopped, at
// each level of containment. And what is told of a tree: its processes, its orphans.
#include "harness/process/containment.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/cgroup.h"
#include "harness/process/process_test_support.h"
#include "harness/process/process_tree.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The main process, a child with a child, a daemon of its own session (double fork, so an orphan)
// and its child: five processes that sleep.
constexpr const char* kTree =
    "(sleep 1001 & exec sleep 1002) &\n"
    "(setsid sh -c 'sleep 1003 & exec sleep 1004' &) \n"
    "exec sleep 1005";
constexpr std::size_t kTreeSize = 5;

class Contained : public ProcessTest, public ::testing::WithParamInterface<Containment> {
 protected:
  void SetUp() override {
    ProcessTest::SetUp();
    auto subject = Subject::launch(contained("true"));
    if (subject) return;
    ASSERT_EQ(subject.error().kind, ErrorKind::kMissing) << subject.error().message;
    GTEST_SKIP() << subject.error().message;
  }
  void TearDown() override {
    ProcessTest::TearDown();
    EXPECT_TRUE(eventually([] { return cgroups_left() == 0; }, 2s)) << "a cgroup is left";
  }

  static long cgroups_left() {
    const auto own = own_cgroup();
    if (!own) return 0;
    // Named after the outer process; other harnesses of this machine may have theirs.
    constexpr std::string_view kPrefix = "crashworthy-";
    return std::count_if(fs::directory_iterator(*own), {}, [&](const auto& entry) {
      const std::string name = entry.path().filename().string();
      return name.rfind(kPrefix, 0) == 0 &&
             !read_process_state(std::atoi(name.c_str() + kPrefix.size()));
    });
  }
  LaunchSpec contained(const std::string& script) const {
    LaunchSpec spec = shell(script);
    spec.containment = GetParam();
    return spec;
  }
  static bool is_whole(const Subject& subject) {
    return eventually([&] {
      const auto pids = subject.descendants();
      return pids.size() == kTreeSize && std::all_of(pids.begin(), pids.end(), [](pid_t pid) {
               const auto command = read_file("/proc/" + std::to_string(pid) + "/cmdline");
               return command && command->rfind("sleep", 0) == 0;
             });
    });
  }
  // A harness that has started the whole tree.
  Harness harness_with_tree() const {
    return Harness([this] {
      static std::optional<Result<Subject>> subject;
      subject = Subject::launch(contained(kTree));
      return *subject && is_whole(**subject);
    });
  }
};

TEST_P(Contained, KillTreeLeavesNothing) {
  auto subject = Subject::launch(contained(kTree));
  ASSERT_TRUE(subject);
  EXPECT_EQ(subject->containment(), GetParam());
  ASSERT_TRUE(is_whole(*subject));
  EXPECT_EQ(subject->descendants().front(), subject->main_pid());
  subject->kill_tree();
  EXPECT_TRUE(subject->wait_until_gone(1s));
  EXPECT_THAT(marked(), IsEmpty());
  EXPECT_THAT(subject->descendants(), IsEmpty());
  EXPECT_EQ(all_reports(&*subject).back().kind, Report::Kind::kChildless);
  subject->kill_tree();
  EXPECT_TRUE(subject->wait_until_gone(0ms));
}

TEST_P(Contained, TheDestructorLeavesNothing) {
  { ASSERT_TRUE(is_whole(*Subject::launch(contained(kTree)))); }
  EXPECT_THAT(marked(), IsEmpty());
}

// The outer process may not have run again since it forked the reaper.
TEST_P(Contained, ASubjectEndedAtOnceLeavesNothing) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Subject::launch(contained("sleep 1000 & sleep 1001")));
  EXPECT_THAT(marked(), IsEmpty());
}

TEST_P(Contained, ATreeThatForksAllTheTimeIsKilledToo) {
  auto subject = Subject::launch(
      contained("spawn() { while true; do (sleep 0.01 &); done; }; spawn & spawn & spawn & wait"));
  ASSERT_TRUE(subject);
  std::this_thread::sleep_for(200ms);
  subject->kill_tree();
  EXPECT_TRUE(subject->wait_until_gone(5s));
  EXPECT_THAT(marked(), IsEmpty());
}

TEST_P(Contained, OrphansAreReapedAndReported) {
  // The orphan reads its own pid as the subject sees it.
  auto subject = Subject::launch(contained("(sh -c 'echo $$ >orphan; exit 3' &); exit 4"));
  ASSERT_TRUE(subject);
  const auto reports = all_reports(&*subject);
  ASSERT_EQ(reports.size(), 3u);
  EXPECT_EQ(reports.back().kind, Report::Kind::kChildless);
  const auto orphan = std::find_if(reports.begin(), reports.end(), [](const Report& report) {
    return report.kind == Report::Kind::kDescendantEnded;
  });
  ASSERT_NE(orphan, reports.end());
  EXPECT_EQ(orphan->status.exit_code(), 3);
  EXPECT_EQ(std::to_string(orphan->pid) + "\n", *read_file(directory_ / "orphan"));
  EXPECT_GT(orphan->host_pid, 0);
  EXPECT_EQ(orphan->host_pid == orphan->pid, GetParam() != Containment::kPidNamespace);
}

TEST_P(Contained, ManyReportsThatNobodyReadsAreNotLost) {
  constexpr int kOrphans = 1000;
  auto subject =
      Subject::launch(contained("i=0; while [ $i -lt 1000 ]; do (: &); i=$((i+1)); done; exit 7"));
  ASSERT_TRUE(subject);
  std::this_thread::sleep_for(500ms);
  const auto reports = all_reports(&*subject);
  EXPECT_EQ(reports.size(), kOrphans + 2u);
}

TEST_P(Contained, TheTreeLivesOnAfterItsMainProcess) {
  auto subject = Subject::launch(contained("(sleep 1000 &) ; exit 5"));
  ASSERT_TRUE(subject);
  ASSERT_TRUE(wait_for_end(subject->main_pidfd(), 5'000));
  std::this_thread::sleep_for(50ms);
  ASSERT_EQ(subject->descendants().size(), 1u);
  auto reports = subject->read_reports();
  ASSERT_TRUE(reports);
  ASSERT_THAT(*reports, ::testing::SizeIs(::testing::Ge(1u)));
  EXPECT_EQ(reports->back().kind, Report::Kind::kMainEnded);
  EXPECT_EQ(reports->back().status.exit_code(), 5);
  EXPECT_FALSE(subject->wait_until_gone(20ms));
}

TEST_P(Contained, ProcessesAreOpenedByThePidThatTheSubjectSees) {
  auto subject = Subject::launch(contained("sleep 1000 & echo $! >child; wait"));
  ASSERT_TRUE(subject);
  pid_t child = 0;
  ASSERT_TRUE(eventually([&] { return !!(std::ifstream(directory_ / "child") >> child); }));
  auto opened = subject->open_process(child);
  ASSERT_TRUE(opened);
  const auto host_pid = pid_of_pidfd(opened->get());
  ASSERT_TRUE(host_pid);
  EXPECT_THAT(subject->descendants(), Contains(*host_pid));
  EXPECT_NE(*host_pid, subject->main_pid());
  ASSERT_TRUE(send_signal(opened->get(), SIGKILL));
  EXPECT_TRUE(main_report(&*subject).status.success());  // `wait` returned.
  EXPECT_EQ(subject->open_process(child).error().kind, ErrorKind::kGone);
}

TEST_P(Contained, NothingSurvivesAKilledHarness) {
  Harness harness = harness_with_tree();
  ASSERT_TRUE(harness.ready());
  ASSERT_GE(marked().size(), kTreeSize);
  harness.end();
  EXPECT_TRUE(nothing_left_within(1s));
}

// A fork of the harness holds its descriptors, the lifeline too: the death counts all the same.
TEST_P(Contained, AForkOfTheHarnessDoesNotKeepTheTreeAlive) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  Harness harness([&] {
    static std::optional<Result<Subject>> subject;
    subject = Subject::launch(contained(kTree));
    const pid_t fork = ::fork();
    if (fork == 0) {
      ::close(pipe[1]);
      char byte = 0;
      (void)!::read(pipe[0], &byte, 1);  // Until the test closes its end.
      ::_exit(0);
    }
    ::close(pipe[1]);
    return *subject && is_whole(**subject);
  });
  ASSERT_TRUE(harness.ready());
  harness.end();
  EXPECT_TRUE(nothing_left_within(1s));
  ::close(pipe[1]);
  ::close(pipe[0]);
}

struct Attack {
  int signal;
  bool outer;
  bool reaper;
};

// The guardians are killed or stopped, then the harness is killed.
TEST_P(Contained, NothingSurvivesDeadOrStoppedGuardiansAndThenADeadHarness) {
  for (const Attack& attack :
       {Attack{SIGKILL, true, false}, Attack{SIGKILL, false, true}, Attack{SIGSTOP, true, false},
        Attack{SIGSTOP, false, true}, Attack{SIGSTOP, true, true}}) {
    SCOPED_TRACE(signal_name(attack.signal) + (attack.outer ? " outer" : "") +
                 (attack.reaper ? " reaper" : ""));
    Harness harness = harness_with_tree();
    ASSERT_TRUE(harness.ready());
    const auto tree = descendants_of(harness.pid());
    ASSERT_GE(tree.size(), kTreeSize + 2);
    // Parents come first: the outer process, then its only child.
    if (attack.outer) ::kill(tree[0].pid, attack.signal);
    if (attack.reaper) ::kill(tree[1].pid, attack.signal);
    if (attack.signal == SIGKILL) {
      EXPECT_TRUE(nothing_left_within(1s));
    }
    harness.end();
    EXPECT_TRUE(nothing_left_within(1s));
  }
}

TEST_P(Contained, KillTreeWorksOnStoppedGuardians) {
  auto subject = Subject::launch(contained(kTree));
  ASSERT_TRUE(subject);
  ASSERT_TRUE(is_whole(*subject));
  const auto tree = descendants_of(::getpid());
  ASSERT_EQ(::kill(tree[0].pid, SIGSTOP), 0);
  ASSERT_EQ(::kill(tree[1].pid, SIGSTOP), 0);
  subject->kill_tree();
  EXPECT_TRUE(subject->wait_until_gone(2s));
  EXPECT_THAT(marked(), IsEmpty());
}

TEST_P(Contained, ALostGuardIsToldAndTheTreeEnds) {
  auto subject = Subject::launch(contained(kTree));
  ASSERT_TRUE(subject);
  ASSERT_TRUE(is_whole(*subject));
  ASSERT_EQ(::kill(descendants_of(::getpid())[1].pid, SIGKILL), 0);
  EXPECT_EQ(all_reports(&*subject).back().kind, Report::Kind::kGuardLost);
  EXPECT_TRUE(subject->wait_until_gone(2s));
  EXPECT_THAT(marked(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(Levels, Contained, ::testing::ValuesIn(kContainments),
                         [](const auto& parameter) { return containment_name(parameter.param); });

class Choice : public ProcessTest {
 protected:
  void TearDown() override {
    ::unsetenv("CRASHWORTHY_CONTAINMENT");
    ProcessTest::TearDown();
  }
};

TEST_F(Choice, TheBestLevelNeedsNoExcuse) {
  auto subject = Subject::launch(shell("true"));
  ASSERT_TRUE(subject);
  if (subject->containment() == Containment::kPidNamespace) {
    EXPECT_THAT(subject->containment_reason(), ::testing::AnyOf("", HasSubstr("no fresh /proc")));
  } else {
    EXPECT_THAT(subject->containment_reason(), HasSubstr("pid namespace refused: "));
  }
}

TEST_F(Choice, TheEnvironmentForcesALevelAndTheSpecWins) {
  ::setenv("CRASHWORTHY_CONTAINMENT", "subreaper", 1);
  LaunchSpec spec = shell("true");
  EXPECT_EQ(Subject::launch(spec)->containment(), Containment::kSubreaper);
  ::setenv("CRASHWORTHY_CONTAINMENT", "cgroup", 1);
  spec.containment = Containment::kSubreaper;
  EXPECT_EQ(Subject::launch(spec)->containment(), Containment::kSubreaper);
  ::setenv("CRASHWORTHY_CONTAINMENT", "bubble wrap", 1);
  spec.containment.reset();
  const auto refused = Subject::launch(spec);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
}

TEST_F(Choice, AFreshProcShowsTheSubjectOnlyItself) {
  LaunchSpec spec = shell("ls /proc | grep -c '^[0-9]'");
  spec.containment = Containment::kPidNamespace;
  auto subject = Subject::launch(spec);
  if (!subject || subject->containment_reason() != "asked for") {
    GTEST_SKIP() << (subject ? subject->containment_reason() : subject.error().message);
  }
  EXPECT_EQ(output_of("ls", spec), "4\n");  // The reaper, sh, ls and grep.
}

// Root runs everything once more as `nobody`, who gets a user namespace and no cgroup.
TEST(Unprivileged, AllOfThisHoldsForAnOrdinaryUser) {
  constexpr uid_t kNobody = 65534;
  if (::geteuid() != 0) GTEST_SKIP() << "is an ordinary user";
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  const std::string filter = "--gtest_filter=" + GTEST_FLAG_GET(filter) +
                             (GTEST_FLAG_GET(filter).find('-') == std::string::npos ? "-" : ":") +
                             "Unprivileged*";
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) ::_exit(77);
    ::execl(self.c_str(), self.c_str(), filter.c_str(), nullptr);
    ::_exit(77);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
    GTEST_SKIP() << "the test program cannot be run as user 65534";
  }
  EXPECT_EQ(WaitStatus::from_raw(status).describe(), "exited with 0");
}

}  // namespace
}  // namespace crashworthy

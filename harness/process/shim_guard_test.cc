// Nothing survives: whoever of the supervisor and the shim's own processes dies or is stopped. And
// no event is lost, nor does anything wait for ever, when nobody reads.
#include "harness/process/shim.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <thread>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/process/process_tree.h"
#include "harness/process/shim_test_support.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ShimGuard : public ShimTest {
 protected:
  // A supervisor that has started the whole tree below a shim.
  Harness supervisor_with_tree() const {
    return Harness([this] {
      static std::optional<Result<Shim>> shim;
      shim = Shim::create(script(kTree));
      return *shim && (*shim)->start({}) && tree_is_whole();
    });
  }
};

TEST_F(ShimGuard, TheDestructorAndAnAssignmentLeaveNothing) {
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

TEST_F(ShimGuard, NothingSurvivesAKilledSupervisor) {
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
TEST_F(ShimGuard, NothingSurvivesADeadOrStoppedShimAndThenADeadSupervisor) {
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

TEST_F(ShimGuard, ALostShimIsToldAndItsTreeEnds) {
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

TEST_F(ShimGuard, ALostShimIsToldToWhoOrdersAStart) {
  auto shim = Shim::create(script("exit 0"));
  ASSERT_TRUE(shim);
  ASSERT_EQ(::kill(shim->own_pids()[1], SIGKILL), 0);
  EXPECT_TRUE(nothing_left_within(1s));
  EXPECT_EQ(shim->start({}).error().kind, ErrorKind::kGone);
  Told(&*shim).next(Kind::kLost);
  EXPECT_EQ(shim->start({}).error().kind, ErrorKind::kGone);
}

TEST_F(ShimGuard, WhatALostShimHadToldBeforeIsTold) {
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
TEST_F(ShimGuard, TheCommandDiesWithBothProcessesOfItsShim) {
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

TEST_F(ShimGuard, AStoppedShimCanBeKilledAndDestroyed) {
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
TEST_F(ShimGuard, AForkOfTheSupervisorDoesNotKeepTheTreeAlive) {
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

TEST_F(ShimGuard, EventsThatNobodyReadsAreNotLost) {
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
TEST_F(ShimGuard, WhoNeverReadsLosesTheShimAndNothingIsLeft) {
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

TEST_F(ShimGuard, ManyShimsAreIndependent) {
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

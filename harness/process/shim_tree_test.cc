// A shim has hold of the whole tree of its command: when that crashes, when it is asked to end,
// killed, suspended or resumed.
#include "harness/process/shim.h"

#include <gmock/gmock.h>
#include <sched.h>
#include <sys/syscall.h>

#include <csignal>
#include <thread>

#include "harness/os/pidfd.h"
#include "harness/process/process_tree.h"
#include "harness/process/shim_test_support.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::IsEmpty;

using ShimTree = ShimTest;

TEST_F(ShimTree, WhatACrashLeavesBehindIsKilled) {
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

TEST_F(ShimTree, KillLeavesNothing) {
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
TEST_F(ShimTree, AnIncarnationMayBeKilledAtOnce) {
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

TEST_F(ShimTree, ATreeThatForksAllTheTimeIsKilledToo) {
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

TEST_F(ShimTree, WhoIgnoresTheStopIsKilledByTheKill) {
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
TEST_F(ShimTree, AStopLetsTheRestOfTheTreeEndByItself) {
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

TEST_F(ShimTree, SurvivorsOfAStopAreKilledByTheKill) {
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

// Forked after the tree was asked to end, as one is that is forked while the tree is walked.
TEST_F(ShimTree, WhoWasNotAskedToEndIsAskedWhenTheCommandHasEnded) {
  auto shim =
      Shim::create(script("trap 'sleep 1000 & sleep 0.3; exit 4' TERM\n"
                          "echo >ready; while true; do sleep 0.01; done"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  ASSERT_TRUE(eventually([&] { return size_of("ready") > 0; }));
  shim->stop(SIGTERM);
  EXPECT_EQ(told.end().exit_code(), 4);
  EXPECT_THAT(tree(), IsEmpty());
}

TEST_F(ShimTree, WhatASurvivorLeavesIsAskedToEndToo) {
  auto shim =
      Shim::create(script("(trap 'sleep 0.3; sleep 1000 & sleep 0.3; exit 0' TERM\n"
                          " echo >ready; while true; do sleep 0.01; done) &\n"
                          "exec sleep 1001"));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  ASSERT_TRUE(eventually([&] { return size_of("ready") > 0; }));
  shim->stop(SIGTERM);
  EXPECT_EQ(told.end().signal(), SIGTERM);
  EXPECT_THAT(tree(), IsEmpty());
}

TEST_F(ShimTree, AStoppedTreeCanBeAskedToEnd) {
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

TEST_F(ShimTree, ASuspendedTreeStandsStillUntilItIsResumed) {
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

TEST_F(ShimTree, ASuspensionCatchesATreeThatForksAllTheTime) {
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

// Its process waits uninterruptibly, as after vfork(2), for a child that never executes anything.
TEST_F(ShimTree, ASuspensionThatFailsIsToldAndUndone) {
  if (!std::filesystem::exists("/usr/bin/perl")) GTEST_SKIP() << "there is no perl";
  const std::string clone =
      std::to_string(SYS_clone) + ", " + std::to_string(CLONE_VFORK | SIGCHLD);
  auto shim = Shim::create(
      command({"/usr/bin/perl", "-e", "syscall(" + clone + ", 0, 0, 0, 0); sleep(1000)"}));
  ASSERT_TRUE(shim);
  Told told(&*shim);
  ASSERT_TRUE(shim->start({}));
  told.next(Kind::kStarted);
  ASSERT_TRUE(eventually([&] { return tree().size() == 2; }));
  // Given up in time: nothing is told of it.
  shim->suspend();
  EXPECT_TRUE(told.nothing_for(50ms));
  shim->resume();
  told.next(Kind::kResumed);

  shim->suspend();
  EXPECT_TRUE(told.nothing_for(9s));
  told.next(Kind::kSuspendFailed);
  for (const pid_t pid : tree()) EXPECT_FALSE(all_threads_stopped(pid)) << pid;
  EXPECT_TRUE(told.nothing_for(50ms));
  shim->kill();
  EXPECT_EQ(told.end().signal(), SIGKILL);
}

TEST_F(ShimTree, TheEndOfASuspendedCommandWins) {
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

}  // namespace
}  // namespace crashworthy

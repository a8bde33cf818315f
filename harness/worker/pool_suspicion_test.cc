// Processes that are stopped, half dead or wrongly taken for dead: nothing is published twice, and
// the pool goes on.
#include <linux/futex.h>
#include <sys/syscall.h>

#include <csignal>
#include <thread>

#include "harness/os/wait_status.h"
#include "harness/worker/pool_stress_test_util.h"

namespace crashworthy {
namespace {

using namespace test;

class PoolSuspicions : public ::testing::Test {
 protected:
  PoolSuspicions() {
    no_core_files();
    options.workers = 2;
    options.spares = 1;
    options.intensity = kUnlimited;
    options.max_attempts = 0;
    options.deadline = 200ms;
    options.output_bytes = kMostWords * 8;
    options.frame_bytes = 1 << 20;
  }
  ~PoolSuspicions() override {
    under.reset();
    EXPECT_TRUE(childless());
  }

  void start(JobFunction function) {
    under = std::make_unique<PoolUnderTest>(options, std::move(function));
  }
  void submit(std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      under->pool->submit(framed_job(*under->pool, first + i));
    }
  }
  // All of `count` items came once and are right.
  void expect_golden(std::uint64_t count) {
    Results results;
    EXPECT_FALSE(finish(*under->pool, results).has_value());
    EXPECT_EQ(results.size(), count);
    for (const auto& [key, result] : results) EXPECT_TRUE(golden(result)) << key.first;
  }

  PoolOptions options;
  Counters counters;
  std::unique_ptr<PoolUnderTest> under;
};

// ---- Stopped ----

// A spare that was stopped is found out when it is to become a worker.
TEST_F(PoolSuspicions, AStoppedSpareDoesNotOccupyAPlace) {
  for (const int workers : {1, 2}) {
    options.workers = workers;
    start(work);
    ASSERT_TRUE(settle(*under->pool, 1));
    const pid_t spare = under->pool->spares().front();
    ::kill(spare, SIGSTOP);
    ASSERT_TRUE(wait_until_stopped(spare, 1000));
    for (const pid_t pid : under->pool->workers()) ::kill(pid, SIGKILL);
    submit(0, 20);
    expect_golden(20);
    EXPECT_TRUE(settle(*under->pool, 1));
    under.reset();
  }
}

// One is stopped while it starts: the warm-up does so.
TEST_F(PoolSuspicions, AProcessStoppedAtItsStartIsReplaced) {
  if (!long_counts()) GTEST_SKIP() << "takes ten seconds: CRASHWORTHY_LONG is not set";
  options.workers = 1;
  options.spares = 0;
  options.warm_up = job(99);
  const pid_t zygote_parent = ::getpid();
  start([&, zygote_parent](const Job& given, const JobContext& context) {
    if (given.item != 99) return work(given, context);
    // The third process: the first warm-up is the zygote's.
    if (::getppid() != zygote_parent && ++counters[0] == 2) ::raise(SIGSTOP);
    return JobOutput{};
  });
  ::kill(under->pool->workers().front(), SIGKILL);
  submit(0, 5);
  expect_golden(5);
  EXPECT_EQ(counters[0], 3);
}

// A zygote that is stopped tells of no death. Whoever dies first is noticed all the same.
TEST_F(PoolSuspicions, AStoppedZygoteCostsNothing) {
  for (const int spares : {0, 1, 2}) {
    for (const std::size_t which : {0u, 1u}) {
      if (!long_counts() && (spares == 2 || which != static_cast<std::size_t>(spares))) continue;
      options.spares = spares;
      start([](const Job& given, const JobContext& context) {
        if (context.attempt == 1 && given.item % 10 == 4) ::raise(SIGSEGV);
        return work(given, context);
      });
      ASSERT_TRUE(settle(*under->pool, static_cast<std::size_t>(spares)));
      ::kill(under->pool->zygotes()[which], SIGSTOP);
      submit(0, 50);
      expect_golden(50);
      EXPECT_TRUE(settle(*under->pool, static_cast<std::size_t>(spares)));
      under.reset();
    }
  }
}

// Zygotes die while they are asked for processes, again and again.
TEST_F(PoolSuspicions, ZygotesThatDieInTheMiddleOfAForkCostNoPlace) {
  options.workers = 4;
  options.spares = 2;
  options.deadline = 2s;
  start(work);
  const int rounds = long_counts() ? 200 : 20;
  std::uint64_t first = 0;
  for (int round = 0; round < rounds; ++round) {
    ASSERT_TRUE(settle(*under->pool, 2)) << "round " << round;
    const auto zygotes = under->pool->zygotes();
    const auto workers = under->pool->workers();
    for (std::size_t i = 0; i < 3; ++i) ::kill(workers[i], SIGKILL);
    (void)under->pool->wait(0ms);
    ::usleep(static_cast<useconds_t>(round % 10 * 100));
    ::kill(zygotes[static_cast<std::size_t>(round % 2)], SIGKILL);
    submit(first, 20);
    expect_golden(20);
    first += 20;
  }
  EXPECT_EQ(under->pool->statistics().nonsense, 0u);
}

// Results that never cease do not keep the coordinator from the deadline, nor from the deaths.
TEST_F(PoolSuspicions, AConstantFlowOfResultsHidesNoHungWorker) {
  options.workers = 2;
  options.max_demand = 64;
  options.min_demand = 63;  // All is told at once.
  start([](const Job& given, const JobContext&) {
    if (given.item == 7) ::pause();
    const std::int64_t until = now_ns() + 2'000;
    while (now_ns() < until) continue;
    return JobOutput{};
  });
  const std::int64_t until = now_ns() + 10'000'000'000;
  bool ended = false;
  for (std::uint64_t next = 0; !ended && now_ns() < until;) {
    while (under->pool->in_flight() < 200) under->pool->submit(job(next++));
    auto came = under->pool->wait(1000ms);
    ASSERT_TRUE(came) << came.error().message;
    for (const JobResult& result : *came) {
      if (result.job.item != 7) continue;
      ended = true;
      EXPECT_EQ(result.output.failure, FailureReason::kDeadline);
    }
  }
  EXPECT_TRUE(ended) << "a hung job, for ten seconds";
  ASSERT_TRUE(under->pool->drain(20s));
  EXPECT_EQ(under->pool->statistics().zygote_deaths, 0u);
}

// ---- Half dead ----

// The worker's main thread ends, as the kernel sees it; another one goes on writing to the output.
TEST_F(PoolSuspicions, AWorkerWhoseMainThreadHasGoneIsEnded) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the thread sanitizer allows no threads after a fork";
#endif
  options.deadline = 2s;
  start([this](const Job& given, const JobContext& context) {
    if (given.item % 10 == 5 && counters[given.item]++ == 0) {
      std::thread([output = context.output] {
        for (;;) std::memset(output.data(), 0xEE, output.size());
      }).detach();
      if (given.item == 5) ::usleep(1000);
      ::syscall(SYS_exit, 0);
    }
    return work(given, context);
  });
  submit(0, 60);
  expect_golden(60);
  EXPECT_TRUE(settle(*under->pool, 1));
  EXPECT_EQ(under->pool->statistics().nonsense, 0u);
}

// pthread_exit() in a job unwinds through what must not throw: a crash like any other.
TEST_F(PoolSuspicions, APthreadExitIsADeath) {
  start([this](const Job& given, const JobContext& context) {
    if (given.item == 3 && counters[3]++ == 0) ::pthread_exit(nullptr);
    return work(given, context);
  });
  submit(0, 10);
  expect_golden(10);
  EXPECT_TRUE(settle(*under->pool, 1));
}

TEST_F(PoolSuspicions, AWorkerThatBecomesAnotherProgramIsReplaced) {
  for (const int spares : {0, 1}) {
    options.spares = spares;
    const Counters fresh;
    start([&fresh](const Job& given, const JobContext& context) {
      if (given.item == 3 && fresh[3]++ == 0) ::execl("/bin/sleep", "sleep", "3600", nullptr);
      return work(given, context);
    });
    submit(0, 20);
    expect_golden(20);
    EXPECT_TRUE(settle(*under->pool, static_cast<std::size_t>(spares)));
    under.reset();
  }
}

// A stopped worker goes on in the very moment in which the deadline kills it.
TEST_F(PoolSuspicions, AWorkerThatGoesOnAtItsDeadlinePublishesOnceAtMost) {
  options.deadline = 60ms;
  options.max_deaths = 3;
  // Wakes who is stopped: 10 on are their pids, and when they stopped in units of 10 us.
  const pid_t waker = ::fork();
  if (waker == 0) {
    Random random(3);
    std::map<int, std::int64_t> when;
    for (const std::int64_t until = now_ns() + 30'000'000'000; now_ns() < until;) {
      for (std::uint64_t i = 0; i < 40; ++i) {
        const int pid = counters[100 + i];
        if (pid == 0) continue;
        const auto delay = 58'000'000 + static_cast<std::int64_t>(random.below(4'000'000));
        const auto known = when.emplace(pid, now_ns() + delay).first;
        if (now_ns() >= known->second && counters[100 + i].exchange(0) == pid) {
          ::kill(pid, SIGCONT);
        }
      }
      if (counters[1] == 1) ::_exit(0);
      ::usleep(100);
    }
    ::_exit(1);
  }
  start([this](const Job& given, const JobContext& context) {
    if (given.item % 5 == 2 && context.attempt == 1) {
      counters[100 + given.item / 5] = ::getpid();
      ::raise(SIGSTOP);
    }
    return work(given, context);
  });
  submit(0, 100);
  expect_golden(100);
  counters[1] = 1;
  ::waitpid(waker, nullptr, 0);
  EXPECT_TRUE(settle(*under->pool, 1));
}

// ---- Wrongly taken for dead ----

// A worker says that it is dead, in the kernel's own words, and goes on: its job is taken over, and
// one of the two results counts.
TEST_F(PoolSuspicions, OfTwoThatDoTheSameJobOneCounts) {
  options.workers = 1;
  options.deadline = 5s;
  start([](const Job& given, const JobContext& context) {
    if (given.item % 4 == 1 && context.attempt == 1) {
      const Mapping cell = own_cell();
      auto* guard = reinterpret_cast<std::atomic<std::uint32_t>*>(cell.begin);
      guard->store(FUTEX_OWNER_DIED | FUTEX_WAITERS);
      ::syscall(SYS_futex, guard, FUTEX_WAKE, 1, nullptr, nullptr, 0);
      const std::int64_t until = now_ns() + static_cast<std::int64_t>(given.item) * 2'000;
      while (now_ns() < until) continue;
    }
    return work(given, context);
  });
  if (!under->pool->takes_over()) GTEST_SKIP() << "this kernel lacks futex_waitv";
  std::uint64_t first = 0;
  for (int round = 0; round < (long_counts() ? 500 : 50); ++round, first += 8) {
    submit(first, 8);
    ::usleep(500);  // The coordinator looks when both may be done.
    expect_golden(8);
    ASSERT_TRUE(settle(*under->pool, 1));
  }
  const PoolStatistics statistics = under->pool->statistics();
  std::printf("%lu suspicions, %lu taken over, %lu rejected\n", statistics.suspicions,
              statistics.take_overs, statistics.rejected);
  EXPECT_GT(statistics.suspicions, 0u);
  EXPECT_GT(statistics.rejected, 0u);
  EXPECT_EQ(statistics.nonsense, 0u);
}

}  // namespace
}  // namespace crashworthy

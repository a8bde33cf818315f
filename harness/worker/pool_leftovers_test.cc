// What jobs leave behind, and who is left when the coordinator or its zygotes die. All that a pool
// has started holds the write end of a pipe: its end of file means that none is left.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>

#include <csignal>
#include <thread>

#include "harness/worker/pool_stress_test_util.h"

namespace crashworthy {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr uid_t kNobody = 65534;
constexpr int kEndMs = 2000;

enum class End { kWorkerKilled, kPoolEnds, kCoordinatorKilled, kEverybodyKilled };

struct Case {
  End end;
  bool unprivileged;
};

class PoolLeftovers : public ::testing::TestWithParam<Case> {};

// The coordinator of the test: two workers, each with a job whose child sleeps for an hour.
// `counters`: 0 and 1 count the jobs and their children, from 10 on are the zygotes, 20 is a
// worker.
[[noreturn]] void coordinate(const Counters& counters, const Case& given) {
  if (given.unprivileged && (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0)) ::_exit(9);
  PoolOptions options;
  options.max_demand = 1;  // Nothing waits behind a job that does not end.
  options.intensity = kUnlimited;
  auto pool = make_worker_pool(
      options,
      [&counters](const Job& job_of, const JobContext&) {
        const pid_t child = ::fork();
        if (child == 0) {
          ++counters[1];
          ::signal(SIGTERM, SIG_IGN);
          for (;;) ::sleep(3600);
        }
        counters[20 + job_of.item] = ::getpid();
        ++counters[0];
        while (counters[2] == 0) ::usleep(1000);
        return JobOutput{};
      },
      Probe());
  if (!pool) ::_exit(8);
  for (std::size_t i = 0; i < 2; ++i) counters[10 + i] = (*pool)->zygotes()[i];
  (*pool)->submit(job(0));
  (*pool)->submit(job(1));
  while (counters[3] == 0) {
    if (!(*pool)->wait(5ms)) ::_exit(7);
  }
  pool->reset();
  counters[4] = 1;
  for (;;) ::pause();  // Alive, with its pool gone.
}

TEST_P(PoolLeftovers, NothingOutlivesItsPool) {
  const Case given = GetParam();
  if (given.unprivileged && ::geteuid() != 0) GTEST_SKIP() << "is unprivileged already";
  const Counters counters;
  std::array<int, 2> alive{};
  ASSERT_EQ(::pipe(alive.data()), 0);
  const pid_t coordinator = ::fork();
  if (coordinator == 0) coordinate(counters, given);
  ::close(alive[1]);
  const std::int64_t until = now_ns() + 10'000'000'000;
  while ((counters[0] < 2 || counters[1] < 2) && now_ns() < until) ::usleep(1000);
  ASSERT_EQ(counters[0], 2);
  ASSERT_EQ(counters[1], 2);
  pollfd ended{alive[0], POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 0), 0);
  switch (given.end) {
    case End::kWorkerKilled:
      // Its job is done again, with a new child; nothing of the old ones may be left at the end.
      ::kill(counters[20], SIGKILL);
      while (counters[0] < 3 && now_ns() < until) ::usleep(1000);
      EXPECT_EQ(counters[0], 3);
      counters[2] = counters[3] = 1;
      while (counters[4] == 0 && now_ns() < until) ::usleep(1000);
      EXPECT_EQ(counters[4], 1);
      ::kill(coordinator, SIGKILL);
      break;
    case End::kPoolEnds:
      counters[3] = 1;
      while (counters[4] == 0 && now_ns() < until) ::usleep(1000);
      EXPECT_EQ(counters[4], 1);
      // Only the coordinator itself still has the pipe.
      EXPECT_EQ(::poll(&ended, 1, 0), 0);
      ::kill(coordinator, SIGKILL);
      break;
    case End::kCoordinatorKilled:
      ::kill(coordinator, SIGKILL);
      break;
    case End::kEverybodyKilled:
      for (const std::uint64_t who : {10u, 11u}) ::kill(counters[who], SIGSTOP);
      ::kill(coordinator, SIGSTOP);
      for (const std::uint64_t who : {10u, 11u}) ::kill(counters[who], SIGKILL);
      ::kill(coordinator, SIGKILL);
      break;
  }
  EXPECT_EQ(::poll(&ended, 1, kEndMs), 1) << "something is left";
  EXPECT_NE(ended.revents & POLLHUP, 0);
  ::waitpid(coordinator, nullptr, 0);
  ::close(alive[0]);
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  const std::array<const char*, 4> ends{"WhenAWorkerIsKilled", "WhenThePoolEnds",
                                        "WhenTheCoordinatorIsKilled", "WhenEverybodyIsKilled"};
  return std::string(ends[static_cast<std::size_t>(info.param.end)]) +
         (info.param.unprivileged ? "AsNobody" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Ends, PoolLeftovers,
    ::testing::Values(Case{End::kWorkerKilled, false}, Case{End::kPoolEnds, false},
                      Case{End::kCoordinatorKilled, false}, Case{End::kEverybodyKilled, false},
                      Case{End::kWorkerKilled, true}, Case{End::kPoolEnds, true},
                      Case{End::kCoordinatorKilled, true}, Case{End::kEverybodyKilled, true}),
    name_of);

// Zygotes die, the coordinator does not: what their workers left behind must go, too.
TEST(PoolZygotes, ADeadZygoteLeavesNoChildOfAJob) {
  for (const std::size_t which : {0u, 1u, 2u}) {
    const Counters counters;
    PoolOptions options;
    options.intensity = kUnlimited;
    std::array<int, 2> alive{};
    ASSERT_EQ(::pipe2(alive.data(), O_CLOEXEC), 0);
    PoolUnderTest under(options, [&counters, alive](const Job& given, const JobContext& context) {
      // Only the children of these jobs have the write end.
      if (context.attempt == 1 && given.item < 2) {
        if (::fork() == 0) {
          for (;;) ::sleep(3600);
        }
        ++counters[0];
      }
      ::close(alive[1]);
      while (counters[1] == 0) ::usleep(1000);
      return JobOutput{};
    });
    const auto zygotes = under.pool->zygotes();
    under.pool->submit(job(0));
    under.pool->submit(job(1));
    while (counters[0] < 2) ::usleep(1000);
    for (std::size_t i = 0; i < 2; ++i) {
      if (which == 2 || which == i) ::kill(zygotes[i], SIGKILL);
    }
    const std::int64_t until = now_ns() + 200'000'000;
    counters[1] = 1;
    Results results;
    EXPECT_FALSE(finish(*under.pool, results).has_value());
    EXPECT_EQ(results.size(), 2u);
    while (now_ns() < until) (void)under.pool->wait(50ms);
    under.pool.reset();
    ::close(alive[1]);
    pollfd ended{alive[0], POLLIN, 0};
    EXPECT_EQ(::poll(&ended, 1, kEndMs), 1) << "zygote " << which;
    ::close(alive[0]);
  }
}

void await_zygote_deaths(Pool& pool, std::uint64_t count) {
  const std::int64_t until = now_ns() + kPatienceNs;
  while (pool.statistics().zygote_deaths < count && now_ns() < until) {
    ASSERT_TRUE(pool.wait(1ms));
  }
}

JobOutput echo(const Job& given, const JobContext&) { return {done_text(given), {}, {}}; }

TEST(PoolZygotes, BothDeadAtOnceAreForkedAnewBySingleThreads) {
  PoolOptions options;
  options.intensity = kUnlimited;
  PoolUnderTest under(options, echo);
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(settle(*under.pool, 1));
    for (const pid_t zygote : under.pool->zygotes()) ::kill(zygote, SIGKILL);
    for (std::uint64_t i = 0; i < 50; ++i) under.pool->submit(job(i));
    Results results;
    const auto error = finish(*under.pool, results);
    ASSERT_FALSE(error.has_value()) << error->message;
    EXPECT_EQ(results.size(), 50u);
    await_zygote_deaths(*under.pool, static_cast<std::uint64_t>(2 * (round + 1)));
  }
  EXPECT_TRUE(settle(*under.pool, 1));
  EXPECT_EQ(under.pool->statistics().zygote_deaths, 10u);
  under.pool.reset();
  EXPECT_TRUE(childless());
}

// A stopped worker of one zygote makes nothing of the death of the other one: the kernel hangs up
// orphaned process groups that have stopped members.
TEST(PoolZygotes, AStoppedWorkerDoesNotSpreadTheDeathOfAZygote) {
  for (const std::size_t dies : {0u, 1u}) {
    PoolOptions options;
    options.workers = 4;
    options.intensity = kUnlimited;
    PoolUnderTest under(options, echo);
    const auto zygotes = under.pool->zygotes();
    std::vector<pid_t> others;
    for (const pid_t pid : under.pool->workers()) {
      const auto line = process_line(pid);
      if (line && line->parent == zygotes[1 - dies]) others.push_back(pid);
    }
    ASSERT_FALSE(others.empty());
    ::kill(others.front(), SIGSTOP);
    ASSERT_TRUE(wait_until_stopped(others.front(), 1000));
    ::kill(zygotes[dies], SIGKILL);
    await_zygote_deaths(*under.pool, 1);
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(under.pool->wait(5ms));
    EXPECT_EQ(under.pool->statistics().zygote_deaths, 1u);
    for (const pid_t pid : others) {
      const auto line = process_line(pid);
      ASSERT_TRUE(line.has_value()) << "an innocent worker died";
      EXPECT_EQ(line->state == 'T', pid == others.front());
    }
  }
}

// A long warm-up does not make the new zygote look silent.
TEST(PoolZygotes, ALongWarmUpIsNotSilence) {
  PoolOptions options;
  options.workers = 1;
  options.spares = 0;
  options.intensity = kUnlimited;
  options.warm_up = job(99);
  const pid_t coordinator = ::getpid();
  PoolUnderTest under(options, [coordinator](const Job& given, const JobContext& context) {
    if (given.item == 99 && ::getppid() == coordinator) ::usleep(1'300'000);
    return echo(given, context);
  });
  for (const pid_t zygote : under.pool->zygotes()) ::kill(zygote, SIGKILL);
  under.pool->submit(job(0));
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  await_zygote_deaths(*under.pool, 2);
  EXPECT_TRUE(settle(*under.pool, 0));
  EXPECT_EQ(under.pool->statistics().zygote_deaths, 2u);
}

TEST(PoolZygotes, BothDeadAtOnceEndThePoolOfACoordinatorWithThreads) {
  PoolOptions options;
  PoolUnderTest under(options, [](const Job& given, const JobContext& context) {
    if (given.item < 2) ::pause();
    return echo(given, context);
  });
  std::atomic<bool> stop{false};
  std::array<std::thread, 2> threads;
  for (std::thread& thread : threads) {
    thread = std::thread([&stop] {
      while (!stop) ::usleep(1000);
    });
  }
  for (std::uint64_t i = 0; i < 10; ++i) under.pool->submit(job(i));
  for (const pid_t zygote : under.pool->zygotes()) ::kill(zygote, SIGKILL);
  Results results;
  const auto error = finish(*under.pool, results);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->kind, ErrorKind::kGone);
  EXPECT_THAT(error->message, HasSubstr("both zygotes of the worker pool are dead"));
  EXPECT_THAT(error->message, HasSubstr("threads"));
  EXPECT_FALSE(under.pool->wait(0ms));
  EXPECT_EQ(under.pool->in_flight(), 10 - results.size());
  under.pool.reset();
  EXPECT_TRUE(childless());
}

}  // namespace
}  // namespace crashworthy

// The pool without faults: results, order, limits, and how it ends. pool_fault_test.cc has the
// deaths.
#include "harness/worker/pool.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/time.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <span>
#include <stdexcept>
#include <thread>

#include "harness/worker/pool_test_util.h"

namespace crashworthy {
namespace {

using namespace test;
using ::testing::HasSubstr;

JobOutput echo(const Job& given, const JobContext&) { return {done_text(given), {}, {}}; }

PoolOptions of(int workers, int spares = 0) {
  PoolOptions options;
  options.workers = workers;
  options.spares = spares;
  return options;
}

TEST(Pool, ReturnsEveryResultOnce) {
  for (int workers = 1; workers <= 4; ++workers) {
    PoolUnderTest under(of(workers, 1), echo);
    for (std::uint64_t i = 0; i < 1000; ++i) under.pool->submit(job(i % 100, i / 100, "args"));
    EXPECT_EQ(under.pool->in_flight(), 1000u);
    Results results;
    EXPECT_FALSE(finish(*under.pool, results).has_value());
    ASSERT_EQ(results.size(), 1000u);
    for (const auto& [key, result] : results) {
      EXPECT_EQ(result.outcome, JobOutcome::kDone);
      EXPECT_EQ(result.output.bytes, done_text(result.job));
      EXPECT_EQ(result.attempts, 1u);
    }
    EXPECT_EQ(under.all(ProbeEvent::kStarted).size(), 1000u);
    EXPECT_EQ(under.all(ProbeEvent::kDone).size(), 1000u);
    EXPECT_EQ(under.all(ProbeEvent::kWorkerReady).size(), static_cast<std::size_t>(workers));
    under.pool.reset();
    EXPECT_TRUE(childless());
  }
}

TEST(Pool, ANameIsFreeAgainOnceItsResultCame) {
  PoolUnderTest under(of(2), echo);
  for (int i = 0; i < 10; ++i) {
    Results results;
    under.pool->submit(job(1, 2, std::to_string(i)));
    EXPECT_FALSE(finish(*under.pool, results).has_value());
    EXPECT_EQ(results.at({1, 2}).output.bytes, "1/2:" + std::to_string(i));
  }
}

// Full payloads both ways, more of them than a socket holds.
TEST(Pool, CarriesTheLargestPayloads) {
  PoolOptions options = of(1);
  options.max_demand = 64;
  PoolUnderTest under(options, [](const Job& given, const JobContext&) {
    return JobOutput{given.arguments, {}, {}};
  });
  for (std::uint64_t i = 0; i < 200; ++i) {
    under.pool->submit(job(i, 0, std::string(kMaxPayload, static_cast<char>('a' + i % 26))));
  }
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  ASSERT_EQ(results.size(), 200u);
  for (const auto& [key, result] : results) EXPECT_EQ(result.output.bytes, result.job.arguments);
}

TEST(Pool, FailuresComeBackWithReasonAndMessage) {
  PoolUnderTest under(of(1), [](const Job& given, const JobContext&) {
    if (given.item == 0) return JobOutput{std::string(kMaxPayload + 1, 'x'), {}, {}};
    return JobOutput{"part", FailureReason::kUnreadable, std::string(5000, 'm')};
  });
  under.pool->submit(job(0));
  under.pool->submit(job(1));
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  EXPECT_EQ(results.at({0, 0}).outcome, JobOutcome::kFailed);
  EXPECT_EQ(results.at({0, 0}).output.failure, FailureReason::kTooLarge);
  EXPECT_THAT(results.at({0, 0}).output.message, HasSubstr("16385 bytes"));
  EXPECT_EQ(results.at({1, 0}).output.failure, FailureReason::kUnreadable);
  EXPECT_EQ(results.at({1, 0}).output.bytes, "part");
  EXPECT_EQ(results.at({1, 0}).output.message.size(), 1024u);
  for (const ProbeRecord& done : under.all(ProbeEvent::kDone)) EXPECT_NE(done.value, 0);
  EXPECT_EQ(under.all(ProbeEvent::kFailed).size(), 0u);
}

// An exception fails its job and nobody else: the worker goes on.
TEST(Pool, WhatAJobThrowsIsItsResult) {
  PoolUnderTest under(of(1), [](const Job& given, const JobContext&) -> JobOutput {
    if (given.item == 0) throw std::runtime_error("no such model");
    if (given.item == 1) throw 1;
    return {std::to_string(::getpid()), {}, {}};
  });
  const std::string worker = std::to_string(under.pool->workers().front());
  for (std::uint64_t i = 0; i < 3; ++i) under.pool->submit(job(i));
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  for (const std::uint64_t thrower : {0, 1}) {
    EXPECT_EQ(results.at({thrower, 0}).outcome, JobOutcome::kFailed);
    EXPECT_EQ(results.at({thrower, 0}).output.failure, FailureReason::kThrew);
    EXPECT_EQ(results.at({thrower, 0}).attempts, 1u);
    EXPECT_FALSE(results.at({thrower, 0}).death.has_value());
  }
  EXPECT_EQ(results.at({0, 0}).output.message, "it threw: no such model");
  EXPECT_THAT(results.at({1, 0}).output.message, HasSubstr("no std::exception"));
  EXPECT_EQ(results.at({2, 0}).output.bytes, worker);
  EXPECT_EQ(under.pool->statistics().worker_deaths, 0u);
}

TEST(Pool, AJobThatSaysMoreThanItsFrameFails) {
  PoolOptions options = of(1);
  options.output_bytes = 100;
  PoolUnderTest under(options, [](const Job& given, const JobContext&) {
    JobOutput output;
    output.frame_bytes = given.item == 0 ? 101 : 100;
    return output;
  });
  for (std::uint64_t i = 0; i < 2; ++i) under.pool->submit({i, 0, {}, 100, {}});
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  const JobResult& failed = results.at({0, 0});
  EXPECT_EQ(failed.outcome, JobOutcome::kFailed);
  EXPECT_EQ(failed.output.failure, FailureReason::kTooLarge);
  EXPECT_THAT(failed.output.message, HasSubstr("says 101 bytes of a frame of 100"));
  EXPECT_EQ(failed.attempts, 1u);
  EXPECT_FALSE(failed.frame);
  EXPECT_EQ(results.at({1, 0}).frame.size(), 100u);
  EXPECT_EQ(under.pool->statistics().worker_deaths, 0u);
}

TEST(Pool, GivesAWorkerNoMoreThanItsDemand) {
  PoolOptions options = of(2);
  options.max_demand = 3;
  Counters counters;
  PoolUnderTest under(options, [&](const Job&, const JobContext&) {
    ++counters[0];
    ::pause();  // Until the pool ends.
    return JobOutput{};
  });
  for (std::uint64_t i = 0; i < 20; ++i) under.pool->submit(job(i));
  EXPECT_TRUE(under.pool->wait(50ms)->empty());
  EXPECT_EQ(counters[0], 2);
}

TEST(Pool, WaitsNoLongerThanItsTimeoutAndThroughSignals) {
  PoolUnderTest under(of(1), echo);
  struct sigaction handler {};
  handler.sa_handler = [](int) {};
  ::sigaction(SIGALRM, &handler, nullptr);
  const itimerval often{{0, 2000}, {0, 2000}};
  const itimerval never{};
  const std::int64_t before = now_ns();
  ::setitimer(ITIMER_REAL, &often, nullptr);
  EXPECT_TRUE(under.pool->wait(30ms)->empty());
  ::setitimer(ITIMER_REAL, &never, nullptr);
  EXPECT_GE(now_ns() - before, 30'000'000);
  EXPECT_TRUE(under.pool->wait(-5ms)->empty());
}

TEST(Pool, RefusesToForkAProcessWithThreads) {
  std::atomic<bool> stop{false};
  std::thread thread([&] {
    while (!stop) ::usleep(1000);
  });
  const auto refused = make_worker_pool(of(1), echo, Probe());
  stop = true;
  thread.join();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(refused.error().message, HasSubstr("threads"));
  EXPECT_TRUE(childless());
  EXPECT_TRUE(
      make_worker_pool(of(1), echo, Probe()));  // The thread is gone: nothing is in the way.
}

TEST(Pool, RefusesImpossibleOptions) {
  const auto refused = [](auto change) {
    PoolOptions options;
    change(options);
    const auto pool = make_worker_pool(options, echo, Probe());
    return !pool && pool.error().kind == ErrorKind::kUsage;
  };
  EXPECT_TRUE(refused([](PoolOptions& o) { o.workers = 0; }));
  EXPECT_TRUE(refused([](PoolOptions& o) { o.spares = -1; }));
  EXPECT_TRUE(refused([](PoolOptions& o) { o.max_demand = 0; }));
  EXPECT_TRUE(refused([](PoolOptions& o) { o.max_deaths = 1; }));
  EXPECT_TRUE(refused([](PoolOptions& o) { o.intensity = -1; }));
  EXPECT_TRUE(refused([](PoolOptions& o) { o.period = 0ns; }));
  EXPECT_TRUE(refused([](PoolOptions& o) { o.deadline = -1ns; }));
  EXPECT_TRUE(refused([](PoolOptions& o) { o.batch = 2, o.max_attempts = 1; }));
  const auto empty = make_worker_pool(of(1), nullptr);
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(empty.error().message, HasSubstr("function"));
}

TEST(Pool, AWarmUpThatDiesSaysHow) {
  PoolOptions options = of(1);
  options.warm_up = job(0);
  const auto pool = make_worker_pool(options, [](const Job&, const JobContext&) -> JobOutput {
    ::raise(SIGTERM);
    return {};
  });
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().message,
            "the zygote of the worker pool was killed by SIGTERM at its start");
  const pid_t coordinator = ::getpid();
  const auto later = make_worker_pool(options, [=](const Job&, const JobContext&) -> JobOutput {
    if (::getppid() != coordinator) ::_exit(3);
    return {};
  });
  ASSERT_FALSE(later);
  EXPECT_EQ(later.error().message, "a worker exited with 3 before it was ready");
}

TEST(Pool, WorkersHaveDefaultSignalsWhateverTheCallerHas) {
  sigset_t usr1;
  ::sigemptyset(&usr1);
  ::sigaddset(&usr1, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &usr1, nullptr);
  ::signal(SIGUSR2, SIG_IGN);
  PoolUnderTest under(of(1), [](const Job&, const JobContext&) {
    sigset_t mask;
    ::sigprocmask(SIG_BLOCK, nullptr, &mask);
    const bool open = ::sigismember(&mask, SIGUSR1) == 0;
    const bool reset = ::signal(SIGUSR2, SIG_DFL) == SIG_DFL;
    return JobOutput{open && reset ? "default" : "inherited", {}, {}};
  });
  ::signal(SIGUSR2, SIG_DFL);
  ::sigprocmask(SIG_UNBLOCK, &usr1, nullptr);
  under.pool->submit(job(0));
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  EXPECT_EQ(results.at({0, 0}).output.bytes, "default");
}

// A busy worker, a stopped one and an idle one: the destructor is bounded and reaps them all.
TEST(Pool, EndsAllItsWorkersWithinABound) {
  const std::size_t descriptors = open_descriptors();
  {
    PoolUnderTest under(of(3, 2), [](const Job& given, const JobContext&) {
      if (given.item == 0) ::pause();
      if (given.item == 1) ::raise(SIGSTOP);
      return JobOutput{};
    });
    under.pool->submit(job(0));
    under.pool->submit(job(1));
    (void)under.pool->wait(20ms);
    const std::int64_t before = now_ns();
    under.pool.reset();
    EXPECT_LT(now_ns() - before, 2'000'000'000);
  }
  EXPECT_TRUE(childless());
  EXPECT_EQ(open_descriptors(), descriptors);
}

// All workers and spares hold the write end of a pipe: its end of file means that none is left.
TEST(Pool, WorkersDieWithTheirCoordinator) {
  std::array<int, 2> alive{};
  ASSERT_EQ(::pipe(alive.data()), 0);
  auto ring = ProbeRing::create();
  ASSERT_TRUE(ring);
  ring->watch(ProbeEvent::kStarted, 2);
  const pid_t coordinator = ::fork();
  if (coordinator == 0) {
    auto pool = make_worker_pool(
        of(2, 1),
        [](const Job&, const JobContext&) {
          for (;;) ::pause();
          return JobOutput{};
        },
        ring->probe());
    (*pool)->submit(job(0));
    (*pool)->submit(job(1));
    (void)(*pool)->wait(60s);
    ::_exit(1);
  }
  ::close(alive[1]);
  pollfd started{ring->event_fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&started, 1, 10'000), 1);
  pollfd ended{alive[0], POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 0), 0);
  ::kill(coordinator, SIGKILL);
  EXPECT_EQ(::poll(&ended, 1, 1000), 1) << "a worker outlived its coordinator by a second";
  EXPECT_NE(ended.revents & POLLHUP, 0);
  ::waitpid(coordinator, nullptr, 0);
  ::close(alive[0]);
}

// Job 1 waits until the frame of job 0 is given back; job 2 needs none and does not wait with it.
TEST(Pool, AJobWithoutRoomForItsOutputHoldsNobodyUp) {
  constexpr std::size_t kBytes = 1 << 20;
  PoolOptions options = of(1);
  options.output_bytes = kBytes;  // And no room beside it.
  PoolUnderTest under(options, [](const Job&, const JobContext& context) {
    JobOutput output;
    output.frame_bytes = context.output.size();
    return output;
  });
  const auto submit = [&](std::uint64_t item, std::size_t bytes) {
    under.pool->submit(Job{item, 0, {}, bytes, {}});
  };
  submit(0, kBytes);
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  EXPECT_EQ(results.at({0, 0}).frame.size(), kBytes);
  submit(1, kBytes);
  submit(2, 0);
  const auto came = under.pool->wait(10s);
  ASSERT_TRUE(came);
  ASSERT_EQ(came->size(), 1u);
  EXPECT_EQ(came->front().job.item, 2u);
  const auto none = under.pool->wait(20ms);
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->empty());
  results.clear();
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  EXPECT_EQ(results.at({1, 0}).frame.size(), kBytes);
}

// More outputs than banks, kept and let go, under crashes: with keys where the CPU has them.
TEST(Pool, KeepsOutputsApartWithProtectionKeys) {
  PoolOptions options = of(2, 1);
  options.protection_keys = true;
  options.max_demand = 4;
  options.intensity = 1000;
  options.output_bytes = 10'000;
  options.frame_bytes = 1 << 20;
  PoolUnderTest under(options, [](const Job& given, const JobContext& context) {
    if (given.item % 50 == 7 && context.attempt == 1) std::abort();
    for (std::byte& byte : context.output) byte = static_cast<std::byte>(given.item);
    JobOutput output;
    output.frame_bytes = context.output.size();
    return output;
  });
  for (std::uint64_t i = 0; i < 300; ++i) {
    Job made = job(i);
    made.output_bytes = 5000 + i * 16;
    under.pool->submit(std::move(made));
  }
  Results results;
  std::deque<JobResult> kept;  // The last 30.
  while (under.pool->in_flight() > 0) {
    auto came = under.pool->wait(1000ms);
    ASSERT_TRUE(came) << came.error().message;
    for (JobResult& result : *came) kept.push_back(std::move(result));
    for (; kept.size() > 30 || (under.pool->in_flight() == 0 && !kept.empty()); kept.pop_front()) {
      const JobResult& result = kept.front();
      ASSERT_EQ(result.frame.size(), result.job.output_bytes);
      const std::span<const std::byte> bytes(result.frame.data(), result.frame.size());
      EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [&result](std::byte byte) {
        return byte == static_cast<std::byte>(result.job.item);
      })) << result.job.item;
      EXPECT_TRUE(results.emplace(std::pair{result.job.item, 0u}, JobResult()).second);
    }
  }
  EXPECT_EQ(results.size(), 300u);
}

TEST(Pool, TellsWhichJobsAreTooLargeForIt) {
  PoolOptions options = of(1);
  options.output_bytes = 100;
  PoolUnderTest under(options, echo);
  const auto arguments = under.pool->check(job(7, 2, std::string(kMaxPayload + 1, 'x')));
  ASSERT_FALSE(arguments);
  EXPECT_EQ(arguments.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(arguments.error().message,
            "the job of item 7 part 2 has 16385 bytes of arguments, more than the 16384 that a job "
            "can carry");
  EXPECT_THAT(arguments.error().hint, HasSubstr("allocate_frame()"));
  const auto output = under.pool->check({7, 2, {}, 101, {}});
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(output.error().message,
            "the job of item 7 part 2 asks for an output of 101 bytes, more than the 100 of "
            "PoolOptions::output_bytes");
  EXPECT_TRUE(under.pool->check({7, 2, std::string(kMaxPayload, 'x'), 100, {}}));
}

TEST(PoolDeathTest, TooLargeArgumentsAreABugOfTheCaller) {
  PoolUnderTest under(of(1), echo);
  EXPECT_DEATH(under.pool->submit(job(0, 0, std::string(kMaxPayload + 1, 'x'))), "bug");
}

TEST(Pool, InterruptEndsOneWait) {
  PoolUnderTest under(PoolOptions(), [](const Job&, const JobContext&) { return JobOutput{}; });
  under.pool->interrupt();  // Before it, ...
  EXPECT_TRUE(under.pool->wait(1h)->empty());
  std::thread later([&] {
    std::this_thread::sleep_for(20ms);
    under.pool->interrupt();
  });
  EXPECT_TRUE(under.pool->wait(1h)->empty());  // ... or while it waits.
  later.join();
  under.pool.reset();
}

}  // namespace
}  // namespace crashworthy

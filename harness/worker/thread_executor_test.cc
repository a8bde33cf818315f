// Threads execute every job once and tell the probe; nothing protects the process from a job.
#include <gtest/gtest.h>

#include <csignal>
#include <stdexcept>

#include "harness/worker/pool_test_util.h"

namespace crashworthy {
namespace {

using namespace test;

TEST(ThreadExecutor, ReturnsEveryResultOnce) {
  for (int threads = 1; threads <= 4; ++threads) {
    auto executor = make_thread_executor(
        threads,
        [](const Job& given, const JobContext&) {
          return JobOutput{done_text(given), {}, {}};
        },
        Probe());
    for (std::uint64_t i = 0; i < 1000; ++i) executor->submit(job(i, 1, "x"));
    EXPECT_EQ(executor->in_flight(), 1000u);
    Results results;
    EXPECT_FALSE(finish(*executor, results).has_value());
    ASSERT_EQ(results.size(), 1000u);
    for (const auto& [key, result] : results) EXPECT_EQ(result.output.bytes, done_text(result.job));
  }
}

TEST(ThreadExecutor, TellsTheProbe) {
  auto ring = ProbeRing::create();
  ASSERT_TRUE(ring);
  {
    auto executor = make_thread_executor(
        1,
        [](const Job& given, const JobContext& context) {
          EXPECT_EQ(context.attempt, 1u);
          JobOutput output;
          if (given.item == 1) output.failure = FailureReason::kUnreadable;
          return output;
        },
        ring->probe());
    executor->submit(job(0, 5));
    executor->submit(job(1));
    Results results;
    EXPECT_FALSE(finish(*executor, results).has_value());
    EXPECT_EQ(results.at({0, 5}).outcome, JobOutcome::kDone);
    EXPECT_EQ(results.at({1, 0}).outcome, JobOutcome::kFailed);
  }
  std::vector<ProbeRecord> records;
  ring->drain(records, true);
  std::vector<std::string> names;
  for (const ProbeRecord& record : records) {
    names.emplace_back(probe_event_name(static_cast<ProbeEvent>(record.event)));
    EXPECT_EQ(record.pid, ::getpid());
    EXPECT_EQ(record.incarnation, 1u);
  }
  // That the item failed is told by the pipeline; here only that the unit of work did.
  EXPECT_EQ(names,
            (std::vector<std::string>{"worker_ready", "started", "done", "started", "done"}));
  EXPECT_EQ(records.back().value, static_cast<std::int64_t>(FailureReason::kUnreadable));
}

TEST(ThreadExecutor, TooLargeAnOutputIsAFailure) {
  auto executor = make_thread_executor(
      1,
      [](const Job&, const JobContext&) {
        return JobOutput{std::string(kMaxPayload + 1, 'x'), {}, {}};
      },
      Probe());
  executor->submit(job(0));
  Results results;
  EXPECT_FALSE(finish(*executor, results).has_value());
  EXPECT_EQ(results.at({0, 0}).output.failure, FailureReason::kTooLarge);
}

TEST(ThreadExecutor, WaitsNoLongerThanItsTimeout) {
  auto executor = make_thread_executor(
      1, [](const Job&, const JobContext&) { return JobOutput{}; }, Probe());
  const auto came = executor->wait(5ms);
  ASSERT_TRUE(came);
  EXPECT_TRUE(came->empty());
}

// Job 1 waits until the frame of job 0 is given back; job 2 needs none and does not wait with it.
TEST(ThreadExecutor, AJobWithoutRoomForItsOutputHoldsNobodyUp) {
  constexpr std::size_t kBytes = 1 << 20;
  auto executor = make_thread_executor(
      1,
      [](const Job&, const JobContext& context) {
        JobOutput output;
        output.frame_bytes = context.output.size();
        return output;
      },
      Probe(), kBytes);
  executor->submit(Job{0, 0, {}, kBytes, {}});
  Results results;
  EXPECT_FALSE(finish(*executor, results).has_value());
  executor->submit(Job{1, 0, {}, kBytes, {}});
  executor->submit(Job{2, 0, {}, 0, {}});
  const auto came = executor->wait(10s);
  ASSERT_TRUE(came);
  ASSERT_EQ(came->size(), 1u);
  EXPECT_EQ(came->front().job.item, 2u);
  results.clear();
  EXPECT_FALSE(finish(*executor, results).has_value());
  EXPECT_EQ(results.at({1, 0}).frame.size(), kBytes);
}

TEST(ThreadExecutor, EndsWithJobsInItsQueue) {
  Counters counters;
  {
    auto executor = make_thread_executor(
        1,
        [&](const Job&, const JobContext&) {
          ++counters[0];
          ::usleep(20'000);
          return JobOutput{};
        },
        Probe());
    for (std::uint64_t i = 0; i < 100; ++i) executor->submit(job(i));
  }
  EXPECT_LT(counters[0], 100);
}

// As in the pool: what is no job's result is known before.
TEST(ThreadExecutor, WhatAJobThrowsOrSaysTooMuchIsAFailure) {
  auto executor = make_thread_executor(
      1,
      [](const Job& given, const JobContext&) -> JobOutput {
        if (given.item == 0) throw std::runtime_error("no such model");
        JobOutput output;
        output.frame_bytes = 101;
        return output;
      },
      Probe(), 100);
  for (std::uint64_t i = 0; i < 2; ++i) executor->submit({i, 0, {}, 100, {}});
  Results results;
  EXPECT_FALSE(finish(*executor, results).has_value());
  EXPECT_EQ(results.at({0, 0}).output.failure, FailureReason::kThrew);
  EXPECT_EQ(results.at({0, 0}).output.message, "it threw: no such model");
  EXPECT_EQ(results.at({1, 0}).output.failure, FailureReason::kTooLarge);
  EXPECT_EQ(results.at({1, 0}).output.message, "the job says 101 bytes of a frame of 100");
}

TEST(ThreadExecutor, TellsWhichJobsAreTooLargeForIt) {
  const auto executor = make_thread_executor(
      1, [](const Job&, const JobContext&) { return JobOutput{}; }, Probe(), 100);
  EXPECT_TRUE(executor->check({0, 0, std::string(kMaxPayload, 'x'), 100, {}}));
  for (const Job& large : {job(0, 0, std::string(kMaxPayload + 1, 'x')), Job{0, 0, {}, 101, {}},
                           Job{0, 0, {}, ~std::size_t{0}, {}}}) {
    const auto refused = executor->check(large);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
    EXPECT_FALSE(refused.error().hint.empty());
  }
}

void fail() { throw std::runtime_error("escaped"); }

TEST(ThreadExecutorDeathTest, WhatANoexceptFunctionThrowsEndsTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto run = [] {
    auto executor = make_thread_executor(
        1,
        [](const Job&, const JobContext&) noexcept {
          fail();
          return JobOutput{};
        },
        Probe());
    executor->submit(job(0));
    (void)executor->wait(10s);
  };
  EXPECT_EXIT(run(), ::testing::KilledBySignal(SIGABRT), "");
}

}  // namespace
}  // namespace crashworthy

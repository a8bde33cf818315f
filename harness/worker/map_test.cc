// map() and stream(): every job has one result, in order and within the bound, whatever crashes;
// with a ledger nothing is lost or repeated although the whole run is killed.
#include "harness/worker/map.h"

#include <gmock/gmock.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <new>
#include <set>

#include "harness/os/random.h"
#include "harness/os/shared_memory.h"
#include "harness/os/wait_status.h"
#include "harness/worker/persistent_ledger_test_util.h"
#include "harness/worker/pool_test_util.h"

namespace crashworthy {
namespace {

using namespace test;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr int kUnlimited = 1'000'000;

std::vector<Job> jobs(std::uint64_t count) {
  std::vector<Job> all;
  for (std::uint64_t i = 0; i < count; ++i) all.push_back(job(i, 0, "a" + std::to_string(i)));
  return all;
}

JobOutput echo(const Job& given, const JobContext&) { return {done_text(given), {}, {}, 0}; }

class Map : public ::testing::Test {
 protected:
  Map() {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    options.intensity = kUnlimited;
  }
  ~Map() override {
    pool.reset();
    EXPECT_TRUE(childless());
  }

  void start(JobFunction function) {
    auto made = make_worker_pool(options, std::move(function), Probe());
    ASSERT_TRUE(made) << made.error().message;
    pool = *std::move(made);
  }

  // Jobs 0 to count - 1; the number that was asked for is in `asked`.
  JobSource source(std::uint64_t count) {
    return [this, count]() -> Result<std::optional<Job>> {
      if (asked == count) return std::optional<Job>();
      return std::optional(job(asked++, 0));
    };
  }
  ResultSink sink() {
    return [this](JobResult result) -> Result<void> {
      seen.push_back(result.job.item);
      most = std::max(most, asked - seen.size() + 1);
      return {};
    };
  }

  PoolOptions options;
  Counters counters;
  std::unique_ptr<Pool> pool;
  TemporaryDirectory directory;
  std::uint64_t asked = 0;
  std::uint64_t most = 0;  // On their way, when a result came.
  std::vector<std::uint64_t> seen;
};

TEST_F(Map, ReturnsResultsInTheOrderOfTheJobs) {
  // The first is the slowest, and no two have an item of their own.
  start([](const Job& given, const JobContext&) {
    if (given.arguments == "0") ::usleep(20'000);
    return JobOutput{given.arguments, {}, {}, 0};
  });
  std::vector<Job> all;
  for (int i = 0; i < 200; ++i) all.push_back(job(kNoItem, 0, std::to_string(i)));
  for (int round = 0; round < 2; ++round) {
    const auto results = map(*pool, all);
    ASSERT_TRUE(results) << results.error().message;
    ASSERT_EQ(results->size(), 200u);
    for (std::size_t i = 0; i < 200; ++i) {
      EXPECT_EQ((*results)[i].output.bytes, std::to_string(i));
    }
  }
  EXPECT_TRUE(map(*pool, {})->empty());
}

TEST_F(Map, DoesTheSameOnThreads) {
  auto threads = make_thread_executor(2, echo, Probe());
  const auto results = map(*threads, jobs(50));
  ASSERT_TRUE(results);
  for (std::size_t i = 0; i < 50; ++i) {
    EXPECT_EQ((*results)[i].output.bytes, done_text(job(i, 0, "a" + std::to_string(i))));
  }
}

TEST_F(Map, ACrashCostsOnlyItsOwnJobAndOnlyIfItRepeats) {
  start([this](const Job& given, const JobContext& context) {
    ++counters[given.item];
    if (given.item == 5 && counters[5] == 1) ::raise(SIGSEGV);
    if (given.item == 7) std::abort();
    return echo(given, context);
  });
  const auto results = map(*pool, jobs(20));
  ASSERT_TRUE(results) << results.error().message;
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ((*results)[i].job.item, i);
    EXPECT_EQ((*results)[i].outcome, i == 7 ? JobOutcome::kPoisoned : JobOutcome::kDone) << i;
  }
  EXPECT_EQ((*results)[5].attempts, 2u);
  EXPECT_EQ((*results)[7].death->signal(), SIGABRT);
}

TEST_F(Map, WithoutRedeliveryALostJobTellsHowItsWorkerEnded) {
  options.redeliver = false;
  options.max_demand = 1;
  start([](const Job& given, const JobContext& context) {
    if (given.item == 3) ::raise(SIGSEGV);
    while (given.item == 5) ::pause();
    return echo(given, context);
  });
  auto all = jobs(8);
  all[5].deadline = 20ms;
  const auto results = map(*pool, std::move(all));
  ASSERT_TRUE(results);
  EXPECT_EQ((*results)[3].outcome, JobOutcome::kLost);
  EXPECT_EQ((*results)[3].output.message, "its worker was killed by SIGSEGV");
  EXPECT_EQ((*results)[3].death->signal(), SIGSEGV);
  EXPECT_EQ((*results)[5].outcome, JobOutcome::kLost);
  EXPECT_EQ((*results)[5].output.failure, FailureReason::kDeadline);
  EXPECT_EQ((*results)[5].output.message, "it took longer than the deadline of 20.0 ms");
  EXPECT_EQ((*results)[6].outcome, JobOutcome::kDone);
}

// Each behind a job of the same worker that takes longer than its own deadline.
TEST_F(Map, ADeadlineOfAJobCountsFromTheBeginOfItsOwnExecution) {
  options.workers = 1;
  options.max_demand = 4;
  start([](const Job& given, const JobContext& context) {
    if (given.item % 2 == 0) ::usleep(150'000);
    while (given.item == 5) ::pause();
    return echo(given, context);
  });
  auto all = jobs(6);
  for (std::size_t i = 1; i < 6; i += 2) all[i].deadline = 100ms;
  const std::int64_t begin = now_ns();
  const auto results = map(*pool, std::move(all));
  ASSERT_TRUE(results);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ((*results)[i].outcome, JobOutcome::kDone) << (*results)[i].output.message;
  }
  EXPECT_EQ((*results)[5].output.failure, FailureReason::kDeadline);
  EXPECT_LT(now_ns() - begin, 10'000'000'000) << "the pool's deadline is 30 s";
}

// ---- stream() ----

TEST_F(Map, AStreamIsOrderedAndBounded) {
  start(echo);
  MapOptions bounded;
  bounded.in_flight = 5;
  ASSERT_TRUE(stream(*pool, source(500), sink(), bounded));
  ASSERT_EQ(seen.size(), 500u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_LE(most, 5u);
}

TEST_F(Map, AnUnorderedStreamGivesResultsAsTheyCome) {
  start([this](const Job& given, const JobContext& context) {
    if (given.item == 0) {
      while (counters[1] < 10) ::usleep(100);
    } else {
      ++counters[1];
    }
    return echo(given, context);
  });
  MapOptions unordered;
  unordered.ordered = false;
  unordered.in_flight = 4;
  ASSERT_TRUE(stream(*pool, source(100), sink(), unordered));
  EXPECT_LE(most, 4u);
  EXPECT_NE(seen.front(), 0u);
  std::sort(seen.begin(), seen.end());
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_EQ(seen.at(i), i);
}

// A camera: what has been done comes although the next frame is not there yet.
TEST_F(Map, ASlowSourceDoesNotHoldResultsBack) {
  start(echo);
  std::uint64_t late = 0;
  const auto slow = [&]() -> Result<std::optional<Job>> {
    ::usleep(10'000);
    if (asked == 20) return std::optional<Job>();
    if (asked > 3 && seen.size() + 3 < asked) ++late;
    return std::optional(job(asked++));
  };
  MapOptions wide;
  wide.in_flight = 100;
  ASSERT_TRUE(stream(*pool, slow, sink(), wide));
  EXPECT_EQ(seen.size(), 20u);
  EXPECT_LT(late, 10u) << "of 20 jobs";
}

TEST_F(Map, AFailingSourceEndsTheStreamBehindItsJobs) {
  start(echo);
  const auto ended = stream(
      *pool,
      [&]() -> Result<std::optional<Job>> {
        if (asked == 10) return usage_error("the camera is gone");
        return std::optional(job(asked++));
      },
      sink());
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().message, "the camera is gone");
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(pool->in_flight(), 0u);
}

TEST_F(Map, AFailingSinkGetsNothingMore) {
  start(echo);
  const auto ended = stream(*pool, source(1000), [&](JobResult result) -> Result<void> {
    seen.push_back(result.job.item);
    if (seen.size() == 10) return system_error("write", ENOSPC);
    return {};
  });
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().sys_errno, ENOSPC);
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(pool->in_flight(), 0u);
  EXPECT_TRUE(map(*pool, jobs(3)));  // The pool is as good as before.
}

TEST_F(Map, WhenThePoolFailsTheSinkHasTheResultsSoFar) {
  options.intensity = 1;
  options.period = 1h;
  start([](const Job& given, const JobContext& context) {
    if (given.item == 50) ::raise(SIGKILL);
    return echo(given, context);
  });
  MapOptions bounded;
  bounded.in_flight = 4;
  const auto ended = stream(*pool, source(100), sink(), bounded);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::kGone);
  EXPECT_THAT(ended.error().message, HasSubstr("in flight: the worker pool gave up"));
  EXPECT_GE(seen.size(), 40u);
  EXPECT_LE(seen.size(), 50u);
  const auto again = map(*pool, jobs(1));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::kGone);
  EXPECT_THAT(again.error().message, StartsWith("the worker pool gave up"));
}

TEST_F(Map, AJobThatIsTooLargeIsRefusedWithItsNameAndTheBound) {
  start([this](const Job& given, const JobContext& context) {
    ++counters[0];
    return echo(given, context);
  });
  const auto threads = make_thread_executor(1, echo);
  for (Executor* executor : {static_cast<Executor*>(pool.get()), threads.get()}) {
    std::vector<Job> all = jobs(5);
    all[3].arguments.assign(kMaxPayload + 1, 'x');
    const auto arguments = map(*executor, all);
    ASSERT_FALSE(arguments);
    EXPECT_EQ(arguments.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(arguments.error().message, HasSubstr("item 3 part 0 has 16385 bytes"));
    all[3] = job(3);
    all[3].output_bytes = 10;
    const auto output = map(*executor, all);
    ASSERT_FALSE(output);
    EXPECT_EQ(output.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(output.error().message, HasSubstr("an output of 10 bytes, more than the 0 of"));
    EXPECT_THAT(output.error().hint, HasSubstr("larger"));
  }
  EXPECT_EQ(counters[0], 0) << "map() knows before anything runs";
  const auto refused = stream(
      *pool,
      [this]() -> Result<std::optional<Job>> {
        Job next = job(asked++);
        if (next.item == 3) next.output_bytes = 10;
        return std::optional(next);
      },
      sink());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(refused.error().message, HasSubstr("item 3 part 0"));
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{0, 1, 2}));
  EXPECT_TRUE(map(*pool, jobs(3)));
}

TEST_F(Map, AnExecutorWithJobsInFlightIsRefused) {
  start(echo);
  pool->submit(job(1));
  const auto refused = map(*pool, jobs(1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(pool->drain(10s)->size(), 1u);
}

// ---- With a ledger ----

TEST_F(Map, WhatIsCommittedIsNotExecutedAgainButReturned) {
  options.max_attempts = 2;
  start([this](const Job& given, const JobContext& context) {
    ++counters[given.item];
    if (given.item == 2) {
      return JobOutput{std::string("b\0b", 3), FailureReason::kUnreadable, "no picture", 0};
    }
    if (given.item == 4) std::abort();
    return echo(given, context);
  });
  auto ledger = PersistentLedger::open(directory / "ledger", quick()).value();
  MapOptions with_ledger;
  with_ledger.ledger = &ledger;
  ASSERT_TRUE(map(*pool, jobs(5), with_ledger));
  const auto again = map(*pool, jobs(8), with_ledger);
  ASSERT_TRUE(again) << again.error().message;
  ASSERT_EQ(again->size(), 8u);
  for (std::size_t i = 0; i < 8; ++i) {
    const JobResult& result = (*again)[i];
    EXPECT_EQ(counters[i], i == 4 ? 2 : 1) << i;
    EXPECT_EQ(result.job.item, i);
    EXPECT_EQ(result.job.arguments, "a" + std::to_string(i));
    EXPECT_EQ(result.attempts, i < 5 ? 0u : 1u);
    if (i == 2 || i == 4) continue;
    EXPECT_EQ(result.outcome, JobOutcome::kDone);
    EXPECT_EQ(result.output.bytes, done_text(job(i, 0, "a" + std::to_string(i))));
  }
  EXPECT_EQ((*again)[2].outcome, JobOutcome::kFailed);
  EXPECT_EQ((*again)[2].output.failure, FailureReason::kUnreadable);
  EXPECT_EQ((*again)[2].output.message, "no picture");
  EXPECT_EQ((*again)[2].output.bytes, std::string("b\0b", 3));
  EXPECT_EQ((*again)[4].outcome, JobOutcome::kPoisoned);
  EXPECT_THAT((*again)[4].output.message, HasSubstr("SIGABRT"));
  // A stream skips what is there.
  ASSERT_TRUE(stream(*pool, source(10), sink(), with_ledger));
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{8, 9}));
  EXPECT_EQ(ledger.size(), 10u);
}

TEST_F(Map, WhatALedgerCannotKeepIsRefused) {
  auto before = PersistentLedger::open(directory / "before", quick()).value();
  options.output_bytes = 64;
  start(echo);
  auto ledger = PersistentLedger::open(directory / "ledger", quick()).value();
  const auto refusal = [&](PersistentLedger& of, std::vector<Job> given) {
    MapOptions with_ledger;
    with_ledger.ledger = &of;
    const auto refused = map(*pool, std::move(given), with_ledger);
    EXPECT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
    return refused ? "" : refused.error().message;
  };
  EXPECT_THAT(refusal(before, jobs(1)), HasSubstr("opened before the pool was made"));
  EXPECT_THAT(refusal(ledger, {job(1), job(2), job(1)}), HasSubstr("item 1 part 0 is there twice"));
  auto framed = jobs(1);
  framed[0].output_bytes = 64;
  EXPECT_THAT(refusal(ledger, std::move(framed)), HasSubstr("item 0 part 0 has output in a frame"));
  EXPECT_EQ(ledger.size(), 0u);
  ASSERT_TRUE(ledger.commit({0, 0}, 77, "of somebody else"));
  MapOptions with_ledger;
  with_ledger.ledger = &ledger;
  EXPECT_EQ(map(*pool, jobs(1), with_ledger).error().kind, ErrorKind::kCorrupt);
}

TEST_F(Map, AResultWhoseCommitFailsIsNeitherGivenNorCommitted) {
  start([](const Job&, const JobContext&) { return JobOutput{std::string(3000, 'x'), {}, {}, 0}; });
  auto ledger = PersistentLedger::open(directory / "ledger", quick()).value();
  MapOptions with_ledger;
  with_ledger.ledger = &ledger;
  with_ledger.ordered = false;
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{10'000, before.rlim_max};
  const auto old = ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const auto ended = stream(*pool, source(20), sink(), with_ledger);
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, old);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().sys_errno, EFBIG);
  EXPECT_THAT(ended.error().message, HasSubstr("commit item"));
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_EQ(ledger.size(), 3u);
  asked = 0;
  EXPECT_TRUE(stream(*pool, source(20), sink(), with_ledger));
  EXPECT_EQ(ledger.size(), 20u);
  EXPECT_EQ(std::set<std::uint64_t>(seen.begin(), seen.end()).size(), 20u);
  EXPECT_EQ(seen.size(), 20u);
}

// ---- kill -9 ----

struct Tally {
  std::atomic<std::uint64_t> told{0};  // Items whose results the sink of the killed run has seen.
  std::atomic<int> ready{0};
  std::array<std::atomic<std::uint32_t>, 4096> executed{};
  std::array<std::atomic<std::uint8_t>, 4096> seen{};
};

// The whole program: a pool, a ledger, and a stream of `count` items.
[[noreturn]] void run_until_killed(const std::filesystem::path& path, std::uint64_t count,
                                   Tally& tally) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setpgid(0, 0);
  PoolOptions options;
  options.intensity = kUnlimited;
  auto pool = make_worker_pool(
      options,
      [&tally](const Job& given, const JobContext& context) {
        ++tally.executed[given.item];
        if (given.item % 50 == 7 && context.attempt == 1) std::abort();
        return echo(given, context);
      },
      Probe());
  if (!pool) ::_exit(2);
  auto settings = quick();
  settings.lock_patience = 10s;
  auto ledger = PersistentLedger::open(path, settings);
  if (!ledger) ::_exit(3);
  MapOptions with_ledger;
  with_ledger.ledger = &*ledger;
  tally.ready = 1;
  std::uint64_t next = 0;
  const auto ended = stream(
      **pool,
      [&]() -> Result<std::optional<Job>> {
        if (next == count) return std::optional<Job>();
        return std::optional(job(next++));
      },
      [&](JobResult result) -> Result<void> {
        ++tally.seen[result.job.item];
        ++tally.told;
        return {};
      },
      with_ledger);
  pool->reset();
  ::_exit(ended ? 0 : 4);
}

TEST_F(Map, KilledInTheMiddleAndStartedAnewItLosesAndRepeatsNothing) {
  constexpr std::uint64_t kItems = 1000;
  auto memory = SharedMemory::create("tally", sizeof(Tally));
  ASSERT_TRUE(memory);
  Random random(derive_seed(1, "map"));
  const int kills = count_of(5, 50);
  int killed = 0;
  for (int round = 0; killed < kills && round < 20 * kills; ++round) {
    const auto path = directory / ("ledger" + std::to_string(round));
    Tally& tally = *new (memory->data()) Tally();
    std::uint64_t lives = 0;
    for (bool whole = false; !whole;) {
      tally.ready = 0;
      const std::uint64_t before = tally.told;
      const std::uint64_t until = before + random.below(400);
      const pid_t pid = ::fork();
      if (pid == 0) run_until_killed(path, kItems, tally);
      int raw = 0;
      bool ended = false;
      while (!ended && (tally.ready == 0 || tally.told < until)) {
        ended = ::waitpid(pid, &raw, WNOHANG) == pid;
        ::usleep(20);
      }
      ++lives;
      if (!ended) {
        // All of its processes at once, or the coordinator first, whom the others follow.
        ::kill(tally.ready == 1 && lives % 2 == 0 ? -pid : pid, SIGKILL);
        ASSERT_EQ(::waitpid(pid, &raw, 0), pid);
      }
      const WaitStatus status = WaitStatus::from_raw(raw);
      whole = status.success();
      if (!whole) {
        ASSERT_TRUE(status.signalled() && status.signal() == SIGKILL) << status.describe();
        ++killed;
      }
    }
    auto settings = quick();
    settings.lock_patience = 10s;
    auto ledger = PersistentLedger::open(path, settings);
    ASSERT_TRUE(ledger) << ledger.error().message;
    std::uint64_t executions = 0;
    ASSERT_EQ(ledger->size(), kItems);  // Nothing lost, and open() refuses what is there twice.
    ASSERT_TRUE(ledger->for_each([](const PersistentLedger::Record& record) -> Result<void> {
      const auto result = stored_result(record);
      EXPECT_EQ(result->output.bytes, done_text(job(record.key.item)));
      return {};
    }));
    for (std::uint64_t i = 0; i < kItems; ++i) {
      ASSERT_LE(tally.seen[i], 1) << "item " << i << " was given to two sinks";
      executions += tally.executed[i];
    }
    // Again are done: what aborts, and of each life what was in flight, some of it twice.
    EXPECT_LE(executions, kItems + kItems / 50 + lives * 12);
  }
  EXPECT_GE(killed, kills);
}

}  // namespace
}  // namespace crashworthy

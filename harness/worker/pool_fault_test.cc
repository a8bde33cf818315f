// The pool under faults: real deaths of real workers. What was lost, redone, convicted, and in
// which order it was told.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/time.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <stdexcept>

#include "harness/os/random.h"
#include "harness/os/wait_status.h"
#include "harness/worker/pool_test_util.h"

namespace crashworthy {
namespace {

using namespace test;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr int kUnlimited = 1'000'000;

class PoolFaults : public ::testing::Test {
 protected:
  PoolFaults() {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);  // Many workers abort here: no core files.
    options.workers = 2;
    options.spares = 1;
    options.intensity = kUnlimited;
  }
  ~PoolFaults() override { EXPECT_TRUE(childless()); }

  // Submits jobs `0..count-1`, of which none begins before the last is handed out: so what a worker
  // holds when it dies does not depend on the race.
  void submit(std::uint64_t count, JobFunction function) {
    gate = 0;
    under = std::make_unique<PoolUnderTest>(
        options, [this, function = std::move(function)](const Job& given, const JobContext& who) {
          while (gate == 0) ::usleep(100);
          return function(given, who);
        });
    for (std::uint64_t i = 0; i < count; ++i) under->pool->submit(job(i));
    gate = 1;
  }

  // The same, to the end.
  Results run(std::uint64_t count, JobFunction function) {
    submit(count, std::move(function));
    Results results;
    error = finish(*under->pool, results);
    return results;
  }

  PoolOptions options;
  Counters counters;
  std::atomic<int>& gate = counters[kCounters - 1];
  std::unique_ptr<PoolUnderTest> under;
  std::optional<Error> error;
};

// The first `times` executions of `item` raise `signal`; all are counted.
JobFunction raises(const Counters& counters, std::uint64_t item, int times, int signal) {
  return [&counters, item, times, signal](const Job& given, const JobContext& context) {
    const int before = counters[given.item]++;
    if (given.item == item && before < times) ::raise(signal);
    return JobOutput{std::to_string(context.attempt), {}, {}};
  };
}

TEST_F(PoolFaults, ACrashOnceIsRedoneAndNothingElseIs) {
  for (const int signal : {SIGABRT, SIGSEGV, SIGKILL, SIGTERM}) {
    const Counters fresh;
    const Results results = run(40, raises(fresh, 7, 1, signal));
    EXPECT_FALSE(error.has_value());
    ASSERT_EQ(results.size(), 40u);
    for (const auto& [key, result] : results) {
      const bool hit = key.first == 7;
      EXPECT_EQ(result.outcome, JobOutcome::kDone);
      EXPECT_EQ(result.attempts, hit ? 2u : 1u) << key.first;
      EXPECT_EQ(result.output.bytes, hit ? "2" : "1");
      EXPECT_EQ(fresh[key.first], hit ? 2 : 1) << key.first << " " << signal_name(signal);
    }
    under->await_deaths(1);
    const auto died = under->all(ProbeEvent::kWorkerDied);
    ASSERT_EQ(died.size(), 1u);
    EXPECT_EQ(WaitStatus::from_raw(static_cast<int>(died[0].value)).signal(), signal);
    EXPECT_EQ(died[0].item, 7u);
    EXPECT_EQ(died[0].attempt, 1u);
    under.reset();
  }
}

// What a worker finished before its death lies in its socket behind the kernel's ECONNRESET (it had
// unread orders). It is taken, not redone.
TEST_F(PoolFaults, ResultsFinishedBeforeTheDeathAreTaken) {
  options.workers = 1;
  options.max_demand = 4;
  submit(4, raises(counters, 1, 1, SIGABRT));
  ::usleep(50'000);  // The worker answers 0, dies in 1, leaves 2 and 3, while nobody listens.
  Results results;
  EXPECT_FALSE(finish(*under->pool, results).has_value());
  for (std::uint64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(counters[i], i == 1 ? 2 : 1) << i;
    EXPECT_EQ((results.at({i, 0}).attempts), i == 1 ? 2u : 1u) << i;
  }
  under.reset();
}

// Of worker 0, in order: event, incarnation and attempt.
std::vector<std::string> told_of_worker_0(const std::vector<ProbeRecord>& records) {
  std::vector<std::string> told;
  for (const ProbeRecord& record : records) {
    if (record.worker != 0) continue;
    told.push_back(std::string(probe_event_name(static_cast<ProbeEvent>(record.event))) + " " +
                   std::to_string(record.incarnation) + "." + std::to_string(record.attempt));
  }
  return told;
}

TEST_F(PoolFaults, TheProbeTellsARecoveryInItsOrder) {
  options.workers = 1;
  options.take_over = false;
  const Results results = run(1, raises(counters, 0, 1, SIGSEGV));
  ASSERT_EQ(results.size(), 1u);
  under->all(ProbeEvent::kDone);
  EXPECT_EQ(
      told_of_worker_0(under->records),
      (std::vector<std::string>{"worker_ready 1.0", "started 1.1", "worker_died 1.1",
                                "replacement 2.0", "worker_ready 2.0", "started 2.2", "done 2.2"}));
  const auto ready = under->all(ProbeEvent::kWorkerReady);
  const auto replacement = under->all(ProbeEvent::kReplacement);
  EXPECT_EQ(under->all(ProbeEvent::kWorkerDied)[0].pid, under->all(ProbeEvent::kStarted)[0].pid);
  EXPECT_EQ(replacement[0].pid, ready.back().pid);
  under.reset();
}

// A spare that takes over says so itself. Whether it does before the death is proved is a race that
// it wins nearly always.
TEST_F(PoolFaults, TheProbeTellsATakeOverInItsOrder) {
  options.workers = 1;
  for (int tries = 0; tries < 100; ++tries) {
    const Counters fresh;
    const Results results = run(1, raises(fresh, 0, 1, SIGSEGV));
    ASSERT_EQ(results.size(), 1u);
    under->await_deaths(1);
    if (!under->pool->takes_over()) GTEST_SKIP() << "this kernel lacks futex_waitv";
    const bool taken_over = under->pool->statistics().take_overs == 1;
    auto all = under->all(ProbeEvent::kWorkerDied);
    ASSERT_EQ(all.size(), 1u);
    auto told = told_of_worker_0(under->records);
    under.reset();
    std::erase(told, "worker_died 1.1");  // Its proof comes when it comes.
    // The coordinator may choose the same spare before it knows that it has taken over.
    told.erase(std::unique(told.begin(), told.end()), told.end());
    if (!taken_over || told[2] != "suspected 1.0") continue;
    EXPECT_EQ(told, (std::vector<std::string>{"worker_ready 1.0", "started 1.1", "suspected 1.0",
                                              "replacement 2.0", "worker_ready 2.0", "started 2.2",
                                              "done 2.2"}));
    return;
  }
  FAIL() << "no spare ever took over";
}

TEST_F(PoolFaults, PoisonIsConvictedAtItsSecondDeathAndItsMatesAreDone) {
  for (const int max_demand : {1, 4}) {
    const Counters fresh;
    options.max_demand = max_demand;
    const Results results = run(50, raises(fresh, 5, 1000, SIGABRT));
    EXPECT_FALSE(error.has_value());
    ASSERT_EQ(results.size(), 50u);
    for (const auto& [key, result] : results) {
      const bool poison = key.first == 5;
      EXPECT_EQ(result.outcome, poison ? JobOutcome::kPoisoned : JobOutcome::kDone) << key.first;
      EXPECT_EQ(fresh[key.first], poison ? 2 : 1) << key.first;
    }
    const JobResult& convicted = results.at({5, 0});
    EXPECT_EQ(convicted.output.failure, FailureReason::kPoison);
    EXPECT_EQ(convicted.attempts, 2u);
    EXPECT_THAT(convicted.output.message, HasSubstr("SIGABRT"));
    EXPECT_EQ(under->all(ProbeEvent::kWorkerDied).size(), 2u);
    under.reset();
  }
}

// The second execution waits for all other items: were one of them queued behind it, it would wait
// in vain.
TEST_F(PoolFaults, ASuspectIsRetriedAlone) {
  options.max_demand = 4;
  const Results results = run(20, [this](const Job& given, const JobContext& who) {
    if (given.item != 5) {
      ++counters[100];
      return JobOutput{};
    }
    if (who.attempt == 1) std::abort();
    for (int i = 0; i < 20'000 && counters[100] < 19; ++i) ::usleep(100);
    return JobOutput{std::to_string(counters[100]), {}, {}};
  });
  EXPECT_EQ(results.at({5, 0}).output.bytes, "19");
  under.reset();
}

TEST_F(PoolFaults, ManyPoisonItemsInTurnStopNothing) {
  options.workers = 3;
  options.max_deaths = 3;
  const Results results = run(60, [this](const Job& given, const JobContext&) {
    ++counters[given.item];
    if (given.item % 5 == 0) std::abort();
    return JobOutput{};
  });
  ASSERT_EQ(results.size(), 60u);
  for (const auto& [key, result] : results) {
    const bool poison = key.first % 5 == 0;
    EXPECT_EQ(result.outcome, poison ? JobOutcome::kPoisoned : JobOutcome::kDone) << key.first;
    EXPECT_EQ(counters[key.first], poison ? 3 : 1) << key.first;
  }
  under.reset();
}

void fail() { throw std::runtime_error("escaped"); }

TEST_F(PoolFaults, AnExceptionThatANoexceptFunctionThrowsIsACrash) {
  const Results results = run(3, [](const Job& given, const JobContext&) noexcept {
    if (given.item == 1) fail();
    return JobOutput{};
  });
  EXPECT_EQ(results.at({1, 0}).outcome, JobOutcome::kPoisoned);
  EXPECT_EQ(results.at({2, 0}).outcome, JobOutcome::kDone);
  under.reset();
}

TEST_F(PoolFaults, SigkillNeverConvicts) {
  options.max_attempts = 0;
  const Results results = run(4, raises(counters, 2, 12, SIGKILL));
  EXPECT_EQ(results.at({2, 0}).outcome, JobOutcome::kDone);
  EXPECT_EQ(results.at({2, 0}).attempts, 13u);
  EXPECT_EQ(counters[2], 13);
  under.reset();
}

// What the kernel kills for its memory each time does not spend a pool of the default options.
TEST_F(PoolFaults, KilledFromOutsideAJobEndsAfterTenAttempts) {
  options.intensity = PoolOptions().intensity;
  for (const int signal : {SIGKILL, SIGTERM}) {
    const Counters fresh;
    const Results results = run(8, raises(fresh, 2, 1000, signal));
    EXPECT_FALSE(error.has_value()) << error->message;
    ASSERT_EQ(results.size(), 8u);
    const JobResult& killed = results.at({2, 0});
    EXPECT_EQ(killed.outcome, JobOutcome::kFailed);
    EXPECT_EQ(killed.output.failure, FailureReason::kRetries);
    EXPECT_EQ(killed.output.message,
              "its workers died in each of 10 attempts; in the last one its worker was killed by " +
                  signal_name(signal));
    EXPECT_EQ(killed.attempts, 10u);
    EXPECT_EQ(fresh[2], 10);
    under.reset();
  }
}

TEST_F(PoolFaults, AnExitIsOfTheJobsOwnMaking) {
  options.intensity = 0;
  for (const int spares : {0, 1, 2}) {
    options.spares = spares;
    const Counters fresh;
    const Results results = run(12, [&fresh](const Job& given, const JobContext&) {
      const int before = fresh[given.item]++;
      if (given.item == 2) std::exit(1);  // As libjpeg does by default.
      if (given.item == 5) ::_exit(0);
      if (given.item == 7 && before == 0) ::_exit(3);
      return JobOutput{};
    });
    EXPECT_FALSE(error.has_value()) << error->message;
    ASSERT_EQ(results.size(), 12u);
    for (const auto& [key, result] : results) {
      const bool convicted = key.first == 2 || key.first == 5;
      EXPECT_EQ(result.outcome, convicted ? JobOutcome::kPoisoned : JobOutcome::kDone) << key.first;
      const int times = convicted || key.first == 7 ? 2 : 1;
      EXPECT_EQ(fresh[key.first], times) << key.first;
      EXPECT_EQ(result.attempts, static_cast<unsigned>(times)) << key.first;
    }
    EXPECT_EQ(results.at({2, 0}).output.failure, FailureReason::kPoison);
    EXPECT_EQ(results.at({2, 0}).output.message,
              "it killed its worker 2 times, at last alone: its worker exited with 1");
    EXPECT_EQ(results.at({5, 0}).death->exit_code(), 0);
    under->await_deaths(5);
    under.reset();
  }
}

// Whether with spares, which are given what was begun, or without: not one is charged.
TEST_F(PoolFaults, DeathsOfJobsOwnMakingDoNotSpendThePool) {
  options.intensity = 0;
  options.period = 1h;
  options.deadline = 300ms;
  for (const int spares : {0, 1, 2}) {
    options.spares = spares;
    const Counters fresh;
    const Results results = run(200, [&fresh](const Job& given, const JobContext&) {
      const bool first = fresh[given.item]++ == 0;
      if (given.item % 4 == 1) std::abort();
      if (given.item % 20 == 2 && first) ::raise(SIGSEGV);
      while (given.item == 3) ::pause();
      return JobOutput{};
    });
    ASSERT_FALSE(error.has_value()) << error->message;
    ASSERT_EQ(results.size(), 200u);
    for (const auto& [key, result] : results) {
      EXPECT_EQ(result.outcome, key.first % 4 == 1 ? JobOutcome::kPoisoned
                                : key.first == 3   ? JobOutcome::kFailed
                                                   : JobOutcome::kDone)
          << key.first;
    }
    under->await_deaths(112);
    EXPECT_EQ(under->pool->statistics().worker_deaths, 112u);
    under.reset();
  }
}

// Each is convicted: that bounds what a function costs that can do nothing else.
TEST_F(PoolFaults, AFunctionThatAlwaysCrashesDiesTwiceAJob) {
  options.intensity = 0;
  const Results results = run(50, [](const Job&, const JobContext&) -> JobOutput { std::abort(); });
  EXPECT_FALSE(error.has_value());
  for (const auto& [key, result] : results) EXPECT_EQ(result.outcome, JobOutcome::kPoisoned);
  EXPECT_EQ(results.size(), 50u);
  under->await_deaths(100);
  EXPECT_EQ(under->pool->statistics().worker_deaths, 100u);
  under.reset();
}

// ... while an idle worker's exit is the pool's.
TEST_F(PoolFaults, AnExitWithoutAJobIsChargedToThePool) {
  options.workers = 1;
  options.spares = 0;
  options.intensity = 0;
  under = std::make_unique<PoolUnderTest>(options, [](const Job&, const JobContext&) {
    ::signal(SIGALRM, [](int) { ::_exit(3); });
    const itimerval soon{{0, 0}, {0, 20'000}};
    ::setitimer(ITIMER_REAL, &soon, nullptr);
    return JobOutput{};
  });
  under->pool->submit(job(1));
  Results results;
  EXPECT_FALSE(finish(*under->pool, results).has_value());
  EXPECT_EQ(results.size(), 1u);
  const auto gone = under->pool->wait(10s);
  ASSERT_FALSE(gone);
  EXPECT_THAT(gone.error().message, EndsWith("the last one exited with 3"));
  under.reset();
}

// Fills this worker's own cell, the one piece of the cells that it may write to.
void spoil_own_cell() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("crashworthy-cells") == std::string::npos) continue;
    const std::size_t space = line.find(' ');
    if (line.compare(space + 1, 4, "rw-s") != 0) continue;
    const std::size_t dash = line.find('-');
    const std::uint64_t first = std::stoull(line.substr(0, dash), nullptr, 16);
    const std::uint64_t last = std::stoull(line.substr(dash + 1, space - dash - 1), nullptr, 16);
    std::memset(reinterpret_cast<void*>(first), 0xEE, last - first);
  }
}

TEST_F(PoolFaults, AWorkerThatTellsNonsenseIsKilledAndItsJobDoneByAnother) {
  for (const int spares : {0, 1}) {
    options.spares = spares;
    const Counters fresh;
    const Results results = run(8, [&fresh](const Job& given, const JobContext&) {
      if (given.item == 2 && fresh[2]++ == 0) {
        spoil_own_cell();
        for (;;) ::pause();
      }
      return JobOutput{done_text(given), {}, {}};
    });
    EXPECT_FALSE(error.has_value());
    ASSERT_EQ(results.size(), 8u);
    for (const auto& [key, result] : results) EXPECT_EQ(result.output.bytes, done_text(result.job));
    EXPECT_EQ(under->pool->statistics().nonsense, 1u);
    EXPECT_EQ(fresh[2], 2);
    under.reset();
  }
}

TEST_F(PoolFaults, SiblingsOfADeadWorkerKeepTheirProcesses) {
  options.workers = 3;
  under = std::make_unique<PoolUnderTest>(
      options, [](const Job&, const JobContext&) { return JobOutput{}; });
  const std::array<pid_t, 3> before{under->pid_of(0), under->pid_of(1), under->pid_of(2)};
  ::kill(before[1], SIGKILL);
  (void)under->pool->wait(50ms);
  Results results;
  for (std::uint64_t i = 0; i < 30; ++i) under->pool->submit(job(i));
  EXPECT_FALSE(finish(*under->pool, results).has_value());
  EXPECT_EQ(results.size(), 30u);
  EXPECT_EQ(under->pid_of(0), before[0]);
  EXPECT_NE(under->pid_of(1), before[1]);
  EXPECT_EQ(under->pid_of(2), before[2]);
  EXPECT_EQ(under->all(ProbeEvent::kWorkerReady).size(), 4u);
  EXPECT_EQ(under->all(ProbeEvent::kWorkerDied)[0].item, kNoItem);  // It was idle.
  under.reset();
}

// Long enough for a new worker to have a job now and then.
#if defined(__SANITIZE_THREAD__)
constexpr int kMostPauseUs = 40'000;
#else
constexpr int kMostPauseUs = 3'000;
#endif

// Kills random active workers at random moments; it follows them through the probe. Ends after
// `kills`.
[[noreturn]] void kill_workers(ProbeRing& ring, int kills, std::uint64_t seed) {
  Random random(seed);
  std::map<std::uint32_t, pid_t> alive;
  std::vector<ProbeRecord> records;
  const auto follow = [&] {
    records.clear();
    ring.drain(records);
    for (const ProbeRecord& record : records) {
      const auto event = static_cast<ProbeEvent>(record.event);
      if (event == ProbeEvent::kWorkerReady) alive[record.worker] = record.pid;
      const auto place = alive.find(record.worker);
      if (event == ProbeEvent::kWorkerDied && place != alive.end() && place->second == record.pid) {
        alive.erase(place);
      }
    }
  };
  for (int done = 0; done < kills;) {
    ::usleep(static_cast<useconds_t>(random.below(kMostPauseUs)));
    follow();
    const auto victim = alive.find(static_cast<std::uint32_t>(random.below(3)));
    if (victim == alive.end()) continue;
    ::kill(victim->second, SIGKILL);
    alive.erase(victim);
    ++done;
  }
  ::_exit(0);
}

TEST_F(PoolFaults, KilledAtRandomMomentsItLosesNothing) {
  const int kills = std::getenv("CRASHWORTHY_LONG") != nullptr ? 500 : 50;
  const std::uint64_t seed = 20240607;
  RecordProperty("seed", std::to_string(seed));
  auto ring = ProbeRing::create();
  ASSERT_TRUE(ring);
  const pid_t killer = ::fork();
  if (killer == 0) kill_workers(*ring, kills, seed);
  options.max_attempts = 0;
  options.workers = 3;
  auto pool = make_worker_pool(
      options,
      [](const Job& given, const JobContext&) {
        const std::int64_t until = now_ns() + static_cast<std::int64_t>(given.item % 10) * 200'000;
        while (now_ns() < until) continue;
        return JobOutput{done_text(given), {}, {}};
      },
      ring->probe());
  ASSERT_TRUE(pool);
  Results results;
  std::uint64_t submitted = 0;
  std::uint64_t redone = 0;
  for (bool killing = true; killing || submitted < 1000;) {
    while ((*pool)->in_flight() < 12) (*pool)->submit(job(submitted++, 3, "random"));
    auto came = (*pool)->wait(1000ms);
    ASSERT_TRUE(came) << came.error().message;
    collect(std::move(*came), results);
    if (killing) killing = ::waitpid(killer, nullptr, WNOHANG) == 0;
  }
  EXPECT_FALSE(finish(**pool, results).has_value());
  ASSERT_EQ(results.size(), submitted);
  for (const auto& [key, result] : results) {
    EXPECT_EQ(result.outcome, JobOutcome::kDone);
    EXPECT_EQ(result.output.bytes, done_text(result.job));
    if (result.attempts > 1) ++redone;
  }
  while ((*pool)->statistics().worker_deaths < static_cast<std::uint64_t>(kills)) {
    ASSERT_TRUE((*pool)->wait(5ms));
  }
  EXPECT_EQ(ring->count(ProbeEvent::kWorkerDied), static_cast<std::uint64_t>(kills));
  // A spare that was faster than its coordinator may have told of it, too.
  EXPECT_GE(ring->count(ProbeEvent::kReplacement), static_cast<std::uint64_t>(kills));
  EXPECT_GT(redone, 0u);
}

TEST_F(PoolFaults, WithoutRestartItLosesExactlyWhatWasHeld) {
  options.restart = false;
  options.max_demand = 3;
  const Results results = run(20, [](const Job& given, const JobContext&) {
    if (given.item == 0) ::raise(SIGSEGV);
    return JobOutput{};
  });
  EXPECT_FALSE(error.has_value());
  ASSERT_EQ(results.size(), 20u);
  std::set<std::uint64_t> lost;
  for (const auto& [key, result] : results) {
    if (result.outcome == JobOutcome::kLost) lost.insert(key.first);
  }
  EXPECT_EQ(lost, (std::set<std::uint64_t>{0, 2, 4}));  // Dealt out in turn to two workers.
  EXPECT_EQ(results.at({0, 0}).attempts, 1u);
  EXPECT_EQ(results.at({2, 0}).attempts, 0u);
  EXPECT_EQ(under->all(ProbeEvent::kReplacement).size(), 0u);
  under.reset();
}

TEST_F(PoolFaults, WithoutRestartTheLastDeathEndsThePool) {
  options.restart = false;
  const Results results = run(20, [](const Job& given, const JobContext&) -> JobOutput {
    if (given.item < 2) ::raise(SIGABRT);
    return {};
  });
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->kind, ErrorKind::kGone);
  EXPECT_THAT(error->message, HasSubstr("SIGABRT"));
  ASSERT_EQ(results.size(), 4u);  // Two held by each worker.
  for (const auto& [key, result] : results) EXPECT_EQ(result.outcome, JobOutcome::kLost);
  EXPECT_EQ(under->pool->in_flight(), 16u);
  under->pool->submit(job(99));
  EXPECT_FALSE(under->pool->wait(0ms));
  EXPECT_EQ(under->pool->in_flight(), 17u);
  under.reset();
}

TEST_F(PoolFaults, WithoutRedeliveryTheHeldJobsAreLostAndTheWorkerIsReplaced) {
  options.workers = 1;
  options.redeliver = false;
  const Results results = run(10, raises(counters, 0, 1000, SIGABRT));
  EXPECT_FALSE(error.has_value());
  ASSERT_EQ(results.size(), 10u);
  for (const auto& [key, result] : results) {
    EXPECT_EQ(result.outcome, key.first < 2 ? JobOutcome::kLost : JobOutcome::kDone) << key.first;
  }
  EXPECT_EQ(under->all(ProbeEvent::kReplacement).size(), 1u);
  under.reset();
}

// Not even by a spare that takes over.
TEST_F(PoolFaults, WithOneAttemptWhatWasBegunIsNeverExecutedAgain) {
  options.max_attempts = 1;
  const Results results = run(40, [this](const Job& given, const JobContext&) -> JobOutput {
    ++counters[given.item];
    if (given.item % 4 == 1) std::abort();
    return {};
  });
  ASSERT_EQ(results.size(), 40u);
  for (const auto& [key, result] : results) {
    EXPECT_EQ(counters[key.first], 1) << key.first;
    if (key.first % 4 != 1) {
      EXPECT_EQ(result.outcome, JobOutcome::kDone);
      continue;
    }
    EXPECT_EQ(result.output.failure, FailureReason::kRetries);
    EXPECT_EQ(result.output.message, "its worker was killed by SIGABRT");
    EXPECT_EQ(result.death->signal(), SIGABRT);
  }
  under.reset();
}

TEST_F(PoolFaults, TooManyDeathsWithinThePeriodEndThePool) {
  options.intensity = 5;
  options.period = 60s;
  run(2, raises(counters, 1, kUnlimited, SIGKILL));
  ASSERT_TRUE(error.has_value());
  EXPECT_THAT(error->message, HasSubstr("more than 5 deaths of workers within 60.0 s"));
  EXPECT_THAT(error->message, EndsWith("the last one was killed by SIGKILL while it executed item "
                                       "1 part 0"));
  EXPECT_THAT(error->hint, HasSubstr("PoolOptions::intensity, which is 5,"));
  EXPECT_THAT(error->hint, HasSubstr("PoolOptions::period, which is 60.0 s"));
  EXPECT_EQ(counters[1], 6);
  EXPECT_TRUE(childless()) << "a pool that gave up has no workers";
  under.reset();
}

TEST_F(PoolFaults, DeathsFarApartDoNotEndThePool) {
  options.intensity = 1;
  options.period = 1ms;
  const Results results = run(2, [this](const Job& given, const JobContext&) {
    ::usleep(20'000);  // Two proofs may come together where the machine is busy.
    if (given.item == 1 && counters[1]++ < 6) ::raise(SIGKILL);
    return JobOutput{};
  });
  EXPECT_FALSE(error.has_value());
  EXPECT_EQ(results.size(), 2u);
  under.reset();
}

TEST_F(PoolFaults, AHungJobEndsAtTheDeadlineWhetherItLoopsOrIsStopped) {
  options.deadline = 50ms;
  for (const bool stops : {false, true}) {
    const Counters fresh;
    const Results results = run(20, [&fresh, stops](const Job& given, const JobContext&) {
      ++fresh[given.item];
      while (given.item == 3) {
        if (stops) ::raise(SIGSTOP);
      }
      return JobOutput{};
    });
    ASSERT_EQ(results.size(), 20u);
    const JobResult& hung = results.at({3, 0});
    EXPECT_EQ(hung.outcome, JobOutcome::kFailed);
    EXPECT_EQ(hung.output.failure, FailureReason::kDeadline);
    EXPECT_THAT(hung.output.message, HasSubstr("50.0 ms"));
    EXPECT_EQ(hung.attempts, 2u);
    for (const auto& [key, result] : results) {
      EXPECT_EQ(fresh[key.first], key.first == 3 ? 2 : 1) << key.first;
      EXPECT_EQ(result.outcome, key.first == 3 ? JobOutcome::kFailed : JobOutcome::kDone);
    }
    under.reset();
  }
}

// Stopped before it begins its job, a worker has no lease that could expire: its silence counts.
TEST_F(PoolFaults, AWorkerStoppedBetweenJobsIsReplacedAndTheJobNotCharged) {
  options.workers = 1;
  options.deadline = 50ms;
  under = std::make_unique<PoolUnderTest>(
      options, [](const Job&, const JobContext&) { return JobOutput{}; });
  ::kill(under->pid_of(0), SIGSTOP);
  under->pool->submit(job(0));
  Results results;
  EXPECT_FALSE(finish(*under->pool, results).has_value());
  EXPECT_EQ(results.at({0, 0}).outcome, JobOutcome::kDone);
  EXPECT_EQ(results.at({0, 0}).attempts, 1u);  // The first had never begun.
  under->await_deaths(1);
  EXPECT_EQ(under->all(ProbeEvent::kWorkerDied).size(), 1u);
  under.reset();
}

TEST_F(PoolFaults, AnIdleWorkerIsNeverOverdue) {
  options.deadline = 10ms;
  under = std::make_unique<PoolUnderTest>(
      options, [](const Job&, const JobContext&) { return JobOutput{}; });
  EXPECT_TRUE(under->pool->wait(100ms)->empty());
  EXPECT_EQ(under->all(ProbeEvent::kWorkerDied).size(), 0u);
  under.reset();
}

TEST_F(PoolFaults, DeadSparesAreReplacedAndCounted) {
  options.workers = 1;
  options.spares = 2;
  options.intensity = 3;
  options.period = 60s;
  under = std::make_unique<PoolUnderTest>(
      options, [](const Job&, const JobContext&) { return JobOutput{}; });
  const pid_t active = under->pid_of(0);
  // Until there are two spares again.
  const auto settle = [this] {
    const std::int64_t until = now_ns() + kPatienceNs;
    while (under->pool->spares().size() < 2 && now_ns() < until) (void)under->pool->wait(5ms);
  };
  for (std::uint64_t i = 1; i <= 3; ++i) {
    settle();
    ::kill(under->pool->spares().front(), SIGKILL);
    while (under->pool->statistics().worker_deaths < i) {
      const auto came = under->pool->wait(30ms);
      ASSERT_TRUE(came) << came.error().message;
    }
  }
  settle();
  const auto died = under->all(ProbeEvent::kWorkerDied);
  ASSERT_EQ(died.size(), 3u);
  EXPECT_EQ(died[0].worker, kSpareWorker);
  EXPECT_EQ(under->pid_of(0), active);
  ::kill(under->pool->spares().front(), SIGKILL);
  EXPECT_FALSE(under->pool->wait(1000ms));
  under.reset();
}

TEST_F(PoolFaults, EverybodyKilledAtOnceIsReplaced) {
  options.workers = 3;
  options.spares = 2;
  under = std::make_unique<PoolUnderTest>(options, [](const Job&, const JobContext&) {
    ::usleep(2000);
    return JobOutput{};
  });
  for (std::uint64_t i = 0; i < 30; ++i) under->pool->submit(job(i));
  ::usleep(3000);
  for (const pid_t pid : under->pool->workers()) ::kill(pid, SIGKILL);
  for (const pid_t pid : under->pool->spares()) ::kill(pid, SIGKILL);
  Results results;
  EXPECT_FALSE(finish(*under->pool, results).has_value());
  EXPECT_EQ(results.size(), 30u);
  under.reset();
}

TEST_F(PoolFaults, DescriptorsAndChildrenStayFlatOverManyDeaths) {
  for (const int spares : {0, 2}) {
    options.spares = spares;
    const Counters fresh;
    under = std::make_unique<PoolUnderTest>(options, [&fresh](const Job& given, const JobContext&) {
      if (fresh[given.item]++ == 0) ::raise(SIGKILL);
      return JobOutput{std::to_string(open_descriptors()), {}, {}};
    });
    const std::size_t before = open_descriptors();
    Results results;
    for (std::uint64_t i = 0; i < 100; ++i) under->pool->submit(job(i));
    EXPECT_FALSE(finish(*under->pool, results).has_value());
    const std::int64_t until = now_ns() + kPatienceNs;
    const auto settled = [&] {  // The last one is replaced.
      const auto workers = under->pool->workers();
      return std::count(workers.begin(), workers.end(), 0) == 0 &&
             under->pool->spares().size() == static_cast<std::size_t>(spares) &&
             under->pool->statistics().worker_deaths == 100;
    };
    while (!settled() && now_ns() < until) (void)under->pool->wait(5ms);
    EXPECT_EQ(under->all(ProbeEvent::kWorkerDied).size(), 100u);
    EXPECT_EQ(open_descriptors(), before);
    // The hundredth worker has no more than the first, and nothing of its zygote's.
    for (const auto& [key, result] : results) {
      EXPECT_EQ(result.output.bytes, results.at({0, 0}).output.bytes) << key.first;
      EXPECT_LT(std::stoul(result.output.bytes), before);
    }
    siginfo_t info{};
    EXPECT_EQ(::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    EXPECT_EQ(info.si_pid, 0) << "a zombie is left";
    under.reset();
  }
}

}  // namespace
}  // namespace crashworthy

// The pool over many items and many deaths: nothing is lost, doubled, corrupt or leaked, and nobody
// innocent is convicted. Small counts by default; the full ones with CRASHWORTHY_LONG=1.
//
// The other files of this program have what a worker can do to the shared memory
// (pool_scribble_test.cc), wrong suspicions (pool_suspicion_test.cc), what is left behind
// (pool_leftovers_test.cc) and what happens at the limits of the machine (pool_limits_test.cc).
#include <gmock/gmock.h>

#include <csignal>
#include <cstdio>
#include <thread>

#include "harness/os/wait_status.h"
#include "harness/worker/pool_stress_test_util.h"

namespace crashworthy {
namespace {

using namespace test;
using ::testing::HasSubstr;

// ---- The long run ----

enum class Doom { kNone, kKill, kAbort, kSegv, kStop, kPoison };

struct Plan {
  std::uint64_t items = 0;
  std::uint64_t deaths = 0;  // By the jobs and by us, about half each.
  std::uint64_t zygote_deaths = 0;
  std::uint64_t seed = 20261126;
};

Plan the_plan() { return long_counts() ? Plan{1'000'000, 13'000, 20} : Plan{10'000, 100, 2}; }

// What the item does to its worker at its first execution; poison does so at each.
Doom doom_of(const Plan& plan, std::uint64_t item) {
  const std::uint64_t roll = derive_seed(plan.seed, "doom", item) % plan.items;
  if (roll >= plan.deaths / 2) return Doom::kNone;
  const std::uint64_t kind = derive_seed(plan.seed, "kind", item) % 100;
  if (kind < 35) return Doom::kKill;
  if (kind < 60) return Doom::kAbort;
  if (kind < 90) return Doom::kSegv;
  return kind < 95 ? Doom::kStop : Doom::kPoison;
}

JobOutput doomed_work(const Plan& plan, const Job& given, const JobContext& context) {
  const Doom doom = doom_of(plan, given.item);
  if (doom == Doom::kPoison) ::raise(SIGSEGV);
  if (context.attempt == 1) {
    // Half of an output is there by then.
    if (doom != Doom::kNone) std::memset(context.output.data(), 0x5A, context.output.size() / 2);
    if (doom == Doom::kKill) ::raise(SIGKILL);
    if (doom == Doom::kAbort) ::raise(SIGABRT);
    if (doom == Doom::kSegv) ::raise(SIGSEGV);
    if (doom == Doom::kStop) ::raise(SIGSTOP);
  }
  return work(given, context);
}

// Strikes at random items: a worker, a spare or a zygote.
class Striker {
 public:
  Striker(const Plan& plan, Pool& pool) : plan_(plan), pool_(pool), random_(plan.seed) {}

  // Once for each submitted item.
  void after(std::uint64_t item) {
    if (random_.below(plan_.items) < plan_.deaths / 2) strike_process();
    const std::uint64_t every = plan_.items / (plan_.zygote_deaths + 1);
    if (item % every == every - 1 && zygotes_ < plan_.zygote_deaths) strike_zygote();
  }
  std::uint64_t strikes() const { return strikes_; }
  std::uint64_t zygotes() const { return zygotes_; }

 private:
  void strike_process() {
    const bool spare = random_.below(5) == 0;
    const auto pids = spare ? pool_.spares() : pool_.workers();
    if (pids.empty()) return;
    const int signal = random_.below(20) == 0 ? SIGSTOP : SIGKILL;
    strikes_ += signal_child_of(pool_.zygotes(), pids[random_.below(pids.size())], signal);
  }

  void strike_zygote() {
    const auto zygotes = pool_.zygotes();
    const pid_t victim = zygotes[random_.below(zygotes.size())];
    std::vector<pid_t> parents = zygotes;
    parents.push_back(::getpid());
    parents.push_back(1);  // A twin whose parent has died.
    const bool stops = zygotes_ == plan_.zygote_deaths / 2;
    zygotes_ += signal_child_of(parents, victim, stops ? SIGSTOP : SIGKILL);
  }

  const Plan& plan_;
  Pool& pool_;
  Random random_;
  std::uint64_t strikes_ = 0;
  std::uint64_t zygotes_ = 0;
};

struct Tally {
  std::vector<std::uint8_t> seen;
  std::uint64_t doubled = 0;
  std::uint64_t corrupt = 0;
  std::uint64_t convicted = 0;
  std::uint64_t innocent = 0;

  void take(const Plan& plan, std::vector<JobResult> results) {
    for (const JobResult& result : results) {
      doubled += seen[result.job.item]++ != 0;
      const Doom doom = doom_of(plan, result.job.item);
      if (result.outcome == JobOutcome::kPoisoned) {
        ++convicted;
        innocent += doom != Doom::kPoison;
      } else {
        corrupt += !golden(result);
      }
    }
  }
};

void print(const char* when, const Resources& now) {
  std::printf("%s: %zu descriptors, %zu processes, %zu zombies, %zu KiB resident, %zu KiB shared\n",
              when, now.descriptors, now.processes, now.zombies, now.resident_kib, now.shared_kib);
}

TEST(PoolEndurance, LosesNothingOverManyDeathsAndStaysFlat) {
  no_core_files();
  const Plan plan = the_plan();
  RecordProperty("seed", std::to_string(plan.seed));
  PoolOptions options;
  options.workers = 3;
  options.spares = 2;
  options.max_demand = 4;
  options.max_deaths = 3;  // Three strangers' stops in a row do not hit one item.
  options.deadline = 300ms;
  options.intensity = kUnlimited;
  options.max_attempts = 0;
  options.output_bytes = kMostWords * 8;
  options.frame_bytes = 1 << 20;
  auto pool = make_worker_pool(
                  options,
                  [&plan](const Job& given, const JobContext& context) {
                    return doomed_work(plan, given, context);
                  },
                  Probe())
                  .value();
  Tally tally;
  tally.seen.resize(plan.items);
  Striker striker(plan, *pool);
  Resources tenth;
  const auto gather = [&](std::size_t until_in_flight) {
    while (pool->in_flight() > until_in_flight) {
      auto came = pool->wait(20'000ms);
      ASSERT_TRUE(came) << came.error().message;
      ASSERT_FALSE(came->empty()) << pool->in_flight() << " items never came back";
      tally.take(plan, std::move(*came));
    }
  };
  for (std::uint64_t item = 0; item < plan.items; ++item) {
    pool->submit(framed_job(*pool, item));
    striker.after(item);
    gather(63);
    if (HasFatalFailure()) return;
    if (item != plan.items / 10) continue;
    gather(0);
    ASSERT_TRUE(settle(*pool, 2));
    tenth = resources_now(*pool);
  }
  gather(0);
  if (HasFatalFailure()) return;
  ASSERT_TRUE(settle(*pool, 2));
  const Resources end = resources_now(*pool);
  const PoolStatistics statistics = pool->statistics();
  std::printf(
      "%lu items, %lu deaths (%lu strikes), %lu zygotes (%lu strikes), %lu suspicions, "
      "%lu taken over, %lu hung, %lu rejected, %lu nonsense, %lu convicted\n",
      plan.items, statistics.worker_deaths, striker.strikes(), statistics.zygote_deaths,
      striker.zygotes(), statistics.suspicions, statistics.take_overs, statistics.hung,
      statistics.rejected, statistics.nonsense, tally.convicted);
  print("at a tenth", tenth);
  print("at the end", end);
  EXPECT_EQ(std::count(tally.seen.begin(), tally.seen.end(), 0), 0) << "lost";
  EXPECT_EQ(tally.doubled, 0u);
  EXPECT_EQ(tally.corrupt, 0u);
  EXPECT_EQ(tally.innocent, 0u);
  EXPECT_GE(statistics.worker_deaths, plan.deaths * 8 / 10) << "some strikes find nobody";
  // The one that is stopped may be struck again before its silence is noticed.
  EXPECT_LE(statistics.zygote_deaths, striker.zygotes());
  EXPECT_GE(statistics.zygote_deaths + 1, striker.zygotes());
  EXPECT_EQ(statistics.nonsense, 0u);
  EXPECT_EQ(end.descriptors, tenth.descriptors);
  EXPECT_EQ(end.processes, tenth.processes);
  EXPECT_EQ(end.processes, 7u);  // 3 workers, 2 spares, 2 zygotes.
  EXPECT_EQ(end.zombies, 0u);
#if !defined(__SANITIZE_ADDRESS__)  // It keeps what was freed for a while.
  EXPECT_LE(end.resident_kib, tenth.resident_kib + tenth.resident_kib / 10 + 2048);
#endif
  // A leak would have the size of the frames of 900 000 items. More cells are in use at times.
  EXPECT_LE(end.shared_kib, tenth.shared_kib + 1024);
  pool.reset();
  EXPECT_TRUE(childless());
}

// ---- A storm ----

// Kills children of the pool's zygotes, workers and spares alike, until told to end.
[[noreturn]] void storm(const Counters& counters, pid_t coordinator, int a_second) {
  Random random(7);
  const std::int64_t pause = 1'000'000'000 / a_second;
  std::int64_t next = now_ns();
  while (counters[0] == 0) ::usleep(100);
  while (counters[0] == 1) {
    std::vector<pid_t> zygotes;
    for (const int index : {10, 11}) zygotes.push_back(counters[static_cast<std::uint64_t>(index)]);
    std::vector<pid_t> children;
    for (const pid_t zygote : zygotes) {
      if (zygote == 0) continue;
      const std::string base = "/proc/" + std::to_string(zygote);
      std::ifstream list(base + "/task/" + std::to_string(zygote) + "/children");
      for (pid_t pid = 0; list >> pid;) {
        if (pid != zygotes[0] && pid != zygotes[1] && pid != coordinator) children.push_back(pid);
      }
    }
    if (!children.empty()) {
      counters[1] += signal_child_of(zygotes, children[random.below(children.size())], SIGKILL);
    }
    next += pause;
    const std::int64_t left = next - now_ns();
    if (left > 0) ::usleep(static_cast<useconds_t>(left / 1000));
    if (left < -50'000'000) next = now_ns();
  }
  ::_exit(0);
}

TEST(PoolEndurance, SurvivesAStormOfKills) {
  no_core_files();
  const std::int64_t length_ns = (long_counts() ? 20 : 2) * std::int64_t{1'000'000'000};
  const Counters counters;
  const pid_t coordinator = ::getpid();
  const pid_t killer = ::fork();
  if (killer == 0) storm(counters, coordinator, 800);
  PoolOptions options;
  options.workers = 4;
  options.spares = 2;
  options.max_demand = 4;
  options.intensity = kUnlimited;
  options.max_attempts = 0;
  options.output_bytes = kMostWords * 8;
  options.frame_bytes = 1 << 20;
  auto pool = make_worker_pool(options, work, Probe()).value();
  for (std::size_t i = 0; i < 2; ++i) counters[10 + i] = pool->zygotes()[i];
  std::vector<std::uint8_t> seen;
  std::uint64_t doubled = 0;
  std::uint64_t submitted = 0;
  std::uint64_t corrupt = 0;
  const std::int64_t before = now_ns();
  std::int64_t elapsed = 0;
  counters[0] = 1;
  while (elapsed < length_ns || pool->in_flight() > 0) {
    while (elapsed < length_ns && pool->in_flight() < 32) {
      pool->submit(framed_job(*pool, submitted++));
    }
    auto came = pool->wait(20'000ms);
    ASSERT_TRUE(came) << came.error().message;
    ASSERT_FALSE(came->empty()) << pool->in_flight() << " items never came back";
    seen.resize(submitted);
    for (const JobResult& result : *came) {
      corrupt += !golden(result);
      doubled += seen[result.job.item]++ != 0;
    }
    elapsed = now_ns() - before;
    if (elapsed >= length_ns) counters[0] = 2;
  }
  ::waitpid(killer, nullptr, 0);
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 0), 0) << "lost";
  EXPECT_EQ(doubled, 0u);
  EXPECT_EQ(corrupt, 0u);
  EXPECT_EQ(pool->statistics().zygote_deaths, 0u);
  const PoolStatistics statistics = pool->statistics();
  std::printf("%d kills in %.1f s (%.0f/s), %lu items, %lu taken over, %lu rejected\n",
              counters[1].load(), static_cast<double>(length_ns) * 1e-9,
              counters[1] / (static_cast<double>(length_ns) * 1e-9), submitted,
              statistics.take_overs, statistics.rejected);
  EXPECT_GT(counters[1], 50);
  EXPECT_EQ(statistics.nonsense, 0u);
  EXPECT_TRUE(settle(*pool, 2));
  pool.reset();
  EXPECT_TRUE(childless());
}

// ---- Scale ----

void try_scale(int workers, int spares) {
  PoolOptions options;
  options.workers = workers;
  options.spares = spares;
  options.intensity = kUnlimited;
  options.max_attempts = 0;
  const std::int64_t before = now_ns();
  PoolUnderTest under(options, [](const Job& given, const JobContext&) {
    return JobOutput{done_text(given), {}, {}};
  });
  const std::int64_t booted = now_ns();
  const auto count = static_cast<std::uint64_t>(20 * workers);
  for (std::uint64_t i = 0; i < count; ++i) under.pool->submit(job(i));
  for (const pid_t pid : under.pool->workers()) {
    if (pid % 3 == 0) ::kill(pid, SIGKILL);
  }
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  EXPECT_EQ(results.size(), count);
  for (const auto& [key, result] : results) EXPECT_EQ(result.output.bytes, done_text(result.job));
  EXPECT_TRUE(settle(*under.pool, static_cast<std::size_t>(spares)));
  const std::int64_t worked = now_ns();
  under.pool.reset();
  std::printf("%3d workers, %d spares: boot %.1f ms, end %.1f ms\n", workers, spares,
              static_cast<double>(booted - before) * 1e-6,
              static_cast<double>(now_ns() - worked) * 1e-6);
  EXPECT_TRUE(childless());
}

TEST(PoolEndurance, WorksWithFewAndWithManyWorkers) {
  no_core_files();
  for (const int workers : {1, 2, 16, 64}) try_scale(workers, 1);
  for (const int spares : {1, 2, 4}) try_scale(256, spares);
}

// ---- Poison ----

// Of each ten items one is poison and one is killed three times.
void try_poison(PoolOptions options, int rounds) {
  const Counters counters;
  PoolUnderTest under(options, [&counters](const Job& given, const JobContext&) {
    const int before = counters[given.item]++;
    if (given.item % 10 == 3) ::raise(before % 2 == 0 ? SIGABRT : SIGSEGV);
    if (given.item % 10 == 7 && before < 3) ::raise(SIGKILL);
    return JobOutput{};
  });
  const auto count = static_cast<std::uint64_t>(10 * rounds);
  for (std::uint64_t i = 0; i < count; ++i) under.pool->submit(job(i));
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  ASSERT_EQ(results.size(), count);
  EXPECT_EQ(under.pool->statistics().zygote_deaths, 0u) << "then innocent workers were killed";
  for (const auto& [key, result] : results) {
    const std::uint64_t kind = key.first % 10;
    const int times = kind == 3 ? options.max_deaths : kind == 7 ? 4 : 1;
    EXPECT_EQ(counters[key.first], times)
        << "item " << key.first << ", max_deaths " << options.max_deaths << ", spares "
        << options.spares << ", max_demand " << options.max_demand;
    EXPECT_EQ(result.attempts, static_cast<std::uint32_t>(times));
    EXPECT_EQ(result.outcome, kind == 3 ? JobOutcome::kPoisoned : JobOutcome::kDone);
  }
}

TEST(PoolEndurance, PoisonIsExecutedExactlyAsOftenAsAllowed) {
  no_core_files();
  for (const int max_deaths : {2, 3}) {
    for (const int spares : {0, 1, 2}) {
      for (const int max_demand : {1, 4}) {
        PoolOptions options;
        options.max_deaths = max_deaths;
        options.spares = spares;
        options.max_demand = max_demand;
        options.intensity = kUnlimited;
        try_poison(options, long_counts() ? 200 : 20);
      }
    }
  }
}

TEST(PoolEndurance, NoItemIsBegunMoreOftenThanItsRetriesAllow) {
  for (const int spares : {0, 1, 2}) {
    for (const int max_attempts : {1, 2, 3}) {
      PoolOptions options;
      options.spares = spares;
      options.max_attempts = max_attempts;
      options.max_deaths = 5;
      options.intensity = kUnlimited;
      const Counters counters;
      PoolUnderTest under(options, [&counters](const Job& given, const JobContext&) {
        ++counters[given.item];
        if (given.item % 4 == 1) ::raise(SIGKILL);
        return JobOutput{};
      });
      for (std::uint64_t i = 0; i < 40; ++i) under.pool->submit(job(i));
      Results results;
      EXPECT_FALSE(finish(*under.pool, results).has_value());
      for (const auto& [key, result] : results) {
        const bool killer = key.first % 4 == 1;
        EXPECT_EQ(counters[key.first], killer ? max_attempts : 1) << spares << " spares";
        EXPECT_EQ(result.outcome, killer ? JobOutcome::kFailed : JobOutcome::kDone);
        if (killer) {
          EXPECT_EQ(result.output.failure, FailureReason::kRetries);
        }
      }
    }
  }
}

// ---- Order, and the ways to wait ----

TEST(PoolEndurance, OrderedResultsStayInOrderUnderCrashes) {
  no_core_files();
  for (const int max_demand : {1, 4, 16}) {
    PoolOptions options;
    options.workers = 3;
    options.max_demand = max_demand;
    options.ordered = true;
    options.intensity = kUnlimited;
    PoolUnderTest under(options, [](const Job& given, const JobContext& context) {
      if (given.item % 7 == 3 && context.attempt == 1) {
        ::raise(given.item % 2 == 0 ? SIGKILL : SIGSEGV);
      }
      if (given.item % 50 == 49) ::raise(SIGABRT);  // Poison has its turn, too.
      return JobOutput{done_text(given), {}, {}};
    });
    for (std::uint64_t i = 0; i < 300; ++i) under.pool->submit(job(i));
    auto all = under.pool->drain(30s);
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_EQ(all->size(), 300u);
    for (std::uint64_t i = 0; i < 300; ++i) EXPECT_EQ((*all)[i].job.item, i);
    EXPECT_EQ(under.pool->in_flight(), 0u);
  }
}

TEST(PoolEndurance, DrainKeepsToItsTimeoutAndReturnsWhatCame) {
  PoolOptions options;
  PoolUnderTest under(options, [](const Job& given, const JobContext&) {
    if (given.item == 5) ::pause();
    return JobOutput{};
  });
  for (std::uint64_t i = 0; i < 20; ++i) under.pool->submit(job(i));
  const std::int64_t before = now_ns();
  const auto all = under.pool->drain(300ms);
  EXPECT_GE(now_ns() - before, 295'000'000);
  ASSERT_TRUE(all);
  EXPECT_GE(all->size(), 18u);  // What waits behind item 5 stays there.
  EXPECT_EQ(under.pool->in_flight(), 20 - all->size());
  EXPECT_TRUE(under.pool->drain(0ms)->empty());
}

Pool* interrupted_by_signal = nullptr;

TEST(PoolEndurance, AnInterruptEndsAWait) {
  PoolOptions options;
  PoolUnderTest under(options, [](const Job&, const JobContext&) {
    ::pause();
    return JobOutput{};
  });
  under.pool->submit(job(0));
  const auto returns_early = [&](auto call) {
    const std::int64_t before = now_ns();
    const auto came = call();
    EXPECT_TRUE(came && came->empty());
    return now_ns() - before < 5'000'000'000;
  };
  const auto wait = [&] { return under.pool->wait(20s); };
  {
    std::thread other([&] {
      ::usleep(20'000);
      under.pool->interrupt();
    });
    EXPECT_TRUE(returns_early(wait)) << "interrupted by another thread";
    other.join();
  }
  interrupted_by_signal = under.pool.get();
  struct sigaction handler {};
  handler.sa_handler = [](int) { interrupted_by_signal->interrupt(); };
  ::sigaction(SIGALRM, &handler, nullptr);
  ::ualarm(20'000, 0);
  EXPECT_TRUE(returns_early(wait)) << "interrupted by a signal";
  ::ualarm(20'000, 0);
  EXPECT_TRUE(returns_early([&] { return under.pool->drain(20s); })) << "a drain";
  ::signal(SIGALRM, SIG_DFL);
  under.pool->interrupt();
  EXPECT_TRUE(returns_early(wait)) << "one that came before the wait";
  EXPECT_TRUE(under.pool->wait(10ms)->empty());
}

TEST(PoolEndurance, EveryDemandAndBatchReturnsEverything) {
  no_core_files();
  for (const int max_demand : {1, 2, 3, 8, 64}) {
    for (const int min_demand : {-1, 0, max_demand - 1}) {
      for (const int batch : {1, (max_demand + 1) / 2, max_demand}) {
        PoolOptions options;
        options.max_demand = max_demand;
        options.min_demand = min_demand;
        options.batch = batch;
        options.intensity = kUnlimited;
        options.output_bytes = kMostWords * 8;
        options.frame_bytes = 1 << 20;
        PoolUnderTest under(options, [](const Job& given, const JobContext& context) {
          if (given.item % 20 == 9 && context.attempt == 1) ::raise(SIGKILL);
          return work(given, context);
        });
        for (std::uint64_t i = 0; i < 100; ++i) under.pool->submit(framed_job(*under.pool, i));
        Results results;
        EXPECT_FALSE(finish(*under.pool, results).has_value());
        EXPECT_EQ(results.size(), 100u);
        for (const auto& [key, result] : results) {
          EXPECT_TRUE(golden(result))
              << key.first << " " << max_demand << " " << min_demand << " " << batch;
        }
      }
    }
  }
}

// One item is silent for longer than the heartbeat, one beats for longer than it, and one beats
// beyond the deadline.
TEST(PoolEndurance, AHeartbeatAndADeadlineAreToldApart) {
  PoolOptions options;
  options.heartbeat = 150ms;
  options.deadline = 700ms;
  PoolUnderTest under(options, [](const Job& given, const JobContext& context) {
    const std::int64_t until = now_ns() + (given.item == 2 ? 400'000'000 : 20'000'000'000);
    if (given.item == 1) ::usleep(20'000'000);
    while (given.item >= 2 && given.item <= 3 && now_ns() < until) {
      context.heartbeat();
      ::usleep(1000);
    }
    return JobOutput{};
  });
  for (std::uint64_t i = 0; i < 6; ++i) under.pool->submit(job(i));
  Results results;
  EXPECT_FALSE(finish(*under.pool, results).has_value());
  ASSERT_EQ(results.size(), 6u);
  EXPECT_EQ(results.at({1, 0}).outcome, JobOutcome::kFailed);
  EXPECT_THAT(results.at({1, 0}).output.message, HasSubstr("no heartbeat for 150 ms"));
  EXPECT_EQ(results.at({2, 0}).outcome, JobOutcome::kDone);
  EXPECT_EQ(results.at({2, 0}).attempts, 1u);
  EXPECT_EQ(results.at({3, 0}).outcome, JobOutcome::kFailed);
  EXPECT_THAT(results.at({3, 0}).output.message, HasSubstr("deadline of 700 ms"));
  for (const std::uint64_t i : {0, 4, 5}) {
    EXPECT_EQ(results.at({i, 0}).outcome, JobOutcome::kDone);
  }
}

}  // namespace
}  // namespace crashworthy

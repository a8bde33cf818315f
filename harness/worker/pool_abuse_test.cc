// Callers and jobs that do what processes may do, though a pool would rather not have it: they give
// up their rights, fork, close descriptors, ruin their memory.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <thread>

#include "harness/os/pidfd.h"
#include "harness/worker/isolated.h"
#include "harness/worker/map.h"
#include "harness/worker/pool_stress_test_util.h"

namespace crashworthy {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr uid_t kNobody = 65534;

// The exit code of a forked copy of this process that does `what`; -1 when a signal or the patience
// of ten seconds ended it.
int in_a_copy(const std::function<int()>& what) {
  const pid_t copy = ::fork();
  if (copy == 0) ::_exit(what());
  auto pidfd = open_pidfd(copy).value();
  if (!wait_for_end(pidfd.get(), 10'000)) ::kill(copy, SIGKILL);
  int raw = 0;
  ::waitpid(copy, &raw, 0);
  return WIFEXITED(raw) ? WEXITSTATUS(raw) : -1;
}

class PoolAbuse : public ::testing::Test {
 protected:
  PoolAbuse() {
    no_core_files();
    options.workers = 1;
    options.frame_bytes = 1 << 20;
  }
  ~PoolAbuse() override {
    under.reset();
    EXPECT_TRUE(childless());
  }
  void start(JobFunction function) {
    under = std::make_unique<PoolUnderTest>(options, std::move(function));
  }
  Results run(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) under->pool->submit(job(i));
    Results results;
    const auto error = finish(*under->pool, results);
    EXPECT_FALSE(error) << error->message;
    EXPECT_EQ(results.size(), count);
    return results;
  }

  PoolOptions options;
  Counters counters;
  std::unique_ptr<PoolUnderTest> under;
};

// ---- Callers ----

// A pool of root's whose caller is root no more: it may not kill what it has forked.
TEST_F(PoolAbuse, ACallerWithoutItsRightsStillEndsWhatHangs) {
  if (::geteuid() != 0) GTEST_SKIP() << "has no rights to give up";
  options.deadline = 100ms;
  for (const bool fails : {false, true}) {
    const int code = in_a_copy([&] {
      if (fails) options.intensity = 0;
      auto pool = make_worker_pool(
          options,
          [](const Job& given, const JobContext&) {
            while (given.item == 1) ::usleep(1000);
            if (given.item == 2) ::raise(SIGKILL);
            return JobOutput{};
          },
          Probe());
      if (!pool) return 9;
      if (::setresgid(kNobody, kNobody, kNobody) != 0 ||
          ::setresuid(kNobody, kNobody, kNobody) != 0) {
        return 8;
      }
      if (fails) {
        for (const std::uint64_t item : {1u, 2u}) (*pool)->submit(job(item));
        (void)(*pool)->drain(5s);  // What has come before the failure.
        return (*pool)->wait(5s) ? 7 : 0;
      }
      (*pool)->submit(job(1));
      const auto came = (*pool)->drain(5s);
      if (!came || came->size() != 1) return 6;
      if (came->front().output.failure != FailureReason::kDeadline) return 5;
      // One that hangs, and a zygote that is stopped, when the pool ends.
      (*pool)->submit(job(1));
      (void)(*pool)->wait(50ms);
      pool->reset();
      return childless() ? 0 : 4;
    });
    EXPECT_EQ(code, 0) << fails;
  }
}

TEST_F(PoolAbuse, ACallerWithoutItsRightsEndsAStoppedZygote) {
  if (::geteuid() != 0) GTEST_SKIP() << "has no rights to give up";
  for (const std::size_t which : {0u, 1u}) {
    const int code = in_a_copy([&] {
      auto pool = make_worker_pool(
          options, [](const Job&, const JobContext&) { return JobOutput{}; }, Probe());
      if (!pool) return 9;
      const pid_t zygote = (*pool)->zygotes()[which];
      ::kill(zygote, SIGSTOP);
      if (!wait_until_stopped(zygote, 1000)) return 8;
      if (::setresuid(kNobody, kNobody, kNobody) != 0) return 7;
      const std::int64_t begin = now_ns();
      pool->reset();
      return now_ns() - begin < 3'000'000'000 && childless() ? 0 : 6;
    });
    EXPECT_EQ(code, 0) << which;
  }
}

// A forked copy of the caller ends, by whatever way: the pool is not its.
TEST_F(PoolAbuse, AForkedCopyOfTheCallerDoesNotEndThePool) {
  options.frame_bytes = 64 << 20;
  start([](const Job& given, const JobContext&) {
    ::usleep(1000);
    JobOutput output;
    output.bytes = done_text(given);
    return output;
  });
  Frame large = under->pool->allocate_frame(32 << 20);
  std::memset(large.data(), 7, large.size());
  for (std::uint64_t i = 0; i < 50; ++i) under->pool->submit(job(i));
  EXPECT_EQ(in_a_copy([&] {
              large = Frame();
              under->pool.reset();
              return 0;
            }),
            0);
  EXPECT_EQ(large.data()[large.size() - 1], std::byte(7));
  Results results;
  EXPECT_FALSE(finish(*under->pool, results));
  EXPECT_EQ(results.size(), 50u);
  EXPECT_EQ(under->pool->statistics().worker_deaths, 0u);
  EXPECT_EQ(under->pool->statistics().zygote_deaths, 0u);
}

TEST_F(PoolAbuse, AForkedCopyOfTheCallerMayNotUseThePool) {
  start([](const Job&, const JobContext&) { return JobOutput{}; });
  EXPECT_DEATH(under->pool->submit(job(1)), "is_here");
  EXPECT_DEATH((void)under->pool->wait(0ms), "is_here");
  (void)run(3);
}

// exit() in a job of the second pool runs the destructor of the first one, a static variable.
TEST_F(PoolAbuse, AnExitInAJobDoesNotEndAnotherPool) {
  static std::unique_ptr<Pool> first;
  start([](const Job&, const JobContext&) { return JobOutput{}; });
  first = std::move(under->pool);
  options.max_attempts = 1;
  PoolUnderTest second(options, [](const Job&, const JobContext&) -> JobOutput { ::exit(0); });
  second.pool->submit(job(1));
  ASSERT_TRUE(second.pool->drain(10s));
  under->pool = std::move(first);
  (void)run(20);
  EXPECT_EQ(under->pool->statistics().worker_deaths, 0u);
  EXPECT_EQ(under->pool->statistics().zygote_deaths, 0u);
}

TEST_F(PoolAbuse, AForkedCopyEndsItsIsolationAtOnce) {
  IsolatedFunctions table;
  table.add("same", [](std::string_view bytes) { return std::string(bytes); });
  auto isolation = Isolation::start(std::move(table), {}).value();
  EXPECT_EQ(in_a_copy([&] {
              isolation.reset();
              return 0;
            }),
            0);
  EXPECT_EQ(isolation->run("same", "x").value(), "x");
}

// A living copy of the caller has the zygotes' sockets, too.
TEST_F(PoolAbuse, AForkedCopyDoesNotDelayTheEnd) {
  std::int64_t best = kPatienceNs;
  for (int i = 0; i < 5; ++i) {
    start([](const Job&, const JobContext&) { return JobOutput{}; });
    (void)run(1);
    const pid_t copy = ::fork();
    if (copy == 0) {
      for (;;) ::pause();
    }
    const std::int64_t begin = now_ns();
    under.reset();
    best = std::min(best, now_ns() - begin);
    ::kill(copy, SIGKILL);
    ::waitpid(copy, nullptr, 0);
  }
  EXPECT_LT(best, 150'000'000);
}

// ---- Descriptors ----

// A job closes all descriptors: its result counts, and nobody waits for a worker that cannot call.
TEST_F(PoolAbuse, AJobThatClosesTheDoorbellCostsItsWorkerAlone) {
  options.deadline = 0ns;
  start([](const Job& given, const JobContext&) {
    if (given.item % 10 == 3) ::close_range(3, ~0u, 0);
    ::usleep(1000);
    return JobOutput{};
  });
  for (const auto& [key, result] : run(40)) {
    EXPECT_EQ(result.outcome, JobOutcome::kDone) << key.first;
    EXPECT_EQ(result.attempts, 1u) << key.first;
  }
}

// It opens a file of its own, which has the doorbell's number now.
TEST_F(PoolAbuse, NothingIsWrittenIntoAFileWithTheDoorbellsNumber) {
  const std::string path = ::testing::TempDir() + "pool_abuse_" + std::to_string(::getpid());
  start([&](const Job& given, const JobContext&) {
    if (given.item == 0) {
      ::close_range(3, ~0u, 0);
      for (int i = 0; i < 30; ++i) {
        if (::open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600) < 0) ::abort();
      }
    }
    ::usleep(2000);
    return JobOutput{};
  });
  (void)run(10);
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 0);
  ::unlink(path.c_str());
}

// ---- Children of jobs ----

TEST_F(PoolAbuse, AForkedChildThatReturnsIsNoSecondWorker) {
  for (const int demand : {1, 8}) {
    options.max_demand = demand;
    const Counters executions;
    start([&executions](const Job& given, const JobContext&) {
      const bool child = given.item % 10 == 3 && ::fork() == 0;
      ++executions[given.item];
      JobOutput output;
      output.bytes = child ? "child" : "parent";
      if (child && given.item % 20 == 3) throw std::string("the child's");
      return output;
    });
    for (const auto& [key, result] : run(100)) EXPECT_EQ(result.output.bytes, "parent");
    ::usleep(20'000);
    for (std::uint64_t i = 0; i < 100; ++i) {
      EXPECT_LE(executions[i], i % 10 == 3 ? 2 : 1) << "item " << i;
    }
    EXPECT_EQ(under->pool->statistics().rejected, 0u);
    EXPECT_EQ(under->pool->statistics().nonsense, 0u);
    EXPECT_EQ(under->pool->statistics().worker_deaths, 0u);
    under.reset();
  }
}

TEST_F(PoolAbuse, AForkedChildThatReturnsFromTheWarmUpIsNoSecondProcess) {
  options.warm_up = job(1000);
  start([this](const Job& given, const JobContext&) {
    if (given.item == 1000) ::fork();
    ++counters[given.item];
    return JobOutput{};
  });
  (void)run(50);
  for (std::uint64_t i = 0; i < 50; ++i) EXPECT_EQ(counters[i], 1) << "item " << i;
  EXPECT_EQ(under->pool->statistics().worker_deaths, 0u);
  EXPECT_EQ(under->pool->statistics().zygote_deaths, 0u);
}

TEST_F(PoolAbuse, AJobMayHaveAChildInAPidNamespaceOfItsOwn) {
  start([](const Job&, const JobContext&) {
    JobOutput output;
    if (::unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
      output.bytes = "refused";
      return output;
    }
    const pid_t child = ::fork();
    if (child == 0) ::_exit(42);
    int raw = 0;
    ::waitpid(child, &raw, 0);
    output.bytes = std::to_string(WEXITSTATUS(raw));
    return output;
  });
  const std::string bytes = run(1).begin()->second.output.bytes;
  if (bytes == "refused") GTEST_SKIP() << "no new pid namespaces here";
  EXPECT_EQ(bytes, "42");
}

// ---- Other pools ----

TEST_F(PoolAbuse, AJobCannotWriteToTheFramesOfAnotherPool) {
  start([](const Job&, const JobContext&) { return JobOutput{}; });
  const Frame frame = under->pool->allocate_frame(4096);
  std::memset(frame.data(), 7, 4096);
  PoolUnderTest second(options, [&](const Job&, const JobContext&) {
    std::memset(frame.data(), 0xEE, 4096);
    return JobOutput{};
  });
  second.pool->submit(job(1));
  const auto came = second.pool->drain(20s);
  ASSERT_TRUE(came);
  ASSERT_EQ(came->size(), 1u);
  EXPECT_EQ(came->front().outcome, JobOutcome::kPoisoned);
  EXPECT_EQ(frame.data()[0], std::byte(7));
  (void)run(10);
}

// ---- Ruined processes ----

// Every second item ruins its process and returns; the others die in such a process only. None of
// them is convicted, with or without spares.
TEST_F(PoolAbuse, WhoIsRetriedAloneDoesNotSufferFromThoseBefore) {
  options.workers = 2;
  options.intensity = kUnlimited;
  for (const int spares : {0, 1}) {
    options.spares = spares;
    options.take_over = spares > 0;
    start([](const Job& given, const JobContext&) {
      static bool ruined = false;
      if (given.item % 2 == 1) ruined = true;
      if (given.item % 2 == 0 && ruined) ::abort();
      return JobOutput{};
    });
    for (const auto& [key, result] : run(100)) {
      EXPECT_EQ(result.outcome, JobOutcome::kDone) << key.first << " spares " << spares;
    }
    EXPECT_GT(under->pool->statistics().worker_deaths, 0u);
    under.reset();
  }
}

// Items that unmap all frames and return cost nobody else his life or his name.
TEST_F(PoolAbuse, AFrameThatCannotBeProtectedConvictsNobodyElse) {
  options.workers = 2;
  options.intensity = kUnlimited;
  constexpr std::size_t kOpened = FrameArena::kMostCopied + 1;  // Smaller ones are copied.
  options.output_bytes = kOpened;
  for (const int batch : {1, 4}) {
    options.max_demand = batch * 2;
    options.batch = batch;
    start([](const Job& given, const JobContext&) {
      if (given.item % 10 != 3) return JobOutput{};
      std::ifstream maps("/proc/self/maps");
      for (std::string line; std::getline(maps, line);) {
        if (line.find("crashworthy-frames") == std::string::npos) continue;
        std::size_t begin = 0, end = 0;
        if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) != 2) continue;
        ::munmap(reinterpret_cast<void*>(begin), end - begin);
      }
      return JobOutput{};
    });
    for (std::uint64_t i = 0; i < 60; ++i) {
      Job each = job(i);
      each.output_bytes = kOpened;
      under->pool->submit(std::move(each));
    }
    Results results;
    const auto error = finish(*under->pool, results);
    EXPECT_FALSE(error) << error->message;
    EXPECT_EQ(results.size(), 60u);
    for (const auto& [key, result] : results) {
      if (key.first % 10 == 3 && batch > 1) {
        EXPECT_EQ(result.outcome, JobOutcome::kPoisoned) << key.first;
      } else if (key.first % 10 != 3) {
        EXPECT_EQ(result.outcome, JobOutcome::kDone) << key.first << " batch " << batch;
      }
    }
    under.reset();
  }
}

// A worker that is retired for a fresh one is no death.
TEST_F(PoolAbuse, ARetiredWorkerIsNoDeath) {
  options.workers = 2;
  options.spares = 0;
  start([](const Job& given, const JobContext&) {
    if (given.item == 3) ::abort();
    return JobOutput{};
  });
  for (int round = 0; round < 3; ++round) {
    Results results = run(20);
    const JobResult& poison = results.at({3, 0});
    EXPECT_EQ(poison.outcome, JobOutcome::kPoisoned);
    EXPECT_EQ(poison.attempts, 2u);
    EXPECT_EQ(under->pool->statistics().worker_deaths, 2u * static_cast<unsigned>(round + 1));
  }
}

TEST_F(PoolAbuse, SignalsOfAProcesssOwnDoingConvict) {
  options.intensity = kUnlimited;
  const std::array<int, 9> own{SIGSEGV, SIGABRT, SIGBUS,  SIGFPE, SIGILL,
                               SIGTRAP, SIGSYS,  SIGXCPU, SIGXFSZ};
  start([&own](const Job& given, const JobContext&) {
    ::raise(own.at(given.item));
    return JobOutput{};
  });
  for (const auto& [key, result] : run(own.size())) {
    EXPECT_EQ(result.outcome, JobOutcome::kPoisoned) << own.at(key.first);
  }
}

TEST_F(PoolAbuse, AReasonThatIsNoneIsNonsense) {
  start([](const Job& given, const JobContext&) {
    constexpr std::array<std::int64_t, 5> kReasons{0, -1, 99, 65536, std::int64_t{1} << 32};
    JobOutput output;
    output.failure = static_cast<FailureReason>(kReasons.at(given.item));
    return output;
  });
  for (const auto& [key, result] : run(5)) {
    EXPECT_EQ(result.outcome, JobOutcome::kPoisoned) << key.first;
    EXPECT_EQ(result.output.failure, FailureReason::kPoison) << key.first;
  }
  EXPECT_GE(under->pool->statistics().nonsense, 10u);
}

// ---- Limits ----

TEST_F(PoolAbuse, DurationsMayBeAsLongAsTheyCanBe) {
  constexpr std::chrono::nanoseconds kMost = std::chrono::nanoseconds::max();
  for (const auto deadline : {kMost, kMost / 2, kMost / 2 - 1s, kMost / 3}) {
    options.deadline = options.heartbeat = options.period = options.spin = deadline;
    start([](const Job& given, const JobContext& context) {
      if (given.item == 3 && context.attempt == 1) ::raise(SIGKILL);
      return JobOutput{};
    });
    (void)run(10);
    EXPECT_EQ(under->pool->statistics().hung, 0u);
    EXPECT_EQ(under->pool->statistics().worker_deaths, 1u);
    under.reset();
  }
}

TEST_F(PoolAbuse, ALimitOfFileSizesIsAnError) {
  EXPECT_EQ(in_a_copy([&] {
              const rlimit limit{4096, 4096};
              if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 9;
              const auto pool = make_worker_pool(
                  options, [](const Job&, const JobContext&) { return JobOutput{}; }, Probe());
              if (pool || pool.error().sys_errno != EFBIG) return 8;
              sigset_t pending;
              ::sigpending(&pending);
              return ::sigismember(&pending, SIGXFSZ) == 0 ? 0 : 7;
            }),
            0);
}

// Nobody would ever be at work again: the caller is told.
TEST_F(PoolAbuse, ResultsThatTakeAllRoomAreAnError) {
  options.workers = 2;
  options.output_bytes = 1 << 16;
  options.frame_bytes = 0;
  start([](const Job& given, const JobContext&) {
    JobOutput output;
    output.frame_bytes = given.output_bytes;
    return output;
  });
  std::vector<Job> jobs;
  for (std::uint64_t i = 0; i < 10; ++i) {
    jobs.push_back(job(i));
    jobs.back().output_bytes = 1 << 16;
  }
  const auto mapped = map(*under->pool, jobs);
  ASSERT_FALSE(mapped);
  EXPECT_EQ(mapped.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(mapped.error().message, HasSubstr("room for the output"));
  EXPECT_THAT(mapped.error().hint, HasSubstr("frame_bytes"));
  EXPECT_THAT(mapped.error().hint, HasSubstr("stream()"));
  // The frames of those that came are gone, so the others go on.
  Results rest;
  while (under->pool->in_flight() > 0) {
    auto came = under->pool->wait(10s);
    ASSERT_TRUE(came) << came.error().message;
    ASSERT_FALSE(came->empty());
  }
  // A thread that lets go of a frame in time is enough.
  for (const Job& each : jobs) under->pool->submit(each);
  std::vector<JobResult> held;
  while (held.size() < 2) {
    auto came = under->pool->wait(10s);
    ASSERT_TRUE(came);
    std::move(came->begin(), came->end(), std::back_inserter(held));
  }
  std::thread frees([&held] {
    ::usleep(300'000);
    held.clear();
  });
  EXPECT_FALSE(under->pool->wait(10s).value().empty());
  frees.join();
  while (under->pool->in_flight() > 0) ASSERT_TRUE(under->pool->wait(10s));
}

TEST_F(PoolAbuse, ManyWorkersWithLongQueuesStart) {
  options.workers = 256;
  options.max_demand = 16;
  const std::int64_t begin = now_ns();
  start([](const Job&, const JobContext&) { return JobOutput{}; });
  std::printf("started in %.0f ms\n", static_cast<double>(now_ns() - begin) / 1e6);
  (void)run(1000);
  EXPECT_EQ(under->pool->statistics().zygote_deaths, 0u);
  EXPECT_EQ(under->pool->statistics().worker_deaths, 0u);
}

}  // namespace
}  // namespace crashworthy

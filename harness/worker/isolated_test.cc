// Isolated calls: each gets its own result, or its own Error, whatever becomes of the others.
#include "harness/worker/isolated.h"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <thread>

#include "harness/os/crc32c.h"
#include "harness/os/shared_memory.h"
#include "harness/worker/pool_test_util.h"

namespace crashworthy {
namespace {

using namespace test;
using ::testing::HasSubstr;

constexpr int kUnlimited = 1'000'000;

class Isolated : public ::testing::Test {
 protected:
  Isolated() {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);  // Many workers abort here: no core files.
    options.intensity = kUnlimited;
    table.add("echo", [](std::string_view bytes) { return std::string(bytes); });
    table.add("abort", [this](std::string_view bytes) -> std::string {
      ++counters[std::stoul(std::string(bytes))];
      std::abort();
    });
    table.add("sleep", [this](std::string_view bytes) {
      ++counters[0];
      ::usleep(static_cast<unsigned>(std::stoul(std::string(bytes))) * 1000);
      return std::string("slept");
    });
    table.add("hang", [this](std::string_view) -> std::string {
      for (++counters[1];;) ::pause();
    });
  }
  ~Isolated() override {
    isolation.reset();
    EXPECT_TRUE(childless());
  }

  void start() {
    auto started = Isolation::start(table, options);
    ASSERT_TRUE(started) << started.error().message;
    isolation = *std::move(started);
  }

  IsolatedFunctions table;
  IsolationOptions options;
  Counters counters;
  std::unique_ptr<Isolation> isolation;
};

void expect_error(const Result<std::string>& result, ErrorKind kind, const std::string& text) {
  ASSERT_FALSE(result) << *result;
  EXPECT_EQ(result.error().kind, kind) << result.error().message;
  EXPECT_THAT(result.error().message, HasSubstr(text));
}

TEST_F(Isolated, ReturnsWhatTheFunctionReturns) {
  start();
  EXPECT_EQ(isolation->run("echo", "").value(), "");
  const std::string zeros(Isolation::kMaxBytes, '\0');
  EXPECT_EQ(isolation->run("echo", zeros).value(), zeros);
}

TEST_F(Isolated, RefusesANameThatIsNotRegisteredAndTellsTheOthers) {
  start();
  const auto refused = isolation->run("ecno", "");
  expect_error(refused, ErrorKind::kUsage, "'ecno'");
  expect_error(refused, ErrorKind::kUsage, "'echo', 'abort', 'sleep', 'hang'");
  EXPECT_DEATH(table.add("echo", [](std::string_view) { return std::string(); }), "echo");
  EXPECT_FALSE(Isolation::start({}, {}));
}

TEST_F(Isolated, StatesTheLimitOfWhatIsTooLarge) {
  table.add("grow", [](std::string_view) { return std::string(kMaxPayload + 1, 'x'); });
  start();
  expect_error(isolation->run("echo", std::string(kMaxPayload + 1, 'x')), ErrorKind::kUsage,
               "16385 bytes, more than the 16384");
  expect_error(isolation->run("grow", ""), ErrorKind::kUsage, "16385 bytes, more than the 16384");
  expect_error(isolation->run("echo", "", -1ns), ErrorKind::kUsage, "negative");
}

TEST_F(Isolated, PassesOnWhatTheFunctionFailsWith) {
  table.add("fails", [](std::string_view) -> Result<std::string> {
    return Error{ErrorKind::kSystem, ENOENT, "no such model", "download it"};
  });
  table.add("throws", [](std::string_view) -> std::string {
    throw std::runtime_error(std::string(100'000, 'w'));
  });
  table.add("throws an int", [](std::string_view) -> std::string { throw 1; });
  table.add("wants memory", [](std::string_view) -> std::string { throw std::bad_alloc(); });
  start();
  const auto failed = isolation->run("fails", "");
  expect_error(failed, ErrorKind::kSystem, "no such model");
  EXPECT_EQ(failed.error().sys_errno, ENOENT);
  EXPECT_EQ(failed.error().hint, "download it");
  expect_error(isolation->run("throws", ""), ErrorKind::kCorrupt, "'throws' threw: wwww");
  expect_error(isolation->run("throws an int", ""), ErrorKind::kCorrupt, "no std::exception");
  expect_error(isolation->run("wants memory", ""), ErrorKind::kSystem, "bad_alloc");
}

TEST_F(Isolated, ACrashIsAnErrorThatNamesTheSignalAndIsNotRepeated) {
  table.add("segv", [](std::string_view) -> std::string {
    ::raise(SIGSEGV);
    return {};
  });
  table.add("exit", [](std::string_view) -> std::string { ::_exit(3); });
  start();
  expect_error(isolation->run("abort", "7"), ErrorKind::kGone, "'abort' died of SIGABRT");
  expect_error(isolation->run("segv", ""), ErrorKind::kGone, "'segv' died of SIGSEGV");
  expect_error(isolation->run("exit", ""), ErrorKind::kGone, "exited with 3");
  EXPECT_EQ(isolation->run("echo", "still here").value(), "still here");
  EXPECT_EQ(counters[7], 1);
}

TEST_F(Isolated, ADeadlineBoundsTheExecutionOfItsOwnCall) {
  options.workers = 1;
  start();
  expect_error(isolation->run("hang", "", 30ms), ErrorKind::kTimeout, "deadline of 30.0 ms");
  EXPECT_EQ(counters[1], 1);
  // Waits behind another for longer than its deadline, which is none of its own time.
  std::thread other([&] { EXPECT_TRUE(isolation->run("sleep", "600", 1min)); });
  while (counters[0] == 0) ::usleep(100);
  const auto behind = isolation->run("echo", "queued", 200ms);
  other.join();
  EXPECT_TRUE(behind) << behind.error().message;
  // Far away is a deadline, too.
  EXPECT_TRUE(isolation->run("echo", "", std::chrono::nanoseconds::max()));
}

TEST_F(Isolated, TheDeadlineOfTheOptionsHoldsForCallsWithoutOne) {
  options.deadline = 40ms;
  start();
  expect_error(isolation->run("hang", ""), ErrorKind::kTimeout, "deadline of 40.0 ms");
  EXPECT_EQ(isolation->run("sleep", "100", 1min).value(), "slept");
}

TEST_F(Isolated, TheDestructorFailsTheCallsThatWait) {
  options.workers = 1;
  start();
  Isolation& used = *isolation;
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      expect_error(used.run("hang", "", 1h), ErrorKind::kGone, "the isolation was ended");
      ++failed;
    });
  }
  while (counters[1] == 0) ::usleep(100);
  ::usleep(20'000);  // The other two wait behind it, most likely.
  isolation.reset();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 3);
}

TEST_F(Isolated, AfterTooManyKilledWorkersEveryCallFails) {
  options.intensity = 2;
  options.period = 1h;
  table.add("killed", [](std::string_view) -> std::string {
    ::raise(SIGKILL);
    return {};
  });
  start();
  for (int i = 0; i < 2; ++i) {
    expect_error(isolation->run("killed", ""), ErrorKind::kGone, "SIGKILL");
  }
  expect_error(isolation->run("killed", ""), ErrorKind::kGone, "");
  for (int i = 0; i < 2; ++i) {
    expect_error(isolation->run("echo", ""), ErrorKind::kGone, "more than 2 deaths");
  }
}

TEST_F(Isolated, CallsThatCrashCostTheOthersNothing) {
  options.intensity = 0;
  options.period = 1h;
  table.add("exit", [](std::string_view) -> std::string { std::exit(1); });
  start();
  for (int i = 0; i < 10; ++i) {
    expect_error(isolation->run("abort", "2"), ErrorKind::kGone, "SIGABRT");
    expect_error(isolation->run("exit", ""), ErrorKind::kGone, "exited with 1");
    expect_error(isolation->run("hang", "", 10ms), ErrorKind::kTimeout, "deadline");
  }
  EXPECT_EQ(isolation->run("echo", "still here").value(), "still here");
  EXPECT_EQ(counters[2], 10);
}

TEST_F(Isolated, RefusesToForkBesideOtherThreads) {
  std::atomic<bool> end{false};
  std::thread other([&] {
    while (!end) ::usleep(100);
  });
  const auto refused = Isolation::start(table, options);
  end = true;
  other.join();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
}

// A unique number, bytes of a size of its own, and their checksum.
std::string numbered(std::uint64_t number) {
  std::string bytes = std::to_string(number) + ":";
  const std::size_t size = number * 7919 % 3000;
  for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(number + i * i);
  return bytes + ":" + std::to_string(crc32c(bytes.data(), bytes.size()));
}

// 8 threads, one call in ten aborts: each call has the result that is its own.
TEST_F(Isolated, EveryResultAndEveryCrashBelongsToItsOwnCall) {
  const bool full = std::getenv("CRASHWORTHY_LONG") != nullptr;
  const std::uint64_t calls = full ? 10'000 : 2'000;
  auto executions = SharedMemory::create("executions", calls);
  ASSERT_TRUE(executions);
  auto* count = reinterpret_cast<std::atomic<std::uint8_t>*>(executions->data());
  table.add("echo or abort", [count](std::string_view bytes) {
    const std::uint64_t number = std::stoull(std::string(bytes));
    ++count[number];
    if (number % 10 == 3) std::abort();
    return std::string(bytes);
  });
  options.spares = 2;
  start();
  std::atomic<std::uint64_t> next{0}, echoed{0}, aborted{0}, wrong{0};
  const auto call = [&] {
    for (std::uint64_t number = next++; number < calls; number = next++) {
      const std::string sent = numbered(number);
      const auto result = isolation->run("echo or abort", sent);
      if (number % 10 == 3) {
        const bool right = !result && result.error().kind == ErrorKind::kGone &&
                           result.error().message == "'echo or abort' died of SIGABRT";
        ++(right ? aborted : wrong);
      } else {
        ++(result && *result == sent ? echoed : wrong);
      }
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int i = 0; i < 8; ++i) threads.emplace_back(call);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(aborted, calls / 10);
  EXPECT_EQ(echoed, calls - calls / 10);
  for (std::uint64_t number = 0; number < calls; ++number) {
    EXPECT_EQ(count[number], 1) << "executions of call " << number;
  }
}

// A worker killed from outside while it is idle, or before it began: no call suffers.
TEST_F(Isolated, TheDeathOfAnIdleWorkerCostsNoCall) {
  table.add("pid", [](std::string_view) { return std::to_string(::getpid()); });
  options.workers = 1;
  start();
  for (int i = 0; i < 20; ++i) {
    const pid_t worker = std::stoi(isolation->run("pid", "").value());
    ::kill(worker, SIGKILL);
    const auto next = isolation->run("pid", "");
    ASSERT_TRUE(next) << next.error().message;
    EXPECT_NE(std::stoi(*next), worker);
  }
}

template <typename Round>
double median_us(int rounds, const Round& round) {
  std::vector<std::int64_t> times;
  for (int i = 0; i < rounds; ++i) {
    const std::int64_t begin = now_ns();
    round();
    times.push_back(now_ns() - begin);
  }
  std::nth_element(times.begin(), times.begin() + rounds / 2, times.end());
  return static_cast<double>(times[static_cast<std::size_t>(rounds) / 2]) / 1000;
}

// No verdict: a noisy machine would make it a bad one.
TEST_F(Isolated, PrintsWhatACallCosts) {
  constexpr int kRounds = 5'000;
  PoolOptions pool_options;
  PoolUnderTest under(pool_options, [](const Job& given, const JobContext&) {
    return JobOutput{given.arguments, {}, {}, 0};
  });
  start();
  const double pool = median_us(kRounds, [&] {
    under.pool->submit(job(1, 0, "x"));
    while (under.pool->wait(1000ms)->empty()) continue;
  });
  const double alone = median_us(kRounds, [&] { EXPECT_TRUE(isolation->run("echo", "x")); });
  const double crash = median_us(200, [&] { EXPECT_FALSE(isolation->run("abort", "4")); });
  double together = 0;
  std::thread second([&] {
    for (int i = 0; i < kRounds; ++i) EXPECT_TRUE(isolation->run("echo", "y"));
  });
  together = median_us(kRounds, [&] { EXPECT_TRUE(isolation->run("echo", "x")); });
  second.join();
  std::printf("median: pool %.1f us, run %.1f us, run beside another %.1f us, crash %.1f us\n",
              pool, alone, together, crash);
  under.pool.reset();
}

}  // namespace
}  // namespace crashworthy

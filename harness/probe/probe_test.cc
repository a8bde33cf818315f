// The ring keeps what a killed writer told, waits for half-written records, drops without blocking
// when full, and wakes its owner.
#include "harness/probe/probe.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

namespace crashworthy {
namespace {

constexpr ProbeIdentity kWorker{3, 2};

bool readable(int fd) {
  pollfd poll_fd{fd, POLLIN, 0};
  return ::poll(&poll_fd, 1, 0) == 1;
}

TEST(Probe, RecordsSurviveTheSigkillOfTheirWriter) {
  auto ring = ProbeRing::create(16);
  ASSERT_TRUE(ring);
  const Probe probe = ring->probe();
  const pid_t child = ::fork();
  if (child == 0) {
    probe.emit(ProbeEvent::kStarted, kWorker, 7, 1, 1);
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  std::vector<ProbeRecord> records;
  ring->drain(records);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].item, 7u);
  EXPECT_EQ(records[0].part, 1u);
  EXPECT_EQ(records[0].pid, child);
  EXPECT_EQ(records[0].worker, 3u);
  EXPECT_EQ(records[0].incarnation, 2u);
}

TEST(Probe, AFullRingDropsAndCountsAndRecovers) {
  auto ring = ProbeRing::create(4);
  ASSERT_TRUE(ring);
  for (std::uint64_t i = 0; i < 6; ++i) ring->probe().emit(ProbeEvent::kTaken, kWorker, i);
  std::vector<ProbeRecord> records;
  ring->drain(records, true);
  EXPECT_EQ(records.size(), 4u);
  EXPECT_EQ(ring->dropped(), 2u);
  ring->probe().emit(ProbeEvent::kTaken, kWorker, 6);
  ring->drain(records, true);
  ASSERT_EQ(records.size(), 5u);
  EXPECT_EQ(records.back().item, 6u);
  EXPECT_EQ(ring->count(ProbeEvent::kTaken), 7u);
}

TEST(Probe, WakesItsOwnerAtTheWatchedCountAndNotBefore) {
  auto ring = ProbeRing::create(16);
  ASSERT_TRUE(ring);
  ring->watch(ProbeEvent::kDone, 2);
  ring->probe().emit(ProbeEvent::kDone, kWorker, 0);
  ring->probe().emit(ProbeEvent::kTaken, kWorker, 0);
  EXPECT_FALSE(readable(ring->event_fd()));
  ring->probe().emit(ProbeEvent::kDone, kWorker, 1);
  EXPECT_TRUE(readable(ring->event_fd()));
  ring->clear_event();
  EXPECT_FALSE(readable(ring->event_fd()));
  ring->watch(ProbeEvent::kDone, 2);  // Already reached: told at once.
  EXPECT_TRUE(readable(ring->event_fd()));
}

TEST(Probe, ManyThreadsLoseNothing) {
  auto ring = ProbeRing::create(1 << 12);
  ASSERT_TRUE(ring);
  constexpr std::uint64_t kThreads = 4;
  constexpr std::uint64_t kEach = 20'000;
  std::vector<std::thread> threads;
  std::atomic<std::uint64_t> running{kThreads};
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < kEach; ++i)
        ring->probe().emit(ProbeEvent::kDone, kWorker, t * kEach + i);
      --running;
    });
  }
  std::vector<ProbeRecord> records;
  while (running > 0) ring->drain(records);
  for (auto& thread : threads) thread.join();
  ring->drain(records, true);
  EXPECT_EQ(records.size() + ring->dropped(), kThreads * kEach);
  EXPECT_EQ(ring->count(ProbeEvent::kDone), kThreads * kEach);
}

TEST(Probe, DoesNothingWithoutItsVariable) {
  ::unsetenv("CRASHWORTHY_PROBE");
  EXPECT_FALSE(Probe::from_environment().enabled());
  ::setenv("CRASHWORTHY_PROBE", "999,998", 1);
  EXPECT_FALSE(Probe::from_environment().enabled());
  ::setenv("CRASHWORTHY_PROBE", "nonsense", 1);
  EXPECT_FALSE(Probe::from_environment().enabled());
  ::unsetenv("CRASHWORTHY_PROBE");
  Probe().emit(ProbeEvent::kDone, kWorker);
}

TEST(Probe, IsFoundThroughTheEnvironment) {
  auto ring = ProbeRing::create(16);
  ASSERT_TRUE(ring);
  const std::string variable = ProbeRing::environment(ring->ring_fd(), ring->event_fd());
  ::setenv("CRASHWORTHY_PROBE", variable.substr(variable.find('=') + 1).c_str(), 1);
  const Probe probe = Probe::from_environment();
  ::unsetenv("CRASHWORTHY_PROBE");
  ASSERT_TRUE(probe.enabled());
  probe.emit(ProbeEvent::kDelivered, kWorker, 5);
  std::vector<ProbeRecord> records;
  ring->drain(records);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].item, 5u);
}

}  // namespace
}  // namespace crashworthy

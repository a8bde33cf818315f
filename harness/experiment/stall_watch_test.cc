// Hang, slow and stopped, from planted readings and by planted processes.
#include "harness/experiment/stall_watch.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "harness/os/clock.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

// Looks every half second; `share` of a processor is used.
void pass(StallWatch& watch, std::int64_t from_s, std::int64_t to_s, double share,
          std::int64_t& cpu_ns, bool stopped = false) {
  for (std::int64_t at = from_s * kSecond; at < to_s * kSecond; at += kSecond / 2) {
    cpu_ns += static_cast<std::int64_t>(share * 0.5 * kSecond);
    watch.look(at + kSecond / 2, {cpu_ns, stopped});
  }
}

TEST(StallWatch, SilentAndIdleIsAHang) {
  StallWatch watch(0, kSecond, 10 * kSecond);
  std::int64_t cpu_ns = 0;
  pass(watch, 0, 4, 1.0, cpu_ns);
  watch.progress(3 * kSecond);
  pass(watch, 4, 13, 0, cpu_ns);
  EXPECT_FALSE(watch.certain(13 * kSecond));
  pass(watch, 13, 15, 0, cpu_ns);
  const auto stall = watch.certain(15 * kSecond);
  ASSERT_TRUE(stall);
  EXPECT_EQ(stall->kind, StallKind::kHang);
  EXPECT_EQ(stall->since_ns, 4 * kSecond) << "when it last used its processor";
  EXPECT_EQ(stall->cpu_ns, 0);
}

TEST(StallWatch, WhoLooksForWorkNowAndThenIsIdle) {
  StallWatch watch(0, kSecond, 10 * kSecond);
  std::int64_t cpu_ns = 0;
  pass(watch, 0, 20, 0.005, cpu_ns);
  EXPECT_TRUE(watch.certain(20 * kSecond));
}

TEST(StallWatch, SilentAndBusyIsSlow) {
  StallWatch watch(0, kSecond, 10 * kSecond);
  std::int64_t cpu_ns = 0;
  for (std::int64_t at = 0; at < 60; ++at) {
    pass(watch, at, at + 1, at < 30 ? 1.0 : 0.05, cpu_ns);
    watch.progress(kSecond);  // The same output, told again.
  }
  EXPECT_FALSE(watch.certain(60 * kSecond));
  const Stall stall = watch.at_timeout(60 * kSecond);
  EXPECT_EQ(stall.kind, StallKind::kSlow);
  EXPECT_EQ(stall.since_ns, kSecond);
  EXPECT_GE(stall.cpu_ns, 30 * kSecond);
}

TEST(StallWatch, IdleButPublishingIsSlow) {
  StallWatch watch(0, kSecond, 10 * kSecond);
  std::int64_t cpu_ns = 0;
  for (std::int64_t at = 0; at < 30; ++at) {
    watch.progress(at * kSecond);
    pass(watch, at, at + 1, 0, cpu_ns);
  }
  EXPECT_FALSE(watch.certain(30 * kSecond));
  EXPECT_EQ(watch.at_timeout(30 * kSecond).kind, StallKind::kSlow);
}

TEST(StallWatch, AStoppedOneIsCalledSo) {
  StallWatch watch(0, kSecond, 10 * kSecond);
  std::int64_t cpu_ns = 0;
  pass(watch, 0, 12, 0, cpu_ns, true);
  EXPECT_EQ(watch.certain(12 * kSecond)->kind, StallKind::kStopped);
  EXPECT_EQ(watch.at_timeout(12 * kSecond).kind, StallKind::kStopped);
}

// The readings themselves: one that spins, one that sleeps, one that is stopped.
TEST(TreeActivity, ReadsProcessorTimeAndStops) {
  const auto start = [](void (*work)()) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      work();
      ::_exit(0);
    }
    return pid;
  };
  const pid_t spins = start([] {
    while (true) (void)::getppid();
  });
  const pid_t sleeps = start([] { ::pause(); });
  const std::int64_t deadline = now_ns() + 10 * kSecond;
  while (activity_of({spins}).cpu_ns < kSecond / 10 && now_ns() < deadline) ::usleep(10'000);
  EXPECT_GE(activity_of({spins, sleeps}).cpu_ns, kSecond / 10);
  EXPECT_LT(activity_of({sleeps}).cpu_ns, kSecond / 10);
  EXPECT_FALSE(activity_of({spins, sleeps}).stopped);
  ::kill(sleeps, SIGSTOP);
  int status = 0;
  ::waitpid(sleeps, &status, WUNTRACED);
  EXPECT_TRUE(activity_of({spins, sleeps}).stopped);
  for (const pid_t pid : {spins, sleeps}) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, &status, 0);
  }
}

}  // namespace
}  // namespace crashworthy

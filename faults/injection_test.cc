// Every injector against a real process: armed it has exactly its effect and proves it; disarmed,
// too late, or on a victim that dies of something else, nothing is confirmed.
#include "faults/injection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "faults/injection_set.h"
#include "faults/injection_test_util.h"
#include "faults/point/point.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using ::testing::HasSubstr;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

class Injections : public ::testing::Test {
 protected:
  void SetUp() override { ring_ = *ProbeRing::create(1 << 10); }
  std::unique_ptr<Injection> plan(const FaultSpec& fault, bool disarmed = false) {
    auto injection = Injection::plan(
        {fault, resolve(fault.trigger, fault.trigger_kind(), 1, 0), 1, disarmed, log_.sink()});
    EXPECT_TRUE(injection->arm(launch_));
    return injection;
  }
  static void look(Injection& injection, SubjectView& subject) {
    injection.look(subject, subject.moment());
  }
  LaunchPlan launch_;
  std::optional<ProbeRing> ring_;
  Log log_;
};

// Works for ever: takes an item and holds it.
int hold_an_item(const Probe& probe) {
  probe.emit(ProbeEvent::kWorkerReady, {0, 1});
  probe.emit(ProbeEvent::kTaken, {0, 1}, 4);
  probe.emit(ProbeEvent::kStarted, {0, 1}, 4, 2, 1);
  while (true) ::pause();
}

// Takes an item but never begins to work on it.
int hold_nothing_for_long(const Probe& probe) {
  probe.emit(ProbeEvent::kWorkerReady, {0, 1});
  probe.emit(ProbeEvent::kTaken, {0, 1}, 4);
  ::usleep(200'000);
  return 3;
}

TEST_F(Injections, KillIsFiredAtTheItemIntoItsHolderAndConfirmed) {
  const FaultSpec fault = fault_of(
      R"({"fault": "process.kill", "victim": {"holding_item": true}, "when": {"item": 1}})");
  auto injection = plan(fault);
  EXPECT_TRUE(log_.step("plan")["synced"]) << "on disk before it can fire";
  FakeSubject subject(*ring_, hold_an_item);
  subject.wait_for(ProbeEvent::kStarted, 1);
  look(*injection, subject);
  EXPECT_TRUE(injection->fired());
  injection->finish(subject.end());
  const json result = log_.result();
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(result["victim"]["pid"], subject.pid());
  EXPECT_EQ(result["victim"]["item"], 4);
  EXPECT_GE(result["activated_ns"], log_.step("fire")["time_ns"]);
  for (const char* step :
       {"plan", "arm", "fire", "fired", "evidence", "confirm", "heal", "confirm_healed"}) {
    EXPECT_FALSE(log_.step(step).is_null()) << step;
  }
}

TEST_F(Injections, KillWaitsUntilSomebodyHoldsAnItem) {
  const FaultSpec fault = fault_of(
      R"({"fault": "process.kill", "victim": {"holding_item": true}, "when": {"item": 1}})");
  auto injection = plan(fault);
  FakeSubject subject(*ring_, hold_nothing_for_long);
  subject.wait_for(ProbeEvent::kTaken, 1);
  look(*injection, subject);
  EXPECT_FALSE(injection->fired());
  injection->finish(subject.end());
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
}

// Takes an item, and begins to work on it only later.
int hold_an_item_later(const Probe& probe) {
  probe.emit(ProbeEvent::kWorkerReady, {0, 1});
  probe.emit(ProbeEvent::kTaken, {0, 1}, 4);
  ::usleep(50'000);
  probe.emit(ProbeEvent::kStarted, {0, 1}, 4, 2, 1);
  while (true) ::pause();
}

TEST_F(Injections, KillFiresWhenSomebodyHoldsAnItemAtLast) {
  const FaultSpec fault = fault_of(
      R"({"fault": "process.kill", "victim": {"holding_item": true}, "when": {"item": 1}})");
  InjectionSet injections;
  injections.add(plan(fault));
  FakeSubject subject(*ring_, hold_an_item_later);
  subject.wait_for(ProbeEvent::kTaken, 1);
  injections.look(subject, *ring_);
  EXPECT_FALSE(injections.fired());
  pollfd wake{ring_->event_fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&wake, 1, 10'000), 1) << "the next unit of work wakes the harness";
  injections.look(subject, *ring_);
  EXPECT_TRUE(injections.fired());
  injections.finish(subject.end());
  EXPECT_EQ(log_.result()["outcome"], "confirmed");
}

TEST_F(Injections, TheCoordinatorIsNoWorkerWhileNoWorkerIsKnown) {
  auto injection = plan(fault_of(R"({"fault": "process.kill", "when": {"after": "1ns"}})"));
  FakeSubject subject(*ring_, [](const Probe&) -> int { return ::usleep(100'000); });
  subject.isolated_ = true;
  look(*injection, subject);
  EXPECT_FALSE(injection->fired());
  injection->finish(subject.end());
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
}

TEST_F(Injections, ASigkillBySomebodyElseIsNotOurs) {
  auto injection = plan(fault_of(R"({"fault": "process.kill", "when": {"after": "1ns"}})"));
  FakeSubject subject(*ring_, [](const Probe&) -> int { return ::kill(::getpid(), SIGKILL); });
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(subject.pid()), &info, WEXITED | WNOWAIT);
  look(*injection, subject);
  injection->finish(subject.end());
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
}

TEST_F(Injections, DisarmedKillDoesNothing) {
  auto injection = plan(fault_of(R"({"fault": "process.kill", "when": {"after": "1ns"}})"), true);
  FakeSubject subject(*ring_, hold_nothing_for_long);
  subject.wait_for(ProbeEvent::kTaken, 1);
  look(*injection, subject);
  const InjectionEvidence evidence = subject.end();
  EXPECT_EQ(evidence.ends[0].status.exit_code(), 3) << "it lived to its own end";
  injection->finish(evidence);
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
  EXPECT_TRUE(log_.result()["activated_ns"].is_null());
}

TEST_F(Injections, AnotherDeathIsNotTakenForTheKill) {
  auto injection = plan(fault_of(R"({"fault": "process.kill", "when": {"after": "1ns"}})"));
  FakeSubject subject(*ring_, [](const Probe&) -> int { return 7; });
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(subject.pid()), &info,
           WEXITED | WNOWAIT);  // A zombie: signals still "succeed".
  look(*injection, subject);
  injection->finish(subject.end());
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
}

TEST_F(Injections, ARoleThatNobodyHasIsSkippedNotReplaced) {
  auto injection = plan(fault_of(
      R"({"fault": "process.kill", "victim": {"role": "supervisor"}, "when": {"after": "1ns"}})"));
  FakeSubject subject(*ring_, hold_nothing_for_long);
  look(*injection, subject);
  const InjectionEvidence evidence = subject.end();
  EXPECT_TRUE(evidence.ends[0].status.exited());
  injection->finish(evidence);
  EXPECT_EQ(log_.result()["outcome"], "skipped");
  EXPECT_THAT(log_.result()["reason"].get<std::string>(), HasSubstr("no supervisor"));
}

// Maps memory until it fails, tells so as a library would, and dies of it.
int allocate_until_it_fails(const Probe& probe) {
  probe.emit(ProbeEvent::kWorkerReady, {0, 1});
  probe.emit(ProbeEvent::kTaken, {0, 1}, 0);
  for (int i = 0; i < 20'000; ++i) {
    void* memory =
        ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      probe.emit(ProbeEvent::kError, {0, 1}, 0, 0, 0, -4);
      return 9;
    }
    ::munmap(memory, 1 << 20);
    ::usleep(100);
  }
  return 0;
}

TEST_F(Injections, MemCapMakesARealAllocationFail) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer itself cannot live under an address-space limit";
  auto injection = plan(fault_of(R"({"fault": "resource.mem_cap", "when": {"item": 1}})"));
  FakeSubject subject(*ring_, allocate_until_it_fails);
  subject.wait_for(ProbeEvent::kTaken, 1);
  look(*injection, subject);
  EXPECT_TRUE(injection->fired());
  const InjectionEvidence evidence = subject.end();
  EXPECT_EQ(evidence.ends[0].status.exit_code(), 9);
  injection->finish(evidence);
  EXPECT_EQ(log_.result()["outcome"], "confirmed");
}

TEST_F(Injections, MemCapWithoutAFailedAllocationIsNotActivatedAndHealed) {
  auto injection = plan(fault_of(
      R"({"fault": "resource.mem_cap", "when": {"after": "1ns"}, "set": {"headroom": "64M"}})"));
  FakeSubject subject(*ring_, hold_an_item);
  subject.wait_for(ProbeEvent::kStarted, 1);
  rlimit before{};
  ::prlimit(subject.pid(), RLIMIT_AS, nullptr, &before);
  look(*injection, subject);
  rlimit during{};
  ::prlimit(subject.pid(), RLIMIT_AS, nullptr, &during);
  EXPECT_LT(during.rlim_cur, before.rlim_cur);
  injection->finish({});
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
  rlimit after{};
  ::prlimit(subject.pid(), RLIMIT_AS, nullptr, &after);
  EXPECT_EQ(after.rlim_cur, before.rlim_cur) << "the limit is restored on a victim that lives";
}

TEST_F(Injections, APointThatWasNotPassedIsNotActivated) {
  auto injection = plan(fault_of(R"({"fault": "native.abort@no.where", "when": {"hit": 5}})"));
  injection->finish({});
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
  EXPECT_THAT(log_.result()["reason"].get<std::string>(), HasSubstr("passed 0 times"));
}

// The evidence of a firing as a victim would leave it; `sender` and `status` are varied.
std::string outcome_of_firing(std::int32_t sender, int raw_status, bool reported) {
  Log log;
  LaunchPlan launch;
  const FaultSpec fault = fault_of(R"({"fault": "native.abort@right.here"})");
  auto injection = Injection::plan({fault, fault.trigger, 1, false, log.sink()});
  EXPECT_TRUE(injection->arm(launch));
  auto* table =
      static_cast<point::Table*>(::mmap(nullptr, sizeof(point::Table), PROT_READ | PROT_WRITE,
                                        MAP_SHARED, launch.descriptors.at(0).first, 0));
  table->firing_count = 1;
  table->firings[0].pid = 77;
  table->firings[0].signal = SIGABRT;
  table->firings[0].signal_sender = sender;
  table->firings[0].hit = 1;
  table->firings[0].time_ns = 5;
  InjectionEvidence evidence;
  if (reported) evidence.ends.push_back({77, WaitStatus::from_raw(raw_status), 9});
  injection->finish(evidence);
  ::munmap(table, sizeof(point::Table));
  return log.result()["outcome"];
}

TEST_F(Injections, AnAbortNeedsItsOwnSiginfoAndItsWaitStatus) {
  EXPECT_EQ(outcome_of_firing(77, SIGABRT, true), "confirmed");
  EXPECT_EQ(outcome_of_firing(1, SIGABRT, true), "indeterminate")
      << "a SIGABRT that somebody else sent";
  EXPECT_EQ(outcome_of_firing(77, SIGKILL, true), "indeterminate") << "it died of something else";
  EXPECT_EQ(outcome_of_firing(77, SIGABRT, false), "indeterminate") << "nobody saw its end";
}

TEST(WorkerTracker, FollowsIncarnationsAndWhatTheyHold) {
  WorkerTracker tracker;
  ProbeRecord ready;
  ready.worker = 1;
  ready.incarnation = 1;
  ready.pid = 10;
  ready.event = static_cast<std::uint16_t>(ProbeEvent::kWorkerReady);
  ProbeRecord started = ready;
  started.event = static_cast<std::uint16_t>(ProbeEvent::kStarted);
  started.item = 3;
  ProbeRecord died = ready;
  died.event = static_cast<std::uint16_t>(ProbeEvent::kWorkerDied);
  tracker.add(std::vector{ready, started});
  ASSERT_EQ(tracker.alive().size(), 1u);
  EXPECT_EQ(tracker.alive()[0].holds->item, 3u);
  tracker.add(std::vector{died});
  EXPECT_TRUE(tracker.alive().empty());
  EXPECT_EQ(tracker.by_pid(10)->holds->item, 3u) << "what a dead worker held stays known";
  ready.incarnation = 2;
  ready.pid = 11;
  tracker.add(std::vector{ready, died});
  ASSERT_EQ(tracker.alive().size(), 1u)
      << "a late report of the first life does not kill the second";
  EXPECT_EQ(tracker.alive()[0].pid, 11);
}

}  // namespace
}  // namespace crashworthy

// Every fault at a point, in a process that really passes it: armed it has exactly its effect and
// proves it; disarmed, not passed, or with another effect than its own, nothing is confirmed.
#define CRASHWORTHY_FAULT_POINTS
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <thread>

#include "faults/executed_subject_test_util.h"
#include "faults/injection_set.h"
#include "faults/point/point.h"

namespace crashworthy {
namespace {

using ::testing::HasSubstr;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// ---- Not tests of their own: the bodies of the subjects. ----

TEST(PointSubject, Passes) {
  if (!is_subject()) return;
  for (int i = 0; i < 4; ++i) CRASHWORTHY_FAULT_POINT("test.here");
  ::_exit(3);
}

TEST(PointSubject, PassesUntilItIsKilled) {
  while (is_subject()) {
    CRASHWORTHY_FAULT_POINT("test.here");
    ::usleep(1000);
  }
}

TEST(PointSubject, PassesInAThread) {
  if (!is_subject()) return;
  std::thread([] { CRASHWORTHY_FAULT_POINT("test.here"); }).join();
  ::_exit(3);
}

TEST(PointSubject, Catches) {
  if (!is_subject()) return;
  try {
    CRASHWORTHY_FAULT_POINT("test.here");
  } catch (const std::exception&) {
  }
  ::_exit(4);
}

TEST(PointSubject, ExitsWhileItHandles) {
  if (!is_subject()) return;
  try {
    CRASHWORTHY_FAULT_POINT("test.here");
  } catch (const std::exception&) {
    ::_exit(5);
  }
}

TEST(PointSubject, HasAHandlerThatExits) {
  if (!is_subject()) return;
  ::signal(SIGSEGV, [](int) { ::_exit(9); });
  CRASHWORTHY_FAULT_POINT("test.here");
}

TEST(PointSubject, HasItems) {
  if (!is_subject()) return;
  for (std::uint64_t item = 0; item < 5; ++item) CRASHWORTHY_FAULT_POINT_ITEM("test.here", item);
  ::_exit(3);
}

TEST(PointSubject, HasABuffer) {
  if (!is_subject()) return;
  unsigned char buffer[64] = {};
  CRASHWORTHY_FAULT_BUFFER("test.here", buffer, sizeof buffer);
  int bits = 0;
  for (const unsigned char byte : buffer) bits += __builtin_popcount(byte);
  ::_exit(bits);
}

// ---- The tests ----

class PointFaults : public ExecutedSubjects {
 protected:
  // Plans the fault, runs the subject to its end, or so long if it has none, and gives the result.
  json run(const std::string& fault, const std::string& subject, bool disarmed = false) {
    injections_.add(plan(fault, disarmed));
    return run_planned(subject);
  }
  json run_planned(const std::string& subject) {
    execute(injections_, "PointSubject." + subject);
    return log_.result();
  }
  InjectionSet injections_;
};

struct Crash {
  const char* fault;
  int signal;
  int code;
};
void PrintTo(const Crash& crash, std::ostream* out) { *out << crash.fault; }
class PointCrashes : public PointFaults, public ::testing::WithParamInterface<Crash> {
 protected:
  void SetUp() override {
    PointFaults::SetUp();
    const std::string fault = GetParam().fault;
    if (kSanitized && (fault == "native.heap_corrupt" || fault == "native.stack_overflow"))
      GTEST_SKIP() << "the sanitizer has a heap and a stack of its own";
  }
};

TEST_P(PointCrashes, AreConfirmedByTheVictimsOwnSignal) {
  const Crash& crash = GetParam();
  const json result =
      run(std::string(R"({"fault": ")") + crash.fault + R"(@test.here", "when": {"hit": 3}})",
          "Passes");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  ASSERT_TRUE(end_.signalled()) << end_.describe();
  EXPECT_EQ(end_.signal(), crash.signal);
  const json evidence = log_.step("evidence");
  EXPECT_EQ(evidence["hit"], 3);
  EXPECT_EQ(evidence["siginfo"]["signal"], crash.signal) << evidence.dump();
  EXPECT_EQ(evidence["siginfo"]["code"], crash.code) << evidence.dump();
  EXPECT_EQ(result["activated_ns"], evidence["hit_ns"]);
}

TEST_P(PointCrashes, DoNothingDisarmed) {
  const json result =
      run(std::string(R"({"fault": ")") + GetParam().fault + R"(@test.here"})", "Passes", true);
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_EQ(result["reason"], "disarmed");
  EXPECT_EQ(end_.describe(), WaitStatus::from_raw(3 << 8).describe());
}

INSTANTIATE_TEST_SUITE_P(All, PointCrashes,
                         ::testing::Values(Crash{"native.abort", SIGABRT, SI_TKILL},
                                           Crash{"native.segv", SIGSEGV, SEGV_MAPERR},
                                           Crash{"native.bus", SIGBUS, BUS_ADRERR},
                                           Crash{"native.fpe", SIGFPE, FPE_INTDIV},
                                           Crash{"native.ill", SIGILL, ILL_ILLOPN},
                                           Crash{"native.stack_overflow", SIGSEGV, SEGV_MAPERR},
                                           Crash{"native.heap_corrupt", SIGABRT, SI_TKILL},
                                           Crash{"native.throw", SIGABRT, SI_TKILL}));

TEST_F(PointFaults, AStackOverflowOfAThreadHitsItsGuardPage) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer has a stack of its own";
  const json result = run(R"({"fault": "native.stack_overflow@test.here"})", "PassesInAThread");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(log_.step("evidence")["siginfo"]["code"], SEGV_ACCERR);
}

TEST_F(PointFaults, ACrashThatTheProgramHandlesIsNotTheDeathItWasToBe) {
  const json result = run(R"({"fault": "native.segv@test.here"})", "HasAHandlerThatExits");
  EXPECT_EQ(result["outcome"], "indeterminate") << result.dump();
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("exit"));
}

TEST_F(PointFaults, AHitThatNeverComesFiresNothing) {
  const json result = run(R"({"fault": "native.segv@test.here", "when": {"hit": 5}})", "Passes");
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 4 times, hit 5"));
}

TEST_F(PointFaults, AnExceptionThatIsCaughtIsConfirmed) {
  const json result = run(R"({"fault": "native.throw@test.here"})", "Catches");
  EXPECT_EQ(result["outcome"], "confirmed");
  EXPECT_EQ(result["reason"], "the exception was caught");
  EXPECT_EQ(end_.exit_code(), 4);
  EXPECT_EQ(log_.step("evidence")["exception"], "std::runtime_error");
  EXPECT_GT(log_.step("evidence")["caught_ns"], 0);
}

TEST_F(PointFaults, AnExceptionInWhoseHandlerTheProcessExitsIsConfirmed) {
  const json result = run(R"({"fault": "native.throw@test.here"})", "ExitsWhileItHandles");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(end_.exit_code(), 5);
  EXPECT_EQ(log_.step("evidence")["caught_ns"], 0);
}

TEST_F(PointFaults, ADeadlockIsSeenWaiting) {
  const json result =
      run(R"({"fault": "native.deadlock@test.here", "when": {"hit": 2}})", "PassesUntilItIsKilled");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(log_.step("evidence")["thread"]["state"], "S");
  EXPECT_EQ(log_.step("evidence")["thread"]["cpu_ns"], 0);
}

TEST_F(PointFaults, ASpinIsSeenUsingTheProcessor) {
  const json result = run(R"({"fault": "native.spin@test.here"})", "PassesUntilItIsKilled");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(log_.step("evidence")["thread"]["state"], "R");
  EXPECT_GE(log_.step("evidence")["thread"]["cpu_ns"], 20'000'000);
}

TEST_F(PointFaults, AHangThatNobodySawIsNotConfirmed) {
  injections_.add(plan(R"({"fault": "native.deadlock@test.here"})"));
  hurry_ = true;  // It is killed before it could be looked at twice.
  const json result = run_planned("PassesUntilItIsKilled");
  EXPECT_EQ(result["outcome"], "indeterminate") << result.dump();
}

TEST_F(PointFaults, WhatIsSlowGoesOn) {
  const json result =
      run(R"({"fault": "native.slow@test.here", "set": {"delay": "80ms"}})", "Passes");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(end_.exit_code(), 3);
  const json evidence = log_.step("evidence");
  EXPECT_GE(evidence["left_ns"].get<std::int64_t>() - evidence["hit_ns"].get<std::int64_t>(),
            80'000'000);
}

TEST_F(PointFaults, WhatIsKilledWhileItIsDelayedDidNotGoOn) {
  const json result =
      run(R"({"fault": "native.slow@test.here", "set": {"delay": "1h"}})", "Passes");
  EXPECT_EQ(result["outcome"], "indeterminate");
}

TEST_F(PointFaults, AnEarlyExitHasItsCode) {
  const json result =
      run(R"({"fault": "process.exit_early@test.here", "set": {"code": 42}})", "Passes");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(end_.exit_code(), 42);
}

TEST_F(PointFaults, ABitOfABufferIsFlipped) {
  const json result = run(R"({"fault": "native.bitflip@test.here"})", "HasABuffer");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(end_.exit_code(), 1) << "so many bits have changed";
  const json evidence = log_.step("evidence");
  EXPECT_EQ(evidence["before"], 0);
  EXPECT_EQ(evidence["after"], 1 << evidence["bit"].get<int>());
}

TEST_F(PointFaults, NothingIsFlippedWhereThereIsNoBuffer) {
  const json result = run(R"({"fault": "native.bitflip@test.here"})", "Passes");
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("has no buffer"));
}

TEST_F(PointFaults, APoisonedItemIsNamed) {
  const json result =
      run(R"({"fault": "native.poison@test.here", "set": {"item": 3}})", "HasItems");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(result["reason"], "item 3 ended 1 attempt");
  EXPECT_EQ(log_.step("evidence")["hit"], 4);
}

TEST_F(PointFaults, AnItemThatNeverComesPoisonsNobody) {
  const json result =
      run(R"({"fault": "native.poison@test.here", "set": {"item": 8}})", "HasItems");
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("never with item 8"));
  EXPECT_EQ(end_.exit_code(), 3);
}

TEST_F(PointFaults, CountFromWhenTheirConditionHolds) {
  const json result =
      run(R"({"fault": "native.abort@test.here", "when": {"after": "50ms", "hit": 2}})",
          "PassesUntilItIsKilled");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(log_.step("evidence")["hit"], 2);
  EXPECT_GE(result["activated_ns"].get<std::int64_t>() - launched_ns_, 50'000'000);
}

TEST_F(PointFaults, OfATrialShareOneTable) {
  injections_.add(plan(R"({"fault": "native.slow@test.here", "set": {"delay": "1ms"}})"));
  injections_.add(plan(R"({"fault": "native.abort@test.here", "when": {"hit": 4}})"));
  injections_.add(plan(R"({"fault": "native.segv@test.elsewhere"})"));
  run_planned("Passes");
  EXPECT_EQ(launch_.descriptors.size(), 2u) << "one table and one event for all";
  std::vector<std::string> outcomes;
  for (const json& step : log_.steps) {
    if (step["type"] == "injection_result") outcomes.push_back(step["outcome"]);
  }
  EXPECT_EQ(outcomes, (std::vector<std::string>{"confirmed", "confirmed", "not_activated"}));
  EXPECT_EQ(end_.signal(), SIGABRT);
}

TEST_F(PointFaults, HappenByTheChanceOfTheSeed) {
  std::set<int> hits;
  for (const std::uint64_t seed : {1, 1, 2, 3, 4, 5}) {
    InjectionSet injections;
    launch_ = {};
    log_ = {};
    injections.add(
        plan(R"({"fault": "native.abort@test.here", "when": {"probability": 0.02}})", false, seed));
    execute(injections, "PointSubject.PassesUntilItIsKilled");
    EXPECT_EQ(log_.result()["outcome"], "confirmed") << log_.result().dump();
    hits.insert(log_.step("evidence")["hit"].get<int>());
    if (seed == 1) {
      EXPECT_EQ(hits.size(), 1u) << "the same hit for the same seed";
    }
  }
  EXPECT_GT(hits.size(), 2u);
}

}  // namespace
}  // namespace crashworthy

// Injections that take turns, as in a repetition; and what is done when nobody judges them.
#include "faults/injection_set.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "faults/injection_test_util.h"

namespace crashworthy {
namespace {

int sleep_for_ever(const Probe&) {
  while (true) ::pause();
}

// Fires whenever it may, and says so.
class Telling : public Injection {
 public:
  Telling(InjectionSetup setup, std::string& told) : Injection(std::move(setup)), told_(told) {}

 protected:
  bool fire(SubjectView&) override {
    told_ += fault_.name;
    return true;
  }
  Outcome confirm(const InjectionEvidence&) override { return confirmed(1); }
  std::string heal() override {
    told_ += "!";
    return "healed";
  }

 private:
  std::string& told_;
};

class Turns : public ::testing::Test {
 protected:
  void add(const std::string& name, int times) {
    FaultSpec fault = fault_of(R"({"fault": "process.kill", "name": ")" + name +
                               R"(", "when": {"after": "0ms", "repeat": {"times": )" +
                               std::to_string(times) + R"(, "gap": "0ms"}}})");
    const Trigger trigger = resolve(fault.trigger, fault.trigger_kind(), 1, 0);
    set_.add(
        std::make_unique<Telling>(InjectionSetup{fault, trigger, 1, false, log_.sink()}, told_));
  }
  // Until nothing more happens.
  std::string tell() {
    ProbeRing ring = *ProbeRing::create(1 << 10);
    FakeSubject subject(ring, sleep_for_ever);
    EXPECT_TRUE(set_.arm(launch_));
    set_.launched(subject, ring);
    for (int i = 0; i < 5; ++i) set_.look(subject, ring);
    return told_;
  }
  InjectionSet set_;
  LaunchPlan launch_;
  Log log_;
  std::string told_;
};

TEST_F(Turns, WithoutAnOrderEachFiresAsItsMomentComes) {
  add("a", 2);
  add("b", 2);
  EXPECT_EQ(tell(), "abab");
}

TEST_F(Turns, InAnOrderOneWaitsForTheOther) {
  add("a", 2);
  add("b", 2);
  set_.set_order({1, 0, 1, 0});
  EXPECT_EQ(tell(), "baba");
}

TEST_F(Turns, OneThatComesNoMoreInTheOrderIsFree) {
  add("a", 1);
  add("b", 2);
  set_.set_order({1, 0});
  EXPECT_EQ(tell(), "bab");
}

TEST_F(Turns, WhatNobodyJudgesIsHealedOnce) {
  add("a", 1);
  EXPECT_EQ(tell(), "a");
  set_.abandon();
  set_.abandon();
  EXPECT_EQ(told_, "a!");
  EXPECT_EQ(log_.step("heal")["done"], "healed");
  EXPECT_TRUE(log_.step("confirm").is_null());
}

}  // namespace
}  // namespace crashworthy

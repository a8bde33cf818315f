// The ledger accepts each job once and only from its holder, and convicts by what it is told alone.
#include "harness/worker/ledger.h"

#include <gtest/gtest.h>

namespace crashworthy {
namespace {

constexpr Holder kFirst{0, 1, 5};
constexpr Holder kSecond{1, 2, 0};

Job a_job() { return Job{7, 1, "arguments", 0, {}}; }

TEST(Ledger, AcceptsTheHoldersResultOnce) {
  Ledger ledger;
  const auto ticket = ledger.add(a_job());
  ledger.lend(ticket, kFirst);
  auto closed = ledger.accept(ticket, kFirst, {"output", {}, {}, 0}, {}, 1);
  ASSERT_TRUE(closed.has_value());
  EXPECT_EQ(closed->result.outcome, JobOutcome::kDone);
  EXPECT_EQ(closed->result.output.bytes, "output");
  EXPECT_EQ(closed->result.job.arguments, "arguments");
  EXPECT_EQ(closed->result.attempts, 1u);
  EXPECT_EQ(closed->serial, 0u);
  EXPECT_FALSE(ledger.accept(ticket, kFirst, {"again", {}, {}, 0}, {}, 1).has_value());
  EXPECT_EQ(ledger.open(), 0u);
}

TEST(Ledger, RefusesWhoeverIsNotTheHolder) {
  Ledger ledger;
  const auto ticket = ledger.add(a_job());
  EXPECT_FALSE(ledger.accept(ticket, kFirst, {"never lent", {}, {}, 0}, {}, 1).has_value());
  EXPECT_FALSE(ledger.accept(ticket + 1, kFirst, {"no such job", {}, {}, 0}, {}, 1).has_value());
  ledger.lend(ticket, kFirst);
  for (const Holder& other : {kSecond, Holder{0, 2, 5}, Holder{0, 1, 6}, Holder{1, 1, 5}}) {
    EXPECT_FALSE(ledger.accept(ticket, other, {"forged", {}, {}, 0}, {}, 1).has_value());
  }
  EXPECT_EQ(ledger.open(), 1u);
  ledger.take_back(ticket, true);
  ledger.lend(ticket, kSecond);
  EXPECT_FALSE(ledger.accept(ticket, kFirst, {"late", {}, {}, 0}, {}, 1).has_value());
  EXPECT_TRUE(ledger.accept(ticket, kSecond, {"right", {}, {}, 0}, {}, 2).has_value());
}

TEST(Ledger, CountsExecutionsThatHadBegun) {
  Ledger ledger;
  const auto ticket = ledger.add(a_job());
  ledger.lend(ticket, kFirst);
  ledger.take_back(ticket, false);
  EXPECT_EQ(ledger.executions(ticket), 0u);
  ledger.lend(ticket, kFirst);
  ledger.take_back(ticket, true);
  EXPECT_EQ(ledger.executions(ticket), 1u);
  EXPECT_EQ(ledger.close(ticket, JobOutcome::kLost, {}).result.attempts, 1u);
}

TEST(Ledger, ConvictsAtTheLastDeathIfOneWasAlone) {
  Ledger ledger;
  const auto ticket = ledger.add(a_job());
  EXPECT_FALSE(ledger.alone(ticket));
  ledger.charge(ticket, false);
  EXPECT_FALSE(ledger.convicted(ticket, 2));
  EXPECT_TRUE(ledger.alone(ticket));
  ledger.charge(ticket, false);
  EXPECT_FALSE(ledger.convicted(ticket, 2)) << "none of them was alone";
  ledger.charge(ticket, true);
  EXPECT_TRUE(ledger.convicted(ticket, 2));
}

// A spare dies of what it took over before anybody knows that its predecessor died of it.
TEST(Ledger, TheOrderInWhichDeathsBecomeKnownDoesNotMatter) {
  Ledger ledger;
  const auto ticket = ledger.add(a_job());
  ledger.charge(ticket, true);
  EXPECT_FALSE(ledger.convicted(ticket, 2));
  ledger.charge(ticket, false);
  EXPECT_TRUE(ledger.convicted(ticket, 2));
}

TEST(Ledger, UsesTicketsAnewButNotTheirPast) {
  Ledger ledger;
  const auto first = ledger.add(a_job());
  ledger.lend(first, kFirst);
  ledger.take_back(first, true);
  ledger.charge(first, true);
  ledger.close(first, JobOutcome::kPoisoned, {});
  const auto second = ledger.add(a_job());
  EXPECT_EQ(second, first);
  EXPECT_EQ(ledger.executions(second), 0u);
  EXPECT_FALSE(ledger.alone(second));
  ledger.charge(second, true);
  EXPECT_FALSE(ledger.convicted(second, 2));
  EXPECT_FALSE(ledger.accept(second, kFirst, {"of the first one", {}, {}, 0}, {}, 1).has_value());
  EXPECT_EQ(ledger.close(second, JobOutcome::kLost, {}).serial, 1u);
}

TEST(LedgerDeathTest, UsingAClosedJobIsABug) {
  Ledger ledger;
  const auto ticket = ledger.add(a_job());
  ledger.lend(ticket, kFirst);
  EXPECT_DEATH(ledger.lend(ticket, kSecond), "bug");
  EXPECT_DEATH(ledger.close(ticket, JobOutcome::kLost, {}), "bug") << "somebody holds it";
  ledger.take_back(ticket, false);
  EXPECT_DEATH(ledger.take_back(ticket, false), "bug");
  ledger.close(ticket, JobOutcome::kLost, {});
  EXPECT_DEATH(ledger.lend(ticket, kFirst), "bug");
}

}  // namespace
}  // namespace crashworthy

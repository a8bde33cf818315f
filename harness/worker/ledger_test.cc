// The parts of the pool that decide: the ledger accepts each job once and only from its holder, the
// death budget counts exactly, the lease tells what was begun.
#include "harness/worker/ledger.h"

#include <gtest/gtest.h>

#include "harness/worker/lease.h"

namespace crashworthy {
namespace {

constexpr JobKey kKey{7, 1};
constexpr Holder kFirst{0, 1};
constexpr Holder kSecond{0, 2};

Job a_job() { return Job{kKey.item, kKey.part, "arguments"}; }

TEST(Ledger, AcceptsTheHoldersResultOnce) {
  Ledger ledger;
  ledger.add(a_job());
  EXPECT_EQ(ledger.lend(kKey, kFirst).attempt, 1u);
  auto result = ledger.accept(kKey, kFirst, {"output", {}, {}});
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->outcome, JobOutcome::kDone);
  EXPECT_EQ(result->output.bytes, "output");
  EXPECT_EQ(result->job.arguments, "arguments");
  EXPECT_EQ(result->attempts, 1u);
  EXPECT_FALSE(ledger.accept(kKey, kFirst, {"again", {}, {}}).has_value());
  EXPECT_EQ(ledger.open(), 0u);
}

TEST(Ledger, RefusesTheLateResultOfARetiredIncarnation) {
  Ledger ledger;
  ledger.add(a_job());
  ledger.lend(kKey, kFirst);
  ledger.take_back(kKey, true);
  EXPECT_FALSE(ledger.accept(kKey, kFirst, {"nobody holds it", {}, {}}).has_value());
  EXPECT_EQ(ledger.lend(kKey, kSecond).attempt, 2u);
  EXPECT_FALSE(ledger.accept(kKey, kFirst, {"late", {}, {}}).has_value());
  EXPECT_FALSE(ledger.accept(kKey, {1, 2}, {"another place", {}, {}}).has_value());
  EXPECT_FALSE(ledger.accept({7, 2}, kSecond, {"another part", {}, {}}).has_value());
  EXPECT_EQ(ledger.open(), 1u);
  auto result = ledger.accept(kKey, kSecond, {"right", {}, {}});
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->output.bytes, "right");
  EXPECT_EQ(result->attempts, 2u);
}

TEST(Ledger, AJobThatNeverBeganIsStillAtItsFirstAttempt) {
  Ledger ledger;
  ledger.add(a_job());
  ledger.lend(kKey, kFirst);
  ledger.take_back(kKey, false);
  EXPECT_EQ(ledger.lend(kKey, kSecond).attempt, 1u);
}

TEST(Ledger, ConvictsAtTheLastDeathAndOnlyAlone) {
  Ledger ledger;
  ledger.add(a_job());
  EXPECT_FALSE(ledger.alone(kKey));
  EXPECT_EQ(ledger.charge(kKey, 3), Ledger::Verdict::kRetryAlone);
  EXPECT_TRUE(ledger.alone(kKey));
  EXPECT_EQ(ledger.charge(kKey, 3), Ledger::Verdict::kRetryAlone);
  EXPECT_EQ(ledger.charge(kKey, 3), Ledger::Verdict::kConvicted);
  ledger.add({8, 0, {}});  // Even a limit of one does not convict what was not alone.
  EXPECT_EQ(ledger.charge({8, 0}, 1), Ledger::Verdict::kRetryAlone);
  EXPECT_EQ(ledger.charge({8, 0}, 1), Ledger::Verdict::kConvicted);
}

TEST(Ledger, AFailureOfTheItemIsAResult) {
  Ledger ledger;
  ledger.add(a_job());
  ledger.lend(kKey, kFirst);
  const auto result = ledger.accept(kKey, kFirst, {{}, FailureReason::kUnreadable, "torn"});
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->outcome, JobOutcome::kFailed);
  EXPECT_EQ(result->output.message, "torn");
}

TEST(LedgerDeathTest, OneJobOfANameAtATime) {
  Ledger ledger;
  ledger.add(a_job());
  EXPECT_DEATH(ledger.add(a_job()), "bug");
  ledger.lend(kKey, kFirst);
  EXPECT_DEATH(ledger.lend(kKey, kSecond), "bug");
  EXPECT_DEATH(ledger.close(kKey, JobOutcome::kLost, {}), "bug");
}

TEST(Lease, TellsWhatWasBegunAndWhatIsExecuting) {
  Lease lease;
  EXPECT_FALSE(lease.read().begun);
  lease.begin(kKey, 3, 2, 99);
  LeaseView view = lease.read();
  EXPECT_TRUE(view.begun);
  EXPECT_TRUE(view.executing);
  EXPECT_EQ(view.key, kKey);
  EXPECT_EQ(view.incarnation, 3u);
  EXPECT_EQ(view.attempt, 2u);
  EXPECT_EQ(view.started_ns, 99);
  lease.finish();
  view = lease.read();
  EXPECT_TRUE(view.begun);
  EXPECT_FALSE(view.executing);
  EXPECT_EQ(view.key, kKey);
}

}  // namespace
}  // namespace crashworthy

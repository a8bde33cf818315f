// Rates around a fault, on outputs whose rate is known.
#include "results/report/curves.h"

#include <gtest/gtest.h>

#include <cmath>

#include "results/report/synthetic_run.h"

namespace crashworthy::report {
namespace {

// 100 items/s from -1 s to 2 s, with nothing in (0, `gap`].
std::vector<double> outputs_with_gap(double gap) {
  std::vector<double> out;
  for (int i = -100; i <= 200; ++i) {
    const double time = i / 100.0;
    if (time <= 0 || time > gap) out.push_back(time);
  }
  return out;
}

TEST(RateAt, IsTheRateInTheMiddleAndAtTheEnds) {
  const std::vector<double> outputs = outputs_with_gap(0);
  for (const double time : {-0.9, -0.5, -0.01, 0.05, 0.5, 1.0, 1.9}) {
    EXPECT_NEAR(rate_at(outputs, time, -1, 2, 0.2), 100, 6) << time;
  }
}

TEST(RateAt, DoesNotReachAcrossTheFault) {
  const std::vector<double> outputs = outputs_with_gap(0.5);
  EXPECT_NEAR(rate_at(outputs, -0.01, -1, 2, 0.2), 100, 6);
  EXPECT_NEAR(rate_at(outputs, 0.1, -1, 2, 0.2), 0, 8);
  EXPECT_EQ(rate_at(outputs, 0.25, -1, 2, 0.2), 0);
}

TEST(RateAt, IsNothingOutsideTheTrial) {
  EXPECT_TRUE(std::isnan(rate_at({0.5}, 2.1, -1, 2, 0.2)));
  EXPECT_TRUE(std::isnan(rate_at({0.5}, -1.1, -1, 2, 0.2)));
}

const ArmCurves* find_arm(const FaultCurves& fault, const std::string& arm) {
  for (const ArmCurves& curves : fault.arms) {
    if (curves.arm == arm) return &curves;
  }
  return nullptr;
}

TEST(AlignAtFault, ShowsWhoComesBackAndWhoDoesNot) {
  const auto run = synthetic_run();
  const std::vector<FaultCurves> faults = align_at_fault(run.summary, run.trials);
  ASSERT_EQ(faults.size(), 3u);
  for (const FaultCurves& fault : faults) {
    const ArmCurves* bare = find_arm(fault, "bare");
    const ArmCurves* supervised = find_arm(fault, "supervised");
    ASSERT_TRUE(bare != nullptr && supervised != nullptr);
    EXPECT_NEAR(bare->level, 250, 25);
    EXPECT_FALSE(bare->back) << fault.fault;
    EXPECT_TRUE(supervised->back) << fault.fault;
    EXPECT_GT(bare->lost_last - bare->lost_first, supervised->lost_last - supervised->lost_first);
  }
  EXPECT_EQ(find_arm(faults[1], "processes")->trials, 9u) << "one abort was not activated";
}

TEST(AlignAtFault, DrawsABoundedNumberOfTrials) {
  const auto run = synthetic_run({42, 40, 1, false});
  const auto faults = align_at_fault(run.summary, run.trials);
  ASSERT_FALSE(faults.empty());
  EXPECT_EQ(faults[0].arms[0].trials, 40u);
  EXPECT_EQ(faults[0].arms[0].shown.size(), kShownTrials);
}

TEST(AlignAtFault, WithoutTwinsThereIsNoLevelAndNoArea) {
  auto run = synthetic_run();
  std::erase_if(run.trials, [](const TrialResult& trial) { return trial.fault == "none"; });
  const auto faults = align_at_fault(run.summary, run.trials);
  ASSERT_FALSE(faults.empty());
  for (const ArmCurves& arm : faults[0].arms) {
    EXPECT_EQ(arm.level, 0);
    EXPECT_EQ(arm.lost_first, arm.lost_last);
  }
}

}  // namespace
}  // namespace crashworthy::report

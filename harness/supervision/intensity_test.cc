// The window of restarts is exactly (t - period, t], and what is left follows it.
#include "harness/supervision/intensity.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "harness/os/random.h"

namespace crashworthy {
namespace {

TEST(RestartIntensity, AllowsExactlySoMany) {
  for (const int intensity : {0, 1, 2, 7}) {
    RestartIntensity restarts(intensity, 1000);
    for (int i = 0; i < intensity; ++i) {
      EXPECT_EQ(restarts.left(5000), intensity - i);
      EXPECT_TRUE(restarts.spend(5000)) << intensity;
    }
    EXPECT_EQ(restarts.left(5000), 0);
    EXPECT_FALSE(restarts.spend(5000)) << intensity;
    EXPECT_EQ(restarts.left(5000), 0);
  }
}

TEST(RestartIntensity, RestartIsForgottenExactlyOnePeriodLater) {
  RestartIntensity before(1, 1000);
  EXPECT_TRUE(before.spend(5000));
  EXPECT_EQ(before.left(5999), 0);
  EXPECT_FALSE(before.spend(5999));

  RestartIntensity at(1, 1000);
  EXPECT_TRUE(at.spend(5000));
  EXPECT_EQ(at.left(6000), 1);
  EXPECT_TRUE(at.spend(6000));
  EXPECT_EQ(at.left(6999), 0);
  EXPECT_EQ(at.left(7000), 1);
}

TEST(RestartIntensity, PeriodOfOneNanosecondRemembersOnlyNow) {
  RestartIntensity restarts(1, 1);
  EXPECT_TRUE(restarts.spend(10));
  EXPECT_TRUE(restarts.spend(11));
  EXPECT_FALSE(restarts.spend(11));
}

TEST(RestartIntensity, AskingDoesNotCount) {
  RestartIntensity restarts(2, 1000);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(restarts.left(0), 2);
  EXPECT_TRUE(restarts.spend(0));
  EXPECT_TRUE(restarts.spend(0));
}

TEST(RestartIntensity, LongPeriodsAndEarlyTimesDoNotOverflow) {
  RestartIntensity restarts(1, std::numeric_limits<std::int64_t>::max());
  EXPECT_TRUE(restarts.spend(0));
  EXPECT_FALSE(restarts.spend(std::numeric_limits<std::int64_t>::max() - 1));
}

// Against the definition, over random times: how many of all restarts lie in (t - period, t]?
TEST(RestartIntensity, AgreesWithTheDefinition) {
  Random random(2);
  for (int round = 0; round < 300; ++round) {
    const int intensity = static_cast<int>(random.below(6));
    const auto period = static_cast<std::int64_t>(1 + random.below(50));
    RestartIntensity restarts(intensity, period);
    std::vector<std::int64_t> all;
    std::int64_t now = 0;
    for (bool allowed = true; allowed && all.size() < 200;) {
      now += static_cast<std::int64_t>(random.below(20));
      all.push_back(now);
      int within = 0;
      for (const std::int64_t time : all) within += time > now - period ? 1 : 0;
      allowed = restarts.spend(now);
      ASSERT_EQ(allowed, within <= intensity) << "round " << round << ", at " << now;
    }
  }
}

}  // namespace
}  // namespace crashworthy

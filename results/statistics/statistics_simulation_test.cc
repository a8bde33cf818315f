// What the intervals promise, tried on thousands of simulated experiments from fixed seeds:
// coverage, power, and a gate that finds a planted +25% and leaves a null alone.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "harness/os/random.h"
#include "results/statistics/statistics.h"

namespace crashworthy::statistics {
namespace {

constexpr int kRepetitions = 2000;

// Box and Muller (1958).
double normal(Random& random) {
  constexpr double kTwoPi = 6.283185307179586;
  const double radius = std::sqrt(-2 * std::log(1 - random.unit()));
  return radius * std::cos(kTwoPi * random.unit());
}

struct Arms {
  std::vector<double> baseline;
  std::vector<double> contender;
};

// Blocks as on a shared machine: each has its own large common slowdown, each arm noise of
// standard deviation `noise` (of the logarithm), the contender a factor `ratio`.
Arms blocks(Random& random, std::size_t n, double ratio, double noise) {
  Arms arms;
  for (std::size_t i = 0; i < n; ++i) {
    const double slowdown = normal(random);
    arms.baseline.push_back(50 * std::exp(slowdown + noise * normal(random)));
    arms.contender.push_back(50 * ratio * std::exp(slowdown + noise * normal(random)));
  }
  return arms;
}

std::vector<double> lognormals(Random& random, std::size_t n, double centre, double deviation) {
  std::vector<double> values(n);
  for (double& value : values) value = centre * std::exp(deviation * normal(random));
  return values;
}

double share(std::uint64_t seed, const std::function<bool(Random&)>& holds) {
  Random random(seed);
  int held = 0;
  for (int i = 0; i < kRepetitions; ++i) held += holds(random);
  return static_cast<double>(held) / kRepetitions;
}

bool covers(const Interval& interval, double truth) {
  return interval.low <= truth && truth <= interval.high;
}

TEST(Coverage, OfThePairedRatioIsWhatItSays) {
  const double held = share(11, [](Random& random) {
    const Arms arms = blocks(random, 10, 1.3, 0.4);
    return covers(*paired_log_ratio(arms.baseline, arms.contender)->ratio.interval, 1.3);
  });
  EXPECT_GE(held, 0.93);
  EXPECT_LE(held, 0.98);
}

TEST(Coverage, OfThePairedRatioHoldsAboveTheExactLimit) {
  const double held = share(12, [](Random& random) {
    const Arms arms = blocks(random, 120, 1.3, 0.4);
    return covers(*paired_log_ratio(arms.baseline, arms.contender)->ratio.interval, 1.3);
  });
  EXPECT_NEAR(held, 0.95, 0.015);
}

TEST(Coverage, OfTheUnpairedRatioIsWhatItSays) {
  const double held = share(13, [](Random& random) {
    const auto baseline = lognormals(random, 9, 50, 0.6);
    const auto contender = lognormals(random, 12, 65, 0.6);
    return covers(*unpaired_log_ratio(baseline, contender)->ratio.interval, 1.3);
  });
  EXPECT_GE(held, 0.93);
  EXPECT_LE(held, 0.98);
}

TEST(Coverage, OfTheMedianIsAtLeastNominal) {
  for (const std::size_t n : {6, 10, 25}) {
    double promised = 0;
    const double held = share(14, [&](Random& random) {
      const auto estimate = median_estimate(lognormals(random, n, 50, 1.0));
      promised = estimate->interval->coverage;
      return covers(*estimate->interval, 50);
    });
    EXPECT_GE(promised, 0.95);
    EXPECT_GE(held, 0.95) << n;
    EXPECT_NEAR(held, promised, 0.012) << n;
  }
}

// A tenth never recovers. The median of all is then the 5/9 quantile of those that do, and is
// covered all the same.
TEST(Coverage, OfTheMedianHoldsWithCensoring) {
  const double shifted = 50 * std::exp(0.1397102989);  // The normal quantile of 5/9.
  const double held = share(15, [&](Random& random) {
    auto samples = lognormals(random, 15, 50, 1.0);
    for (double& sample : samples) {
      if (random.unit() < 0.1) sample = kCensored;
    }
    return covers(*median_estimate(samples)->interval, shifted);
  });
  EXPECT_GE(held, 0.95);
}

TEST(Coverage, OfTheP90BoundIsAtLeastNominal) {
  const double p90 = 50 * std::exp(1.2815515655);
  const double held = share(16, [&](Random& random) {
    const auto estimate = quantile_upper_bound(lognormals(random, 50, 50, 1.0), 0.9);
    return covers(*estimate->interval, p90);
  });
  EXPECT_GE(held, 0.95);
}

// With a tied, rounded clock the closed interval covers more, never less.
TEST(Coverage, SurvivesTies) {
  const double held = share(17, [](Random& random) {
    std::vector<double> differences(12);
    for (double& d : differences) d = std::round(2 * normal(random));
    return covers(*hodges_lehmann(differences)->interval, 0);
  });
  EXPECT_GE(held, 0.95);
}

TEST(Power, AtTheMinimumDetectableEffectIsAboutFourFifths) {
  constexpr double kNoise = 0.1;
  for (const std::size_t n : {10, 20, 40}) {
    const double effect = paired_minimum_detectable_effect(kNoise * std::sqrt(2.0), n);
    const double found = share(18, [&](Random& random) {
      const Arms arms = blocks(random, n, 1 + effect, kNoise);
      return paired_log_ratio(arms.baseline, arms.contender)->ratio.interval->low > 1;
    });
    EXPECT_NEAR(found, 0.80, 0.03) << n;
    const double apart = unpaired_minimum_detectable_effect(kNoise, n, n);
    const double found_apart = share(21, [&](Random& random) {
      const auto baseline = lognormals(random, n, 50, kNoise);
      const auto contender = lognormals(random, n, 50 * (1 + apart), kNoise);
      return unpaired_log_ratio(baseline, contender)->ratio.interval->low > 1;
    });
    EXPECT_NEAR(found_apart, 0.785, 0.045) << n;
  }
}

Verdict gate(Random& random, double ratio, bool lower_is_better) {
  const Arms arms = blocks(random, 20, ratio, 0.08);
  const auto result = paired_log_ratio(arms.baseline, arms.contender, gate_confidence());
  return non_inferior(result->ratio.interval, 0.10, lower_is_better);
}

TEST(Gate, FindsAPlantedRegressionAndLeavesANullAlone) {
  const auto is = [](double ratio, bool lower_is_better, Verdict verdict) {
    return share(19, [=](Random& r) { return gate(r, ratio, lower_is_better) == verdict; });
  };
  EXPECT_GE(is(1.25, true, Verdict::kFail), 0.98);
  EXPECT_EQ(is(1.25, true, Verdict::kPass), 0);
  EXPECT_EQ(is(1.0, true, Verdict::kFail), 0);
  EXPECT_GE(is(1.0, true, Verdict::kPass), 0.95);
  EXPECT_GE(is(1 / 1.25, false, Verdict::kFail), 0.90);
  EXPECT_EQ(is(1.0, false, Verdict::kFail), 0);
}

// Exactly at the margin the gate errs with at most 5% either way, and mostly asks for more blocks.
TEST(Gate, ErrsNoMoreThanAlphaAtTheMargin) {
  const auto is = [](Verdict verdict) {
    return share(20, [=](Random& r) { return gate(r, 1.10, true) == verdict; });
  };
  EXPECT_LE(is(Verdict::kFail), 0.06);
  EXPECT_LE(is(Verdict::kPass), 0.06);
}

}  // namespace
}  // namespace crashworthy::statistics

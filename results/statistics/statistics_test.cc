// The estimators against published examples, against brute force, and on bad, tied and censored
// data.
#include "results/statistics/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "harness/os/random.h"
#include "results/statistics/rank_distributions.h"

namespace crashworthy::statistics {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(Quantile, InterpolatesAsType7) {
  const std::vector<double> values = {1, 2, 4, 8};
  EXPECT_DOUBLE_EQ(quantile(values, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(values, 0.25), 1.75);
  EXPECT_DOUBLE_EQ(median(values), 3);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 6.8);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 8);
  EXPECT_DOUBLE_EQ(median(std::vector<double>{7}), 7);
}

TEST(Quantile, IsCensoredNextToACensoredValue) {
  const std::vector<double> values = {1, 2, kCensored, kCensored};
  EXPECT_DOUBLE_EQ(quantile(values, 1.0 / 3), 2);
  EXPECT_EQ(median(values), kCensored);
  EXPECT_EQ(quantile(values, 1), kCensored);
  EXPECT_EQ(quantile(values, 0.9), kCensored);
}

TEST(QuantileDeathTest, RefusesWhatHasNoQuantile) {
  EXPECT_DEATH(median({}), "empty");
  EXPECT_DEATH(median(std::vector<double>{2, 1}), "is_sorted");
  EXPECT_DEATH(quantile(std::vector<double>{1}, 1.5), "q");
}

TEST(MedianEstimate, IsTheOrderStatisticInterval) {
  const std::vector<double> samples = {9, 1, 8, 2, 7, 3, 6, 4, 5, 10};
  const auto estimate = median_estimate(samples);
  ASSERT_TRUE(estimate && estimate->interval);
  EXPECT_DOUBLE_EQ(estimate->value, 5.5);
  EXPECT_DOUBLE_EQ(estimate->interval->low, 2);
  EXPECT_DOUBLE_EQ(estimate->interval->high, 9);
  EXPECT_DOUBLE_EQ(estimate->interval->confidence, 0.95);
  EXPECT_NEAR(estimate->interval->coverage, 1 - 22.0 / 1024, 1e-15);
  EXPECT_TRUE(estimate->interval->exact);
}

TEST(MedianEstimate, SaysWhyThereIsNoInterval) {
  const auto estimate = median_estimate(std::vector<double>{3, 1, 2});
  ASSERT_TRUE(estimate);
  EXPECT_DOUBLE_EQ(estimate->value, 2);
  EXPECT_FALSE(estimate->interval);
  EXPECT_EQ(estimate->reason, "cannot reach 95% with 3 samples, needs 6");
  EXPECT_EQ(median_estimate(std::vector<double>{3}, 0.99)->reason,
            "cannot reach 99% with 1 sample, needs 8");
  EXPECT_TRUE(median_estimate(std::vector<double>{1, 2, 3, 4, 5, 6})->interval);
  EXPECT_FALSE(median_estimate(std::vector<double>{1, 2, 3, 4, 5})->interval);
}

TEST(MedianEstimate, CarriesCensoredSamples) {
  // Two of ten never recovered: the median is measured, its upper end is the worst but one.
  const auto some =
      median_estimate(std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8, kCensored, kCensored});
  EXPECT_DOUBLE_EQ(some->value, 5.5);
  EXPECT_DOUBLE_EQ(some->interval->low, 2);
  EXPECT_EQ(some->interval->high, kCensored);
  const auto all = median_estimate(std::vector<double>(6, kCensored));
  EXPECT_EQ(all->value, kCensored);
  EXPECT_EQ(all->interval->low, kCensored);
}

TEST(MedianEstimate, RefusesBadData) {
  EXPECT_THAT(median_estimate({}).error().message, HasSubstr("no samples"));
  EXPECT_EQ(median_estimate(std::vector<double>{1, kNaN}).error().message,
            "sample[1] is nan: not a number");
  EXPECT_FALSE(median_estimate(std::vector<double>{1, -kCensored}));
  EXPECT_DEATH((void)median_estimate(std::vector<double>{1}, 95), "confidence");
}

TEST(QuantileUpperBound, BeginsWhereTheSamplesAllowIt) {
  const struct {
    double q;
    std::size_t needed;
  } table[] = {{0.90, 29}, {0.95, 59}, {0.99, 299}};
  for (const auto& [q, needed] : table) {
    std::vector<double> samples(needed);
    for (std::size_t i = 0; i < needed; ++i) samples[i] = static_cast<double>(i + 1);
    const auto enough = quantile_upper_bound(samples, q);
    ASSERT_TRUE(enough && enough->interval) << q;
    EXPECT_DOUBLE_EQ(enough->interval->high, static_cast<double>(needed));
    EXPECT_GE(enough->interval->coverage, 0.95);
    samples.pop_back();
    const auto few = quantile_upper_bound(samples, q);
    EXPECT_FALSE(few->interval);
    EXPECT_THAT(few->reason, HasSubstr("needs " + std::to_string(needed)));
  }
  EXPECT_FALSE(quantile_upper_bound({}, 0.9));
}

TEST(Wilson, HasThePublishedValues) {
  const auto percent = [](double share) { return std::round(1000 * share) / 10; };
  const struct {
    std::uint64_t n;
    double low;
  } all_recovered[] = {{10, 72.2}, {20, 83.9},  {30, 88.6}, {50, 92.9},
                       {73, 95.0}, {200, 98.1}, {381, 99.0}};
  for (const auto& [n, low] : all_recovered) {
    EXPECT_DOUBLE_EQ(percent(wilson(n, n).low), low) << n;
    EXPECT_EQ(wilson(n, n).high, 1);
    EXPECT_EQ(wilson(0, n).low, 0);
    EXPECT_NEAR(wilson(0, n).high, 1 - wilson(n, n).low, 1e-12);
  }
  EXPECT_DOUBLE_EQ(percent(wilson(28, 30).low), 78.7);
  EXPECT_DOUBLE_EQ(percent(wilson(28, 30).high), 98.2);
  EXPECT_DOUBLE_EQ(percent(wilson_lower_bound(10, 10)), 78.7);
  EXPECT_DOUBLE_EQ(wilson_lower_bound(28, 30), wilson(28, 30, 0.90).low);
  EXPECT_FALSE(wilson(28, 30).exact);
}

TEST(Wilson, KnowsNothingWithoutTrials) {
  EXPECT_EQ(wilson(0, 0).low, 0);
  EXPECT_EQ(wilson(0, 0).high, 1);
  EXPECT_EQ(wilson_lower_bound(0, 0), 0);
  EXPECT_DEATH(wilson(4, 3), "successes");
}

// Hamilton depression scale before and after a tranquilliser, nine patients (Hollander & Wolfe
// 1973, table 3.1).
const std::vector<double> kBefore = {1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30};
const std::vector<double> kAfter = {0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29};

std::vector<double> subtract(const std::vector<double>& x, const std::vector<double>& y) {
  std::vector<double> differences(x.size());
  std::transform(x.begin(), x.end(), y.begin(), differences.begin(), std::minus<>());
  return differences;
}

TEST(HodgesLehmann, HasThePublishedExample) {
  const auto estimate = hodges_lehmann(subtract(kBefore, kAfter));
  ASSERT_TRUE(estimate && estimate->interval);
  EXPECT_NEAR(estimate->value, 0.46, 1e-9);
  EXPECT_NEAR(estimate->interval->low, 0.010, 1e-9);
  EXPECT_NEAR(estimate->interval->high, 0.786, 1e-9);
  EXPECT_NEAR(estimate->interval->coverage, 0.961, 5e-4);
}

// The share of sign patterns whose rank sum is as far out as that of `differences` around
// `centre`, by enumeration.
double enumerated_p_value(const std::vector<double>& differences, double centre) {
  const std::size_t n = differences.size();
  std::vector<double> shifted(n);
  std::transform(differences.begin(), differences.end(), shifted.begin(),
                 [&](double d) { return d - centre; });
  const auto by_size = [](double a, double b) { return std::abs(a) < std::abs(b); };
  std::sort(shifted.begin(), shifted.end(), by_size);
  std::size_t observed = 0;
  for (std::size_t i = 0; i < n; ++i) observed += shifted[i] > 0 ? i + 1 : 0;
  std::size_t lower = 0;
  std::size_t upper = 0;
  for (unsigned signs = 0; signs < 1u << n; ++signs) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += (signs >> i & 1) ? i + 1 : 0;
    lower += sum <= observed;
    upper += sum >= observed;
  }
  return 2 * static_cast<double>(std::min(lower, upper)) / std::ldexp(1.0, static_cast<int>(n));
}

// The interval is what the enumerated test does not reject: inside its ends accepted, outside them
// rejected.
TEST(HodgesLehmann, InvertsTheEnumeratedTest) {
  Random random(1);
  for (const double confidence : {0.80, 0.90, 0.95}) {
    for (std::size_t n = pairs_needed(confidence); n <= 8; ++n) {
      for (int repeat = 0; repeat < 20; ++repeat) {
        std::vector<double> differences(n);
        for (double& d : differences) d = random.unit() - 0.3;
        const Interval interval = *hodges_lehmann(differences, confidence)->interval;
        const double alpha = 1 - confidence;
        EXPECT_GT(enumerated_p_value(differences, interval.low + 1e-9), alpha);
        EXPECT_LE(enumerated_p_value(differences, interval.low - 1e-9), alpha);
        EXPECT_GT(enumerated_p_value(differences, interval.high - 1e-9), alpha);
        EXPECT_LE(enumerated_p_value(differences, interval.high + 1e-9), alpha);
      }
    }
  }
}

TEST(HodgesLehmann, IsAPointWhenAllAreEqual) {
  const auto estimate = hodges_lehmann(std::vector<double>(7, 0.3));
  EXPECT_EQ(estimate->value, 0.3);
  EXPECT_EQ(estimate->interval->low, 0.3);
  EXPECT_EQ(estimate->interval->high, 0.3);
}

TEST(HodgesLehmann, RefusesBadData) {
  EXPECT_FALSE(hodges_lehmann({}));
  EXPECT_FALSE(hodges_lehmann(std::vector<double>{1, kNaN}));
  const auto many = hodges_lehmann(std::vector<double>(kMaxRankSamples + 1, 1.0));
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().message,
            "4001 differences are more than the 4000 that a rank interval takes");
}

TEST(HodgesLehmann, ApproximatesAboveTheExactLimit) {
  std::vector<double> differences(kExactPairs + 1);
  for (std::size_t i = 0; i < differences.size(); ++i) differences[i] = static_cast<double>(i);
  const auto estimate = hodges_lehmann(differences);
  EXPECT_DOUBLE_EQ(estimate->value, 50);
  EXPECT_FALSE(estimate->interval->exact);
  EXPECT_NEAR(estimate->interval->coverage, 0.95, 1e-3);
  EXPECT_NEAR(estimate->interval->high - 50, 50 - estimate->interval->low, 1e-9);
}

TEST(PairedLogRatio, FindsAPureFactor) {
  const std::vector<double> baseline = {4, 8, 1, 2, 16, 32};
  const std::vector<double> contender = {5, 10, 1.25, 2.5, 20, 40};
  const auto result = paired_log_ratio(baseline, contender);
  ASSERT_TRUE(result && result->ratio.interval);
  EXPECT_NEAR(result->ratio.value, 1.25, 1e-12);
  EXPECT_NEAR(result->ratio.interval->low, 1.25, 1e-12);
  EXPECT_NEAR(result->ratio.interval->high, 1.25, 1e-12);
  EXPECT_NEAR(*result->minimum_detectable_effect, 0, 1e-12);
  EXPECT_EQ(result->dropped_pairs, 0u);
}

TEST(PairedLogRatio, SaysWhyThereIsNoInterval) {
  const std::vector<double> five = {1, 2, 3, 4, 5};
  const auto result = paired_log_ratio(five, five);
  EXPECT_DOUBLE_EQ(result->ratio.value, 1);
  EXPECT_FALSE(result->ratio.interval);
  EXPECT_FALSE(result->minimum_detectable_effect);
  EXPECT_EQ(result->ratio.reason, "cannot reach 95% with 5 pairs, needs 6");
  EXPECT_TRUE(paired_log_ratio(five, five, gate_confidence())->ratio.interval);
}

TEST(PairedLogRatio, RanksACensoredContenderAsTheWorst) {
  const std::vector<double> baseline(8, 1.0);
  const auto result =
      paired_log_ratio(baseline, std::vector<double>{1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, kCensored});
  EXPECT_TRUE(std::isfinite(result->ratio.value));
  EXPECT_GT(result->ratio.interval->low, 1);
  EXPECT_EQ(result->ratio.interval->high, kCensored);
  EXPECT_FALSE(result->minimum_detectable_effect);
  const auto never = paired_log_ratio(baseline, std::vector<double>(8, kCensored));
  EXPECT_EQ(never->ratio.value, kCensored);
  EXPECT_EQ(never->ratio.interval->low, kCensored);
  EXPECT_EQ(paired_log_ratio(std::vector<double>(8, kCensored), baseline)->ratio.interval->high, 0);
}

// One censored pair on each side says nothing on balance; the interval is no narrower than without
// them.
TEST(PairedLogRatio, WidensWhenBothArmsAreCensoredInTurn) {
  std::vector<double> baseline(10, 1.0);
  std::vector<double> contender = {1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 1, kCensored};
  baseline[8] = kCensored;
  const auto result = paired_log_ratio(baseline, contender);
  EXPECT_GT(result->ratio.value, 1.01);
  EXPECT_LT(result->ratio.value, 1.08);
  EXPECT_LE(result->ratio.interval->low, result->ratio.value);
  EXPECT_GE(result->ratio.interval->high, result->ratio.value);
  const std::vector<double> up_and_down = {1, kCensored};
  EXPECT_EQ(paired_log_ratio(up_and_down, std::vector<double>{kCensored, 1})->ratio.value, 1);
}

TEST(PairedLogRatio, DropsAndCountsPairsThatSayNothing) {
  std::vector<double> baseline = {1, 2, 3, 4, 5, 6, kCensored};
  const auto result = paired_log_ratio(baseline, baseline);
  EXPECT_EQ(result->dropped_pairs, 1u);
  EXPECT_EQ(result->ratio.value, 1);
  EXPECT_EQ(result->ratio.interval->high, 1);
  const std::vector<double> never(6, kCensored);
  const auto nothing = paired_log_ratio(never, never);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().kind, ErrorKind::kIncomparable);
  EXPECT_EQ(nothing.error().message, "both sides are censored in every one of 6 pairs");
}

TEST(LogRatios, RefuseWhatHasNoRatio) {
  const std::vector<double> good = {1, 2, 3};
  for (const double bad : {0.0, -1.0, kNaN, -kCensored}) {
    const std::vector<double> spoilt = {1, bad, 3};
    EXPECT_THAT(paired_log_ratio(spoilt, good).error().message, HasSubstr("baseline[1]"));
    EXPECT_THAT(paired_log_ratio(good, spoilt).error().message, HasSubstr("contender[1]"));
    EXPECT_THAT(unpaired_log_ratio(spoilt, good).error().message, HasSubstr("baseline[1]"));
    EXPECT_THAT(unpaired_log_ratio(good, spoilt).error().message, HasSubstr("contender[1]"));
  }
  EXPECT_THAT(paired_log_ratio(good, std::vector<double>{1, 2}).error().message,
              HasSubstr("has 3"));
  EXPECT_THAT(paired_log_ratio({}, {}).error().message, HasSubstr("no baseline values"));
  EXPECT_THAT(unpaired_log_ratio(good, {}).error().message, HasSubstr("no contender values"));
}

std::vector<double> exponentials(const std::vector<double>& logs) {
  std::vector<double> values(logs.size());
  std::transform(logs.begin(), logs.end(), values.begin(), [](double x) { return std::exp(x); });
  return values;
}

// Permeability of the placenta at term and at 12 to 26 weeks (Hollander & Wolfe 1973, table 4.1).
TEST(UnpairedLogRatio, HasThePublishedExample) {
  const std::vector<double> term = {0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46};
  const std::vector<double> early = {1.15, 0.88, 0.90, 0.74, 1.21};
  const auto result = unpaired_log_ratio(exponentials(early), exponentials(term));
  ASSERT_TRUE(result && result->ratio.interval);
  EXPECT_NEAR(std::log(result->ratio.value), 0.305, 1e-9);
  EXPECT_NEAR(std::log(result->ratio.interval->low), -0.15, 1e-9);
  EXPECT_NEAR(std::log(result->ratio.interval->high), 0.76, 1e-9);
  EXPECT_TRUE(result->ratio.interval->exact);
}

TEST(UnpairedLogRatio, SaysWhyThereIsNoInterval) {
  const std::vector<double> three = {1, 2, 3};
  const auto result = unpaired_log_ratio(three, three);
  EXPECT_FALSE(result->ratio.interval);
  EXPECT_FALSE(result->minimum_detectable_effect);
  EXPECT_EQ(result->ratio.reason, "cannot reach 95% with 3 and 3 samples, needs 4 and 4");
  EXPECT_TRUE(unpaired_log_ratio(three, three, gate_confidence())->ratio.interval);
}

TEST(UnpairedLogRatio, RanksCensoredValuesAtTheTop) {
  const std::vector<double> recovered = {1, 1.1, 1.2, 1.3, 1.4};
  const std::vector<double> never(5, kCensored);
  EXPECT_EQ(unpaired_log_ratio(recovered, never)->ratio.interval->low, kCensored);
  EXPECT_EQ(unpaired_log_ratio(never, recovered)->ratio.interval->high, 0);
  const RatioEstimate unknown = *unpaired_log_ratio(never, never);
  EXPECT_EQ(unknown.ratio.value, 1);
  EXPECT_EQ(unknown.ratio.interval->low, 0);
  EXPECT_EQ(unknown.ratio.interval->high, kCensored);
  EXPECT_FALSE(unknown.minimum_detectable_effect);
}

// Student's t adds a few percent to the large-sample formula exp(2.80 s sqrt(2 / (0.955 n))) - 1,
// fewer the more samples there are.
TEST(MinimumDetectableEffect, NearsTheLargeSampleFormula) {
  const struct {
    double variation;
    std::size_t n;
    double percent;
    double excess;
  } table[] = {{0.05, 10, 6.6, 1.08}, {0.10, 20, 9.5, 1.04}, {0.10, 50, 5.9, 1.02},
               {0.30, 30, 24, 1.05},  {0.77, 50, 48, 1.03},  {0.77, 100, 32, 1.02}};
  for (const auto& [variation, n, percent, excess] : table) {
    const double deviation = std::sqrt(std::log1p(variation * variation));
    const double effect = 100 * unpaired_minimum_detectable_effect(deviation, n, n);
    EXPECT_GT(effect, percent * 0.99) << variation << ' ' << n;
    EXPECT_LT(effect, percent * excess) << variation << ' ' << n;
  }
  // t(0.975) = 2.0930 and t(0.80) = 0.8610 at 19 degrees of freedom.
  EXPECT_NEAR(paired_minimum_detectable_effect(0.1, 20),
              std::exp(2.9540 * 0.1 / std::sqrt(0.955 * 20)) - 1, 1e-5);
  EXPECT_NEAR(paired_minimum_detectable_effect(0.1, 100'000),
              std::exp(2.8016 * 0.1 / std::sqrt(0.955 * 100'000)) - 1, 1e-6);
  EXPECT_DEATH(paired_minimum_detectable_effect(0.1, 1), "pairs");
}

TEST(Outliers, AreFlaggedAtTenDeviations) {
  EXPECT_THAT(*outliers(std::vector<double>{-0.2, 0.0, 0.2}), IsEmpty());
  EXPECT_THAT(*outliers(std::vector<double>{-0.2, 0.0, 0.2, 4.0}), ElementsAre(3));
  EXPECT_THAT(*outliers(std::vector<double>{1000, 0}), IsEmpty());
  // Median 3, MAD 1: the edge is at 3 +- 14.826.
  EXPECT_THAT(*outliers(std::vector<double>{1, 2, 3, 4, 17.82}), IsEmpty());
  EXPECT_THAT(*outliers(std::vector<double>{1, 2, 3, 4, 17.83}), ElementsAre(4));
  EXPECT_THAT(*outliers(std::vector<double>{-11.83, 2, 3, 4, 5}), ElementsAre(0));
}

TEST(Outliers, AreFlaggedBesideEqualOrCensoredSamples) {
  EXPECT_THAT(*outliers(std::vector<double>{10, 10, 10, 10, 100}), ElementsAre(4));
  EXPECT_THAT(*outliers(std::vector<double>(5, 10.0)), IsEmpty());
  EXPECT_THAT(*outliers(std::vector<double>{1, kCensored, 2, 3}), ElementsAre(1));
  EXPECT_THAT(*outliers(std::vector<double>{1, kCensored, kCensored}), IsEmpty());
  EXPECT_FALSE(outliers({}));
  EXPECT_FALSE(outliers(std::vector<double>{1, kNaN}));
}

TEST(PairsNeeded, IsWhereTheIntervalsBegin) {
  EXPECT_EQ(pairs_needed(0.90), 5u);
  EXPECT_EQ(pairs_needed(0.95), 6u);
  EXPECT_EQ(pairs_needed(0.99), 8u);
  for (const double confidence : {0.5, 0.8, 0.9, 0.95, 0.96875, 0.999}) {
    const std::size_t n = pairs_needed(confidence);
    EXPECT_TRUE(signed_rank_critical_value(n, 1 - confidence)) << confidence;
    EXPECT_FALSE(signed_rank_critical_value(n - 1, 1 - confidence)) << confidence;
    EXPECT_TRUE(sign_critical_value(n, 1 - confidence)) << confidence;
    EXPECT_FALSE(sign_critical_value(n - 1, 1 - confidence)) << confidence;
  }
}

Interval between(double low, double high) { return {.low = low, .high = high}; }

TEST(NonInferior, HasThreeVerdictsForTimes) {
  EXPECT_EQ(non_inferior(between(1.11, 1.40), 0.10, true), Verdict::kFail);
  EXPECT_EQ(non_inferior(between(0.95, 1.09), 0.10, true), Verdict::kPass);
  EXPECT_EQ(non_inferior(between(1.05, 1.15), 0.10, true), Verdict::kInconclusive);
  EXPECT_EQ(non_inferior(between(0.50, 0.60), 0.10, true), Verdict::kPass);
  EXPECT_EQ(non_inferior(between(1, 1), 0, true), Verdict::kInconclusive);
  EXPECT_EQ(non_inferior(between(kCensored, kCensored), 0.10, true), Verdict::kFail);
}

TEST(NonInferior, HasThreeVerdictsForThroughput) {
  EXPECT_EQ(non_inferior(between(0.70, 0.89), 0.10, false), Verdict::kFail);
  EXPECT_EQ(non_inferior(between(0.91, 1.02), 0.10, false), Verdict::kPass);
  EXPECT_EQ(non_inferior(between(0.85, 0.95), 0.10, false), Verdict::kInconclusive);
  EXPECT_EQ(non_inferior(between(1.50, 1.60), 0.10, false), Verdict::kPass);
}

TEST(NonInferior, DoesNotPassWithoutData) {
  EXPECT_EQ(non_inferior(std::nullopt, 0.10, true), Verdict::kInconclusive);
  EXPECT_EQ(non_inferior(std::nullopt, 0.10, false), Verdict::kInconclusive);
  EXPECT_DEATH(non_inferior(between(1, 2), -0.1, true), "margin");
  EXPECT_DEATH(non_inferior(between(kNaN, 2), 0.1, true), "low");
}

TEST(GateConfidence, SharesAlphaAmongTheLooks) {
  EXPECT_DOUBLE_EQ(gate_confidence(), 0.90);
  EXPECT_DOUBLE_EQ(gate_confidence(0.05, 3), 1 - 0.1 / 3);
  EXPECT_DEATH(gate_confidence(0.05, 0), "looks");
}

}  // namespace
}  // namespace crashworthy::statistics

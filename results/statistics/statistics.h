// Every number with an interval that Crashworthy prints is computed here, and nowhere else.
//
// Rules that hold for all of it:
// - Confidences are two-sided unless a function says one-sided, and lie inside (0, 1). A one-sided
//   95% bound is the end of a two-sided 90% interval: gate_confidence() converts.
// - +infinity stands for a censored time: "not reached while we watched". It takes part by its
//   rank only.
// - Bad data (NaN, nothing at all, unequal pairs, a ratio of what is not above zero) is an Error.
//   A wrong argument (a confidence of 95, a negative margin) is a bug of the caller and stops the
//   program.
// - No function changes or drops a sample, except pairs that say nothing; those are counted.
// - Pure functions: any thread may call them. Nothing here reads a clock or draws a random
//   number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy::statistics {

inline constexpr double kCensored = std::numeric_limits<double>::infinity();

// The most samples a side that the rank methods take (they look at every pair of samples); more is
// an Error.
inline constexpr std::size_t kMaxRankSamples = 4'000;

// A closed interval; either end may be infinite.
struct Interval {
  double low = 0;
  double high = 0;
  double confidence = 0;  // Nominal: what was asked for.
  double coverage = 0;    // What the construction gives; at least `confidence` when `exact`.
  bool exact = false;     // true: guaranteed, under the assumption that the function states.
};

// A number and how sure we are. Without an interval, `reason` says why: "cannot reach 95% with 5
// pairs, needs 6".
struct Estimate {
  double value = 0;
  std::optional<Interval> interval;
  std::string reason;
};

// -- One sample --

// The q-quantile, 0 <= q <= 1, of ascending values without NaN or -infinity; needs at least one.
// Linear interpolation between the order statistics around position (n - 1) q: type 7 of Hyndman &
// Fan, The American Statistician 50 (1996), the default of R and NumPy. Next to a censored value
// the result is censored.
double quantile(std::span<const double> sorted, double q);

// quantile(sorted, 0.5): the middle value, or the mean of the two middle ones.
double median(std::span<const double> sorted);

// The sample median and the order-statistic interval [X(k), X(n+1-k)] of the distribution's median.
// Guarantee: independent samples of any one distribution are covered with at least `coverage` >=
// `confidence`, exactly `coverage` when it is continuous. At small n that is well above nominal:
// 97.9% for 95% asked at n = 10.
// Needs n >= pairs_needed(confidence), 6 for 95%; below, there is no interval. Samples may be
// kCensored: the median or an end may then be +infinity, "longer than we watched".
// Errors: no samples, NaN, -infinity.
// Source: Thompson, Annals of Mathematical Statistics 7 (1936); David & Nagaraja, Order Statistics,
// 7.1.
Result<Estimate> median_estimate(std::span<const double> samples, double confidence = 0.95);

// The sample q-quantile, 0 < q < 1, and a one-sided upper bound of the distribution's quantile:
// interval (-infinity, X(k)] with the least k for which P(binomial(n, q) < k) >= confidence
// (one-sided here).
// Guarantee: as median_estimate.
// Needs q^n <= 1 - confidence: at 95%, n = 29 for p90, 59 for p95, 299 for p99. There is no lower
// end on purpose, and a two-sided interval of a tail quantile is not offered: no resampling makes
// up for samples that are not there.
// Errors and source: as median_estimate.
Result<Estimate> quantile_upper_bound(std::span<const double> samples, double q,
                                      double confidence = 0.95);

// The Hodges-Lehmann estimate of the centre of `differences` (the median of the n(n+1)/2 Walsh
// averages) and the interval that inverts Wilcoxon's signed-rank test.
// Guarantee: independent differences, each symmetric around the centre, are covered with at least
// `coverage`, exactly so when there are no ties; ties and zeros only make the closed interval cover
// more. So identical differences give an interval of zero width. Above kExactPairs differences,
// normal approximation with continuity correction (not `exact`).
// Needs n >= pairs_needed(confidence), 6 for 95%; below, there is no interval.
// +-infinity takes part at the extreme of the ranks. The Walsh average of +infinity and -infinity
// is unknown: it counts as no difference in the estimate and, to be safe, as -infinity for the low
// end and as +infinity for the high end.
// Errors: no differences, NaN, more than kMaxRankSamples.
// Source: Hodges & Lehmann, Annals of Mathematical Statistics 34 (1963); Hollander & Wolfe, 3.2 and
// 3.3 (Tukey).
Result<Estimate> hodges_lehmann(std::span<const double> differences, double confidence = 0.95);

// Indices, ascending, of the samples whose modified z-score |x - median| / MAD exceeds 14.826: ten
// standard deviations if the bulk is normal. The caller marks them and keeps them: here the outlier
// is often the finding. When more than half of the samples are equal (MAD 0), every other one is
// flagged. A censored sample is flagged unless the median itself is censored. Any n; below 4
// nothing can stand out much.
// Errors: no samples, NaN, -infinity.
// Source: Iglewicz & Hoaglin, How to Detect and Handle Outliers (1993); scale and threshold as
// hyperfine has them.
Result<std::vector<std::size_t>> outliers(std::span<const double> samples);

// The least number of pairs (or of samples, for a median) that can give a two-sided interval of
// this confidence: the least n with 2^(1-n) <= 1 - confidence. 5 at 90%, 6 at 95%, 8 at 99%.
std::size_t pairs_needed(double confidence);

// -- Counts --

// Wilson's score interval of a proportion. "10 of 10 recovered" is at least 72.2% with 95%.
// Guarantee: none for every proportion; the coverage averages `confidence` and dips below it for
// some (so `exact` is false). Any number of trials; without any it is [0, 1].
// Needs successes <= trials, and trials that are independent: repeats of one seed are one trial.
// Source: Wilson, Journal of the American Statistical Association 22 (1927).
Interval wilson(std::uint64_t successes, std::uint64_t trials, double confidence = 0.95);

// The one-sided bound: the proportion is at least this, with `confidence` (one-sided here).
// 10 of 10: 78.7% at 95%. Needs confidence > 0.5.
double wilson_lower_bound(std::uint64_t successes, std::uint64_t trials, double confidence = 0.95);

// -- Two arms --

// contender / baseline. 1.25: the contender's values are 25% larger.
struct RatioEstimate {
  Estimate ratio;
  // The smallest increase, as ratio - 1, that such a comparison finds with 80% power at alpha
  // 0.05. To be printed beside "no difference". Empty when samples are censored, or too few for
  // the test to reach 0.05.
  std::optional<double> minimum_detectable_effect;
  // Paired only: both sides censored, so that the pair says nothing.
  std::size_t dropped_pairs = 0;
};

// The ratio of arms measured in pairs: baseline[i] and contender[i] come from the same block.
// exp of hodges_lehmann over d = ln(contender) - ln(baseline), with its guarantee and need; the
// assumption, symmetric d, holds when the arms of a block differ by a factor and noise alone, in
// whatever distribution.
// A censored contender is d = +infinity, a censored baseline d = -infinity: ranked beyond every
// measured ratio. Pairs with both sides censored are dropped and counted, so the ratio speaks of
// the blocks where at least one arm recovered. The ratio and its ends may be 0 or +infinity.
// Errors: unequal lengths, no pairs, values that are NaN or not above zero, too many; kIncomparable
// when every pair is censored on both sides.
Result<RatioEstimate> paired_log_ratio(std::span<const double> baseline,
                                       std::span<const double> contender, double confidence = 0.95);

// The ratio of arms measured apart (other day, other machine): advisory, since what drifts between
// is in the ratio too.
// exp of the median of all n m differences of logarithms, with the interval that inverts the
// Mann-Whitney test.
// Guarantee: for independent samples of one shape up to a factor, at least `coverage`, exactly so
// without ties; normal approximation with continuity correction (not `exact`) when n m >
// kExactProduct.
// Needs 2 / C(n+m, n) <= 1 - confidence: 4 and 4 for 95%. Censored values rank at the top; of two
// censored ones the difference is unknown and treated as in hodges_lehmann.
// Errors: an empty side, values that are NaN or not above zero, too many.
// Source: Hodges & Lehmann (1963); Hollander & Wolfe, 4.2 and 4.3 (Moses).
Result<RatioEstimate> unpaired_log_ratio(std::span<const double> baseline,
                                         std::span<const double> contender,
                                         double confidence = 0.95);

// exp((t(0.975) + t(0.80)) s / sqrt(0.955 n)) - 1 for n pairs whose ln ratios have standard
// deviation s, with t the quantiles of Student's t at n - 1 degrees of freedom (their sum
// nears 2.80). 0.955 = 3 / pi is the efficiency of the signed-rank test at the normal distribution.
// Guarantee: an approximation for normal ln ratios. In simulation the power at it is 80% from n =
// 10 on and 76% at n = 8; with normal quantiles in place of t it would be 71% at n = 10, 76% at 20.
// Needs 2 pairs.
// Source: the efficiency from Lehmann, Nonparametrics: Statistical Methods Based on Ranks; t
// instead of normal quantiles is our own refinement, kept because the simulation asks for it.
double paired_minimum_detectable_effect(double deviation_of_log_ratio, std::size_t pairs);

// exp((t(0.975) + t(0.80)) s sqrt((1/n + 1/m) / 0.955)) - 1 for samples whose logarithms have
// standard deviation s, with n + m - 2 degrees of freedom. From a coefficient of variation CV,
// s = sqrt(ln(1 + CV^2)).
// Guarantee: as above; in simulation 77% power at n = m = 10, 79% at 20.
// Needs 3 samples in all, one a side.
// Source: as above.
double unpaired_minimum_detectable_effect(double deviation_of_log, std::size_t n, std::size_t m);

// -- The gate --

enum class Verdict { kPass, kFail, kInconclusive };

// The two-sided confidence whose ends are one-sided bounds at 1 - alpha / looks: 0.90 for alpha
// 0.05. A gate that adds blocks and looks again shares its alpha among the looks (Bonferroni).
// Needs 0 < alpha < 0.5 and looks >= 1.
double gate_confidence(double alpha = 0.05, int looks = 1);

// Whether a contender is worse than its baseline by more than `margin`, given the interval of the
// ratio contender / baseline at gate_confidence(). For times (lower is better): kFail when all of
// it is above 1 + margin, kPass when all of it is below. For throughput (higher is better): kFail
// when all of it is below 1 - margin, kPass when all of it is above. Else, and without an interval,
// kInconclusive: no data is not a pass.
// Guarantee: a contender exactly at the margin fails with chance at most alpha, and passes with
// chance at most alpha, if the interval is `exact`.
// Needs margin >= 0, and < 1 when higher is better.
// Source: one-sided confidence bounds against a margin, as in ICH E9 (1998), 3.3.2.
Verdict non_inferior(const std::optional<Interval>& ratio, double margin, bool lower_is_better);

}  // namespace crashworthy::statistics

#include "results/statistics/statistics.h"

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <numeric>
#include <sstream>
#include <utility>

#include "harness/os/check.h"
#include "results/statistics/rank_distributions.h"

namespace crashworthy::statistics {
namespace {

// Alphas come from subtractions such as 1 - 0.95; what is within rounding of them counts as
// reached.
constexpr double kRounding = 1e-9;

constexpr double kMdeAlpha = 0.05;
constexpr double kMdePower = 0.80;
constexpr double kRankEfficiency = 0.955;  // 3 / pi
constexpr double kOutlierScore = 14.826;   // Ten standard deviations: MAD = sigma / 1.4826.

double normal_quantile(double probability) {
  return boost::math::quantile(boost::math::normal(), probability);
}

void check_confidence(double confidence) {
  CRASHWORTHY_CHECK(confidence > 0 && confidence < 1, confidence);
}

std::string counted(std::size_t count, const std::string& noun) {
  return std::to_string(count) + ' ' + noun + (count == 1 ? "" : "s");
}

std::string cannot_reach(double confidence, const std::string& have, const std::string& need) {
  std::ostringstream text;
  text.precision(4);
  text << "cannot reach " << 100 * confidence << "% with " << have << ", needs " << need;
  return text.str();
}

Error bad_value(const std::string& what, std::size_t index, double value, const std::string& why) {
  std::ostringstream text;
  text << what << '[' << index << "] is " << value << ": " << why;
  return usage_error(text.str());
}

// Samples may be +infinity (censored), nothing else that is not a number.
Result<void> check_samples(std::span<const double> samples) {
  if (samples.empty()) return usage_error("no samples");
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (std::isnan(samples[i])) return bad_value("sample", i, samples[i], "not a number");
    if (samples[i] == -kCensored)
      return bad_value("sample", i, samples[i], "only +inf is censored");
  }
  return {};
}

Result<void> check_rank_count(std::size_t count, const std::string& noun) {
  if (count <= kMaxRankSamples) return {};
  return usage_error(counted(count, noun) + " are more than the " +
                         std::to_string(kMaxRankSamples) + " that a rank interval takes",
                     "compare one summary per trial, not every item");
}

Result<void> check_arm(std::span<const double> values, const std::string& name) {
  if (values.empty()) return usage_error("no " + name + " values");
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] > 0)) return bad_value(name, i, values[i], "a ratio needs values above zero");
  }
  return check_rank_count(values.size(), name + " value");
}

std::vector<double> sorted_copy(std::span<const double> values) {
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

// What order statistics are taken of: samples, Walsh averages or pairwise differences. NaN among
// them (infinity minus infinity) is a value that is there but unknown: each use says where in the
// order it stands.
class OrderedValues {
 public:
  explicit OrderedValues(std::vector<double> values) : known_(std::move(values)) {
    unknown_ = std::erase_if(known_, [](double value) { return std::isnan(value); });
    std::sort(known_.begin(), known_.end());
  }

  std::size_t size() const { return known_.size() + unknown_; }

  // The value at `rank`, from 0, with `stand_in` for each unknown one.
  double at(std::size_t rank, double stand_in) const {
    CRASHWORTHY_CHECK(rank < size(), rank, size());
    const auto place = std::lower_bound(known_.begin(), known_.end(), stand_in);
    const std::size_t before = static_cast<std::size_t>(place - known_.begin());
    if (rank < before) return known_[rank];
    return rank < before + unknown_ ? stand_in : known_[rank - unknown_];
  }

  double median() const {
    const double lower = at((size() - 1) / 2, 0.0);
    const double upper = at(size() / 2, 0.0);
    return std::midpoint(lower, upper);
  }

  // [V(k), V(size+1-k)] with k = critical + 1, that is every centre which the test does not
  // reject.
  Interval interval(const CriticalValue& critical, double confidence) const {
    return {.low = at(critical.value, -kCensored),
            .high = at(size() - 1 - critical.value, kCensored),
            .confidence = confidence,
            .coverage = 1 - critical.alpha,
            .exact = critical.exact};
  }

 private:
  std::vector<double> known_;
  std::size_t unknown_ = 0;
};

Estimate estimate_from(const OrderedValues& values, const std::optional<CriticalValue>& critical,
                       double confidence, const std::string& reason) {
  Estimate estimate{.value = values.median(), .interval = {}, .reason = {}};
  if (critical) {
    estimate.interval = values.interval(*critical, confidence);
  } else {
    estimate.reason = reason;
  }
  return estimate;
}

Result<Estimate> signed_rank_estimate(std::span<const double> differences, double confidence,
                                      const std::string& noun) {
  const std::size_t n = differences.size();
  if (auto few_enough = check_rank_count(n, noun); !few_enough) return few_enough.error();
  std::vector<double> walsh_averages;
  walsh_averages.reserve(n * (n + 1) / 2);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i; j < n; ++j) {
      walsh_averages.push_back(std::midpoint(differences[i], differences[j]));
    }
  }
  return estimate_from(
      OrderedValues(std::move(walsh_averages)), signed_rank_critical_value(n, 1 - confidence),
      confidence,
      cannot_reach(confidence, counted(n, noun), std::to_string(pairs_needed(confidence))));
}

void exponentiate(Estimate& estimate) {
  estimate.value = std::exp(estimate.value);
  if (!estimate.interval) return;
  estimate.interval->low = std::exp(estimate.interval->low);
  estimate.interval->high = std::exp(estimate.interval->high);
}

// The sum of squares around the mean; empty when a value is infinite.
std::optional<double> squared_deviations(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  if (!std::isfinite(sum)) return std::nullopt;
  const double mean = sum / static_cast<double>(values.size());
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return squares;
}

std::vector<double> logarithms(std::span<const double> values) {
  std::vector<double> logs(values.size());
  std::transform(values.begin(), values.end(), logs.begin(), [](double x) { return std::log(x); });
  return logs;
}

// `information`: one over the variance of the estimate, in units of one over that of a single
// value.
double minimum_detectable_effect(double deviation, double information, std::size_t freedom) {
  const boost::math::students_t student(static_cast<double>(freedom));
  const double t = quantile(student, 1 - kMdeAlpha / 2) + quantile(student, kMdePower);
  return std::expm1(t * deviation / std::sqrt(kRankEfficiency * information));
}

std::optional<double> paired_effect(std::span<const double> differences) {
  const std::size_t n = differences.size();
  const auto squares = squared_deviations(differences);
  if (!squares || n < pairs_needed(1 - kMdeAlpha)) return std::nullopt;
  return paired_minimum_detectable_effect(std::sqrt(*squares / static_cast<double>(n - 1)), n);
}

// Whether the Mann-Whitney test can reject at all: 2 / C(n+m, n) <= alpha.
bool enough_samples(std::size_t n, std::size_t m, double alpha) {
  double least_alpha = 2;
  for (std::size_t i = 1; i <= n; ++i) {
    least_alpha *= static_cast<double>(i) / static_cast<double>(m + i);
  }
  return least_alpha <= alpha * (1 + kRounding);
}

std::optional<double> unpaired_effect(std::span<const double> x, std::span<const double> y) {
  const auto x_squares = squared_deviations(x);
  const auto y_squares = squared_deviations(y);
  if (!x_squares || !y_squares) return std::nullopt;
  if (!enough_samples(x.size(), y.size(), kMdeAlpha)) return std::nullopt;
  const double freedom = static_cast<double>(x.size() + y.size() - 2);
  return unpaired_minimum_detectable_effect(std::sqrt((*x_squares + *y_squares) / freedom),
                                            x.size(), y.size());
}

std::size_t samples_a_side_needed(double confidence) {
  std::size_t n = 1;
  while (!enough_samples(n, n, 1 - confidence)) ++n;
  return n;
}

double wilson_end(std::uint64_t successes, std::uint64_t trials, double z) {
  CRASHWORTHY_CHECK(successes <= trials, successes, trials);
  // Also without trials; and exactly there, not within rounding of it.
  if (successes == 0 && z < 0) return 0;
  if (successes == trials && z > 0) return 1;
  const double n = static_cast<double>(trials);
  const double share = static_cast<double>(successes) / n;
  const double centre = share + z * z / (2 * n);
  const double reach = z * std::sqrt(share * (1 - share) / n + z * z / (4 * n * n));
  return std::clamp((centre + reach) / (1 + z * z / n), 0.0, 1.0);
}

}  // namespace

double quantile(std::span<const double> sorted, double q) {
  CRASHWORTHY_CHECK(!sorted.empty());
  CRASHWORTHY_CHECK(q >= 0 && q <= 1, q);
  CRASHWORTHY_CHECK(sorted.front() > -kCensored, sorted.front());
  CRASHWORTHY_CHECK(std::is_sorted(sorted.begin(), sorted.end()));
  const double position = static_cast<double>(sorted.size() - 1) * q;
  const std::size_t below = static_cast<std::size_t>(position);
  const double fraction = position - static_cast<double>(below);
  // Apart, so that infinity is not multiplied by zero or subtracted from itself.
  if (fraction == 0 || sorted[below] == sorted[below + 1]) return sorted[below];
  return sorted[below] + fraction * (sorted[below + 1] - sorted[below]);
}

double median(std::span<const double> sorted) { return quantile(sorted, 0.5); }

Result<Estimate> median_estimate(std::span<const double> samples, double confidence) {
  check_confidence(confidence);
  if (auto good = check_samples(samples); !good) return good.error();
  const std::size_t n = samples.size();
  return estimate_from(
      OrderedValues({samples.begin(), samples.end()}), sign_critical_value(n, 1 - confidence),
      confidence,
      cannot_reach(confidence, counted(n, "sample"), std::to_string(pairs_needed(confidence))));
}

Result<Estimate> quantile_upper_bound(std::span<const double> samples, double q,
                                      double confidence) {
  check_confidence(confidence);
  CRASHWORTHY_CHECK(q > 0 && q < 1, q);
  if (auto good = check_samples(samples); !good) return good.error();
  const std::size_t n = samples.size();
  const std::vector<double> sorted = sorted_copy(samples);
  Estimate estimate{.value = quantile(sorted, q), .interval = {}, .reason = {}};
  const boost::math::binomial below(static_cast<double>(n), q);
  // The chance that fewer than k samples lie below the quantile, so that X(k) is not.
  const auto covers = [&](std::size_t k) { return cdf(below, static_cast<double>(k - 1)); };
  const double enough = 1 - (1 - confidence) * (1 + kRounding);
  if (covers(n) < enough) {
    const double need = std::ceil(std::log(1 - confidence) / std::log(q) - kRounding);
    estimate.reason = cannot_reach(confidence, counted(n, "sample"),
                                   std::to_string(static_cast<std::uint64_t>(need)));
    return estimate;
  }
  std::size_t too_low = 0;
  std::size_t k = n;
  while (k - too_low > 1) {
    const std::size_t middle = too_low + (k - too_low) / 2;
    (covers(middle) < enough ? too_low : k) = middle;
  }
  estimate.interval = Interval{.low = -kCensored,
                               .high = sorted[k - 1],
                               .confidence = confidence,
                               .coverage = covers(k),
                               .exact = true};
  return estimate;
}

Result<Estimate> hodges_lehmann(std::span<const double> differences, double confidence) {
  check_confidence(confidence);
  if (differences.empty()) return usage_error("no differences");
  for (std::size_t i = 0; i < differences.size(); ++i) {
    if (std::isnan(differences[i])) {
      return bad_value("difference", i, differences[i], "not a number");
    }
  }
  return signed_rank_estimate(differences, confidence, "difference");
}

Result<std::vector<std::size_t>> outliers(std::span<const double> samples) {
  if (auto good = check_samples(samples); !good) return good.error();
  std::vector<std::size_t> flagged;
  const double centre = median(sorted_copy(samples));
  if (std::isinf(centre)) return flagged;
  std::vector<double> deviations(samples.size());
  std::transform(samples.begin(), samples.end(), deviations.begin(),
                 [&](double x) { return std::abs(x - centre); });
  // Infinite when about half of the samples are censored: then only those can stand out.
  const double scale = median(sorted_copy(deviations));
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (std::isinf(samples[i]) || deviations[i] > kOutlierScore * scale) flagged.push_back(i);
  }
  return flagged;
}

std::size_t pairs_needed(double confidence) {
  check_confidence(confidence);
  std::size_t n = 1;
  for (double tail = 1; tail > (1 - confidence) * (1 + kRounding); tail /= 2) ++n;
  return n;
}

Interval wilson(std::uint64_t successes, std::uint64_t trials, double confidence) {
  check_confidence(confidence);
  const double z = normal_quantile(0.5 + confidence / 2);
  return {.low = wilson_end(successes, trials, -z),
          .high = wilson_end(successes, trials, z),
          .confidence = confidence,
          .coverage = confidence,
          .exact = false};
}

double wilson_lower_bound(std::uint64_t successes, std::uint64_t trials, double confidence) {
  CRASHWORTHY_CHECK(confidence > 0.5 && confidence < 1, confidence);
  return wilson_end(successes, trials, -normal_quantile(confidence));
}

Result<RatioEstimate> paired_log_ratio(std::span<const double> baseline,
                                       std::span<const double> contender, double confidence) {
  check_confidence(confidence);
  if (baseline.size() != contender.size()) {
    return usage_error("pairs need as many values on both sides: baseline has " +
                       std::to_string(baseline.size()) + ", contender " +
                       std::to_string(contender.size()));
  }
  if (auto good = check_arm(baseline, "baseline"); !good) return good.error();
  if (auto good = check_arm(contender, "contender"); !good) return good.error();
  RatioEstimate result;
  std::vector<double> differences;
  for (std::size_t i = 0; i < baseline.size(); ++i) {
    const double difference = std::log(contender[i]) - std::log(baseline[i]);
    if (std::isnan(difference)) {
      ++result.dropped_pairs;
    } else {
      differences.push_back(difference);
    }
  }
  if (differences.empty()) {
    return Error{.kind = ErrorKind::kIncomparable,
                 .message = "both sides are censored in every one of " +
                            counted(result.dropped_pairs, "pair"),
                 .hint = "watch longer, or compare how many recovered"};
  }
  auto estimate = signed_rank_estimate(differences, confidence, "pair");
  if (!estimate) return estimate.error();
  result.ratio = *std::move(estimate);
  exponentiate(result.ratio);
  result.minimum_detectable_effect = paired_effect(differences);
  return result;
}

Result<RatioEstimate> unpaired_log_ratio(std::span<const double> baseline,
                                         std::span<const double> contender, double confidence) {
  check_confidence(confidence);
  if (auto good = check_arm(baseline, "baseline"); !good) return good.error();
  if (auto good = check_arm(contender, "contender"); !good) return good.error();
  const std::vector<double> x = logarithms(baseline);
  const std::vector<double> y = logarithms(contender);
  std::vector<double> differences;
  differences.reserve(x.size() * y.size());
  for (const double from : x) {
    for (const double to : y) differences.push_back(to - from);
  }
  const std::string needed = std::to_string(samples_a_side_needed(confidence));
  RatioEstimate result;
  result.ratio = estimate_from(
      OrderedValues(std::move(differences)),
      mann_whitney_critical_value(x.size(), y.size(), 1 - confidence), confidence,
      cannot_reach(confidence, std::to_string(x.size()) + " and " + counted(y.size(), "sample"),
                   needed + " and " + needed));
  exponentiate(result.ratio);
  result.minimum_detectable_effect = unpaired_effect(x, y);
  return result;
}

double paired_minimum_detectable_effect(double deviation_of_log_ratio, std::size_t pairs) {
  CRASHWORTHY_CHECK(deviation_of_log_ratio >= 0 && pairs > 1, deviation_of_log_ratio, pairs);
  return minimum_detectable_effect(deviation_of_log_ratio, static_cast<double>(pairs), pairs - 1);
}

double unpaired_minimum_detectable_effect(double deviation_of_log, std::size_t n, std::size_t m) {
  CRASHWORTHY_CHECK(deviation_of_log >= 0 && n > 0 && m > 0 && n + m > 2, deviation_of_log, n, m);
  const double variance = 1 / static_cast<double>(n) + 1 / static_cast<double>(m);
  return minimum_detectable_effect(deviation_of_log, 1 / variance, n + m - 2);
}

double gate_confidence(double alpha, int looks) {
  CRASHWORTHY_CHECK(alpha > 0 && alpha < 0.5 && looks >= 1, alpha, looks);
  return 1 - 2 * alpha / looks;
}

Verdict non_inferior(const std::optional<Interval>& ratio, double margin, bool lower_is_better) {
  CRASHWORTHY_CHECK(margin >= 0 && (lower_is_better || margin < 1), margin, lower_is_better);
  if (!ratio) return Verdict::kInconclusive;
  CRASHWORTHY_CHECK(ratio->low <= ratio->high, ratio->low, ratio->high);
  const double edge = lower_is_better ? 1 + margin : 1 - margin;
  const bool above = ratio->low > edge;
  const bool below = ratio->high < edge;
  if (!above && !below) return Verdict::kInconclusive;
  return above == lower_is_better ? Verdict::kFail : Verdict::kPass;
}

}  // namespace crashworthy::statistics

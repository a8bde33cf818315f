#include "results/statistics/rank_distributions.h"

#include <boost/math/distributions/binomial.hpp>
#include <boost/math/distributions/normal.hpp>
#include <cmath>

#include "harness/os/check.h"

namespace crashworthy::statistics {
namespace {

// Tails are multiples of a reciprocal integer and may equal alpha (2 / C(6,3) is 10%), while 1 -
// 0.9 is a little less than 0.1 in binary. A tail within rounding of alpha counts as alpha.
bool within(double tail, double alpha) { return tail <= alpha * (1 + 1e-9); }

std::optional<CriticalValue> from_probabilities(const std::vector<double>& probabilities,
                                                double alpha) {
  std::optional<CriticalValue> found;
  double lower_tail = 0;
  for (std::size_t value = 0; value < probabilities.size(); ++value) {
    lower_tail += probabilities[value];
    if (!within(2 * lower_tail, alpha)) break;
    found = CriticalValue{.value = value, .alpha = 2 * lower_tail};
  }
  return found;
}

std::optional<CriticalValue> from_normal(double mean, double deviation, double alpha) {
  const boost::math::normal standard;
  const double z = boost::math::quantile(boost::math::complement(standard, alpha / 2));
  const double value = std::floor(mean - 0.5 - z * deviation);
  if (value < 0) return std::nullopt;
  const double tail = boost::math::cdf(standard, (value + 0.5 - mean) / deviation);
  return CriticalValue{
      .value = static_cast<std::uint64_t>(value), .alpha = 2 * tail, .exact = false};
}

}  // namespace

std::vector<double> signed_rank_probabilities(std::size_t n) {
  CRASHWORTHY_CHECK(n <= kExactPairs, n);
  std::vector<double> probability(n * (n + 1) / 2 + 1, 0.0);
  probability[0] = 1;
  for (std::size_t rank = 1; rank <= n; ++rank) {
    // Downwards, so that probability[sum - rank] is still the one without this rank.
    for (std::size_t sum = rank * (rank + 1) / 2 + 1; sum-- > 0;) {
      probability[sum] = (probability[sum] + (sum >= rank ? probability[sum - rank] : 0)) / 2;
    }
  }
  return probability;
}

std::vector<double> mann_whitney_probabilities(std::size_t n, std::size_t m) {
  CRASHWORTHY_CHECK(n > 0 && m > 0 && n * m <= kExactProduct, n, m);
  // rows[j] is the distribution for (i, j); the pass over i turns that of (i - 1, j) into that of
  // (i, j). Sums only, no differences: the closed generating function would cancel.
  std::vector<std::vector<double>> rows(m + 1, std::vector<double>{1.0});
  for (std::size_t i = 1; i <= n; ++i) {
    for (std::size_t j = 1; j <= m; ++j) {
      const double last_is_y = static_cast<double>(j) / static_cast<double>(i + j);
      const std::vector<double>& without_x = rows[j];
      const std::vector<double>& without_y = rows[j - 1];
      std::vector<double> next(i * j + 1, 0.0);
      for (std::size_t u = 0; u < without_x.size(); ++u) next[u] = (1 - last_is_y) * without_x[u];
      for (std::size_t u = 0; u < without_y.size(); ++u) next[u + i] += last_is_y * without_y[u];
      rows[j] = std::move(next);
    }
  }
  return rows[m];
}

std::optional<CriticalValue> sign_critical_value(std::size_t n, double alpha) {
  CRASHWORTHY_CHECK(alpha > 0 && alpha < 1, alpha);
  if (n == 0) return std::nullopt;
  const boost::math::binomial null(static_cast<double>(n), 0.5);
  const auto spends = [&](std::size_t value) {
    return 2 * boost::math::cdf(null, static_cast<double>(value));
  };
  if (!within(spends(0), alpha)) return std::nullopt;
  std::size_t rejected = 0;
  std::size_t kept = n / 2 + 1;  // Its lower tail is above one half.
  while (kept - rejected > 1) {
    const std::size_t middle = rejected + (kept - rejected) / 2;
    (within(spends(middle), alpha) ? rejected : kept) = middle;
  }
  return CriticalValue{.value = rejected, .alpha = spends(rejected)};
}

std::optional<CriticalValue> signed_rank_critical_value(std::size_t n, double alpha) {
  CRASHWORTHY_CHECK(alpha > 0 && alpha < 1, alpha);
  if (n <= kExactPairs) return from_probabilities(signed_rank_probabilities(n), alpha);
  const double count = static_cast<double>(n);
  return from_normal(count * (count + 1) / 4, std::sqrt(count * (count + 1) * (2 * count + 1) / 24),
                     alpha);
}

std::optional<CriticalValue> mann_whitney_critical_value(std::size_t n, std::size_t m,
                                                         double alpha) {
  CRASHWORTHY_CHECK(alpha > 0 && alpha < 1, alpha);
  if (n == 0 || m == 0) return std::nullopt;
  if (n * m <= kExactProduct) return from_probabilities(mann_whitney_probabilities(n, m), alpha);
  const double product = static_cast<double>(n) * static_cast<double>(m);
  const double total = static_cast<double>(n) + static_cast<double>(m);
  return from_normal(product / 2, std::sqrt(product * (total + 1) / 12), alpha);
}

}  // namespace crashworthy::statistics

// The null distributions behind the intervals of statistics.h: sign test, Wilcoxon signed rank,
// Mann-Whitney.
//
// All three are symmetric and free of the distribution of the data, which is why the intervals need
// no normality. Every function here is pure and may be called from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace crashworthy::statistics {

// The largest value of a test statistic that a two-sided test still rejects.
struct CriticalValue {
  std::uint64_t value = 0;
  double alpha = 0;   // What the test spends: 2 P(statistic <= value), at most the alpha asked for.
  bool exact = true;  // false: `alpha` comes from the normal approximation.
};

// Up to this many pairs the signed-rank distribution is exact, above it a normal approximation.
inline constexpr std::size_t kExactPairs = 100;
// Up to this product of the two sample sizes the Mann-Whitney distribution is exact.
inline constexpr std::size_t kExactProduct = 10'000;

// P(T+ = t) for t = 0 .. n(n+1)/2, where T+ is the sum of the ranks of the positive ones among n
// symmetric, untied differences. By dynamic programming over the ranks, in O(n^3): rank r joins the
// sum with chance 1/2. Exact in binary up to n = 50, within 1e-12 up to n = kExactPairs, which is
// the largest n allowed.
// Source: Wilcoxon, Biometrics Bulletin 1 (1945); Hollander & Wolfe, Nonparametric Statistical
// Methods, 3.1.
std::vector<double> signed_rank_probabilities(std::size_t n);

// P(U = u) for u = 0 .. n m, where U counts the pairs (x, y) with x < y of two untied samples of
// one distribution. By the recursion over the owner of the largest value, in O((n m)^2): it is a y
// with chance m / (n + m) and then adds n to U.
// Needs n, m > 0 and n m <= kExactProduct.
// Source: Mann & Whitney, Annals of Mathematical Statistics 18 (1947).
std::vector<double> mann_whitney_probabilities(std::size_t n, std::size_t m);

// The critical value of the sign test: binomial(n, 1/2), exact for every n. Empty when even 0 is
// not rejected, that is when 2^(1-n) > alpha. `alpha` lies inside (0, 1) here and below.
std::optional<CriticalValue> sign_critical_value(std::size_t n, double alpha);

// The critical value of Wilcoxon's signed-rank test. Exact up to kExactPairs; above, from the
// normal approximation with continuity correction: mean n(n+1)/4, variance n(n+1)(2n+1)/24. Empty
// when 2^(1-n) > alpha.
std::optional<CriticalValue> signed_rank_critical_value(std::size_t n, double alpha);

// The critical value of the Mann-Whitney test. Exact up to n m = kExactProduct; above, from the
// normal approximation with continuity correction: mean n m / 2, variance n m (n + m + 1) / 12.
// Empty when the samples are too small, that is when 2 / C(n+m, n) > alpha, or when one of them is
// empty.
std::optional<CriticalValue> mann_whitney_critical_value(std::size_t n, std::size_t m,
                                                         double alpha);

}  // namespace crashworthy::statistics

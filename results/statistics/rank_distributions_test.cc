// The null distributions against full enumeration of small cases and against the tables printed in
// textbooks.
#include "results/statistics/rank_distributions.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace crashworthy::statistics {
namespace {

double total(const std::vector<double>& probabilities) {
  return std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
}

TEST(SignedRank, MatchesEnumerationOfAllSigns) {
  for (std::size_t n = 1; n <= 8; ++n) {
    std::vector<double> counted(n * (n + 1) / 2 + 1, 0.0);
    for (unsigned signs = 0; signs < 1u << n; ++signs) {
      std::size_t sum = 0;
      for (std::size_t rank = 1; rank <= n; ++rank) sum += (signs >> (rank - 1) & 1) ? rank : 0;
      counted[sum] += std::ldexp(1.0, -static_cast<int>(n));
    }
    EXPECT_EQ(signed_rank_probabilities(n), counted) << n;
  }
}

TEST(MannWhitney, MatchesEnumerationOfAllOrders) {
  for (std::size_t n = 1; n <= 8; ++n) {
    for (std::size_t m = 1; n + m <= 12; ++m) {
      std::vector<double> counted(n * m + 1, 0.0);
      double orders = 0;
      for (unsigned is_y = 0; is_y < 1u << (n + m); ++is_y) {  // Bit i: who owns the i-th smallest.
        std::size_t x_below = 0;
        std::size_t u = 0;
        for (std::size_t i = 0; i < n + m; ++i) (is_y >> i & 1) ? u += x_below : ++x_below;
        if (x_below != n) continue;
        counted[u] += 1;
        orders += 1;
      }
      const std::vector<double> computed = mann_whitney_probabilities(n, m);
      ASSERT_EQ(computed.size(), counted.size());
      for (std::size_t u = 0; u < counted.size(); ++u) {
        EXPECT_NEAR(computed[u], counted[u] / orders, 1e-14) << n << ' ' << m << ' ' << u;
      }
    }
  }
}

TEST(ExactDistributions, KeepTheirMassAndSymmetryAtTheLimit) {
  const std::vector<double> pairs = signed_rank_probabilities(kExactPairs);
  const std::vector<double> samples = mann_whitney_probabilities(100, 100);
  for (const std::vector<double>& probabilities : {pairs, samples}) {
    EXPECT_NEAR(total(probabilities), 1, 1e-12);
    for (std::size_t i = 0; i < probabilities.size() / 2; ++i) {
      EXPECT_NEAR(probabilities[i], probabilities[probabilities.size() - 1 - i], 1e-14);
    }
  }
}

// Two-sided critical values T for n = 6 .. 20, as printed with every text on the test (Wilcoxon &
// Wilcox 1964).
TEST(SignedRank, HasTheTabulatedCriticalValues) {
  constexpr int kNone = -1;
  const struct {
    double alpha;
    std::vector<int> critical;
  } tables[] = {
      {0.10, {2, 3, 5, 8, 10, 13, 17, 21, 25, 30, 35, 41, 47, 53, 60}},
      {0.05, {0, 2, 3, 5, 8, 10, 13, 17, 21, 25, 29, 34, 40, 46, 52}},
      {0.02, {kNone, 0, 1, 3, 5, 7, 9, 12, 15, 19, 23, 27, 32, 37, 43}},
      {0.01, {kNone, kNone, 0, 1, 3, 5, 7, 9, 12, 15, 19, 23, 27, 32, 37}},
  };
  for (const auto& [alpha, critical] : tables) {
    for (std::size_t n = 6; n <= 20; ++n) {
      const auto found = signed_rank_critical_value(n, alpha);
      EXPECT_EQ(found ? static_cast<int>(found->value) : kNone, critical[n - 6])
          << n << ' ' << alpha;
      if (found) {
        EXPECT_LE(found->alpha, alpha);
      }
    }
  }
  EXPECT_FALSE(signed_rank_critical_value(5, 0.05));
  EXPECT_FALSE(signed_rank_critical_value(0, 0.05));
  EXPECT_DOUBLE_EQ(signed_rank_critical_value(10, 0.05)->alpha, 2 * 25.0 / 1024);
}

// Two-sided 5% critical values of U (Mann & Whitney 1947, as reprinted by Siegel, Nonparametric
// Statistics, table K).
TEST(MannWhitney, HasTheTabulatedCriticalValues) {
  const struct {
    std::size_t n, m;
    std::uint64_t critical;
  } table[] = {{4, 4, 0},    {3, 5, 0},    {3, 6, 1},    {3, 8, 2},    {4, 5, 1},  {4, 8, 4},
               {5, 5, 2},    {5, 6, 3},    {5, 7, 5},    {5, 10, 8},   {6, 6, 5},  {6, 8, 8},
               {7, 7, 8},    {7, 10, 14},  {8, 8, 13},   {8, 10, 17},  {9, 9, 17}, {10, 10, 23},
               {12, 12, 37}, {15, 15, 64}, {10, 20, 55}, {20, 20, 127}};
  for (const auto& [n, m, critical] : table) {
    ASSERT_TRUE(mann_whitney_critical_value(n, m, 0.05)) << n << ' ' << m;
    EXPECT_EQ(mann_whitney_critical_value(n, m, 0.05)->value, critical) << n << ' ' << m;
    EXPECT_EQ(mann_whitney_critical_value(m, n, 0.05)->value, critical) << m << ' ' << n;
  }
  EXPECT_FALSE(mann_whitney_critical_value(3, 3, 0.05));
  EXPECT_FALSE(mann_whitney_critical_value(3, 4, 0.05));
  EXPECT_FALSE(mann_whitney_critical_value(0, 9, 0.05));
}

// 2 / C(6, 3) is exactly 10%, and 1 - 0.9 is a little less than 0.1 in binary.
TEST(MannWhitney, ReachesAnAlphaThatItMeetsExactly) {
  ASSERT_TRUE(mann_whitney_critical_value(3, 3, 1 - 0.9));
  EXPECT_NEAR(mann_whitney_critical_value(3, 3, 1 - 0.9)->alpha, 0.1, 1e-12);
}

TEST(Sign, HasTheBinomialCriticalValues) {
  const struct {
    std::size_t n;
    std::uint64_t critical;
  } table[] = {{6, 0},  {8, 0},  {9, 1},  {12, 2},  {15, 3},
               {17, 4}, {20, 5}, {25, 7}, {50, 17}, {100, 39}};
  for (const auto& [n, critical] : table) {
    EXPECT_EQ(sign_critical_value(n, 0.05)->value, critical) << n;
    EXPECT_TRUE(sign_critical_value(n, 0.05)->exact);
  }
  EXPECT_FALSE(sign_critical_value(5, 0.05));
  EXPECT_FALSE(sign_critical_value(0, 0.05));
  EXPECT_NEAR(sign_critical_value(10, 0.05)->alpha, 2 * 11.0 / 1024, 1e-15);
}

// Where exact ends and the approximation begins, the critical value goes on as if nothing had
// happened.
TEST(NormalApproximation, ContinuesTheExactValues) {
  for (const double alpha : {0.10, 0.05, 0.01}) {
    // Second differences of the exact values are about 1/2, so a straight line is good for +-1; the
    // rest is the approximation, worst far out in the tail.
    const auto at = [&](std::size_t n) {
      return static_cast<double>(signed_rank_critical_value(n, alpha)->value);
    };
    EXPECT_NEAR(at(101), 2 * at(100) - at(99), 5) << alpha;
    EXPECT_TRUE(signed_rank_critical_value(100, alpha)->exact);
    EXPECT_FALSE(signed_rank_critical_value(101, alpha)->exact);
    EXPECT_LE(signed_rank_critical_value(101, alpha)->alpha, alpha);

    const auto u = [&](std::size_t n, std::size_t m) {
      return static_cast<double>(mann_whitney_critical_value(n, m, alpha)->value);
    };
    EXPECT_NEAR(u(100, 101), 2 * u(100, 100) - u(100, 99), 5) << alpha;
    EXPECT_TRUE(mann_whitney_critical_value(100, 100, alpha)->exact);
    EXPECT_FALSE(mann_whitney_critical_value(100, 101, alpha)->exact);
  }
}

}  // namespace
}  // namespace crashworthy::statistics

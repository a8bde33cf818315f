#include "benchmarks/micro/paired.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "harness/os/clock.h"
#include "harness/os/random.h"
#include "results/statistics/statistics.h"

namespace crashworthy::benchmark {

Result<std::vector<Series>> measure_in_turns(const std::vector<Side>& sides, int rounds,
                                             int warm_up, std::uint64_t seed) {
  std::vector<Series> all;
  std::vector<std::size_t> order;
  for (const Side& side : sides) {
    order.push_back(all.size());
    all.push_back({side.name, {}});
  }
  Random random(seed);
  const bool progress = ::isatty(STDERR_FILENO) != 0;
  for (int round = 0; round < rounds + warm_up; ++round) {
    if (progress) std::fprintf(stderr, "\rround %d of %d ", round + 1, rounds + warm_up);
    random.shuffle(order);
    for (const std::size_t i : order) {
      auto time = sides[i].measure();
      if (!time) return time.error().with_context(sides[i].name);
      if (round >= warm_up) all[i].samples.push_back(*time);
    }
  }
  if (progress) std::fprintf(stderr, "\r\033[K");
  return all;
}

namespace {

std::string interval_text(const statistics::Estimate& estimate) {
  if (!estimate.interval) return estimate.reason;
  return fmt::format("[{:.4g}, {:.4g}]", estimate.interval->low, estimate.interval->high);
}

}  // namespace

Result<nlohmann::json> report(const std::string& title, const std::vector<Series>& all,
                              std::size_t yardstick, bool print) {
  nlohmann::json sides = nlohmann::json::array();
  if (print) {
    fmt::print("{} ({} rounds)\n", title, all[yardstick].samples.size());
    fmt::print("  {:<28} {:>9} {:>9} {:>9}  {:<20} {:>8}\n", "", "median", "p99", "ratio", "95%",
               "MDE");
  }
  for (const Series& series : all) {
    auto middle = statistics::median_estimate(series.samples);
    if (!middle) return middle.error();
    auto ratio = statistics::paired_log_ratio(all[yardstick].samples, series.samples);
    if (!ratio) return ratio.error();
    std::vector<double> sorted = series.samples;
    std::sort(sorted.begin(), sorted.end());
    const double p99 = statistics::quantile(sorted, 0.99);
    const bool self = &series == &all[yardstick];
    const auto effect = ratio->minimum_detectable_effect;
    if (print) {
      fmt::print("  {:<28} {:>9} {:>9} {:>9}  {:<20} {:>8}\n", series.name,
                 format_duration(middle->value), format_duration(p99),
                 self ? "1" : fmt::format("{:.4g}", ratio->ratio.value),
                 self ? "the yardstick" : interval_text(ratio->ratio),
                 self || !effect ? "-" : fmt::format("{:.1f}%", *effect * 100));
    }
    nlohmann::json side = {{"name", series.name},
                           {"median_ns", middle->value},
                           {"p99_ns", p99},
                           {"ratio", ratio->ratio.value},
                           {"ratio_interval_95", nullptr},
                           {"minimum_detectable_effect", nullptr},
                           {"samples_ns", series.samples}};
    if (middle->interval) {
      side["median_interval_95_ns"] = {middle->interval->low, middle->interval->high};
    }
    if (ratio->ratio.interval) {
      side["ratio_interval_95"] = {ratio->ratio.interval->low, ratio->ratio.interval->high};
    }
    if (effect) side["minimum_detectable_effect"] = *effect;
    sides.push_back(std::move(side));
  }
  std::fflush(stdout);
  return nlohmann::json{{"title", title},
                        {"rounds", all[yardstick].samples.size()},
                        {"yardstick", all[yardstick].name},
                        {"sides", std::move(sides)}};
}

}  // namespace crashworthy::benchmark

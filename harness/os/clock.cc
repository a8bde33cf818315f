#include "harness/os/clock.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <utility>

namespace crashworthy {
namespace {

struct Number {
  double value = 0;
  std::string_view unit;
};

Result<Number> split_number(std::string_view text, const char* what) {
  Number number;
  const char* end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, number.value);
  if (failure != std::errc() || !std::isfinite(number.value)) {
    return usage_error("'" + std::string(text) + "' is not a " + what);
  }
  if (number.value < 0) {
    return usage_error("'" + std::string(text) + "' is a negative " + what);
  }
  number.unit = std::string_view(rest, static_cast<std::size_t>(end - rest));
  while (!number.unit.empty() && number.unit.front() == ' ') number.unit.remove_prefix(1);
  return number;
}

}  // namespace

std::int64_t now_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

std::string utc_timestamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

Result<Nanoseconds> parse_duration(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 6> kUnits{
      {{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}}};
  auto number = split_number(text, "duration");
  if (!number) return number.error();
  for (const auto& [name, factor] : kUnits) {
    if (number->unit != name) continue;
    const double value = number->value * factor;
    if (value > 9e18) return usage_error("'" + std::string(text) + "' is too long a duration");
    return Nanoseconds(static_cast<std::int64_t>(std::llround(value)));
  }
  return usage_error("'" + std::string(text) + "' is not a duration",
                     "write a number with one of the units ns, us, ms, s, m, h: \"250ms\"");
}

Result<std::uint64_t> parse_size(std::string_view text) {
  auto number = split_number(text, "size");
  if (!number) return number.error();
  static constexpr std::array<std::pair<std::string_view, double>, 10> kUnits{{{"", 1},
                                                                               {"B", 1},
                                                                               {"K", 0x1p10},
                                                                               {"KB", 0x1p10},
                                                                               {"KiB", 0x1p10},
                                                                               {"M", 0x1p20},
                                                                               {"MB", 0x1p20},
                                                                               {"MiB", 0x1p20},
                                                                               {"G", 0x1p30},
                                                                               {"GiB", 0x1p30}}};
  for (const auto& [name, factor] : kUnits) {
    if (number->unit != name) continue;
    const double value = number->value * factor;
    if (value > 0x1p62) return usage_error("'" + std::string(text) + "' is too large a size");
    return static_cast<std::uint64_t>(value);
  }
  return usage_error("'" + std::string(text) + "' is not a size",
                     "write bytes, or a number with K, M or G: \"64M\"");
}

std::string format_duration(double nanoseconds) {
  static constexpr std::array<std::pair<const char*, double>, 4> kUnits{
      {{"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}}};
  for (const auto& [name, factor] : kUnits) {
    const double value = nanoseconds / factor;
    if (std::abs(value) < 1 && factor > 1) continue;
    const int decimals = std::abs(value) >= 100 ? 0 : std::abs(value) >= 10 ? 1 : 2;
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.*f %s", decimals, value, name);
    return text.data();
  }
  return "0 ns";
}

}  // namespace crashworthy

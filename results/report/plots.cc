#include "results/report/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "results/report/format.h"
#include "results/report/svg.h"
#include "results/report/text.h"

namespace crashworthy::report {
namespace {

struct Part {
  const char* name;
  const char* cls;
};
constexpr std::array<Part, 4> kParts{
    {{"detect", "p0"}, {"initiate", "p1"}, {"repair", "p2"}, {"process", "p3"}}};

// -- Rates around the fault --

struct Panel {
  double width = 360, height = 236;
  double left = 48, right = 350, top = 44, bottom = 196;
};

void draw_rate_axes(Svg& svg, const Panel& panel, const Axis& x, const Axis& y) {
  for (const double tick : round_ticks(y.low, y.high, 4)) {
    svg.line(panel.left, y.at(tick), panel.right, y.at(tick), "grid");
    svg.text(panel.left - 6, y.at(tick) + 3.5, number(tick, kTypographic), "tick", "end");
  }
  svg.line(panel.left, panel.bottom, panel.right, panel.bottom, "axis");
  for (const double tick : round_ticks(x.low, x.high, 5)) {
    svg.line(x.at(tick), panel.bottom, x.at(tick), panel.bottom + 4, "axis");
    svg.text(x.at(tick), panel.bottom + 16, fmt::format("{:g}", std::abs(tick) < 1e-12 ? 0 : tick),
             "tick", "middle");
  }
  svg.text((panel.left + panel.right) / 2, panel.height - 6, "seconds after the fault", "label",
           "middle");
  svg.upright_text(12, (panel.top + panel.bottom) / 2, "good items/s", "label");
}

std::vector<Point> to_points(const std::vector<double>& times, const std::vector<double>& rates,
                             const Axis& x, const Axis& y) {
  std::vector<Point> points;
  for (std::size_t i = 0; i < times.size(); ++i) {
    points.emplace_back(x.at(times[i]), y.at(rates[i]));
  }
  return points;
}

// Between the level and the part of the median curve that is below it.
void draw_lost_area(Svg& svg, const FaultCurves& fault, const ArmCurves& arm, const Axis& x,
                    const Axis& y, std::size_t colour) {
  if (arm.lost_last <= arm.lost_first + 1) return;
  std::vector<Point> points;
  const std::size_t last = std::min(arm.lost_last, fault.time_s.size() - 1);
  points.emplace_back(x.at(fault.time_s[arm.lost_first]), y.at(arm.level));
  for (std::size_t i = arm.lost_first; i <= last; ++i) {
    if (std::isnan(arm.median[i])) break;
    points.emplace_back(x.at(fault.time_s[i]), y.at(std::min(arm.median[i], arm.level)));
  }
  points.emplace_back(points.back().first, y.at(arm.level));
  svg.polygon(points, fmt::format("lost h{}", colour % kArmColours),
              "lost area: below the level without a fault");
}

// -- Shares over time --

struct Times {
  std::string arm;
  std::size_t colour = 0;
  std::vector<double> reached;  // Ascending, ns.
  std::size_t trials = 0;
};

std::vector<Times> times_of(const Summary& summary, const std::string& fault) {
  std::vector<Times> out;
  const std::vector<std::string> arms = arms_of(summary);
  for (std::size_t i = 0; i < arms.size(); ++i) {
    const MeasureSummary* measure = find_measure(summary.cell(arms[i], fault), "first_good");
    if (measure == nullptr) continue;
    Times times{arms[i], i, {}, 0};
    for (std::size_t k = 0; k < measure->samples.size(); ++k) {
      const bool censored = k < measure->sample_censored.size() && measure->sample_censored[k];
      if (measure->samples[k]) times.reached.push_back(std::max(*measure->samples[k], 1.0));
      times.trials += measure->samples[k] || censored ? 1 : 0;
    }
    std::sort(times.reached.begin(), times.reached.end());
    if (times.trials > 0) out.push_back(std::move(times));
  }
  return out;
}

// Whole decades around all times after all faults.
Axis time_axis(const Summary& summary) {
  double low = 0;
  double high = 0;
  for (const std::string& fault : faults_of(summary)) {
    for (const Times& times : times_of(summary, fault)) {
      if (times.reached.empty()) continue;
      low = low == 0 ? times.reached.front() : std::min(low, times.reached.front());
      high = std::max(high, times.reached.back());
    }
  }
  low = std::pow(10, std::floor(std::log10(std::max(low, 1.0) * 0.9)));
  high = std::pow(10, std::ceil(std::log10(std::max(high * 1.1, low * 10))));
  return {low, high, 0, 1, true};
}

std::vector<Point> steps_of(const Times& times, const Axis& x, const Axis& y) {
  std::vector<Point> points{{x.from, y.at(0)}};
  const auto n = static_cast<double>(times.trials);
  for (std::size_t i = 0; i < times.reached.size(); ++i) {
    points.emplace_back(x.at(times.reached[i]), y.at(static_cast<double>(i) / n));
    points.emplace_back(x.at(times.reached[i]), y.at(static_cast<double>(i + 1) / n));
  }
  points.emplace_back(x.to, y.at(static_cast<double>(times.reached.size()) / n));
  return points;
}

// Moves labels apart so that they are at least `gap` away from each other, and none is below
// `bottom`.
void spread(std::vector<double*>& places, double gap, double bottom) {
  std::sort(places.begin(), places.end(), [](const double* a, const double* b) { return *a < *b; });
  for (std::size_t i = 1; i < places.size(); ++i) {
    *places[i] = std::max(*places[i], *places[i - 1] + gap);
  }
  double limit = bottom;
  for (std::size_t i = places.size(); i-- > 0;) {
    *places[i] = std::min(*places[i], limit);
    limit = *places[i] - gap;
  }
}

void draw_share_axes(Svg& svg, const Panel& panel, const Axis& x, const Axis& y) {
  for (const double tick : {0.0, 0.5, 1.0}) {
    svg.line(panel.left, y.at(tick), panel.right, y.at(tick), "grid");
    svg.text(panel.left - 6, y.at(tick) + 3.5, fmt::format("{:.0f}%", tick * 100), "tick", "end");
  }
  svg.line(panel.left, panel.bottom, panel.right, panel.bottom, "axis");
  for (const double tick : decade_ticks(x.low, x.high)) {
    svg.line(x.at(tick), panel.bottom, x.at(tick), panel.bottom + 4, "axis");
    const Script& script = kTypographic;
    svg.text(x.at(tick), panel.bottom + 16,
             tick > 0.9e9   ? fmt::format("{:g} s", tick / 1e9)
             : tick > 0.9e6 ? fmt::format("{:g} ms", tick / 1e6)
             : tick > 0.9e3 ? fmt::format("{:g} {}", tick / 1e3, script.micro)
                            : fmt::format("{:g} ns", tick),
             "tick", "middle");
  }
  svg.text((panel.left + panel.right) / 2, panel.height - 6, "time after the fault", "label",
           "middle");
}

// -- Decomposition --

struct Bar {
  std::string fault, arm;
  bool first_of_fault = false;
  double total = 0;
  std::array<std::optional<double>, kParts.size()> parts;
  std::string interval;

  double length() const {
    double sum = 0;
    for (const auto& part : parts) sum += part ? std::max(*part, 0.0) : 0;
    return sum > 0 ? sum : total;
  }
};

std::vector<Bar> bars_of(const Summary& summary) {
  std::vector<Bar> bars;
  for (const std::string& fault : faults_of(summary)) {
    bool first = true;
    for (const std::string& arm : arms_of(summary)) {
      const CellSummary* cell = summary.cell(arm, fault);
      const MeasureSummary* whole = find_measure(cell, "first_good");
      if (whole == nullptr || !whole->estimate) continue;
      Bar bar{fault, arm, std::exchange(first, false), *whole->estimate, {}, {}};
      for (std::size_t i = 0; i < kParts.size(); ++i) {
        const MeasureSummary* part = find_measure(cell, kParts[i].name);
        if (part != nullptr) bar.parts[i] = part->estimate;
      }
      const ShownValue shown = show_measure("first_good", *whole, kTypographic);
      bar.interval = shown.value + " " + shown.interval;
      bars.push_back(std::move(bar));
    }
  }
  return bars;
}

void draw_bar(Svg& svg, const Bar& bar, const Axis& x, double y) {
  constexpr double kThick = 18;
  std::string sum;
  double at = 0;
  for (std::size_t i = 0; i < kParts.size(); ++i) {
    if (!bar.parts[i]) continue;
    const std::string value = show_value(*bar.parts[i], "ns", kTypographic);
    const double from = x.at(at);
    at += std::max(*bar.parts[i], 0.0);
    svg.rect(from, y, x.at(at) - from, kThick, kParts[i].cls,
             std::string(kParts[i].name) + ": " + value);
    sum += fmt::format("{}{} {}", sum.empty() ? "" : " · ", kParts[i].name, value);
  }
  if (sum.empty()) svg.rect(x.at(0), y, x.at(bar.total) - x.at(0), kThick, "pn", "not divided");
  const double end = x.at(bar.length()) + 8;
  svg.text(end, y + 8, bar.interval, "value");
  svg.text(end, y + 20, sum.empty() ? "no stamps from inside" : sum, "tick");
}

double round_up(double value) {
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double factor : {1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0}) {
    if (factor * power >= value) return factor * power;
  }
  return 10 * power;
}

}  // namespace

std::string arm_class(std::size_t index) { return fmt::format("a{}", index % kArmColours); }

std::string rate_panel(const FaultCurves& fault, std::size_t arm_index) {
  const ArmCurves& arm = fault.arms[arm_index];
  const Panel panel;
  const Axis x{fault.time_s.front(), fault.time_s.back(), panel.left, panel.right};
  const Axis y{0, fault.top * 1.2, panel.bottom, panel.top};
  Svg svg(panel.width, panel.height,
          "rate of good items around the fault " + fault.fault + " in the arm " + arm.arm);
  svg.text(panel.left, 16, shorten(arm.arm, 30), "title " + arm_class(arm_index));
  svg.text(panel.left, 32,
           arm.level > 0 ? "dashed: " + number(arm.level, kTypographic) + "/s without a fault"
                         : "no trial without a fault to compare with",
           "tick");
  draw_rate_axes(svg, panel, x, y);
  if (arm.trials == 0) {
    svg.text((panel.left + panel.right) / 2, (panel.top + panel.bottom) / 2,
             "no confirmed fault in this arm", "label", "middle");
    return svg.finish();
  }
  draw_lost_area(svg, fault, arm, x, y, arm_index);
  for (const RateCurve& curve : arm.shown) {
    svg.path(to_points(fault.time_s, curve.rate, x, y), "thin " + arm_class(arm_index),
             fmt::format("trial {}", curve.trial));
  }
  if (arm.level > 0) svg.line(panel.left, y.at(arm.level), panel.right, y.at(arm.level), "level");
  svg.line(x.at(0), panel.top - 4, x.at(0), panel.bottom, "fault");
  svg.path(to_points(fault.time_s, arm.median, x, y), "bold " + arm_class(arm_index),
           fmt::format("median of {} trials", arm.trials));
  return svg.finish();
}

std::string decomposition_plot(const Summary& summary) {
  const std::vector<Bar> bars = bars_of(summary);
  if (bars.empty()) return {};
  double longest = 0;
  double height = 34;
  constexpr double kRow = 34;
  constexpr double kGroup = 26;
  for (const Bar& bar : bars) {
    longest = std::max(longest, bar.length());
    height += kRow + (bar.first_of_fault ? kGroup : 0);
  }
  const Axis x{0, round_up(std::max(longest, 1.0)), 120, 720};
  Svg svg(1080, height + 44, "time to the first good work, by part");
  double at = x.from;
  for (const Part& part : kParts) {
    svg.rect(at, 6, 14, 14, part.cls);
    svg.text(at + 20, 17, part.name, "label");
    at += 100;
  }
  for (const double tick : round_ticks(x.low, x.high, 6)) {
    svg.line(x.at(tick), 30, x.at(tick), height, "grid");
    svg.text(x.at(tick), height + 16, show_value(tick, "ns", kTypographic), "tick", "middle");
  }
  svg.line(x.from, height, x.to, height, "axis");
  svg.text((x.from + x.to) / 2, height + 36, "time after the fault", "label", "middle");
  double y = 30;
  for (const Bar& bar : bars) {
    if (bar.first_of_fault) {
      svg.text(0, y + 18, shorten(bar.fault, 16), "title");
      y += kGroup;
    }
    svg.text(x.from - 10, y + 13, shorten(bar.arm, 16), "label", "end");
    draw_bar(svg, bar, x, y);
    y += kRow;
  }
  return svg.finish();
}

std::string recovered_by_time_plot(const Summary& summary, const std::string& fault) {
  const std::vector<Times> all = times_of(summary, fault);
  const auto reached = [](const Times& times) { return !times.reached.empty(); };
  if (std::none_of(all.begin(), all.end(), reached)) return {};
  Panel panel;
  panel.right = 236;
  panel.top = 34;
  Axis x = time_axis(summary);
  x.from = panel.left;
  x.to = panel.right;
  const Axis y{0, 1, panel.bottom, panel.top};
  Svg svg(panel.width, panel.height, "share of trials with a good output again after " + fault);
  svg.text(panel.left, 16, shorten(fault, 30), "title");
  draw_share_axes(svg, panel, x, y);
  std::vector<double> places;
  std::vector<double*> pointers;
  for (const Times& times : all) {
    svg.path(steps_of(times, x, y), "bold " + arm_class(times.colour),
             fmt::format("{}: {} of {}", times.arm, times.reached.size(), times.trials));
    places.push_back(
        y.at(static_cast<double>(times.reached.size()) / static_cast<double>(times.trials)) + 4);
  }
  for (double& place : places) pointers.push_back(&place);
  spread(pointers, 14, panel.bottom + 4);
  for (std::size_t i = 0; i < all.size(); ++i) {
    svg.text(panel.right + 6, places[i],
             fmt::format("{} {}/{}", shorten(all[i].arm, 11), all[i].reached.size(), all[i].trials),
             "end " + arm_class(all[i].colour));
  }
  return svg.finish();
}

std::string price_plot(const Summary& summary) {
  struct Row {
    std::string arm;
    std::size_t colour;
    const MeasureSummary* cost;
  };
  std::vector<Row> rows;
  double low = -0.01;
  double high = 0.01;
  const std::vector<std::string> arms = arms_of(summary);
  for (std::size_t i = 0; i < arms.size(); ++i) {
    const MeasureSummary* cost = find_measure(summary.cell(arms[i], "none"), "protection_cost");
    if (cost == nullptr || !cost->estimate) continue;
    rows.push_back({arms[i], i, cost});
    low = std::min(low, cost->low.value_or(*cost->estimate));
    high = std::max(high, cost->high.value_or(*cost->estimate));
  }
  if (rows.empty()) return {};
  const double room = (high - low) * 0.1;
  const Axis x{low - room, high + room, 150, 640};
  const double bottom = 12 + 34 * static_cast<double>(rows.size());
  Svg svg(860, bottom + 46, "protection cost with 95% intervals");
  for (const double tick : round_ticks(x.low, x.high, 6)) {
    svg.line(x.at(tick), 8, x.at(tick), bottom, std::abs(tick) < 1e-9 ? "zero" : "grid");
    std::string text = fmt::format("{:+g}%", std::round(tick * 1e6) / 1e4);
    if (std::abs(tick) < 1e-9) text = "0";
    if (text.starts_with('-')) text.replace(0, 1, kTypographic.minus);
    svg.text(x.at(tick), bottom + 16, text, "tick", "middle");
  }
  svg.line(x.from, bottom, x.to, bottom, "axis");
  svg.text((x.from + x.to) / 2, bottom + 38,
           "makespan without a fault, difference (less is better)", "label", "middle");
  double y = 28;
  for (const Row& row : rows) {
    const std::string cls = arm_class(row.colour);
    const ShownValue shown = show_measure("protection_cost", *row.cost, kTypographic);
    const std::string text = shown.value + " " + shown.interval;
    svg.text(x.from - 12, y + 4, shorten(row.arm, 20), "label", "end");
    if (row.cost->low && row.cost->high) {
      svg.line(x.at(*row.cost->low), y, x.at(*row.cost->high), y, "whisker " + cls);
    }
    svg.circle(x.at(*row.cost->estimate), y, 5, "dot " + cls, text);
    svg.text(x.to + 12, y + 4, text, "value");
    y += 34;
  }
  return svg.finish();
}

}  // namespace crashworthy::report

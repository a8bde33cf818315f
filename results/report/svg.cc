#include "results/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "results/report/text.h"

namespace crashworthy::report {
namespace {

// A coordinate with at most one decimal.
std::string xy(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

std::string closed(std::string_view element, std::string_view title) {
  if (title.empty()) return "/>\n";
  return fmt::format("><title>{}</title></{}>\n", html(title), element);
}

}  // namespace

double Axis::at(double value) const {
  const double clamped = std::clamp(value, low, high);
  double share = 0;
  if (logarithmic) {
    share = (std::log(clamped) - std::log(low)) / (std::log(high) - std::log(low));
  } else if (high > low) {
    share = (clamped - low) / (high - low);
  }
  return from + share * (to - from);
}

std::vector<double> round_ticks(double low, double high, int wanted) {
  std::vector<double> ticks;
  const double raw = (high - low) / std::max(wanted, 1);
  if (!(raw > 0) || !std::isfinite(raw)) return ticks;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    if (factor * power >= raw * 0.999) {
      step = factor * power;
      break;
    }
  }
  const auto first = static_cast<long long>(std::ceil(low / step - 1e-9));
  const auto last = static_cast<long long>(std::floor(high / step + 1e-9));
  for (long long i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

std::vector<double> decade_ticks(double low, double high) {
  std::vector<double> ticks;
  if (!(low > 0) || !std::isfinite(high)) return ticks;
  const auto first = static_cast<int>(std::ceil(std::log10(low) - 1e-9));
  const auto last = static_cast<int>(std::floor(std::log10(high) + 1e-9));
  for (int power = first; power <= last; ++power) ticks.push_back(std::pow(10, power));
  return ticks;
}

Svg::Svg(double width, double height, std::string_view label) {
  out_ = fmt::format(
      "<svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" role=\"img\" "
      "aria-label=\"{2}\">\n",
      xy(width), xy(height), html(label));
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view cls) {
  fmt::format_to(std::back_inserter(out_),
                 "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" class=\"{}\"/>\n", xy(x1), xy(y1),
                 xy(x2), xy(y2), cls);
}

void Svg::rect(double x, double y, double width, double height, std::string_view cls,
               std::string_view title) {
  fmt::format_to(std::back_inserter(out_),
                 "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"{}\"{}", xy(x), xy(y),
                 xy(std::max(width, 0.0)), xy(std::max(height, 0.0)), cls, closed("rect", title));
}

void Svg::circle(double x, double y, double radius, std::string_view cls, std::string_view title) {
  fmt::format_to(std::back_inserter(out_), "<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"{}\"{}",
                 xy(x), xy(y), xy(radius), cls, closed("circle", title));
}

void Svg::text(double x, double y, std::string_view text, std::string_view cls,
               std::string_view anchor) {
  fmt::format_to(std::back_inserter(out_),
                 "<text x=\"{}\" y=\"{}\" class=\"{}\" text-anchor=\"{}\">{}</text>\n", xy(x),
                 xy(y), cls, anchor, html(text));
}

void Svg::upright_text(double x, double y, std::string_view text, std::string_view cls) {
  fmt::format_to(std::back_inserter(out_),
                 "<text transform=\"translate({} {}) rotate(-90)\" class=\"{}\" "
                 "text-anchor=\"middle\">{}</text>\n",
                 xy(x), xy(y), cls, html(text));
}

void Svg::path(const std::vector<Point>& points, std::string_view cls, std::string_view title) {
  std::string data;
  bool drawing = false;
  for (const auto& [x, y] : points) {
    const bool there = std::isfinite(x) && std::isfinite(y);
    if (there) data += (drawing ? "L" : "M") + xy(x) + " " + xy(y);
    drawing = there;
  }
  if (data.empty()) return;
  fmt::format_to(std::back_inserter(out_), "<path d=\"{}\" class=\"{}\"{}", data, cls,
                 closed("path", title));
}

void Svg::polygon(const std::vector<Point>& points, std::string_view cls, std::string_view title) {
  std::string data;
  for (const auto& [x, y] : points) data += (data.empty() ? "M" : "L") + xy(x) + " " + xy(y);
  if (data.empty()) return;
  fmt::format_to(std::back_inserter(out_), "<path d=\"{}Z\" class=\"{}\"{}", data, cls,
                 closed("path", title));
}

std::string Svg::finish() {
  out_ += "</svg>\n";
  return std::move(out_);
}

}  // namespace crashworthy::report

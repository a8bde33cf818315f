// Inline SVG: scales, ticks and the few shapes that our plots are made of.
//
// Colours come from classes of the page's style sheet, so that a plot follows light and dark.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace crashworthy::report {

// Maps [low, high] to [from, to], linearly or by logarithm (then low > 0).
struct Axis {
  double low = 0, high = 1;
  double from = 0, to = 1;
  bool logarithmic = false;

  double at(double value) const;  // Clamped to the axis.
};

// About `wanted` round values (1, 2, 2.5 or 5 times a power of ten) inside [low, high].
std::vector<double> round_ticks(double low, double high, int wanted);
// Powers of ten inside [low, high].
std::vector<double> decade_ticks(double low, double high);

using Point = std::pair<double, double>;

// Builds one <svg>. `cls` are class names of ours; `text` and `title` may be hostile and are
// escaped here.
class Svg {
 public:
  // `label` is what a screen reader says.
  Svg(double width, double height, std::string_view label);

  void line(double x1, double y1, double x2, double y2, std::string_view cls);
  void rect(double x, double y, double width, double height, std::string_view cls,
            std::string_view title = {});
  void circle(double x, double y, double radius, std::string_view cls, std::string_view title = {});
  // `anchor`: "start", "middle" or "end".
  void text(double x, double y, std::string_view text, std::string_view cls,
            std::string_view anchor = "start");
  // Text turned by 90 degrees, reading upwards, centred at (x, y).
  void upright_text(double x, double y, std::string_view text, std::string_view cls);
  // Lines through `points`; several pieces where a coordinate is NaN.
  void path(const std::vector<Point>& points, std::string_view cls, std::string_view title = {});
  void polygon(const std::vector<Point>& points, std::string_view cls, std::string_view title = {});

  // Closes it; the object is spent.
  std::string finish();

 private:
  std::string out_;
};

}  // namespace crashworthy::report

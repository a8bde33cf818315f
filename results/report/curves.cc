#include "results/report/curves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "results/report/format.h"

namespace crashworthy::report {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kBackAt = 0.95;       // Of the level: where the lost area may end,
constexpr double kHeldAt = 0.90;       // when the mean of what follows stays above this.
constexpr double kLeastBefore = 0.25;  // Of the time after the fault, shown before it at least.

double median_of(std::vector<double> values) {
  if (values.empty()) return kNaN;
  const std::size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle),
                   values.end());
  const double upper = values[middle];
  if (values.size() % 2 == 1) return upper;
  return (upper +
          *std::max_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(middle))) /
         2;
}

// Integral of the triangle 1 - |u| / h from 0 to `u`, with its sign.
double triangle_integral(double u, double h) {
  const double reach = std::min(std::abs(u), h);
  const double area = reach - reach * reach / (2 * h);
  return u < 0 ? -area : area;
}

using Trials = std::vector<const TrialResult*>;

Trials trials_of(const std::vector<TrialResult>& all, const std::string& arm,
                 const std::string& fault) {
  Trials found;
  for (const TrialResult& trial : all) {
    const bool counts =
        trial.complete && !trial.harness_error && trial.arm == arm && trial.fault == fault &&
        (fault == "none" ||
         (trial.injection == InjectionOutcome::kConfirmed && trial.stamps.activated));
    if (counts) found.push_back(&trial);
  }
  return found;
}

// Without its first and last tenth of the outputs, so that start-up and the run-out at the end do
// not count.
std::optional<double> steady_rate(const TrialResult& twin) {
  const std::size_t n = twin.good_outputs.size();
  if (n < 10) return std::nullopt;
  const std::size_t first = n / 10;
  const std::size_t last = n - 1 - n / 10;
  const auto span = static_cast<double>(twin.good_outputs[last] - twin.good_outputs[first]) * 1e-9;
  if (span <= 0) return std::nullopt;
  return static_cast<double>(last - first) / span;
}

double steady_level(const Trials& twins) {
  std::vector<double> rates;
  for (const TrialResult* twin : twins) {
    if (const auto rate = steady_rate(*twin)) rates.push_back(*rate);
  }
  return rates.empty() ? 0 : median_of(rates);
}

// One trial on the fault's own clock.
struct Aligned {
  int number = 0;
  std::vector<double> outputs;
  double first = 0;  // The launch.
  double last = 0;   // The end of its work; if it broke off, that of its twin's.
};

double twin_duration_s(const Trials& twins, int block) {
  std::vector<double> all;
  for (const TrialResult* twin : twins) {
    if (twin->good_outputs.empty()) continue;
    const double duration =
        static_cast<double>(twin->good_outputs.back() - twin->stamps.launched) * 1e-9;
    if (twin->block == block) return duration;
    all.push_back(duration);
  }
  return all.empty() ? 0 : median_of(all);
}

Aligned align(const TrialResult& trial, const Trials& twins) {
  const std::int64_t zero = *trial.stamps.activated;
  const auto seconds = [zero](std::int64_t time) {
    return static_cast<double>(time - zero) * 1e-9;
  };
  Aligned out;
  out.number = trial.number;
  for (const std::int64_t time : trial.good_outputs) out.outputs.push_back(seconds(time));
  out.first = std::min(seconds(trial.stamps.launched), 0.0);
  const double own_end = out.outputs.empty() ? 0 : out.outputs.back();
  if (!trial.ran_to_end) {
    out.last = std::max(own_end, out.first + twin_duration_s(twins, trial.block));
  } else {
    out.last = own_end > 0 || !trial.stamps.ended ? own_end : seconds(*trial.stamps.ended);
  }
  out.last = std::max(out.last, 0.0);
  return out;
}

std::vector<double> median_curve(const std::vector<std::vector<double>>& curves,
                                 std::size_t points) {
  std::vector<double> median(points, kNaN);
  for (std::size_t i = 0; i < points; ++i) {
    std::vector<double> alive;
    for (const auto& curve : curves) {
      if (!std::isnan(curve[i])) alive.push_back(curve[i]);
    }
    if (2 * alive.size() >= curves.size()) median[i] = median_of(alive);
  }
  return median;
}

// The mean of the median curve over [at, at + points), as far as it goes.
double mean_from(const std::vector<double>& curve, std::size_t at, std::size_t points) {
  double sum = 0;
  std::size_t n = 0;
  for (std::size_t i = at; i < std::min(at + points, curve.size()); ++i) {
    if (std::isnan(curve[i])) break;
    sum += curve[i];
    ++n;
  }
  return n == 0 ? 0 : sum / static_cast<double>(n);
}

void find_lost_area(const std::vector<double>& time_s, ArmCurves& arm) {
  const auto zero = std::lower_bound(time_s.begin(), time_s.end(), 0.0);
  arm.lost_first = static_cast<std::size_t>(zero - time_s.begin());
  const double step = time_s.size() > 1 ? time_s[1] - time_s[0] : 1;
  const auto hold = static_cast<std::size_t>(std::ceil(2 * arm.half_window_s / step)) + 1;
  std::size_t i = arm.lost_first;
  for (; i < time_s.size() && !std::isnan(arm.median[i]); ++i) {
    arm.back = arm.median[i] >= kBackAt * arm.level &&
               mean_from(arm.median, i, hold) >= kHeldAt * arm.level;
    if (arm.back) break;
  }
  arm.lost_last = arm.level > 0 ? i : arm.lost_first;
}

struct AlignedArm {
  std::vector<Aligned> trials;
  ArmCurves curves;
};

AlignedArm align_arm(const std::vector<TrialResult>& all, const std::string& arm,
                     const std::string& fault) {
  AlignedArm out;
  const Trials twins = trials_of(all, arm, "none");
  for (const TrialResult* trial : trials_of(all, arm, fault)) {
    out.trials.push_back(align(*trial, twins));
  }
  out.curves.arm = arm;
  out.curves.trials = out.trials.size();
  out.curves.level = steady_level(twins);
  return out;
}

// From a while before the fault to the median end of the arm that takes longest.
std::vector<double> make_grid(const std::vector<AlignedArm>& arms) {
  double after = 0;
  std::vector<double> starts;
  for (const AlignedArm& arm : arms) {
    std::vector<double> ends;
    for (const Aligned& trial : arm.trials) {
      ends.push_back(trial.last);
      starts.push_back(-trial.first);
    }
    if (!ends.empty()) after = std::max(after, median_of(ends));
  }
  if (starts.empty() || after <= 0) return {};
  const double before =
      std::min(median_of(starts), std::max(kLeastBefore * after, median_of(starts) / 2));
  std::vector<double> grid;
  const double step = (after + before) / static_cast<double>(kGridPoints - 1);
  for (std::size_t i = 0; i < kGridPoints; ++i) {
    grid.push_back(-before + step * static_cast<double>(i));
  }
  return grid;
}

void draw_arm(const std::vector<double>& grid, AlignedArm& arm) {
  const double span = grid.back() - grid.front();
  double half = span / 8;
  if (arm.curves.level > 0) half = std::min(half, kWindowItems / arm.curves.level);
  arm.curves.half_window_s = half;
  std::vector<std::vector<double>> curves;
  for (const Aligned& trial : arm.trials) {
    std::vector<double>& curve = curves.emplace_back();
    for (const double time : grid) {
      curve.push_back(rate_at(trial.outputs, time, trial.first, trial.last, half));
    }
  }
  arm.curves.median = median_curve(curves, grid.size());
  const std::size_t shown = std::min(curves.size(), kShownTrials);
  for (std::size_t i = 0; i < shown; ++i) {
    const std::size_t at = i * curves.size() / shown;
    arm.curves.shown.push_back({arm.trials[at].number, std::move(curves[at])});
  }
  find_lost_area(grid, arm.curves);
}

}  // namespace

double rate_at(const std::vector<double>& outputs, double time, double first, double last,
               double half_window) {
  if (time < first || time > last) return kNaN;
  // The window stays on its own side of the fault.
  if (time < 0) last = std::min(last, 0.0);
  if (time >= 0) first = std::max(first, 0.0);
  const double low = std::max(first, time - half_window);
  const double high = std::min(last, time + half_window);
  const double area =
      triangle_integral(high - time, half_window) - triangle_integral(low - time, half_window);
  if (area <= 0) return kNaN;
  double weight = 0;
  for (auto at = std::lower_bound(outputs.begin(), outputs.end(), low);
       at != outputs.end() && *at <= high; ++at) {
    weight += 1 - std::abs(*at - time) / half_window;
  }
  return weight / area;
}

std::vector<FaultCurves> align_at_fault(const Summary& summary,
                                        const std::vector<TrialResult>& trials) {
  std::vector<FaultCurves> out;
  for (const std::string& fault : faults_of(summary)) {
    if (fault == "none") continue;
    std::vector<AlignedArm> arms;
    for (const std::string& arm : arms_of(summary)) {
      arms.push_back(align_arm(trials, arm, fault));
    }
    FaultCurves curves;
    curves.fault = fault;
    curves.time_s = make_grid(arms);
    if (curves.time_s.empty()) continue;
    for (AlignedArm& arm : arms) {
      draw_arm(curves.time_s, arm);
      curves.top = std::max(curves.top, arm.curves.level);
      for (const double rate : arm.curves.median) {
        if (!std::isnan(rate)) curves.top = std::max(curves.top, rate);
      }
      curves.arms.push_back(std::move(arm.curves));
    }
    out.push_back(std::move(curves));
  }
  return out;
}

}  // namespace crashworthy::report

// Rates of good outputs around a fault: what the report's main plot draws.
//
// Every trial of a cell is laid over the others with the activation of its fault at t = 0. The rate
// at t is the number of good outputs near t, weighted by a triangle of +-`half_window_s`, over the
// weight's integral. Windows never reach across t = 0 or beyond the trial's ends, so what was
// delivered before the fault does not flatter the time after it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "results/measures.h"
#include "results/summary.h"

namespace crashworthy::report {

inline constexpr std::size_t kGridPoints = 260;
inline constexpr double kWindowItems = 20;       // Half a window holds so many items at the level.
inline constexpr std::size_t kShownTrials = 30;  // Thin lines a panel, evenly chosen.

struct RateCurve {
  int trial = 0;
  std::vector<double> rate;  // Items/s at each grid time; NaN where the trial does not run.
};

struct ArmCurves {
  std::string arm;
  std::size_t trials = 0;  // Confirmed and complete.
  double level = 0;        // Items/s of the same arm without a fault; 0 when there is none.
  double half_window_s = 0;
  std::vector<RateCurve> shown;
  std::vector<double> median;  // NaN where less than half of the trials run.
  // The lost area: grid points [lost_first, lost_last) from the fault until the median is back at
  // the level and holds it for two windows, or to its end. Empty when it never left the level.
  std::size_t lost_first = 0, lost_last = 0;
  bool back = false;  // The median came back to the level.
};

struct FaultCurves {
  std::string fault;
  std::vector<double> time_s;  // The grid, from before the fault.
  double top = 0;              // Highest rate drawn in bold or as a level, in any arm.
  std::vector<ArmCurves> arms;
};

// The rate at `time` from ascending `outputs`, of a trial that is watched over [first, last]; all
// in seconds with the fault at 0. NaN outside.
double rate_at(const std::vector<double>& outputs, double time, double first, double last,
               double half_window);

// One entry a fault that has a confirmed trial, in the order of `summary`.
std::vector<FaultCurves> align_at_fault(const Summary& summary,
                                        const std::vector<TrialResult>& trials);

}  // namespace crashworthy::report

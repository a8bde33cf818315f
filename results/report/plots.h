// The plots of the report, each an inline <svg>.
#pragma once

#include <cstddef>
#include <string>

#include "results/report/curves.h"
#include "results/summary.h"

namespace crashworthy::report {

inline constexpr std::size_t kArmColours = 6;
// "a0" to "a5": the class that gives the arm at `index` its colour.
std::string arm_class(std::size_t index);

// The rate of good outputs of one arm around one fault, with the lost area hatched.
std::string rate_panel(const FaultCurves& fault, std::size_t arm_index);

// Where the time to the first good output goes, stacked, for every arm and fault that gets there;
// all bars on one axis. Empty when no cell has such a time.
std::string decomposition_plot(const Summary& summary);

// The share of confirmed trials that had a good output again by a time (logarithmic, the same axis
// for all faults). Empty when no arm ever had one after this fault.
std::string recovered_by_time_plot(const Summary& summary, const std::string& fault);

// Protection cost of every arm with its interval. Empty when there is none.
std::string price_plot(const Summary& summary);

}  // namespace crashworthy::report

// The sections of the HTML report. Each returns finished HTML, or nothing when the run has nothing
// for it.
#pragma once

#include <string>

#include "results/run.h"

namespace crashworthy::report {

// sections.cc
std::string verdict_section(const Summary& summary);
std::string comparison_section(const Summary& summary);  // The table of arms x faults.
std::string rate_section(const Run& run);
std::string decomposition_section(const Summary& summary);
std::string time_section(const Summary& summary);
std::string price_section(const Summary& summary);

// appendix.cc
std::string ledger_section(const Summary& summary);
std::string method_section(const Run& run);
std::string repeat_section(const Run& run);
std::string trials_section(const Run& run);

}  // namespace crashworthy::report

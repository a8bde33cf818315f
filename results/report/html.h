// A run as one self-contained page.
#pragma once

#include <string>

#include "results/run.h"

namespace crashworthy {

// One HTML file: style and plots inside, no script, nothing fetched. It follows light and dark and
// prints. Works on what there is: an empty or broken run gives a page that says so. All text of the
// run is escaped.
std::string html_report(const Run& run);

}  // namespace crashworthy

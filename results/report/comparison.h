// A comparison of two runs, for a terminal and for a pull request.
#pragma once

#include <string>

#include "results/compare.h"
#include "results/report/terminal.h"

namespace crashworthy {

// A table of the gate lines, items that got worse, verdict and warnings; ends in a newline.
std::string terminal_comparison(const Comparison& comparison, const TerminalStyle& style = {});

// The same as Markdown (GitHub's), at most about 60 lines. Names are in code spans, so nothing in
// them takes effect.
std::string markdown_comparison(const Comparison& comparison);

}  // namespace crashworthy

// A run's summary for a person at a terminal.
#pragma once

#include <string>

#include "results/summary.h"

namespace crashworthy {

struct TerminalStyle {
  bool colour =
      false;        // Whether NO_COLOR and the kind of output allow it is the caller's decision.
  int width = 100;  // Columns; tables wrap into further tables, not lines.
};

// The table of arms x faults, expectations, verdict, summary sentence and warnings; ends in a
// newline. Colour repeats what words already say. Names and reasons from files cannot move the
// cursor or change colours.
std::string terminal_report(const Summary& summary, const TerminalStyle& style);

// One line: verdict, experiment, sentence, run and seed.
std::string quiet_report(const Summary& summary);

}  // namespace crashworthy

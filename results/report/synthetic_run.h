// A made-up run for tests of reports: 3 arms x 4 faults, plausible times, all from one seed. The
// summary is computed from it as from a real one.
#pragma once

#include <cstdint>

#include "results/run.h"

namespace crashworthy::report {

struct SyntheticOptions {
  std::uint64_t seed = 42;
  int blocks = 10;
  double slower = 1;     // The supervised arm takes so many times as long an item.
  bool hostile = false;  // Names, reasons and directories hold mark-up and control characters.
};

// `bare` (threads, dies whole), `processes` (isolated workers, not restarted), `supervised`; faults
// none, kill, abort and hang. One abort of `processes` is not activated.
Run synthetic_run(const SyntheticOptions& options = {});

// What a hostile subject may write: mark-up, quotes, an escape sequence, a bidirectional mark,
// invalid UTF-8, a pipe and a mention.
extern const char* const kHostile;

}  // namespace crashworthy::report

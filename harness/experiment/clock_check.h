// How wrong the harness's own recovery clock is: measured at the start of each run against a
// planted delay.
#pragma once

#include <optional>

#include "harness/os/result.h"

namespace crashworthy {

struct ClockError {
  double median_ns = 0;
  double p90_ns = 0;
  int repetitions = 0;
};

// A child process "recovers" exactly 2 ms after a signal has reached it, and tells the probe so.
// The harness signals it by pidfd and measures as in a trial: from the return of pidfd_send_signal
// to the probe's record. What is beyond 2 ms is the clock's error. Must be called while the process
// has one thread.
Result<ClockError> measure_clock_error(int repetitions = 41);

}  // namespace crashworthy

// What this thread asks of the kernel's scheduler.
#pragma once

#include <chrono>

namespace crashworthy {

// How long this thread's turns on a CPU are to be, once it wants more of them than there are; 0: as
// usual. Who has shorter turns than whoever is running is let in at once when it wakes. Nothing
// else changes (nice value, share of the CPU). From Linux 6.12 on; does nothing, and returns false,
// where the kernel knows no such thing, or the thread has a real-time policy.
bool request_time_slice(std::chrono::nanoseconds slice);

// The shortest that the kernel grants.
inline constexpr std::chrono::microseconds kShortestTimeSlice(100);

}  // namespace crashworthy

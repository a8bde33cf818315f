// The one clock: CLOCK_MONOTONIC, integer nanoseconds; and the units in which people write
// durations and sizes.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "harness/os/result.h"

namespace crashworthy {

using Nanoseconds = std::chrono::nanoseconds;

// CLOCK_MONOTONIC now, in ns since an unspecified start; the same for all processes of the machine.
// Async-signal-safe; safe from any thread.
std::int64_t now_ns();

// Wall-clock time, UTC, as 2026-01-02T03:04:05Z. For metadata and directory names only.
std::string utc_timestamp();

// Reads "250ms", "5s", "20us", "1m", "2h", "10ns" (a number, maybe with a fraction, then a unit).
// Refuses a missing unit, an unknown one, and a negative duration.
Result<Nanoseconds> parse_duration(std::string_view text);

// Reads "64K", "64KiB", "10MB", "1G", "4096" (bytes). K, M and G are powers of 1024. Refuses
// negative sizes.
Result<std::uint64_t> parse_size(std::string_view text);

// "1.23 ms", "450 us", "2.1 s": three significant digits, for people.
std::string format_duration(double nanoseconds);

}  // namespace crashworthy

// What crashworthy-start is told and what it writes down, in memory that outlives it.
#pragma once

#include <atomic>
#include <cstdint>

namespace crashworthy {

struct StartLog {
  static constexpr std::uint64_t kMagic = 0x31545241'5453'5743;  // "CWSTART1"
  static constexpr std::uint32_t kMaxStarts = 256;

  struct Start {
    std::int32_t pid = 0;    // As the subject sees it.
    std::int32_t error = 0;  // Of the exec that failed.
    std::int64_t begun_ns = 0;
    std::int64_t slept_ns = 0;    // When the delay was over; 0: it was not.
    std::int64_t refused_ns = 0;  // Just before it ended without an exec.
  };

  std::uint64_t magic = kMagic;
  std::int64_t delay_ns = 0;
  std::int64_t refusals = 0;  // So many starts are refused, the first ones.
  std::int32_t code = 0;      // With which they end.
  std::atomic<std::uint32_t> count{0};
  Start starts[kMaxStarts];
};

}  // namespace crashworthy

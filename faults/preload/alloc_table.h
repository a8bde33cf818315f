// What libcrashworthy-alloc.so and the harness share: which allocation is to fail, and which did.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "faults/point/schedule.h"

namespace crashworthy::alloc {

enum class Function : std::uint32_t {
  kMalloc,
  kCalloc,
  kRealloc,
  kMemalign,
  kAlignedAlloc,
  kPosixMemalign,
};
inline constexpr const char* kFunctionNames[] = {"malloc",   "calloc",        "realloc",
                                                 "memalign", "aligned_alloc", "posix_memalign"};

inline constexpr std::size_t kMaxFirings = 1024;
inline constexpr const char* kVariable = "CRASHWORTHY_ALLOC";  // The number of its descriptor.

struct Firing {
  std::int32_t pid;  // As the victim sees itself.
  std::int32_t tid;
  Function function;
  std::uint32_t error;  // As the caller was told: ENOMEM.
  std::uint64_t size;
  std::uint64_t call;
  std::uint64_t returned;             // What the caller got: 0.
  std::atomic<std::int64_t> time_ns;  // CLOCK_MONOTONIC; the rest is complete when it is not 0.
};

struct Table {
  static constexpr std::uint64_t kMagic = 0x31434c4c41575243;  // "CRWALLC1"
  std::uint64_t magic;
  std::uint64_t size_min;  // Smaller calls do not count.
  // Of the harness's own program, which is no part of the subject although it may be in its tree.
  std::uint64_t exempt_device;
  std::uint64_t exempt_inode;
  std::atomic<std::uint32_t> loaded;  // Programs that have executed with the library.
  std::atomic<std::uint32_t> firing_count;
  point::Schedule schedule;
  Firing firings[kMaxFirings];
};

}  // namespace crashworthy::alloc

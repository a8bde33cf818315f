// Fault points: named places in C++ code at which a fault can be made to happen, inside the
// program, on a chosen hit.
//
//   CRASHWORTHY_FAULT_POINT("tile.filter");
//
// Compiled out unless CRASHWORTHY_FAULT_POINTS is defined. Compiled in but with no table in the
// environment, a point is one load and one predictable branch. This header and its one source file
// stand alone: they use the C++ library and libc, nothing else.
//
// The table lies in shared memory named by CRASHWORTHY_POINTS (a descriptor number): hits are
// counted over all processes and threads of a trial, so "the 100th hit" is one hit of the whole
// trial. What a point did is written there before it is done.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace crashworthy::point {

enum class Action : std::uint32_t {
  kCount = 0,  // Count hits, do nothing.
  kAbort = 1,  // Call abort() there and then.
};

inline constexpr std::size_t kNameSize = 48;  // With its terminating zero.
inline constexpr std::size_t kMaxEntries = 32;
inline constexpr std::size_t kMaxFirings = 64;

// One armed name. Written by the harness before `count` of the table grows over it; hits and fired
// grow afterwards.
struct Entry {
  char name[kNameSize];
  Action action;
  std::uint32_t reserved;
  std::uint64_t first;  // The hit that fires, from 1.
  std::uint64_t every;  // Then each `every`-th after it.
  std::uint64_t times;  // At most so many firings.
  std::atomic<std::uint64_t> hits;
  std::atomic<std::uint64_t> fired;
};

// Evidence of one firing, written by the victim itself before it acts (and, for signals, from the
// signal's own siginfo).
struct Firing {
  std::uint32_t entry;
  std::int32_t pid;  // As the victim sees itself.
  std::int32_t tid;
  std::int32_t signal;         // 0 until the signal was seen by the victim.
  std::int32_t signal_code;    // si_code: SI_TKILL (-6) for a genuine abort().
  std::int32_t signal_sender;  // si_pid: the victim's own pid for a genuine abort().
  std::uint64_t hit;
  std::atomic<std::int64_t> time_ns;  // CLOCK_MONOTONIC; written last, 0 = not complete.
};

struct Table {
  static constexpr std::uint64_t kMagic = 0x31544e4f50575243;  // "CRWPONT1"
  std::uint64_t magic;
  std::atomic<std::uint32_t> count;  // Entries in force.
  std::atomic<std::uint32_t>
      firing_count;  // May exceed kMaxFirings; only the first kMaxFirings are kept.
  Entry entries[kMaxEntries];
  Firing firings[kMaxFirings];
};

// The table of this process, or null when none is in its environment. Mapped once, at the program's
// start.
extern Table* const table;

// One place in the code. Safe from any thread and from forked children.
class Site {
 public:
  explicit constexpr Site(const char* name) : name_(name) {}
  void hit();

 private:
  const char* name_;
  std::atomic<Entry*> entry_{nullptr};
  std::atomic<std::uint32_t> looked_up_{
      0};  // Entries of the table when entry_ was last looked for.
};

}  // namespace crashworthy::point

#ifdef CRASHWORTHY_FAULT_POINTS
#define CRASHWORTHY_FAULT_POINT(name)                                \
  do {                                                               \
    if (__builtin_expect(crashworthy::point::table != nullptr, 0)) { \
      static constinit crashworthy::point::Site site{name};          \
      site.hit();                                                    \
    }                                                                \
  } while (false)
#else
#define CRASHWORTHY_FAULT_POINT(name) static_cast<void>(0)
#endif

// Fault points: named places in C++ code at which a fault can be made to happen, inside the
// program, on a chosen hit.
//
//   CRASHWORTHY_FAULT_POINT("tile.filter");
//   CRASHWORTHY_FAULT_POINT_ITEM("tile.filter", item);              // What it works on, a number.
//   CRASHWORTHY_FAULT_BUFFER("tile.pixels", image.data, bytes);     // Writable, may be damaged.
//   CRASHWORTHY_FAULT_THROWER(cv::Exception(...));                  // What native.throw throws.
//
// Compiled out unless CRASHWORTHY_FAULT_POINTS is defined. Compiled in but with no table in the
// environment, a point is one load and one predictable branch. This room stands alone: it uses the
// C++ library and libc, nothing else.
//
// The table lies in shared memory named by CRASHWORTHY_POINTS (a descriptor number): hits are
// counted over all processes and threads of a trial, so "the 100th hit" is one hit of the whole
// trial. What a point does is written there before it is done.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <typeinfo>
#include <utility>

#include "faults/point/schedule.h"

namespace crashworthy::point {

enum class Action : std::uint32_t {
  kCount,          // Count hits, do nothing.
  kAbort,          // abort()
  kSegv,           // Write where nothing is mapped.
  kBus,            // Write to a mapped file, beyond its end.
  kFpe,            // Divide an integer by zero.
  kIll,            // Execute an invalid instruction.
  kStackOverflow,  // Recurse until the stack is used up.
  kHeapCorrupt,    // Free a block twice.
  kThrow,          // Throw an exception.
  kDeadlock,       // Lock a mutex that this thread has locked.
  kSpin,           // Loop for ever.
  kSlow,           // Sleep for `value` nanoseconds, and go on.
  kExitEarly,      // _exit(value)
  kBitflip,        // Flip one bit of the buffer, and go on.
  kPoison,         // abort() whenever `item` passes.
};

inline constexpr std::size_t kNameSize = 136;  // With its terminating zero.
inline constexpr std::size_t kMaxEntries = 32;
inline constexpr std::size_t kMaxFirings = 1024;
inline constexpr std::uint64_t kNoItem = ~std::uint64_t{0};
// `value` of kThrow: std::runtime_error, whatever the program has registered.
inline constexpr std::uint64_t kThrowStandard = 1;

// One armed name. Written by the harness before `count` of the table grows over it; several may
// have the same name.
struct Entry {
  char name[kNameSize];
  Action action;
  std::uint32_t reserved;
  std::uint64_t value;  // As the action says.
  // kPoison. kNoItem: that of the hit that the schedule chooses, from then on.
  std::atomic<std::uint64_t> item;
  Schedule schedule;
};

// Evidence of one firing, written by the victim itself: what it is about to do before it does it,
// and what came of that as it happens. Times are CLOCK_MONOTONIC, 0: not (yet).
struct Firing {
  std::uint32_t entry;
  std::int32_t pid;  // As the victim sees itself.
  std::int32_t tid;
  std::int32_t failed;  // The errno why it could not be done, EINVAL: not at this kind of point.
  std::uint64_t hit;
  std::uint64_t item;  // Of the hit; kNoItem: it has none.
  // kSegv, kBus: where it writes. kStackOverflow: how far down the stack has come. kBitflip: where.
  std::uint64_t address;
  // kBitflip: the byte's place in the buffer, the bit, and the byte before and, read back, after.
  std::uint64_t offset;
  std::uint32_t bit;
  std::uint8_t before;
  std::uint8_t after;
  char thrown[122];  // The type of the exception.
  // As the victim saw its signal; `signal` is 0 until then.
  std::int32_t signal;
  std::int32_t signal_code;
  std::int32_t signal_sender;  // Of those that a process sends.
  std::uint64_t signal_address;
  std::atomic<std::int64_t> time_ns;    // Before it is done; the fields above are complete then.
  std::atomic<std::int64_t> left_ns;    // The point was left: afterwards, or by the exception.
  std::atomic<std::int64_t> caught_ns;  // The exception is gone: somebody has caught it.
};

struct Table {
  static constexpr std::uint64_t kMagic = 0x32544e4f50575243;  // "CRWPONT2"
  std::uint64_t magic;
  std::atomic<std::uint32_t> count;  // Entries in force.
  std::atomic<std::uint32_t>
      firing_count;       // May exceed kMaxFirings; only the first kMaxFirings are kept.
  std::int32_t event_fd;  // Number of an eventfd that is told of each firing; 0: none.
  std::uint32_t reserved;
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
  void hit_item(std::uint64_t item);
  void hit_buffer(void* data, std::size_t bytes);

 private:
  struct Passage;
  void pass(const Passage& passage);
  std::uint32_t entries(const Table& shared);

  const char* name_;
  // What was found of its name when it was last looked for: how many entries there were, and a bit
  // for each that is ours.
  std::atomic<std::uint64_t> found_{0};
};

// Travels in a thrown exception. When its last copy is destroyed, the exception has been caught.
class ThrowNote {
 public:
  explicit ThrowNote(Firing& firing);
  void write_type(const std::type_info& type) const;

 private:
  std::shared_ptr<Firing> firing_;
};

// Throws `exception`, caught as what it is by whoever catches its kind.
template <typename Exception>
[[noreturn]] void throw_with(const ThrowNote& note, Exception exception) {
  struct Injected : Exception {
    Injected(Exception&& base, const ThrowNote& its_note)
        : Exception(std::move(base)), note(its_note) {}
    ThrowNote note;
  };
  note.write_type(typeid(Exception));
  throw Injected(std::move(exception), note);
}

using Thrower = void (*)(const ThrowNote&);
void set_thrower(Thrower thrower);

}  // namespace crashworthy::point

#ifdef CRASHWORTHY_FAULT_POINTS
#define CRASHWORTHY_FAULT_SITE_(name, call)                          \
  do {                                                               \
    if (__builtin_expect(crashworthy::point::table != nullptr, 0)) { \
      static constinit crashworthy::point::Site site{name};          \
      site.call;                                                     \
    }                                                                \
  } while (false)
#define CRASHWORTHY_FAULT_POINT(name) CRASHWORTHY_FAULT_SITE_(name, hit())
#define CRASHWORTHY_FAULT_POINT_ITEM(name, item) CRASHWORTHY_FAULT_SITE_(name, hit_item(item))
#define CRASHWORTHY_FAULT_BUFFER(name, data, bytes) \
  CRASHWORTHY_FAULT_SITE_(name, hit_buffer(data, bytes))
#define CRASHWORTHY_FAULT_THROWER(...)                                            \
  crashworthy::point::set_thrower([](const crashworthy::point::ThrowNote& note) { \
    crashworthy::point::throw_with(note, __VA_ARGS__);                            \
  })
#else
#define CRASHWORTHY_FAULT_POINT(name) static_cast<void>(0)
#define CRASHWORTHY_FAULT_POINT_ITEM(name, item) static_cast<void>(0)
#define CRASHWORTHY_FAULT_BUFFER(name, data, bytes) static_cast<void>(0)
#define CRASHWORTHY_FAULT_THROWER(...) static_cast<void>(0)
#endif

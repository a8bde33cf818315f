// The probe: how a subject tells what it does, record by record, into shared memory that the
// harness owns.
//
// The ring survives any death of the subject: a record is there as soon as emit() returns, whatever
// kills its writer next. What is told here is never taken as delivery: loss, duplication and
// corruption are decided from outputs alone.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/shared_memory.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// What happened. The numbers are part of the format (docs/subject-events.md).
enum class ProbeEvent : std::uint16_t {
  kTaken = 1,        // The subject accepted `item`; it is now in flight.
  kStarted = 2,      // A worker began a unit of work: (`item`, `part`).
  kDone = 3,         // The worker finished that unit; `value`: 0, or its FailureReason.
  kFailed = 4,       // `item` is given up; `value` is the FailureReason.
  kDelivered = 5,    // The output of `item` is in place under its final name.
  kWorkerReady = 6,  // Worker `worker`, incarnation `incarnation`, process `pid`, accepts work.
  kWorkerDied = 7,   // Its owner knows that `pid` is dead; `value` is the raw wait status.
  kReplacement =
      8,       // Its owner began to replace the dead worker (process started, or spare promoted).
  kError = 9,  // A library reported an error; `value` is its code (OpenCV: -4 is out of memory).
  kSuspected = 10,  // Somebody noticed that worker `worker`, process `pid`, has died; kWorkerDied
                    // with the proof may come later.
};
inline constexpr std::size_t kProbeEventCount = 11;
const char* probe_event_name(ProbeEvent event);

enum class FailureReason : std::int64_t {
  kUnreadable = 1,
  kPoison = 2,
  kDeadline = 3,
  kWrite = 4,
  kTooLarge = 5,
  kRetries = 6,  // Its workers died too often, by no fault of its own that could be proved.
  kThrew = 7,    // An exception left the job function.
  kReported = 8  // Its command ended with an error, or its worker said that it failed.
};
const char* failure_reason_name(FailureReason reason);

inline constexpr std::uint64_t kNoItem = ~std::uint64_t{0};
// Parts of an item that are no tile.
inline constexpr std::uint32_t kPartRead = 0xFFFFFFF0;
inline constexpr std::uint32_t kPartMerge = 0xFFFFFFF1;

// One record: 64 bytes, the machine's byte order.
struct ProbeRecord {
  std::uint64_t stamp =
      0;  // Position in the stream + 1; written last, so a half-written record is never read.
  std::int64_t time_ns = 0;       // CLOCK_MONOTONIC, taken inside the subject.
  std::uint64_t item = kNoItem;   // Index in the harness's list of items.
  std::uint32_t part = 0;         // Unit of work within the item.
  std::uint32_t attempt = 0;      // 1 for the first execution of that unit.
  std::int32_t pid = 0;           // As the subject sees it (its own pid namespace).
  std::uint32_t worker = 0;       // Number of the worker's place.
  std::uint32_t incarnation = 0;  // n-th life of that place, from 1.
  std::uint16_t event = 0;        // ProbeEvent.
  std::uint16_t reserved16 = 0;
  std::int64_t value = 0;
  std::uint64_t reserved64 = 0;
};
static_assert(sizeof(ProbeRecord) == 64);

struct ProbeHeader;

// What a worker says of itself in each record.
struct ProbeIdentity {
  std::uint32_t worker = 0;
  std::uint32_t incarnation = 1;
};

// The subject's side. Copies share the mapping. Safe from any thread, from forked children and from
// signal handlers; never blocks; when the ring is full the record is dropped and counted.
class Probe {
 public:
  // The ring named by CRASHWORTHY_PROBE, or a probe that does nothing when the variable is unset or
  // unusable.
  static Probe from_environment();
  Probe() = default;

  bool enabled() const { return header_ != nullptr; }
  void emit(ProbeEvent event, const ProbeIdentity& who, std::uint64_t item = kNoItem,
            std::uint32_t part = 0, std::uint32_t attempt = 0, std::int64_t value = 0) const;
  // The same, of another process than the caller (a coordinator tells of its worker's death).
  void emit_for(std::int32_t pid, ProbeEvent event, const ProbeIdentity& who,
                std::uint64_t item = kNoItem, std::uint32_t part = 0, std::uint32_t attempt = 0,
                std::int64_t value = 0) const;
  // How many events of this kind have been emitted in the whole run, by whomever; 0 without a ring.
  std::uint64_t count(ProbeEvent event) const;

  // Programs that this process executes from now on are given no probe: for one that tells in their
  // stead. Changes the environment: before there are threads.
  static void hide_from_programs();

 private:
  friend class ProbeRing;
  ProbeHeader* header_ = nullptr;
  int event_fd_ = -1;
};

// The harness's side: owns the memory, drains it, and asks to be woken at the n-th event of a kind.
// One thread uses a ProbeRing.
class ProbeRing {
 public:
  // `capacity` records, a power of two. A writer that finds the ring full drops its record.
  static Result<ProbeRing> create(std::size_t capacity = 1 << 16);

  // Descriptors that the subject must inherit, and the variable that names their numbers there.
  int ring_fd() const { return memory_.fd(); }
  int event_fd() const { return event_fd_.get(); }
  static std::string environment(int ring_fd, int event_fd);

  // Appends the records that are complete to `out`, in order of the stream. A gap left by a killed
  // writer is waited for during `kGapPatience`, then skipped and counted; with `final` it is
  // skipped at once.
  void drain(std::vector<ProbeRecord>& out, bool final = false);

  // The event descriptor becomes readable once `count` events of this kind have been emitted, or at
  // once if they have.
  void watch(ProbeEvent event, std::uint64_t count);
  std::uint64_t count(ProbeEvent event) const;
  std::uint64_t dropped() const;  // Records lost because the ring was full.
  std::uint64_t gaps() const {
    return gaps_;
  }                    // Records lost because their writer died while writing.
  void clear_event();  // Makes the event descriptor unreadable again.

  // A probe of this process onto the same ring: for tests and for calibration.
  Probe probe() const;

 private:
  ProbeHeader* header() const;
  SharedMemory memory_;
  UniqueFd event_fd_;
  std::size_t capacity_ =
      0;  // Ours: what lies in shared memory the subject may have scribbled over.
  std::uint64_t tail_ = 0;
  std::uint64_t gaps_ = 0;
  std::int64_t gap_since_ns_ = 0;
};

inline constexpr std::int64_t kGapPatienceNs = 50'000'000;

}  // namespace crashworthy

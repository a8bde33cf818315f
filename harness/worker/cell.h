// The shared memory of a pool beside its frames: what the coordinator writes (Desk) and what each
// worker writes (Cell). Every process of the pool maps both; a worker may write to its own cell
// alone.
//
// A cell holds one process at a time, active or spare; a process keeps its cell for life. What lies
// in a Cell is the claim of a process that may be beside itself: the coordinator believes a record
// only if its checksum is right and its own books agree.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "harness/os/result.h"
#include "harness/os/shared_memory.h"
#include "harness/worker/executor.h"
#include "harness/worker/lease.h"
#include "harness/worker/ring.h"

namespace crashworthy {

inline constexpr std::size_t kRecordWords = 15;  // With the stamp, two cache lines.
using Record = StampedRecord<std::atomic, kRecordWords>;

inline constexpr std::size_t kMaxMessage = 1024;  // Of JobOutput::message; the rest is cut off.
// Cells that one spare can guard: futex_waitv(2) takes 128 words, one of which calls the spare.
inline constexpr std::size_t kMaxGuarded = 127;
// Orders and completions in a ring: more than a worker is ever given, and its word that it is
// ready, and what a spare took over.
inline constexpr std::size_t kRingSpace = 4;

enum class OrderKind : std::uint32_t {
  kActivate = 1,  // Become `place`, `incarnation`; guard nobody any more.
  kJob = 2,       // Execute the job.
  kEnd = 3        // Exit.
};

struct Order {
  OrderKind kind = OrderKind::kJob;
  std::uint32_t place = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t attempt = 0;
  std::uint64_t item = 0;
  std::uint32_t part = 0;
  std::uint64_t output_offset = 0;  // In the frame region of the cell.
  std::uint64_t output_bytes = 0;
};

enum class CompletionKind : std::uint32_t {
  kReady = 1,     // The process has warmed up, and its death will be noticed.
  kJob = 2,       // The job of `position` in the orders of cell `source` was executed.
  kActive = 3,    // It has taken kActivate, and takes nothing over any more.
  kDeclined = 4,  // It had begun to take over the job of `position`, and does not.
  // A job has ruined the process, one of those whose results it holds back: nothing that comes of
  // it counts any more.
  kBroken = 5
};

struct Completion {
  CompletionKind kind = CompletionKind::kJob;
  std::uint32_t source = 0;
  std::uint32_t generation = 0;  // Of the process in `source`.
  std::uint64_t position = 0;
  std::uint64_t item = 0;
  std::uint32_t part = 0;
  std::uint32_t attempt = 0;
  std::int32_t failure = 0;         // FailureReason, 0 for none.
  std::uint64_t output_offset = 0;  // Where the frame was filled, in the region of this cell...
  std::uint64_t frame_bytes = 0;    // ...and how far.
};

// What a process is to know of a cell before it lives there, and of the one that lives there now.
struct CellCard {
  std::atomic<std::uint32_t> generation{0};  // n-th process of the cell; 0 once that is dead.
  std::atomic<std::int32_t> pid{0};
  std::atomic<std::uint32_t> place{0};
  std::atomic<std::uint32_t> incarnation{0};  // 0: a spare.
  std::atomic<std::uint64_t> first_order{0};
  std::atomic<std::uint64_t> first_completion{0};
  // The part of its frame region that is its own while it is a spare.
  std::atomic<std::uint64_t> takeover_offset{0};
  std::atomic<std::uint64_t> takeover_bytes{0};
};

// The coordinator's memory for one cell.
struct Desk {
  alignas(64) std::atomic<std::uint32_t> signal{0};  // A futex: something here has changed.
  alignas(64) CellCard card;
  // Which cells this one guards while it is a spare: generation and cell + 1; 0: none.
  alignas(64) std::array<std::atomic<std::uint64_t>, kMaxGuarded> guarded{};
};

using Lease = BasicLease<std::atomic>;

// The memory of the process in a cell.
struct Cell {
  // Held by the process from its readiness to its death, when the kernel wakes who waits for it,
  // long before the process is taken down. See lock_guard_word().
  pthread_mutex_t guard;
  alignas(64) std::atomic<std::uint32_t> sleeps{0};  // See must_call().
  alignas(64) Lease lease;
  std::atomic<std::uint64_t> heartbeats{0};
};

// What all processes of the pool read and the coordinator writes.
struct Board {
  alignas(64) std::atomic<std::uint32_t> coordinator_sleeps{0};
  std::atomic<std::uint32_t> closing{0};  // Deaths are no longer taken over.
};

// All of it, for `cells` cells with rings of `ring` records. Mapped at the same address in all
// processes, which are forked.
class CellMemory {
 public:
  static Result<CellMemory> create(std::size_t cells, std::size_t ring);

  std::size_t cells() const { return cells_; }
  std::uint64_t ring() const { return ring_; }

  Board& board() const { return *board_; }
  Desk& desk(std::size_t cell) const;
  Cell& cell(std::size_t cell) const;

  // The coordinator, for a cell without a process: makes it ready for the next one.
  void reset(std::size_t cell);

  // The coordinator only. `arguments` of at most kMaxPayload bytes.
  void write_order(std::size_t cell, std::uint64_t position, const Order& order,
                   std::string_view arguments);
  // Any process. A copy, whole; empty while there is none, or if it was overwritten meanwhile.
  bool has_order(std::size_t cell, std::uint64_t position) const;
  std::optional<Order> read_order(std::size_t cell, std::uint64_t position,
                                  std::string& arguments) const;

  // The process of the cell only. `output` must keep to kMaxPayload.
  void write_completion(std::size_t cell, std::uint64_t position, const Completion& completion,
                        const JobOutput& output);
  enum class Found { kNothing, kCompletion, kNonsense };
  // The coordinator only.
  Found read_completion(std::size_t cell, std::uint64_t position, Completion& completion,
                        JobOutput& output) const;
  // The coordinator only. Whether the ring is as a sane writer, whose next record is `position`,
  // has left it; for a process that executes nothing.
  bool is_clean(std::size_t cell, std::uint64_t position) const;
  // The coordinator only. Whether one of the `count` records from `position` is there although an
  // earlier one is not.
  bool has_gap(std::size_t cell, std::uint64_t position, std::size_t count) const;

  // In a worker process: maps what it may have to read in a hurry of a cell: its guard and lease,
  // and the records of its orders.
  void touch(std::size_t cell) const;
  // The same of all cells, but for orders: who takes over looks whether another does.
  void touch_leases() const;
  // In a worker process: makes all of it read-only for it, but for its own cell. A bug if the
  // kernel refuses.
  void seal_all();
  void unseal(std::size_t cell) const;

 private:
  CellMemory() = default;
  Record& order_record(std::size_t cell, std::uint64_t position) const;
  Record& completion_record(std::size_t cell, std::uint64_t position) const;
  std::byte* order_bytes(std::size_t cell, std::uint64_t position) const;
  std::byte* completion_bytes(std::size_t cell, std::uint64_t position) const;

  SharedMemory desks_;   // The board, then the desks with their rings of orders.
  SharedMemory memory_;  // The cells with their rings of completions.
  Board* board_ = nullptr;
  std::size_t cells_ = 0;
  std::uint64_t ring_ = 0;  // A power of two.
  std::size_t desk_bytes_ = 0;
  std::size_t cell_bytes_ = 0;
};

// ---- The guard: a robust mutex that its owner never gives back. ----

// The owner, once: from now on its death is noticed at once.
void take_guard(Cell& cell);
// The futex word of the mutex; whoever guards the cell waits on it.
const std::atomic<std::uint32_t>& guard_word(const Cell& cell);
// What the word says.
bool guard_is_held(std::uint32_t word);
bool owner_is_dead(std::uint32_t word);

}  // namespace crashworthy

#include "harness/worker/cell.h"

#include <linux/futex.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

// Header-only: the checksum of a small record is not to cost a call.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "harness/os/check.h"

namespace crashworthy {
namespace {

using Words = Record::Words;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kOrderWords = 6;
constexpr std::size_t kCompletionWords = 8;
// Bytes that fit the record itself.
constexpr std::size_t kOrderInline = (kRecordWords - kOrderWords) * 8;
constexpr std::size_t kCompletionInline = (kRecordWords - kCompletionWords) * 8;
constexpr std::size_t kOrderSpace = kMaxPayload;
constexpr std::size_t kCompletionSpace = kMaxPayload + kMaxMessage;

std::size_t whole_pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

std::uint64_t pair(std::uint64_t high, std::uint64_t low) {
  return high << 32 | (low & 0xFFFFFFFFu);
}
std::uint32_t high(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); }
std::uint32_t low(std::uint64_t word) { return static_cast<std::uint32_t>(word); }

// Of a completion: over its words but the first, which holds it, and its bytes. Good for its place
// alone: a copy of what another process has written is nothing.
std::uint32_t checksum(std::size_t cell, std::uint64_t position, const Words& words,
                       std::string_view bytes, std::string_view message) {
  const std::uint64_t place = (position << 16) ^ (cell + 1);  // A cell's number fits 16 bits.
  std::uint64_t sum =
      XXH3_64bits_withSeed(words.data() + 1, sizeof(std::uint64_t) * (kRecordWords - 1), place);
  if (!bytes.empty()) sum = XXH3_64bits_withSeed(bytes.data(), bytes.size(), sum);
  if (!message.empty()) sum = XXH3_64bits_withSeed(message.data(), message.size(), sum);
  return high(sum) ^ low(sum);
}

// What no reader takes for one: a job may return any number as its reason.
constexpr std::int16_t kNoReason = -1;

bool is_reason(FailureReason reason) {
  return failure_reason_name(reason) != std::string_view("unknown");
}

}  // namespace

Result<CellMemory> CellMemory::create(std::size_t cells, std::size_t ring) {
  CellMemory made;
  made.cells_ = cells;
  made.ring_ = std::bit_ceil(ring);
  made.desk_bytes_ = whole_pages(sizeof(Desk) + made.ring_ * (sizeof(Record) + kOrderSpace));
  made.cell_bytes_ = whole_pages(sizeof(Cell) + made.ring_ * (sizeof(Record) + kCompletionSpace));
  auto desks = SharedMemory::create("crashworthy-orders", kPage + cells * made.desk_bytes_);
  if (!desks) return desks.error();
  auto memory = SharedMemory::create("crashworthy-cells", cells * made.cell_bytes_);
  if (!memory) return memory.error();
  made.desks_ = *std::move(desks);
  made.memory_ = *std::move(memory);
  made.board_ = new (made.desks_.data()) Board();
  for (std::size_t cell = 0; cell < cells; ++cell) {
    new (made.desks_.data() + kPage + cell * made.desk_bytes_) Desk();
    new (made.memory_.data() + cell * made.cell_bytes_) Cell();
    for (std::uint64_t i = 0; i < made.ring_; ++i) {
      new (&made.order_record(cell, i)) Record();
      new (&made.completion_record(cell, i)) Record();
    }
    made.reset(cell);
  }
  return made;
}

Desk& CellMemory::desk(std::size_t cell) const {
  return *std::launder(reinterpret_cast<Desk*>(desks_.data() + kPage + cell * desk_bytes_));
}

Cell& CellMemory::cell(std::size_t cell) const {
  return *std::launder(reinterpret_cast<Cell*>(memory_.data() + cell * cell_bytes_));
}

Record& CellMemory::order_record(std::size_t cell, std::uint64_t position) const {
  auto* first = reinterpret_cast<Record*>(&desk(cell) + 1);
  return first[position & (ring_ - 1)];
}

Record& CellMemory::completion_record(std::size_t cell_index, std::uint64_t position) const {
  auto* first = reinterpret_cast<Record*>(&cell(cell_index) + 1);
  return first[position & (ring_ - 1)];
}

std::byte* CellMemory::order_bytes(std::size_t cell, std::uint64_t position) const {
  auto* first = reinterpret_cast<std::byte*>(&desk(cell) + 1) + ring_ * sizeof(Record);
  return first + (position & (ring_ - 1)) * kOrderSpace;
}

std::byte* CellMemory::completion_bytes(std::size_t cell_index, std::uint64_t position) const {
  auto* first = reinterpret_cast<std::byte*>(&cell(cell_index) + 1) + ring_ * sizeof(Record);
  return first + (position & (ring_ - 1)) * kCompletionSpace;
}

void CellMemory::reset(std::size_t index) {
  Cell& fresh = cell(index);
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  const int refused = ::pthread_mutex_init(&fresh.guard, &attributes);
  ::pthread_mutexattr_destroy(&attributes);
  CRASHWORTHY_CHECK(refused == 0, refused);
  fresh.sleeps.store(0);
  fresh.lease.executing.store(Lease::idle(index));
  fresh.heartbeats.store(0);
  // What a process beside itself may have left where the next one is to write.
  for (std::uint64_t i = 0; i < ring_; ++i) new (&completion_record(index, i)) Record();
  for (auto& guarded : desk(index).guarded) guarded.store(0);
}

void CellMemory::write_order(std::size_t cell, std::uint64_t position, const Order& order,
                             std::string_view arguments) {
  CRASHWORTHY_CHECK(arguments.size() <= kMaxPayload, arguments.size());
  Record& record = order_record(cell, position);
  record.clear();
  std::atomic_signal_fence(std::memory_order_seq_cst);  // The bytes, too, come after.
  Words words{};
  words[0] = pair(static_cast<std::uint32_t>(order.kind), arguments.size());
  words[1] = pair(order.place, order.incarnation);
  words[2] = pair(order.attempt, order.part);
  words[3] = order.item;
  words[4] = order.output_offset;
  words[5] = order.output_bytes;
  if (arguments.size() <= kOrderInline) {
    if (!arguments.empty()) std::memcpy(&words[kOrderWords], arguments.data(), arguments.size());
  } else {
    std::memcpy(order_bytes(cell, position), arguments.data(), arguments.size());
  }
  record.write(position, words);
}

bool CellMemory::has_order(std::size_t cell, std::uint64_t position) const {
  return order_record(cell, position).holds(position);
}

std::optional<Order> CellMemory::read_order(std::size_t cell, std::uint64_t position,
                                            std::string& arguments) const {
  const Record& record = order_record(cell, position);
  const auto words = record.read(position);
  if (!words) return std::nullopt;
  const Words& w = *words;
  const std::size_t size = low(w[0]);
  if (size > kMaxPayload) return std::nullopt;
  const bool within = size <= kOrderInline;
  arguments.assign(within ? reinterpret_cast<const char*>(&w[kOrderWords])
                          : reinterpret_cast<const char*>(order_bytes(cell, position)),
                   size);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // The bytes were read before.
  if (!within && !record.holds(position)) return std::nullopt;
  return Order{static_cast<OrderKind>(high(w[0])),
               high(w[1]),
               low(w[1]),
               high(w[2]),
               w[3],
               low(w[2]),
               w[4],
               w[5]};
}

void CellMemory::write_completion(std::size_t cell, std::uint64_t position,
                                  const Completion& completion, const JobOutput& output) {
  const std::string_view bytes = output.bytes;
  const std::string_view message = std::string_view(output.message).substr(0, kMaxMessage);
  Words words{};
  words[1] = pair(static_cast<std::uint32_t>(completion.kind), completion.source);
  words[2] = completion.position;
  words[3] = completion.item;
  words[4] = pair(completion.part, completion.attempt);
  words[5] = completion.output_offset;
  words[7] = completion.generation;
  // 2^40 is more than any frame, 2^16 more than any payload.
  const bool plain = !output.failure || is_reason(*output.failure);
  const auto failure = plain ? static_cast<std::int16_t>(completion.failure) : kNoReason;
  words[6] = completion.frame_bytes << 16 | static_cast<std::uint16_t>(failure);
  words[0] = pair(0, bytes.size() << 16 | message.size());
  if (bytes.size() + message.size() <= kCompletionInline) {
    auto* room = reinterpret_cast<char*>(&words[kCompletionWords]);
    std::copy(message.begin(), message.end(), std::copy(bytes.begin(), bytes.end(), room));
  } else {
    auto* room = reinterpret_cast<char*>(completion_bytes(cell, position));
    std::copy(message.begin(), message.end(), std::copy(bytes.begin(), bytes.end(), room));
  }
  words[0] |= std::uint64_t{checksum(cell, position, words, bytes, message) ^ low(words[0])} << 32;
  completion_record(cell, position).write(position, words);
}

CellMemory::Found CellMemory::read_completion(std::size_t cell, std::uint64_t position,
                                              Completion& completion, JobOutput& output) const {
  const Record& record = completion_record(cell, position);
  const auto words = record.read(position);
  if (!words) {
    // Only a writer beside itself leaves a foreign stamp, or goes on behind a record without one.
    const bool nonsense = has_gap(cell, position, 2) || record.is_foreign(position, ring_);
    return nonsense ? Found::kNonsense : Found::kNothing;
  }
  const Words& w = *words;
  const std::size_t bytes_size = low(w[0]) >> 16;
  const std::size_t message_size = low(w[0]) & 0xFFFF;
  if (bytes_size > kMaxPayload || message_size > kMaxMessage) return Found::kNonsense;
  const bool within = bytes_size + message_size <= kCompletionInline;
  const auto* room = within ? reinterpret_cast<const char*>(&w[kCompletionWords])
                            : reinterpret_cast<const char*>(completion_bytes(cell, position));
  // Copied, then checked: what is checked cannot change any more.
  output.bytes.assign(room, bytes_size);
  output.message.assign(room + bytes_size, message_size);
  if ((checksum(cell, position, w, output.bytes, output.message) ^ low(w[0])) != high(w[0])) {
    return Found::kNonsense;
  }
  completion = {static_cast<CompletionKind>(high(w[1])),
                low(w[1]),
                low(w[7]),
                w[2],
                w[3],
                high(w[4]),
                low(w[4]),
                static_cast<std::int16_t>(w[6] & 0xFFFF),
                w[5],
                w[6] >> 16};
  output.failure.reset();
  if (completion.failure != 0) {
    output.failure = static_cast<FailureReason>(completion.failure);
    if (!is_reason(*output.failure)) return Found::kNonsense;
  }
  output.frame_bytes = completion.frame_bytes;
  return Found::kCompletion;
}

bool CellMemory::is_clean(std::size_t cell, std::uint64_t position) const {
  for (std::uint64_t next = position; next < position + ring_; ++next) {
    const Record& record = completion_record(cell, next);
    if (record.holds(next) || record.is_foreign(next, ring_)) return false;
  }
  return true;
}

bool CellMemory::has_gap(std::size_t cell, std::uint64_t position, std::size_t count) const {
  for (std::uint64_t next = position + 1; next < position + count; ++next) {
    // In this order: the writer goes on meanwhile.
    if (!completion_record(cell, next).holds(next)) continue;
    if (!completion_record(cell, next - 1).holds(next - 1)) return true;
  }
  return false;
}

namespace {

void map_pages(const void* first, std::size_t bytes) {
  const auto* byte = static_cast<const volatile std::byte*>(first);
  for (std::size_t i = 0; i < bytes; i += kPage) [[maybe_unused]] const std::byte read = byte[i];
}

}  // namespace

void CellMemory::touch_leases() const {
  map_pages(&board(), sizeof(Board));
  for (std::size_t i = 0; i < cells(); ++i) map_pages(&cell(i), sizeof(Cell));
}

void CellMemory::touch(std::size_t index) const {
  map_pages(&cell(index), sizeof(Cell));
  map_pages(&desk(index), sizeof(Desk) + ring_ * sizeof(Record));
}

void CellMemory::seal_all() {
  desks_.close_descriptor();
  memory_.close_descriptor();
  int refused = ::mprotect(desks_.data(), desks_.size(), PROT_READ);
  CRASHWORTHY_CHECK(refused == 0, errno);
  refused = ::mprotect(memory_.data(), memory_.size(), PROT_READ);
  CRASHWORTHY_CHECK(refused == 0, errno);
}

void CellMemory::unseal(std::size_t index) const {
  const int refused = ::mprotect(&cell(index), cell_bytes_, PROT_READ | PROT_WRITE);
  CRASHWORTHY_CHECK(refused == 0, errno);
}

// ---- The guard ----

void take_guard(Cell& cell) {
  const int refused = ::pthread_mutex_lock(&cell.guard);
  CRASHWORTHY_CHECK(refused == 0, refused);
  // Who waits cannot write here, so the owner says that somebody may wait: then the kernel wakes.
  const_cast<std::atomic<std::uint32_t>&>(guard_word(cell))
      .fetch_or(FUTEX_WAITERS, std::memory_order_seq_cst);
}

// The word of glibc's mutex is its first member, on every architecture, and part of its ABI: it is
// what static initializers and the kernel's robust list rely on.
const std::atomic<std::uint32_t>& guard_word(const Cell& cell) {
  static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(cell.guard.__data.__lock));
  return reinterpret_cast<const std::atomic<std::uint32_t>&>(cell.guard.__data.__lock);
}

bool guard_is_held(std::uint32_t word) { return (word & FUTEX_TID_MASK) != 0; }
// Exactly what the kernel leaves (handle_futex_death); anything else was written by a job.
bool owner_is_dead(std::uint32_t word) { return (word & ~FUTEX_WAITERS) == FUTEX_OWNER_DIED; }

}  // namespace crashworthy

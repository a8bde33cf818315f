// What passes between the coordinator and one worker: two rings of fixed records, each with one
// writer, and the way either side sleeps until the other has written.
//
// The writer's memory is read-only to the reader, so the reader can tell the writer nothing here: a
// position is written again only when its reader is known to be done with it (the coordinator
// counts the jobs that it has given out). A record is there whole or not at all, whatever kills its
// writer: its stamp is written last. A reader that may be overtaken by the writer (a spare reads
// the orders of the worker that it guards) sees so by the stamp, after it has copied.
//
// `Atomic` is std::atomic but in tests, which try all interleavings. Stores release and loads
// acquire, so no fence is needed; what must not pass a later load is seq_cst.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace crashworthy {

// A record at a position of a ring. Positions count from 0 and never begin anew.
template <template <typename> typename Atomic, std::size_t kWords>
class StampedRecord {
 public:
  using Words = std::array<std::uint64_t, kWords>;

  // No position is here any more: before anything is written, here or to what belongs to the
  // record. Nobody reads what was here before any more, or whoever does looks at the stamp again.
  void clear() { stamp_.store(0, std::memory_order_release); }

  void write(std::uint64_t position, const Words& words) {
    clear();
    for (std::size_t i = 0; i < kWords; ++i) {
      words_[i].store(words[i], std::memory_order_release);
    }
    stamp_.store(position + 1, std::memory_order_seq_cst);
  }

  bool holds(std::uint64_t position) const {
    return stamp_.load(std::memory_order_seq_cst) == position + 1;
  }
  // Whether something else than `position`, or what was here one round before it, is here: only a
  // writer beside itself leaves that.
  bool is_foreign(std::uint64_t position, std::uint64_t ring_size) const {
    const std::uint64_t stamp = stamp_.load(std::memory_order_acquire);
    const bool before = position >= ring_size && stamp == position + 1 - ring_size;
    return stamp != 0 && stamp != position + 1 && !before;
  }

  // A copy of the record at `position`; empty while it is not, or no longer, here.
  std::optional<Words> read(std::uint64_t position) const {
    if (!holds(position)) return std::nullopt;
    Words words;
    for (std::size_t i = 0; i < kWords; ++i) {
      words[i] = words_[i].load(std::memory_order_acquire);
    }
    if (!holds(position)) return std::nullopt;
    return words;
  }

 private:
  Atomic<std::uint64_t> stamp_{0};
  std::array<Atomic<std::uint64_t>, kWords> words_{};
};

// One side sleeps until the other calls. `sleeps` is the sleeper's memory: odd while it sleeps or
// is about to. A call is never missed, because either the sleeper sees what the caller has written,
// or the caller sees that it sleeps; and nobody calls twice in one sleep.
//
//   sleeper: fall_asleep(sleeps); if there is still nothing to see: wait; wake_up(sleeps).
//   caller:  write, seq_cst, what there is to see; if must_call(sleeps, last): wake the sleeper.
//
// That is for a call that stays until the sleeper takes it, as of an eventfd. One that waits for a
// `signal` (a futex) loads it before it looks whether there is anything to see, and its caller
// changes it: must_wake(signal, sleeps, last).
template <template <typename> typename Atomic>
void fall_asleep(Atomic<std::uint32_t>& sleeps) {
  sleeps.store(sleeps.load(std::memory_order_relaxed) | 1, std::memory_order_seq_cst);
}
template <template <typename> typename Atomic>
void wake_up(Atomic<std::uint32_t>& sleeps) {
  sleeps.store((sleeps.load(std::memory_order_relaxed) | 1) + 1, std::memory_order_release);
}
// `last` is the caller's own: the sleep in which it called last, 0 at first.
template <template <typename> typename Atomic>
[[nodiscard]] bool must_call(const Atomic<std::uint32_t>& sleeps, std::uint32_t& last) {
  const std::uint32_t now = sleeps.load(std::memory_order_seq_cst);
  if (now % 2 == 0 || now == last) return false;
  last = now;
  return true;
}
template <template <typename> typename Atomic>
[[nodiscard]] bool must_wake(Atomic<std::uint32_t>& signal, const Atomic<std::uint32_t>& sleeps,
                             std::uint32_t& last) {
  const std::uint32_t before = sleeps.load(std::memory_order_acquire);
  signal.fetch_add(1, std::memory_order_seq_cst);
  const std::uint32_t now = sleeps.load(std::memory_order_seq_cst);
  if (now % 2 == 0 || now == last) return false;
  // Changed before that sleep, the signal does not end it: who is not waiting yet will.
  if (now == before) last = now;
  return true;
}

}  // namespace crashworthy

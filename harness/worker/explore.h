// Tries all interleavings of a few actors over model memory: a small stateless model checker, for
// tests.
//
// An actor is a fiber that runs real code (ring.h, lease.h) over explore::Atomic instead of
// std::atomic. Each load, store, read-modify-write, wait and wake is a scheduling point. explore()
// runs the scenario again and again, depth first, until every schedule was seen that differs from
// the others in the order of two dependent steps (sleep sets; two steps depend on each other if
// they touch the same word and one of them writes, or belong to the same actor). There is no bound
// but `max_schedules`; whether it was reached is told.
//
// The memory is x86-TSO: a store that is not seq_cst goes into the actor's own FIFO buffer, from
// which its own loads are answered; that its head reaches memory is a step of its own. Stores that
// are seq_cst, and read-modify-writes, wait until the buffer is empty. What the kernel does for an
// actor (wait, wake, post) does not wait for it: so nothing is shown that rests on a barrier in a
// system call. What a compiler might reorder is not modelled.
//
// A crash is SIGKILL: the actor takes no further step. What it has stored stays: stores that have
// retired reach memory, so its buffer goes on being emptied, at any time; await_death() is possible
// once it is empty, as the kernel tells of a death after the dead process has left its CPU.
// Crashing is tried wherever an effect has just been had: a crash behind a load is, to everybody
// else, the one before it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace crashworthy::explore {

using WordId = std::uint32_t;
using ActorId = std::uint32_t;

// ---- What Atomic is made of; only within a scenario. ----

WordId add_word(std::uint64_t value);
std::uint64_t load_word(WordId word);
void store_word(WordId word, std::uint64_t value, bool buffered);
std::uint64_t add_to_word(WordId word, std::uint64_t value, std::uint64_t mask);

// The part of std::atomic that the code under test uses. Outside of actors (before they start, and
// at the end) it is plain memory.
template <typename T>
class Atomic {
 public:
  Atomic() : Atomic(T()) {}
  explicit(false) Atomic(T value) : word_(add_word(static_cast<std::uint64_t>(value))) {}
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  T load([[maybe_unused]] std::memory_order order = std::memory_order_seq_cst) const {
    return static_cast<T>(load_word(word_));
  }
  void store(T value, std::memory_order order = std::memory_order_seq_cst) {
    store_word(word_, static_cast<std::uint64_t>(value), order != std::memory_order_seq_cst);
  }
  T fetch_add(T value, [[maybe_unused]] std::memory_order order = std::memory_order_seq_cst) {
    return static_cast<T>(add_to_word(word_, static_cast<std::uint64_t>(value),
                                      static_cast<std::uint64_t>(static_cast<T>(~T{0}))));
  }
  WordId id() const { return word_; }

 private:
  WordId word_;
};

// ---- What the kernel does; for actors. ----

struct Expected {
  WordId word;
  std::uint64_t value;
};
// futex_waitv(2): sleeps only if all words are as expected at that moment, until one is woken.
void wait(std::initializer_list<Expected> words);
// Wakes whoever sleeps on the word.
void wake(WordId word);
// Writes at once, past the buffer: an eventfd, a report of a zygote, or what a test notes.
void post(WordId word, std::uint64_t value);
// Sleeps until one of the words is not 0, as poll(2) does for descriptors.
void poll(std::initializer_list<WordId> words);
// Sleeps until the actor has crashed and all its stores have reached memory.
void await_death(ActorId actor);

// ---- Scenarios ----

// One schedule. A scenario makes its memory and its actors from it; all of it is made anew for the
// next one.
class Schedule {
 public:
  // `body` must not hold anything on its stack that a crash would leak.
  virtual ActorId actor(std::string name, std::function<void()> body, bool may_crash = false) = 0;
  // Called when no step is possible any more but a crash, and all buffers are empty.
  virtual void at_end(std::function<void()> check) = 0;
  // The first that does not hold ends the exploration. From anywhere in the scenario.
  virtual void expect(bool holds, std::string_view what) = 0;
  // At the end: whether the actor did all it had to do, or crashed; if neither, it sleeps.
  virtual bool finished(ActorId actor) const = 0;
  virtual bool crashed(ActorId actor) const = 0;

 protected:
  ~Schedule() = default;
};

struct Bounds {
  int crashes = 1;  // In one schedule.
  std::uint64_t max_schedules = 20'000'000;
  bool reduce = true;  // false: independent steps are permuted, too. To test the reduction.
};

struct Explored {
  std::uint64_t schedules = 0;  // Up to their end.
  std::uint64_t pruned = 0;     // Given up as the same as another one.
  std::uint64_t steps = 0;
  bool complete = false;  // All of them, and nothing was violated.
  std::optional<std::string> violation;
  std::string schedule;  // The steps that lead there, one a line.
};

Explored explore(const std::function<void(Schedule&)>& scenario, const Bounds& bounds = {});

}  // namespace crashworthy::explore

// Which of the counted hits of a point, or calls of a function, fire. Lies in shared memory, so
// that they are counted over all processes of a trial; zero-filled memory never fires.
#pragma once

#include <atomic>
#include <cstdint>

namespace crashworthy::point {

// Everything but the last two members is written before `open` is.
struct Schedule {
  std::atomic<std::uint32_t> open;  // Hits count while it is not 0.
  std::uint32_t reserved;
  std::uint64_t first;   // The first that fires, from 1.
  std::uint64_t every;   // Then each so-many-th after it; 0: none.
  std::uint64_t times;   // At most so many firings.
  std::uint64_t chance;  // Of 2^64, that one which may fire does; 0: always.
  std::uint64_t seed;    // Decides that, by the hit's number alone.
  std::atomic<std::uint64_t> hits;
  std::atomic<std::uint64_t> fired;

  void set_probability(double probability) {
    constexpr double kAll = 18446744073709551616.0;  // 2^64
    chance = probability >= 1 ? 0 : static_cast<std::uint64_t>(probability * kAll) | 1;
  }

  // The number of a hit that has just happened; 0: it does not count.
  std::uint64_t count() {
    if (open.load(std::memory_order_acquire) == 0) return 0;
    return hits.fetch_add(1, std::memory_order_acq_rel) + 1;
  }

  // Whether that one fires. To be asked once for each.
  bool fires(std::uint64_t number) {
    if (first == 0 || number < first) return false;
    const std::uint64_t since = number - first;
    if (since != 0 && (every == 0 || since % every != 0)) return false;
    if (chance == 0) {
      if (since != 0 ? since / every >= times : times == 0) return false;
      fired.fetch_add(1, std::memory_order_acq_rel);
      return true;
    }
    if (draw(number) >= chance) return false;
    std::uint64_t before = fired.load(std::memory_order_relaxed);
    while (before < times) {
      if (fired.compare_exchange_weak(before, before + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  // The same for the same seed and number: the n-th of SplitMix64.
  std::uint64_t draw(std::uint64_t number) const {
    std::uint64_t z = seed + number * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
};

}  // namespace crashworthy::point

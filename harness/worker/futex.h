// futex(2) on words in shared memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace crashworthy {

// Tells the CPU that this is a loop that waits for another one.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Wakes whoever waits on `word`, in any process.
void futex_wake(const std::atomic<std::uint32_t>& word);

// Sleeps while `word` is `expected`, until woken or interrupted. May return for no reason.
void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected);

struct FutexWait {
  const std::atomic<std::uint32_t>* word;
  std::uint32_t expected;
};
inline constexpr std::size_t kMaxFutexWaits = 128;
// Sleeps while all words are what is expected of them; at most kMaxFutexWaits. May return for no
// reason. False when the kernel cannot do it.
bool futex_wait_any(std::span<const FutexWait> waits);

}  // namespace crashworthy

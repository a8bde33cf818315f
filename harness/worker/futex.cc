#include "harness/worker/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstddef>

namespace crashworthy {

void futex_wake(const std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected) {
  ::syscall(SYS_futex, &word, FUTEX_WAIT, expected, nullptr, nullptr, 0);
}

bool futex_wait_any(std::span<const FutexWait> waits) {
#ifdef SYS_futex_waitv
  std::array<futex_waitv, kMaxFutexWaits> list{};
  for (std::size_t i = 0; i < waits.size(); ++i) {
    list[i].val = waits[i].expected;
    list[i].uaddr = reinterpret_cast<std::uintptr_t>(waits[i].word);
    list[i].flags = FUTEX_32;
  }
  const long result =
      ::syscall(SYS_futex_waitv, list.data(), static_cast<unsigned>(waits.size()), 0, nullptr, 0);
  return result >= 0 || errno == EAGAIN || errno == EINTR;
#else
  (void)waits;
  return false;
#endif
}

}  // namespace crashworthy

#include "harness/worker/forked.h"

#include <pthread.h>

#include <atomic>

#include "harness/os/check.h"

namespace crashworthy {
namespace {

std::atomic<std::uint32_t> depth{0};

}  // namespace

std::uint32_t fork_depth() {
  static const int refused =
      ::pthread_atfork(nullptr, nullptr, [] { depth.fetch_add(1, std::memory_order_relaxed); });
  CRASHWORTHY_CHECK(refused == 0, refused);
  return depth.load(std::memory_order_relaxed);
}

}  // namespace crashworthy

#include "harness/worker/lease.h"

namespace crashworthy {

void Lease::begin(const JobKey& key, std::uint32_t incarnation, std::uint32_t attempt,
                  std::int64_t now_ns) {
  // Idle while the fields change: who dies in between has begun nothing. Every store releases, so
  // none is seen before the one above it.
  state_.store(kIdle, std::memory_order_release);
  item_.store(key.item, std::memory_order_release);
  part_.store(key.part, std::memory_order_release);
  incarnation_.store(incarnation, std::memory_order_release);
  attempt_.store(attempt, std::memory_order_release);
  started_ns_.store(now_ns, std::memory_order_release);
  state_.store(kExecuting, std::memory_order_release);
}

void Lease::finish() { state_.store(kFinished, std::memory_order_release); }

LeaseView Lease::read() const {
  LeaseView view;
  const std::uint32_t state = state_.load(std::memory_order_acquire);
  view.begun = state == kExecuting || state == kFinished;
  view.executing = state == kExecuting;
  view.key = {item_.load(std::memory_order_acquire), part_.load(std::memory_order_acquire)};
  view.incarnation = incarnation_.load(std::memory_order_acquire);
  view.attempt = attempt_.load(std::memory_order_acquire);
  view.started_ns = started_ns_.load(std::memory_order_acquire);
  return view;
}

}  // namespace crashworthy

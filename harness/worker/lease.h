// What a process executes now, told to the coordinator and to whoever guards it; and how a job
// passes from a dead process to the spare that takes it over, without a message.
//
// The spare begins its lease first and then looks at the generation of the dead process's card; the
// coordinator, when the death is proved, clears that first and then looks at the lease. Both are
// seq_cst. So either the spare declines, or the coordinator finds it executing the job, or
// finished.
//
// `Atomic` is std::atomic but in tests, which try all interleavings.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace crashworthy {

// Written by the process right before and after an execution; true once it is dead.
template <template <typename> typename Atomic>
struct BasicLease {
  // What `executing` is while it executes nothing, in this cell. No job that fills its cell with
  // anything, or with a copy of another one, leaves that by accident.
  static constexpr std::uint64_t idle(std::size_t cell) { return 0x1D1E'71AE'5CA1'AB1E + cell; }

  Atomic<std::uint64_t> executing{0};  // Position + 1 in the orders of `source`.
  Atomic<std::uint32_t> source{0};
  Atomic<std::int64_t> started_ns{0};
};

// ---- The process ----

template <template <typename> typename Atomic>
void begin_lease(BasicLease<Atomic>& lease, std::uint32_t source, std::uint64_t position,
                 std::int64_t now_ns) {
  lease.source.store(source, std::memory_order_release);
  lease.started_ns.store(now_ns, std::memory_order_release);
  lease.executing.store(position + 1, std::memory_order_seq_cst);
}
template <template <typename> typename Atomic>
void end_lease(BasicLease<Atomic>& lease, std::size_t cell) {
  lease.executing.store(BasicLease<Atomic>::idle(cell), std::memory_order_release);
}

// The spare in `cell`, with a lease of its own for the dead process's job. False, and the lease has
// ended: the death was proved meanwhile, and the coordinator, which may have seen the lease, is to
// be told that nothing is executed.
template <template <typename> typename Atomic>
[[nodiscard]] bool may_take_over(BasicLease<Atomic>& begun, std::size_t cell,
                                 const Atomic<std::uint32_t>& card_generation,
                                 std::uint32_t generation) {
  if (card_generation.load(std::memory_order_seq_cst) == generation) return true;
  end_lease(begun, cell);
  return false;
}

// ---- The coordinator ----

// Before it looks at the leases of those who may have taken over.
template <template <typename> typename Atomic>
void forbid_take_over(Atomic<std::uint32_t>& card_generation) {
  card_generation.store(0, std::memory_order_seq_cst);
}

// Whether the lease says that its process is executing the job. Once that is dead: whether it was.
template <template <typename> typename Atomic>
bool executes(const BasicLease<Atomic>& lease, std::uint32_t source, std::uint64_t position) {
  return lease.executing.load(std::memory_order_seq_cst) == position + 1 &&
         lease.source.load(std::memory_order_acquire) == source;
}

}  // namespace crashworthy

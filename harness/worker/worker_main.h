// The life of a worker process, after the fork: first a spare, then, once the coordinator says so,
// the worker of a place.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "harness/probe/probe.h"
#include "harness/worker/cell.h"
#include "harness/worker/doorbell.h"
#include "harness/worker/executor.h"
#include "harness/worker/frame.h"

namespace crashworthy {

// What a worker inherits; the same for all workers of a pool.
struct WorkerSetup {
  CellMemory* memory = nullptr;
  FrameArena* frames = nullptr;  // Region 0 is the coordinator's; cell i has region i + 1.
  const Doorbell* doorbell = nullptr;
  JobFunction function;
  Probe probe;
  std::optional<Job> warm_up;  // Executed, and its result dropped, before the worker is ready.
  std::uint32_t min_demand = 1;
  std::uint32_t max_take_over = 2;  // The last attempt that may be taken over.
  std::uint32_t spares = 1;
  bool protection_keys = false;
  std::uint32_t batch = 1;
  std::chrono::nanoseconds spin{0};
};

inline std::uint32_t region_of(std::uint32_t cell) { return cell + 1; }

// Lives in `cell` until it is told to end, then ends the process without running anything of the
// parent's (no destructors, no atexit). An exception of the job function ends it by SIGABRT.
[[noreturn]] void run_worker(const WorkerSetup& setup, std::uint32_t cell) noexcept;

// Whether this kernel lets a spare wait for several workers at once (futex_waitv, Linux 5.16). If
// not, nobody takes over: a death is known when the zygote has reaped it.
bool can_guard();

}  // namespace crashworthy

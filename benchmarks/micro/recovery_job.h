// The job of recovery-benchmark, alike in the pool's workers and in a program of its own: on its
// first attempt it takes memory and dies, or waits to be killed; on the second it does its work and
// stamps the time.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace crashworthy::benchmark {

enum class Death : std::uint32_t { kKill, kSegv, kAbort };
enum class Work : std::uint32_t { kTrivial, kTile };

struct RecoveryTask {
  std::uint64_t memory = 0;  // Bytes of private memory that the victim has when it dies.
  Death death = Death::kKill;
  Work work = Work::kTrivial;
  std::uint32_t decoy = 0;  // 1: only keeps its worker away from others, asleep.
};

// In shared memory: what happens in a round.
struct Stage {
  std::atomic<std::int32_t> victim{0};  // Its pid, once it is ready to die.
  std::atomic<std::uint32_t> go{0};     // It may die by itself now.
  std::atomic<std::uint32_t> release{0};
  std::atomic<std::int64_t> died_ns{0};    // Right before it dies by itself.
  std::atomic<std::int64_t> redone_ns{0};  // The job is done, by another.
};

inline constexpr int kTileSide = 256;
inline constexpr std::size_t kTileBytes = std::size_t{kTileSide} * kTileSide * 3;

// To be called first in every program: OpenCV takes no threads, and the allocator gives no memory
// back between two tiles, which would have to be mapped and cleared again.
void set_up_process();

// Blurs, greys and finds edges in `input`, of kTileBytes bytes, into the first third of `output`.
void filter_tile(std::span<const std::byte> input, std::span<std::byte> output);

// `attempt` counts from 1.
void run_task(const RecoveryTask& task, std::uint32_t attempt, Stage& stage,
              std::span<const std::byte> input, std::span<std::byte> output);

}  // namespace crashworthy::benchmark

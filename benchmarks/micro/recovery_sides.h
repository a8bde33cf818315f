// Ways from the death of a worker in mid-item to that item done again, for benchmarks that compare
// them: a worker pool, and a program that is executed anew.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/micro/recovery_job.h"
#include "harness/os/random.h"
#include "harness/os/result.h"
#include "harness/os/shared_memory.h"
#include "harness/os/unique_fd.h"
#include "harness/worker/pool.h"

namespace crashworthy::benchmark {

// The bound of every wait of a recovery.
inline constexpr std::int64_t kRecoveryBoundNs = 60'000'000'000;

struct RecoverySettings {
  int rounds = 60;
  int workers = 2;
  int spares = 2;
  std::uint64_t memory = 0;
  Death death = Death::kKill;
  Work work = Work::kTrivial;
  bool busy = false;
  bool known = false;  // Until the coordinator has the result, not until it is done.
  std::uint64_t seed = 1;
};

// `what` took longer than kRecoveryBoundNs.
Error too_late(const std::string& what);

// kTileBytes bytes: smooth, with some edges, as photographs are.
std::vector<std::byte> make_tile();

// Memory that all processes of this program share.
class SharedStage {
 public:
  SharedStage();
  Stage& operator*() const { return *reinterpret_cast<Stage*>(memory_.data()); }
  Stage* operator->() const { return &**this; }
  int fd() const { return memory_.fd(); }
  void clear() const;

 private:
  SharedMemory memory_;
};

// A pool of `settings.workers`, whose victim is a random one: the others before it sleep. To be
// made while this process is single-threaded.
class PoolSide {
 public:
  PoolSide(const RecoverySettings& settings, int spares, bool take_over,
           const std::vector<std::byte>& tile);
  PoolSide(const PoolSide&) = delete;
  PoolSide& operator=(const PoolSide&) = delete;

  // Waits until the pool is whole, lets a worker die and returns nanoseconds from its death to the
  // end that the settings ask for. Fails when something takes longer than kRecoveryBoundNs.
  Result<double> measure();

 private:
  JobOutput run(const Job& job, const JobContext& context);
  void submit(std::uint64_t item, const RecoveryTask& task);
  // Until all workers and spares are there again.
  Result<void> settle();

  const RecoverySettings settings_;
  Random random_;
  SharedStage stage_;
  std::size_t spares_ = 0;
  std::unique_ptr<Pool> pool_;
  Frame tile_;
};

// recovery-worker, executed by a parent that waits on its pidfd, and again when it dies.
class ExecSide {
 public:
  ExecSide(const RecoverySettings& settings, const std::vector<std::byte>& tile);
  ExecSide(const ExecSide&) = delete;
  ExecSide& operator=(const ExecSide&) = delete;
  ~ExecSide() { end(); }

  // As PoolSide's.
  Result<double> measure();

 private:
  Result<void> start();
  Result<void> give(const RecoveryTask& task, std::uint32_t attempt);
  void end();

  const RecoverySettings settings_;
  std::string program_;
  SharedStage stage_;
  SharedMemory frame_;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  UniqueFd to_;
  UniqueFd from_;
};

}  // namespace crashworthy::benchmark

// What the tests of the pool share: memory that survives workers, a pool with its probe, and
// results gathered with a bound.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/clock.h"
#include "harness/probe/probe.h"
#include "harness/worker/pool.h"

namespace crashworthy::test {

using namespace std::chrono_literals;

inline constexpr std::size_t kCounters = 4096;
inline constexpr std::int64_t kPatienceNs = 60'000'000'000;  // Until a test gives up.

// Counters in shared memory: what workers did is known although they died of it.
class Counters {
 public:
  Counters()
      : cells_(static_cast<Cells*>(::mmap(nullptr, sizeof(Cells), PROT_READ | PROT_WRITE,
                                          MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~Counters() { ::munmap(static_cast<void*>(cells_), sizeof(Cells)); }
  Counters(const Counters&) = delete;
  Counters& operator=(const Counters&) = delete;
  std::atomic<int>& operator[](std::uint64_t index) const { return (*cells_)[index]; }

 private:
  using Cells = std::array<std::atomic<int>, kCounters>;
  Cells* cells_;
};

inline Job job(std::uint64_t item, std::uint32_t part = 0, std::string arguments = {}) {
  return Job{item, part, std::move(arguments), 0, {}};
}

// A pool with its own probe ring. Stops the test program when the pool cannot be made.
struct PoolUnderTest {
  ProbeRing ring = ProbeRing::create().value();
  std::unique_ptr<Pool> pool;
  std::vector<ProbeRecord> records;

  PoolUnderTest(const PoolOptions& options, JobFunction function) {
    pool = make_worker_pool(options, std::move(function), ring.probe()).value();
  }

  // The records of one kind so far.
  std::vector<ProbeRecord> all(ProbeEvent event) {
    ring.drain(records);
    std::vector<ProbeRecord> found;
    for (const ProbeRecord& record : records) {
      if (record.event == static_cast<std::uint16_t>(event)) found.push_back(record);
    }
    return found;
  }

  // Until so many deaths are proved: jobs are done again before that.
  void await_deaths(std::uint64_t count) {
    const std::int64_t until = now_ns() + kPatienceNs;
    while (pool->statistics().worker_deaths < count && now_ns() < until) {
      const auto came = pool->wait(5ms);
      ASSERT_TRUE(came) << came.error().message;
      ASSERT_TRUE(came->empty()) << "results that nobody waits for";
    }
  }

  // The process in the place `worker` now, once it said that it is ready.
  pid_t pid_of(std::uint32_t worker) {
    const std::int64_t until = now_ns() + kPatienceNs;
    while (now_ns() < until) {
      pid_t pid = 0;
      for (const ProbeRecord& record : all(ProbeEvent::kWorkerReady)) {
        if (record.worker == worker) pid = record.pid;
      }
      if (pid != 0) return pid;
      ::usleep(100);
    }
    ADD_FAILURE() << "worker " << worker << " never became ready";
    return 0;
  }
};

using Results = std::map<std::pair<std::uint64_t, std::uint32_t>, JobResult>;

// Adds what came to `results`; a (item, part) that comes twice fails the test.
inline void collect(std::vector<JobResult> came, Results& results) {
  for (JobResult& result : came) {
    const std::pair<std::uint64_t, std::uint32_t> key{result.job.item, result.job.part};
    EXPECT_TRUE(results.emplace(key, std::move(result)).second)
        << "item " << key.first << " part " << key.second << " came twice";
  }
}

// Waits until nothing is in flight, or until the pool fails: then the error is returned. However
// long it takes while results come: the machine may be busy.
inline std::optional<Error> finish(Executor& executor, Results& results) {
  std::int64_t until = now_ns() + kPatienceNs;
  while (executor.in_flight() > 0) {
    auto came = executor.wait(1000ms);
    if (!came) return came.error();
    if (!came->empty()) until = now_ns() + kPatienceNs;
    collect(std::move(*came), results);
    if (now_ns() > until) {
      ADD_FAILURE() << executor.in_flight() << " jobs never ended";
      break;
    }
  }
  return std::nullopt;
}

inline std::string done_text(const Job& done) {
  return std::to_string(done.item) + "/" + std::to_string(done.part) + ":" + done.arguments;
}

inline std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// True when this process has no child, running or zombie.
inline bool childless() { return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD; }

}  // namespace crashworthy::test

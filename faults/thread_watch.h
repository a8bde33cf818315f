// What the kernel says of one thread of the subject that is to hang: that it waits and never wakes,
// or that it runs and never waits.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "faults/victim.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

class ThreadWatch {
 public:
  ThreadWatch() = default;  // Of nobody.
  // Of thread `tid` of process `pid`, as the subject sees them.
  ThreadWatch(const SubjectView& subject, std::int32_t pid, std::int32_t tid);

  // Takes a sample, if it is time for one.
  void look();
  // When to look again; INT64_MAX: the thread has ended.
  std::int64_t next_ns() const;

  // It has slept for a while now, in which it was not woken once.
  bool waits() const;
  // It has used the processor for a while now, in which it did not wait once.
  bool spins() const;
  // The last sample, and how long it was so.
  nlohmann::json describe() const;

 private:
  struct Sample {
    std::int64_t time_ns = 0;
    char state = '?';
    std::uint64_t waits = 0;   // How often it has given up the processor by itself,
    std::uint64_t yields = 0;  // and by force.
    std::int64_t cpu_ns = 0;
  };
  std::optional<Sample> take() const;

  UniqueFd process_;
  pid_t pid_ = 0;
  pid_t thread_ = 0;             // As we see it; 0: it has ended.
  std::optional<Sample> since_;  // The first since which it has not waited anew.
  std::optional<Sample> last_;
};

}  // namespace crashworthy

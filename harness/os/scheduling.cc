#include "harness/os/scheduling.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace crashworthy {
namespace {

constexpr std::uint32_t kNormalPolicy = 0;  // SCHED_OTHER.
constexpr std::uint64_t kResetOnFork = 1;   // SCHED_FLAG_RESET_ON_FORK.

// As sched_setattr(2) has it. <linux/sched/types.h> cannot be read beside <sched.h>, which the
// standard library brings.
struct SchedulingAttributes {
  std::uint32_t size;
  std::uint32_t policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime_ns;  // Of a normal thread: its time slice.
  std::uint64_t deadline_ns;
  std::uint64_t period_ns;
};

bool read_attributes(SchedulingAttributes& attributes) {
  attributes = {};
  return ::syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == 0;
}

}  // namespace

bool request_time_slice(std::chrono::nanoseconds slice) {
  SchedulingAttributes attributes;
  if (!read_attributes(attributes) || attributes.policy != kNormalPolicy) return false;
  attributes.flags &= kResetOnFork;  // As it is; the others ask for changes.
  attributes.runtime_ns = static_cast<std::uint64_t>(slice.count());
  if (::syscall(SYS_sched_setattr, 0, &attributes, 0) != 0) return false;
  // An older kernel takes the call and ignores the slice.
  return read_attributes(attributes) &&
         (slice.count() == 0 || attributes.runtime_ns == static_cast<std::uint64_t>(slice.count()));
}

}  // namespace crashworthy

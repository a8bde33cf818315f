#include "harness/experiment/stall_watch.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <string>

#include "harness/os/file.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kIdleShare = 100;              // Idle: less than 1/100 of a processor,
constexpr std::int64_t kClockTickNs = 10'000'000;     // and the grain in which that is told.
constexpr std::int64_t kLeastIdleNs = 1'000'000'000;  // Before a time-out is called a hang.

}  // namespace

const char* stall_kind_name(StallKind kind) {
  switch (kind) {
    case StallKind::kHang:
      return "hang";
    case StallKind::kSlow:
      return "slow";
    case StallKind::kStopped:
      return "stopped";
  }
  return "slow";
}

TreeActivity activity_of(const std::vector<pid_t>& pids) {
  constexpr int kFirst = 11;  // utime, stime, cutime, cstime, counted from the state.
  static const std::int64_t tick_ns = 1'000'000'000 / std::max(1L, ::sysconf(_SC_CLK_TCK));
  TreeActivity activity;
  for (const pid_t pid : pids) {
    const auto text = read_file("/proc/" + std::to_string(pid) + "/stat");
    const std::size_t name_end = text ? text->rfind(')') : std::string::npos;
    if (name_end == std::string::npos) continue;
    std::istringstream fields(text->substr(name_end + 1));
    std::string field;
    for (int i = 0; i < kFirst + 4 && fields >> field; ++i) {
      if (i == 0) activity.stopped = activity.stopped || field == "T";
      if (i >= kFirst) activity.cpu_ns += std::strtoll(field.c_str(), nullptr, 10) * tick_ns;
    }
  }
  return activity;
}

void StallWatch::progress(std::int64_t time_ns) {
  if (time_ns <= silent_from_ns_) return;
  silent_from_ns_ = time_ns;
  cpu_at_silence_ns_ = last_.cpu_ns;
}

void StallWatch::look(std::int64_t now_ns, const TreeActivity& activity) {
  // Less than before: somebody has ended, and that is no idleness.
  const std::int64_t used = activity.cpu_ns - cpu_at_idle_ns_;
  const bool idle = used >= 0 && used <= kClockTickNs + (now_ns - idle_from_ns_) / kIdleShare;
  if (!idle) {
    idle_from_ns_ = now_ns;
    cpu_at_idle_ns_ = activity.cpu_ns;
  }
  last_ = activity;
}

std::int64_t StallWatch::quiet_from_ns() const { return std::max(silent_from_ns_, idle_from_ns_); }

Stall StallWatch::idle_stall() const {
  return {last_.stopped ? StallKind::kStopped : StallKind::kHang, quiet_from_ns(),
          std::max<std::int64_t>(0, last_.cpu_ns - cpu_at_idle_ns_)};
}

std::optional<Stall> StallWatch::certain(std::int64_t now_ns) const {
  if (now_ns - quiet_from_ns() < patience_ns_) return std::nullopt;
  return idle_stall();
}

Stall StallWatch::at_timeout(std::int64_t now_ns) const {
  if (now_ns - quiet_from_ns() >= std::max(2 * longest_gap_ns_, kLeastIdleNs)) return idle_stall();
  return {StallKind::kSlow, silent_from_ns_,
          std::max<std::int64_t>(0, last_.cpu_ns - cpu_at_silence_ns_)};
}

}  // namespace crashworthy

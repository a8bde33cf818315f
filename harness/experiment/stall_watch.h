// Whether a subject that publishes nothing hangs, is stopped, or is only slow.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace crashworthy {

enum class StallKind { kHang, kSlow, kStopped };
const char* stall_kind_name(StallKind kind);

struct Stall {
  StallKind kind = StallKind::kSlow;
  std::int64_t since_ns = 0;  // Neither output nor processor time since; slow: no output since.
  std::int64_t cpu_ns = 0;    // What the tree has used since then.
};

// What a tree does at one moment.
struct TreeActivity {
  std::int64_t cpu_ns = 0;  // Used so far, by those that live and by children that they reaped.
  bool stopped = false;     // One of them is stopped by a signal.
};
TreeActivity activity_of(const std::vector<pid_t>& pids);

// A tree is idle while it uses less than a hundredth of one processor: who waits for work that does
// not come often looks for it now and then. One thread uses it.
class StallWatch {
 public:
  // `longest_gap_ns`: how long it published nothing when all went well. `patience_ns`: how long it
  // must be silent and idle until that is certainly a hang.
  StallWatch(std::int64_t now_ns, std::int64_t longest_gap_ns, std::int64_t patience_ns)
      : longest_gap_ns_(longest_gap_ns),
        patience_ns_(patience_ns),
        silent_from_ns_(now_ns),
        idle_from_ns_(now_ns) {}

  // An output event, or the probe's word of one.
  void progress(std::int64_t time_ns);
  void look(std::int64_t now_ns, const TreeActivity& activity);

  // Silent and idle for so long that nothing more is to be expected.
  std::optional<Stall> certain(std::int64_t now_ns) const;
  // What to call it when its time is up.
  Stall at_timeout(std::int64_t now_ns) const;
  // Neither output nor processor time since.
  std::int64_t quiet_from_ns() const;

 private:
  Stall idle_stall() const;
  std::int64_t longest_gap_ns_;
  std::int64_t patience_ns_;
  std::int64_t silent_from_ns_;
  std::int64_t idle_from_ns_;
  std::int64_t cpu_at_idle_ns_ = 0;
  std::int64_t cpu_at_silence_ns_ = 0;
  TreeActivity last_;
};

}  // namespace crashworthy

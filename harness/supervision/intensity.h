// RestartIntensity: how many restarts a supervisor allows, counted exactly in (t - period, t].
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace crashworthy {

// Times are handed in and never go back. One thread uses a RestartIntensity.
class RestartIntensity {
 public:
  RestartIntensity(int intensity, std::int64_t period_ns)
      : intensity_(static_cast<std::size_t>(intensity)), period_ns_(period_ns) {}

  // Counts a restart at `now_ns`. False when it is one too many.
  bool spend(std::int64_t now_ns) {
    expire(now_ns);
    restarts_.push_back(now_ns);
    return restarts_.size() <= intensity_;
  }
  // How many more there may be now.
  int left(std::int64_t now_ns) {
    expire(now_ns);
    return restarts_.size() >= intensity_ ? 0 : static_cast<int>(intensity_ - restarts_.size());
  }

 private:
  void expire(std::int64_t now_ns) {
    while (!restarts_.empty() && restarts_.front() <= now_ns - period_ns_) restarts_.pop_front();
  }

  std::size_t intensity_;
  std::int64_t period_ns_;
  std::deque<std::int64_t> restarts_;  // At most `intensity_` + 1: the supervisor ends then.
};

}  // namespace crashworthy

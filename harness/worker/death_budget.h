// DeathBudget: restart intensity, exactly. More than `intensity` deaths in any (t - period, t] are
// too many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace crashworthy {

// Times are handed in, so that it is tested without waiting. One thread uses a DeathBudget.
class DeathBudget {
 public:
  DeathBudget(int intensity, std::int64_t period_ns)
      : intensity_(static_cast<std::size_t>(intensity)), period_ns_(period_ns) {}

  // Counts a death at `now_ns`, which never goes back. False when there were too many.
  bool spend(std::int64_t now_ns) {
    while (!deaths_.empty() && deaths_.front() <= now_ns - period_ns_) deaths_.pop_front();
    deaths_.push_back(now_ns);
    return deaths_.size() <= intensity_;
  }
  std::size_t spent() const { return deaths_.size(); }

 private:
  std::size_t intensity_;
  std::int64_t period_ns_;
  std::deque<std::int64_t> deaths_;  // At most `intensity_` + 1: the pool ends then.
};

}  // namespace crashworthy

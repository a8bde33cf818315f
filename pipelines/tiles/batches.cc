#include "pipelines/tiles/batches.h"

#include <algorithm>

#include "harness/os/check.h"

namespace crashworthy::tiles {

Batches::Batches(const Settings& settings) : timeout_ns_(settings.batch_timeout.count()) {
  for (const Batcher& batcher : settings.batchers) states_.push_back({batcher, {}, 0});
  CRASHWORTHY_CHECK(!states_.empty());
}

void Batches::add(std::uint64_t item, std::int64_t now_ns) {
  states_[next_].waiting.push_back({item, now_ns, false});
  next_ = (next_ + 1) % states_.size();
}

void Batches::add_alone(std::uint64_t item) {
  states_[next_].waiting.push_front({item, 0, true});
  next_ = (next_ + 1) % states_.size();
}

std::optional<std::vector<std::uint64_t>> Batches::take(std::int64_t now_ns, bool partial) {
  for (State& state : states_) {
    if (auto batch = take_from(state, now_ns, partial)) {
      ++state.running;
      running_[batch->front()] = static_cast<std::size_t>(&state - states_.data());
      return batch;
    }
  }
  return std::nullopt;
}

std::optional<std::vector<std::uint64_t>> Batches::take_from(State& state, std::int64_t now_ns,
                                                             bool partial) {
  std::deque<Waiting>& waiting = state.waiting;
  if (waiting.empty() || state.running >= state.batcher.concurrency) return std::nullopt;
  const bool full = waiting.size() >= static_cast<std::size_t>(state.batcher.size);
  const bool due = now_ns - waiting.front().since_ns >= timeout_ns_;
  if (!full && !due && !partial) return std::nullopt;
  std::vector<std::uint64_t> batch;
  while (!waiting.empty() && batch.size() < static_cast<std::size_t>(state.batcher.size)) {
    const Waiting next = waiting.front();
    if (next.alone && !batch.empty()) break;
    waiting.pop_front();
    batch.push_back(next.item);
    if (next.alone) break;
  }
  return batch;
}

void Batches::done(std::uint64_t first) {
  const auto found = running_.find(first);
  CRASHWORTHY_CHECK(found != running_.end(), first);
  --states_[found->second].running;
  running_.erase(found);
}

std::optional<std::int64_t> Batches::due_ns() const {
  std::optional<std::int64_t> due;
  for (const State& state : states_) {
    if (state.waiting.empty() || state.running >= state.batcher.concurrency) continue;
    const std::int64_t then = state.waiting.front().since_ns + timeout_ns_;
    due = std::min(due.value_or(then), then);
  }
  return due;
}

}  // namespace crashworthy::tiles

// What a supervisor decides when a child has ended.
#include <fmt/format.h>

#include <algorithm>

#include "harness/supervision/node.h"

namespace crashworthy {

void Node::decide(Child& child) {
  const RestartType type = child.spec.restart;
  if (type == RestartType::kPermanent || (type == RestartType::kTransient && !child.end_normal)) {
    return restart(child);
  }
  // Not restarted: no strategy, no count.
  if (type == RestartType::kTemporary || dynamic_) remove(child);
  if (child.spec.significant) check_auto_shutdown(child);
}

void Node::check_auto_shutdown(const Child& ended) {
  if (spec_->auto_shutdown == AutoShutdown::kNever) return;
  const bool others = std::any_of(children_.begin(), children_.end(), [&ended](const auto& entry) {
    const Child* child = entry.second.get();
    return child != &ended && child->spec.significant &&
           (child->presence != Presence::kStopped || child->end_pending);
  });
  if (spec_->auto_shutdown == AutoShutdown::kAllSignificant && others) return;
  Event event = own_event(EventKind::kAutoShutdown);
  event.text = fmt::format("'{}' has ended", ended.path);
  const std::uint64_t number = emit(event, cause_);
  begin_end(TreeEnd::kAutoShutdown, event.text, number);
}

void Node::give_up(const std::string& why, std::uint64_t cause) {
  Event event = own_event(EventKind::kIntensitySpent);
  event.text = fmt::format("more than {} restart{} within {}, the last after {}", spec_->intensity,
                           spec_->intensity == 1 ? "" : "s",
                           stop_name({StopPolicy::Kind::kTime, spec_->period}), why);
  const std::uint64_t number = emit(event, cause);
  begin_end(TreeEnd::kIntensitySpent, event.text, number);
}

// Counts, and restarts `child` with its group, or gives up.
void Node::restart(Child& child) {
  if (!intensity_.spend(tree_.now)) {
    set_presence(child, Presence::kStopped);
    return give_up(fmt::format("'{}' {}", child.path, child.end_reason), cause_);
  }
  set_presence(child, Presence::kRestarting);
  Event event = event_of(child, EventKind::kRestart);
  event.budget_left = intensity_.left(tree_.now);
  cause_ = emit(std::move(event), cause_);
  ++child.failures;
  const auto group = group_of(child);
  for (auto member = group.rbegin(); member != group.rend(); ++member) {
    if (*member != &child) plan_stop(**member);
  }
  plan_do([this, &child] { start_group(child); });
}

// The children that are restarted with `child`, in start order.
std::vector<Child*> Node::group_of(Child& child) const {
  if (spec_->strategy == Strategy::kOneForOne || dynamic_) return {&child};
  std::vector<Child*> group;
  for (const auto& [number, member] : children_) {
    const bool earlier = number < child.number;
    if (spec_->strategy == Strategy::kOneForAll || !earlier) group.push_back(member.get());
  }
  return group;
}

void Node::start_group(Child& child) {
  const std::int64_t delay = backoff_of(child);
  if (delay == 0) return plan_group_starts(child);
  begin_incarnation(child);
  set_deadline(child, &Child::retry_at, tree_.now + delay);
  set_state(child, LifeState::kDisabled, cause_);
}

void Node::plan_group_starts(Child& child) {
  const auto group = group_of(child);
  // It is its turn that it waits for now, as all others do.
  if (group.size() > 1 && child.state != LifeState::kDisabled) {
    set_presence(child, Presence::kStopped);
  }
  for (Child* member : group) plan_start(*member, StartMode::kRestart);
}

// Doubles with each restart, and takes off a random part so that no two wait in step.
std::int64_t Node::backoff_of(Child& child) {
  const Backoff& backoff = child.spec.backoff;
  if (backoff.first.count() == 0) return 0;
  double delay = static_cast<double>(backoff.first.count());
  const double max = static_cast<double>(backoff.max.count());
  for (int i = 1; i < child.failures && delay < max; ++i) delay *= 2;
  delay = std::min(delay, max) * (1 - backoff.jitter * tree_.random.unit());
  return std::max<std::int64_t>(static_cast<std::int64_t>(delay), 1);
}

bool Node::count_restart(const std::string& why) {
  if (ending_) return false;
  if (!intensity_.spend(tree_.now)) {
    give_up(why, 0);
    return false;
  }
  Event event = own_event(EventKind::kRestart);
  event.budget_left = intensity_.left(tree_.now);
  event.text = why;
  emit(std::move(event), 0);
  return true;
}

}  // namespace crashworthy

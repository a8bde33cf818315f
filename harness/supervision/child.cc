// What one child does: its starts, stops, ends and deadlines.
#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "harness/os/check.h"
#include "harness/supervision/node.h"

namespace crashworthy {
namespace {

constexpr int kShellTerminated = 128 + SIGTERM;  // How shells pass on a death by SIGTERM.

// A process that was asked to end did so.
bool obeyed(WaitStatus status) {
  if (status.signalled()) return status.signal() == SIGTERM;
  return status.exit_code() == 0 || status.exit_code() == kShellTerminated;
}

}  // namespace

void Child::run_end_hook() const {
  if (state == LifeState::kCompleted && spec.hooks.shutdown) spec.hooks.shutdown(context());
  if (state == LifeState::kTerminated && spec.hooks.teardown) spec.hooks.teardown(context());
}

ChildInfo Child::info() const {
  ChildInfo info;
  info.id = spec.id;
  info.path = path;
  info.type = spec.child_type();
  info.restart = spec.restart;
  info.significant = spec.significant;
  info.presence = presence;
  info.state = state;
  info.incarnation = incarnation;
  info.pid = pid;
  info.started_ns = started_ns;
  info.last_end = last_end;
  info.end_reason = end_reason;
  info.crash_loop = crash_loop;
  if (presence == Presence::kStarting) info.due_ns = ready_by;
  if (presence == Presence::kStopping) info.due_ns = stop_by;
  if (presence == Presence::kRestarting) info.due_ns = retry_at;
  return info;
}

std::uint64_t TreeContext::emit(Event event) {
  event.number = ++events;
  event.time_ns = now;
  cause_of[event.number % kRememberedEvents] = event.cause;
  for (std::uint64_t cause = event.cause;
       cause != 0 && cause + kRememberedEvents > event.number && event.causes.size() < kMaxCauses;
       cause = cause_of[cause % kRememberedEvents]) {
    event.causes.push_back(cause);
  }
  if (sink) sink(event);
  return event.number;
}

std::uint64_t Node::emit(Event event, std::uint64_t cause) {
  event.cause = cause;
  return tree_.emit(std::move(event));
}

Event Node::event_of(const Child& child, EventKind kind) const {
  Event event;
  event.kind = kind;
  event.path = child.path;
  event.incarnation = child.incarnation;
  event.pid = child.pid;
  return event;
}

Event Node::own_event(EventKind kind) const {
  Event event;
  event.kind = kind;
  event.path = path_;
  event.incarnation = owner_ != nullptr ? owner_->incarnation : 1;
  return event;
}

// By one allowed transition; what is above follows.
void Node::set_state(Child& child, LifeState state, std::uint64_t cause) {
  CRASHWORTHY_CHECK(transition_between(child.state, state), life_state_name(child.state),
                    life_state_name(state), child.path);
  child.state = state;
  count(child, state);
  Event event = event_of(child, EventKind::kState);
  event.state = state;
  child.last_event = emit(std::move(event), cause);
  child.run_end_hook();
  follow_parts();
}

// A new part, at `initial`.
void Node::begin_incarnation(Child& child) {
  ++child.incarnation;
  child.state = LifeState::kInitial;
  if (child.incarnation == 1) --unstarted_;
  count(child, LifeState::kInitial);
  child.pid = 0;
  child.start = Child::Outcome::kNone;
  child.failure.clear();
  child.kill_reason.clear();
  child.asked = child.killed = child.hung = child.held = child.early_ready = false;
  child.hold_wanted = false;
  child.end_cause = 0;
  child.ready_by = child.heartbeat_by = child.run_by = child.stop_by = child.retry_at = 0;
  Event event = event_of(child, EventKind::kState);
  event.state = LifeState::kInitial;
  child.last_event = emit(std::move(event), cause_);
  follow_parts();
}

// Starts a child that has no process: a new incarnation, or one that waited as disabled.
void Node::begin_start(Child& child) {
  const bool waited =
      child.presence == Presence::kRestarting && child.state == LifeState::kDisabled;
  drop_messages(child);  // An end that nobody came to yet: this start is the answer to it.
  child.end_pending = false;
  if (!waited) begin_incarnation(child);
  set_presence(child, Presence::kStarting);
  child.retry_at = 0;
  child.started_ns = tree_.now;
  if (child.spec.hooks.prepare) {
    if (const auto prepared = child.spec.hooks.prepare(child.context()); !prepared) {
      fail_start(child, prepared.error().message, cause_);
      return;
    }
  }
  if (child.spec.supervisor) {
    // Its states are told by the node itself, from those of its parts.
    child.node = std::make_unique<Node>(tree_, child.spec.supervisor, &child, child.path, cause_);
    child.node->start();
    return;
  }
  set_state(child, LifeState::kReady, cause_);
  child.process = true;
  tree_.backend.start(child.key(), child.path, child.spec);
}

void Node::on_started(Child& child, pid_t pid) {
  if (child.state != LifeState::kReady) return;
  child.pid = pid;
  child.started_ns = tree_.now;
  set_state(child, LifeState::kRunning, cause_);
  if (child.presence != Presence::kStarting) return;  // Already asked to end.
  arm(child);
  if (!child.spec.ready) started(child);
  if (child.early_ready) on_ready(child);
  if (suspended_ && !ending_) hold(child, true, cause_);
}

// Sets the deadlines of a process that has just been started.
void Node::arm(Child& child) {
  const std::int64_t now = tree_.now;
  if (child.spec.ready) {
    set_deadline(child, &Child::ready_by, now + child.spec.ready->timeout.count());
  }
  if (child.spec.deadline) {
    set_deadline(child, &Child::run_by, now + child.spec.deadline->count());
  }
  // A child that must first say that it is ready may take its time until then.
  if (child.spec.heartbeat && !child.spec.ready) {
    expect_heartbeat(child);
  }
}

void Node::on_ready(Child& child) {
  if (child.state == LifeState::kReady) child.early_ready = true;
  if (child.presence != Presence::kStarting || child.ready_by == 0) return;
  child.ready_by = 0;
  if (child.spec.heartbeat) {
    expect_heartbeat(child);
  }
  child.last_event = emit(event_of(child, EventKind::kReady), child.last_event);
  started(child);
}

void Node::started(Child& child) {
  set_presence(child, Presence::kRunning);
  child.start = Child::Outcome::kStarted;
}

// The start of `child` is over, and nothing of it runs.
void Node::fail_start(Child& child, std::string why, std::uint64_t cause) {
  Event event = event_of(child, EventKind::kStartFailed);
  event.text = why;
  const std::uint64_t number = emit(std::move(event), cause);
  child.failure = std::move(why);
  child.end_reason = "could not be started: " + child.failure;
  // What never became ready ends by way of `disabled`.
  if (child.state == LifeState::kInitial) set_state(child, LifeState::kDisabled, number);
  close(child, false, number);
  child.start = Child::Outcome::kFailed;
}

void Node::on_start_failed(Child& child, const std::string& why) {
  if (child.state != LifeState::kReady) return;
  child.process = false;
  if (child.presence == Presence::kStopping) return close(child, false, cause_);
  note_end(child, why, child.last_event);
  fail_start(child, why, cause_);
}

// The process of `child` runs, but not as it should: its end will be the end of the start.
void Node::abandon_start(Child& child, std::string why) {
  Event event = event_of(child, EventKind::kStartFailed);
  event.text = why;
  child.end_cause = emit(std::move(event), child.last_event);
  child.failure = std::move(why);
  child.ready_by = child.run_by = child.heartbeat_by = 0;
  kill_child(child);
}

void Node::on_ready_closed(Child& child) {
  if (child.presence != Presence::kStarting || child.ready_by == 0) return;
  abandon_start(child, "it closed its readiness descriptor without saying that it is ready");
}

void Node::on_heartbeat(Child& child) {
  if (!child.spec.heartbeat || child.hung) return;
  const bool says_ready = child.spec.ready && !child.spec.ready->descriptor;
  if (says_ready && child.presence == Presence::kStarting) return on_ready(child);
  if (child.heartbeat_by == 0) return;
  expect_heartbeat(child);
}

// Asks a child that lives to end, as its policy says.
void Node::begin_stop(Child& child) {
  const bool starting = child.presence == Presence::kStarting;
  const bool failed_start = starting && !child.failure.empty();
  set_presence(child, Presence::kStopping);
  child.asked = !failed_start;
  if (!failed_start) child.end_cause = cause_;
  child.ready_by = child.heartbeat_by = child.run_by = 0;
  const StopPolicy policy = child.spec.stop_policy();
  if (policy.kind == StopPolicy::Kind::kKill) return kill_child(child);
  if (policy.kind == StopPolicy::Kind::kTime) {
    set_deadline(child, &Child::stop_by, tree_.now + policy.time.count());
  }
  if (child.node) return child.node->begin_end(TreeEnd::kAsked, {}, cause_);
  if (child.state == LifeState::kIntermitted) set_state(child, LifeState::kRunning, cause_);
  child.held = child.hold_wanted = false;
  tree_.backend.stop(child.key());
}

void Node::kill_child(Child& child) {
  child.killed = true;
  child.stop_by = 0;
  if (child.node) return child.node->kill_all(child.end_cause);
  tree_.backend.kill(child.key());
}

void Node::on_ended(Child& child, WaitStatus status) {
  child.process = false;
  child.last_end = status;
  child.heartbeat_by = child.run_by = child.ready_by = child.stop_by = 0;
  const bool intermitted = child.state == LifeState::kIntermitted;
  Event event = event_of(child, EventKind::kEnded);
  event.status = status;
  event.text = status.describe();
  child.end_reason = child.kill_reason.empty() ? status.describe() : child.kill_reason;
  const std::uint64_t number = emit(std::move(event), child.end_cause);
  switch (child.presence) {
    case Presence::kStarting: {
      note_end(child, status.describe(), number);
      if (child.failure.empty()) {
        return fail_start(child, status.describe() + " before it was ready", number);
      }
      child.end_reason = "could not be started: " + child.failure;
      close(child, false, number);
      child.start = Child::Outcome::kFailed;
      return;
    }
    case Presence::kStopping:
      return close(child, child.asked && !child.killed && !intermitted && obeyed(status), number);
    default:
      break;
  }
  note_end(child, child.hung ? "hangs" : status.describe(), number);
  child.end_normal = status.success() && !intermitted && !child.hung;
  close(child, child.end_normal, number);
  child.end_pending = true;
  post({Message::Kind::kEnded, &child, {}});
}

// The incarnation is over. `cause` is what ended it.
void Node::close(Child& child, bool completed, std::uint64_t cause) {
  set_presence(child, Presence::kStopped);
  child.held = child.hold_wanted = false;
  if (child.state == LifeState::kReady && completed) completed = false;
  set_state(child, completed ? LifeState::kCompleted : LifeState::kTerminated, cause);
  child.pid = 0;
}

// Keeps account of ends for back-off and crash loops. `signature` says how it ended.
void Node::note_end(Child& child, const std::string& signature, std::uint64_t cause) {
  const std::int64_t ran = tree_.now - child.started_ns;
  if (ran > child.spec.backoff.max.count()) child.failures = 0;
  const CrashLoop& loop = child.spec.crash_loop;
  const bool soon = ran <= loop.within.count();
  child.same_ends = !soon ? 0 : (signature == child.last_signature ? child.same_ends + 1 : 1);
  child.last_signature = signature;
  if (child.same_ends < std::max(loop.count, 1)) child.crash_loop = false;
  if (loop.count == 0 || child.same_ends < loop.count || child.crash_loop) return;
  child.crash_loop = true;
  Event event = event_of(child, EventKind::kCrashLoop);
  event.text = fmt::format("{} times in a row within {} of its start: {}", child.same_ends,
                           format_duration(static_cast<double>(loop.within.count())), signature);
  emit(std::move(event), cause);
}

// Stops or continues its process.
void Node::hold(Child& child, bool hold, std::uint64_t cause) {
  if (!child.process || child.pid == 0 || child.hold_wanted == hold) return;
  if (child.presence != Presence::kRunning && child.presence != Presence::kStarting) return;
  child.hold_wanted = hold;
  child.hold_cause = cause;
  if (!hold) return tree_.backend.resume(child.key());
  if (!child.held) child.held_since = tree_.now;
  child.held = true;
  tree_.backend.suspend(child.key());
}

void Node::on_suspended(Child& child) {
  if (!child.held || child.state != LifeState::kRunning) return;
  set_state(child, LifeState::kIntermitted, child.hold_cause);
}

void Node::on_suspend_failed(Child& child) {
  if (!child.held) return;
  child.hold_wanted = false;
  on_resumed(child);
}

void Node::on_resumed(Child& child) {
  if (!child.held || child.hold_wanted) return;
  child.held = false;
  // What it was kept from doing is not held against it.
  const std::int64_t held = tree_.now - child.held_since;
  for (const auto deadline : {&Child::run_by, &Child::ready_by}) {
    if (child.*deadline != 0) set_deadline(child, deadline, child.*deadline + held);
  }
  if (child.heartbeat_by != 0) expect_heartbeat(child);
  if (child.state == LifeState::kIntermitted) {
    set_state(child, LifeState::kRunning, child.hold_cause);
  }
}

// ---- Deadlines ----

void Node::set_deadline(Child& child, std::int64_t Child::*deadline, std::int64_t at) {
  child.*deadline = at;
  if (at == 0 || (child.queued_at != 0 && child.queued_at <= at)) return;
  child.queued_at = at;
  tree_.deadlines.emplace(at, child.number);
}

void Node::expect_heartbeat(Child& child) {
  const Heartbeat& heartbeat = *child.spec.heartbeat;
  set_deadline(child, &Child::heartbeat_by,
               tree_.now + heartbeat.interval.count() * heartbeat.misses);
}

std::int64_t Child::next_deadline() const {
  std::int64_t next = 0;
  const auto consider = [&next](std::int64_t at) {
    if (at != 0 && (next == 0 || at < next)) next = at;
  };
  consider(stop_by);
  consider(retry_at);
  if (held || killed) return next;
  for (const std::int64_t at : {ready_by, heartbeat_by, run_by}) consider(at);
  return next;
}

std::optional<std::pair<std::int64_t, Child*>> TreeContext::next_deadline() {
  while (!deadlines.empty()) {
    const auto [at, number] = deadlines.top();
    const auto found = by_number.find(number);
    Child* child =
        found != by_number.end() && found->second->queued_at == at ? found->second : nullptr;
    const std::int64_t next = child != nullptr ? child->next_deadline() : 0;
    if (next == at) return std::pair(at, child);
    deadlines.pop();
    if (child == nullptr) continue;  // Replaced by an earlier one, or gone.
    child->queued_at = next;
    if (next != 0) deadlines.emplace(next, number);
  }
  return std::nullopt;
}

void Node::check_deadlines(Child& child) {
  const auto due = [this](std::int64_t at) { return at != 0 && at <= tree_.now; };
  if (due(child.stop_by)) {
    child.stop_by = 0;
    child.end_cause = emit(event_of(child, EventKind::kStopTimeout), child.end_cause);
    child.kill_reason = "did not end in " + stop_name(child.spec.stop_policy());
    return kill_child(child);
  }
  if (due(child.retry_at)) {
    child.retry_at = 0;
    const bool waited = child.state == LifeState::kDisabled;
    post({waited ? Message::Kind::kBackoffOver : Message::Kind::kRetry, &child, {}});
    return;
  }
  if (child.held || child.killed) return;
  if (due(child.ready_by)) {
    return abandon_start(
        child, "it did not say that it is ready within " +
                   format_duration(static_cast<double>(child.spec.ready->timeout.count())));
  }
  const bool silent = due(child.heartbeat_by);
  if (!silent && !due(child.run_by)) return;
  child.hung = true;
  Event event = event_of(child, EventKind::kHang);
  event.text = silent ? fmt::format("it missed {} heartbeats", child.spec.heartbeat->misses)
                      : "it runs longer than its deadline";
  child.kill_reason = "hung: " + event.text;
  child.end_cause = emit(std::move(event), child.last_event);
  if (child.presence == Presence::kStarting) {
    child.last_event = child.end_cause;
    return abandon_start(child, "it runs longer than its deadline");
  }
  child.heartbeat_by = child.run_by = child.ready_by = 0;
  kill_child(child);
}

}  // namespace crashworthy

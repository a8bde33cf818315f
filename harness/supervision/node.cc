// Plan and mailbox: what a supervisor does, one thing after the other.
#include "harness/supervision/node.h"

#include <algorithm>

namespace crashworthy {

Node::Node(TreeContext& tree, std::shared_ptr<const SupervisorSpec> spec, Child* owner,
           std::string path, std::uint64_t cause)
    : tree_(tree),
      spec_(std::move(spec)),
      owner_(owner),
      path_(std::move(path)),
      dynamic_(spec_->strategy == Strategy::kDynamic),
      intensity_(spec_->intensity, spec_->period.count()),
      state_(owner != nullptr ? owner->state : LifeState::kInitial),
      cause_(cause) {
  if (dynamic_) return;
  for (const ChildSpec& child : spec_->children) add_child(child);
}

Node::~Node() {
  for (const auto& [number, child] : children_) {
    tree_.by_number.erase(number);
    tree_.backend.forget(number);
  }
}

Child& Node::add_child(ChildSpec spec) {
  auto child = std::make_unique<Child>();
  child->path = path_.empty() ? spec.id : path_ + "/" + spec.id;
  child->spec = std::move(spec);
  child->number = ++tree_.children;
  child->parent = this;
  Child& added = *child;
  tree_.by_number[added.number] = &added;
  by_id_[added.spec.id] = &added;
  children_[added.number] = std::move(child);
  ++unstarted_;
  return added;
}

// Forgets a child that does not live.
void Node::remove(Child& child) {
  drop_messages(child);
  if (stopping_) {  // An end that began during its stop has it in its plan as well.
    std::erase_if(plan_, [&child](const Step& step) { return step.child == &child; });
  }
  if (child.incarnation == 0) --unstarted_;
  count(child, std::nullopt);
  tree_.by_number.erase(child.number);
  tree_.backend.forget(child.number);
  by_id_.erase(child.spec.id);
  const auto place = children_.find(child.number);
  tree_.removed_children.push_back(std::move(place->second));
  children_.erase(place);
}

void Node::post(Message message) {
  if (message.child != nullptr) ++message.child->messages;
  mailbox_.push_back(std::move(message));
  wake();
}

void Node::drop_messages(Child& child) {
  if (std::exchange(child.messages, 0) == 0) return;
  std::erase_if(mailbox_, [&child](const Message& message) { return message.child == &child; });
}

void Node::set_presence(Child& child, Presence presence) {
  if (child.presence != Presence::kStopped) --present_;
  child.presence = presence;
  if (child.presence != Presence::kStopped) ++present_;
  wake();
}

// Counts the child among the parts that were started, as being in that state.
void Node::count(Child& child, std::optional<LifeState> as) {
  if (child.counted) --parts_[static_cast<std::size_t>(*child.counted)];
  child.counted = as;
  if (as) ++parts_[static_cast<std::size_t>(*as)];
}

Child* Node::find(const std::string& id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

void Node::set_loop(LifeState loop) {
  loop_ = loop;
  follow_parts();
}

// The one rule: see state_of_whole() and way().
void Node::follow_parts() {
  LifeCounts parts = parts_;
  ++parts[static_cast<std::size_t>(loop_)];
  if (!booted_ && !finished_) parts[static_cast<std::size_t>(LifeState::kInitial)] += unstarted_;
  const auto transitions = way(state_, state_of_whole(parts));
  for (const Transition transition : transitions) {
    state_ = *apply(state_, transition);
    Event event = own_event(EventKind::kState);
    event.state = state_;
    const std::uint64_t number = emit(std::move(event), tree_.events);
    if (owner_ == nullptr) continue;
    owner_->state = state_;
    owner_->parent->count(*owner_, state_);
    owner_->last_event = number;
    owner_->run_end_hook();
  }
  if (owner_ != nullptr && !transitions.empty()) owner_->parent->follow_parts();
}

void Node::start() {
  if (owner_ == nullptr) {
    emit(own_event(EventKind::kState), cause_);
  }
  set_loop(LifeState::kReady);
  for (const auto& [number, child] : children_) plan_start(*child, StartMode::kBoot);
  plan_do([this] {
    booted_ = true;
    set_loop(suspended_ ? LifeState::kIntermitted : LifeState::kRunning);
    if (owner_ != nullptr) owner_->parent->started(*owner_);
  });
}

void Node::run() {
  queued_ = false;
  while (advance()) {
  }
}

// Something has happened that it may be waiting for.
void Node::wake() {
  if (std::exchange(queued_, true)) return;
  tree_.runnable.push_back(this);
}

// Does the next thing; false when there is none, or it waits.
bool Node::advance() {
  if (finished_) return false;
  const bool halted = suspended_ && !ending_;
  if (plan_.empty()) {
    if (halted || ending_ || mailbox_.empty()) return false;
    Message message = std::move(mailbox_.front());
    mailbox_.pop_front();
    take(std::move(message));
    return true;
  }
  Step& step = plan_.front();
  if (halted && !step.begun) return false;
  switch (step.kind) {
    case Step::Kind::kStart:
      return advance_start(step);
    case Step::Kind::kStop:
      return advance_stop(step);
    case Step::Kind::kStopAll:
      return advance_stop_all(step);
    case Step::Kind::kDo:
      break;
  }
  const auto action = std::move(step.action);
  plan_.pop_front();
  action();
  return true;
}

bool Node::advance_start(Step& step) {
  Child& child = *step.child;
  if (!step.begun) {
    if (child.lives()) {  // A group's member that runs already.
      plan_.pop_front();
      return true;
    }
    step.begun = true;
    begin_start(child);
    step.failed_at_once = child.start == Child::Outcome::kFailed;
    return true;
  }
  if (child.start == Child::Outcome::kNone) return false;
  const bool good = child.start == Child::Outcome::kStarted;
  const StartMode mode = step.mode;
  const bool failed_at_once = step.failed_at_once;
  plan_.pop_front();
  if (good) {
    if (mode == StartMode::kOrder) answer_about(child);
    return true;
  }
  switch (mode) {
    case StartMode::kBoot:
      fail_boot(child);
      break;
    case StartMode::kRestart:
      // Back to the mailbox, behind what waits there: the supervisor stays answerable.
      // The rest of the group waits for that as stopped, the one that began it all too.
      for (const Step& left : plan_) cancel_restart(*left.child);
      plan_.clear();
      set_presence(child, Presence::kRestarting);
      if (failed_at_once) {  // Back to the event loop too.
        set_deadline(child, &Child::retry_at, tree_.now);
      } else {
        post({Message::Kind::kRetry, &child, {}});
      }
      break;
    case StartMode::kOrder:
      answer({Refusal::kStartFailed, child.failure, child.info()});
      break;
  }
  return true;
}

// The children that did start are stopped again, in reverse order.
void Node::fail_boot(const Child& child) {
  begin_end(TreeEnd::kStartFailed, "'" + child.path + "' could not be started: " + child.failure,
            child.last_event);
}

bool Node::advance_stop(Step& step) {
  Child& child = *step.child;
  const bool begun = std::exchange(step.begun, true);
  if (!begun) {
    drop_messages(child);  // What it did by itself no longer matters.
    child.end_pending = false;
    cancel_restart(child);
    if (child.lives() && child.presence != Presence::kStopping) begin_stop(child);
  }
  if (child.presence != Presence::kStopped) return !begun;
  plan_.pop_front();
  if (child.spec.restart == RestartType::kTemporary) remove(child);
  return true;
}

// A child that waits for its next try waits no more.
void Node::cancel_restart(Child& child) {
  if (child.presence != Presence::kRestarting) return;
  child.retry_at = 0;
  set_presence(child, Presence::kStopped);
  if (child.state == LifeState::kDisabled) set_state(child, LifeState::kTerminated, cause_);
}

// A dynamic supervisor's children, or all that are to be killed: at once, with one time for all.
bool Node::advance_stop_all(Step& step) {
  const bool begun = std::exchange(step.begun, true);
  if (!begun) {
    std::erase_if(mailbox_,
                  [](const Message& message) { return message.kind != Message::Kind::kOrder; });
    for (const auto& [number, child] : children_) {
      child->messages = 0;
      child->end_pending = false;
      cancel_restart(*child);
      if (killing_ && child->lives()) {
        set_presence(*child, Presence::kStopping);
        child->end_cause = cause_;
        kill_child(*child);
      } else if (child->lives() && child->presence != Presence::kStopping) {
        begin_stop(*child);
      }
    }
  }
  const bool over = present_ == 0;
  if (over) plan_.pop_front();
  return over || !begun;
}

void Node::take(Message message) {
  if (message.kind == Message::Kind::kOrder) return carry_out(std::move(message.order));
  Child& child = *message.child;
  --child.messages;
  cause_ = child.last_event;
  switch (message.kind) {
    case Message::Kind::kEnded:
      child.end_pending = false;
      return decide(child);
    case Message::Kind::kRetry:
      if (child.presence == Presence::kRestarting) restart(child);
      return;
    case Message::Kind::kBackoffOver:
      if (child.presence == Presence::kRestarting) plan_group_starts(child);
      return;
    case Message::Kind::kOrder:
      return;
  }
}

void Node::plan_start(Child& child, StartMode mode) {
  plan_.push_back({.kind = Step::Kind::kStart, .child = &child, .mode = mode});
  wake();
}

void Node::plan_stop(Child& child) {
  plan_.push_back({.kind = Step::Kind::kStop, .child = &child});
  wake();
}

void Node::plan_stop_all() { plan_.push_back({.kind = Step::Kind::kStopAll}); }

void Node::plan_do(std::function<void()> action) {
  plan_.push_back({.kind = Step::Kind::kDo, .action = std::move(action)});
  wake();
}

void Node::begin_end(TreeEnd end, std::string text, std::uint64_t cause) {
  if (ending_) return;
  ending_ = end;
  end_text_ = std::move(text);
  cause_ = cause;
  // A stop that somebody has ordered, and that is under way, is carried out and answered.
  if (!stopping_) plan_.clear();
  if (loop_ == LifeState::kIntermitted) set_loop(LifeState::kRunning);
  if (dynamic_) {
    plan_stop_all();
  } else {
    for (auto child = children_.rbegin(); child != children_.rend(); ++child) {
      plan_stop(*child->second);
    }
  }
  plan_do([this] { finish(); });
}

void Node::kill_all(std::uint64_t cause) {
  if (finished_ || killing_) return;
  killing_ = true;
  if (!ending_) ending_ = TreeEnd::kAsked;
  cause_ = cause;
  plan_.clear();
  plan_stop_all();
  plan_do([this] { finish(); });
}

// Nothing runs below any more.
void Node::finish() {
  const auto refused = std::exchange(mailbox_, {});
  finished_ = true;  // A reply may give orders: they are refused at once.
  if (stopping_) {
    answer({});  // It was stopped, with all others.
  } else if (reply_) {
    answer({Refusal::kEnding, "its supervisor is ending", {}});
  }
  for (const Message& message : refused) {
    if (message.order.reply) {
      message.order.reply({Refusal::kEnding, "its supervisor has ended", {}});
    }
  }
  const bool orderly = ending_ == TreeEnd::kAsked || ending_ == TreeEnd::kAutoShutdown;
  if (owner_ != nullptr && owner_->presence == Presence::kStarting) {
    owner_->failure = end_text_.empty() ? std::string(tree_end_name(*ending_)) : end_text_;
    Event event = own_event(EventKind::kStartFailed);
    event.text = owner_->failure;
    cause_ = emit(std::move(event), cause_);
  }
  set_loop(orderly && booted_ && !killing_ ? LifeState::kCompleted : LifeState::kTerminated);
  if (owner_ != nullptr) owner_->parent->on_nested_end(*owner_);
}

// What OTP's parent sees: a supervisor that ended by itself did so with `shutdown`.
void Node::on_nested_end(Child& child) {
  child.end_reason =
      child.failure.empty() ? child.node->end_text() : "could not be started: " + child.failure;
  tree_.removed_nodes.push_back(std::move(child.node));
  const Presence was = child.presence;
  set_presence(child, Presence::kStopped);
  child.stop_by = 0;
  if (was == Presence::kStarting) child.start = Child::Outcome::kFailed;
  if (was != Presence::kRunning) return;
  child.end_normal = true;
  child.end_pending = true;
  post({Message::Kind::kEnded, &child, {}});
}

void Node::set_suspended(bool suspended) {
  suspended_ = suspended;
  wake();
  if (booted_ && !ending_) set_loop(suspended ? LifeState::kIntermitted : LifeState::kRunning);
}

void Node::hold_all(bool hold, std::uint64_t cause) {
  if (!hold) set_suspended(false);
  for (const auto& [number, child] : children_) {
    if (child->node) {
      child->node->hold_all(hold, cause);
    } else {
      this->hold(*child, hold, cause);
    }
  }
  if (hold) set_suspended(true);
}

bool Node::all_held() const {
  return std::all_of(children_.begin(), children_.end(), [](const auto& entry) {
    const Child* child = entry.second.get();
    if (child->node) return child->node->all_held();
    return !child->process || child->state == LifeState::kIntermitted;
  });
}

bool Node::none_held() const {
  return std::all_of(children_.begin(), children_.end(), [](const auto& entry) {
    const Child* child = entry.second.get();
    if (child->node) return child->node->none_held();
    return !child->held;
  });
}

std::vector<ChildInfo> Node::which_children() const {
  std::vector<ChildInfo> infos;
  for (const auto& [number, child] : children_) infos.push_back(child->info());
  return infos;
}

ChildCounts Node::count_children() const {
  ChildCounts counts;
  counts.specs = dynamic_ ? 1 : static_cast<int>(children_.size());
  for (const auto& [number, child] : children_) {
    if (child->presence == Presence::kRunning) ++counts.active;
    ++(child->spec.child_type() == ChildType::kWorker ? counts.workers : counts.supervisors);
  }
  return counts;
}

SupervisorInfo Node::info() {
  SupervisorInfo info;
  info.path = path_;
  info.strategy = spec_->strategy;
  info.intensity = spec_->intensity;
  info.period = spec_->period;
  info.auto_shutdown = spec_->auto_shutdown;
  info.state = state_;
  info.budget_left = intensity_.left(tree_.now);
  for (const auto& [number, child] : children_) {
    SupervisorInfo::Entry entry{child->info(), {}};
    if (child->node) entry.below.push_back(child->node->info());
    info.children.push_back(std::move(entry));
  }
  return info;
}

}  // namespace crashworthy

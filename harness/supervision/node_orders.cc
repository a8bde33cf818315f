// Orders: OTP's start_child, restart_child, terminate_child and delete_child.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "harness/os/check.h"
#include "harness/supervision/node.h"

namespace crashworthy {
namespace {

// How many supervisors stand below each other in it.
int depth_of(const ChildSpec& spec) {
  if (!spec.supervisor) return 0;
  int deepest = 0;
  for (const ChildSpec& child : spec.supervisor->children) {
    deepest = std::max(deepest, depth_of(child));
  }
  return deepest + 1;
}

}  // namespace

void Node::submit(Order order) {
  if (finished_) {
    if (order.reply) order.reply({Refusal::kEnding, "its supervisor has ended", {}});
    return;
  }
  post({Message::Kind::kOrder, nullptr, std::move(order)});
}

void Node::answer(Answer answer) {
  stopping_ = false;
  if (const Reply reply = std::exchange(reply_, {})) reply(answer);
}

void Node::answer_about(const Child& child) { answer({std::nullopt, {}, child.info()}); }

// The order is not refused: from here on it is what causes things.
void Node::take_up(const std::string& path, const char* text) {
  Event event;
  event.kind = EventKind::kOrder;
  event.path = path;
  event.text = text;
  cause_ = emit(std::move(event), 0);
}

void Node::carry_out(Order order) {
  reply_ = std::move(order.reply);
  if (order.kind == Order::Kind::kStart) return order_start(order);
  if (auto refusal = refuse(order)) return answer(*std::move(refusal));
  Child& child = *find(order.id);
  switch (order.kind) {
    case Order::Kind::kRestart:
      return order_restart(child);
    case Order::Kind::kStop:
      return order_stop(child);
    case Order::Kind::kDelete:
      return order_delete(child);
    case Order::Kind::kStart:
      break;
  }
  CRASHWORTHY_CHECK(false, child.path);
}

std::optional<Answer> Node::refuse(const Order& order) const {
  if (dynamic_ && order.kind != Order::Kind::kStop) {
    return Answer{
        Refusal::kDynamic, "children of a dynamic supervisor are only started and stopped", {}};
  }
  const Child* child = find(order.id);
  if (child == nullptr) {
    return Answer{Refusal::kNotFound, fmt::format("there is no child '{}'", order.id), {}};
  }
  if (order.kind == Order::Kind::kStop) return std::nullopt;
  if (child->presence == Presence::kRestarting) {
    return Answer{Refusal::kRestarting, fmt::format("'{}' is being restarted", order.id),
                  child->info()};
  }
  // An end that is not handled yet has not happened to its supervisor.
  if (child->presence != Presence::kStopped || child->end_pending) {
    return Answer{Refusal::kRunning, fmt::format("'{}' is running", order.id), child->info()};
  }
  return std::nullopt;
}

std::string Node::free_instance_id() {
  std::string id;
  do {
    id = fmt::format("{}-{}", spec_->children[0].id, ++instances_);
  } while (find(id) != nullptr);
  return id;
}

void Node::order_start(Order& order) {
  ChildSpec spec = std::move(order.spec);
  if (dynamic_) {
    ChildSpec instance = spec_->children[0];
    instance.command.insert(instance.command.end(), spec.command.begin(), spec.command.end());
    instance.id = spec.id.empty() ? free_instance_id() : spec.id;
    spec = std::move(instance);
  }
  const auto above = static_cast<int>(std::count(path_.begin(), path_.end(), '/'));
  if (depth_of(spec) + above + (path_.empty() ? 0 : 1) > kMaxSupervisorDepth) {
    return answer({Refusal::kInvalid, "supervisors would nest too deep", {}});
  }
  if (const auto good = check_child(spec, spec_->auto_shutdown); !good) {
    return answer({Refusal::kInvalid, good.error().message, {}});
  }
  if (const Child* present = find(spec.id)) {
    const bool lives = present->lives() || present->end_pending;
    return answer({lives ? Refusal::kRunning : Refusal::kAlreadyPresent,
                   fmt::format("there is already a child '{}'", spec.id), present->info()});
  }
  if (children_.size() >= kMaxChildren) {
    return answer({Refusal::kInvalid, fmt::format("it has {} children", kMaxChildren), {}});
  }
  Child& child = add_child(std::move(spec));
  take_up(child.path, "start");
  plan_start(child, StartMode::kOrder);
  // What could not be started is not kept.
  plan_do([this, &child] {
    if (child.start == Child::Outcome::kFailed) remove(child);
  });
}

void Node::order_restart(Child& child) {
  take_up(child.path, "restart");
  child.crash_loop = false;
  child.same_ends = 0;
  plan_start(child, StartMode::kOrder);
}

void Node::order_stop(Child& child) {
  take_up(child.path, "stop");
  child.crash_loop = false;
  child.same_ends = 0;
  stopping_ = true;
  plan_stop(child);
  const std::string id = child.spec.id;
  plan_do([this, id] {
    Child* stopped = find(id);
    if (stopped != nullptr && dynamic_) {
      remove(*stopped);
      stopped = nullptr;
    }
    answer({std::nullopt, {}, stopped != nullptr ? stopped->info() : ChildInfo{}});
  });
}

void Node::order_delete(Child& child) {
  take_up(child.path, "delete");
  remove(child);
  answer({});
}

}  // namespace crashworthy

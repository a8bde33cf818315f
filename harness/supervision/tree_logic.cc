#include "harness/supervision/tree_logic.h"

#include <algorithm>
#include <array>
#include <utility>

#include "harness/supervision/node.h"

namespace crashworthy {
namespace {

struct SplitPath {
  std::string supervisor;
  std::string id;
};
SplitPath split(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// One suspend or resume that was begun, and is answered when it is done.
struct Hold {
  std::string path;
  std::uint64_t child = 0;  // 0: the root.
  std::uint32_t incarnation = 0;
  bool hold = true;
  Reply reply;
  const char* failed = nullptr;  // Why it will not be done.
};

Reply or_nothing(Reply reply) {
  return reply ? std::move(reply) : Reply([](const Answer&) {});
}

// One of them is, or lies below, the other.
bool overlap(const std::string& a, const std::string& b) {
  const std::string& shorter = a.size() < b.size() ? a : b;
  const std::string& longer = a.size() < b.size() ? b : a;
  return shorter.empty() || longer == shorter || longer.starts_with(shorter + "/");
}

}  // namespace

std::string_view presence_name(Presence presence) {
  constexpr std::array<std::string_view, 5> kNames{"stopped", "starting", "running", "stopping",
                                                   "restarting"};
  return kNames[static_cast<std::size_t>(presence)];
}

std::string_view refusal_name(Refusal refusal) {
  constexpr std::array<std::string_view, 8> kNames{"not_found",       "running", "restarting",
                                                   "already_present", "dynamic", "start_failed",
                                                   "invalid",         "ending"};
  return kNames[static_cast<std::size_t>(refusal)];
}

std::string_view tree_end_name(TreeEnd end) {
  constexpr std::array<std::string_view, 4> kNames{"asked", "auto_shutdown", "intensity_spent",
                                                   "start_failed"};
  return kNames[static_cast<std::size_t>(end)];
}

class TreeLogic::Impl {
 public:
  Impl(SupervisorSpec spec, Backend& backend, EventSink sink, std::uint64_t seed)
      : context_{.backend = backend, .sink = std::move(sink), .random = Random(seed)},
        root_(context_, std::make_shared<const SupervisorSpec>(std::move(spec)), nullptr, "", 0) {}

  Node& root() { return root_; }

  // Lets `action` happen at `now`, and then everything that follows from it.
  template <typename Action>
  void at(std::int64_t now, Action action) {
    context_.now = std::max(context_.now, now);
    action();
    pump();
  }

  // The living supervisor of that path; null: there is none.
  Node* supervisor(const std::string& path) {
    Node* node = &root_;
    for (std::size_t at = 0; at < path.size() && node != nullptr;) {
      const std::size_t end = std::min(path.find('/', at), path.size());
      Child* child = node->find(path.substr(at, end - at));
      node = child != nullptr ? child->node.get() : nullptr;
      at = end + 1;
    }
    return node;
  }

  Child* child(const std::string& path) {
    const auto [supervisor_path, id] = split(path);
    Node* node = supervisor(supervisor_path);
    return node != nullptr ? node->find(id) : nullptr;
  }

  Child* current(ProcessKey key) {
    const auto found = context_.by_number.find(key.child);
    if (found == context_.by_number.end()) return nullptr;
    Child* child = found->second;
    return child->incarnation == key.incarnation && child->process ? child : nullptr;
  }

  template <typename Action>
  void tell(ProcessKey key, std::int64_t now, Action action) {
    at(now, [&] {
      if (Child* child = current(key)) action(*child->parent, *child);
    });
  }

  void order(const std::string& supervisor_path, Node::Order order) {
    Node* node = supervisor(supervisor_path);
    if (node != nullptr) return node->submit(std::move(order));
    order.reply({Refusal::kNotFound, "there is no supervisor '" + supervisor_path + "'", {}});
  }

  void order_child(const std::string& path, Node::Order::Kind kind, Reply reply) {
    if (path.empty()) {
      return reply({Refusal::kInvalid, "the root has no supervisor: end the tree instead", {}});
    }
    const auto [supervisor_path, id] = split(path);
    order(supervisor_path, {kind, id, {}, std::move(reply)});
  }

  void hold(const std::string& path, bool hold, Reply reply) {
    if (root_.ended()) return reply({Refusal::kEnding, "the tree has ended", {}});
    Child* target = path.empty() ? nullptr : child(path);
    if (!path.empty() && target == nullptr) {
      return reply({Refusal::kNotFound, "there is no child '" + path + "'", {}});
    }
    Node* node = path.empty() ? &root_ : target->node.get();
    if (const char* why = refuse_hold(target, node)) {
      return reply({Refusal::kInvalid, "'" + path + "' " + why,
                    target != nullptr ? target->info() : ChildInfo{}});
    }
    const std::uint64_t number = note_order(hold ? "suspend" : "resume", path);
    if (node != nullptr) {
      node->hold_all(hold, number);
    } else {
      target->parent->hold(*target, hold, number);
    }
    for (Hold& earlier : holds_) {
      if (earlier.hold != hold && overlap(earlier.path, path)) {
        earlier.failed = "a later order has overtaken it";
      }
    }
    holds_.push_back({path, target != nullptr ? target->number : 0,
                      target != nullptr ? target->incarnation : 0, hold, std::move(reply),
                      nullptr});
  }

  std::optional<std::int64_t> next_deadline() {
    const auto next = context_.next_deadline();
    return next ? std::optional(next->first) : std::nullopt;
  }

  void check_deadlines(std::int64_t now) {
    for (auto next = context_.next_deadline(); next && next->first <= now;
         next = context_.next_deadline()) {
      next->second->parent->check_deadlines(*next->second);
    }
  }

  SupervisorInfo info(std::int64_t now) {
    context_.now = std::max(context_.now, now);
    return root_.info();
  }

  void fail_suspensions(const std::string& path) {
    for (Hold& hold : holds_) {
      if (hold.hold && overlap(hold.path, path)) hold.failed = "not all of it could be stopped";
    }
  }

  std::uint64_t note_order(const char* text, const std::string& path = "") {
    Event event;
    event.kind = EventKind::kOrder;
    event.path = path;
    event.text = text;
    return context_.emit(std::move(event));
  }

 private:
  static const char* refuse_hold(const Child* target, const Node* node) {
    if (node != nullptr) {
      if (!node->booted()) return "is not running yet";
      return is_closed(node->state()) ? "has ended" : nullptr;
    }
    const bool live = target->process && target->presence == Presence::kRunning;
    return live ? nullptr : "does not run";
  }

  void pump() {
    if (pumping_) return;
    pumping_ = true;
    do {
      while (!context_.runnable.empty()) {
        Node* node = context_.runnable.front();
        context_.runnable.pop_front();
        node->run();
      }
    } while (answer_holds());
    context_.removed_children.clear();
    context_.removed_nodes.clear();
    pumping_ = false;
  }

  // Answers what is done; true when anything was answered, which may have given orders.
  bool answer_holds() {
    std::vector<std::pair<Reply, Answer>> answers;
    for (auto hold = holds_.begin(); hold != holds_.end();) {
      auto answer = hold_done(*hold);
      if (!answer) {
        ++hold;
        continue;
      }
      answers.emplace_back(std::move(hold->reply), *std::move(answer));
      hold = holds_.erase(hold);
    }
    for (auto& [reply, answer] : answers) {
      if (reply) reply(answer);
    }
    return !answers.empty();
  }

  std::optional<Answer> hold_done(const Hold& hold) {
    Child* child = nullptr;
    Node* node = &root_;
    const Answer gone{std::nullopt, {}, {}};  // Who was continued, and ended then, was continued.
    if (hold.child != 0) {
      const auto found = context_.by_number.find(hold.child);
      child = found != context_.by_number.end() ? found->second : nullptr;
      if (child == nullptr || child->incarnation != hold.incarnation ||
          (!child->process && !child->node)) {
        if (!hold.hold) return gone;
        return Answer{Refusal::kInvalid, "'" + hold.path + "' has ended meanwhile", {}};
      }
      node = child->node.get();
    }
    if (root_.ended()) {
      return hold.hold ? Answer{Refusal::kEnding, "the tree has ended", {}} : gone;
    }
    if (hold.failed != nullptr) return Answer{Refusal::kInvalid, hold.failed, {}};
    const Answer done{std::nullopt, {}, child != nullptr ? child->info() : ChildInfo{}};
    if (node != nullptr) {
      if (!hold.hold) return node->none_held() ? std::optional(done) : std::nullopt;
      return node->all_held() ? std::optional(done) : std::nullopt;
    }
    const bool over = hold.hold ? child->state == LifeState::kIntermitted : !child->held;
    return over ? std::optional(done) : std::nullopt;
  }

  TreeContext context_;
  Node root_;
  std::vector<Hold> holds_;
  bool pumping_ = false;
};

TreeLogic::TreeLogic(SupervisorSpec spec, Backend& backend, EventSink sink, std::uint64_t seed)
    : impl_(std::make_unique<Impl>(std::move(spec), backend, std::move(sink), seed)) {}
TreeLogic::~TreeLogic() = default;

void TreeLogic::start(std::int64_t now) {
  impl_->at(now, [this] { impl_->root().start(); });
}

std::optional<TreeEnd> TreeLogic::ended() const { return impl_->root().ended(); }
const std::string& TreeLogic::end_text() const { return impl_->root().end_text(); }
bool TreeLogic::booted() const { return impl_->root().booted(); }

void TreeLogic::start_child(const std::string& supervisor, ChildSpec spec, std::int64_t now,
                            Reply reply) {
  impl_->at(now, [&] {
    impl_->order(supervisor,
                 {Node::Order::Kind::kStart, {}, std::move(spec), or_nothing(std::move(reply))});
  });
}

void TreeLogic::restart_child(const std::string& path, std::int64_t now, Reply reply) {
  impl_->at(now, [&] {
    impl_->order_child(path, Node::Order::Kind::kRestart, or_nothing(std::move(reply)));
  });
}

void TreeLogic::stop_child(const std::string& path, std::int64_t now, Reply reply) {
  impl_->at(now, [&] {
    impl_->order_child(path, Node::Order::Kind::kStop, or_nothing(std::move(reply)));
  });
}

void TreeLogic::delete_child(const std::string& path, std::int64_t now, Reply reply) {
  impl_->at(now, [&] {
    impl_->order_child(path, Node::Order::Kind::kDelete, or_nothing(std::move(reply)));
  });
}

void TreeLogic::suspend(const std::string& path, std::int64_t now, Reply reply) {
  impl_->at(now, [&] { impl_->hold(path, true, or_nothing(std::move(reply))); });
}

void TreeLogic::resume(const std::string& path, std::int64_t now, Reply reply) {
  impl_->at(now, [&] { impl_->hold(path, false, or_nothing(std::move(reply))); });
}

void TreeLogic::shutdown(std::int64_t now) {
  impl_->at(now, [this] {
    if (impl_->root().ended()) return;
    impl_->root().begin_end(TreeEnd::kAsked, "asked to shut down", impl_->note_order("shutdown"));
  });
}

void TreeLogic::kill(std::int64_t now) {
  impl_->at(now, [this] {
    if (impl_->root().ended()) return;
    impl_->root().kill_all(impl_->note_order("kill"));
  });
}

bool TreeLogic::count_restart(const std::string& supervisor, const std::string& why,
                              std::int64_t now) {
  bool allowed = false;
  impl_->at(now, [&] {
    if (Node* node = impl_->supervisor(supervisor)) allowed = node->count_restart(why);
  });
  return allowed;
}

std::optional<std::vector<ChildInfo>> TreeLogic::which_children(
    const std::string& supervisor) const {
  Node* node = impl_->supervisor(supervisor);
  if (node == nullptr) return std::nullopt;
  return node->which_children();
}

std::optional<ChildCounts> TreeLogic::count_children(const std::string& supervisor) const {
  Node* node = impl_->supervisor(supervisor);
  if (node == nullptr) return std::nullopt;
  return node->count_children();
}

std::optional<ChildSpec> TreeLogic::get_child_spec(const std::string& path) const {
  const Child* child = impl_->child(path);
  if (child == nullptr) return std::nullopt;
  return child->spec;
}

std::optional<ChildInfo> TreeLogic::find(const std::string& path) const {
  const Child* child = impl_->child(path);
  if (child == nullptr) return std::nullopt;
  return child->info();
}

SupervisorInfo TreeLogic::info(std::int64_t now) const { return impl_->info(now); }

void TreeLogic::on_started(ProcessKey key, pid_t pid, std::int64_t now) {
  impl_->tell(key, now, [&](Node& node, Child& child) { node.on_started(child, pid); });
}

void TreeLogic::on_start_failed(ProcessKey key, const std::string& why, std::int64_t now) {
  impl_->tell(key, now, [&](Node& node, Child& child) { node.on_start_failed(child, why); });
}

void TreeLogic::on_ready(ProcessKey key, std::int64_t now) {
  impl_->tell(key, now, [](Node& node, Child& child) { node.on_ready(child); });
}

void TreeLogic::on_ready_closed(ProcessKey key, std::int64_t now) {
  impl_->tell(key, now, [](Node& node, Child& child) { node.on_ready_closed(child); });
}

void TreeLogic::on_heartbeat(ProcessKey key, std::int64_t now) {
  impl_->tell(key, now, [](Node& node, Child& child) { node.on_heartbeat(child); });
}

void TreeLogic::on_suspended(ProcessKey key, std::int64_t now) {
  impl_->tell(key, now, [](Node& node, Child& child) { node.on_suspended(child); });
}

void TreeLogic::on_suspend_failed(ProcessKey key, std::int64_t now) {
  impl_->tell(key, now, [this](Node& node, Child& child) {
    impl_->fail_suspensions(child.path);
    node.on_suspend_failed(child);
  });
}

void TreeLogic::on_resumed(ProcessKey key, std::int64_t now) {
  impl_->tell(key, now, [](Node& node, Child& child) { node.on_resumed(child); });
}

void TreeLogic::on_ended(ProcessKey key, WaitStatus status, std::int64_t now) {
  impl_->tell(key, now, [&](Node& node, Child& child) { node.on_ended(child, status); });
}

std::optional<std::int64_t> TreeLogic::next_deadline() const { return impl_->next_deadline(); }

void TreeLogic::on_time(std::int64_t now) {
  impl_->at(now, [&] { impl_->check_deadlines(now); });
}

}  // namespace crashworthy

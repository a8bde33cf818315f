#include "harness/supervision/tree.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "harness/os/clock.h"
#include "harness/supervision/process_backend.h"
#include "harness/supervision/programs.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// What a single wait of an unbounded one lasts.
constexpr Nanoseconds kLong = std::chrono::hours(1);

// `bound` from now, or the end of time where that would be later.
std::int64_t deadline_after(Nanoseconds bound) {
  const std::int64_t now = now_ns();
  return bound.count() > kNever - now ? kNever : now + bound.count();
}

}  // namespace

struct SupervisionTree::State {
  State(SupervisorSpec spec, TreeOptions options, std::unique_ptr<ProcessBackend> processes)
      : backend(std::move(processes)),
        logic(std::move(spec), *backend, std::move(options.sink), options.seed) {}
  // The logic goes first and forgets its children one after the other: by then all of them are
  // ending, so that these waits are not added up.
  ~State() { backend->kill_all(); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  std::unique_ptr<ProcessBackend> backend;
  TreeLogic logic;  // Behind the backend, which it uses until it is gone.
  bool started = false;

  void ensure_started() {
    if (std::exchange(started, true)) return;
    logic.start(now_ns());
  }

  std::optional<std::int64_t> next_deadline() const {
    if (!started) return 0;
    const auto ours = backend->next_deadline();
    const auto theirs = logic.next_deadline();
    if (!ours || !theirs) return ours ? ours : theirs;
    return std::min(*ours, *theirs);
  }

  // Tells the logic what was gathered, and what time it is. False when there was nothing to do.
  Result<bool> work() {
    const bool worked = backend->deliver(&logic);
    const auto due = logic.next_deadline();
    if (!due || *due > now_ns()) return worked;
    // Had this process been stopped, or starved, then its children have spoken in time and only we
    // have not listened: listen before anyone is told that it is late.
    if (auto gathered = backend->gather_all(); !gathered) return gathered.error();
    backend->deliver(&logic);
    logic.on_time(now_ns());
    return true;
  }

  // Waits once at most, so that no child that is never silent can hold the caller here.
  Result<void> run(std::int64_t until) {
    ensure_started();
    const auto worked = work();
    if (!worked) return worked.error();
    if (!logic.ended()) {
      backend->set_alarm(next_deadline());
      if (auto waited = backend->wait(*worked ? 0 : until); !waited) return waited;
      if (auto again = work(); !again) return again.error();
    }
    backend->set_alarm(logic.ended() ? std::nullopt : next_deadline());
    return {};
  }

  // Gives an order and runs the tree until it is answered.
  template <typename Order>
  Result<Answer> carry_out(Nanoseconds bound, const Order& order) {
    ensure_started();
    const std::int64_t deadline = deadline_after(bound);
    // Shared with the reply, which may come after we have given up.
    const auto answer = std::make_shared<std::optional<Answer>>();
    order(Reply([answer](const Answer& given) { *answer = given; }));
    while (!*answer) {
      if (now_ns() >= deadline) {
        return Error{ErrorKind::kTimeout, 0, "the order was not carried out in time", {}};
      }
      if (auto ran = run(deadline); !ran) return ran.error();
    }
    backend->set_alarm(next_deadline());
    return std::move(**answer);
  }
};

Result<SupervisionTree> SupervisionTree::create(SupervisorSpec spec, TreeOptions options) {
  if (auto checked = check_spec(spec); !checked) return checked.error();
  if (auto found = check_programs(spec); !found) return found.error();
  auto backend = ProcessBackend::create();
  if (!backend) return backend.error();
  auto state = std::make_unique<State>(std::move(spec), std::move(options), *std::move(backend));
  state->backend->set_alarm(state->next_deadline());
  return SupervisionTree(std::move(state));
}

Result<SupervisionTree> SupervisionTree::start(SupervisorSpec spec, TreeOptions options) {
  auto tree = create(std::move(spec), std::move(options));
  if (!tree) return tree;
  State& state = *tree->state_;
  while (!state.logic.booted() && !state.logic.ended()) {
    if (auto ran = tree->run(kLong); !ran) return ran.error();
  }
  if (state.logic.booted()) return tree;  // It may have ended since: that is no failed start.
  return Error{ErrorKind::kGone, 0, state.logic.end_text(), {}};
}

SupervisionTree::SupervisionTree(std::unique_ptr<State> state) : state_(std::move(state)) {}
SupervisionTree::SupervisionTree(SupervisionTree&& other) noexcept = default;
SupervisionTree& SupervisionTree::operator=(SupervisionTree&& other) noexcept = default;
SupervisionTree::~SupervisionTree() = default;

int SupervisionTree::event_fd() const { return state_->backend->event_fd(); }

std::optional<std::chrono::nanoseconds> SupervisionTree::timeout() const {
  if (state_->logic.ended()) return std::nullopt;
  const auto next = state_->next_deadline();
  if (!next) return std::nullopt;
  return Nanoseconds(std::max<std::int64_t>(*next - now_ns(), 0));
}

Result<void> SupervisionTree::run(std::chrono::nanoseconds bound) {
  return state_->run(deadline_after(bound));
}

Result<TreeEnd> SupervisionTree::run_until_end(std::chrono::nanoseconds bound) {
  const std::int64_t deadline = deadline_after(bound);
  while (true) {
    if (const auto end = state_->logic.ended()) return *end;
    if (auto ran = state_->run(deadline); !ran) return ran.error();
    if (!state_->logic.ended() && now_ns() >= deadline) {
      return Error{ErrorKind::kTimeout, 0, "the supervision tree has not ended in time", {}};
    }
  }
}

Result<Answer> SupervisionTree::start_child(const std::string& supervisor, ChildSpec spec,
                                            std::chrono::nanoseconds bound) {
  // A command that cannot be executed is a start that fails; a function that nobody has registered
  // would only be missed in its process.
  if (!spec.function.empty() || spec.supervisor) {
    SupervisorSpec alone;
    alone.children = {spec};
    if (auto found = check_programs(alone); !found) {
      return Answer{Refusal::kInvalid, found.error().message, {}};
    }
  }
  return state_->carry_out(bound, [&](Reply reply) {
    state_->logic.start_child(supervisor, std::move(spec), now_ns(), std::move(reply));
  });
}

Result<Answer> SupervisionTree::restart_child(const std::string& path,
                                              std::chrono::nanoseconds bound) {
  return state_->carry_out(
      bound, [&](Reply reply) { state_->logic.restart_child(path, now_ns(), std::move(reply)); });
}

Result<Answer> SupervisionTree::stop_child(const std::string& path,
                                           std::chrono::nanoseconds bound) {
  return state_->carry_out(
      bound, [&](Reply reply) { state_->logic.stop_child(path, now_ns(), std::move(reply)); });
}

Result<Answer> SupervisionTree::delete_child(const std::string& path,
                                             std::chrono::nanoseconds bound) {
  return state_->carry_out(
      bound, [&](Reply reply) { state_->logic.delete_child(path, now_ns(), std::move(reply)); });
}

Result<Answer> SupervisionTree::suspend(const std::string& path, std::chrono::nanoseconds bound) {
  return state_->carry_out(
      bound, [&](Reply reply) { state_->logic.suspend(path, now_ns(), std::move(reply)); });
}

Result<Answer> SupervisionTree::resume(const std::string& path, std::chrono::nanoseconds bound) {
  return state_->carry_out(
      bound, [&](Reply reply) { state_->logic.resume(path, now_ns(), std::move(reply)); });
}

void SupervisionTree::shutdown() {
  state_->ensure_started();
  state_->logic.shutdown(now_ns());
  state_->backend->set_alarm(state_->next_deadline());
}

void SupervisionTree::kill() {
  state_->ensure_started();
  state_->logic.kill(now_ns());
  state_->backend->set_alarm(state_->next_deadline());
}

TreeLogic& SupervisionTree::logic() { return state_->logic; }
const TreeLogic& SupervisionTree::logic() const { return state_->logic; }
std::vector<pid_t> SupervisionTree::own_pids() const { return state_->backend->own_pids(); }

}  // namespace crashworthy

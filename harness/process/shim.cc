#include "harness/process/shim.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/process/launcher.h"
#include "harness/process/message.h"
#include "harness/process/program_path.h"
#include "harness/process/start_init.h"

namespace crashworthy {
namespace {

constexpr std::chrono::milliseconds kEndBound{10'000};
// For an outer process that never got to work.
constexpr std::chrono::milliseconds kOuterGrace{1'000};
// A shim that takes no orders for so long is as good as lost.
constexpr int kOrderBoundMs = 1'000;
constexpr std::size_t kMaxWaitingEvents = 65536;

LaunchSpec to_launch_spec(const ShimSpec& spec) {
  LaunchSpec launch;
  launch.argv = spec.argv;
  launch.environment = spec.environment;
  launch.directory = spec.directory;
  launch.stdout_file = spec.stdout_file;
  launch.stderr_file = spec.stderr_file;
  launch.passthrough_output = true;
  launch.core_limit.reset();
  return launch;
}

int left_ms(std::int64_t deadline_ns) {
  const std::int64_t left = (deadline_ns - now_ns() + 999'999) / 1'000'000;
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30));
}

std::int64_t deadline_in(std::chrono::milliseconds bound) {
  return now_ns() + Nanoseconds(bound).count();
}

Error shim_is_gone() { return Error{ErrorKind::kGone, 0, "the shim was killed by others", {}}; }

}  // namespace

// Three descriptors a shim: a supervisor may hold hundreds. The reaper has no pidfd that stays
// open, because it is met only in the end.
struct Shim::State {
  LaunchSpec spec;  // For messages.
  std::vector<std::string> candidates;
  pid_t outer_pid = 0;
  pid_t reaper_pid = 0;
  UniqueFd outer;  // A pidfd.
  UniqueFd control;
  UniqueFd lifeline;               // The write end: closing it ends the tree.
  std::vector<ShimEvent> waiting;  // Received and not yet read.
  bool busy = false;               // From start() until kEmpty or kStartFailed was received.
  bool lost = false;

  ~State() { end(); }

  void take(Received received);
  Result<void> receive();
  Result<void> give(const Order& order, const std::vector<int>& descriptors = {});
  void give(OrderKind kind, int signal = 0);
  UniqueFd open_reaper() const;
  void wake_guardians();
  void lose();
  void end();
};

// ---- What the shim tells ----

void Shim::State::take(Received received) {
  const Message& message = received.message;
  ShimEvent event;
  event.time_ns = message.time_ns;
  event.pid = message.pid;
  switch (message.kind) {
    case MessageKind::kStarted:
      event.kind = ShimEvent::Kind::kStarted;
      if (!received.descriptors.empty()) event.pidfd = std::move(received.descriptors[0]);
      break;
    case MessageKind::kFailed:
      event.kind = ShimEvent::Kind::kStartFailed;
      event.error = explain_failure(spec, candidates, message);
      busy = false;
      break;
    case MessageKind::kMainEnded:
      event.kind = ShimEvent::Kind::kEnded;
      event.status = WaitStatus::from_raw(message.raw_status);
      break;
    case MessageKind::kChildless:
      event.kind = ShimEvent::Kind::kEmpty;
      busy = false;
      break;
    case MessageKind::kSuspended:
      event.kind = ShimEvent::Kind::kSuspended;
      break;
    case MessageKind::kSuspendFailed:
      event.kind = ShimEvent::Kind::kSuspendFailed;
      break;
    case MessageKind::kResumed:
      event.kind = ShimEvent::Kind::kResumed;
      break;
    case MessageKind::kDescendantEnded:
    case MessageKind::kHeld:
    case MessageKind::kListener:
    case MessageKind::kSetUp:
      return;
  }
  waiting.push_back(std::move(event));
  if (message.kind != MessageKind::kMainEnded || message.childless == 0) return;
  waiting.emplace_back().kind = ShimEvent::Kind::kEmpty;
  waiting.back().time_ns = message.time_ns;
  busy = false;
}

Result<void> Shim::State::receive() {
  while (!lost && waiting.size() < kMaxWaitingEvents) {
    auto received = receive_message(control.get());
    if (received && !*received) return {};
    if (received) {
      take(std::move(**received));
      continue;
    }
    if (received.error().kind != ErrorKind::kGone) return received.error();
    lose();
    waiting.emplace_back().kind = ShimEvent::Kind::kLost;
    waiting.back().time_ns = now_ns();
    lost = true;
  }
  return {};
}

// ---- What it is told ----

Result<void> Shim::State::give(const Order& order, const std::vector<int>& descriptors) {
  if (lost) return shim_is_gone();
  int error = send_order(control.get(), order, descriptors);
  if (error == EAGAIN) {
    // Hundreds of orders wait: somebody has stopped the shim, or it is slow.
    wake_guardians();
    pollfd poll_fd{control.get(), POLLOUT, 0};
    ::poll(&poll_fd, 1, kOrderBoundMs);
    error = send_order(control.get(), order, descriptors);
    if (error == EAGAIN) lose();
  }
  if (error == 0) return {};
  // That it is gone is told by the end of the stream as well.
  if (error != EMFILE && error != ETOOMANYREFS && error != ENOMEM && error != ENOBUFS) {
    return shim_is_gone();
  }
  return system_error("send an order to the shim", error);
}

void Shim::State::give(OrderKind kind, int signal) {
  if (!busy) return;
  Order order;
  order.kind = kind;
  order.signal = signal;
  (void)give(order);
}

// ---- Its end ----

UniqueFd Shim::State::open_reaper() const {
  if (reaper_pid <= 0) return UniqueFd();
  auto pidfd = open_pidfd(reaper_pid);
  // Nobody else is in the process group of the shim, so the pid was not taken over by a stranger.
  if (!pidfd || ::getpgid(reaper_pid) != outer_pid) return UniqueFd();
  return *std::move(pidfd);
}

void Shim::State::wake_guardians() {
  (void)send_signal(outer.get(), SIGCONT);
  const UniqueFd reaper = open_reaper();
  if (reaper.valid()) (void)send_signal(reaper.get(), SIGCONT);
}

// Gives the shim up: what is left of it ends, with the tree; the socket says so once it was read.
void Shim::State::lose() {
  ::shutdown(control.get(), SHUT_RDWR);
  lifeline.reset();
  wake_guardians();
}

void Shim::State::end() {
  if (!outer.valid()) return;
  const std::int64_t deadline = deadline_in(kEndBound);
  const UniqueFd reaper = open_reaper();
  // The hang-up reaches the reaper also when a fork of ours holds the lifeline open.
  lose();
  if (reaper.valid()) wait_for_end(reaper.get(), left_ms(deadline));
  if (reaper_pid == 0 &&
      !wait_for_end(outer.get(), left_ms(std::min(deadline, deadline_in(kOuterGrace))))) {
    (void)send_signal(outer.get(), SIGKILL);
  }
  wait_for_end(outer.get(), left_ms(deadline));
  (void)reap(outer.get());  // Not ours any more when SIGCHLD is ignored: gone all the same.
}

// ---- Shim ----

Result<Shim> Shim::create(const ShimSpec& spec) {
  const LaunchSpec launch = to_launch_spec(spec);
  if (auto ok = check_command(launch); !ok) return ok.error();
  auto candidates = spec.program.empty() ? program_candidates(spec.argv[0], spec.environment)
                                         : std::vector<std::string>{spec.program.string()};
  if (const int error = look_for_executable(candidates, spec.directory); error != 0) {
    return explain_unexecutable(spec.argv[0], candidates, spec.directory, error);
  }
  auto started = start_init("--shim", launch, candidates, Containment::kSubreaper);
  if (!started) return started.error();

  // From here on the destructor of `shim` cleans up.
  Shim shim(std::make_unique<State>());
  State& state = *shim.state_;
  state.spec = launch;
  state.candidates = std::move(candidates);
  state.outer_pid = started->pid;
  state.outer = std::move(started->pidfd);
  state.control = std::move(started->control);
  state.lifeline = std::move(started->lifeline);
  auto answer = await_answer(state.control.get());
  if (!answer) return answer.error().with_context("unable to set up '" + spec.argv[0] + "'");
  const Message& message = answer->message;
  if (message.kind == MessageKind::kFailed) {
    return explain_failure(launch, state.candidates, message);
  }
  if (message.kind != MessageKind::kSetUp) {
    return corrupt_error("crashworthy-init gave an answer that makes no sense");
  }
  state.reaper_pid = message.pid;
  return shim;
}

Shim::Shim(std::unique_ptr<State> state) : state_(std::move(state)) {}
Shim::Shim(Shim&& other) noexcept = default;
Shim& Shim::operator=(Shim&& other) noexcept = default;
Shim::~Shim() = default;

int Shim::event_fd() const { return state_->control.get(); }

Result<std::vector<ShimEvent>> Shim::read_events() {
  auto received = state_->receive();
  if (!received) return received.error();
  return std::exchange(state_->waiting, {});
}

Result<void> Shim::start(const std::vector<std::pair<int, int>>& descriptors) {
  constexpr int kLowest = 3;
  if (state_->lost) return shim_is_gone();
  if (state_->busy) {
    return usage_error("an incarnation of '" + state_->spec.argv[0] + "' is not over yet");
  }
  if (auto ok = check_descriptors(descriptors, kLowest, kMaxOrderDescriptors); !ok) return ok;
  Order order;
  order.kind = OrderKind::kStart;
  order.descriptors = static_cast<std::uint32_t>(descriptors.size());
  std::vector<int> ours;
  for (const auto& [fd, number] : descriptors) {
    order.numbers[ours.size()] = number;
    ours.push_back(fd);
  }
  if (auto given = state_->give(order, ours); !given) return given;
  state_->busy = true;
  return {};
}

void Shim::stop(int signal) { state_->give(OrderKind::kStop, signal); }

void Shim::kill() {
  state_->give(OrderKind::kKill);
  if (state_->busy) state_->wake_guardians();
}

void Shim::suspend() { state_->give(OrderKind::kSuspend); }
void Shim::resume() { state_->give(OrderKind::kResume); }

std::vector<pid_t> Shim::own_pids() const { return {state_->outer_pid, state_->reaper_pid}; }

}  // namespace crashworthy

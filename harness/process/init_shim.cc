// The reaper of a shim: starts the command whenever it is ordered to, says what becomes of it, and
// carries out what else is ordered of the tree below it.
//
// Between two orders or ends it sleeps. What takes several passes over the tree (to kill all of it,
// to stop all of it) is a task that the loop goes on with, so that orders are taken and the
// guards watched meanwhile.
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"
#include "harness/process/init.h"
#include "harness/process/init_reaper.h"
#include "harness/process/message.h"
#include "harness/process/process_tree.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kNsPerMs = 1'000'000;
// A process that does not stop (it sleeps uninterruptibly) is not waited for any longer.
constexpr std::int64_t kSuspendBoundNs = 10'000 * kNsPerMs;
// No further order is taken while so many messages do not fit into the socket, or so many orders
// wait for the start.
constexpr std::size_t kMaxWaiting = 256;
// Then the guards and the orders are looked at again: a tree may end processes as fast as we reap.
constexpr int kReapsAtOnce = 256;

class ShimReaper : private Reaper {
 public:
  explicit ShimReaper(const ReaperStart& start) : Reaper(start) {}

  // Until the tree must end.
  void run() {
    say_set_up();
    while (!over_) {
      const auto ready = wait(control_events(), pause_left_ms());
      if (!ready || ready->hung_up) return;
      if (!unsent_.empty()) send_unsent();
      if (ready->outcome) learn_whether_started();
      if (ready->children || more_to_reap_) {
        drain_signals();
        reap_all();
        next_pass_ns_ = 0;  // Who ended may have left orphans; who stopped counts.
      }
      if (ready->control && may_take_order()) take_order();
      if (task_ != Task::kNone && now_ns() >= next_pass_ns_) go_on();
    }
  }

 private:
  enum class Task { kNone, kKill, kSuspend };

  // ---- Messages ----

  struct Unsent {
    Message message;
    UniqueFd descriptor;
  };

  bool may_take_order() const { return unsent_.size() + held_.size() < kMaxWaiting; }

  short control_events() const {
    const int in = may_take_order() ? POLLIN : 0;
    const int out = unsent_.empty() ? 0 : POLLOUT;
    return static_cast<short>(in | out);
  }

  void say(Message message, UniqueFd descriptor = UniqueFd()) {
    unsent_.push_back({message, std::move(descriptor)});
    send_unsent();
  }

  void say(MessageKind kind) {
    Message message;
    message.kind = kind;
    message.pid = main_;
    message.time_ns = now_ns();
    say(message);
  }

  void send_unsent() {
    while (!unsent_.empty()) {
      Unsent& first = unsent_.front();
      const int fd = first.descriptor.get();
      const std::span<const int> descriptors(&fd, fd >= 0 ? 1 : 0);
      if (!send(&first.message, descriptors, false, MSG_DONTWAIT)) return;
      unsent_.pop_front();
    }
  }

  void say_set_up() {
    Message message;
    message.kind = MessageKind::kSetUp;
    message.pid = ::getpid();
    message.time_ns = now_ns();
    say(message);
  }

  // ---- The command ----

  void start(const ReceivedOrder& received) {
    if (alive_) return;  // Our own side has seen to it that this does not happen.
    if (received.descriptors.size() != received.order.descriptors) {
      return fail({Stage::kDescriptors, EMFILE});
    }
    std::vector<Command::Descriptor> descriptors;
    for (std::size_t i = 0; i < received.descriptors.size(); ++i) {
      descriptors.push_back({received.descriptors[i].get(), received.order.numbers[i]});
    }
    stop_ordered_ = false;
    task_ = Task::kNone;
    if (const auto failure = start_main(std::move(descriptors), -1)) return fail(*failure);
    alive_ = true;
  }

  void fail(const ExecFailure& failure) {
    Message message;
    message.kind = MessageKind::kFailed;
    message.stage = failure.stage;
    message.error = failure.error;
    message.time_ns = now_ns();
    say(message);
  }

  void learn_whether_started() {
    const auto failure = take_outcome();
    if (!failure) {
      Message message;
      message.kind = MessageKind::kStarted;
      message.pid = main_;
      message.time_ns = now_ns();
      auto pidfd = open_pidfd(main_);
      say(message, pidfd ? *std::move(pidfd) : UniqueFd());
      for (const Order& order : std::exchange(held_, {})) carry_out(order);
      return;
    }
    // It is about to end by itself; but somebody may have stopped it.
    ::kill(main_, SIGKILL);
    ::waitpid(main_, nullptr, 0);
    become_empty();
    fail(*failure);
  }

  void become_empty() {
    main_ = 0;
    alive_ = false;
    task_ = Task::kNone;
    held_.clear();
    asked_to_end_.clear();
  }

  // A crash without descendants is the common case and told in one packet, so that a supervisor is
  // woken once and may start the next incarnation at once. To know that nobody is left the
  // command's own process must be reaped; until it is sent, the report is kept in `unsent_`.
  void reap_all() {
    std::optional<Message> main_ended;
    int left = kReapsAtOnce;
    more_to_reap_ = false;
    for (; alive_ && left > 0; --left) {
      siginfo_t ended;
      const Look look = look_for_ended(&ended);
      if (look == Look::kChildless) return say_empty(main_ended);
      if (look == Look::kNobody) break;
      if (ended.si_pid == main_) {
        if (outcome_is_open()) learn_whether_started();
        if (!alive_) return;
        main_ended = end_message(ended);
        main_ = 0;
      }
      ::waitpid(ended.si_pid, nullptr, 0);
      asked_to_end_.erase(ended.si_pid);
      pause_.shorten();
    }
    more_to_reap_ = left == 0;
    if (!main_ended) {
      const bool reaped = left < kReapsAtOnce;
      if (reaped && alive_ && main_ == 0 && task_ != Task::kKill) stop_orphans();
      return;
    }
    say(*main_ended);
    if (stop_ordered_ && task_ != Task::kKill) {
      continue_all();  // A suspension is over: the end of the command has won.
      stop_orphans();
    } else {
      begin(Task::kKill, kFirstKillPauseMs);
    }
  }

  // ---- Stopping ----

  void stop(int signal) {
    stop_ordered_ = true;
    stop_signal_ = signal;
    asked_to_end_.clear();
    task_ = Task::kNone;
    const pid_t self = ::getpid();
    for (const TreeProcess& process : descendants_of(self)) ask_to_end(process, self);
  }

  void ask_to_end(const TreeProcess& process, pid_t self) {
    asked_to_end_.insert(process.pid);
    signal_process(process, self, {stop_signal_, SIGCONT});
  }

  // Under a stop the command's own process has ended, or one of the survivors has. An orphan that
  // was never asked was forked, or lost its parent, while we walked: with those below it, it is
  // asked now, because nobody else would end it. What a living process started after it was asked
  // is its own affair (it may be cleaning up).
  void stop_orphans() {
    const pid_t self = ::getpid();
    std::set<pid_t> asked_now{self};
    for (const TreeProcess& process : descendants_of(self)) {
      if (asked_now.count(process.parent) == 0 || asked_to_end_.count(process.pid) > 0) continue;
      ask_to_end(process, self);
      asked_now.insert(process.pid);
    }
  }

  void say_empty(const std::optional<Message>& main_ended) {
    become_empty();
    if (!main_ended) return say(MessageKind::kChildless);
    Message message = *main_ended;
    message.childless = 1;
    say(message);
  }

  // ---- Orders ----

  void take_order() {
    const auto received = receive_order(kControlFd);
    if (!received) {
      over_ = true;  // Nobody is left to order anything.
      return;
    }
    if (!*received) return;
    const Order& order = (*received)->order;
    if (order.kind == OrderKind::kStart) return start(**received);
    // Whoever suspends what is not executed yet learns of the start first. A kill waits for
    // nothing.
    if (alive_ && outcome_is_open() && order.kind != OrderKind::kKill) {
      held_.push_back(order);
    } else {
      carry_out(order);
    }
  }

  void carry_out(const Order& order) {
    // What is being killed is beyond all other orders.
    if (!alive_ || task_ == Task::kKill) return;
    if (order.kind == OrderKind::kStop) {
      stop(order.signal);
    } else if (order.kind == OrderKind::kKill) {
      begin(Task::kKill, kFirstKillPauseMs);
    } else if (order.kind == OrderKind::kSuspend) {
      suspend_until_ns_ = now_ns() + kSuspendBoundNs;
      begin(Task::kSuspend, kFirstSuspendPauseMs);
    } else {
      continue_all();
      say(MessageKind::kResumed);
    }
  }

  void continue_all() {
    task_ = Task::kNone;
    const pid_t self = ::getpid();
    signal_descendants(self, {SIGCONT});
    // An orphan that changed its parent during the walk may have been passed by.
    for (const TreeProcess& process : descendants_of(self)) {
      if (all_threads_stopped(process.pid)) signal_process(process, self, {SIGCONT});
    }
  }

  // ---- What takes several passes ----

  void begin(Task task, int first_pause_ms) {
    task_ = task;
    pause_ = PassPause(first_pause_ms);
    next_pass_ns_ = 0;
  }

  void go_on() {
    if (task_ == Task::kKill) {
      signal_descendants(::getpid(), {SIGKILL});
    } else if (all_stopped()) {
      task_ = Task::kNone;
      return say(MessageKind::kSuspended);
    } else if (now_ns() > suspend_until_ns_) {
      continue_all();  // Who ordered it would not know of what, and how much of it, stands still.
      return say(MessageKind::kSuspendFailed);
    }
    next_pass_ns_ = now_ns() + pause_.next_ms() * kNsPerMs;
  }

  // Two passes must find the same processes, all stopped: who was still running when its children
  // were listed may have forked once more.
  bool all_stopped() {
    const auto first = stop_whoever_runs();
    return first && first == stop_whoever_runs();
  }

  // The pids of the tree when all of it was stopped already, the command's own process included;
  // empty otherwise.
  //
  // After vfork(2), which posix_spawn(3) and shells use, a parent sleeps uninterruptibly until its
  // child has executed: if the child were stopped before, the parent would never be. So the
  // children of whoever sleeps that way are left running.
  std::optional<std::vector<pid_t>> stop_whoever_runs() {
    const pid_t self = ::getpid();
    std::vector<pid_t> stopped;
    std::set<pid_t> asleep;
    bool all = true;
    for (const TreeProcess& process : descendants_of(self)) {
      const std::string states = thread_states(process.pid);
      const bool is_stopped = states.find_first_not_of("Tt") == std::string::npos;
      if (states.find('D') != std::string::npos) asleep.insert(process.pid);
      if (asleep.count(process.parent) > 0) {
        if (is_stopped) signal_process(process, self, {SIGCONT});
        all = false;
      } else if (is_stopped) {
        stopped.push_back(process.pid);
      } else {
        signal_process(process, self, {SIGSTOP});
        all = false;
      }
    }
    // One that has ended is in no list; SIGCHLD tells of it.
    const bool main_ended =
        main_ != 0 && std::find(stopped.begin(), stopped.end(), main_) == stopped.end();
    if (!all || main_ended || stopped.empty()) return std::nullopt;
    return stopped;
  }

  int pause_left_ms() const {
    if (more_to_reap_) return 0;
    if (task_ == Task::kNone) return -1;
    const std::int64_t left_ns = next_pass_ns_ - now_ns();
    return left_ns <= 0 ? 0 : static_cast<int>((left_ns + kNsPerMs - 1) / kNsPerMs);
  }

  static constexpr int kFirstKillPauseMs = 5;
  static constexpr int kFirstSuspendPauseMs = 1;

  std::deque<Unsent> unsent_;  // What did not fit into the socket.
  std::vector<Order> held_;    // Until it is known whether the command was executed.
  bool alive_ = false;         // From the fork of the command until nobody is left.
  bool more_to_reap_ = false;
  bool stop_ordered_ = false;  // Then survivors of the command may end by themselves.
  int stop_signal_ = 0;
  std::set<pid_t> asked_to_end_;  // Since stop_ordered_, without those that we reaped.
  Task task_ = Task::kNone;
  PassPause pause_;
  std::int64_t next_pass_ns_ = 0;
  std::int64_t suspend_until_ns_ = 0;
  bool over_ = false;
};

}  // namespace

void run_shim_reaper(const ReaperStart& start) { ShimReaper(start).run(); }

}  // namespace crashworthy

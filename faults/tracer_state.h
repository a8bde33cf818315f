// What the thread of a Tracer knows and does. Shared by tracer.cc (its life), tracer_events.cc
// (what it does at each stop) and tracer_stops.cc (how threads are stopped, stepped and let go).
#pragma once

#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "faults/breakpoints.h"
#include "faults/tracer.h"
#include "harness/os/random.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

struct Tracer::State {
  struct Space {
    Breakpoints breakpoints;
  };

  struct Thread {
    enum class State { kStarting, kRunning, kListening, kStopped };
    pid_t tid = 0;
    pid_t pid = 0;            // Of its process.
    std::uint64_t birth = 0;  // The how-manieth process it is of those that we have seen start.
    std::shared_ptr<Space> space;
    State state = State::kStarting;
    bool in_vfork = false;  // Waits in the kernel for its child, and cannot be stopped.
    bool leaving = false;   // To be let go as soon as it stops.
    // A step over a breakpoint that a signal came before: the next hit is the same one.
    std::uint64_t unfinished_at = 0;
    std::uint64_t unfinished_stack = 0;
    bool trap_follows = false;  // Of a step that was done, but not reported before another stop.
    std::unique_ptr<Strike> strike;
    std::size_t firing = 0;  // Of the strike.
  };

  // Set before the thread starts.
  pid_t pid = 0;
  NativeFault fault;
  std::optional<SymbolRule> rule;
  UniqueFd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};

  // Shared with it.
  mutable std::mutex mutex;
  std::condition_variable changed;
  Report known;
  std::optional<Result<void>> started;
  std::optional<NativeFault> order;  // For hold().
  bool struck = false;
  Waker* waker = nullptr;
  std::atomic<bool> ending{false};
  std::atomic<bool> gate{false};
  std::thread worker;

  // Of the thread alone.
  std::map<pid_t, Thread> threads;
  std::map<pid_t, int> early;  // First stops of threads that their parents have not told of yet.
  std::deque<Stop> waiting;    // Seen, and not handled yet.
  std::unique_ptr<SymbolIndex> index;
  std::optional<Random> random;
  std::uint64_t hits = 0;
  std::uint64_t begun = 0;   // Firings.
  std::uint64_t births = 0;  // Processes.

  void run();
  Result<void> seize();
  void hold_and_strike();
  void follow_all();
  void publish(const std::function<void(Report&)>& change);
  void handle(const Stop& stop);
  void on_event(Thread& thread, int event);
  void on_interrupted(Thread& thread, int status);
  void on_signal(Thread& thread, int signal);
  bool on_breakpoint(Thread& thread);
  void on_strike_stop(Thread& thread, int status);
  void strike_done(Thread& thread, int signal);
  void publish_strike(const Thread& thread);
  void adopt(Thread& parent, pid_t tid, int event);
  void look_for_libraries(Thread& thread);
  bool fires();
  void begin_strike(Thread& thread, const std::string& file);
  std::int64_t number_of(const Thread& thread) const;
  void resume(Thread& thread, int signal);
  void go_on(Thread& thread);
  void step(Thread& thread, std::uint64_t address);
  std::vector<pid_t> stop_others(const Thread& thread);
  bool wait_for(pid_t tid, Stop* stop);
  void stop_all(pid_t but);
  Thread* next_to_stop(pid_t but, const std::set<pid_t>& asked);
  void take_note(const Stop& seen);
  void update_table(Thread& thread, int event);
  void let_go(pid_t but);
  void let_go_of(Thread& thread, int status);
  std::int64_t next_deadline() const;
  void interrupt_due();
};

namespace tracing {

// A thread that does not stop within it sits in the kernel, where it executes nothing of ours.
inline constexpr std::int64_t kStopBoundNs = 2'000'000'000;

inline bool is_stop_signal(int signal) {
  return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

inline bool is_plain_interrupt(int status) {
  return status >> 16 == PTRACE_EVENT_STOP && !is_stop_signal(WSTOPSIG(status));
}

}  // namespace tracing
}  // namespace crashworthy

#include <algorithm>
#include <cstdlib>

#include "faults/tracer_state.h"
#include "harness/os/clock.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

using tracing::is_plain_interrupt;
using tracing::kStopBoundNs;

constexpr std::int64_t kNever = INT64_MAX;
constexpr int kMaxSteps = 20;

bool has_pending_trap(pid_t tid) {
  const std::uint64_t pending = std::strtoull(status_field(tid, "SigPnd").c_str(), nullptr, 16);
  return (pending >> (SIGTRAP - 1) & 1) != 0;
}

}  // namespace

void Tracer::State::resume(Thread& thread, int signal) {
  if (::ptrace(PTRACE_CONT, thread.tid, nullptr, signal) == 0) {
    thread.state = Thread::State::kRunning;
    return;
  }
  // It was killed. Either its end is still to come, or it has been taken note of already.
  int status = 0;
  const pid_t tid = thread.tid;
  const pid_t seen = ::waitpid(tid, &status, __WALL | __WNOTHREAD | WNOHANG);
  if (seen == tid) waiting.push_back({tid, status, false});
  if (seen < 0) threads.erase(tid);
}

// From where it stands, which may be a breakpoint.
void Tracer::State::go_on(Thread& thread) {
  Registers registers{};
  const Breakpoint* here = nullptr;
  if (get_registers(thread.tid, &registers)) here = thread.space->breakpoints.at(registers.rip);
  if (here == nullptr) {
    resume(thread, 0);
  } else if (emulate_instruction(thread.tid, here->original, &registers)) {
    set_registers(thread.tid, registers);
    resume(thread, 0);
  } else {
    step(thread, registers.rip);
  }
}

// One instruction with the breakpoint lifted, while nobody else can pass it.
void Tracer::State::step(Thread& thread, std::uint64_t address) {
  const pid_t tid = thread.tid;
  const std::vector<pid_t> stopped = stop_others(thread);
  thread.space->breakpoints.lift(tid, address);
  Stop seen;
  for (int i = 0; i < kMaxSteps; ++i) {
    if (::ptrace(PTRACE_SINGLESTEP, tid, nullptr, nullptr) != 0) break;
    do {
      seen = wait_for_stop(tid, kNever);
    } while (seen.tid == 0 && !seen.none_left);
    // An interrupt of ours that was still on its way is no step.
    if (!WIFSTOPPED(seen.status) || !is_plain_interrupt(seen.status)) break;
  }
  thread.space->breakpoints.put_back(
      WIFSTOPPED(seen.status) || stopped.empty() ? tid : stopped.front(), address);
  for (const pid_t other : stopped) {
    const auto found = threads.find(other);
    if (found != threads.end()) resume(found->second, 0);
  }
  Registers registers{};
  const bool alive = seen.tid != 0 && WIFSTOPPED(seen.status) && get_registers(tid, &registers);
  if (alive && registers.rip != address && seen.status >> 16 == 0 &&
      WSTOPSIG(seen.status) == SIGTRAP) {
    resume(thread, 0);
    return;
  }
  if (alive && registers.rip == address) {
    thread.unfinished_at = address;
    thread.unfinished_stack = registers.rsp;
  }
  thread.trap_follows = alive && has_pending_trap(tid);
  if (seen.tid != 0) {
    handle(seen);
  } else {
    resume(thread, 0);
  }
}

// Those of its address space that run. What they stop with, other than for us, is handled later;
// returned are those that may simply go on.
std::vector<pid_t> Tracer::State::stop_others(const Thread& thread) {
  std::vector<pid_t> interrupted;
  for (auto& [tid, other] : threads) {
    if (tid == thread.tid || other.space != thread.space || other.in_vfork ||
        other.state != Thread::State::kRunning)
      continue;
    if (::ptrace(PTRACE_INTERRUPT, tid, nullptr, nullptr) == 0) interrupted.push_back(tid);
  }
  std::vector<pid_t> stopped;
  for (const pid_t tid : interrupted) {
    Stop seen;
    if (!wait_for(tid, &seen)) continue;
    Thread& other = threads.at(tid);
    other.state = Thread::State::kStopped;
    const bool plain = WIFSTOPPED(seen.status) && is_plain_interrupt(seen.status) && !other.strike;
    if (plain) {
      stopped.push_back(tid);
    } else {
      waiting.push_back(seen);
    }
  }
  return stopped;
}

bool Tracer::State::wait_for(pid_t tid, Stop* seen) {
  const std::int64_t bound = now_ns() + kStopBoundNs;
  do {
    *seen = wait_for_stop(tid, bound);
    if (seen->tid != 0) return true;
  } while (!seen->none_left && now_ns() < bound);
  return false;
}

// Everybody stands still then, or cannot be stopped; what they stopped with is in `waiting`.
void Tracer::State::stop_all(pid_t but) {
  std::deque<Stop> seen_before;
  seen_before.swap(waiting);
  for (const Stop& seen : seen_before) take_note(seen);
  std::set<pid_t> asked;
  while (Thread* thread = next_to_stop(but, asked)) {
    asked.insert(thread->tid);
    // A new one stops by itself.
    if (thread->state != Thread::State::kStarting)
      ::ptrace(PTRACE_INTERRUPT, thread->tid, nullptr, nullptr);
    Stop seen;
    if (!wait_for(thread->tid, &seen)) continue;
    thread->state = Thread::State::kStopped;
    take_note(seen);
  }
}

Tracer::State::Thread* Tracer::State::next_to_stop(pid_t but, const std::set<pid_t>& asked) {
  for (auto& [tid, thread] : threads) {
    const bool stands =
        tid == but || thread.in_vfork || thread.leaving || thread.state == Thread::State::kStopped;
    if (!stands && !asked.contains(tid)) return &thread;
  }
  return nullptr;
}

// Of what a thread stopped with, only the table is brought up to date; the rest is kept.
void Tracer::State::take_note(const Stop& seen) {
  const auto found = threads.find(seen.tid);
  if (found == threads.end()) return;
  if (!WIFSTOPPED(seen.status)) {
    threads.erase(found);
    return;
  }
  const int event_number = seen.status >> 16;
  if (event_number == 0 || event_number == PTRACE_EVENT_STOP || event_number == PTRACE_EVENT_EXIT) {
    waiting.push_back(seen);
  } else {
    update_table(found->second, event_number);
  }
}

// Takes all breakpoints out and lets everybody go on untraced; unless this ends, strikes that last
// are not cut short.
void Tracer::State::let_go(pid_t but) {
  stop_all(but);
  std::map<pid_t, int> last;
  for (const Stop& seen : waiting) last[seen.tid] = seen.status;
  waiting.clear();
  for (auto it = threads.begin(); it != threads.end();) {
    Thread& thread = it->second;
    const pid_t tid = thread.tid;
    const bool stands = thread.state == Thread::State::kStopped;
    ++it;
    if (tid == but) continue;
    if (stands) thread.space->breakpoints.remove_all(tid);
    if (thread.strike && !ending) {
      thread.space = std::make_shared<Space>();
      if (last.contains(tid)) {
        waiting.push_back({tid, last[tid], false});
      } else if (stands) {
        resume(thread, 0);
      }
    } else if (stands) {
      if (thread.strike) {
        const bool dies = thread.strike->record().signal != 0;
        if (!dies) last[tid] = thread.strike->undo() << 8 | 0x7f;
        publish_strike(thread);
      }
      let_go_of(thread, last[tid]);
      threads.erase(tid);
    } else {
      thread.leaving = true;
    }
  }
}

void Tracer::State::let_go_of(Thread& thread, int status) {
  const pid_t tid = thread.tid;
  Registers registers{};
  const bool behind =
      get_registers(tid, &registers) && thread.space->breakpoints.at(registers.rip - 1) != nullptr;
  // One that has just run into a breakpoint stands behind it. Where an interrupt of ours came
  // before the trap, that is still pending and would kill it.
  if ((behind || thread.trap_follows) && status >> 16 == PTRACE_EVENT_STOP &&
      has_pending_trap(tid)) {
    Stop seen;
    if (::ptrace(PTRACE_CONT, tid, nullptr, nullptr) != 0 || !wait_for(tid, &seen)) return;
    status = seen.status;
  }
  int signal = WIFSTOPPED(status) && status >> 16 == 0 ? WSTOPSIG(status) : 0;
  if (signal == SIGTRAP && thread.trap_follows) {
    signal = 0;
  } else if (signal == SIGTRAP && behind) {
    registers.rip -= 1;
    set_registers(tid, registers);
    signal = 0;
  }
  thread.space->breakpoints.remove_all(tid);
  ::ptrace(PTRACE_DETACH, tid, nullptr, signal);
}

}  // namespace crashworthy

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "faults/tracer_state.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

using tracing::is_stop_signal;

constexpr std::int64_t kNever = INT64_MAX;
constexpr std::uint64_t kMostHeld = 100;  // Victims, by their pidfds.

}  // namespace

void Tracer::State::handle(const Stop& seen) {
  if (WIFSTOPPED(seen.status) && seen.status >> 16 == PTRACE_EVENT_EXEC) {
    // A thread takes over the number of a main thread that has ended before it.
    std::uint64_t birth = 0;
    for (const auto& [tid, thread] : threads) {
      if (thread.pid == seen.tid) birth = thread.birth;
    }
    Thread& main = threads[seen.tid];
    main.tid = main.pid = seen.tid;
    main.birth = birth;
  }
  const auto found = threads.find(seen.tid);
  if (!WIFSTOPPED(seen.status)) {
    if (found != threads.end() && found->second.strike) publish_strike(found->second);
    threads.erase(seen.tid);
    early.erase(seen.tid);
    return;
  }
  if (found == threads.end()) {
    early[seen.tid] = seen.status;  // It stands still until its parent tells of it.
    return;
  }
  if (found->second.leaving) {
    let_go_of(found->second, seen.status);
    threads.erase(seen.tid);
    return;
  }
  Thread& thread = found->second;
  thread.state = Thread::State::kStopped;
  const int event_number = seen.status >> 16;
  if (event_number == PTRACE_EVENT_STOP) {
    on_interrupted(thread, seen.status);
  } else if (event_number != 0 && event_number != PTRACE_EVENT_EXIT) {
    on_event(thread, event_number);
  } else if (thread.strike) {
    on_strike_stop(thread, seen.status);
  } else if (event_number == 0) {
    on_signal(thread, WSTOPSIG(seen.status));
  } else {
    resume(thread, 0);
  }
}

void Tracer::State::on_event(Thread& thread, int event_number) {
  update_table(thread, event_number);
  if (event_number == PTRACE_EVENT_EXEC) look_for_libraries(thread);
  resume(thread, 0);
}

void Tracer::State::update_table(Thread& thread, int event_number) {
  unsigned long message = 0;
  ::ptrace(PTRACE_GETEVENTMSG, thread.tid, nullptr, &message);
  const auto other = static_cast<pid_t>(message);
  switch (event_number) {
    case PTRACE_EVENT_CLONE:
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
      adopt(thread, other, event_number);
      thread.in_vfork = event_number == PTRACE_EVENT_VFORK;
      break;
    case PTRACE_EVENT_VFORK_DONE:
      thread.in_vfork = false;
      break;
    case PTRACE_EVENT_EXEC:
      // Whoever executes becomes the main thread; the others are gone.
      if (other != thread.tid) threads.erase(other);
      thread.space = std::make_shared<Space>();
      thread.strike.reset();
      thread.in_vfork = false;
      thread.unfinished_at = 0;
      break;
    default:
      break;
  }
}

void Tracer::State::on_interrupted(Thread& thread, int status) {
  if (thread.strike && thread.strike->deadline_ns() == kNever) {
    on_strike_stop(thread, status);
    return;
  }
  if (is_stop_signal(WSTOPSIG(status))) {
    // A stop of the whole process: it stays stopped until somebody continues it.
    thread.state = Thread::State::kListening;
    ::ptrace(PTRACE_LISTEN, thread.tid, nullptr, nullptr);
    return;
  }
  resume(thread, 0);
}

void Tracer::State::on_signal(Thread& thread, int signal) {
  if (signal == SIGTRAP && on_breakpoint(thread)) return;
  if (signal == SIGTRAP && std::exchange(thread.trap_follows, false)) signal = 0;
  resume(thread, signal);
}

// True when it stands behind a breakpoint of ours.
bool Tracer::State::on_breakpoint(Thread& thread) {
  Registers registers{};
  siginfo_t info{};
  if (::ptrace(PTRACE_GETSIGINFO, thread.tid, nullptr, &info) != 0) return false;
  if (info.si_code != SI_KERNEL && info.si_code != TRAP_BRKPT) return false;
  if (!get_registers(thread.tid, &registers)) return false;
  const Breakpoint* hit = thread.space->breakpoints.at(registers.rip - 1);
  if (hit == nullptr) return false;
  registers.rip -= 1;
  set_registers(thread.tid, registers);
  const bool again =
      thread.unfinished_at == registers.rip && thread.unfinished_stack == registers.rsp;
  if (again) thread.unfinished_at = 0;
  if (!again && hit->counts && fires()) {
    begin_strike(thread, hit->file);
    return true;
  }
  if (!again && !hit->counts) look_for_libraries(thread);
  go_on(thread);
  return true;
}

// Counts a pass; true if it is to fire.
bool Tracer::State::fires() {
  if (!gate) return false;
  ++hits;
  const bool due =
      begun < rule->times && hits >= rule->first && (hits - rule->first) % rule->every == 0;
  const std::lock_guard lock(mutex);
  known.hits = hits;
  return due && (rule->probability >= 1 || random->unit() < rule->probability);
}

void Tracer::State::look_for_libraries(Thread& thread) {
  const std::string trouble = thread.space->breakpoints.update(thread.tid, *index);
  const std::vector<std::string> files = thread.space->breakpoints.files();
  const std::lock_guard lock(mutex);
  if (!trouble.empty()) known.trouble = trouble;
  for (const std::string& file : files) {
    if (std::find(known.files.begin(), known.files.end(), file) == known.files.end())
      known.files.push_back(file);
  }
}

void Tracer::State::begin_strike(Thread& thread, const std::string& file) {
  ++begun;
  SymbolFiring firing;
  firing.hit = hits;
  firing.own_pid = pid_in_own_namespace(thread.pid).value_or(0);
  firing.file = file;
  // Now: once it goes on it may end, be reaped, and its number be another's.
  auto pidfd = begun <= kMostHeld ? open_pidfd(thread.pid) : Result<UniqueFd>(UniqueFd());
  if (pidfd && pidfd->valid()) firing.pidfd = std::make_shared<const UniqueFd>(*std::move(pidfd));
  firing.command = status_field(thread.pid, "Name");
  firing.child = number_of(thread);
  // The last one: nobody else needs to be traced for it.
  if (begun == rule->times) {
    stop_all(thread.tid);
    let_go(thread.tid);
    thread.space->breakpoints.remove_all(thread.tid);
    thread.space = std::make_shared<Space>();
  }
  thread.firing = begun - 1;
  thread.strike = std::make_unique<Strike>(fault, thread.pid, thread.tid);
  const int signal = thread.strike->begin();
  firing.strike = thread.strike->record();
  publish([&](Report& report) { report.firings.push_back(firing); });
  if (thread.strike->done()) {
    strike_done(thread, signal);
  } else {
    resume(thread, signal);
  }
}

// Of its process, among those that live, by birth.
std::int64_t Tracer::State::number_of(const Thread& thread) const {
  std::set<std::uint64_t> older;
  for (const auto& [tid, other] : threads) {
    if (other.birth < thread.birth) older.insert(other.birth);
  }
  return static_cast<std::int64_t>(older.size()) + 1;
}

void Tracer::State::on_strike_stop(Thread& thread, int status) {
  const int signal = thread.strike->on_stop(status);
  if (thread.strike->done()) {
    strike_done(thread, signal);
  } else {
    resume(thread, signal);
  }
}

void Tracer::State::publish_strike(const Thread& thread) {
  publish([&](Report& report) {
    (rule ? report.firings[thread.firing].strike : report.strike) = thread.strike->record();
  });
}

void Tracer::State::strike_done(Thread& thread, int signal) {
  publish_strike(thread);
  thread.strike.reset();
  if (!rule || begun == rule->times) {
    ::ptrace(PTRACE_DETACH, thread.tid, nullptr, signal);
    threads.erase(thread.tid);
  } else if (signal != 0) {
    resume(thread, signal);
  } else {
    go_on(thread);
  }
}

void Tracer::State::adopt(Thread& parent, pid_t tid, int event_number) {
  Thread& child = threads[tid];
  child.tid = tid;
  const std::string process = status_field(tid, "Tgid");
  child.pid = process.empty() ? tid : static_cast<pid_t>(std::stol(process));
  child.birth = child.pid == tid ? ++births : parent.birth;
  const long compared = ::syscall(SYS_kcmp, parent.tid, tid, KCMP_VM, 0, 0);
  const bool shared = compared < 0 ? event_number != PTRACE_EVENT_FORK : compared == 0;
  child.space = shared ? parent.space : std::make_shared<Space>(*parent.space);
  const auto arrived = early.find(tid);
  if (arrived == early.end()) return;
  waiting.push_back({tid, arrived->second, false});
  child.state = Thread::State::kStopped;
  early.erase(arrived);
}

}  // namespace crashworthy

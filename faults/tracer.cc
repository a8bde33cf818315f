#include "faults/tracer.h"

#include <linux/kcmp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "faults/breakpoints.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"
#include "harness/os/random.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kNever = INT64_MAX;
// A thread that does not stop within it sits in the kernel, where it executes nothing of ours.
constexpr std::int64_t kStopBoundNs = 2'000'000'000;
constexpr auto kWakeEvery = std::chrono::milliseconds(2);
constexpr int kMaxSteps = 20;
constexpr std::uint64_t kMostHeld = 100;  // Victims, by their pidfds.
constexpr unsigned long kHoldOptions = PTRACE_O_TRACESYSGOOD;
constexpr unsigned long kFollowOptions = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC |
                                         PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                                         PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORKDONE;

bool is_stop_signal(int signal) {
  return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

bool is_plain_interrupt(int status) {
  return status >> 16 == PTRACE_EVENT_STOP && !is_stop_signal(WSTOPSIG(status));
}

// The main thread, or another one where it has ended before them; 0: none is left.
pid_t living_thread_of(pid_t pid) {
  std::vector<pid_t> threads;
  std::error_code failure;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", failure)) {
    const auto tid = static_cast<pid_t>(std::stol(entry.path().filename().string()));
    if (!status_field(tid, "State").starts_with('Z')) threads.push_back(tid);
  }
  if (threads.empty()) return 0;
  return std::find(threads.begin(), threads.end(), pid) != threads.end()
             ? pid
             : *std::min_element(threads.begin(), threads.end());
}

bool has_pending_trap(pid_t tid) {
  const std::uint64_t pending = std::strtoull(status_field(tid, "SigPnd").c_str(), nullptr, 16);
  return (pending >> (SIGTRAP - 1) & 1) != 0;
}

// ptrace(2) forbids it in many ways with one error.
Error explain_refusal(pid_t tid, int number) {
  if (number == ESRCH) return Error{ErrorKind::kGone, ESRCH, "the victim has ended", {}};
  const std::string tracer = status_field(tid, "TracerPid");
  if (!tracer.empty() && tracer != "0") {
    return Error{ErrorKind::kMissing, number,
                 "the victim is traced by process " + tracer + " already",
                 "one process can have one tracer: a debugger, strace, or another fault"};
  }
  const auto yama = read_file("/proc/sys/kernel/yama/ptrace_scope");
  if (yama && *yama > "1") {
    return Error{ErrorKind::kMissing, number,
                 "Yama forbids to trace (kernel.yama.ptrace_scope is " + yama->substr(0, 1) + ")",
                 "as root: sysctl kernel.yama.ptrace_scope=1"};
  }
  Error error = system_error("trace the victim", number);
  error.kind = ErrorKind::kMissing;
  error.hint = "it may have other privileges, or a seccomp filter forbids ptrace(2)";
  return error;
}

struct Space {
  Breakpoints breakpoints;
};

struct Thread {
  enum class State { kStarting, kRunning, kListening, kStopped };
  pid_t tid = 0;
  pid_t pid = 0;  // Of its process.
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

}  // namespace

struct Tracer::State {
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
  std::uint64_t begun = 0;  // Firings.
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

void Tracer::State::publish(const std::function<void(Report&)>& change) {
  {
    const std::lock_guard lock(mutex);
    change(known);
  }
  changed.notify_all();
  const std::uint64_t one = 1;
  (void)!::write(event.get(), &one, sizeof one);
}

void Tracer::State::run() {
  Waker own;
  {
    const std::lock_guard lock(mutex);
    waker = &own;
  }
  Result<void> seized = seize();
  const bool good = seized.ok();
  {
    const std::lock_guard lock(mutex);
    started = std::move(seized);
  }
  changed.notify_all();
  if (good && !rule) hold_and_strike();
  if (good) follow_all();
  publish([](Report& report) { report.ended = true; });
  // Nobody may wake a thread that has ended.
  const std::lock_guard lock(mutex);
  waker = nullptr;
}

Result<void> Tracer::State::seize() {
  const pid_t tid = rule ? pid : living_thread_of(pid);
  if (tid == 0) return explain_refusal(pid, ESRCH);
  const unsigned long options = rule ? kFollowOptions : kHoldOptions;
  if (::ptrace(PTRACE_SEIZE, tid, nullptr, options) != 0) return explain_refusal(tid, errno);
  Thread& thread = threads[tid];
  thread.tid = tid;
  thread.pid = pid;
  thread.birth = ++births;
  thread.space = std::make_shared<Space>();
  thread.state = Thread::State::kRunning;
  if (rule) return {};
  ::ptrace(PTRACE_INTERRUPT, tid, nullptr, nullptr);
  Stop stop;
  if (!wait_for(tid, &stop) || !WIFSTOPPED(stop.status)) {
    threads.clear();
    return Error{ErrorKind::kGone, 0, "the victim ended, or did not stop within 2 s", {}};
  }
  thread.state = Thread::State::kStopped;
  if (stop.status >> 16 == 0) waiting.push_back(stop);  // A signal of its own came first.
  return {};
}

// The thread stands still until an order comes.
void Tracer::State::hold_and_strike() {
  std::optional<NativeFault> wanted;
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return order || ending; });
    wanted = order;
  }
  Thread& thread = threads.begin()->second;
  int signal = 0;
  if (!waiting.empty()) signal = WSTOPSIG(waiting.front().status);
  waiting.clear();
  if (wanted) {
    thread.strike = std::make_unique<Strike>(*wanted, thread.pid, thread.tid);
    if (signal != 0) {
      // It is delivered first, and not lost: a handler of the program runs to its end beneath.
      ::ptrace(PTRACE_INTERRUPT, thread.tid, nullptr, nullptr);
      ::ptrace(PTRACE_CONT, thread.tid, nullptr, signal);
      Stop stop;
      if (!wait_for(thread.tid, &stop) || !WIFSTOPPED(stop.status)) threads.clear();
      signal = stop.status >> 16 == 0 ? WSTOPSIG(stop.status) : 0;
    }
    if (!threads.empty()) {
      const int after = thread.strike->begin();
      if (after != 0) signal = after;
    }
  }
  const bool waits = !threads.empty() && thread.strike && !thread.strike->done();
  if (!threads.empty()) {
    publish([&](Report& report) {
      if (thread.strike) report.strike = thread.strike->record();
    });
    if (waits) {
      resume(thread, signal);
    } else {
      ::ptrace(PTRACE_DETACH, thread.tid, nullptr, signal);
      threads.clear();
    }
  } else {
    publish([](Report& report) { report.strike.failure = "the victim ended before it"; });
  }
  {
    const std::lock_guard lock(mutex);
    struck = true;
  }
  changed.notify_all();
}

void Tracer::State::follow_all() {
  std::int64_t give_up_ns = kNever;
  while (!threads.empty() && now_ns() < give_up_ns) {
    if (ending && give_up_ns == kNever) {
      give_up_ns = now_ns() + kStopBoundNs;  // Whoever is left then, the kernel lets go.
      let_go(0);
      continue;
    }
    Stop seen;
    if (!waiting.empty()) {
      seen = waiting.front();
      waiting.pop_front();
    } else {
      seen = wait_for_stop(-1, std::min(next_deadline(), give_up_ns));
    }
    if (seen.none_left) return;
    if (seen.tid != 0) handle(seen);
    interrupt_due();
  }
}

std::int64_t Tracer::State::next_deadline() const {
  std::int64_t next = kNever;
  for (const auto& [tid, thread] : threads) {
    if (thread.strike) next = std::min(next, thread.strike->deadline_ns());
  }
  return next;
}

void Tracer::State::interrupt_due() {
  for (auto& [tid, thread] : threads) {
    if (thread.strike && thread.strike->deadline_ns() <= now_ns()) thread.strike->interrupt();
  }
}

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
  if (pidfd && pidfd->valid())
    firing.pidfd = std::make_shared<const UniqueFd>(*std::move(pidfd));
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

Thread* Tracer::State::next_to_stop(pid_t but, const std::set<pid_t>& asked) {
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
  if (event_number == 0 || event_number == PTRACE_EVENT_STOP ||
      event_number == PTRACE_EVENT_EXIT) {
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

Tracer::Tracer(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->worker = std::thread([shared = state_.get()] { shared->run(); });
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [this] { return state_->started.has_value(); });
}

Result<std::unique_ptr<Tracer>> Tracer::hold(pid_t pid) {
  auto state = std::make_unique<State>();
  state->pid = pid;
  std::unique_ptr<Tracer> tracer(new Tracer(std::move(state)));
  if (!*tracer->state_->started) return tracer->state_->started->error();
  return tracer;
}

Result<std::unique_ptr<Tracer>> Tracer::follow(pid_t pid, const NativeFault& fault,
                                               const SymbolRule& rule) {
  auto state = std::make_unique<State>();
  state->pid = pid;
  state->fault = fault;
  state->rule = rule;
  state->gate = rule.counts_at_once;
  state->index = std::make_unique<SymbolIndex>(rule.symbol);
  state->random.emplace(rule.seed);
  std::unique_ptr<Tracer> tracer(new Tracer(std::move(state)));
  if (!*tracer->state_->started) return tracer->state_->started->error();
  return tracer;
}

Tracer::~Tracer() {
  state_->ending = true;
  {
    const std::lock_guard lock(state_->mutex);  // It may be about to wait for an order.
  }
  state_->changed.notify_all();
  while (!wait_until_ended(now_ns() + Nanoseconds(kWakeEvery).count())) {
    const std::lock_guard lock(state_->mutex);
    if (state_->waker != nullptr) state_->waker->wake();
  }
  state_->worker.join();
}

StrikeRecord Tracer::strike(const NativeFault& fault) {
  std::unique_lock lock(state_->mutex);
  state_->order = fault;
  state_->changed.notify_all();
  state_->changed.wait(lock, [this] { return state_->struck || state_->known.ended; });
  return state_->known.strike;
}

void Tracer::open_gate() { state_->gate = true; }

Tracer::Report Tracer::report() const {
  const std::lock_guard lock(state_->mutex);
  return state_->known;
}

int Tracer::event_fd() const { return state_->event.get(); }

void Tracer::clear_event() {
  std::uint64_t count = 0;
  (void)!::read(state_->event.get(), &count, sizeof count);
}

bool Tracer::wait_until_ended(std::int64_t until_ns) {
  std::unique_lock lock(state_->mutex);
  const auto bound = std::chrono::nanoseconds(std::max<std::int64_t>(0, until_ns - now_ns()));
  return state_->changed.wait_for(lock, bound, [this] { return state_->known.ended; });
}

}  // namespace crashworthy

#include "faults/tracer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "faults/tracer_state.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

using tracing::kStopBoundNs;

constexpr std::int64_t kNever = INT64_MAX;
constexpr auto kWakeEvery = std::chrono::milliseconds(2);
constexpr unsigned long kHoldOptions = PTRACE_O_TRACESYSGOOD;
constexpr unsigned long kFollowOptions = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC |
                                         PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                                         PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORKDONE;

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

// ptrace(2) forbids it in many ways with one error.
Error explain_refusal(pid_t tid, int number) {
  if (number == ESRCH) return Error{ErrorKind::kGone, ESRCH, "the victim has ended", {}};
  const std::string tracer = status_field(tid, "TracerPid");
  if (!tracer.empty() && tracer != "0") {
    return Error{ErrorKind::kMissing, number,
                 "the victim is traced by process " + tracer + " already ('" +
                     status_field(std::atoi(tracer.c_str()), "Name") + "')",
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

}  // namespace

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

#include "harness/supervision/process_backend.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <limits>
#include <string>
#include <unordered_map>
#include <utility>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/os/unique_fd.h"
#include "harness/process/shim.h"
#include "harness/supervision/function_command.h"
#include "harness/supervision/programs.h"

namespace crashworthy {
namespace {

constexpr int kEventsPerWait = 64;
constexpr std::size_t kDescriptorsPerChild = 3;  // Watched ones: kShim, kReady, kHeartbeat.
// What is read from one descriptor at a time: a child that floods it holds up nobody else.
constexpr std::size_t kReadBytes = 4096;
constexpr int kGlancesAtEnd = 16;  // All that a pipe holds.
// A process closes its descriptors a moment before it counts as ended. Only who still runs after
// this long has closed its readiness descriptor without ending.
constexpr std::int64_t kClosingNs = 100'000'000;

// Which of a child's descriptors an epoll event is about.
enum class Source : std::uint64_t { kShim, kReady, kHeartbeat, kAlarm };

std::uint64_t tag(std::uint64_t child, Source source) {
  return child << 2 | static_cast<std::uint64_t>(source);
}

struct Pipe {
  UniqueFd ours;    // To read, non-blocking.
  UniqueFd theirs;  // To write.
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return system_error("create a pipe", errno);
  Pipe pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
  // Only our end: the child may want to block.
  if (::fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0) return system_error("prepare a pipe", errno);
  return pipe;
}

// What is to be told to the logic.
struct Report {
  enum class Kind {
    kStarted,
    kStartFailed,
    kReady,
    kReadyClosed,
    kHeartbeat,
    kSuspended,
    kSuspendFailed,
    kResumed,
    kEnded
  };
  Kind kind = Kind::kEnded;
  ProcessKey key;
  std::int64_t time_ns = 0;
  pid_t pid = 0;      // kStarted
  WaitStatus status;  // kEnded
  std::string why;    // kStartFailed
};

void tell(TreeLogic* logic, const Report& report, std::int64_t now) {
  switch (report.kind) {
    case Report::Kind::kStarted:
      return logic->on_started(report.key, report.pid, now);
    case Report::Kind::kStartFailed:
      return logic->on_start_failed(report.key, report.why, now);
    case Report::Kind::kReady:
      return logic->on_ready(report.key, now);
    case Report::Kind::kReadyClosed:
      return logic->on_ready_closed(report.key, now);
    case Report::Kind::kHeartbeat:
      return logic->on_heartbeat(report.key, now);
    case Report::Kind::kSuspended:
      return logic->on_suspended(report.key, now);
    case Report::Kind::kSuspendFailed:
      return logic->on_suspend_failed(report.key, now);
    case Report::Kind::kResumed:
      return logic->on_resumed(report.key, now);
    case Report::Kind::kEnded:
      return logic->on_ended(report.key, report.status, now);
  }
}

WaitStatus killed() { return WaitStatus::from_raw(SIGKILL); }

// What is read from a pipe at once.
struct Glance {
  bool newline = false;
  bool any = false;
  bool closed = false;
};

Glance glance_at(int fd) {
  std::array<char, kReadBytes> buffer;
  ssize_t count = 0;
  do {
    count = ::read(fd, buffer.data(), buffer.size());
  } while (count < 0 && errno == EINTR);
  Glance seen;
  seen.closed = count == 0;
  seen.any = count > 0;
  seen.newline = count > 0 &&
                 std::find(buffer.begin(), buffer.begin() + count, '\n') != buffer.begin() + count;
  return seen;
}

// A child over all its incarnations, and what the current one has.
struct Child {
  // The same for all incarnations, made at the first start.
  const ChildSpec* spec = nullptr;
  ShimSpec command;
  UniqueFd argument;
  std::vector<std::pair<int, int>> descriptors;  // Without the pipes.

  std::optional<Shim> shim;
  ProcessKey key;
  bool live = false;     // From start() until its end, or its failure, has been gathered.
  bool started = false;  // Its process was executed.
  bool main_ended = false;
  WaitStatus status;  // Once main_ended.
  UniqueFd pidfd;
  UniqueFd ready;  // Our ends of its pipes.
  UniqueFd heartbeat;
  bool said_ready = false;
  std::optional<std::int64_t> closing_ns;  // When we take it that it will never say so.
  std::int64_t last_ns = 0;                // Of its last answer: they are told in their order.
};

}  // namespace

class ProcessBackend::Impl {
 public:
  Impl(UniqueFd epoll, UniqueFd timer) : epoll_(std::move(epoll)), timer_(std::move(timer)) {}
  ~Impl() { kill_all(); }

  void start(ProcessKey key, const ChildSpec& spec);
  Shim* shim_of(ProcessKey key);
  void forget(std::uint64_t child);
  void kill_all();

  int event_fd() const { return epoll_.get(); }
  void set_alarm(std::optional<std::int64_t> when);
  Result<void> wait(std::int64_t until);
  Result<void> gather_all();
  bool deliver(TreeLogic* logic);
  std::optional<std::int64_t> next_deadline() const;
  std::vector<pid_t> own_pids() const;

 private:
  Result<void> prepare(Child* child, const ChildSpec& spec);
  Result<void> make_shim(Child* child);
  Result<void> execute(Child* child);

  Result<void> watch(int fd, std::uint64_t tag);
  void unwatch(int fd) { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }
  void close_pipes(Child* child);

  Result<int> gather_once(int timeout_ms);
  void gather(std::uint64_t tag);
  void read_shim(Child* child);
  void on_shim_event(Child* child, ShimEvent* event);
  void on_process_started(Child* child, ShimEvent* event);
  void on_shim_lost(Child* child, std::int64_t time_ns);
  void read_ready(Child* child, std::int64_t time_ns, bool ended);
  void read_heartbeat(Child* child);
  void on_pipe_closed(Child* child);
  void end(Child* child, WaitStatus status, std::int64_t time_ns);
  void fail(Child* child, const std::string& why, std::int64_t time_ns);
  Report& report(Child* child, Report::Kind kind, std::int64_t time_ns);
  void gather_closed(std::int64_t now);
  void silence(Child* child);

  UniqueFd epoll_;
  UniqueFd timer_;
  std::optional<std::int64_t> alarm_;  // What the timer is set to.
  std::unordered_map<std::uint64_t, Child> children_;
  std::vector<Report> reports_;
  std::size_t closing_ = 0;  // How many children have a closing_ns.
};

// All at once, so that the waits of the shims' destructors are not added up.
void ProcessBackend::Impl::kill_all() {
  for (auto& [number, child] : children_) {
    if (child.shim) child.shim->kill();
  }
}

Result<void> ProcessBackend::Impl::watch(int fd, std::uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return {};
  return system_error("watch a child", errno);
}

void ProcessBackend::Impl::set_alarm(std::optional<std::int64_t> when) {
  if (!reports_.empty()) when = 1;  // Long past: deliver() has something to tell.
  if (when == alarm_) return;
  itimerspec setting{};
  if (when) {
    const std::int64_t at = std::max<std::int64_t>(*when, 1);  // 0 would switch it off.
    setting.it_value.tv_sec = at / 1'000'000'000;
    setting.it_value.tv_nsec = at % 1'000'000'000;
  }
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &setting, nullptr);
  alarm_ = when;
}

// ---- Starting ----

Result<void> ProcessBackend::Impl::prepare(Child* child, const ChildSpec& spec) {
  child->spec = &spec;
  child->command.environment = child_environment(spec);
  child->command.directory = spec.directory;
  child->descriptors = spec.descriptors;
  if (spec.function.empty()) {
    child->command.argv = spec.command;
    return {};
  }
  auto function = make_function_command(spec);
  if (!function) return function.error();
  child->command.program = function->program;
  child->command.argv = {function->name};
  for (std::string& variable : function->variables) {
    child->command.environment.push_back(std::move(variable));
  }
  child->argument = std::move(function->argument);
  child->descriptors.emplace_back(child->argument.get(), function->argument_number);
  return {};
}

Result<void> ProcessBackend::Impl::make_shim(Child* child) {
  auto shim = Shim::create(child->command);
  if (!shim) return shim.error();
  auto watched = watch(shim->event_fd(), tag(child->key.child, Source::kShim));
  if (!watched) return watched;
  child->shim = *std::move(shim);
  return {};
}

Result<void> ProcessBackend::Impl::execute(Child* child) {
  const ChildSpec& spec = *child->spec;
  auto descriptors = child->descriptors;
  Pipe ready;
  Pipe heartbeat;
  if (spec.ready && spec.ready->descriptor) {
    auto pipe = make_pipe();
    if (!pipe) return pipe.error();
    ready = *std::move(pipe);
    descriptors.emplace_back(ready.theirs.get(), *spec.ready->descriptor);
  }
  if (spec.heartbeat) {
    auto pipe = make_pipe();
    if (!pipe) return pipe.error();
    heartbeat = *std::move(pipe);
    descriptors.emplace_back(heartbeat.theirs.get(), spec.heartbeat->descriptor);
  }
  const bool kept = child->shim.has_value();
  if (!kept) {
    if (auto made = make_shim(child); !made) return made;
  }
  auto asked = child->shim->start(descriptors);
  if (!asked && kept) {
    // It may have been killed by others while it had nothing to do.
    silence(child);
    if (auto made = make_shim(child); !made) return made;
    asked = child->shim->start(descriptors);
  }
  if (!asked) return asked;
  child->ready = std::move(ready.ours);
  child->heartbeat = std::move(heartbeat.ours);
  return {};
}

void ProcessBackend::Impl::start(ProcessKey key, const ChildSpec& spec) {
  Child& child = children_[key.child];
  child.key = key;
  child.live = true;
  child.started = false;
  child.main_ended = false;
  child.said_ready = !spec.ready;
  if (child.spec == nullptr) {
    if (auto prepared = prepare(&child, spec); !prepared) {
      child.spec = nullptr;  // The next start tries again.
      return fail(&child, prepared.error().message, now_ns());
    }
  }
  if (auto executed = execute(&child); !executed) {
    fail(&child, executed.error().message, now_ns());
  }
}

// Null when the process is not there any more: an answer that says so is on its way.
Shim* ProcessBackend::Impl::shim_of(ProcessKey key) {
  const auto found = children_.find(key.child);
  if (found == children_.end() || found->second.key != key || !found->second.live) return nullptr;
  return found->second.shim ? &*found->second.shim : nullptr;
}

// Ends the shim, and all that is below it.
void ProcessBackend::Impl::silence(Child* child) {
  if (!child->shim) return;
  unwatch(child->shim->event_fd());
  child->shim.reset();
}

void ProcessBackend::Impl::close_pipes(Child* child) {
  for (UniqueFd* pipe : {&child->ready, &child->heartbeat}) {
    if (!pipe->valid()) continue;
    unwatch(pipe->get());
    pipe->reset();
  }
  if (std::exchange(child->closing_ns, std::nullopt)) --closing_;
}

void ProcessBackend::Impl::forget(std::uint64_t number) {
  const auto found = children_.find(number);
  if (found == children_.end()) return;
  close_pipes(&found->second);
  silence(&found->second);
  children_.erase(found);
}

// ---- Gathering ----

Report& ProcessBackend::Impl::report(Child* child, Report::Kind kind, std::int64_t time_ns) {
  Report& report = reports_.emplace_back();
  report.kind = kind;
  report.key = child->key;
  report.time_ns = child->last_ns = std::max(time_ns, child->last_ns);
  return report;
}

void ProcessBackend::Impl::fail(Child* child, const std::string& why, std::int64_t time_ns) {
  close_pipes(child);
  child->live = false;
  report(child, Report::Kind::kStartFailed, time_ns).why = why;
}

void ProcessBackend::Impl::end(Child* child, WaitStatus status, std::int64_t time_ns) {
  close_pipes(child);
  child->live = false;
  child->pidfd.reset();
  report(child, Report::Kind::kEnded, time_ns).status = status;
}

void ProcessBackend::Impl::on_process_started(Child* child, ShimEvent* event) {
  child->started = true;
  child->pidfd = std::move(event->pidfd);
  report(child, Report::Kind::kStarted, event->time_ns).pid = event->pid;
  // Only now: what it writes is told after its start.
  const auto watch_pipe = [&](const UniqueFd& pipe, Source source) {
    if (pipe.valid() && !watch(pipe.get(), tag(child->key.child, source))) child->shim->kill();
  };
  watch_pipe(child->ready, Source::kReady);
  watch_pipe(child->heartbeat, Source::kHeartbeat);
}

void ProcessBackend::Impl::on_shim_lost(Child* child, std::int64_t time_ns) {
  silence(child);  // Waits until nothing is left of its tree.
  if (!child->live) return;
  if (!child->started) return fail(child, "its shim was killed by others", time_ns);
  if (!child->main_ended) {
    child->status = exit_status_from_kernel(child->pidfd.get()).value_or(killed());
  }
  end(child, child->status, time_ns);
}

void ProcessBackend::Impl::on_shim_event(Child* child, ShimEvent* event) {
  using Kind = ShimEvent::Kind;
  switch (event->kind) {
    case Kind::kStarted:
      return on_process_started(child, event);
    case Kind::kStartFailed:
      return fail(child, event->error.message, event->time_ns);
    case Kind::kEnded:
      read_ready(child, event->time_ns, true);  // What it said before it ended comes first.
      child->main_ended = true;
      child->status = event->status;
      return;
    case Kind::kEmpty:
      return end(child, child->status, event->time_ns);
    case Kind::kSuspended:
      report(child, Report::Kind::kSuspended, event->time_ns);
      return;
    case Kind::kSuspendFailed:
      report(child, Report::Kind::kSuspendFailed, event->time_ns);
      return;
    case Kind::kResumed:
      report(child, Report::Kind::kResumed, event->time_ns);
      return;
    case Kind::kLost:
      return on_shim_lost(child, event->time_ns);
  }
}

void ProcessBackend::Impl::read_shim(Child* child) {
  if (!child->shim) return;
  auto events = child->shim->read_events();
  if (!events) return on_shim_lost(child, now_ns());
  for (ShimEvent& event : *events) on_shim_event(child, &event);
}

// `ended`: its process has ended, so that this is the last look, and a closed pipe means nothing.
void ProcessBackend::Impl::read_ready(Child* child, std::int64_t time_ns, bool ended) {
  if (!child->ready.valid() || child->said_ready) return;
  Glance seen = glance_at(child->ready.get());
  for (int i = 0; ended && seen.any && !seen.newline && i < kGlancesAtEnd; ++i) {
    seen = glance_at(child->ready.get());
  }
  if (seen.newline) {
    child->said_ready = true;
    // No longer watched, but open: who writes on is neither listened to nor killed by SIGPIPE.
    unwatch(child->ready.get());
    if (std::exchange(child->closing_ns, std::nullopt)) --closing_;
    report(child, Report::Kind::kReady, time_ns);
  } else if (seen.closed && !ended) {
    unwatch(child->ready.get());
    child->ready.reset();
    on_pipe_closed(child);
  }
}

void ProcessBackend::Impl::read_heartbeat(Child* child) {
  if (!child->heartbeat.valid()) return;
  const Glance seen = glance_at(child->heartbeat.get());
  const bool by_heartbeat = child->spec->ready && !child->spec->ready->descriptor;
  if (seen.any) {
    if (by_heartbeat) child->said_ready = true;
    report(child, Report::Kind::kHeartbeat, now_ns());
  } else if (seen.closed) {
    unwatch(child->heartbeat.get());
    child->heartbeat.reset();  // It will be missed in time.
    if (by_heartbeat && !child->said_ready) on_pipe_closed(child);
  }
}

void ProcessBackend::Impl::on_pipe_closed(Child* child) {
  if (child->main_ended || child->closing_ns) return;
  child->closing_ns = now_ns() + kClosingNs;
  ++closing_;
}

void ProcessBackend::Impl::gather_closed(std::int64_t now) {
  if (closing_ == 0) return;
  for (auto& [number, child] : children_) {
    if (!child.closing_ns || *child.closing_ns > now) continue;
    child.closing_ns.reset();
    --closing_;
    if (has_ended(child.pidfd.get())) continue;  // The shim is about to say so.
    report(&child, Report::Kind::kReadyClosed, now);
  }
}

void ProcessBackend::Impl::gather(std::uint64_t what) {
  const auto source = static_cast<Source>(what & 3);
  if (source == Source::kAlarm) {
    std::uint64_t expirations = 0;
    (void)!::read(timer_.get(), &expirations, sizeof expirations);
    alarm_.reset();
    return;
  }
  const auto found = children_.find(what >> 2);
  if (found == children_.end()) return;
  Child* child = &found->second;
  if (source == Source::kShim) return read_shim(child);
  if (!child->live || !child->started) return;
  if (source == Source::kReady) return read_ready(child, now_ns(), false);
  read_heartbeat(child);
}

// How many descriptors had something.
Result<int> ProcessBackend::Impl::gather_once(int timeout_ms) {
  std::array<epoll_event, kEventsPerWait> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsPerWait, timeout_ms);
  if (count < 0 && errno != EINTR) return system_error("wait for the children", errno);
  for (int i = 0; i < count; ++i) gather(events[static_cast<std::size_t>(i)].data.u64);
  gather_closed(now_ns());
  return std::max(count, 0);
}

Result<void> ProcessBackend::Impl::wait(std::int64_t until) {
  const std::int64_t now = now_ns();
  int timeout_ms = 0;
  if (until > now && reports_.empty()) {
    const std::int64_t ms = (until - now - 1) / 1'000'000 + 1;
    timeout_ms = static_cast<int>(std::min<std::int64_t>(ms, std::numeric_limits<int>::max()));
  }
  const auto gathered = gather_once(timeout_ms);
  if (!gathered) return gathered.error();
  return {};
}

// The kernel gives the ready descriptors in turn, so that so many rounds have looked at each, even
// if some of them are never silent.
Result<void> ProcessBackend::Impl::gather_all() {
  const std::size_t descriptors = children_.size() * kDescriptorsPerChild + 1;  // The timer.
  for (std::size_t looked_at = 0; looked_at < descriptors; looked_at += kEventsPerWait) {
    const auto gathered = gather_once(0);
    if (!gathered) return gathered.error();
    if (*gathered < kEventsPerWait) break;
  }
  return {};
}

bool ProcessBackend::Impl::deliver(TreeLogic* logic) {
  if (reports_.empty()) return false;
  std::vector<Report> reports = std::exchange(reports_, {});
  std::stable_sort(reports.begin(), reports.end(),
                   [](const Report& a, const Report& b) { return a.time_ns < b.time_ns; });
  for (const Report& report : reports) tell(logic, report, now_ns());
  return true;
}

std::optional<std::int64_t> ProcessBackend::Impl::next_deadline() const {
  if (!reports_.empty()) return 0;
  if (closing_ == 0) return std::nullopt;
  std::optional<std::int64_t> next;
  for (const auto& [number, child] : children_) {
    if (child.closing_ns && (!next || *child.closing_ns < *next)) next = child.closing_ns;
  }
  return next;
}

std::vector<pid_t> ProcessBackend::Impl::own_pids() const {
  std::vector<pid_t> pids;
  for (const auto& [number, child] : children_) {
    if (child.shim) pids.push_back(child.shim->own_pids().front());
  }
  return pids;
}

// ---- The interface ----

Result<std::unique_ptr<ProcessBackend>> ProcessBackend::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return system_error("create an epoll instance", errno);
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return system_error("create a timer", errno);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag(0, Source::kAlarm);
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, timer.get(), &event) != 0) {
    return system_error("watch a timer", errno);
  }
  auto impl = std::make_unique<Impl>(std::move(epoll), std::move(timer));
  return std::unique_ptr<ProcessBackend>(new ProcessBackend(std::move(impl)));
}

ProcessBackend::ProcessBackend(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ProcessBackend::~ProcessBackend() = default;

void ProcessBackend::start(ProcessKey key, const std::string&, const ChildSpec& spec) {
  impl_->start(key, spec);
}
void ProcessBackend::stop(ProcessKey key) {
  if (Shim* shim = impl_->shim_of(key)) shim->stop(SIGTERM);
}
void ProcessBackend::kill(ProcessKey key) {
  if (Shim* shim = impl_->shim_of(key)) shim->kill();
}
void ProcessBackend::suspend(ProcessKey key) {
  if (Shim* shim = impl_->shim_of(key)) shim->suspend();
}
void ProcessBackend::resume(ProcessKey key) {
  if (Shim* shim = impl_->shim_of(key)) shim->resume();
}
void ProcessBackend::forget(std::uint64_t child) { impl_->forget(child); }
void ProcessBackend::kill_all() { impl_->kill_all(); }

int ProcessBackend::event_fd() const { return impl_->event_fd(); }
void ProcessBackend::set_alarm(std::optional<std::int64_t> when) { impl_->set_alarm(when); }
Result<void> ProcessBackend::wait(std::int64_t until) { return impl_->wait(until); }
Result<void> ProcessBackend::gather_all() { return impl_->gather_all(); }
bool ProcessBackend::deliver(TreeLogic* logic) { return impl_->deliver(logic); }
std::optional<std::int64_t> ProcessBackend::next_deadline() const { return impl_->next_deadline(); }
std::vector<pid_t> ProcessBackend::own_pids() const { return impl_->own_pids(); }

}  // namespace crashworthy

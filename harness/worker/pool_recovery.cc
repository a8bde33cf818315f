// What the pool does when a process starts, dies or hangs.
#include <algorithm>
#include <csignal>
#include <limits>
#include <string>
#include <utility>

#include "harness/os/clock.h"
#include "harness/worker/worker_main.h"
#include "harness/worker/worker_pool.h"

namespace crashworthy {
namespace {

// Signals that a process raises by its own doing. Anybody may send SIGKILL, so it convicts nobody.
bool self_inflicted(WaitStatus status) {
  if (!status.signalled()) return false;
  switch (status.signal()) {
    case SIGSEGV:
    case SIGABRT:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<WorkerProcess> WorkerPool::fork_worker() {
  return WorkerProcess::start([this](int socket, Lease& lease) {
    forget_all();
    run_worker(socket, lease, function_, probe_);
  });
}

// A worker that kept its siblings' sockets would keep them from seeing the coordinator's end, and
// one that kept their leases could scribble over them.
void WorkerPool::forget_all() {
  for (Place& place : places_) {
    if (place.process) place.process->forget();
  }
  for (WorkerProcess& spare : spares_) spare.forget();
}

// Makes `process` the next incarnation of `place`. Should it be dead already, then its pidfd tells
// so soon, like any other death.
void WorkerPool::activate(Place& place, WorkerProcess process) {
  ++place.incarnation;
  if (place.incarnation > 1) {
    probe_.emit_for(process.pid(), ProbeEvent::kReplacement, place.who());
  }
  const WorkerOrder order{OrderKind::kActivate, place.number, place.incarnation, 0, kNoItem, 0, 0};
  place.closed = send_order(process.socket(), order) != 0;
  if (place.closed) process.kill();
  place.full = false;
  place.killed_ns = 0;
  place.progress_ns = now_ns();
  place.process.emplace(std::move(process));
}

void WorkerPool::on_death(Place& place) {
  const pid_t pid = place.process->pid();
  const auto status = place.process->reap();
  if (!status) return fail(status.error());
  const LeaseView lease = place.process->lease();
  const bool named =
      lease.executing && lease.incarnation == place.incarnation && place.holds(lease.key);
  probe_.emit_for(pid, ProbeEvent::kWorkerDied, place.who(), named ? lease.key.item : kNoItem,
                  named ? lease.key.part : 0, named ? lease.attempt : 0, status->raw());
  read_answers(place);  // What it finished is finished.
  settle_held(place, lease, *status);
  place.process.reset();
  refill_ = true;
  last_death_ = status->describe();
  supervisor_.on_ended(place.process_key, *status, now_ns());
  check_budget();
  if (failure_) return;
  if (options_.restart) {
    carry_out_starts();
    feed(place);
  } else if (std::none_of(places_.begin(), places_.end(),
                          [](const Place& other) { return other.process.has_value(); })) {
    fail({ErrorKind::kGone, 0, "no worker is left: the last one " + status->describe(),
          "workers are not replaced here (restart is off)"});
  }
}

// Decides what becomes of the jobs that the dead worker held. Those to be redone go to the head of
// the queue, in their order.
void WorkerPool::settle_held(Place& place, const LeaseView& lease, WaitStatus status) {
  const bool truthful = lease.begun && lease.incarnation == place.incarnation;
  const std::int64_t deadline = options_.deadline.count();
  // Killed as hung, but was it this job? It may have begun in the moment before the signal came.
  const bool hung = place.killed_ns != 0 && status.signalled() && status.signal() == SIGKILL &&
                    place.killed_ns - lease.started_ns >= deadline;
  const auto held = std::exchange(place.held, {});
  for (auto key = held.rbegin(); key != held.rend(); ++key) {
    const bool begun = truthful && lease.key == *key;
    ledger_.take_back(*key, begun);
    if (!options_.restart || !options_.redeliver) {
      results_.push_back(ledger_.close(*key, JobOutcome::kLost, {}));
      continue;
    }
    const bool guilty = begun && lease.executing && (hung || self_inflicted(status));
    if (guilty && charge_and_convict(*key, status, hung)) continue;
    (ledger_.alone(*key) ? alone_queue_ : queue_).push_front(*key);
  }
}

// True when the job was closed as poison, or as hung.
bool WorkerPool::charge_and_convict(const JobKey& key, WaitStatus status, bool hung) {
  if (ledger_.charge(key, options_.max_deaths) == Ledger::Verdict::kRetryAlone) return false;
  JobOutput output;
  output.failure = hung ? FailureReason::kDeadline : FailureReason::kPoison;
  output.message = hung ? "its workers took longer than the deadline of " +
                              format_duration(static_cast<double>(options_.deadline.count()))
                        : "it killed its worker " + std::to_string(options_.max_deaths) +
                              " times, at last alone: " + status.describe();
  const JobOutcome outcome = hung ? JobOutcome::kFailed : JobOutcome::kPoisoned;
  results_.push_back(ledger_.close(key, outcome, std::move(output)));
  return true;
}

void WorkerPool::start(ProcessKey key, const std::string&, const ChildSpec& spec) {
  starts_.push_back({&places_[std::stoul(spec.id)], key});
}

void WorkerPool::on_event(const Event& event) {
  if (event.kind == EventKind::kIntensitySpent) spent_ = true;
}

// A warm spare, or else a new process.
Result<WorkerProcess> WorkerPool::next_process() {
  if (spares_.empty()) return fork_worker();
  WorkerProcess spare = std::move(spares_.back());
  spares_.pop_back();
  return spare;
}

void WorkerPool::carry_out_starts() {
  while (!starts_.empty() && !failure_) {
    const Start start = starts_.front();
    starts_.pop_front();
    auto process = next_process();
    if (!process) return fail(process.error().with_context("start a worker"));
    const pid_t pid = process->pid();
    start.place->process_key = start.key;
    activate(*start.place, std::move(*process));
    supervisor_.on_started(start.key, pid, now_ns());
  }
}

void WorkerPool::on_spare_death(std::size_t index) {
  const pid_t pid = spares_[index].pid();
  const auto status = spares_[index].reap();
  if (!status) return fail(status.error());
  probe_.emit_for(pid, ProbeEvent::kWorkerDied, {kSpareWorker, 0}, kNoItem, 0, 0, status->raw());
  spares_.erase(spares_.begin() + static_cast<std::ptrdiff_t>(index));
  refill_ = true;
  last_death_ = status->describe();
  supervisor_.count_restart("", "a spare has died", now_ns());
  check_budget();
}

void WorkerPool::check_budget() {
  if (!spent_) return;
  fail({ErrorKind::kGone, 0,
        "the worker pool gave up: more than " + std::to_string(options_.intensity) +
            " deaths of workers within " +
            format_duration(static_cast<double>(options_.period.count())) + ", the last one " +
            last_death_,
        "raise the intensity if so many deaths are expected"});
}

// Forks one missing spare; true when more are missing. One at a time, so that answers that came
// meanwhile are not kept waiting for all of them.
bool WorkerPool::refill_spares() {
  const auto missing = [this] {
    return options_.restart && refill_ &&
           spares_.size() < static_cast<std::size_t>(options_.spares);
  };
  if (!missing()) return false;
  auto spare = fork_worker();
  // Without a spare the pool still works: the next death forks a replacement, or says why it
  // cannot.
  if (spare) spares_.push_back(std::move(*spare));
  refill_ = spare.ok();
  return missing();
}

// When `place` is to be killed as hung, if nothing comes from it before.
std::int64_t WorkerPool::overdue_at(const Place& place) const {
  const std::int64_t deadline = options_.deadline.count();
  if (deadline == 0 || !place.process || place.held.empty() || place.killed_ns != 0) {
    return std::numeric_limits<std::int64_t>::max();
  }
  const LeaseView lease = place.process->lease();
  // Stopped before it began its job, or with a lease from the future: then its last sign of life
  // counts.
  const bool usable = lease.executing && lease.started_ns <= now_ns();
  return (usable ? lease.started_ns : place.progress_ns) + deadline;
}

void WorkerPool::kill_overdue(std::int64_t now) {
  for (Place& place : places_) {
    if (overdue_at(place) > now) continue;
    place.killed_ns = now;
    place.process->kill();
  }
}

void WorkerPool::fail(Error error) {
  failure_ = std::move(error);
  for (WorkerProcess& spare : spares_) spare.kill();
  for (Place& place : places_) {
    if (place.process) place.process->kill();
  }
  spares_.clear();
  for (Place& place : places_) place.process.reset();
}

}  // namespace crashworthy

// What the pool makes of a death: who was to blame, and what becomes of the jobs.
#include <csignal>
#include <string>
#include <utility>

#include "harness/os/clock.h"
#include "harness/worker/worker_pool.h"

namespace crashworthy {
namespace {

// An exit, as of a library whose way with errors that is, or a crash. Anybody may send SIGKILL, so
// it convicts nobody.
bool self_inflicted(WaitStatus status) { return status.exited() || status.crashed(); }

}  // namespace

// Decides what becomes of the jobs that the dead process held. Those to be redone go to the head of
// the queue, in their order. True when the death was of a job's own making.
bool WorkerPool::settle_held(Process& process, WaitStatus status) {
  bool guilty = settle_elsewhere(process, status);
  if (process.died_in) {  // That job is with an heir, or over.
    guilty |= self_inflicted(status) || process.killed_ns != 0 || process.nonsense;
  }
  const auto executed = executing(process);
  auto held = std::exchange(process.held, {});
  for (; !held.empty(); held.pop_back()) {
    const bool executing = held.size() - 1 == executed;
    const Guilt guilt = guilt_of(process, status, ledger_.job(held.back().ticket));
    guilty |= guilt == Guilt::kNonsense || (executing && guilt != Guilt::kNone);
    if (put_back(process, status, held.back(), executing)) continue;
    settle(process, status, std::move(held.back()), executing);
  }
  return guilty;
}

WorkerPool::Guilt WorkerPool::guilt_of(const Process& process, WaitStatus status,
                                       const Job& job) const {
  if (self_inflicted(status)) return Guilt::kCrash;
  if (!status.signalled() || status.signal() != SIGKILL) return Guilt::kNone;
  if (process.nonsense) return Guilt::kNonsense;
  if (process.killed_ns == 0) return Guilt::kNone;
  // Killed as hung, but was it this job? It may have begun in the moment before the signal came.
  const std::int64_t bound = (process.silent ? options_.heartbeat : deadline_of(job)).count();
  if (process.killed_ns - began_ns(process, process.killed_ns) < bound) return Guilt::kNone;
  return process.silent ? Guilt::kSilence : Guilt::kDeadline;
}

std::chrono::nanoseconds WorkerPool::deadline_of(const Job& job) const {
  return job.deadline.count() > 0 ? job.deadline : options_.deadline;
}

// Why the job that the process was executing has no result.
std::string WorkerPool::cause_of(Guilt guilt, WaitStatus status, const Job& job) const {
  switch (guilt) {
    case Guilt::kDeadline:
      return "it took longer than the deadline of " +
             format_duration(static_cast<double>(deadline_of(job).count()));
    case Guilt::kSilence:
      return "it gave no heartbeat for " +
             format_duration(static_cast<double>(options_.heartbeat.count()));
    case Guilt::kNonsense:
      return "it wrote over its worker's own records";
    case Guilt::kCrash:
    case Guilt::kNone:
      break;
  }
  return (status.signalled() ? "its worker was " : "its worker ") + status.describe();
}

// Every execution counts once, whoever holds its job when it ends.
void WorkerPool::count(Process& dead, Ticket ticket) {
  if (!std::exchange(dead.counted, true)) ledger_.count_execution(ticket);
}

// What the dead process was executing while somebody else holds it: its heir, or, if it was a spare
// that took over before anybody knew of its predecessor's death, that predecessor. Now it is known
// whether the job had killed it. Should that convict it, a result of the heir comes first. True
// when it had.
bool WorkerPool::settle_elsewhere(Process& process, WaitStatus status) {
  bool guilty = false;
  for (const Process& holder : processes_) {
    for (const Held& held : holder.held) {
      if (&holder == &process || !begun(process, held)) continue;
      const bool took_over = held.source != process.cell;
      if (took_over && process.settled) continue;  // It took nothing over, whatever its lease says.
      if (took_over) forbid_take_over(memory_.desk(held.source).card.generation);  // No third one.
      count(process, held.ticket);
      const bool alone = took_over || ledger_.alone(held.ticket);
      if (guilt_of(process, status, ledger_.job(held.ticket)) != Guilt::kNone) {
        ledger_.charge(held.ticket, alone);
        guilty = true;
      }
    }
  }
  return guilty;
}

// A spare that died of what it had taken over, before it is known how its predecessor died: the two
// are judged together, then. True if so.
bool WorkerPool::put_back(Process& process, WaitStatus status, Held& held, bool executing) {
  const Ticket ticket = held.ticket;
  if (!give_back(process, held)) return false;
  const Guilt guilt = guilt_of(process, status, ledger_.job(ticket));
  if (executing) count(process, ticket);
  if (guilt != Guilt::kNone && (executing || guilt == Guilt::kNonsense)) {
    ledger_.charge(ticket, true);
  }
  return true;
}

// Undoes hand_over(), if the death of the one before is not proved yet: how that died will decide.
bool WorkerPool::give_back(const Process& heir, Held& held) {
  if (held.source == heir.cell) return false;
  Process& before = processes_[held.source];
  if (before.state != State::kEnding || before.generation != held.source_generation) return false;
  ledger_.take_back(held.ticket, false);
  forbid_take_over(memory_.desk(before.cell).card.generation);  // No third one.
  ledger_.lend(held.ticket, {before.cell, before.generation, held.position});
  before.held.push_front(std::move(held));
  return true;
}

// Of a job that the process does not execute, dead or alive. Another one may be executing it: two
// that guarded the same worker.
void WorkerPool::let_go(const Process& process, Held held) {
  if (give_back(process, held)) return;
  if (Process* taker = heir(process, held)) return pass(*taker, std::move(held));
  ledger_.take_back(held.ticket, false);
  requeue(held.ticket);
}

void WorkerPool::settle(Process& process, WaitStatus status, Held held, bool executing) {
  const Guilt guilt = guilt_of(process, status, ledger_.job(held.ticket));
  if (!options_.restart || !options_.redeliver) {
    ledger_.take_back(held.ticket, executing);
    return lose(held.ticket, executing, guilt, status);
  }
  if (!executing && guilt != Guilt::kNonsense) return let_go(process, std::move(held));
  const bool was_alone = ledger_.alone(held.ticket) || held.source != process.cell;
  Process* taker = executing ? heir(process, held) : nullptr;
  if (taker != nullptr) {
    if (guilt != Guilt::kNone) ledger_.charge(held.ticket, was_alone);
    return hand_over(*taker, process, std::move(held));
  }
  ledger_.take_back(held.ticket, false);
  if (executing) count(process, held.ticket);
  if (guilt == Guilt::kNonsense && !was_alone) {
    // Anyone of them may have written it, one that has returned, too. Alone it will be known.
    ledger_.isolate(held.ticket);
  } else if (guilt != Guilt::kNone) {
    ledger_.charge(held.ticket, was_alone);
  }
  requeue(held.ticket, guilt, status);
}

// Unless it is over: convicted, or begun often enough. `status` is of the death that is being
// judged; without one, deaths were counted while somebody took the job over who then did not
// execute it.
void WorkerPool::requeue(Ticket ticket, Guilt guilt, std::optional<WaitStatus> status) {
  const bool convicted = ledger_.convicted(ticket, options_.max_deaths);
  const auto most = static_cast<std::uint32_t>(options_.max_attempts);
  if (!convicted && (most == 0 || ledger_.executions(ticket) < most)) {
    return (ledger_.alone(ticket) ? alone_queue_ : queue_).push_front(ticket);
  }
  const std::string cause = status ? cause_of(guilt, *status, ledger_.job(ticket)) : "";
  JobOutput output;
  if (is_hang(guilt)) {
    output.failure = FailureReason::kDeadline;
  } else {
    output.failure = convicted ? FailureReason::kPoison : FailureReason::kRetries;
  }
  if (output.failure == FailureReason::kPoison) {
    output.message =
        "it killed its worker " + std::to_string(options_.max_deaths) + " times, at last alone";
    if (status) output.message += ": " + cause;
  } else if (!convicted && most > 1) {
    output.message = "its workers died in each of " + std::to_string(most) + " attempts";
    if (status) output.message += "; in the last one " + cause;
  } else {
    output.message = cause.empty() ? "its worker died" : cause;
  }
  const bool poison = output.failure == FailureReason::kPoison;
  Ledger::Closed closed = ledger_.close(
      ticket, poison ? JobOutcome::kPoisoned : JobOutcome::kFailed, std::move(output));
  closed.result.death = status;
  close(std::move(closed));
}

void WorkerPool::lose(Ticket ticket, bool executing, Guilt guilt, WaitStatus status) {
  JobOutput output;
  if (executing && is_hang(guilt)) output.failure = FailureReason::kDeadline;
  output.message = cause_of(executing ? guilt : Guilt::kNone, status, ledger_.job(ticket));
  if (!executing) output.message += " before it began";
  Ledger::Closed closed = ledger_.close(ticket, JobOutcome::kLost, std::move(output));
  closed.result.death = status;
  close(std::move(closed));
}

}  // namespace crashworthy

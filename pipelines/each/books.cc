#include "pipelines/each/books.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "pipelines/each/items.h"

namespace crashworthy::each {
namespace {

constexpr ProbeIdentity kCoordinator{0, 0};

// A line of a terminal, whatever a file name or a worker's message holds.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

}  // namespace

Books::Books(const Settings& settings, const std::vector<Item>& items, const Probe& probe)
    : settings_(settings),
      items_(items),
      probe_(probe),
      renames_(settings.supervised && (settings.lines || names_output(settings.command))),
      failures_(items.size(), 0) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    Job job;
    job.item = i;
    queue_.push_back(ledger_.add(std::move(job)));
  }
}

// Who is fresh takes the retries that need it before all else: nobody else may.
std::optional<Attempt> Books::take(const Holder& holder, bool fresh) {
  std::deque<Ledger::Ticket>& from = fresh && !alone_queue_.empty() ? alone_queue_ : queue_;
  if (from.empty()) return std::nullopt;
  Attempt attempt;
  attempt.ticket = from.front();
  from.pop_front();
  attempt.holder = holder;
  attempt.item = ledger_.job(attempt.ticket).item;
  attempt.number = ledger_.executions(attempt.ticket) + 1;
  attempt.alone = ledger_.alone(attempt.ticket);
  ledger_.lend(attempt.ticket, holder);
  const Item& item = items_[attempt.item];
  attempt.input = item.input;
  attempt.output =
      renames_ ? temporary_name(item.output, attempt.item, attempt.number) : item.output;
  if (taken_.insert(attempt.item).second)
    probe_.emit(ProbeEvent::kTaken, kCoordinator, attempt.item);
  return attempt;
}

void Books::began(const Attempt& attempt, const Doer& doer) {
  probe_.emit_for(doer.pid, ProbeEvent::kStarted, doer.who, attempt.item, 0, attempt.number);
}

// Its output counts once it lies in its place, however its process ended.
void Books::succeeded(const Attempt& attempt, const Doer& doer) {
  if (const auto missing = put_in_place(attempt))
    return failed(attempt, doer, FailureReason::kWrite, missing->message);
  probe_.emit_for(doer.pid, ProbeEvent::kDone, doer.who, attempt.item, 0, attempt.number);
  probe_.emit(ProbeEvent::kDelivered, kCoordinator, attempt.item);
  const auto closed = ledger_.accept(attempt.ticket, attempt.holder, {}, {}, attempt.number);
  CRASHWORTHY_CHECK(closed.has_value(), attempt.item);
  ++summary_.delivered;
}

std::optional<Error> Books::put_in_place(const Attempt& attempt) const {
  const std::string& name = items_[attempt.item].output;
  const int done =
      renames_ ? ::rename(attempt.output.c_str(), name.c_str()) : ::access(name.c_str(), F_OK);
  if (done == 0) return std::nullopt;
  return system_error("it said that it was done, but its output cannot be had", errno);
}

void Books::failed(const Attempt& attempt, const Doer& doer, FailureReason reason,
                   const std::string& why) {
  probe_.emit_for(doer.pid, ProbeEvent::kDone, doer.who, attempt.item, 0, attempt.number,
                  static_cast<std::int64_t>(reason));
  discard(attempt);
  ledger_.take_back(attempt.ticket, true);
  const int failures = ++failures_[attempt.item];
  const auto executions = static_cast<int>(ledger_.executions(attempt.ticket));
  if (!settings_.supervised || failures >= settings_.max_failures ||
      executions >= settings_.max_attempts) {
    return close(attempt, reason, why);
  }
  say(attempt.item, why + "; it is tried again");
  // Behind the others: what was wrong may have passed until then.
  (ledger_.alone(attempt.ticket) ? alone_queue_ : queue_).push_back(attempt.ticket);
}

void Books::died(const Attempt& attempt, Blame blame, const std::string& why) {
  discard(attempt);
  ledger_.take_back(attempt.ticket, true);
  if (!settings_.supervised) return close(attempt, std::nullopt, why);
  if (blame != Blame::kNone) ledger_.charge(attempt.ticket, attempt.alone);
  if (ledger_.convicted(attempt.ticket, settings_.max_deaths)) {
    const bool hung = blame == Blame::kDeadline || blame == Blame::kSilence;
    return close(attempt, hung ? FailureReason::kDeadline : FailureReason::kPoison, why);
  }
  if (static_cast<int>(ledger_.executions(attempt.ticket)) >= settings_.max_attempts)
    return close(attempt, FailureReason::kRetries, why);
  say(attempt.item, why + "; it is given out again");
  (ledger_.alone(attempt.ticket) ? alone_queue_ : queue_).push_front(attempt.ticket);
}

void Books::abandon(const Attempt& attempt) { discard(attempt); }

// Without a failure that somebody told of, it is lost.
void Books::close(const Attempt& attempt, std::optional<FailureReason> failure,
                  const std::string& why) {
  ledger_.close(attempt.ticket, failure ? JobOutcome::kFailed : JobOutcome::kLost, {});
  if (!failure) {
    ++summary_.lost;
    return say(attempt.item, "lost: " + why);
  }
  ++summary_.failed;
  probe_.emit(ProbeEvent::kFailed, kCoordinator, attempt.item, 0, 0,
              static_cast<std::int64_t>(*failure));
  say(attempt.item, std::string("failed (") + failure_reason_name(*failure) + "): " + why);
}

void Books::lose_waiting(const std::string& why) {
  for (std::deque<Ledger::Ticket>* queue : {&queue_, &alone_queue_}) {
    for (; !queue->empty(); queue->pop_front()) {
      say(ledger_.job(queue->front()).item, "lost: " + why);
      ledger_.close(queue->front(), JobOutcome::kLost, {});
      ++summary_.lost;
    }
  }
}

void Books::discard(const Attempt& attempt) const {
  if (renames_) ::unlink(attempt.output.c_str());
}

void Books::say(std::uint64_t item, const std::string& what) const {
  const std::string line =
      "crashworthy-each: item " + std::to_string(item) + " (" + items_[item].input + "): " + what;
  std::fprintf(stderr, "%s\n", printable(line).c_str());
}

}  // namespace crashworthy::each

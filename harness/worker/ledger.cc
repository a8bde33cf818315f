#include "harness/worker/ledger.h"

#include <utility>

#include "harness/os/check.h"

namespace crashworthy {

Ledger::Ticket Ledger::add(Job job) {
  if (free_.empty()) {
    free_.push_back(static_cast<Ticket>(entries_.size()));
    entries_.emplace_back();
  }
  const Ticket ticket = free_.back();
  free_.pop_back();
  Entry& added = entries_[ticket];
  added = Entry();
  added.job = std::move(job);
  added.serial = serial_++;
  added.open = true;
  ++open_;
  return ticket;
}

Ledger::Entry& Ledger::entry(Ticket ticket) {
  CRASHWORTHY_CHECK(ticket < entries_.size() && entries_[ticket].open, ticket);
  return entries_[ticket];
}

void Ledger::lend(Ticket ticket, const Holder& holder) {
  Entry& lent = entry(ticket);
  CRASHWORTHY_CHECK(!lent.holder.has_value(), lent.job.item, lent.job.part, lent.holder->cell);
  lent.holder = holder;
}

void Ledger::take_back(Ticket ticket, bool begun) {
  Entry& returned = entry(ticket);
  CRASHWORTHY_CHECK(returned.holder.has_value(), returned.job.item, returned.job.part);
  returned.holder.reset();
  if (begun) ++returned.executions;
}

void Ledger::charge(Ticket ticket, bool alone) {
  Entry& charged = entry(ticket);
  ++charged.deaths;
  // Alone, so that no other job of the same process can have done the harm.
  charged.died_alone |= alone;
  charged.alone = true;
}

std::optional<Ledger::Closed> Ledger::accept(Ticket ticket, const Holder& holder, JobOutput output,
                                             Frame frame, std::uint32_t attempts) {
  if (ticket >= entries_.size() || !entries_[ticket].open || entries_[ticket].holder != holder) {
    return std::nullopt;
  }
  const JobOutcome outcome = output.failure ? JobOutcome::kFailed : JobOutcome::kDone;
  return remove(ticket, outcome, std::move(output), std::move(frame), attempts);
}

Ledger::Closed Ledger::close(Ticket ticket, JobOutcome outcome, JobOutput output) {
  const Entry& closed = entry(ticket);
  CRASHWORTHY_CHECK(!closed.holder.has_value(), closed.job.item, closed.job.part);
  return remove(ticket, outcome, std::move(output), {}, closed.executions);
}

Ledger::Closed Ledger::remove(Ticket ticket, JobOutcome outcome, JobOutput output, Frame frame,
                              std::uint32_t attempts) {
  Entry& removed = entries_[ticket];
  removed.open = false;
  free_.push_back(ticket);
  --open_;
  return {{std::move(removed.job), outcome, std::move(output), attempts, std::move(frame),
           removed.serial, std::nullopt},
          removed.serial};
}

}  // namespace crashworthy

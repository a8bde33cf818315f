// Ledger: what became of each job. It lives in the coordinator's private memory, so that no worker
// can scribble over it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "harness/worker/executor.h"

namespace crashworthy {

// Who holds a job: the process that is the `generation`-th of its cell, at a position of its
// orders.
struct Holder {
  std::uint32_t cell = 0;
  std::uint32_t generation = 0;
  std::uint64_t position = 0;
  friend bool operator==(const Holder&, const Holder&) = default;
};

// Every job is open from add() until exactly one of accept() and close(). One thread uses a Ledger.
class Ledger {
 public:
  // Names an open job; used anew once the job is closed.
  using Ticket = std::uint32_t;

  struct Closed {
    JobResult result;
    std::uint64_t serial;  // The job was the serial-th that was added, from 0.
  };

  // Opens a job that nobody holds.
  Ticket add(Job job);

  const Job& job(Ticket ticket) const { return entry(ticket).job; }
  // Executions that have begun, as far as known, before the present one.
  std::uint32_t executions(Ticket ticket) const { return entry(ticket).executions; }

  // One more execution had begun than take_back() told of.
  void count_execution(Ticket ticket) { ++entry(ticket).executions; }

  // Gives the job, which nobody may hold, to `holder`.
  void lend(Ticket ticket, const Holder& holder);

  // The holder is gone, or never got it: nobody holds the job. `begun`: its execution had begun.
  void take_back(Ticket ticket, bool begun);

  // Counts a death against the job, whose next execution must be alone; `alone`: nothing else was
  // with it, and it was a retry.
  void charge(Ticket ticket, bool alone);

  // At the `max_deaths`-th death, if one of them was alone.
  bool convicted(Ticket ticket, int max_deaths) const {
    return entry(ticket).deaths >= max_deaths && entry(ticket).died_alone;
  }

  // Its next execution must be alone on its worker, although no death is counted.
  void isolate(Ticket ticket) { entry(ticket).alone = true; }

  // True when the next execution must be alone on its worker.
  bool alone(Ticket ticket) const { return entry(ticket).alone; }

  // Closes the job with a worker's output. Empty, and nothing changes, unless it is held by exactly
  // this holder: a result of a retired process, or a second one, is not accepted. `attempts`: how
  // many executions this one makes.
  std::optional<Closed> accept(Ticket ticket, const Holder& holder, JobOutput output, Frame frame,
                               std::uint32_t attempts);

  // Closes a job that nobody holds without a worker's output.
  Closed close(Ticket ticket, JobOutcome outcome, JobOutput output);

  std::size_t open() const { return open_; }

 private:
  struct Entry {
    Job job;
    std::optional<Holder> holder;
    std::uint64_t serial = 0;
    std::uint32_t executions = 0;
    int deaths = 0;  // Self-inflicted, and those for its deadline.
    bool alone = false;
    bool died_alone = false;
    bool open = false;
  };

  Entry& entry(Ticket ticket);
  const Entry& entry(Ticket ticket) const { return const_cast<Ledger*>(this)->entry(ticket); }
  Closed remove(Ticket ticket, JobOutcome outcome, JobOutput output, Frame frame,
                std::uint32_t attempts);

  std::vector<Entry> entries_;
  std::vector<Ticket> free_;
  std::size_t open_ = 0;
  std::uint64_t serial_ = 0;
};

}  // namespace crashworthy

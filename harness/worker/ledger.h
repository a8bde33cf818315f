// Ledger: what became of each job. It lives in the coordinator's private memory, so that no worker
// can scribble over it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "harness/worker/executor.h"
#include "harness/worker/job_key.h"

namespace crashworthy {

// Who holds a job: a place and its n-th life.
struct Holder {
  std::uint32_t worker = 0;
  std::uint32_t incarnation = 0;
  friend bool operator==(const Holder&, const Holder&) = default;
};

// Every job is open from add() until exactly one of accept() and close(). One thread uses a Ledger.
class Ledger {
 public:
  enum class Verdict { kRetryAlone, kConvicted };

  struct Lent {
    const Job& job;  // Valid until the job is accepted or closed.
    std::uint32_t attempt;
  };

  // Opens a job that nobody holds. A bug (the program stops) if the same (item, part) is open.
  void add(Job job);

  // Gives the job, which nobody may hold, to `holder`.
  Lent lend(const JobKey& key, const Holder& holder);

  // The holder is gone, or never got it: nobody holds the job. `begun`: its execution had begun.
  void take_back(const JobKey& key, bool begun);

  // Counts a death against the job, which nobody may hold. kConvicted at the `max_deaths`-th, if
  // that execution was one alone; else its next execution must be alone.
  Verdict charge(const JobKey& key, int max_deaths);

  // True when the next execution must be alone on its worker.
  bool alone(const JobKey& key) const;

  // Closes the job with a worker's output. Empty, and nothing changes, unless it is open and held
  // by exactly this holder: a result of a retired incarnation, or a second one, is not accepted.
  std::optional<JobResult> accept(const JobKey& key, const Holder& holder, JobOutput output);

  // Closes a job that nobody holds without a worker's output.
  JobResult close(const JobKey& key, JobOutcome outcome, JobOutput output);

  std::size_t open() const { return entries_.size(); }

 private:
  struct Entry {
    Job job;
    std::optional<Holder> holder;
    std::uint32_t executions = 0;  // That have begun, as far as known, before the present one.
    int deaths = 0;                // Self-inflicted, and those for its deadline.
    bool alone = false;
  };
  using Entries = std::unordered_map<JobKey, Entry, JobKeyHash>;

  Entry& entry(const JobKey& key);
  JobResult remove(Entries::iterator position, JobOutcome outcome, JobOutput output,
                   std::uint32_t attempts);
  Entries entries_;
};

}  // namespace crashworthy

#include "harness/worker/ledger.h"

#include <utility>

#include "harness/os/check.h"

namespace crashworthy {

void Ledger::add(Job job) {
  const JobKey key{job.item, job.part};
  const auto [position, added] = entries_.try_emplace(key);
  CRASHWORTHY_CHECK(added, key.item, key.part);
  position->second.job = std::move(job);
}

Ledger::Entry& Ledger::entry(const JobKey& key) {
  const auto position = entries_.find(key);
  CRASHWORTHY_CHECK(position != entries_.end(), key.item, key.part);
  return position->second;
}

Ledger::Lent Ledger::lend(const JobKey& key, const Holder& holder) {
  Entry& lent = entry(key);
  CRASHWORTHY_CHECK(!lent.holder.has_value(), key.item, key.part, lent.holder->worker);
  lent.holder = holder;
  return {lent.job, lent.executions + 1};
}

void Ledger::take_back(const JobKey& key, bool begun) {
  Entry& returned = entry(key);
  CRASHWORTHY_CHECK(returned.holder.has_value(), key.item, key.part);
  returned.holder.reset();
  if (begun) ++returned.executions;
}

Ledger::Verdict Ledger::charge(const JobKey& key, int max_deaths) {
  Entry& charged = entry(key);
  CRASHWORTHY_CHECK(!charged.holder.has_value(), key.item, key.part);
  ++charged.deaths;
  // Alone, so that no other job of the same process can have done the harm.
  const bool convicted = charged.deaths >= max_deaths && charged.alone;
  charged.alone = true;
  return convicted ? Verdict::kConvicted : Verdict::kRetryAlone;
}

bool Ledger::alone(const JobKey& key) const {
  const auto position = entries_.find(key);
  return position != entries_.end() && position->second.alone;
}

std::optional<JobResult> Ledger::accept(const JobKey& key, const Holder& holder, JobOutput output) {
  const auto position = entries_.find(key);
  if (position == entries_.end() || position->second.holder != holder) return std::nullopt;
  const JobOutcome outcome = output.failure ? JobOutcome::kFailed : JobOutcome::kDone;
  return remove(position, outcome, std::move(output), position->second.executions + 1);
}

JobResult Ledger::close(const JobKey& key, JobOutcome outcome, JobOutput output) {
  const auto position = entries_.find(key);
  CRASHWORTHY_CHECK(position != entries_.end(), key.item, key.part);
  CRASHWORTHY_CHECK(!position->second.holder.has_value(), key.item, key.part);
  return remove(position, outcome, std::move(output), position->second.executions);
}

JobResult Ledger::remove(Entries::iterator position, JobOutcome outcome, JobOutput output,
                         std::uint32_t attempts) {
  JobResult result{std::move(position->second.job), outcome, std::move(output), attempts};
  entries_.erase(position);
  return result;
}

}  // namespace crashworthy

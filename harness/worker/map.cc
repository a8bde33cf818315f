#include "harness/worker/map.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "harness/os/check.h"
#include "harness/os/clock.h"
#include "harness/worker/pool.h"
#include "harness/worker/run_job.h"

namespace crashworthy {
namespace {

using Key = PersistentLedger::Key;
using Record = PersistentLedger::Record;

constexpr std::int32_t kReasonFactor = 256;
// Waiting ends with a result, or the executor's failure: this only bounds one look.
constexpr std::int64_t kLookNs = 60'000'000'000;
// A source that takes longer for a job may not keep results waiting until all have been taken.
constexpr std::int64_t kSlowSourceNs = 100'000;

std::string name_of(const Job& job) { return job_name(job.item, job.part); }

std::string counted(std::uint64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// ---- The ledger ----

Result<void> commit(PersistentLedger& ledger, const JobResult& result) {
  const Key key{result.job.item, result.job.part};
  if (ledger.committed(key)) {
    return usage_error(name_of(result.job) + " came twice", "a ledger tells jobs apart by these");
  }
  const JobOutput& output = result.output;
  const auto reason = output.failure ? static_cast<std::int32_t>(*output.failure) : 0;
  const auto outcome = static_cast<std::int32_t>(result.outcome) + kReasonFactor * reason;
  const auto committed =
      result.outcome == JobOutcome::kDone
          ? ledger.commit(key, outcome, output.bytes)
          : ledger.commit(key, outcome, output.message.c_str() + ('\0' + output.bytes));
  return committed;
}

Result<void> check_ledger(const Executor& executor, const PersistentLedger& ledger) {
  const auto* pool = dynamic_cast<const Pool*>(&executor);
  if (pool == nullptr) return {};
  for (const pid_t zygote : pool->zygotes()) {
    if (zygote != 0 && ledger.is_open_in(zygote)) {
      return usage_error("the ledger was opened before the pool was made: its workers have it, too",
                         "open it after make_worker_pool()");
    }
  }
  return {};
}

// ---- The stream ----

class Stream {
 public:
  Stream(Executor& executor, const JobSource& source, const ResultSink& sink,
         const MapOptions& options)
      : executor_(executor),
        source_(source),
        sink_(sink),
        ordered_(options.ordered),
        ledger_(options.ledger),
        most_(options.in_flight > 0 ? options.in_flight : 2 * executor.demand()) {}

  Result<void> run() {
    for (;;) {
      fill();
      if (executor_.in_flight() == 0) {
        if (ended_) break;
        continue;
      }
      auto came = executor_.wait(std::chrono::milliseconds(patience_ns() / 1'000'000));
      if (!came) {
        if (ledger_ != nullptr) note(ledger_->flush());
        return came.error().with_context("after " + counted(results_, "result") + ", with " +
                                         counted(executor_.in_flight(), "job") + " in flight");
      }
      for (JobResult& result : *came) take(std::move(result));
      if (ledger_ != nullptr && due_ns() <= now_ns()) note(ledger_->flush());
    }
    if (ledger_ != nullptr) note(ledger_->flush());
    if (failure_) return *failure_;
    return {};
  }

 private:
  // Until nothing more may be in flight, or the source lets us wait.
  void fill() {
    while (!ended_ && taken_ - given_ < most_) {
      const std::int64_t begin = now_ns();
      auto next = source_();
      if (!next) return end(next.error());
      if (!*next) {
        ended_ = true;
        return;
      }
      submit(**std::move(next));
      slow_ = now_ns() - begin > kSlowSourceNs;
      if (slow_) return;
    }
    slow_ = false;
  }

  void submit(Job job) {
    if (auto good = executor_.check(job); !good) return end(good.error());
    if (ledger_ != nullptr) {
      if (job.output_bytes > 0) {
        return end(usage_error(name_of(job) + " has output in a frame, which no ledger keeps",
                               "use stream() without a ledger, and commit in its sink"));
      }
      if (ledger_->committed({job.item, job.part})) return;
    }
    const std::uint64_t number = executor_.submit(std::move(job));
    if (taken_++ == 0) next_ = number;
  }

  std::int64_t due_ns() const { return ledger_->sync_due_ns().value_or(now_ns() + kLookNs); }

  std::int64_t patience_ns() const {
    if (slow_) return 0;
    if (ledger_ == nullptr) return kLookNs;
    // Rounded up, or we would look again before it is due.
    return std::clamp<std::int64_t>(due_ns() - now_ns() + 999'999, 0, kLookNs);
  }

  // A result, as it comes.
  void take(JobResult result) {
    if (dropping_) return;
    if (ledger_ != nullptr && result.outcome != JobOutcome::kLost) {
      if (auto committed = commit(*ledger_, result); !committed) return note(committed);
    }
    if (!ordered_) return give(std::move(result));
    const std::uint64_t number = result.number;
    early_.emplace(number, std::move(result));
    while (!dropping_ && !early_.empty() && early_.begin()->first == next_) {
      ++next_;
      give(std::move(early_.extract(early_.begin()).mapped()));
    }
  }

  void give(JobResult result) {
    ++given_;
    note(sink_(std::move(result)));
    if (!dropping_) ++results_;
  }

  // A failure after which the sink still gets what is on its way.
  void end(const Error& error) {
    failure_ = error;
    ended_ = true;
  }

  // A failure after which it gets nothing any more.
  void note(const Result<void>& done) {
    if (done) return;
    if (!failure_) failure_ = done.error();
    ended_ = dropping_ = true;
    early_.clear();
  }

  Executor& executor_;
  const JobSource& source_;
  const ResultSink& sink_;
  const bool ordered_;
  PersistentLedger* const ledger_;
  const std::size_t most_;

  std::uint64_t taken_ = 0;    // From the source, but for what is committed already.
  std::uint64_t given_ = 0;    // To the sink...
  std::uint64_t results_ = 0;  // ...which was content.
  std::uint64_t next_ = 0;     // Number of the job whose turn it is.
  std::map<std::uint64_t, JobResult> early_;
  bool ended_ = false;     // The source is not asked any more.
  bool slow_ = false;      // It took its time: look for results before it is asked again.
  bool dropping_ = false;  // Of what still comes, nothing is committed or given.
  std::optional<Error> failure_;
};

Result<void> check(const Executor& executor, const MapOptions& options) {
  if (auto failure = executor.failure()) return *std::move(failure);
  if (executor.in_flight() > 0) {
    return usage_error(
        "the executor has " + counted(executor.in_flight(), "job") + " in flight already",
        "wait() for their results first, or for the executor's error");
  }
  if (options.ledger != nullptr) return check_ledger(executor, *options.ledger);
  return {};
}

// ---- What map() finds in the ledger ----

Result<void> restore(const PersistentLedger& ledger, std::vector<Job>& jobs,
                     std::vector<std::optional<JobResult>>& results) {
  std::map<std::pair<std::uint64_t, std::uint32_t>, std::size_t> places;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (!places.emplace(std::pair(jobs[i].item, jobs[i].part), i).second) {
      return usage_error(name_of(jobs[i]) + " is there twice",
                         "a ledger tells jobs apart by these");
    }
  }
  return ledger.for_each([&](const Record& record) -> Result<void> {
    const auto place = places.find({record.key.item, record.key.part});
    if (place == places.end()) return {};
    auto stored = stored_result(record);
    if (!stored) return stored.error();
    stored->job = std::move(jobs[place->second]);
    results[place->second] = *std::move(stored);
    return {};
  });
}

}  // namespace

Result<JobResult> stored_result(const Record& record) {
  JobResult result;
  result.job.item = record.key.item;
  result.job.part = record.key.part;
  result.attempts = 0;
  const std::int32_t outcome = record.outcome % kReasonFactor;
  const std::int32_t reason = record.outcome / kReasonFactor;
  const std::size_t middle = record.bytes.find('\0');
  const bool done = record.outcome == static_cast<std::int32_t>(JobOutcome::kDone);
  const bool other = outcome == static_cast<std::int32_t>(JobOutcome::kFailed) ||
                     outcome == static_cast<std::int32_t>(JobOutcome::kPoisoned);
  if (!done && (!other || reason <= 0 || middle == std::string_view::npos)) {
    return corrupt_error("the ledger's record of " + name_of(result.job) + " is no job's result");
  }
  result.outcome = static_cast<JobOutcome>(outcome);
  if (done) {
    result.output.bytes = record.bytes;
  } else {
    result.output.failure = static_cast<FailureReason>(reason);
    result.output.message = record.bytes.substr(0, middle);
    result.output.bytes = record.bytes.substr(middle + 1);
  }
  return result;
}

Result<void> stream(Executor& executor, const JobSource& source, const ResultSink& sink,
                    const MapOptions& options) {
  if (auto good = check(executor, options); !good) return good;
  return Stream(executor, source, sink, options).run();
}

Result<std::vector<JobResult>> map(Executor& executor, std::vector<Job> jobs,
                                   const MapOptions& options) {
  std::vector<std::optional<JobResult>> results(jobs.size());
  if (auto good = check(executor, options); !good) return good.error();
  for (const Job& job : jobs) {
    if (auto good = executor.check(job); !good) return good.error();
  }
  if (options.ledger != nullptr) {
    if (auto restored = restore(*options.ledger, jobs, results); !restored) {
      return restored.error();
    }
  }
  const auto skip_restored = [&](std::size_t place) {
    while (place < results.size() && results[place]) ++place;
    return place;
  };
  std::size_t asked = 0, came = 0;
  MapOptions ordered = options;
  ordered.ordered = true;
  const auto ran = stream(
      executor,
      [&]() -> Result<std::optional<Job>> {
        asked = skip_restored(asked);
        if (asked == jobs.size()) return std::optional<Job>();
        return std::optional<Job>(std::move(jobs[asked++]));
      },
      [&](JobResult result) -> Result<void> {
        came = skip_restored(came);
        results[came++] = std::move(result);
        return {};
      },
      ordered);
  if (!ran) return ran.error();
  std::vector<JobResult> all;
  all.reserve(results.size());
  for (auto& result : results) all.push_back(*std::move(result));
  return all;
}

}  // namespace crashworthy

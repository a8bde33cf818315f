#include "harness/worker/pool.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <limits>
#include <string>
#include <utility>

#include "harness/os/check.h"
#include "harness/os/clock.h"
#include "harness/worker/worker_pool.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kEndPatienceNs = 100'000'000;  // For workers that finish what they do.

std::int64_t after(std::int64_t now, std::chrono::milliseconds timeout) {
  const std::int64_t ms = std::max<std::int64_t>(timeout.count(), 0);
  return ms > (kNever - now) / 1'000'000 ? kNever : now + ms * 1'000'000;
}

Result<void> check_options(const PoolOptions& options) {
  if (options.workers < 1) return usage_error("a worker pool needs at least one worker");
  if (options.spares < 0) return usage_error("the number of spares is negative");
  if (options.max_demand < 1) return usage_error("max_demand is less than one job a worker");
  if (options.max_deaths < 2) {
    return usage_error("max_deaths is less than 2",
                       "an item is convicted only by a second death, when it is retried alone");
  }
  if (options.intensity < 0) return usage_error("the restart intensity is negative");
  if (options.period.count() <= 0)
    return usage_error("the period of the intensity is not positive");
  if (options.deadline.count() < 0) return usage_error("the deadline is negative");
  return {};
}

// What the workers are to a supervisor. How a worker is started is the pool's matter, so the
// function's name only has to be there.
SupervisorSpec workers_of(const PoolOptions& options) {
  SupervisorSpec spec;
  spec.intensity = options.intensity;
  spec.period = options.period;
  for (int i = 0; i < options.workers; ++i) {
    ChildSpec worker;
    worker.id = std::to_string(i);
    worker.function = "worker";
    worker.restart = options.restart ? RestartType::kPermanent : RestartType::kTemporary;
    worker.crash_loop.count = 0;
    spec.children.push_back(std::move(worker));
  }
  return spec;
}

}  // namespace

Result<std::unique_ptr<Executor>> make_worker_pool(const PoolOptions& options, JobFunction function,
                                                   Probe probe) {
  if (auto good = check_options(options); !good) return good.error();
  auto pool = std::make_unique<WorkerPool>(options, std::move(function), probe);
  if (auto started = pool->boot(); !started) return started.error();
  return std::unique_ptr<Executor>(std::move(pool));
}

WorkerPool::WorkerPool(const PoolOptions& options, JobFunction function, Probe probe)
    : options_(options),
      function_(std::move(function)),
      probe_(probe),
      places_(static_cast<std::size_t>(options.workers)),
      supervisor_(
          workers_of(options), *this, [this](const Event& event) { on_event(event); }, 0) {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    places_[i].number = static_cast<std::uint32_t>(i);
  }
}

Result<void> WorkerPool::boot() {
  supervisor_.start(now_ns());
  carry_out_starts();
  if (failure_) return *failure_;
  while (options_.restart && spares_.size() < static_cast<std::size_t>(options_.spares)) {
    auto spare = fork_worker();
    if (!spare) return spare.error();
    spares_.push_back(std::move(*spare));
  }
  return {};
}

WorkerPool::~WorkerPool() {
  for (WorkerProcess& spare : spares_) spare.close_socket();
  for (Place& place : places_) {
    if (place.process) place.process->close_socket();
  }
  const std::int64_t until = now_ns() + kEndPatienceNs;
  const auto await = [until](const WorkerProcess& worker) {
    const std::int64_t left = std::max<std::int64_t>(until - now_ns(), 0);
    wait_for_end(worker.pidfd(), static_cast<int>(left / 1'000'000));
  };
  for (const WorkerProcess& spare : spares_) await(spare);
  for (const Place& place : places_) {
    if (place.process) await(*place.process);
  }
  // All at once what still runs; the members' destructors reap.
  for (WorkerProcess& spare : spares_) spare.kill();
  for (Place& place : places_) {
    if (place.process) place.process->kill();
  }
}

void WorkerPool::submit(Job job) {
  CRASHWORTHY_CHECK(job.arguments.size() <= kMaxPayload, job.arguments.size());
  const JobKey key{job.item, job.part};
  ledger_.add(std::move(job));
  queue_.push_back(key);
  if (!failure_) dispatch();
}

Result<std::vector<JobResult>> WorkerPool::wait(std::chrono::milliseconds timeout) {
  const std::int64_t until = after(now_ns(), timeout);
  for (bool expired = false;; expired = now_ns() >= until) {
    if (!results_.empty()) return std::exchange(results_, {});
    if (failure_) return *failure_;
    if (expired) return std::vector<JobResult>();
    poll_once(refill_spares() ? 0 : until);
  }
}

bool WorkerPool::Place::holds(const JobKey& key) const {
  return std::find(held.begin(), held.end(), key) != held.end();
}

bool WorkerPool::has_room(const Place& place) const {
  if (!place.process || place.full || place.closed || place.killed_ns != 0) return false;
  if (place.held.empty()) return true;
  return place.held.size() < static_cast<std::size_t>(options_.max_demand) &&
         !ledger_.alone(place.held.front());
}

// The next job for `place`, taken from its queue. Suspects go first, to empty workers only; while
// one waits, no worker is kept busy by others, or it might wait for ever.
std::optional<JobKey> WorkerPool::next_job(const Place& place) {
  std::deque<JobKey>& from = alone_queue_.empty() ? queue_ : alone_queue_;
  if (from.empty() || (&from == &alone_queue_ && !place.held.empty())) return std::nullopt;
  const JobKey key = from.front();
  from.pop_front();
  return key;
}

void WorkerPool::dispatch() {
  while (!failure_ && (!queue_.empty() || !alone_queue_.empty())) {
    Place* best = nullptr;
    for (Place& place : places_) {
      if (!has_room(place)) continue;
      if (best == nullptr || place.held.size() < best->held.size()) best = &place;
    }
    if (best == nullptr) return;
    const auto key = next_job(*best);
    if (!key) return;
    hand_out(*best, *key);
  }
}

void WorkerPool::feed(Place& place) {
  while (!failure_ && has_room(place)) {
    const auto key = next_job(place);
    if (!key) return;
    hand_out(place, *key);
  }
}

// Gives the job to the place; if it does not take it, the job is at the head of its queue again.
void WorkerPool::hand_out(Place& place, const JobKey& key) {
  const Ledger::Lent lent = ledger_.lend(key, place.holder());
  const WorkerOrder order{
      OrderKind::kJob, place.number, place.incarnation, lent.attempt, key.item, key.part, 0};
  const int refusal = send_order(place.process->socket(), order, lent.job.arguments);
  if (refusal == 0) {
    if (place.held.empty()) place.progress_ns = now_ns();
    place.held.push_back(key);
    return;
  }
  ledger_.take_back(key, false);
  (ledger_.alone(key) ? alone_queue_ : queue_).push_front(key);
  if (refusal == EPIPE || refusal == ECONNRESET) {
    place.closed = true;  // Dead; its pidfd will tell how.
    place.process->kill();
  } else if (refusal == EAGAIN && !place.held.empty()) {
    place.full = true;  // Until it answers one of those.
  } else {
    fail(system_error("hand a job to worker " + std::to_string(place.number), refusal));
  }
}

void WorkerPool::read_answers(Place& place) {
  for (;;) {
    switch (receive_answer(place.process->socket(), *buffer_)) {
      case Received::kAnswer:
        take_answer(place);
        break;
      case Received::kNothing:
        return;
      case Received::kClosed:
      case Received::kMalformed:
        // It is dying, or beyond repair: its pidfd tells how it ended.
        place.closed = true;
        place.process->kill();
        return;
    }
  }
}

void WorkerPool::take_answer(Place& place) {
  const WorkerAnswer& answer = buffer_->answer;
  const JobKey key{answer.item, answer.part};
  const Holder claimed{answer.worker, answer.incarnation};
  if (claimed != place.holder()) return;
  auto result = ledger_.accept(key, claimed, buffer_->output());
  if (!result) return;
  std::erase(place.held, key);
  place.progress_ns = now_ns();
  place.full = false;
  results_.push_back(std::move(*result));
}

// Waits for an event until `until_ns` or until a job is overdue; what happened is in `polls_` then.
// False when a signal came between, and nothing is known of the workers.
bool WorkerPool::poll_events(std::int64_t until_ns) {
  polls_.clear();
  for (const Place& place : places_) {
    const bool listen = place.process && !place.closed;
    polls_.push_back({place.process ? place.process->pidfd() : -1, POLLIN, 0});
    polls_.push_back({listen ? place.process->socket() : -1, POLLIN, 0});
    until_ns = std::min(until_ns, overdue_at(place));
  }
  for (const WorkerProcess& spare : spares_) polls_.push_back({spare.pidfd(), POLLIN, 0});
  const std::int64_t left = std::max<std::int64_t>(until_ns - now_ns(), 0);
  const timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
  const int ready =
      ::ppoll(polls_.data(), polls_.size(), until_ns == kNever ? nullptr : &timeout, nullptr);
  if (ready < 0 && errno != EINTR) fail(system_error("wait for workers", errno));
  return ready >= 0;
}

void WorkerPool::poll_once(std::int64_t until_ns) {
  if (!poll_events(until_ns)) return;
  // Dead spares leave first, so that none of them is promoted; backwards, for the indices to hold.
  for (std::size_t i = spares_.size(); i-- > 0 && !failure_;) {
    if (polls_[2 * places_.size() + i].revents != 0) on_spare_death(i);
  }
  for (std::size_t i = 0; i < places_.size() && !failure_; ++i) {
    if (polls_[2 * i].revents == 0) continue;
    polls_[2 * i + 1].revents = 0;  // It spoke of the dead one's socket.
    on_death(places_[i]);
  }
  for (std::size_t i = 0; i < places_.size() && !failure_; ++i) {
    if (polls_[2 * i + 1].revents != 0) read_answers(places_[i]);
  }
  if (failure_) return;
  kill_overdue(now_ns());  // After the answers: who has answered is not hung.
  dispatch();
}

}  // namespace crashworthy

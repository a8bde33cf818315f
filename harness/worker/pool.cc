#include "harness/worker/pool.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <limits>
#include <string>
#include <utility>

#include "harness/os/check.h"
#include "harness/os/clock.h"
#include "harness/worker/futex.h"
#include "harness/worker/run_job.h"
#include "harness/worker/worker_pool.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
constexpr int kSpinsPerLook = 16;  // Between two looks at the clock.
constexpr int kMaxDemand = 64;
constexpr int kMaxWorkers = 256;
constexpr std::size_t kResultsAtOnce = 64;  // That wait() returns without growing its list.
// So long at most, results come one after the other without a look at deaths and deadlines.
constexpr std::int64_t kLookNs = 5'000'000;
// How long jobs may lack room, with nobody at work, and how often we look.
constexpr std::int64_t kRoomPatienceNs = 2'000'000'000;
constexpr std::int64_t kRoomLookNs = 5'000'000;
constexpr std::size_t kMostBanked = std::size_t{4} << 20;  // See PoolOptions::protection_keys.
constexpr std::size_t kMaxRoom = std::size_t{1} << 40;     // For frames, of one process.
// Cells beyond those of the workers and spares, for processes that are being taken down.
constexpr std::size_t kDyingCells = 6;

std::int64_t after(std::int64_t now, std::chrono::milliseconds timeout) {
  const std::int64_t ms = std::max<std::int64_t>(timeout.count(), 0);
  return ms > (kNever - now) / 1'000'000 ? kNever : now + ms * 1'000'000;
}

Result<void> check_counts(const PoolOptions& options) {
  if (options.workers < 1) return usage_error("a worker pool needs at least one worker");
  if (options.spares < 0) return usage_error("the number of spares is negative");
  if (options.workers > kMaxWorkers || options.spares > kMaxWorkers) {
    return usage_error("a worker pool has at most 256 workers and as many spares");
  }
  if (options.max_demand < 1) return usage_error("max_demand is less than one job a worker");
  if (options.max_demand > kMaxDemand) return usage_error("max_demand is more than 64");
  if (options.min_demand < -1 || options.min_demand >= options.max_demand) {
    return usage_error("min_demand is not from 0 to max_demand - 1", "-1 stands for half of it");
  }
  if (options.batch < 1 || options.batch > options.max_demand) {
    return usage_error("batch is not from 1 to max_demand");
  }
  if (options.batch > 1 && options.max_attempts == 1) {
    return usage_error(
        "max_attempts = 1 needs a batch of 1",
        "jobs whose results are held back are executed again when their worker dies");
  }
  if (options.max_deaths < 2) {
    return usage_error("max_deaths is less than 2",
                       "an item is convicted only by a second death, when it is retried alone");
  }
  return {};
}

Result<void> check_options(const PoolOptions& options) {
  if (auto good = check_counts(options); !good) return good.error();
  if (options.max_attempts < 0) return usage_error("max_attempts is negative");
  if (options.intensity < 0) return usage_error("the restart intensity is negative");
  if (options.period.count() <= 0)
    return usage_error("the period of the intensity is not positive");
  if (options.deadline.count() < 0) return usage_error("the deadline is negative");
  if (options.heartbeat.count() < 0) return usage_error("the heartbeat is negative");
  if (options.spin.count() < 0) return usage_error("the time to spin is negative");
  if (options.output_bytes > kMaxRoom || options.frame_bytes > kMaxRoom) {
    return usage_error("output_bytes or frame_bytes is more than 1 TiB");
  }
  if (options.warm_up && options.warm_up->output_bytes > options.output_bytes) {
    return usage_error("the output of the warm-up job is larger than output_bytes");
  }
  return {};
}

PoolOptions completed(PoolOptions options) {
  if (options.min_demand < 0) options.min_demand = options.max_demand / 2;
  if (!options.restart) options.spares = 0;
  options.spin = std::min<std::chrono::nanoseconds>(options.spin, std::chrono::seconds(1));
  return options;
}

// A forked child of a job that comes back from the job function, however, ends there: it is not to
// become a second worker (or zygote, in the warm-up) in the place of its parent.
class EndsCopies {
 public:
  EndsCopies() = default;
  ~EndsCopies() {
    if (!owner_.is_here()) ::_exit(0);
  }
  EndsCopies(const EndsCopies&) = delete;
  EndsCopies& operator=(const EndsCopies&) = delete;

 private:
  const Owner owner_;
};

WorkerSetup make_setup(const PoolOptions& options, JobFunction function, Probe probe) {
  WorkerSetup setup;
  setup.function = [function = std::move(function)](const Job& job, const JobContext& context) {
    const EndsCopies guard;
    return function(job, context);
  };
  setup.probe = probe;
  setup.warm_up = options.warm_up;
  setup.min_demand = static_cast<std::uint32_t>(options.min_demand);
  // The next death might convict the job, or exhaust its retries: that is decided first.
  const int most = options.max_attempts == 0 ? options.max_deaths
                                             : std::min(options.max_deaths, options.max_attempts);
  setup.max_take_over = static_cast<std::uint32_t>(most);
  setup.spares = static_cast<std::uint32_t>(options.spares);
  setup.protection_keys = options.protection_keys;
  setup.batch = static_cast<std::uint32_t>(options.batch);
  setup.spin = options.spin;
  return setup;
}

Error frames_error(Error error, std::size_t regions, std::size_t bytes) {
  error =
      std::move(error).with_context("make the frames of a worker pool, " + std::to_string(regions) +
                                    " regions of " + std::to_string(bytes >> 20) + " MiB");
  if (error.sys_errno == ENOMEM || error.sys_errno == EFBIG) {
    error.hint =
        "take smaller PoolOptions::output_bytes and frame_bytes, or fewer workers and spares: each "
        "has a region, and so have those that are being replaced; ulimit -v may limit the sum";
  }
  return with_limit_hint(std::move(error));
}

}  // namespace

Result<std::unique_ptr<Pool>> make_worker_pool(const PoolOptions& given, JobFunction function,
                                               Probe probe) {
  if (auto good = check_options(given); !good) return good.error();
  if (!function) {
    return usage_error("the job function of the worker pool is empty",
                       "give make_worker_pool() a function, which all workers will have");
  }
  const PoolOptions options = completed(given);
  const auto count = static_cast<std::size_t>(options.workers + options.spares);
  const std::size_t cells = 2 * count + kDyingCells;
  auto memory =
      CellMemory::create(cells, static_cast<std::size_t>(options.max_demand) + kRingSpace);
  if (!memory) return with_limit_hint(memory.error().with_context("make a worker pool"));
  const std::size_t bank =
      options.protection_keys ? frame_extent(std::min(options.output_bytes, kMostBanked)) : 0;
  // A region holds a guard page for what is taken over, too.
  const std::size_t region = frame_extent(options.output_bytes) + frame_extent(options.frame_bytes);
  auto frames = FrameArena::create(cells + 1, region, bank);
  if (!frames) return frames_error(frames.error(), cells + 1, region);
  auto doorbell = Doorbell::create();
  if (!doorbell) return with_limit_hint(doorbell.error());
  auto pool = std::make_unique<WorkerPool>(options, make_setup(options, std::move(function), probe),
                                           *std::move(memory), *frames, *std::move(doorbell));
  if (auto started = pool->boot(); !started) return with_limit_hint(started.error());
  return std::unique_ptr<Pool>(std::move(pool));
}

// ---- Jobs and results ----

Frame WorkerPool::allocate_frame(std::size_t bytes) { return frames_->allocate(0, bytes); }

std::size_t WorkerPool::in_flight() const {
  return ledger_.open() + results_.size() + early_.size();
}

std::size_t WorkerPool::demand() const {
  return places_.size() * static_cast<std::size_t>(options_.max_demand);
}

Result<void> WorkerPool::check(const Job& job) const {
  return check_job(job, options_.output_bytes, "PoolOptions::output_bytes");
}

std::uint64_t WorkerPool::submit(Job job) {
  CRASHWORTHY_CHECK(owner_.is_here());
  const auto good = check(job);
  CRASHWORTHY_CHECK(good.ok(), good.error().message);
  queue_.push_back(ledger_.add(std::move(job)));
  if (!failure_) dispatch();
  return next_number_++;
}

void WorkerPool::close(Ledger::Closed closed) {
  if (!options_.ordered) {
    if (results_.capacity() == 0) results_.reserve(kResultsAtOnce);
    results_.push_back(std::move(closed.result));
    return;
  }
  early_.emplace(closed.serial, std::move(closed.result));
  for (auto next = early_.begin(); next != early_.end() && next->first == next_serial_;
       next = early_.erase(next), ++next_serial_) {
    results_.push_back(std::move(next->second));
  }
}

Result<std::vector<JobResult>> WorkerPool::wait(std::chrono::milliseconds timeout) {
  CRASHWORTHY_CHECK(owner_.is_here());  // A forked copy has none of the pool's processes.
  const std::int64_t until = after(now_ns(), timeout);
  std::int64_t stuck_ns = 0;
  for (bool expired = false;; expired = now_ns() >= until) {
    if (!failure_) {
      collect();
      dispatch();
    }
    if (looks_due() && !results_.empty()) look(0);  // Else the wait may come to it.
    if (!results_.empty()) return std::exchange(results_, {});
    if (failure_) return *failure_;
    if (interrupted_.exchange(false) || expired) return std::vector<JobResult>();
    if (!lacks_room()) {
      stuck_ns = 0;
      wait_for_news(until);
      continue;
    }
    // Nobody tells when a thread of the caller's lets go of a frame.
    const std::int64_t now = now_ns();
    if (stuck_ns == 0) stuck_ns = now;
    if (now - stuck_ns >= kRoomPatienceNs) return room_error();
    wait_for_news(std::min(until, now + kRoomLookNs));
  }
}

// Whether nobody executes anything, and what is queued has no room for its output, which the frames
// of results take. Asked after dispatch().
bool WorkerPool::lacks_room() const {
  if (queue_.empty() && alone_queue_.empty()) return false;
  bool idle = false;
  for (const Process& process : processes_) {
    if (process.state == State::kFree || process.state == State::kSpare) continue;
    if (!has_room(process) || !process.held.empty()) return false;
    idle = true;
  }
  return idle;
}

Error WorkerPool::room_error() const {
  return usage_error(
      "no job can be executed: there is no room for the output of the " +
          std::to_string(queue_.size() + alone_queue_.size()) +
          " that are queued, for the frames of results that came before are still held",
      "let go of each result when it has been used, as the sink of stream() can, or give each "
      "worker more room than PoolOptions::frame_bytes of " +
          std::to_string(options_.frame_bytes));
}

Result<std::vector<JobResult>> WorkerPool::drain(std::chrono::milliseconds timeout) {
  const std::int64_t until = after(now_ns(), timeout);
  std::vector<JobResult> all;
  while (in_flight() > 0) {
    const std::int64_t left =
        until == kNever ? kNever - 999'999 : std::max<std::int64_t>(until - now_ns(), 0);
    auto came = wait(std::chrono::milliseconds((left + 999'999) / 1'000'000));
    if (!came && all.empty()) return came.error();
    if (!came || came->empty()) break;  // Too late, or interrupted.
    std::move(came->begin(), came->end(), std::back_inserter(all));
    if (now_ns() >= until || interrupted_.exchange(false)) break;
  }
  return all;
}

void WorkerPool::interrupt() {
  const int before = errno;  // Of whoever a signal has interrupted.
  interrupted_.store(true);
  doorbell_.ring();
  errno = before;
}

// ---- Handing out ----

bool WorkerPool::has_room(const Process& process) const {
  if (process.state != State::kActive || !process.settled || process.killed_ns != 0) return false;
  if (process.held.empty()) return true;
  return process.held.size() < static_cast<std::size_t>(options_.max_demand) &&
         !ledger_.alone(process.held.front().ticket);
}

// Suspects go first, to workers only that have executed nothing yet; while one waits for a worker
// to be retired, none is kept busy by others, or it might wait for ever. A job without room for its
// output holds nobody up: those behind it may be the ones whose results let go of the room.
void WorkerPool::dispatch() {
  std::size_t without_room = 0;  // Of those at the head of the queue.
  while (!failure_) {
    if (!alone_queue_.empty()) {
      const Offer offered = offer(alone_queue_.front());
      if (offered == Offer::kNoWorker && !unused_one_comes()) return;
      if (offered == Offer::kTaken) {
        alone_queue_.pop_front();
        continue;
      }
    }
    if (without_room == queue_.size()) return;
    const Offer offered = offer(queue_[without_room]);
    if (offered == Offer::kNoWorker) return;
    if (offered == Offer::kNoRoom) {
      ++without_room;
    } else {
      queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(without_room));
    }
  }
}

// Whether a worker that has executed nothing is on its way, or begins to be: an idle one is retired
// for it. One at a time, for there may be no room for more processes now.
bool WorkerPool::unused_one_comes() {
  if (replacing_) return true;
  Process* idle = nullptr;
  bool vacant = false;
  for (const Place& place : places_) {
    if (!place.cell) {
      vacant = true;
      continue;
    }
    Process& process = processes_[*place.cell];
    if (process.state == State::kActive && !process.settled && !process.used) return true;
    if (has_room(process) && process.held.empty()) idle = &process;
  }
  const auto starts = [](const Process& process) { return process.state == State::kStarting; };
  if (vacant && (refill_at_ns_ == 0 || std::any_of(processes_.begin(), processes_.end(), starts))) {
    return true;
  }
  if (idle == nullptr) return false;
  retire(*idle);
  return true;
}

// To the worker that holds the least; if it has no room for the output, to any other.
WorkerPool::Offer WorkerPool::offer(Ticket ticket) {
  const bool alone = ledger_.alone(ticket);
  const auto may_take = [&](const Process& process) {
    return has_room(process) && (!alone || !process.used);
  };
  Process* best = nullptr;
  for (const Place& place : places_) {
    if (!place.cell) continue;
    Process& process = processes_[*place.cell];
    if (may_take(process) && (best == nullptr || process.held.size() < best->held.size())) {
      best = &process;
    }
  }
  if (best == nullptr) return Offer::kNoWorker;
  // What is found there later is then the doing of who was alone with it.
  if (alone && !memory_.is_clean(best->cell, best->next_completion)) {
    kill_for_nonsense(*best);
    return offer(ticket);
  }
  if (hand_out(*best, ticket)) return Offer::kTaken;
  for (const Place& place : places_) {
    if (!place.cell || *place.cell == best->cell) continue;
    Process& process = processes_[*place.cell];
    if (may_take(process) && hand_out(process, ticket)) return Offer::kTaken;
  }
  return Offer::kNoRoom;
}

// False, and nothing has changed, when there is no room for its output.
bool WorkerPool::hand_out(Process& process, Ticket ticket) {
  const Job& job = ledger_.job(ticket);
  Frame output;
  if (job.output_bytes > 0) {
    output = frames_->allocate_output(region_of(process.cell), job.output_bytes);
    if (!output) return false;
  }
  const std::uint64_t position = process.next_order;
  ledger_.lend(ticket, {process.cell, process.generation, position});
  if (process.held.empty()) process.progress_ns = process.heartbeat_ns = now_ns();
  const Order given{OrderKind::kJob,
                    static_cast<std::uint32_t>(*process.place),
                    process.incarnation,
                    ledger_.executions(ticket) + 1,
                    job.item,
                    job.part,
                    output.ref().offset,
                    job.output_bytes};
  process.used = true;
  process.held.push_back({position, ticket, std::move(output), process.cell, process.generation});
  order(process, given, job.arguments);
  return true;
}

void WorkerPool::order(Process& process, const Order& given, std::string_view arguments) {
  memory_.write_order(process.cell, process.next_order++, given, arguments);
  call(process);
}

// The process looks at its desk.
void WorkerPool::call(Process& process) {
  Desk& desk = memory_.desk(process.cell);
  if (must_wake(desk.signal, memory_.cell(process.cell).sleeps, process.last_call)) {
    futex_wake(desk.signal);
  }
}

// ---- Taking in ----

// True when there was anything.
bool WorkerPool::collect() {
  bool any = false;
  for (Process& process : processes_) {
    if (process.alive() && collect_from(process)) any = true;
  }
  return any;
}

bool WorkerPool::collect_from(Process& process) {
  bool any = false;
  const std::uint32_t generation = process.generation;
  // Who has written nonsense is not listened to any more: it would be news for ever.
  while (!failure_ && process.alive() && process.generation == generation && !process.nonsense) {
    Completion completion;
    JobOutput output;
    const auto found =
        memory_.read_completion(process.cell, process.next_completion, completion, output);
    if (found == CellMemory::Found::kNothing) break;
    any = true;
    if (found == CellMemory::Found::kNonsense) {
      kill_for_nonsense(process);
      return any;
    }
    ++process.next_completion;
    take_completion(process, completion, std::move(output));
  }
  if (any) process.progress_ns = process.heartbeat_ns = now_ns();
  return any;
}

void WorkerPool::take_completion(Process& process, const Completion& completion, JobOutput output) {
  switch (completion.kind) {
    case CompletionKind::kReady:
      process.ready = true;
      return become_spare(process);
    case CompletionKind::kActive:
      process.takeover = Frame();  // It takes nothing over any more.
      process.settled = true;
      return;
    case CompletionKind::kJob:
      return take_result(process, completion, std::move(output));
    case CompletionKind::kBroken:
      break;
    case CompletionKind::kDeclined:
      for (auto held = process.held.begin(); held != process.held.end(); ++held) {
        if (!is_of(*held, completion)) continue;
        let_go(process, std::move(*held));
        process.held.erase(held);
        return;
      }
      return;
  }
  kill_for_nonsense(process);
}

bool WorkerPool::is_of(const Held& held, const Completion& completion) {
  return held.position == completion.position && held.source == completion.source &&
         held.source_generation == completion.generation;
}

// A result counts if its job is held by this process, or by the one that it took over from.
void WorkerPool::take_result(Process& process, const Completion& completion, JobOutput output) {
  if (completion.source >= processes_.size()) {
    return kill_for_nonsense(process);
  }
  process.told_source = completion.source;
  process.told_position = completion.position;
  Process& source = processes_[completion.source];
  const bool own = &source == &process;
  Frame filled;
  if (!own && process.settled) {  // It takes nothing over any more.
    return kill_for_nonsense(process);
  }
  if (!own) {
    process.heir_of = completion.source;
    process.used = true;
    filled = std::exchange(process.takeover, Frame());
  }
  const auto find = [&completion](Process& holder) {
    return std::find_if(holder.held.begin(), holder.held.end(),
                        [&](const Held& held) { return is_of(held, completion); });
  };
  Process* holder = &process;
  auto held = find(process);
  if (held == process.held.end() && !own) {
    holder = &source;
    held = find(source);
  }
  if (held == holder->held.end()) {
    ++statistics_.rejected;
  } else {
    const Job& job = ledger_.job(held->ticket);
    if (own) filled = std::move(held->output);
    if (job.item != completion.item || job.part != completion.part ||
        output.frame_bytes > std::min(job.output_bytes, filled.size())) {
      return kill_for_nonsense(process);
    }
    accept(*holder, held, process, std::move(output), std::move(filled));
  }
  // Its death is not proved yet, but nobody else takes over.
  if (!own && source.state == State::kActive && source.generation == completion.generation) {
    suspect(source);
  }
}

void WorkerPool::accept(Process& holder, std::deque<Held>::iterator held, const Process& doer,
                        JobOutput output, Frame filled) {
  frames_->shrink(filled, output.frame_bytes);
  const bool taken_over = held->source != doer.cell;
  if (taken_over) ++statistics_.take_overs;
  // If it was handed over, then hand_over() has noted that.
  if (&holder != &doer) holder.died_in = unit_of(*held);
  const Holder claimed{holder.cell, holder.generation, held->position};
  // This one, and that of the dead holder.
  const bool uncounted = &holder != &doer && !holder.counted;
  const std::uint32_t attempts = ledger_.executions(held->ticket) + (uncounted ? 2 : 1);
  auto closed =
      ledger_.accept(held->ticket, claimed, std::move(output), std::move(filled), attempts);
  CRASHWORTHY_CHECK(closed.has_value(), claimed.cell, claimed.position);
  holder.held.erase(held);
  close(*std::move(closed));
}

// ---- Waiting ----

// A job that has zeroed its cell has taken back what had been told but not read; the worker goes on
// behind that, and nothing more can be read.
void WorkerPool::look_for_gaps() {
  for (Process& process : processes_) {
    if (process.held.size() < 3 || process.state != State::kActive) continue;
    if (memory_.has_gap(process.cell, process.next_completion, process.held.size())) {
      kill_for_nonsense(process);
    }
  }
}

bool WorkerPool::spin_for_news() {
  if (options_.spin.count() == 0) return false;
  const std::int64_t until = now_ns() + options_.spin.count();
  do {
    for (int i = 0; i < kSpinsPerLook; ++i) {
      if (collect()) return true;
      relax();
    }
  } while (now_ns() < until);
  return false;
}

// Sleeps, in look(), until there may be something to do, at most until `until_ns`, and does what is
// not in the rings: reports of the zygotes, the dead, the hung.
void WorkerPool::wait_for_news(std::int64_t until_ns) {
  const bool again = refill_at_ns_ != 0 && now_ns() >= refill_at_ns_;
  if (again) zygotes_.retry_twin();
  refill();
  if (again) take_reports();  // Which asks for the twin.
  if (zygotes_.lacks_twin() && refill_at_ns_ == 0) refill_later();
  if (failure_) return;
  const bool news = spin_for_news();
  if (!news || looks_due()) look(news ? 0 : until_ns);
}

// Whether it is time to look at what is not in the rings, although there is news in them.
bool WorkerPool::looks_due() const { return !failure_ && now_ns() - looked_ns_ >= kLookNs; }

void WorkerPool::look(std::int64_t until_ns) {
  std::array<pollfd, 1 + Zygotes::kCount> polls{pollfd{doorbell_.fd(), POLLIN, 0}};
  const auto sockets = zygotes_.sockets();
  for (std::size_t i = 0; i < sockets.size(); ++i) polls[1 + i] = {sockets[i], POLLIN, 0};
  until_ns = std::min(until_ns, next_deadline());
  look_for_gaps();
  fall_asleep(memory_.board().coordinator_sleeps);
  // What the zygotes have told is taken in any case, before they are judged by their silence.
  if (collect() || look_for_the_dead()) until_ns = 0;
  const std::int64_t left = std::max<std::int64_t>(until_ns - now_ns(), 0);
  const timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
  // Interrupted, or out of memory for a moment: then the caller comes again.
  const bool polled =
      ::ppoll(polls.data(), polls.size(), until_ns == kNever ? nullptr : &timeout, nullptr) >= 0;
  if (!polled) {
    for (pollfd& poll : polls) poll.revents = 0;
  }
  wake_up(memory_.board().coordinator_sleeps);
  if (polls[0].revents != 0) doorbell_.clear();
  collect();  // Before the deaths and the deadlines: what is finished is finished.
  look_for_the_dead();
  if (polls[1].revents != 0 || polls[2].revents != 0) take_reports();
  if (limbo_ > 0) check_orphans();
  if (!failure_ && polled) kill_hung(now_ns());
  looked_ns_ = now_ns();
}

}  // namespace crashworthy

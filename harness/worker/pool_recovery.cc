// What the pool does when a process starts, dies or hangs.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/check.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/worker/run_job.h"
#include "harness/worker/worker_pool.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// How long a process whose zygote died before it told of it may still be about. The kernel kills it
// with its zygote.
constexpr std::int64_t kLimboNs = 2'000'000'000;
constexpr int kOrphanLookMs = 1;
// How often we look at least whether a job has begun whose deadline is shorter.
constexpr std::chrono::milliseconds kBeginLook{1};
// A worker that is slow to begin is no hung job, however short that one's deadline.
constexpr std::chrono::seconds kBeginPatience{1};

// How long a process without a job may take at least to become active, and to start.
constexpr std::int64_t kSettlingNs = 1'000'000'000;
constexpr std::int64_t kStartingNs = 10'000'000'000;
// More at once would only keep each other, and their zygotes, from the CPUs.
constexpr std::size_t kStartsAtOnce = 8;
// When a failed fork is tried again.
constexpr std::int64_t kRefillNs = 500'000'000;
// How long a zygote may take to tell of a process that has been killed.
constexpr std::int64_t kTellingNs = 1'000'000'000;
// So many of these for one that is not stopped: the machine may be busy.
constexpr int kMostUntold = 30;

// Never, if the bound is 0 or far away.
std::int64_t add(std::int64_t time_ns, std::chrono::nanoseconds bound) {
  const std::int64_t ns = bound.count();
  return ns == 0 || ns > kNever - time_ns ? kNever : time_ns + ns;
}

}  // namespace

WorkerPool::WorkerPool(const PoolOptions& options, WorkerSetup setup, CellMemory memory,
                       std::shared_ptr<FrameArena> frames, Doorbell doorbell)
    : options_(options),
      memory_(std::move(memory)),
      frames_(std::move(frames)),
      doorbell_(std::move(doorbell)),
      setup_(std::move(setup)),
      probe_(setup_.probe),
      guarding_(options.spares > 0 && options.restart && options.redeliver && options.take_over &&
                can_guard()),
      processes_(memory_.cells()),
      places_(static_cast<std::size_t>(options.workers)),
      budget_(options.intensity, options.period.count()),
      zygotes_({[this] {
                  doorbell_.stop_listening();
                  seal_other_pools();
                  memory_.seal_all();
                  frames_->seal_all();
                  if (!setup_.warm_up) return;
                  JobContext nobody;  // Its output goes nowhere: it writes to private memory.
                  std::vector<std::byte> output(setup_.warm_up->output_bytes);
                  nobody.output = output;
                  nobody.frames = frames_.get();
                  [[maybe_unused]] const JobOutput dropped =
                      setup_.function(*setup_.warm_up, nobody);
                },
                [this](std::uint32_t cell) { run_worker(setup_, cell); }}) {
  setup_.memory = &memory_;
  setup_.frames = frames_.get();
  setup_.doorbell = &doorbell_;
  for (std::size_t i = 0; i < processes_.size(); ++i) {
    processes_[i].cell = static_cast<std::uint32_t>(i);
  }
  enlist();
}

WorkerPool::~WorkerPool() {
  if (!owner_.is_here()) return;  // The pool is the other process's.
  strike();
  memory_.board().closing.store(1);
  if (failure_) return;
  // Who has nothing to do ends by itself, and prints what its jobs have printed.
  for (Process& process : processes_) {
    if (process.alive() && process.state != State::kEnding) order(process, {OrderKind::kEnd}, {});
  }
  constexpr std::int64_t kEndPatienceNs = 100'000'000;
  const std::int64_t until = now_ns() + kEndPatienceNs;
  for (const Process& process : processes_) {
    if (!process.pidfd.valid()) continue;
    const std::int64_t left = std::max<std::int64_t>(until - now_ns(), 0);
    wait_for_end(process.pidfd.get(), static_cast<int>(left / 1'000'000));
  }
  // A frame may be let go of after this, but nobody writes to one any more.
  end_all();
}

// ---- Other pools ----

namespace {

// The pools of this process, and all arenas, which may outlive theirs: none of them is the affair
// of another one's jobs.
struct All {
  std::mutex mutex;
  std::vector<WorkerPool*> pools;
  std::vector<std::weak_ptr<FrameArena>> arenas;
};

All& all() {
  static All* const all = new All;  // Never destroyed: pools may be static, too.
  return *all;
}

}  // namespace

void WorkerPool::enlist() {
  const std::lock_guard lock(all().mutex);
  auto& arenas = all().arenas;
  std::erase_if(arenas, [](const auto& arena) { return arena.expired(); });
  arenas.push_back(frames_);
  all().pools.push_back(this);
}

void WorkerPool::strike() {
  const std::lock_guard lock(all().mutex);
  std::erase(all().pools, this);
}

// In our first zygote.
void WorkerPool::seal_other_pools() {
  for (WorkerPool* pool : all().pools) {
    if (pool == this) continue;
    pool->doorbell_ = Doorbell();
    pool->memory_.seal_all();
  }
  for (const auto& each : all().arenas) {
    const auto arena = each.lock();
    if (arena != nullptr && arena != frames_) arena->give_up();
  }
}

// ---- Starting ----

Result<void> WorkerPool::boot() {
  if (auto booted = zygotes_.boot(); !booted) return booted.error();
  const auto settling = [](const Process& process) {
    return process.state == State::kStarting ||
           (process.state == State::kActive && !process.settled);
  };
  std::size_t missing = wanted();
  while (!failure_ &&
         (missing > 0 || std::any_of(processes_.begin(), processes_.end(), settling))) {
    for (; missing > 0 && starting() < kStartsAtOnce; --missing) {
      if (auto started = start_process(); !started) return started.error();
    }
    if (!collect()) wait_for_news(kNever);
    if (unready_deaths_ > 0 && !failure_) {
      return Error{ErrorKind::kGone, 0, "a worker " + last_death_ + " before it was ready",
                   "every worker executes the warm-up job: does it work by itself?"};
    }
  }
  booted_ = true;
  if (failure_) return *failure_;
  if (std::all_of(places_.begin(), places_.end(), [](const Place& place) { return !place.cell; })) {
    return Error{ErrorKind::kSystem, 0, "no worker of the pool could be started",
                 "is there room for processes and descriptors (ulimit -u, ulimit -n)?"};
  }
  return {};
}

std::size_t WorkerPool::wanted() const {
  return places_.size() + static_cast<std::size_t>(options_.spares);
}

std::size_t WorkerPool::starting() const {
  return static_cast<std::size_t>(
      std::count_if(processes_.begin(), processes_.end(),
                    [](const Process& process) { return process.state == State::kStarting; }));
}

WorkerPool::Process* WorkerPool::free_cell() {
  const auto free = std::find_if(processes_.begin(), processes_.end(), [](const Process& process) {
    return process.state == State::kFree;
  });
  return free == processes_.end() ? nullptr : &*free;
}

// Without a free cell (many processes are being taken down) nothing happens, until one is.
Result<void> WorkerPool::start_process() {
  Process* process = free_cell();
  if (process == nullptr) return {};
  Process fresh;
  fresh.cell = process->cell;
  fresh.generation = process->generation + 1;
  fresh.next_order = process->next_order;
  fresh.next_completion = process->next_completion;
  fresh.state = State::kStarting;
  fresh.born_ns = now_ns();
  if (options_.output_bytes > 0) {
    fresh.takeover = frames_->allocate_output(region_of(fresh.cell), options_.output_bytes);
  }
  memory_.reset(fresh.cell);
  CellCard& card = memory_.desk(fresh.cell).card;
  card.generation.store(fresh.generation);
  card.incarnation.store(0);
  card.first_order.store(fresh.next_order);
  card.first_completion.store(fresh.next_completion);
  card.takeover_offset.store(fresh.takeover.ref().offset);
  card.takeover_bytes.store(fresh.takeover.size());
  auto zygote = zygotes_.fork_worker(fresh.cell, fresh.generation);
  if (!zygote) return zygote.error();
  fresh.zygote = *zygote;
  *process = std::move(fresh);
  return {};
}

// Asks for what is missing of workers and spares, some at a time; when they are there this is
// called again.
void WorkerPool::refill() {
  if (!options_.restart || !booted_ || failure_ || now_ns() < refill_at_ns_) return;
  refill_at_ns_ = 0;
  std::size_t there = 0;
  for (const Process& process : processes_) {
    there += process.state == State::kStarting || process.state == State::kSpare ||
             process.state == State::kActive;
  }
  std::size_t starts = starting();
  for (; there < wanted() && starts < kStartsAtOnce && free_cell() != nullptr; ++there, ++starts) {
    if (auto started = start_process(); !started) {
      return refill_later();
    }
  }
}

// There is no room for processes now: that is tried again in a while.
void WorkerPool::refill_later() {
  if (options_.restart) refill_at_ns_ = now_ns() + kRefillNs;
}

void WorkerPool::take_reports() {
  auto reports = zygotes_.reports();
  if (!reports) return fail(reports.error());
  for (ZygoteReport& report : *reports) {
    if (failure_) return;
    if (report.kind == ZygoteReport::Kind::kGone) {
      on_zygote_death(report.zygote);
    } else {
      take_report(report);
    }
  }
  if (!failure_) refill();
}

void WorkerPool::take_report(ZygoteReport& report) {
  Process& process = processes_.at(report.cell);
  if (process.generation != report.generation || !process.alive()) return;
  switch (report.kind) {
    case ZygoteReport::Kind::kStarted:
      return on_started(process, report);
    case ZygoteReport::Kind::kFailed:
      process.state = State::kFree;
      process.takeover = Frame();
      // With what is there the pool still works.
      refill_later();
      if (std::none_of(processes_.begin(), processes_.end(),
                       [](const Process& other) { return other.alive(); })) {
        fail(system_error("fork a worker", report.value));
      }
      return;
    case ZygoteReport::Kind::kEnded:
      return on_end(process, WaitStatus::from_raw(report.value));
    default:
      return;
  }
}

void WorkerPool::on_started(Process& process, ZygoteReport& report) {
  process.pid = report.pid;
  process.pidfd = std::move(report.pidfd);
  if (!process.pidfd.valid()) {
    // No room for its descriptor here: nobody could end it.
    process.state = State::kEnding;
    process.unused = true;
    return order(process, {OrderKind::kEnd}, {});
  }
  process.progress_ns = now_ns();
  memory_.desk(process.cell).card.pid.store(report.pid);
  if (process.state == State::kEnding) return kill(process);
  become_spare(process);
}

// Once it is ready, and its zygote has told who it is.
void WorkerPool::become_spare(Process& process) {
  if (process.state != State::kStarting || !process.ready || process.pid == 0) return;
  process.state = State::kSpare;
  replacing_ = false;
  guards_stale_ = true;
  fill_places();
  assign_guards();
}

void WorkerPool::fill_places() {
  for (Place& place : places_) {
    if (place.cell) continue;
    Process* next = nullptr;
    for (Process& process : processes_) {
      if (process.state != State::kSpare) continue;
      // Who took over from the last one has told the probe that it is the next one.
      const bool heir = place.last && process.heir_of == place.last;
      if (next == nullptr || heir) next = &process;
      if (heir) break;
    }
    if (next == nullptr) return;
    activate(place, *next);
  }
}

// Makes `process` the next incarnation of the place. Should it be dead already, then its zygote
// tells so soon, like any other death.
void WorkerPool::activate(Place& place, Process& process) {
  const auto number = static_cast<std::uint32_t>(&place - places_.data());
  process.state = State::kActive;
  process.place = number;
  process.incarnation = ++place.incarnation;
  process.settled = false;
  process.progress_ns = process.heartbeat_ns = now_ns();
  place.cell = process.cell;
  CellCard& card = memory_.desk(process.cell).card;
  card.place.store(number);
  card.incarnation.store(process.incarnation);
  const bool heir = place.last && process.heir_of == place.last;
  if (place.incarnation > 1 && !heir) {
    probe_.emit_for(process.pid, ProbeEvent::kReplacement, process.who());
  }
  place.last.reset();
  guards_stale_ = true;
  order(process, {OrderKind::kActivate, number, process.incarnation}, {});
}

// ---- Dying ----

// The process seems dead: nobody waits for it any more. What it had not begun goes to others at
// once; what it was executing is its heir's, or waits for the proof of how it died.
void WorkerPool::suspect(Process& process) {
  collect_from(process);  // What it has finished is finished.
  if (failure_ || process.state != State::kActive) return;
  ++statistics_.suspicions;
  kill(process);
  leave_place(process);
  const auto executed = executing(process);
  for (std::size_t i = process.held.size(); i-- > 0;) {
    Held& held = process.held[i];
    if (i != executed) {
      let_go(process, std::move(held));
    } else if (Process* taker = heir(process, held)) {
      // Its own output goes only when nobody can write there any more.
      process.takeover = std::move(held.output);
      hand_over(*taker, process, held);
    } else {
      continue;
    }
    process.held.erase(process.held.begin() + static_cast<std::ptrdiff_t>(i));
  }
  fill_places();
  assign_guards();
}

// The one that comes next may be its heir.
void WorkerPool::leave_place(const Process& process) {
  if (!process.place) return;
  Place& place = places_[*process.place];
  if (place.cell != process.cell) return;
  place.cell.reset();
  place.last = process.cell;
}

void WorkerPool::kill(Process& process) {
  process.state = State::kEnding;
  process.ending_ns = now_ns();
  guards_stale_ = true;
  send_kill(process);
}

// Ends a worker that holds nothing.
void WorkerPool::retire(Process& process) {
  forbid_take_over(memory_.desk(process.cell).card.generation);
  process.retired = true;
  process.state = State::kEnding;
  process.ending_ns = now_ns();
  order(process, {OrderKind::kEnd}, {});
  leave_place(process);
  replacing_ = true;
  guards_stale_ = true;
  fill_places();
  assign_guards();
}

// If we have given up the right to kill it since it was forked, its zygote has not.
void WorkerPool::send_kill(const Process& process) {
  if (!process.pidfd.valid()) return;
  const auto sent = send_signal(process.pidfd.get(), SIGKILL);  // Gone already is as good.
  if (!sent && sent.error().sys_errno == EPERM) {
    zygotes_.kill_worker(process.zygote, process.cell, process.generation);
  }
}

void WorkerPool::kill_for_nonsense(Process& process) {
  if (process.state != State::kEnding) ++statistics_.nonsense;
  process.nonsense = true;
  kill(process);
}

void WorkerPool::on_zygote_death(std::uint32_t zygote) {
  ++statistics_.zygote_deaths;
  last_death_ = "died with its zygote";
  for (Process& process : processes_) {
    if (!process.alive() || process.zygote != zygote) continue;
    if (process.pidfd.valid()) {
      process.orphaned = true;
      send_kill(process);
    } else {
      process.state = State::kLimbo;
      process.takeover = Frame();
      process.limbo_until_ns = now_ns() + kLimboNs;
    }
  }
  refill_at_ns_ = 0;
  check_orphans();
}

// Those whose end no zygote will tell.
void WorkerPool::check_orphans() {
  const std::int64_t now = now_ns();
  limbo_ = 0;
  for (Process& process : processes_) {
    if (failure_) return;
    if (process.state == State::kLimbo) {
      if (now >= process.limbo_until_ns) process.state = State::kFree;
    } else if (process.orphaned && has_ended(process.pidfd.get())) {
      // It was killed by the kernel, unless it had died by itself just before.
      const auto told = exit_status_from_kernel(process.pidfd.get());
      on_end(process, told ? *told : WaitStatus::from_raw(SIGKILL));
      continue;
    }
    limbo_ += process.orphaned || process.state == State::kLimbo;
  }
  refill();
}

// The proof of a death: nothing of the process writes any more.
void WorkerPool::on_end(Process& process, WaitStatus status) {
  if (process.unused) {
    forbid_take_over(memory_.desk(process.cell).card.generation);
    process.orphaned = false;
    process.state = State::kFree;
    process.pid = 0;
    process.takeover = Frame();
    return refill_later();
  }
  forbid_take_over(memory_.desk(process.cell).card.generation);
  collect();  // What it, or an heir, finished is finished.
  if (failure_) return;
  if (!process.retired) {
    ++statistics_.worker_deaths;
    if (!process.ready) ++unready_deaths_;
    last_death_ = (status.signalled() ? "was " : "") + status.describe();
    if (const auto unit = executed_by(process)) {
      last_death_ += " while it executed " + job_name(unit->item, unit->part);
    }
    tell_of_death(process, status);
  }
  const bool of_its_job = settle_held(process, status);
  leave_place(process);
  process.state = State::kFree;
  process.orphaned = false;
  process.pid = 0;
  process.pidfd.reset();
  process.takeover = Frame();
  guards_stale_ = true;
  refill_at_ns_ = 0;
  const bool counts = !of_its_job && !process.retired;
  if (options_.restart && counts && !budget_.spend(now_ns())) return give_up();
  if (options_.restart) {
    fill_places();
    assign_guards();
    refill();
  } else if (std::none_of(processes_.begin(), processes_.end(),
                          [](const Process& other) { return other.alive(); })) {
    fail({ErrorKind::kGone, 0, "no worker is left: the last one " + last_death_,
          "workers are not replaced here (restart is off)"});
  }
}

// More have died, by no job's doing, than a pool that can work at all would lose.
void WorkerPool::give_up() {
  const std::string most = std::to_string(options_.intensity);
  const std::string period = format_duration(static_cast<double>(options_.period.count()));
  fail({ErrorKind::kGone, 0,
        "the worker pool gave up: more than " + most + " deaths of workers within " + period +
            " that were no job's own making, the last one " + last_death_,
        "they were killed (by the kernel, if memory ran out: see dmesg), or died without a job; if "
        "so many are expected, raise PoolOptions::intensity, which is " +
            most + ", or lower PoolOptions::period, which is " + period});
}

// What it was executing when it died, whoever holds that by now.
std::optional<WorkerPool::Unit> WorkerPool::executed_by(const Process& dead) const {
  const auto executed = executing(dead);
  if (executed && !dead.counted) return unit_of(dead.held[*executed]);
  if (dead.died_in) return dead.died_in;
  for (const Process& holder : processes_) {
    for (const Held& held : holder.held) {
      if (held.source != dead.cell && dead.settled) continue;
      if (begun(dead, held)) return unit_of(held);
    }
  }
  return std::nullopt;
}

void WorkerPool::tell_of_death(const Process& process, WaitStatus status) {
  if (!process.place) {
    probe_.emit_for(process.pid, ProbeEvent::kWorkerDied, {kSpareWorker, 0}, kNoItem, 0, 0,
                    status.raw());
    return;
  }
  const auto executed = executing(process);
  const bool own = executed && !process.counted;
  const Unit unit = own ? unit_of(process.held[*executed]) : process.died_in.value_or(Unit());
  probe_.emit_for(process.pid, ProbeEvent::kWorkerDied, process.who(), unit.item, unit.part,
                  unit.attempt, status.raw());
}

// ---- Hanging ----

// When the process is to be killed as hung, if nothing comes from it before.
std::int64_t WorkerPool::hung_at(Process& process) const {
  if (process.killed_ns != 0) return kNever;
  if (process.held.empty()) return stuck_at(process);
  if (process.state != State::kActive && process.state != State::kSpare) return kNever;
  const Cell& cell = memory_.cell(process.cell);
  const auto executed = executing(process);
  const Job& job = ledger_.job(process.held[executed.value_or(0)].ticket);
  auto deadline = executed ? deadline_of(job) : options_.deadline;
  // A worker that is slow to begin is no hung job, however short that one's deadline.
  if (deadline.count() == 0 && job.deadline.count() > 0) {
    deadline = std::max<std::chrono::nanoseconds>(job.deadline, kBeginPatience);
  }
  std::int64_t first = add(began_ns(process, now_ns()), deadline);
  if (options_.heartbeat.count() > 0) {
    const std::uint64_t beats = cell.heartbeats.load(std::memory_order_acquire);
    if (beats != std::exchange(process.heartbeats, beats)) process.heartbeat_ns = now_ns();
    const std::int64_t silent = add(process.heartbeat_ns, options_.heartbeat);
    process.silent = silent < first;
    first = std::min(first, silent);
  }
  return first;
}

// When a process that holds nothing is to be killed because it does not get on: it was stopped
// before it could do what it does without any job. What it takes over meanwhile has its own time.
std::int64_t WorkerPool::stuck_at(const Process& process) const {
  if (options_.deadline.count() == 0) return kNever;
  const std::int64_t bound = std::min(options_.deadline.count(), kNever / 2);
  const auto within = [&](std::int64_t least) {
    return add(process.progress_ns, std::chrono::nanoseconds(std::max(2 * bound, least)));
  };
  if (process.state == State::kActive && !process.settled) return within(kSettlingNs);
  if (process.state == State::kStarting && process.pid != 0) return within(kStartingNs);
  return kNever;
}

std::int64_t WorkerPool::next_deadline() {
  std::int64_t next = zygotes_.silent_at();
  if (refill_at_ns_ != 0) next = std::min(next, refill_at_ns_);
  if (limbo_ > 0) next = std::min(next, now_ns() + kOrphanLookMs * 1'000'000);
  const std::int64_t now = now_ns();
  for (Process& process : processes_) {
    next = std::min({next, hung_at(process), untold_at(process)});
    if (process.state != State::kActive || process.killed_ns != 0) continue;
    // Nobody tells when a worker begins its next job: it may not have got far when we look again.
    for (const Held& held : process.held) {
      const auto deadline = deadline_of(ledger_.job(held.ticket));
      if (deadline.count() == 0 || begun(process, held)) continue;
      next = std::min(next, add(now, std::max<std::chrono::nanoseconds>(deadline, kBeginLook)));
    }
  }
  return next;
}

void WorkerPool::kill_hung(std::int64_t now) {
  zygotes_.kill_silent(now);
  kill_untelling(now);
  for (Process& process : processes_) {
    if (hung_at(process) > now) continue;
    ++statistics_.hung;
    process.killed_ns = process.ending_ns = now;
    send_kill(process);
  }
}

// When its zygote should have told of the end of a process that was killed.
std::int64_t WorkerPool::untold_at(const Process& process) {
  const bool waited_for = process.alive() && !process.orphaned && process.ending_ns != 0;
  return waited_for ? process.ending_ns + kTellingNs : kNever;
}

// A zygote that does not tell of a dead child is stopped, or worse. Its own death makes its
// processes orphans, whose end we see ourselves.
void WorkerPool::kill_untelling(std::int64_t now) {
  for (Process& process : processes_) {
    if (untold_at(process) > now) continue;
    process.ending_ns = now;
    if (!process.pidfd.valid()) continue;
    if (has_ended(process.pidfd.get())) {
      if (++process.untold >= kMostUntold || !zygotes_.runs(process.zygote)) {
        zygotes_.kill(process.zygote);
      }
    } else {
      send_kill(process);  // The zygote may have had no room for our word.
    }
  }
}

// ---- Ending ----

void WorkerPool::fail(Error error) {
  failure_ = with_limit_hint(std::move(error));
  for (auto& [serial, result] : early_) results_.push_back(std::move(result));
  early_.clear();
  end_all();
}

// The zygotes kill whom we may not. If one of them cannot be ended, neither can its workers.
void WorkerPool::end_all() {
  for (const Process& process : processes_) send_kill(process);
  const bool all = zygotes_.end();
  for (const Process& process : processes_) {
    if (process.pidfd.valid()) wait_for_end(process.pidfd.get(), all ? -1 : 0);
  }
}

PoolStatistics WorkerPool::statistics() const { return statistics_; }

std::vector<pid_t> WorkerPool::workers() const {
  std::vector<pid_t> pids;
  for (const Place& place : places_) pids.push_back(place.cell ? processes_[*place.cell].pid : 0);
  return pids;
}

std::vector<pid_t> WorkerPool::spares() const {
  std::vector<pid_t> pids;
  for (const Process& process : processes_) {
    if (process.state == State::kSpare) pids.push_back(process.pid);
  }
  return pids;
}

}  // namespace crashworthy

// Who watches whom, and what is known of a death before it is proved.
#include <algorithm>
#include <utility>

#include "harness/worker/worker_pool.h"

namespace crashworthy {
namespace {

std::uint64_t entry_of(std::uint32_t generation, std::uint32_t cell) {
  return std::uint64_t{generation} << 32 | (cell + 1);
}

}  // namespace

// Whether the process's lease says that it is executing the job, and no result of it has come. Once
// the process is dead: whether it was.
bool WorkerPool::begun(const Process& process, const Held& held) const {
  // A lease ends only after the result was told, and nothing more comes of it then.
  if (process.told_source == held.source && process.told_position == held.position) return false;
  return executes(memory_.cell(process.cell).lease, held.source, held.position);
}

// Which of the jobs that it holds the process is, or was, executing. A lease that cannot be was
// written by the job itself: that is the first one, for jobs are executed in their order.
std::optional<std::size_t> WorkerPool::executing(const Process& process) const {
  for (std::size_t i = 0; i < process.held.size(); ++i) {
    if (begun(process, process.held[i])) return i;
  }
  if (process.held.empty() || lease_is_plausible(process)) return std::nullopt;
  return 0;
}

// Whether the lease is of nothing, or of an order that the process was given: its result, or that
// of its heir, has come already.
bool WorkerPool::lease_is_plausible(const Process& process) const {
  const Lease& lease = memory_.cell(process.cell).lease;
  const std::uint64_t executing = lease.executing.load(std::memory_order_acquire);
  if (executing == Lease::idle(process.cell)) return true;
  return lease.source.load(std::memory_order_acquire) == process.cell &&
         executing > memory_.desk(process.cell).card.first_order.load() &&
         executing <= process.next_order;
}

// When it began to execute that. Its last sign of life, if it has not begun or its lease is not
// plausible.
std::int64_t WorkerPool::began_ns(const Process& process, std::int64_t now) const {
  const Lease& lease = memory_.cell(process.cell).lease;
  const std::int64_t started = lease.started_ns.load(std::memory_order_acquire);
  const bool usable =
      lease.executing.load(std::memory_order_acquire) != Lease::idle(process.cell) &&
      started >= process.born_ns && started <= now;
  return usable ? started : process.progress_ns;
}

WorkerPool::Unit WorkerPool::unit_of(const Held& held) const {
  const Job& job = ledger_.job(held.ticket);
  return {job.item, job.part, ledger_.executions(held.ticket) + 1};
}

// Who is executing what the dead process was executing; perhaps he seems dead himself.
WorkerPool::Process* WorkerPool::heir(const Process& dead, const Held& held) {
  for (Process& process : processes_) {
    if (!process.alive() || process.cell == dead.cell || process.cell == held.source) continue;
    if (process.settled) continue;  // It takes nothing over any more, whatever its lease says.
    if (begun(process, held)) return &process;
  }
  return nullptr;
}

void WorkerPool::hand_over(Process& heir, Process& dead, Held held) {
  if (!dead.counted) dead.died_in = unit_of(held);
  count(dead, held.ticket);
  pass(heir, std::move(held));
}

void WorkerPool::pass(Process& heir, Held held) {
  heir.heir_of = held.source;
  heir.used = true;
  ledger_.take_back(held.ticket, false);
  ledger_.lend(held.ticket, {heir.cell, heir.generation, held.position});
  held.output = Frame();  // The heir has its own.
  heir.held.push_front(std::move(held));
}

// Every worker is guarded by one spare, and spares have about as many workers each. Who is guarded
// already stays with his spare unless that has two more than another.
void WorkerPool::assign_guards() {
  if (!guarding_ || !std::exchange(guards_stale_, false)) return;
  std::vector<Process*> spares;
  for (Process& process : processes_) {
    if (process.state == State::kSpare) spares.push_back(&process);
  }
  std::vector<std::vector<std::uint64_t>> guards(processes_.size());
  const auto least = [&] {
    return *std::min_element(spares.begin(), spares.end(), [&](Process* a, Process* b) {
      return guards[a->cell].size() < guards[b->cell].size();
    });
  };
  const std::size_t active = static_cast<std::size_t>(
      std::count_if(processes_.begin(), processes_.end(),
                    [](const Process& process) { return process.state == State::kActive; }));
  const std::size_t share =
      spares.empty() ? 0 : std::min(kMaxGuarded, (active + spares.size() - 1) / spares.size());
  for (const bool keep : {true, false}) {
    for (Process& process : processes_) {
      if (process.state != State::kActive) continue;
      if (keep) {
        const bool stays = process.guard && processes_[*process.guard].state == State::kSpare &&
                           guards[*process.guard].size() < share;
        if (!stays) process.guard.reset();
      } else if (!process.guard && !spares.empty() && guards[least()->cell].size() < kMaxGuarded) {
        process.guard = least()->cell;
      } else {
        continue;
      }
      if (process.guard) {
        guards[*process.guard].push_back(entry_of(process.generation, process.cell));
      }
    }
  }
  for (Process* spare : spares) {
    if (spare->guards == guards[spare->cell]) continue;
    spare->guards = std::move(guards[spare->cell]);
    auto& desk = memory_.desk(spare->cell).guarded;
    for (std::size_t i = 0; i < desk.size(); ++i) {
      desk[i].store(i < spare->guards.size() ? spare->guards[i] : 0, std::memory_order_release);
    }
    call(*spare);
  }
}

// The guards of active workers tell the coordinator, too. True when somebody was found dead.
bool WorkerPool::look_for_the_dead() {
  if (!guarding_) return false;
  bool any = false;
  for (Process& process : processes_) {
    if (process.state != State::kActive) continue;
    if (!owner_is_dead(guard_word(memory_.cell(process.cell)).load(std::memory_order_acquire))) {
      continue;
    }
    suspect(process);
    any = true;
  }
  return any;
}

}  // namespace crashworthy

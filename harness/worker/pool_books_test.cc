// The pool's books over all orders of what can happen: a WorkerPool without processes, whose
// workers and spares the test plays in the pool's own shared memory, as worker_main.cc would, one
// step at a time: begin a lease, look at the card, execute, end, tell, die. Between them come the
// coordinator's doings: collect, look for the dead, take the proof of a death, hand out.
//
// Against them stands a plain model of a job's life: it is closed exactly once, by a result that
// somebody has told or as poison; it is never lost; each self-inflicted death of who was executing
// it is charged once, so that it is poison at the second and not handed out again; and the number
// of an attempt counts those that died before.
#include <gtest/gtest.h>
#include <linux/futex.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "harness/worker/worker_pool.h"

namespace crashworthy {

// A process as the test plays it.
struct Played {
  enum class Phase { kGone, kIdle, kBegun, kExecuting, kTold, kDeclining, kDead };
  Phase phase = Phase::kGone;
  std::uint32_t generation = 0;
  std::uint64_t next_order = 0;
  std::uint64_t next_completion = 0;
  bool spare = true;
  Order order;  // Of the job at hand...
  std::uint32_t source = 0;
  std::uint32_t source_generation = 0;
  std::uint64_t position = 0;
  std::uint32_t attempt = 0;
  std::vector<std::uint64_t> taken_over;
  int status = 0;          // Once dead...
  bool executing = false;  // ...and whether it was.
};

// What is true of a job.
struct Life {
  int proved = 0;   // Deaths of who was executing it, proved...
  int guilty = 0;   // ...and self-inflicted.
  int results = 0;  // Told by the pool.
};

struct Setting {
  int workers = 1;
  int spares = 2;
  int jobs = 1;
};

struct Event {
  enum class Kind { kStep, kDie, kProof, kCollect, kLook, kDispatch } kind;
  std::uint32_t cell = 0;
  int status = 0;
};

class PoolBooks {
 public:
  static constexpr int kMaxDeaths = 2;

  explicit PoolBooks(const Setting& setting) : played_(kCells), lives_(setting.jobs) {
    PoolOptions options;
    options.workers = setting.workers;
    options.spares = setting.spares;
    options.intensity = 1'000'000;
    options.max_attempts = 0;
    options.max_deaths = kMaxDeaths;
    options.min_demand = 0;
    options.deadline = std::chrono::nanoseconds(0);
    WorkerSetup setup;
    setup.max_take_over = kMaxDeaths;
    pool_ = std::make_unique<WorkerPool>(options, setup, CellMemory::create(kCells, 8).value(),
                                         FrameArena::create(kCells + 1, 4096).value(), Doorbell());
    for (int i = 0; i < setting.workers + setting.spares; ++i) fork(static_cast<std::uint32_t>(i));
    settle();
    for (int i = 0; i < setting.jobs; ++i)
      pool_->submit({static_cast<std::uint64_t>(i), 0, {}, 0, {}});
  }

  // What can happen now; deaths only while `may_die`.
  std::vector<Event> possible(bool may_die) const {
    std::vector<Event> all;
    for (std::uint32_t cell = 0; cell < kCells; ++cell) {
      const Played& process = played_[cell];
      if (can_step(cell)) all.push_back({Event::Kind::kStep, cell});
      if (process.phase == Played::Phase::kDead) {
        all.push_back({Event::Kind::kProof, cell});
      } else if (may_die && process.phase != Played::Phase::kGone) {
        all.push_back({Event::Kind::kDie, cell, SIGSEGV});
        all.push_back({Event::Kind::kDie, cell, SIGKILL});
      }
    }
    if (has_completion()) all.push_back({Event::Kind::kCollect});
    if (has_dead()) all.push_back({Event::Kind::kLook});
    if (!pool_->queue_.empty() || !pool_->alone_queue_.empty()) {
      all.push_back({Event::Kind::kDispatch});
    }
    return all;
  }

  void happen(const Event& event) {
    static constexpr const char* kNames[] = {"steps",   "dies", "is proved dead",
                                             "collect", "look", "dispatch"};
    for (std::size_t i = 0; i < lives_.size(); ++i) {
      story_ += std::to_string(i) + ":" + where(i) + " ";
    }
    story_ += std::string(kNames[static_cast<int>(event.kind)]) +
              (event.kind <= Event::Kind::kProof ? " " + std::to_string(event.cell) : "") +
              (event.status != 0 ? " of " + std::to_string(event.status) : "") + "\n";
    switch (event.kind) {
      case Event::Kind::kStep:
        step(event.cell);
        break;
      case Event::Kind::kDie:
        die(event.cell, event.status);
        break;
      case Event::Kind::kProof:
        prove(event.cell);
        break;
      case Event::Kind::kCollect:
        pool_->collect();
        break;
      case Event::Kind::kLook:
        pool_->look_for_the_dead();
        break;
      case Event::Kind::kDispatch:
        pool_->dispatch();
        break;
    }
    take_results();
  }

  // Nobody dies any more; what is missing is forked; until nothing can happen.
  void settle() {
    for (int round = 0; round < 500; ++round) {
      replace();
      const auto all = possible(false);
      if (all.empty()) return;
      happen(all.front());
    }
    violate("it does not end");
  }

  void check_end() {
    for (const Life& life : lives_) {
      if (life.results == 0) violate("a job is lost, or stuck");
    }
    if (pool_->in_flight() != 0) violate("the pool still has jobs");
    if (pool_->statistics_.nonsense != 0) violate("a completion was taken for nonsense");
    if (pool_->failure_) violate("the pool has failed");
  }

  void replace() {
    int alive = 0;
    for (const Played& process : played_) {
      alive += process.phase != Played::Phase::kGone && process.phase != Played::Phase::kDead;
    }
    const auto wanted = static_cast<int>(pool_->places_.size()) + pool_->options_.spares;
    for (std::uint32_t cell = 0; cell < kCells && alive < wanted; ++cell) {
      if (pool_->processes_[cell].state != WorkerPool::State::kFree) continue;
      fork(cell);
      ++alive;
    }
  }

  const std::optional<std::string>& violation() const { return violation_; }
  const std::string& story() const { return story_; }

 private:
  using Phase = Played::Phase;
  static constexpr std::uint32_t kCells = 6;

  CellMemory& memory() const { return pool_->memory_; }
  Lease& lease(std::uint32_t cell) const { return memory().cell(cell).lease; }

  void violate(const std::string& what) {
    if (!violation_) violation_ = what;
  }

  // As WorkerPool::start_process(), the zygote's report and the beginning of Worker::run().
  void fork(std::uint32_t cell) {
    WorkerPool::Process& process = pool_->processes_[cell];
    WorkerPool::Process fresh;
    fresh.cell = cell;
    fresh.generation = process.generation + 1;
    fresh.next_order = process.next_order;
    fresh.next_completion = process.next_completion;
    fresh.state = WorkerPool::State::kStarting;
    fresh.pid = 1;
    memory().reset(cell);
    CellCard& card = memory().desk(cell).card;
    card.generation.store(fresh.generation);
    card.incarnation.store(0);
    card.first_order.store(fresh.next_order);
    card.first_completion.store(fresh.next_completion);
    Played& played = played_[cell] = Played();
    played.phase = Phase::kIdle;
    played.generation = fresh.generation;
    played.next_order = fresh.next_order;
    played.next_completion = fresh.next_completion;
    process = std::move(fresh);
    publish(cell, {CompletionKind::kReady}, {});
  }

  void publish(std::uint32_t cell, const Completion& completion, const JobOutput& output) {
    memory().write_completion(cell, played_[cell].next_completion++, completion, output);
  }

  // ---- The processes, as in worker_main.cc. ----

  static std::uint32_t guarded_cell(std::uint64_t guarded) {
    return static_cast<std::uint32_t>(guarded) - 1;
  }

  // The first of whom it guards that is dead.
  std::uint64_t dead_guarded(std::uint32_t cell) const {
    const Played& process = played_[cell];
    if (!process.spare) return 0;
    for (const auto& entry : memory().desk(cell).guarded) {
      const std::uint64_t guarded = entry.load();
      if (guarded == 0) break;
      const auto& taken = process.taken_over;
      if (std::find(taken.begin(), taken.end(), guarded) != taken.end()) continue;
      if (owner_is_dead(guard_word(memory().cell(guarded_cell(guarded))).load())) return guarded;
    }
    return 0;
  }

  bool can_step(std::uint32_t cell) const {
    const Played& process = played_[cell];
    if (process.phase == Phase::kGone || process.phase == Phase::kDead) return false;
    return process.phase != Phase::kIdle || memory().has_order(cell, process.next_order) ||
           dead_guarded(cell) != 0;
  }

  void step(std::uint32_t cell) {
    Played& process = played_[cell];
    switch (process.phase) {
      case Phase::kIdle:
        if (memory().has_order(cell, process.next_order)) return take_order(cell);
        return take_over(cell, dead_guarded(cell));
      case Phase::kBegun:
        process.phase =
            may_take_over(lease(cell), cell, memory().desk(process.source).card.generation,
                          process.source_generation)
                ? Phase::kExecuting
                : Phase::kDeclining;
        return;
      case Phase::kExecuting:
        process.phase = Phase::kTold;
        return publish(cell,
                       {CompletionKind::kJob, process.source, process.source_generation,
                        process.position, process.order.item, 0, process.attempt},
                       {std::to_string(process.order.item), {}, {}, 0});
      case Phase::kTold:
        process.phase = Phase::kIdle;
        return end_lease(lease(cell), cell);
      case Phase::kDeclining:
        process.phase = Phase::kIdle;
        return publish(cell,
                       {CompletionKind::kDeclined, process.source, process.source_generation,
                        process.position},
                       {});
      default:
        return;
    }
  }

  void take_order(std::uint32_t cell) {
    Played& process = played_[cell];
    std::string arguments;
    const Order order = *memory().read_order(cell, process.next_order, arguments);
    const std::uint64_t position = process.next_order++;
    if (order.kind == OrderKind::kActivate) {
      process.spare = false;
      process.taken_over.clear();
      return publish(cell, {CompletionKind::kActive}, {});
    }
    process.order = order;
    process.source = cell;
    process.source_generation = process.generation;
    process.position = position;
    process.attempt = order.attempt;
    begin_lease(lease(cell), cell, position, 1);
    process.phase = Phase::kExecuting;
  }

  void take_over(std::uint32_t cell, std::uint64_t guarded) {
    Played& process = played_[cell];
    process.taken_over.push_back(guarded);
    const std::uint32_t source = guarded_cell(guarded);
    const auto generation = static_cast<std::uint32_t>(guarded >> 32);
    if (memory().desk(source).card.generation.load() != generation) return;
    const std::uint64_t executing = lease(source).executing.load();
    if (executing == Lease::idle(source) || lease(source).source.load() != source) return;
    std::string arguments;
    const auto order = memory().read_order(source, executing - 1, arguments);
    if (!order || order->kind != OrderKind::kJob) return;
    const std::uint32_t attempt = order->attempt + 1;
    if (attempt > kMaxDeaths) return;
    process.order = *order;
    process.source = source;
    process.source_generation = generation;
    process.position = executing - 1;
    process.attempt = attempt;
    begin_lease(lease(cell), source, executing - 1, 1);
    process.phase = Phase::kBegun;
  }

  void die(std::uint32_t cell, int status) {
    Played& process = played_[cell];
    process.executing = process.phase == Phase::kBegun || process.phase == Phase::kExecuting;
    process.phase = Phase::kDead;
    process.status = status;
    const_cast<std::atomic<std::uint32_t>&>(guard_word(memory().cell(cell)))
        .store(FUTEX_OWNER_DIED);
  }

  // ---- The coordinator ----

  // Who holds the job, for the story.
  std::string where(std::uint64_t item) const {
    std::string text;
    for (const WorkerPool::Process& process : pool_->processes_) {
      for (const WorkerPool::Held& held : process.held) {
        if (pool_->ledger_.job(held.ticket).item != item) continue;
        text += std::to_string(process.cell) + "(of " + std::to_string(held.source) + ")";
      }
    }
    return text.empty() ? "-" : text;
  }

  void prove(std::uint32_t cell) {
    Played& process = played_[cell];
    if (process.executing) {
      Life& life = lives_[process.order.item];
      ++life.proved;
      life.guilty += process.status != SIGKILL;
    }
    process.phase = Phase::kGone;
    pool_->on_end(pool_->processes_[cell], WaitStatus::from_raw(process.status));
  }

  bool has_completion() const {
    for (const WorkerPool::Process& process : pool_->processes_) {
      Completion completion;
      JobOutput output;
      if (process.alive() &&
          memory().read_completion(process.cell, process.next_completion, completion, output) !=
              CellMemory::Found::kNothing) {
        return true;
      }
    }
    return false;
  }

  bool has_dead() const {
    for (const WorkerPool::Process& process : pool_->processes_) {
      if (process.state == WorkerPool::State::kActive &&
          played_[process.cell].phase == Phase::kDead) {
        return true;
      }
    }
    return false;
  }

  void take_results() {
    for (const JobResult& result : std::exchange(pool_->results_, {})) {
      Life& life = lives_[result.job.item];
      if (++life.results > 1) violate("a job was closed twice");
      if (result.outcome == JobOutcome::kPoisoned) {
        if (life.guilty < kMaxDeaths) violate("an innocent job was convicted");
      } else if (result.outcome != JobOutcome::kDone ||
                 result.output.bytes != std::to_string(result.job.item)) {
        violate("a job was closed by another result than its own");
      }
    }
    // Handed out: the number of its attempt.
    for (const WorkerPool::Process& process : pool_->processes_) {
      for (const WorkerPool::Held& held : process.held) {
        if (held.source != process.cell) continue;
        const std::uint64_t item = pool_->ledger_.job(held.ticket).item;
        std::string arguments;
        if (seen_.insert({process.cell, held.position}).second &&
            lives_[item].guilty >= kMaxDeaths) {
          violate("poison was handed out");
        }
        const auto order = memory().read_order(process.cell, held.position, arguments);
        if (!order || played_[process.cell].phase == Phase::kDead) continue;
        if (order->attempt > 1u + static_cast<std::uint32_t>(lives_[item].proved)) {
          violate("an attempt was counted that never began: job " + std::to_string(item) + " at " +
                  std::to_string(process.cell) + ", attempt " + std::to_string(order->attempt));
        }
        if (played_[process.cell].next_order <= held.position &&
            order->attempt < 1u + static_cast<std::uint32_t>(lives_[item].proved)) {
          violate("an attempt was not counted");
        }
      }
    }
  }

  std::unique_ptr<WorkerPool> pool_;
  std::vector<Played> played_;
  std::vector<Life> lives_;
  std::set<std::pair<std::uint32_t, std::uint64_t>> seen_;  // Jobs handed out: cell and position.
  std::optional<std::string> violation_;
  std::string story_;
};

namespace {

bool is_long() { return std::getenv("CRASHWORTHY_LONG") != nullptr; }

void end_of(PoolBooks& books, const std::string& which) {
  if (!books.violation()) books.settle();
  if (!books.violation()) books.check_end();
  if (books.violation()) {
    ADD_FAILURE() << which << ": " << *books.violation() << "\n" << books.story();
  }
}

// All sequences of `depth` events, up to `deaths` of them deaths, then nobody dies any more.
void explore_all(const Setting& setting, std::size_t depth, int deaths) {
  std::vector<std::pair<std::size_t, std::size_t>> path;  // Chosen, of how many.
  std::uint64_t sequences = 0;
  do {
    PoolBooks books(setting);
    int left = deaths;
    for (std::size_t i = 0; i < depth && !books.violation(); ++i) {
      const auto all = books.possible(left > 0);
      if (all.empty()) break;
      if (i == path.size()) path.emplace_back(0, all.size());
      const Event& event = all[path[i].first];
      left -= event.kind == Event::Kind::kDie;
      books.happen(event);
    }
    end_of(books, "sequence " + std::to_string(sequences));
    if (::testing::Test::HasFailure()) return;
    ++sequences;
    while (!path.empty() && ++path.back().first == path.back().second) path.pop_back();
  } while (!path.empty());
  std::printf("%d workers, %d spares, %d jobs, %zu events, %d deaths: %llu sequences\n",
              setting.workers, setting.spares, setting.jobs, depth, deaths,
              static_cast<unsigned long long>(sequences));
}

TEST(PoolBooks, JobHasOneLifeInAllShortSequences) {
  explore_all({1, 1, 1}, is_long() ? 10 : 7, 2);
  explore_all({1, 2, 1}, is_long() ? 7 : 5, 3);
}

TEST(PoolBooks, JobHasOneLifeInRandomSequences) {
  const std::uint64_t count = is_long() ? 300'000 : 6'000;
  for (std::uint64_t seed = 1; seed <= count; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&random](std::uint64_t bound) { return random() % bound; };
    const Setting setting{1 + static_cast<int>(below(2)), 1 + static_cast<int>(below(2)),
                          1 + static_cast<int>(below(3))};
    PoolBooks books(setting);
    int deaths = static_cast<int>(below(6));
    for (int i = 0; i < 60 && !books.violation(); ++i) {
      if (below(4) == 0) books.replace();
      // Deaths are seldom, or all of them would come at once.
      const auto all = books.possible(deaths > 0 && below(4) == 0);
      if (all.empty()) continue;
      const Event& event = all[below(all.size())];
      deaths -= event.kind == Event::Kind::kDie;
      books.happen(event);
    }
    end_of(books, "seed " + std::to_string(seed));
    if (HasFailure()) return;
  }
  std::printf("%llu random sequences\n", static_cast<unsigned long long>(count));
}

}  // namespace
}  // namespace crashworthy

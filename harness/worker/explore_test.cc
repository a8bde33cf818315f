// The worker pool's shared memory under all interleavings and all crash points, at small sizes:
// records that are read while they are overwritten, sleep and wake-up, and the take-over of a dead
// worker's job. Real code (ring.h, lease.h) over model memory; explore.h says what memory that is.
// Each claim has broken variants beside it, in which the explorer must find the violation.
//
// CRASHWORTHY_LONG explores more records, orders, workers and crashes.
#include "harness/worker/explore.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "harness/worker/lease.h"
#include "harness/worker/ring.h"

namespace crashworthy::explore {
namespace {

bool is_long() { return std::getenv("CRASHWORTHY_LONG") != nullptr; }

Explored tell(const char* what, const std::function<void(Schedule&)>& scenario,
              const Bounds& bounds) {
  const auto start = std::chrono::steady_clock::now();
  Explored explored = explore(scenario, bounds);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%s: %llu schedules, %llu given up as the same, %llu steps, %.2f s%s%s\n", what,
              static_cast<unsigned long long>(explored.schedules),
              static_cast<unsigned long long>(explored.pruned),
              static_cast<unsigned long long>(explored.steps), took.count(),
              explored.violation ? "; found: " : "",
              explored.violation ? explored.violation->c_str() : "");
  return explored;
}

void holds(const char* what, const std::function<void(Schedule&)>& scenario,
           const Bounds& bounds = {}) {
  const Explored explored = tell(what, scenario, bounds);
  EXPECT_FALSE(explored.violation) << *explored.violation << "\n" << explored.schedule;
  EXPECT_TRUE(explored.complete) << "more than " << bounds.max_schedules << " schedules";
}

// A planted defect: the explorer must see it.
void is_broken(const char* what, const std::function<void(Schedule&)>& scenario,
               const Bounds& bounds = {}) {
  const Explored explored = tell(what, scenario, bounds);
  EXPECT_TRUE(explored.violation) << "nothing found";
  EXPECT_FALSE(explored.schedule.empty());
}

// ---- The explorer itself ----

// Store buffering: what TSO allows and sequential consistency does not. 4 orders of the two stores
// and loads in the latter give 3 results; here (0, 0) comes, too.
std::array<bool, 4> store_buffering(std::memory_order order) {
  std::array<bool, 4> seen{};
  explore([&](Schedule& run) {
    struct State {
      Atomic<int> x, y;
      int first = 0, second = 0;
    };
    auto state = std::make_shared<State>();
    run.actor("first", [state, order] {
      state->x.store(1, order);
      state->first = state->y.load();
    });
    run.actor("second", [state, order] {
      state->y.store(1, order);
      state->second = state->x.load();
    });
    run.at_end([state, &seen] {
      seen[static_cast<std::size_t>(2 * state->first + state->second)] = true;
    });
  });
  return seen;
}

TEST(Explore, BuffersStoresAsTsoDoes) {
  EXPECT_EQ(store_buffering(std::memory_order_release), (std::array{true, true, true, true}));
  EXPECT_EQ(store_buffering(std::memory_order_seq_cst), (std::array{false, true, true, true}));
}

// Independent steps are not permuted: three actors that touch three words have one schedule; two
// that add to one have two, and with a crash behind each start or addition some more.
TEST(Explore, TriesEachOrderOfDependentStepsOnce) {
  const auto apart = explore([](Schedule& run) {
    auto words = std::make_shared<std::array<Atomic<int>, 3>>();
    for (std::size_t i = 0; i < 3; ++i) {
      run.actor("apart", [words, i] { (*words)[i].fetch_add(1); });
    }
  });
  EXPECT_TRUE(apart.complete);
  EXPECT_EQ(apart.schedules, 1u);
  const auto together = [](bool may_crash) {
    return explore([may_crash](Schedule& run) {
      auto word = std::make_shared<Atomic<int>>();
      run.actor(
          "one", [word] { word->fetch_add(1); }, may_crash);
      run.actor("two", [word] { word->fetch_add(1); });
    });
  };
  EXPECT_EQ(together(false).schedules, 2u);
  EXPECT_EQ(together(true).schedules, 3u);  // And "two" alone.
}

// What can come out is the same whether independent steps are permuted or not.
TEST(Explore, LosesNoEndByItsReduction) {
  const auto ends = [](bool reduce, int crashes) {
    std::set<std::array<std::uint32_t, 4>> seen;
    Bounds bounds;
    bounds.crashes = crashes;
    bounds.reduce = reduce;
    const Explored explored = explore(
        [&](Schedule& run) {
          struct State {
            Atomic<std::uint32_t> word, signal, sleeping;
            std::uint32_t seen = 0;
          };
          auto state = std::make_shared<State>();
          const ActorId sleeper = run.actor(
              "sleeper",
              [state] {
                const std::uint32_t signal = state->signal.load();
                state->seen = state->word.load();
                if (state->seen != 0) return;
                state->sleeping.store(1, std::memory_order_release);
                wait({{state->signal.id(), signal}});
                wake_up(state->sleeping);
                state->seen = state->word.load();
              },
              true);
          const ActorId caller = run.actor(
              "caller",
              [state] {
                state->word.store(1, std::memory_order_release);
                std::uint32_t last = 0;
                if (must_wake(state->signal, state->sleeping, last)) wake(state->signal.id());
              },
              true);
          run.at_end([&run, &seen, state, sleeper, caller] {
            seen.insert({run.finished(sleeper) + 2u * run.crashed(sleeper),
                         run.finished(caller) + 2u * run.crashed(caller), state->seen,
                         state->sleeping.load()});
          });
        },
        bounds);
    EXPECT_TRUE(explored.complete);
    return seen;
  };
  for (int crashes = 0; crashes <= 2; ++crashes) {
    const auto all = ends(false, crashes);
    EXPECT_GE(all.size(), 2u);
    EXPECT_EQ(ends(true, crashes), all) << crashes << " crashes";
  }
}

// What a crashed actor has stored arrives, in its order, and before its death is told of.
TEST(Explore, CrashLosesNoStore) {
  std::array<bool, 3> seen{};
  explore([&](Schedule& run) {
    struct State {
      Atomic<int> x, y;
    };
    auto state = std::make_shared<State>();
    const ActorId writer = run.actor(
        "writer",
        [state] {
          state->x.store(1, std::memory_order_release);
          state->y.store(1, std::memory_order_release);
          state->x.store(1, std::memory_order_release);
        },
        true);
    run.actor("reader", [state, writer, &run, &seen] {
      await_death(writer);
      const int y = state->y.load();
      const int x = state->x.load();
      run.expect(x >= y, "the stores arrived in another order");
      seen[static_cast<std::size_t>(x + y)] = true;
    });
  });
  EXPECT_EQ(seen, (std::array{true, true, true}));
}

// ---- Records ----

using Small = StampedRecord<Atomic, 2>;

// As in ring.h, each with one thing wrong.
struct StampFirst {
  using Words = std::array<std::uint64_t, 2>;
  void write(std::uint64_t position, const Words& words) {
    stamp.store(position + 1, std::memory_order_seq_cst);
    for (std::size_t i = 0; i < 2; ++i) words_[i].store(words[i], std::memory_order_release);
  }
  bool holds(std::uint64_t position) const { return stamp.load() == position + 1; }
  std::optional<Words> read(std::uint64_t position) const {
    if (!holds(position)) return std::nullopt;
    const Words words{words_[0].load(), words_[1].load()};
    if (!holds(position)) return std::nullopt;
    return words;
  }
  Atomic<std::uint64_t> stamp{0};
  std::array<Atomic<std::uint64_t>, 2> words_{};
};
struct NotCleared : StampFirst {
  void write(std::uint64_t position, const Words& words) {
    for (std::size_t i = 0; i < 2; ++i) words_[i].store(words[i], std::memory_order_release);
    stamp.store(position + 1, std::memory_order_seq_cst);
  }
};
struct NotLookedAtAgain : NotCleared {
  void write(std::uint64_t position, const Words& words) {
    stamp.store(0, std::memory_order_release);
    NotCleared::write(position, words);
  }
  std::optional<Words> read(std::uint64_t position) const {
    if (!holds(position)) return std::nullopt;
    return Words{words_[0].load(), words_[1].load()};
  }
};

std::uint64_t content(std::uint64_t position, std::uint64_t word) { return 10 * position + word; }

// One writer goes round a ring of two, and may be killed anywhere. The reader looks at each of
// `first`.. in turn, twice, as one that was lapped does.
template <typename AnyRecord>
void lapped(Schedule& run, std::uint64_t records, std::uint64_t first, int looks) {
  auto ring = std::make_shared<std::array<AnyRecord, 2>>();
  run.actor(
      "writer",
      [ring, records] {
        for (std::uint64_t i = 0; i < records; ++i) {
          (*ring)[i % 2].write(i, {content(i, 1), content(i, 2)});
        }
      },
      true);
  const auto check = [&run](std::uint64_t position, const auto& words) {
    run.expect(
        !words || ((*words)[0] == content(position, 1) && (*words)[1] == content(position, 2)),
        "a torn record");
    return words.has_value();
  };
  run.actor("reader", [ring, check, records, first, looks] {
    for (std::uint64_t i = first; i < records; ++i) {
      for (int look = 0; look < looks; ++look) {
        if (check(i, (*ring)[i % 2].read(i))) break;
      }
    }
  });
  run.at_end([&run, ring, check, records] {
    for (std::uint64_t i = 0; i < records; ++i) {
      const bool there = check(i, (*ring)[i % 2].read(i));
      if (run.finished(0)) run.expect(there == (i + 2 >= records), "a record is missing");
    }
  });
}

TEST(ExploreRing, RecordIsWholeOrNotThere) {
  holds("a record, 4 written, read from the 1st",
        [](Schedule& run) { lapped<Small>(run, 4, 0, 1); });
  holds("a record, 3 written, each looked for twice",
        [](Schedule& run) { lapped<Small>(run, 3, 0, 2); });
  if (is_long()) {
    holds("a record, 5 written, each looked for twice",
          [](Schedule& run) { lapped<Small>(run, 5, 0, 2); });
  }
}

TEST(ExploreRing, SeesTornRecords) {
  is_broken("a record whose stamp is written first",
            [](Schedule& run) { lapped<StampFirst>(run, 3, 0, 1); });
  is_broken("a record whose stamp is not cleared before it is written",
            [](Schedule& run) { lapped<NotCleared>(run, 4, 0, 1); });
  is_broken("a record that is not looked at again",
            [](Schedule& run) { lapped<NotLookedAtAgain>(run, 4, 0, 1); });
}

// Bytes beside the record, as of a large job: CellMemory::write_order() and read_order().
void with_bytes(Schedule& run, bool cleared) {
  struct State {
    std::array<StampedRecord<Atomic, 1>, 2> ring;
    std::array<std::array<Atomic<std::uint64_t>, 2>, 2> bytes;
  };
  auto state = std::make_shared<State>();
  run.actor(
      "coordinator",
      [state, cleared] {
        for (std::uint64_t i = 0; i < 3; ++i) {
          if (cleared) state->ring[i % 2].clear();
          for (std::uint64_t byte = 0; byte < 2; ++byte) {
            state->bytes[i % 2][byte].store(content(i, byte), std::memory_order_release);
          }
          state->ring[i % 2].write(i, {i});
        }
      },
      true);
  run.actor("spare", [&run, state] {
    for (std::uint64_t i = 0; i < 3; ++i) {
      if (!state->ring[i % 2].read(i)) continue;
      const std::uint64_t first = state->bytes[i % 2][0].load();
      const std::uint64_t second = state->bytes[i % 2][1].load();
      if (!state->ring[i % 2].holds(i)) continue;
      run.expect(first == content(i, 0) && second == content(i, 1), "torn bytes");
    }
  });
}

TEST(ExploreRing, BytesBesideARecordAreWholeOrNotThere) {
  holds("bytes beside a record", [](Schedule& run) { with_bytes(run, true); });
  is_broken("bytes that are written before the stamp is cleared",
            [](Schedule& run) { with_bytes(run, false); });
}

// ---- Sleep and wake-up ----

// How a sleeper or a caller may be wrong.
enum class Defect { kNone, kReleasedFlag, kLateSignal, kSparedCall, kEarlyLook };

void sleep_flag(Atomic<std::uint32_t>& flag, Defect defect) {
  if (defect == Defect::kReleasedFlag) {
    flag.store(flag.load() | 1, std::memory_order_release);
  } else {
    fall_asleep(flag);
  }
}

bool must_wake_or(Defect defect, Atomic<std::uint32_t>& signal, const Atomic<std::uint32_t>& sleeps,
                  std::uint32_t& last) {
  if (defect != Defect::kSparedCall) return must_wake(signal, sleeps, last);
  signal.fetch_add(1, std::memory_order_seq_cst);
  return must_call(sleeps, last);
}

// As Worker::run() and WorkerPool::call(): a worker that sleeps on its desk's signal.
void orders(Schedule& run, std::uint64_t count, Defect defect) {
  struct State {
    std::array<StampedRecord<Atomic, 1>, 4> ring;  // Room for all.
    Atomic<std::uint32_t> signal, sleeping;
  };
  auto state = std::make_shared<State>();
  const ActorId worker = run.actor(
      "worker",
      [state, count, defect] {
        for (std::uint64_t next = 0; next < count;) {
          std::uint32_t signal = state->signal.load(std::memory_order_seq_cst);
          if (state->ring[next % 4].read(next)) {
            ++next;
            continue;
          }
          if (defect == Defect::kLateSignal) signal = state->signal.load();
          sleep_flag(state->sleeping, defect);
          wait({{state->signal.id(), signal}});
          wake_up(state->sleeping);
        }
      },
      true);
  run.actor("coordinator", [state, count, defect] {
    std::uint32_t last = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      state->ring[i % 4].write(i, {i});
      if (must_wake_or(defect, state->signal, state->sleeping, last)) wake(state->signal.id());
    }
  });
  run.at_end([&run, worker] {
    run.expect(run.finished(worker) || run.crashed(worker), "the worker sleeps over an order");
  });
}

TEST(ExploreSleep, WorkerNeverSleepsOverAnOrder) {
  holds("a worker, 1 order", [](Schedule& run) { orders(run, 1, Defect::kNone); });
  holds("a worker, 2 orders", [](Schedule& run) { orders(run, 2, Defect::kNone); });
  is_broken("a flag stored with release",
            [](Schedule& run) { orders(run, 1, Defect::kReleasedFlag); });
  is_broken("a call that is spared because of one whose signal came before the sleep",
            [](Schedule& run) { orders(run, 2, Defect::kSparedCall); });
  if (is_long()) {
    holds("a worker, 3 orders", [](Schedule& run) { orders(run, 3, Defect::kNone); });
  }
  is_broken("a signal loaded after the look",
            [](Schedule& run) { orders(run, 1, Defect::kLateSignal); });
}

// As WorkerPool::wait_for_news() and Worker::call_coordinator(): workers tell of results, the
// coordinator sleeps on its doorbell and the zygote's socket. Workers may die; with `zygote`, that
// is told of.
void results(Schedule& run, std::size_t workers, std::uint64_t count, bool zygote, Defect defect) {
  constexpr std::size_t kMost = 2;
  struct State {
    std::array<std::array<StampedRecord<Atomic, 1>, 2>, kMost> rings;
    Atomic<std::uint32_t> sleeps, doorbell, socket;
    std::array<Atomic<std::uint32_t>, kMost> dead;
    std::array<std::uint64_t, kMost> next{};  // The coordinator's.
    std::array<bool, kMost> gone{};
  };
  auto state = std::make_shared<State>();
  for (std::size_t i = 0; i < workers; ++i) {
    run.actor(
        "worker" + std::to_string(i),
        [state, i, count, defect] {
          std::uint32_t last = 0;
          for (std::uint64_t at = 0; at < count; ++at) {
            auto& record = state->rings[i][at % 2];
            const bool early = defect == Defect::kEarlyLook && must_call(state->sleeps, last);
            record.write(at, {at});
            if (defect == Defect::kEarlyLook ? early : must_call(state->sleeps, last)) {
              post(state->doorbell.id(), 1);
            }
          }
        },
        true);
    if (!zygote) continue;
    run.actor("zygote" + std::to_string(i), [state, i] {
      await_death(static_cast<ActorId>(2 * i));
      post(state->dead[i].id(), 1);
      post(state->socket.id(), 1);
    });
  }
  const ActorId coordinator = run.actor("coordinator", [state, workers, count, defect] {
    const auto collect = [&] {
      bool any = false;
      for (std::size_t i = 0; i < workers; ++i) {
        while (state->next[i] < count && state->rings[i][state->next[i] % 2].read(state->next[i])) {
          ++state->next[i];
          any = true;
        }
      }
      return any;
    };
    const auto done = [&] {
      bool all = true;
      for (std::size_t i = 0; i < workers; ++i) all &= state->next[i] == count || state->gone[i];
      return all;
    };
    while (!done()) {
      sleep_flag(state->sleeps, defect);
      if (!collect()) poll({state->doorbell.id(), state->socket.id()});
      wake_up(state->sleeps);
      if (state->doorbell.load() != 0) post(state->doorbell.id(), 0);
      collect();
      if (state->socket.load() == 0) continue;
      post(state->socket.id(), 0);
      for (std::size_t i = 0; i < workers; ++i) {
        if (state->gone[i] || state->dead[i].load() == 0) continue;
        collect();
        state->gone[i] = true;
      }
    }
  });
  run.at_end([&run, coordinator, state, workers, count] {
    run.expect(run.finished(coordinator), "the coordinator sleeps over a result, or a death");
    for (std::size_t i = 0; i < workers; ++i) {
      const bool read = state->next[i] == count ||
                        !state->rings[i][state->next[i] % 2].read(state->next[i]).has_value();
      run.expect(read, "a result of a dead worker is not read");
    }
  });
}

TEST(ExploreSleep, CoordinatorNeverSleepsOverAResult) {
  holds("a coordinator, 1 result", [](Schedule& run) { results(run, 1, 1, true, Defect::kNone); });
  holds("a coordinator, 2 results", [](Schedule& run) { results(run, 1, 2, true, Defect::kNone); });
  is_broken("a flag stored with release",
            [](Schedule& run) { results(run, 1, 1, true, Defect::kReleasedFlag); });
  is_broken("a doorbell looked for before the result is written",
            [](Schedule& run) { results(run, 1, 1, true, Defect::kEarlyLook); });
  is_broken("a death between a result and the doorbell that nobody tells of",
            [](Schedule& run) { results(run, 1, 1, false, Defect::kNone); });
  if (is_long()) {
    holds("a coordinator, 2 workers",
          [](Schedule& run) { results(run, 2, 1, true, Defect::kNone); }, {1, 200'000'000});
  }
}

// As Worker::sleep() of a spare: it is told whom it guards while that one dies.
void guarding(Schedule& run, bool looks, Defect defect) {
  struct State {
    Atomic<std::uint32_t> guard{7};  // Held.
    Atomic<std::uint64_t> guarded;
    Atomic<std::uint32_t> signal, sleeping, work;
    bool noticed = false;  // The spare's.
  };
  auto state = std::make_shared<State>();
  const ActorId worker = run.actor(
      "worker", [state] { post(state->work.id(), 1); }, true);
  run.actor("kernel", [state, worker] {
    await_death(worker);
    post(state->guard.id(), 0);
    wake(state->guard.id());
  });
  run.actor("coordinator", [state] {
    state->guarded.store(1, std::memory_order_release);
    std::uint32_t last = 0;
    if (must_wake(state->signal, state->sleeping, last)) wake(state->signal.id());
  });
  run.actor("spare", [state, looks, defect] {
    for (int round = 0; round < 5; ++round) {
      const std::uint32_t signal = state->signal.load(std::memory_order_seq_cst);
      if (state->guarded.load(std::memory_order_acquire) == 0) {
        sleep_flag(state->sleeping, defect);
        wait({{state->signal.id(), signal}});
        wake_up(state->sleeping);
        continue;
      }
      const std::uint32_t word = looks ? state->guard.load(std::memory_order_seq_cst) : 7;
      if (word == 0) {
        state->noticed = true;
        return;
      }
      sleep_flag(state->sleeping, defect);
      if (looks) {
        wait({{state->signal.id(), signal}, {state->guard.id(), word}});
      } else {
        wait({{state->signal.id(), signal}});
      }
      wake_up(state->sleeping);
    }
  });
  run.at_end([&run, state, worker] {
    if (run.crashed(worker)) run.expect(state->noticed, "the spare sleeps over a death");
  });
}

TEST(ExploreSleep, SpareNeverSleepsOverADeath) {
  holds("a spare that is told whom to guard",
        [](Schedule& run) { guarding(run, true, Defect::kNone); });
  is_broken("a spare that waits for its signal alone",
            [](Schedule& run) { guarding(run, false, Defect::kNone); });
  is_broken("a flag stored with release",
            [](Schedule& run) { guarding(run, true, Defect::kReleasedFlag); });
}

// ---- Taking over ----

enum class Flaw {
  kNone,
  kReleasedLease,  // Begun with release: both may miss each other.
  kCheckedFirst,   // The generation is looked at before the lease begins.
  kLookedFirst,    // The coordinator looks at the lease before it clears the generation.
  kSilentDecline,  // The spare does not say that it declines.
  kEarlyDecline,   // It says so while its lease still stands.
};

struct TakeOver {
  bool dead_at_start = false;  // Else the worker may die anywhere, or not at all.
  bool suspicion = true;       // The coordinator, too, learns of the death before it is proved.
  Flaw flaw = Flaw::kNone;
};

constexpr std::uint64_t kIdle = BasicLease<Atomic>::idle(0);
constexpr std::uint32_t kGeneration = 3;
constexpr std::uint64_t kPosition = 5;
constexpr std::uint64_t kDone = 1;
constexpr std::uint64_t kDeclined = 2;

// A worker (cell 0) with one job, the spare (cell 1) that guards it, and the coordinator. The
// leases, the handshake and the records are the real ones; what the coordinator does with the job
// is what pool.cc and pool_recovery.cc do, in short (those are tested in pool_books_test.cc).
class TakingOver {
 public:
  TakingOver(Schedule& run, const TakeOver& how) : run_(run), how_(how) {
    end_lease(leases_[0], 0);
    end_lease(leases_[1], 1);
    if (how.dead_at_start) {
      begin_lease(leases_[0], 0, kPosition, 0);
      guard_.store(1);
    }
  }

  void worker() {
    begin_lease(leases_[0], 0, kPosition, 0);
    publish(0, kDone);
    end_lease(leases_[0], 0);
  }

  // As Worker::take_over().
  void spare() {
    poll({guard_.id()});
    if (card_.load() != kGeneration) return;
    const std::uint64_t executing = leases_[0].executing.load(std::memory_order_acquire);
    if (executing == kIdle) return;
    if (!begin()) {
      if (how_.flaw != Flaw::kSilentDecline && how_.flaw != Flaw::kEarlyDecline) {
        publish(1, kDeclined);
      }
      return;
    }
    executed_ = true;
    post(done_.id(), 1);  // Only the test reads that.
    publish(1, kDone);
    end_lease(leases_[1], 1);
  }

  void coordinator() {
    poll({guard_.id(), worker_dead_.id(), doorbell_.id()});
    if (how_.suspicion) suspect();
    while (held_ == Held::kByWorker) {
      poll({worker_dead_.id(), doorbell_.id()});
      if (doorbell_.load() != 0) post(doorbell_.id(), 0);
      if (worker_dead_.load() == 0) {
        collect();
        continue;
      }
      on_end();
    }
    while (held_ == Held::kBySpare) {
      poll({doorbell_.id(), spare_dead_.id()});
      if (doorbell_.load() != 0) post(doorbell_.id(), 0);
      const bool dead = spare_dead_.load() != 0;
      collect();
      if (dead && held_ == Held::kBySpare) held_ = Held::kRequeued;
    }
  }

  void proofs(ActorId worker) {
    if (!how_.dead_at_start) {
      await_death(worker);
      post(guard_.id(), 1);
    }
    post(worker_dead_.id(), 1);
  }
  void proof_of_spare(ActorId spare) {
    await_death(spare);
    post(spare_dead_.id(), 1);
  }

  void check(ActorId coordinator) {
    run_.expect(run_.finished(coordinator), "a job is stuck");
    const int results = accepted_;
    const bool was_requeued = held_ == Held::kRequeued;
    collect();  // What comes too late.
    run_.expect(accepted_ == results, "a result was accepted that nobody waited for");
    run_.expect(accepted_ + (was_requeued ? 1 : 0) == 1, "a job was not closed once");
  }

 private:
  enum class Held { kByWorker, kBySpare, kRequeued, kClosed };

  bool begin() {
    BasicLease<Atomic>& lease = leases_[1];
    switch (how_.flaw) {
      case Flaw::kReleasedLease:
        lease.source.store(0, std::memory_order_release);
        lease.executing.store(kPosition + 1, std::memory_order_release);
        return may_take_over(lease, 1, card_, kGeneration);
      case Flaw::kCheckedFirst: {
        const bool may = may_take_over(lease, 1, card_, kGeneration);
        if (may) begin_lease(lease, 0, kPosition, 0);
        return may;
      }
      case Flaw::kEarlyDecline:
        begin_lease(lease, 0, kPosition, 0);
        if (card_.load() == kGeneration) return true;
        publish(1, kDeclined);
        end_lease(lease, 1);
        return false;
      default:
        begin_lease(lease, 0, kPosition, 0);
        return may_take_over(lease, 1, card_, kGeneration);
    }
  }

  void publish(std::size_t cell, std::uint64_t what) {
    records_[cell].write(0, {what});
    post(doorbell_.id(), 1);
  }

  void collect() {
    for (std::size_t cell = 0; cell < 2; ++cell) {
      if (read_[cell]) continue;
      const auto record = records_[cell].read(0);
      if (!record) continue;
      read_[cell] = true;
      const bool counts = cell == 0 ? held_ == Held::kByWorker
                                    : held_ == Held::kByWorker || held_ == Held::kBySpare;
      if ((*record)[0] == kDone) {
        if (!counts) continue;  // Rejected.
        ++accepted_;
        held_ = Held::kClosed;
      } else if (held_ == Held::kBySpare) {
        held_ = Held::kRequeued;
      }
    }
  }

  void suspect() {
    collect();
    if (held_ != Held::kByWorker || guard_.load() == 0) return;
    if (!executes(leases_[0], 0, kPosition)) {
      held_ = Held::kRequeued;
    } else if (executes(leases_[1], 0, kPosition)) {
      held_ = Held::kBySpare;
    }
  }

  void on_end() {
    bool heir = false;
    if (how_.flaw == Flaw::kLookedFirst) heir = executes(leases_[1], 0, kPosition);
    forbid_take_over(card_);
    collect();
    if (held_ != Held::kByWorker) return;
    if (how_.flaw != Flaw::kLookedFirst) heir = executes(leases_[1], 0, kPosition);
    held_ = heir ? Held::kBySpare : Held::kRequeued;
    if (!heir) requeued_unseen_ = done_.load() == 0;
  }

 public:
  // After the end: the spare has not executed, or had finished when the coordinator gave the job to
  // somebody else.
  void check_unseen() {
    run_.expect(!requeued_unseen_ || !executed_, "a job is executed behind the coordinator's back");
  }

 private:
  Schedule& run_;
  const TakeOver how_;
  std::array<BasicLease<Atomic>, 2> leases_;
  std::array<StampedRecord<Atomic, 1>, 2> records_;
  Atomic<std::uint32_t> card_{kGeneration};
  Atomic<std::uint32_t> guard_;  // 1: its owner is dead.
  Atomic<std::uint32_t> worker_dead_, spare_dead_, doorbell_, done_;
  bool executed_ = false;  // The spare's.
  // The coordinator's.
  Held held_ = Held::kByWorker;
  std::array<bool, 2> read_{};
  int accepted_ = 0;
  bool requeued_unseen_ = false;
};

void taking_over(Schedule& run, const TakeOver& how) {
  auto all = std::make_shared<TakingOver>(run, how);
  const ActorId spare = run.actor(
      "spare", [all] { all->spare(); }, true);
  const ActorId coordinator = run.actor("coordinator", [all] { all->coordinator(); });
  ActorId worker = 0;
  if (!how.dead_at_start)
    worker = run.actor(
        "worker", [all] { all->worker(); }, true);
  run.actor("proofs", [all, worker] { all->proofs(worker); });
  run.actor("proof of spare", [all, spare] { all->proof_of_spare(spare); });
  run.at_end([all, coordinator] {
    all->check(coordinator);
    all->check_unseen();
  });
}

TEST(ExploreTakeOver, JobHasOneLife) {
  for (const bool suspicion : {false, true}) {
    const std::string how = suspicion ? ", suspected first" : ", proved at once";
    holds(("a dead worker's job" + how).c_str(), [=](Schedule& run) {
      taking_over(run, {true, suspicion, Flaw::kNone});
    });
    for (const int crashes : {1, 2}) {
      holds(("a worker's job, " + std::to_string(crashes) + " may die" + how).c_str(),
            [=](Schedule& run) {
              taking_over(run, {false, suspicion, Flaw::kNone});
            },
            Bounds{crashes});
    }
  }
}

TEST(ExploreTakeOver, SeesFlaws) {
  const auto broken = [](const char* what, Flaw flaw) {
    is_broken(what, [flaw](Schedule& run) { taking_over(run, {true, false, flaw}); });
  };
  broken("a lease begun with release", Flaw::kReleasedLease);
  broken("a lease begun after the generation is looked at", Flaw::kCheckedFirst);
  broken("a coordinator that looks at the lease first", Flaw::kLookedFirst);
  broken("a spare that declines without a word", Flaw::kSilentDecline);
  broken("a spare that declines before its lease ends", Flaw::kEarlyDecline);
}

}  // namespace
}  // namespace crashworthy::explore

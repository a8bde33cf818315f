// recovery-benchmark: from the death of a worker in the middle of an item to the item done again,
// in four ways: a spare of the worker pool takes over; a spare waits for the proof of the death; a
// replacement is forked by the pool's zygote; a replacement is executed as a new program. All with
// OpenCV's image codecs linked. Beside them the floor: a process that waits for a robust mutex, and
// does nothing else.
//
// With --beside, the take-over alone, from victims of two sizes.
//
// They take turns, in random order within each round. The victim is a random worker of the pool, of
// which the others sleep; it has memory of its own and is busy when it dies.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "benchmarks/micro/paired.h"
#include "benchmarks/micro/recovery_job.h"
#include "benchmarks/micro/recovery_sides.h"
#include "harness/os/clock.h"
#include "harness/os/scheduling.h"
#include "harness/os/shared_memory.h"
#include "harness/worker/futex.h"

namespace crashworthy::benchmark {
namespace {

constexpr int kWarmUp = 5;

// ---- What no recovery can beat under load: a sleeping process is woken, and runs. ----

class WakeSide {
 public:
  WakeSide() : memory_(SharedMemory::create("recovery-wake", sizeof(Words)).value()) {
    words_ = new (memory_.data()) Words();
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (std::uint32_t seen = 0;; seen = words_->call.load()) {
      while (words_->call.load() == seen) futex_wait(words_->call, seen);
      words_->woken_ns.store(now_ns());
    }
  }
  ~WakeSide() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  Result<double> measure() {
    words_->woken_ns.store(0);
    ::usleep(300);
    const std::int64_t before = now_ns();
    words_->call.fetch_add(1);
    futex_wake(words_->call);
    while (words_->woken_ns.load() == 0) {
      if (now_ns() > before + kRecoveryBoundNs) return too_late("a wake-up");
      ::usleep(50);
    }
    return static_cast<double>(words_->woken_ns.load() - before);
  }

 private:
  struct Words {
    std::atomic<std::uint32_t> call{0};
    std::atomic<std::int64_t> woken_ns{0};
  };
  SharedMemory memory_;
  Words* words_ = nullptr;
  pid_t pid_ = 0;
};

// What no take-over can beat: from SIGKILL to a process that waits for a robust mutex of the dead
// one, with nothing else around. The two are forked by a process of their own: what forks must
// copy each page that it writes to afterwards.
class MutexSide {
 public:
  MutexSide() : memory_(SharedMemory::create("recovery-mutex", sizeof(Words)).value()) {
    words_ = new (memory_.data()) Words();
    pid_ = start([this] {
      for (std::uint32_t seen = 0;; seen = words_->call.load()) {
        while (words_->call.load() == seen) futex_wait(words_->call, seen);
        once();
      }
    });
  }
  ~MutexSide() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  Result<double> measure() {
    words_->answer_ns.store(0);
    words_->call.fetch_add(1);
    futex_wake(words_->call);
    if (!wait_for(words_->answer_ns) || words_->answer_ns.load() < 0) return too_late("a mutex");
    return static_cast<double>(words_->answer_ns.load());
  }

 private:
  struct Words {
    std::atomic<std::uint32_t> call{0};
    std::atomic<std::int64_t> answer_ns{0};  // Negative: it took too long.
    pthread_mutex_t mutex;
    std::atomic<std::int64_t> held_ns{0};
    std::atomic<std::int64_t> woken_ns{0};
  };

  void once() {
    pthread_mutexattr_t attributes;
    ::pthread_mutexattr_init(&attributes);
    ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    ::pthread_mutex_init(&words_->mutex, &attributes);
    words_->held_ns.store(0);
    words_->woken_ns.store(0);
    const pid_t victim = start([this] {
      ::pthread_mutex_lock(&words_->mutex);
      for (;;) words_->held_ns.store(now_ns());
    });
    const bool held = wait_for(words_->held_ns);
    const pid_t waiter = start([this] {
      request_time_slice(kShortestTimeSlice);
      [[maybe_unused]] const volatile std::int64_t touched = now_ns();
      ::pthread_mutex_lock(&words_->mutex);
      words_->woken_ns.store(now_ns());
    });
    ::usleep(5000);  // Until it sleeps.
    const std::int64_t killed = now_ns();
    ::kill(victim, SIGKILL);
    const bool woken = wait_for(words_->woken_ns);
    ::kill(waiter, SIGKILL);
    for (const pid_t pid : {victim, waiter}) ::waitpid(pid, nullptr, 0);
    words_->answer_ns.store(held && woken ? words_->woken_ns.load() - killed : -1);
  }

  static pid_t start(const std::function<void()>& body) {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    ::_exit(0);
  }
  static bool wait_for(const std::atomic<std::int64_t>& stamp) {
    const std::int64_t until = now_ns() + kRecoveryBoundNs;
    while (stamp.load() == 0) {
      if (now_ns() > until) return false;
      ::usleep(500);
    }
    return true;
  }

  SharedMemory memory_;
  Words* words_ = nullptr;
  pid_t pid_ = 0;
};

Result<double> tile_alone(const std::vector<std::byte>& tile) {
  static std::vector<std::byte> output(kTileBytes);
  const std::int64_t before = now_ns();
  filter_tile(tile, output);
  return static_cast<double>(now_ns() - before);
}

// As many processes that do nothing but compute as there are CPUs.
class Burners {
 public:
  explicit Burners(bool any) {
    const unsigned count = any ? std::thread::hardware_concurrency() : 0;
    for (unsigned i = 0; i < count; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (volatile std::uint64_t turns = 0;;) turns = turns + 1;
      }
      pids_.push_back(pid);
    }
  }
  ~Burners() {
    for (const pid_t pid : pids_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }

 private:
  std::vector<pid_t> pids_;
};

std::string megabytes(std::uint64_t bytes) { return fmt::format("{} MB", bytes >> 20); }

std::string title_of(const RecoverySettings& settings, const std::string& memory) {
  static constexpr const char* kDeaths[] = {"SIGKILL", "a genuine SIGSEGV", "abort()"};
  return fmt::format("{} -> {} {}; {} workers, {} in the victim, CPUs {}, seed {}",
                     kDeaths[static_cast<int>(settings.death)],
                     settings.work == Work::kTile ? "tile of 256 x 256" : "trivial item",
                     settings.known ? "known to be redone" : "redone", settings.workers, memory,
                     settings.busy ? "full" : "not full", settings.seed);
}

// Take-over from victims of two sizes.
Result<nlohmann::json> run_beside(const RecoverySettings& settings, std::uint64_t beside,
                                  bool print) {
  set_up_process();
  const std::vector<std::byte> tile = make_tile();
  RecoverySettings other = settings;
  other.memory = beside;
  PoolSide first(other, other.spares, true, tile);
  PoolSide second(settings, settings.spares, true, tile);
  const Burners burners(settings.busy);
  const std::vector<Side> sides = {
      {"take-over, " + megabytes(beside), [&] { return first.measure(); }},
      {"take-over, " + megabytes(settings.memory), [&] { return second.measure(); }}};
  auto all = measure_in_turns(sides, settings.rounds, kWarmUp, settings.seed);
  if (!all) return all.error();
  const std::string memory = megabytes(beside) + " or " + megabytes(settings.memory);
  return report(title_of(settings, memory), *all, 0, print);
}

Result<nlohmann::json> run(const RecoverySettings& settings, bool print) {
  set_up_process();
  const std::vector<std::byte> tile = make_tile();
  WakeSide wake;
  MutexSide mutex;
  PoolSide take_over(settings, settings.spares, true, tile);
  PoolSide proof(settings, settings.spares, false, tile);
  PoolSide zygote(settings, 0, false, tile);
  ExecSide exec(settings, tile);
  const Burners burners(settings.busy);
  const std::vector<Side> sides = {{"fork+exec", [&] { return exec.measure(); }},
                                   {"zygote fork", [&] { return zygote.measure(); }},
                                   {"spare, by proof", [&] { return proof.measure(); }},
                                   {"take-over", [&] { return take_over.measure(); }},
                                   {"(the tile alone, warm)", [&] { return tile_alone(tile); }},
                                   {"(a wake-up)", [&] { return wake.measure(); }},
                                   {"(a robust mutex alone)", [&] { return mutex.measure(); }}};
  auto all = measure_in_turns(sides, settings.rounds, kWarmUp, settings.seed);
  if (!all) return all.error();
  return report(title_of(settings, megabytes(settings.memory)), *all, 0, print);
}

}  // namespace
}  // namespace crashworthy::benchmark

int main(int argc, char** argv) {
  namespace bench = crashworthy::benchmark;
  CLI::App app(
      "Death of a worker in mid-item -> the item done again: take-over, spare by proof, zygote "
      "fork, fork+exec with OpenCV's image codecs, in turns.");
  bench::RecoverySettings settings;
  std::string memory = "0";
  std::string beside;
  bool json = false;
  const std::map<std::string, bench::Death> deaths = {{"kill", bench::Death::kKill},
                                                      {"segv", bench::Death::kSegv},
                                                      {"abort", bench::Death::kAbort}};
  const std::map<std::string, bench::Work> works = {{"trivial", bench::Work::kTrivial},
                                                    {"tile", bench::Work::kTile}};
  app.add_option("--pairs", settings.rounds, "Rounds that count")->check(CLI::Range(6, 2000));
  app.add_option("--workers", settings.workers, "Of each pool")->check(CLI::Range(1, 64));
  app.add_option("--spares", settings.spares, "Of the pools with spares")->check(CLI::Range(1, 8));
  app.add_option("--memory", memory, "Private memory of the victim: 20M, 200M, 2G")
      ->type_name("SIZE");
  app.add_option("--beside", beside,
                 "Only the take-over, from victims with this memory beside those of --memory")
      ->type_name("SIZE");
  app.add_option("--death", settings.death, "kill, segv or abort")
      ->type_name("KIND")
      ->transform(CLI::CheckedTransformer(deaths).description(""));
  app.add_option("--item", settings.work, "trivial or tile")
      ->type_name("KIND")
      ->transform(CLI::CheckedTransformer(works).description(""));
  app.add_flag("--busy", settings.busy, "Keep all CPUs busy meanwhile");
  app.add_flag("--known", settings.known, "Stop the clock when the coordinator has the result");
  app.add_option("--seed", settings.seed, "Of the order within the rounds and of the victims");
  app.add_flag("--json", json, "Print JSON");
  app.footer("Exit codes: 0 measured, 5 it could not be, 64 wrong usage.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  std::uint64_t beside_bytes = 0;
  for (const auto& [option, text, bytes] :
       {std::tuple{"--memory", &memory, &settings.memory}, {"--beside", &beside, &beside_bytes}}) {
    if (text->empty() && text == &beside) continue;
    auto read = crashworthy::parse_size(*text);
    if (!read) {
      std::fprintf(stderr, "recovery-benchmark: error: %s: %s\n", option,
                   read.error().message.c_str());
      return 64;
    }
    *bytes = *read;
  }
  auto result = beside.empty() ? bench::run(settings, !json)
                               : bench::run_beside(settings, beside_bytes, !json);
  if (!result) {
    std::fprintf(stderr, "recovery-benchmark: error: %s\n", result.error().message.c_str());
    return 5;
  }
  if (json) fmt::print("{}\n", result->dump(1));
  return 0;
}

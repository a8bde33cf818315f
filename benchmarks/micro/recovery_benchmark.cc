// recovery-benchmark: from the death of a worker in the middle of an item to the item done again,
// in four ways: a spare of the worker pool takes over; a spare waits for the proof of the death; a
// replacement is forked by the pool's zygote; a replacement is executed as a new program. All with
// OpenCV's image codecs linked.
//
// They take turns, in random order within each round. The victim is a random worker of the pool, of
// which the others sleep; it has memory of its own and is busy when it dies.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "benchmarks/micro/paired.h"
#include "benchmarks/micro/recovery_job.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/random.h"
#include "harness/os/shared_memory.h"
#include "harness/worker/futex.h"
#include "harness/worker/pool.h"

namespace crashworthy::benchmark {
namespace {

using std::chrono::milliseconds;

constexpr std::int64_t kBoundNs = 60'000'000'000;
constexpr int kWarmUp = 5;
constexpr std::uint64_t kVictimItem = 1'000'000;

struct Settings {
  int rounds = 60;
  int workers = 2;
  int spares = 2;
  std::uint64_t memory = 0;
  Death death = Death::kKill;
  Work work = Work::kTrivial;
  bool busy = false;
  bool known = false;  // Until the coordinator has the result, not until it is done.
  std::uint64_t seed = 1;
};

Error late(const char* what) {
  return {ErrorKind::kTimeout, 0, fmt::format("{} took longer than 60 s", what), {}};
}

// Memory that all processes of this program share.
class SharedStage {
 public:
  SharedStage() : memory_(SharedMemory::create("recovery-stage", sizeof(Stage)).value()) {
    new (memory_.data()) Stage();
  }
  Stage& operator*() const { return *reinterpret_cast<Stage*>(memory_.data()); }
  Stage* operator->() const { return &**this; }
  int fd() const { return memory_.fd(); }
  void clear() const {
    for (auto* word : {&(*this)->go, &(*this)->release}) word->store(0);
    (*this)->victim.store(0);
    (*this)->died_ns.store(0);
    (*this)->redone_ns.store(0);
  }

 private:
  SharedMemory memory_;
};

// Lets the victim die; when that was.
std::int64_t let_die(const Stage& stage, Death death) {
  const std::int64_t before = now_ns();
  if (death == Death::kKill) {
    ::kill(stage.victim.load(), SIGKILL);
  } else {
    const_cast<Stage&>(stage).go.store(1, std::memory_order_release);
  }
  return before;
}

// From the death to the end that the settings ask for.
double elapsed(const Settings& settings, const Stage& stage, std::int64_t killed_ns,
               std::int64_t known_ns) {
  const std::int64_t died = settings.death == Death::kKill ? killed_ns : stage.died_ns.load();
  return static_cast<double>((settings.known ? known_ns : stage.redone_ns.load()) - died);
}

// Smooth, with some edges, as photographs are: on noise, finding edges takes five times as long.
std::vector<std::byte> make_tile() {
  std::vector<std::byte> tile;
  for (int y = 0; y < kTileSide; ++y) {
    for (int x = 0; x < kTileSide; ++x) {
      const bool inside = (x / 64 + y / 64) % 2 == 0;
      for (int channel = 0; channel < 3; ++channel) {
        tile.push_back(static_cast<std::byte>((x + y) / 8 + channel * 16 + (inside ? 90 : 0)));
      }
    }
  }
  return tile;
}

// ---- The pool ----

class PoolSide {
 public:
  PoolSide(const Settings& settings, int spares, bool take_over, const std::vector<std::byte>& tile)
      : settings_(settings), random_(derive_seed(settings.seed, "victim")) {
    PoolOptions options;
    options.workers = settings.workers;
    options.spares = spares;
    options.take_over = take_over;
    options.max_demand = 1;
    options.intensity = 1'000'000;
    options.deadline = std::chrono::minutes(1);
    options.output_bytes = kTileBytes;
    options.frame_bytes = 4 * kTileBytes;
    Job warm_up;
    warm_up.output_bytes = kTileBytes;
    options.warm_up = warm_up;
    spares_ = static_cast<std::size_t>(spares);
    pool_ = make_worker_pool(
                options,
                [this](const Job& job, const JobContext& context) { return run(job, context); },
                Probe())
                .value();
    tile_ = pool_->allocate_frame(kTileBytes);
    std::memcpy(tile_.data(), tile.data(), kTileBytes);
  }

  Result<double> measure() {
    if (auto settled = settle(); !settled) return settled.error();
    stage_.clear();
    // Others asleep on the workers before it: so the victim is in a random place.
    const auto decoys = random_.below(static_cast<std::uint64_t>(settings_.workers));
    for (std::uint64_t i = 0; i < decoys; ++i) submit(i, {0, Death::kKill, Work::kTrivial, 1});
    submit(kVictimItem, {settings_.memory, settings_.death, settings_.work, 0});
    const std::int64_t until = now_ns() + kBoundNs;
    while (stage_->victim.load() == 0) {
      if (now_ns() > until) return late("the victim's start");
      if (auto came = pool_->wait(milliseconds(1)); !came) return came.error();
    }
    const std::int64_t killed = let_die(*stage_, settings_.death);
    bool done = false;
    while (!done) {
      auto came = pool_->wait(milliseconds(1000));
      if (!came) return came.error();
      for (const JobResult& result : *came) done = done || result.job.item == kVictimItem;
      if (now_ns() > until) return late("the recovery");
    }
    const std::int64_t known = now_ns();
    stage_->release.store(1);
    if (auto rest = pool_->drain(milliseconds(60'000)); !rest) return rest.error();
    return elapsed(settings_, *stage_, killed, known);
  }

 private:
  JobOutput run(const Job& job, const JobContext& context) {
    if (job.item == kNoItem) {  // The warm-up.
      filter_tile(make_tile(), context.output);
      return {};
    }
    RecoveryTask task;
    std::memcpy(&task, job.arguments.data(), sizeof task);
    FrameRef input;
    std::memcpy(&input, job.arguments.data() + sizeof task, sizeof input);
    run_task(task, context.attempt, *stage_, context.frame(input), context.output);
    JobOutput output;
    if (task.work == Work::kTile) output.frame_bytes = kTileBytes / 3;
    return output;
  }

  void submit(std::uint64_t item, const RecoveryTask& task) {
    Job job;
    job.item = item;
    job.arguments.assign(reinterpret_cast<const char*>(&task), sizeof task);
    const FrameRef input = tile_.ref();
    job.arguments.append(reinterpret_cast<const char*>(&input), sizeof input);
    if (task.work == Work::kTile) job.output_bytes = kTileBytes;
    pool_->submit(std::move(job));
  }

  // Until all workers and spares are there again.
  Result<void> settle() {
    const std::int64_t until = now_ns() + kBoundNs;
    for (;;) {
      const auto workers = pool_->workers();
      const bool whole =
          std::count(workers.begin(), workers.end(), 0) == 0 && pool_->spares().size() == spares_;
      if (whole) return {};
      if (now_ns() > until) return late("the refill");
      if (auto came = pool_->wait(milliseconds(1)); !came) return came.error();
    }
  }

  const Settings settings_;
  Random random_;
  SharedStage stage_;
  std::size_t spares_ = 0;
  std::unique_ptr<Pool> pool_;
  Frame tile_;
};

// ---- A new program ----

class ExecSide {
 public:
  ExecSide(const Settings& settings, const std::vector<std::byte>& tile)
      : settings_(settings),
        program_(find_helper("recovery-worker").value().string()),
        frame_(SharedMemory::create("recovery-frame", kTileBytes).value()) {
    std::memcpy(frame_.data(), tile.data(), kTileBytes);
  }
  ~ExecSide() { end(); }

  Result<double> measure() {
    if (pid_ == 0) {
      if (auto started = start(); !started) return started.error();
    }
    stage_.clear();
    const RecoveryTask task{settings_.memory, settings_.death, settings_.work, 0};
    if (auto given = give(task, 1); !given) return given.error();
    const std::int64_t until = now_ns() + kBoundNs;
    while (stage_->victim.load() == 0) {
      if (now_ns() > until) return late("the victim's start");
      ::usleep(200);
    }
    const std::int64_t killed = let_die(*stage_, settings_.death);
    wait_for_end(pidfd_.get(), -1);
    end();
    if (auto started = start(); !started) return started.error();
    if (auto given = give(task, 2); !given) return given.error();
    char done = 0;
    if (::read(from_.get(), &done, 1) != 1) return late("the replacement");
    return elapsed(settings_, *stage_, killed, now_ns());
  }

 private:
  Result<void> start() {
    std::array<int, 2> in{}, out{};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0) {
      return system_error("make a pipe", errno);
    }
    const UniqueFd theirs_in(in[0]), theirs_out(out[1]);
    to_.reset(in[1]);
    from_.reset(out[0]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, theirs_in.get(), STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, theirs_out.get(), STDOUT_FILENO);
    constexpr int kFrame = 10, kStage = 11;
    ::posix_spawn_file_actions_adddup2(&actions, frame_.fd(), kFrame);
    ::posix_spawn_file_actions_adddup2(&actions, stage_.fd(), kStage);
    std::string frame = std::to_string(kFrame), stage = std::to_string(kStage);
    char* const argv[] = {program_.data(), frame.data(), stage.data(), nullptr};
    const int refused = ::posix_spawn(&pid_, program_.c_str(), &actions, nullptr, argv, environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (refused != 0) return system_error("start " + program_, refused);
    auto pidfd = open_pidfd(pid_);
    if (!pidfd) return pidfd.error();
    pidfd_ = *std::move(pidfd);
    return {};
  }

  Result<void> give(const RecoveryTask& task, std::uint32_t attempt) {
    struct {
      RecoveryTask task;
      std::uint32_t attempt;
    } order{task, attempt};
    if (::write(to_.get(), &order, sizeof order) == sizeof order) return {};
    return system_error("give a task", errno);
  }

  void end() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  const Settings settings_;
  std::string program_;
  SharedStage stage_;
  SharedMemory frame_;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  UniqueFd to_;
  UniqueFd from_;
};

// ---- What no recovery can beat under load: a sleeping process is woken, and runs. ----

class WakeSide {
 public:
  WakeSide() : memory_(SharedMemory::create("recovery-wake", sizeof(Words)).value()) {
    words_ = new (memory_.data()) Words();
    pid_ = ::fork();
    if (pid_ != 0) return;
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
      if (now_ns() > before + kBoundNs) return late("a wake-up");
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

Result<nlohmann::json> run(const Settings& settings, bool print) {
  set_up_process();
  const std::vector<std::byte> tile = make_tile();
  WakeSide wake;
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
                                   {"(a wake-up)", [&] { return wake.measure(); }}};
  auto all = measure_in_turns(sides, settings.rounds, kWarmUp, settings.seed);
  if (!all) return all.error();
  static constexpr const char* kDeaths[] = {"SIGKILL", "a genuine SIGSEGV", "abort()"};
  const std::string title =
      fmt::format("{} -> {} {}; {} workers, {} MB in the victim, CPUs {}, seed {}",
                  kDeaths[static_cast<int>(settings.death)],
                  settings.work == Work::kTile ? "tile of 256 x 256" : "trivial item",
                  settings.known ? "known to be redone" : "redone", settings.workers,
                  settings.memory >> 20, settings.busy ? "full" : "not full", settings.seed);
  return report(title, *all, 0, print);
}

}  // namespace
}  // namespace crashworthy::benchmark

int main(int argc, char** argv) {
  namespace bench = crashworthy::benchmark;
  CLI::App app(
      "Death of a worker in mid-item -> the item done again: take-over, spare by proof, zygote "
      "fork, fork+exec with OpenCV's image codecs, in turns.");
  bench::Settings settings;
  std::string memory = "0";
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
  auto bytes = crashworthy::parse_size(memory);
  if (!bytes) {
    std::fprintf(stderr, "recovery-benchmark: error: --memory: %s\n",
                 bytes.error().message.c_str());
    return 64;
  }
  settings.memory = *bytes;
  auto result = bench::run(settings, !json);
  if (!result) {
    std::fprintf(stderr, "recovery-benchmark: error: %s\n", result.error().message.c_str());
    return 5;
  }
  if (json) fmt::print("{}\n", result->dump(1));
  return 0;
}

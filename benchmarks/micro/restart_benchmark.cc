// restart-benchmark: from SIGKILL of a worker to the first instruction of its replacement's main,
// under a SupervisionTree and beside the floor: a parent that waits on the worker's pidfd, reaps
// it, forks and executes the same worker again.
//
// Both sides take turns, in random order within each pair; what is printed is the medians, and the
// ratio of the pairs with its 95 % interval.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/random.h"
#include "harness/supervision/tree.h"
#include "results/statistics/statistics.h"

namespace crashworthy {
namespace {

constexpr int kStampDescriptor = 3;
constexpr int kBoundMs = 10'000;
constexpr int kBenchmarkIntensity = 1'000'000;
constexpr int kWarmUp = 3;  // Pairs that are measured and not counted.

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("make a pipe", errno);
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Error late(const char* what) {
  return {ErrorKind::kTimeout, 0, fmt::format("{}: no stamp of a worker within 10 s", what), {}};
}

// One side of the comparison: a worker that is up, and comes back when it is killed.
class Side {
 public:
  virtual ~Side() = default;
  // Kills the worker; returns the time from just before the kill to the stamp of its replacement.
  virtual Result<std::int64_t> kill_and_wait() = 0;
};

class Floor : public Side {
 public:
  explicit Floor(std::string program) : program_(std::move(program)) {}
  ~Floor() override {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  Result<void> start() {
    auto pipe = make_pipe();
    if (!pipe) return pipe.error();
    pipe_ = *std::move(pipe);
    if (auto forked = fork_worker(); !forked) return forked;
    auto stamp = read_stamp();
    return stamp ? Result<void>() : Result<void>(stamp.error());
  }

  Result<std::int64_t> kill_and_wait() override {
    const std::int64_t before = now_ns();
    ::kill(pid_, SIGKILL);
    if (!wait_for_end(pidfd_.get(), kBoundMs)) return late("floor");
    siginfo_t info{};
    ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED);
    pid_ = 0;
    if (auto forked = fork_worker(); !forked) return forked.error();
    auto stamp = read_stamp();
    if (!stamp) return stamp;
    return *stamp - before;
  }

 private:
  Result<void> fork_worker() {
    char* const argv[] = {program_.data(), nullptr};
    const pid_t pid = ::fork();
    if (pid < 0) return system_error("fork", errno);
    if (pid == 0) {
      ::dup2(pipe_.write.get(), kStampDescriptor);
      ::execv(argv[0], argv);
      ::_exit(127);
    }
    pid_ = pid;
    auto pidfd = open_pidfd(pid);
    if (!pidfd) return pidfd.error();
    pidfd_ = *std::move(pidfd);
    return {};
  }

  Result<std::int64_t> read_stamp() {
    pollfd readable{pipe_.read.get(), POLLIN, 0};
    if (::poll(&readable, 1, kBoundMs) != 1) return late("floor");
    std::int64_t stamp = 0;
    if (::read(pipe_.read.get(), &stamp, sizeof stamp) != sizeof stamp) return late("floor");
    return stamp;
  }

  std::string program_;
  Pipe pipe_;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
};

class Tree : public Side {
 public:
  explicit Tree(std::string program) : program_(std::move(program)) {}

  Result<void> start() {
    auto pipe = make_pipe();
    if (!pipe) return pipe.error();
    pipe_ = *std::move(pipe);
    ChildSpec worker;
    worker.id = "worker";
    worker.command = {program_};
    worker.descriptors = {{pipe_.write.get(), kStampDescriptor}};
    worker.crash_loop.count = 0;
    SupervisorSpec spec;
    spec.intensity = kBenchmarkIntensity;
    spec.children = {worker};
    auto tree = SupervisionTree::start(std::move(spec));
    if (!tree) return tree.error();
    tree_.emplace(*std::move(tree));
    auto stamp = read_stamp();
    return stamp ? Result<void>() : Result<void>(stamp.error());
  }

  Result<std::int64_t> kill_and_wait() override {
    const auto worker = tree_->logic().find("worker");
    if (!worker || worker->pid == 0) return late("tree");
    const std::int64_t before = now_ns();
    ::kill(worker->pid, SIGKILL);
    auto stamp = read_stamp();
    if (!stamp) return stamp;
    return *stamp - before;
  }

 private:
  // Runs the tree until the worker has spoken and the tree knows of it.
  Result<std::int64_t> read_stamp() {
    std::int64_t stamp = 0;
    const std::int64_t until = now_ns() + std::int64_t{kBoundMs} * 1'000'000;
    const auto incarnation = [this] { return tree_->logic().find("worker")->incarnation; };
    for (bool stamped = false; !stamped || incarnation() != seen_ + 1 ||
                               tree_->logic().find("worker")->presence != Presence::kRunning;) {
      if (now_ns() > until) return late("tree");
      pollfd fds[] = {{stamped ? -1 : pipe_.read.get(), POLLIN, 0}, {tree_->event_fd(), POLLIN, 0}};
      ::poll(fds, 2, kBoundMs);
      if (fds[1].revents != 0) {
        if (auto ran = tree_->run(std::chrono::nanoseconds(0)); !ran) return ran.error();
      }
      if (fds[0].revents != 0) {
        if (::read(pipe_.read.get(), &stamp, sizeof stamp) != sizeof stamp) return late("tree");
        stamped = true;
      }
    }
    ++seen_;
    return stamp;
  }

  std::string program_;
  Pipe pipe_;
  std::optional<SupervisionTree> tree_;
  std::uint32_t seen_ = 0;
};

struct Measured {
  std::vector<double> floor;
  std::vector<double> tree;
};

Result<Measured> measure(const std::string& program, int pairs, std::uint64_t seed) {
  Floor floor(program);
  if (auto started = floor.start(); !started) return started.error();
  Tree tree(program);
  if (auto started = tree.start(); !started) return started.error();
  Measured measured;
  Random random(seed);
  for (int i = 0; i < pairs + kWarmUp; ++i) {
    const bool floor_first = random.below(2) == 0;
    double times[2] = {0, 0};
    for (int turn = 0; turn < 2; ++turn) {
      const bool of_floor = (turn == 0) == floor_first;
      auto time = of_floor ? floor.kill_and_wait() : tree.kill_and_wait();
      if (!time) return time.error();
      times[of_floor ? 0 : 1] = static_cast<double>(*time);
    }
    if (i < kWarmUp) continue;
    measured.floor.push_back(times[0]);
    measured.tree.push_back(times[1]);
  }
  return measured;
}

Result<nlohmann::json> report(const std::string& name, const Measured& measured, bool print) {
  auto floor = statistics::median_estimate(measured.floor);
  auto tree = statistics::median_estimate(measured.tree);
  auto ratio = statistics::paired_log_ratio(measured.floor, measured.tree);
  if (!floor) return floor.error();
  if (!tree) return tree.error();
  if (!ratio) return ratio.error();
  const auto& estimate = ratio->ratio;
  nlohmann::json interval = nullptr;
  std::string range = estimate.reason;
  if (estimate.interval) {
    interval = {estimate.interval->low, estimate.interval->high};
    range = fmt::format("[{:.3f}, {:.3f}]", estimate.interval->low, estimate.interval->high);
  }
  if (print) {
    fmt::print("{:<18} {:>12} {:>12} {:>8.3f}  {:<16} {:>6}\n", name, format_duration(floor->value),
               format_duration(tree->value), estimate.value, range, measured.floor.size());
    std::fflush(stdout);
  }
  return nlohmann::json{{"worker", name},
                        {"pairs", measured.floor.size()},
                        {"floor_median_ns", floor->value},
                        {"tree_median_ns", tree->value},
                        {"ratio", estimate.value},
                        {"ratio_interval_95", interval}};
}

int run(int pairs, std::uint64_t seed, bool json) {
  nlohmann::json results = nlohmann::json::array();
  if (!json) {
    fmt::print("kill -> first instruction of the replacement's main (medians), seed {}\n", seed);
    fmt::print("{:<18} {:>12} {:>12} {:>8}  {:<16} {:>6}\n", "worker", "floor", "tree", "ratio",
               "95 % interval", "pairs");
  }
  for (const char* name : {"restart-worker", "restart-worker-opencv"}) {
    auto program = find_helper(name);
    auto measured = program ? measure(program->string(), pairs, seed) : program.error();
    auto line = measured ? report(name, *measured, !json) : measured.error();
    if (!line) {
      std::fprintf(stderr, "restart-benchmark: error: %s\n", line.error().message.c_str());
      return 5;
    }
    results.push_back(*line);
  }
  if (json) fmt::print("{}\n", nlohmann::json{{"seed", seed}, {"results", results}}.dump(1));
  return 0;
}

}  // namespace
}  // namespace crashworthy

int main(int argc, char** argv) {
  CLI::App app(
      "Kill -> replacement's first instruction under a supervision tree, beside the floor of a "
      "plain parent that waits, forks and executes.");
  int pairs = 100;
  std::uint64_t seed = 1;
  bool json = false;
  app.add_option("--pairs", pairs, "Kills of each side and worker")->check(CLI::Range(6, 2000));
  app.add_option("--seed", seed, "Of the order within the pairs");
  app.add_flag("--json", json, "Print JSON");
  app.footer("Exit codes: 0 measured, 5 it could not be, 64 wrong usage.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  return crashworthy::run(pairs, seed, json);
}

// handoff-benchmark: what it costs to give an item to a worker and to get its result: the crash-
// isolated pool (shared memory, nothing copied), a queue between threads (nothing isolated), and a
// worker process behind a pipe or a Unix socket (everything copied).
//
// Two questions: the round trip to a worker that sleeps, and the cost of one item among many to a
// worker that is busy. They take turns, in random order within each round.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "benchmarks/micro/paired.h"
#include "harness/os/clock.h"
#include "harness/os/unique_fd.h"
#include "harness/worker/pool.h"

namespace crashworthy::benchmark {
namespace {

using std::chrono::milliseconds;

constexpr int kTrips = 40;        // Of one sample, which is their median.
constexpr int kBusyItems = 4000;  // Of one sample, which is their mean.
constexpr int kDemand = 64;
constexpr int kWarmUp = 2;
constexpr std::int64_t kIdleNs = 60'000;  // After this a worker sleeps.

double middle(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + kTrips / 2, values.end());
  return values[kTrips / 2];
}

void let_it_sleep() {
  const std::int64_t until = now_ns() + kIdleNs;
  while (now_ns() < until) continue;
}

// ---- Executors: the pool, and threads ----

class ExecutorSide {
 public:
  ExecutorSide(std::unique_ptr<Executor> executor, std::size_t bytes)
      : executor_(std::move(executor)), bytes_(bytes) {
    if (bytes_ > sizeof(FrameRef)) frame_ = executor_->allocate_frame(bytes_);
    if (frame_) std::memset(frame_.data(), 1, bytes_);
  }

  // Each with a frame to be read and, of the same size, one to be filled.
  Result<double> trips() {
    std::vector<double> times;
    for (int i = 0; i < kTrips; ++i) {
      let_it_sleep();
      const std::int64_t before = now_ns();
      executor_->submit(job());
      std::size_t came = 0;
      while (came == 0) {
        auto results = executor_->wait(milliseconds(1000));
        if (!results) return results.error();
        came = results->size();
        times.push_back(static_cast<double>(now_ns() - before));
        if (came == 0) times.pop_back();
      }
    }
    return middle(times);
  }

  Result<double> busy() {
    const std::int64_t before = now_ns();
    int given = 0, taken = 0;
    while (taken < kBusyItems) {
      while (given < kBusyItems && executor_->in_flight() < 4 * kDemand) {
        executor_->submit(job());
        ++given;
      }
      auto results = executor_->wait(milliseconds(1000));
      if (!results) return results.error();
      taken += static_cast<int>(results->size());
    }
    return static_cast<double>(now_ns() - before) / kBusyItems;
  }

 private:
  Job job() {
    Job made;
    made.item = ++item_;
    made.arguments.assign(4, 'x');
    if (!frame_) return made;
    const FrameRef ref = frame_.ref();
    made.arguments.append(reinterpret_cast<const char*>(&ref), sizeof ref);
    made.inputs = {frame_};
    made.output_bytes = bytes_;
    return made;
  }

  std::unique_ptr<Executor> executor_;
  const std::size_t bytes_;
  Frame frame_;
  std::uint64_t item_ = 0;
};

// Touches a byte of each frame: what is done with the pixels is no hand-off.
JobOutput touch(const Job& job, const JobContext& context) {
  JobOutput output;
  output.bytes.assign(4, 'y');
  if (job.arguments.size() < 4 + sizeof(FrameRef)) return output;
  FrameRef ref;
  std::memcpy(&ref, job.arguments.data() + 4, sizeof ref);
  const auto input = context.frame(ref);
  context.output[0] = input[input.size() - 1];
  output.frame_bytes = context.output.size();
  return output;
}

std::unique_ptr<Executor> make_pool(std::size_t bytes, int demand) {
  PoolOptions options;
  options.workers = 1;
  options.max_demand = demand;
  options.output_bytes = bytes;
  options.frame_bytes = (4 * static_cast<std::size_t>(demand) + 4) * frame_extent(bytes);
  return make_worker_pool(options, touch, Probe()).value();
}

// ---- A worker process that everything is copied to ----

bool read_all(int fd, std::byte* data, std::size_t size) {
  while (size > 0) {
    const ssize_t got = ::read(fd, data, size);
    if (got <= 0) return false;
    data += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

bool send_all(int fd, const std::byte* data, std::size_t size) {
  while (size > 0) {
    const ssize_t sent = ::write(fd, data, size);
    if (sent <= 0) return false;
    data += sent;
    size -= static_cast<std::size_t>(sent);
  }
  return true;
}

class CopySide {
 public:
  CopySide(bool socket, std::size_t bytes) : data_(bytes, std::byte{1}) {
    std::array<int, 2> there{}, back{};
    if (socket) {
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, there.data()) != 0) return;
      back = {::dup(there[0]), ::dup(there[1])};
      std::swap(there[0], there[1]);  // [0] is the worker's end, as of a pipe.
    } else if (::pipe2(there.data(), O_CLOEXEC) != 0 || ::pipe2(back.data(), O_CLOEXEC) != 0) {
      return;
    }
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(there[1]);
      ::close(back[0]);
      while (read_all(there[0], data_.data(), data_.size())) {
        if (!send_all(back[1], data_.data(), data_.size())) break;
      }
      ::_exit(0);
    }
    ::close(there[0]);
    ::close(back[1]);
    to_.reset(there[1]);
    from_.reset(back[0]);
  }
  ~CopySide() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  Result<double> trips() {
    std::vector<double> times;
    for (int i = 0; i < kTrips; ++i) {
      let_it_sleep();
      const std::int64_t before = now_ns();
      if (!send_all(to_.get(), data_.data(), data_.size()) ||
          !read_all(from_.get(), data_.data(), data_.size())) {
        return system_error("exchange data with a worker", errno);
      }
      times.push_back(static_cast<double>(now_ns() - before));
    }
    return middle(times);
  }

 private:
  std::vector<std::byte> data_;
  pid_t pid_ = 0;
  UniqueFd to_;
  UniqueFd from_;
};

// ---- What is compared ----

std::string size_text(std::size_t bytes) {
  return bytes < 1024 ? fmt::format("{} B", bytes) : fmt::format("{} KB", bytes / 1024);
}

Result<nlohmann::json> round_trips(std::size_t bytes, int rounds, std::uint64_t seed, bool print) {
  ExecutorSide pool(make_pool(bytes, 1), bytes);
  CopySide pipe(false, bytes);
  CopySide socket(true, bytes);
  // Last: it starts a thread, after which nobody may fork.
  ExecutorSide threads(make_thread_executor(1, touch, Probe(), 8 * frame_extent(bytes)), bytes);
  const std::vector<Side> sides = {{"pipe, copied both ways", [&] { return pipe.trips(); }},
                                   {"Unix socket, copied", [&] { return socket.trips(); }},
                                   {"threads, one process", [&] { return threads.trips(); }},
                                   {"pool, isolated", [&] { return pool.trips(); }}};
  auto all = measure_in_turns(sides, rounds, kWarmUp, seed);
  if (!all) return all.error();
  return report(fmt::format("round trip of {} to a sleeping worker", size_text(bytes)), *all, 0,
                print);
}

Result<nlohmann::json> busy_items(int rounds, std::uint64_t seed, bool print) {
  constexpr std::size_t kBytes = 4;
  ExecutorSide pool(make_pool(kBytes, kDemand), kBytes);
  ExecutorSide threads(make_thread_executor(1, touch, Probe()), kBytes);
  const std::vector<Side> sides = {{"threads, one process", [&] { return threads.busy(); }},
                                   {"pool, isolated", [&] { return pool.busy(); }}};
  auto all = measure_in_turns(sides, rounds, kWarmUp, seed);
  if (!all) return all.error();
  return report("one item of 4 B among many, to a busy worker", *all, 0, print);
}

Result<nlohmann::json> run(int rounds, std::uint64_t seed, bool print) {
  nlohmann::json results = nlohmann::json::array();
  for (const std::size_t bytes : {std::size_t{4}, std::size_t{192} * 1024, std::size_t{3} << 20}) {
    auto line = round_trips(bytes, rounds, seed, print);
    if (!line) return line.error();
    results.push_back(*std::move(line));
  }
  auto line = busy_items(rounds, seed, print);
  if (!line) return line.error();
  results.push_back(*std::move(line));
  return nlohmann::json{{"seed", seed}, {"results", std::move(results)}};
}

}  // namespace
}  // namespace crashworthy::benchmark

int main(int argc, char** argv) {
  CLI::App app(
      "The cost of handing an item to a worker: the crash-isolated pool beside threads, a pipe and "
      "a Unix socket, in turns.");
  int rounds = 60;
  std::uint64_t seed = 1;
  bool json = false;
  app.add_option("--pairs", rounds, "Rounds that count")->check(CLI::Range(6, 2000));
  app.add_option("--seed", seed, "Of the order within the rounds");
  app.add_flag("--json", json, "Print JSON");
  app.footer("Exit codes: 0 measured, 5 it could not be, 64 wrong usage.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  auto result = crashworthy::benchmark::run(rounds, seed, !json);
  if (!result) {
    std::fprintf(stderr, "handoff-benchmark: error: %s\n", result.error().message.c_str());
    return 5;
  }
  if (json) fmt::print("{}\n", result->dump(1));
  return 0;
}

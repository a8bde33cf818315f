// observer-benchmark: what it costs a program that its outputs and processes are observed, as a
// trial does it.
//
// The same command runs with and without: mogrify on photographs, and `tiles`. Both take turns, in
// random order within each round; makespans are compared in pairs.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "benchmarks/micro/paired.h"
#include "harness/experiment/observer.h"
#include "harness/experiment/process_watch.h"
#include "harness/experiment/stall_watch.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/process/launcher.h"

namespace crashworthy::benchmark {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kWarmUp = 1;
constexpr std::int64_t kLookEveryNs = 500'000'000;  // As a trial does.
constexpr const char* kPhotographs = "/usr/share/doc/opencv-doc/examples";

Error missing(const std::string& what) { return {ErrorKind::kMissing, 0, what, {}}; }

// Photographs of Debian's opencv-doc, at most `count`.
Result<std::vector<fs::path>> photographs(std::size_t count) {
  std::vector<fs::path> found;
  std::error_code failure;
  const auto skip = fs::directory_options::skip_permission_denied;
  for (auto entry = fs::recursive_directory_iterator(kPhotographs, skip, failure);
       !failure && entry != fs::recursive_directory_iterator(); entry.increment(failure)) {
    if (entry->is_regular_file(failure) && entry->path().extension() == ".jpg")
      found.push_back(entry->path());
  }
  if (found.empty()) return missing("there are no photographs: install the package opencv-doc");
  std::sort(found.begin(), found.end());
  found.resize(std::min(found.size(), count));
  return found;
}

bool is_there(const std::string& program) {
  return ::access(("/usr/bin/" + program).c_str(), X_OK) == 0;
}

// One command in a directory of its own, made anew for each run.
class Workload {
 public:
  Workload(std::vector<std::string> argv, std::vector<fs::path> inputs)
      : argv_(std::move(argv)), inputs_(std::move(inputs)) {
    std::string pattern = (fs::temp_directory_path() / "observer-benchmark-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~Workload() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  // Launch to the end of its main process, in ns.
  Result<double> run(bool observed) {
    std::error_code failure;
    const fs::path work = root_ / "work";
    fs::remove_all(work, failure);
    fs::create_directories(work / "in");
    fs::create_directories(work / "out");
    for (const fs::path& input : inputs_)
      fs::copy_file(input, work / "in" / input.filename(), failure);
    Eyes eyes;
    if (observed) {
      auto opened = eyes.open(work);
      if (!opened) return opened.error();
    }
    LaunchSpec launch;
    launch.argv = argv_;
    launch.environment = {"PATH=/usr/bin:/bin", "OMP_NUM_THREADS=1", "HOME=" + root_.string()};
    launch.directory = work;
    const std::int64_t launched_ns = now_ns();
    auto subject = Subject::launch(launch);
    if (!subject) return subject.error();
    eyes.begin(*subject, launched_ns);
    return eyes.follow(*subject, launched_ns);
  }

 private:
  // The loop of a trial, with or without what observes.
  class Eyes {
   public:
    Result<void> open(const fs::path& work) {
      auto outputs = OutputObserver::create(work);
      if (!outputs) return outputs.error();
      outputs_ = *std::move(outputs);
      auto processes = ProcessWatch::create();
      if (!processes) return processes.error();
      processes_ = *std::move(processes);
      return {};
    }
    void begin(const Subject& subject, std::int64_t launched_ns) {
      if (processes_) processes_->begin(subject.main_pid(), launched_ns);
      look_at_ = connector_at_ = outputs_at_ = launched_ns;
    }
    Result<double> follow(Subject& subject, std::int64_t launched_ns) {
      while (true) {
        if (processes_ && now_ns() >= look_at_) look(subject);
        const std::int64_t now = now_ns();
        const bool connector = processes_ && now >= connector_at_;
        const bool outputs = outputs_ && now >= outputs_at_;
        pollfd fds[] = {{subject.report_fd(), POLLIN, 0},
                        {outputs ? outputs_->fd() : -1, POLLIN, 0},
                        {connector ? processes_->fd() : -1, POLLIN, 0}};
        const std::int64_t until = std::min(
            {look_at_, connector ? INT64_MAX : connector_at_, outputs ? INT64_MAX : outputs_at_});
        const std::int64_t wait_ns = std::max<std::int64_t>(0, until - now_ns());
        const timespec timeout{wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
        ::ppoll(fds, 3, processes_ ? &timeout : nullptr, nullptr);
        if (fds[1].revents != 0) {
          outputs_->read(events_);
          for (const pid_t pid : outputs_->new_writers()) processes_->name_now(pid);
          outputs_at_ = now_ns() + kOutputsEveryNs;
        }
        if (fds[2].revents != 0) {
          processes_->read_connector();
          connector_at_ = now_ns() + kConnectorEveryNs;
        }
        if (fds[0].revents == 0) continue;
        auto reports = subject.read_reports();
        if (!reports) return reports.error();
        for (const Report& report : *reports) {
          if (report.kind != Report::Kind::kMainEnded) continue;
          if (!report.status.success()) {
            return Error{ErrorKind::kNoData, 0, "the command " + report.status.describe(), {}};
          }
          return static_cast<double>(report.time_ns - launched_ns);
        }
      }
    }

   private:
    void look(const Subject& subject) {
      const auto tree = subject.descendants();
      processes_->update(tree);
      (void)activity_of(tree);
      look_at_ = now_ns() + kLookEveryNs;
    }
    std::optional<OutputObserver> outputs_;
    std::optional<ProcessWatch> processes_;
    std::vector<OutputEvent> events_;
    std::int64_t look_at_ = 0;
    std::int64_t connector_at_ = 0;
    std::int64_t outputs_at_ = 0;
  };

  std::vector<std::string> argv_;
  std::vector<fs::path> inputs_;
  fs::path root_;
};

Result<json> compare(const std::string& title, Workload& workload, int rounds, std::uint64_t seed,
                     bool print) {
  const std::vector<Side> sides = {{"not observed", [&] { return workload.run(false); }},
                                   {"observed", [&] { return workload.run(true); }}};
  auto all = measure_in_turns(sides, rounds, kWarmUp, seed);
  if (!all) return all.error();
  return report(title, *all, 0, print);
}

Result<json> run_mogrify(std::size_t count, int rounds, std::uint64_t seed, bool print) {
  if (!is_there("mogrify")) return missing("there is no mogrify: install the package imagemagick");
  auto inputs = photographs(count);
  if (!inputs) return inputs.error();
  std::vector<std::string> argv{"mogrify", "-path", "out", "-format", "png", "-resize", "50%"};
  for (const fs::path& input : *inputs) argv.push_back("in/" + input.filename().string());
  Workload workload(argv, *inputs);
  return compare(fmt::format("mogrify on {} photographs", inputs->size()), workload, rounds, seed,
                 print);
}

Result<json> run_tiles(std::size_t count, int rounds, std::uint64_t seed, bool print) {
  auto program = find_helper("tiles");
  if (!program) return program.error();
  auto inputs = photographs(count);
  if (!inputs) return inputs.error();
  std::vector<std::string> argv{program->string(), "--output", "out"};
  for (const fs::path& input : *inputs) argv.push_back("in/" + input.filename().string());
  Workload workload(argv, *inputs);
  return compare(fmt::format("tiles on {} photographs", inputs->size()), workload, rounds, seed,
                 print);
}

// What cannot be measured here is said and left out; 77 when that is all.
int run(std::size_t count, int rounds, std::uint64_t seed, bool as_json) {
  json results = json::array();
  for (const auto& measure : {run_mogrify, run_tiles}) {
    auto lines = measure(count, rounds, seed, !as_json);
    if (!lines) {
      std::fprintf(stderr, "observer-benchmark: %s: %s\n",
                   lines.error().kind == ErrorKind::kMissing ? "skipped" : "error",
                   lines.error().message.c_str());
      if (lines.error().kind != ErrorKind::kMissing) return 5;
      continue;
    }
    results.push_back(*std::move(lines));
  }
  if (as_json) fmt::print("{}\n", json{{"seed", seed}, {"results", results}}.dump(1));
  return results.empty() ? 77 : 0;
}

}  // namespace
}  // namespace crashworthy::benchmark

int main(int argc, char** argv) {
  CLI::App app("The cost of observing outputs and processes, in turns with a run without.");
  int rounds = 20;
  std::size_t count = 12;
  std::uint64_t seed = 1;
  bool json = false;
  app.add_option("--pairs", rounds, "Rounds that count")->check(CLI::Range(6, 2000));
  app.add_option("--photographs", count, "So many of them a run")->check(CLI::Range(1, 100));
  app.add_option("--seed", seed, "Of the order within the rounds");
  app.add_flag("--json", json, "Print JSON");
  app.footer("Exit codes: 0 measured, 5 it could not be, 64 wrong usage, 77 not on this machine.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  return crashworthy::benchmark::run(count, rounds, seed, json);
}

#include "harness/experiment/runner.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "harness/experiment/baseline.h"
#include "harness/experiment/clock_check.h"
#include "harness/experiment/conditions.h"
#include "harness/experiment/interrupts.h"
#include "harness/experiment/launch.h"
#include "harness/experiment/needs.h"
#include "harness/experiment/plan.h"
#include "harness/experiment/progress.h"
#include "harness/experiment/trial.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/process/scratch_guard.h"
#include "results/report/html.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::chrono::seconds kGoldenBound(600);
constexpr std::chrono::seconds kLeastTimeout(10);
constexpr int kTimeoutFactor = 20;
constexpr std::chrono::nanoseconds kClockStep = std::chrono::milliseconds(1010);

// The run directory: a new one, or an empty one that the user made.
struct RunDirectory {
  fs::path path;  // Absolute.
  bool made = false;
};

Error directory_error(const fs::path& directory, const std::string& what) {
  return usage_error("unable to make the run directory '" + directory.string() + "': " + what,
                     "give a new or an empty, writable directory with --out");
}

Result<RunDirectory> make_run_directory(const Experiment& experiment, const RunOptions& options) {
  std::error_code failure;
  const fs::path family = fs::path("results") / "runs" / experiment.name;
  fs::path directory = options.out.empty() ? family / utc_timestamp() : options.out;
  if (directory.has_parent_path()) fs::create_directories(directory.parent_path(), failure);
  if (failure) return directory_error(directory, failure.message());
  RunDirectory made;
  made.made = fs::create_directory(directory, failure);  // Exclusive: two runs never share one.
  for (int n = 2; options.out.empty() && !failure && !made.made; ++n) {
    directory = family / fmt::format("{}-{}", utc_timestamp(), n);
    made.made = fs::create_directory(directory, failure);
  }
  if (failure) return directory_error(directory, failure.message());
  if (!made.made && fs::exists(directory / "experiment.json", failure))
    return directory_error(directory, "it holds another run");
  if (!made.made && !fs::is_empty(directory, failure))
    return directory_error(directory, "it is not empty");
  if (failure) return directory_error(directory, failure.message());
  made.path = fs::absolute(directory, failure);
  fs::create_directory(made.path / "trials", failure);
  if (failure) return directory_error(directory, failure.message());
  return made;
}

class Runner {
 public:
  Runner(const Experiment& experiment, const std::string& text, const RunOptions& options)
      : experiment_(experiment),
        text_(text),
        options_(options),
        blocks_(options.blocks.value_or(experiment.blocks)) {
    seed_ = options.seed      ? *options.seed
            : experiment.seed ? *experiment.seed
                              : std::random_device()() & 0x7fffffffu;
  }

  Result<RunResult> run() {
    auto skipped = skip_arms(experiment_);
    if (!skipped) return skipped.error();
    skipped_ = *std::move(skipped);
    auto directory = make_run_directory(experiment_, options_);
    if (!directory) return directory.error();
    directory_ = directory->path;
    const Interrupts interrupts;  // Until the results are written: a stop is heeded between trials,
                                  // not in the middle of a file.
    interrupts_ = &interrupts;
    auto done = run_in_directory();
    if (!done || !planned_) remove_if_unused(directory->made);
    if (!done) {
      if (planned_)
        (void)write_results(directory_);  // What was measured; the error is what is reported.
      Error error = done.error();
      if (planned_ && error.kind == ErrorKind::kUsage)
        error.kind = ErrorKind::kSystem;  // It could be started before.
      return error;
    }
    if (!planned_) return RunResult{{}, directory_, interrupted_by_};
    auto results = write_results(directory_);
    if (!results) return results.error();
    return RunResult{*std::move(results), directory_, interrupted_by_};
  }

 private:
  Result<void> run_in_directory() {
    auto clock = measure_clock_error();  // Forks: before anything else.
    auto scratch = ScratchGuard::create(directory_ / "scratch");
    if (!scratch) return scratch.error();
    const int total =
        blocks_ * static_cast<int>(experiment_.arms.size() * (experiment_.faults.size() + 1));
    Progress progress(options_.progress, total, blocks_);
    progress_ = &progress;
    for (const SkippedArm& arm : skipped_)
      progress.note("arm '" + arm.arm + "' is skipped: " + arm.reason);
    auto prepared = prepare_subject(experiment_.subject, scratch->path());
    if (!prepared) return prepared.error();
    prepared_ = *std::move(prepared);
    scratch_ = scratch->path();
    if (auto written = write_file_atomically(directory_ / "experiment.json", text_); !written)
      return written;
    if (auto golden = run_golden(); !golden) return golden;
    if (interrupted_by_ != 0) return {};
    if (auto planned = write_plan(clock); !planned) return planned;
    auto done = run_trials();
    progress.finish();
    if (auto removed = scratch->remove(); done && !removed) return removed;
    return done;
  }

  // A run that never came to its first trial leaves nothing of its own. The directory was empty.
  void remove_if_unused(bool made) const {
    if (planned_) return;
    std::error_code ignored;
    for (const char* name : {"experiment.json", "golden.json", "golden", "golden-2", "trials"})
      fs::remove_all(directory_ / name, ignored);
    fs::path place = directory_;
    if (made) fs::remove(place, ignored);
    // results/runs/<experiment>, as far as it is empty now: made for this run.
    for (int level = 0; options_.out.empty() && level < 3; ++level) {
      place = place.parent_path();
      if (!fs::is_empty(place, ignored) || ignored) return;
      fs::remove(place, ignored);
    }
  }

  // A convenience: not having the link is no failure.
  void point_latest_here() const {
    if (!options_.out.empty()) return;
    std::error_code ignored;
    const fs::path link = directory_.parent_path() / "latest";
    fs::remove(link, ignored);
    fs::create_directory_symlink(directory_.filename(), link, ignored);
  }

  TrialSpec trial_spec(const ArmSpec& arm, int number) const {
    TrialSpec spec;
    spec.number = number;
    spec.arm = &arm;
    spec.run = run_id_;
    spec.timeout = kGoldenBound;
    spec.disk_bytes = experiment_.disk_bytes;
    spec.linger = experiment_.linger;
    spec.hang_after = experiment_.hang_after;
    spec.rerun = experiment_.rerun;
    spec.scratch = scratch_ / fmt::format("{:04}", number);
    spec.directory =
        number == 0 ? directory_ / "golden" : directory_ / "trials" / fmt::format("{:04}", number);
    return spec;
  }

  // Two fault-free runs of the first arm that can run: what both deliver is what every trial is
  // held against.
  Result<void> run_golden() {
    run_id_ = fmt::format(
        "{:016x}", derive_seed(seed_, utc_timestamp(), static_cast<std::uint64_t>(now_ns())));
    progress_->note("two golden runs of arm '" + experiment_.arms.front().name + "' ...");
    Golden first, second;
    if (auto done = run_golden_once("golden", "fault-free run", first); !done) return done;
    if (interrupted_by_ != 0) return {};
    let_a_second_pass(first);
    if (auto done = run_golden_once("golden-2", "second fault-free run", second); !done)
      return done;
    if (interrupted_by_ != 0) return {};
    auto golden = agree(first, second);
    if (!golden) return golden.error();
    golden_ = *std::move(golden);
    golden_.durations_ns = {first.duration_ns, second.duration_ns};
    golden_.longest_gap_ns = std::max(first.longest_gap_ns, second.longest_gap_ns);
    std::error_code ignored;
    fs::remove_all(first.files, ignored);
    note_golden();
    return write_file_atomically(
        directory_ / "golden.json",
        to_json(golden_).dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }

  // Two runs within one second would write the same date, and no later one would.
  void let_a_second_pass(const Golden& first) const {
    const bool dated = std::any_of(
        first.outputs.begin(), first.outputs.end(),
        [](const GoldenOutput& output) { return output.content.starts_with("bytes:"); });
    const std::int64_t left_ns = kClockStep.count() - first.duration_ns;
    if (!dated || left_ns <= 0) return;
    pollfd stop{interrupts_->fd(), POLLIN, 0};  // The next run heeds it.
    (void)::poll(&stop, 1, static_cast<int>(left_ns / 1'000'000) + 1);
  }

  // `name`: of its history; `what`: of it in messages.
  Result<void> run_golden_once(const char* name, const char* what, Golden& golden) {
    TrialSpec spec = trial_spec(experiment_.arms.front(), 0);
    if (experiment_.timeout) spec.timeout = *experiment_.timeout;
    spec.directory = directory_ / name;
    spec.scratch = scratch_ / name;
    spec.keep_outputs = scratch_ / (std::string(name) + "-outputs");
    auto outcome = run_trial(spec, prepared_, nullptr, &golden, interrupts_->fd());
    if (!outcome) return outcome.error();
    if (outcome->interrupted) {
      interrupted_by_ = interrupts_->take();
      return {};
    }
    containment_ = outcome->containment;
    if (outcome->ran_to_end && golden.deliverable() > 0) return {};
    Error error;
    error.kind = ErrorKind::kNoData;
    error.message =
        fmt::format("the {} {} and delivered {} items: there is nothing to compare faults with",
                    what, outcome->ended, golden.deliverable());
    error.hint = outcome->stderr_tail.empty()
                     ? "run the command by hand; name its files with --inputs and --outputs"
                     : "its last words: " + outcome->stderr_tail;
    return error;
  }

  // What the user should know of how trials will be judged.
  void note_golden() {
    progress_->note(
        fmt::format("golden runs took {} and {}, and delivered {} of {} items; "
                    "containment: {}",
                    format_duration(static_cast<double>(golden_.durations_ns[0])),
                    format_duration(static_cast<double>(golden_.durations_ns[1])),
                    golden_.deliverable(), golden_.items.size(), containment_));
    if (golden_.deliverable() < static_cast<std::int64_t>(golden_.items.size())) {
      prepared_.notes.push_back(
          fmt::format("the golden runs delivered {} of {} items: of the others nothing is expected",
                      golden_.deliverable(), golden_.items.size()));
    }
    if (golden_.exit_status_only())
      prepared_.notes.emplace_back(
          "the command leaves no files in its directory: only its exit status is judged (see "
          "--outputs)");
    for (std::string& note : golden_notes(golden_)) prepared_.notes.push_back(std::move(note));
  }

  Result<void> write_plan(const Result<ClockError>& clock) {
    const json fingerprint = read_fingerprint();
    const json conditions = read_conditions();
    plan_ = make_plan(experiment_, blocks_, seed_, golden_.duration_ns);
    std::vector<std::string> warnings = noise_warnings(conditions);
    warnings.insert(warnings.end(), prepared_.notes.begin(), prepared_.notes.end());
    for (const std::string& note : prepared_.notes) progress_->note(note);
    if (clock) {
      progress_->note(fmt::format("seed {}; error of the recovery clock {} (median of {}, p90 {})",
                                  seed_, format_duration(clock->median_ns), clock->repetitions,
                                  format_duration(clock->p90_ns)));
    } else {
      warnings.push_back("the error of the recovery clock is not known: " + clock.error().message);
    }
    json arms = json::array();
    for (const ArmSpec& arm : experiment_.arms) arms.push_back(arm.name);
    json faults = json::array({"none"});
    for (const FaultCase& fault : experiment_.faults) faults.push_back(fault.name);
    const json document{{"schema", kSchemaVersion},
                        {"experiment", experiment_.name},
                        {"run", run_id_},
                        {"directory", experiment_.directory.string()},
                        {"version", CRASHWORTHY_VERSION},
                        {"started", utc_timestamp()},
                        {"seed", seed_},
                        {"blocks", blocks_},
                        {"disarmed", options_.disarm},
                        {"plan_hash", plan_hash(experiment_, blocks_, seed_)},
                        {"fingerprint", fingerprint_hash(fingerprint)},
                        {"fingerprint_fields", fingerprint},
                        {"conditions", conditions},
                        {"containment", containment_},
                        {"clock_error_ns", clock ? json(clock->median_ns) : json(nullptr)},
                        {"clock_error_p90_ns", clock ? json(clock->p90_ns) : json(nullptr)},
                        {"golden_duration_ns", golden_.duration_ns},
                        {"arms", arms},
                        {"skipped_arms", to_json(skipped_)},
                        {"faults", faults},
                        {"warnings", warnings},
                        {"trials", to_json(plan_, experiment_)}};
    if (auto written = write_file_atomically(
            directory_ / "plan.json",
            document.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
        !written)
      return written;
    planned_ = true;
    point_latest_here();
    return {};
  }

  Result<void> run_trials() {
    const auto least = std::chrono::duration_cast<std::chrono::nanoseconds>(kLeastTimeout);
    const std::chrono::nanoseconds timeout = experiment_.timeout.value_or(
        std::max(least, std::chrono::nanoseconds(golden_.duration_ns * kTimeoutFactor)));
    for (const PlannedTrial& planned : plan_) {
      const ArmSpec& arm = experiment_.arms[planned.arm];
      const FaultCase* fault = planned.fault ? &experiment_.faults[*planned.fault] : nullptr;
      progress_->update(planned.number - 1, planned.block,
                        (fault == nullptr ? std::string("none") : fault->name) + "/" + arm.name);
      TrialSpec spec = trial_spec(arm, planned.number);
      spec.block = planned.block;
      spec.order = planned.order;
      spec.faults = fault;
      spec.triggers = planned.triggers;
      spec.seed = planned.seed;
      spec.disarmed = options_.disarm;
      spec.timeout = timeout;
      auto outcome = run_trial(spec, prepared_, &golden_, nullptr, interrupts_->fd());
      if (!outcome) return outcome.error().with_context(fmt::format("trial {}", planned.number));
      if (outcome->interrupted) {
        interrupted_by_ = interrupts_->take();
        return {};
      }
    }
    return {};
  }

  Experiment experiment_;  // Without the arms that are skipped.
  std::vector<SkippedArm> skipped_;
  const std::string& text_;
  const RunOptions& options_;
  int blocks_;
  std::uint64_t seed_ = 0;
  fs::path directory_;
  fs::path scratch_;
  std::string run_id_;
  std::string containment_;
  PreparedSubject prepared_;
  Golden golden_;
  std::vector<PlannedTrial> plan_;
  const Interrupts* interrupts_ = nullptr;
  bool planned_ = false;  // plan.json is there: what follows is kept.
  Progress* progress_ = nullptr;
  int interrupted_by_ = 0;
};

}  // namespace

Result<RunResult> run_experiment(const Experiment& experiment, const std::string& text,
                                 const RunOptions& options) {
  if (auto enough = check_descriptor_limit(); !enough) return enough.error();
  return Runner(experiment, text, options).run();
}

Result<Run> write_results(const fs::path& directory) {
  auto run = load_run(directory);
  if (!run) return run.error();
  if (auto written = write_file_atomically(
          directory / "summary.json",
          to_json(run->summary).dump(1, ' ', false, nlohmann::json::error_handler_t::replace) +
              "\n");
      !written)
    return written.error();
  if (auto written = write_file_atomically(directory / "report.html", html_report(*run)); !written)
    return written.error();
  return run;
}

}  // namespace crashworthy

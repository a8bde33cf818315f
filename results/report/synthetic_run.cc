#include "results/report/synthetic_run.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/os/random.h"

namespace crashworthy::report {
namespace {

using nlohmann::json;

constexpr int kItems = 300;
constexpr int kHitItem = 120;
constexpr double kItemMs = 8;  // One worker's time for an item; every arm has two.
constexpr std::int64_t kMs = 1'000'000;

struct ArmModel {
  const char* name;
  double cost;       // Relative time of an item.
  double launch_ms;  // Until the first item can begin.
  bool isolated;
  bool restarts;
};
constexpr std::array<ArmModel, 3> kArms{{{"bare", 1.0, 40, false, false},
                                         {"processes", 1.011, 55, true, false},
                                         {"supervised", 1.014, 58, true, true}}};
constexpr std::array<const char*, 4> kFaults{"none", "kill", "abort", "hang"};

double normal(Random& random) {
  double sum = 0;
  for (int i = 0; i < 12; ++i) sum += random.unit();
  return sum - 6;
}

std::int64_t ns(double ms) { return static_cast<std::int64_t>(ms * static_cast<double>(kMs)); }

struct Recovery {
  double detect, initiate, repair, process;  // ms
};

Recovery recovery_after(const std::string& fault, double item_ms, Random& random) {
  Recovery out{};
  out.detect = 0.09 * std::exp(0.4 * normal(random));
  if (fault == "abort") out.detect = 11 * std::exp(0.15 * normal(random));
  if (fault == "hang") out.detect = 250 + 12 * random.unit();
  out.initiate = 0.21 * std::exp(0.2 * normal(random));
  out.repair = 37 * std::exp(0.08 * normal(random));
  out.process = item_ms * std::exp(0.1 * normal(random));
  return out;
}

// One trial: two workers take items in turn; the fault stops one of them, or all.
class TrialModel {
 public:
  TrialModel(const ArmModel& arm, std::string fault, double speed, Random& random)
      : arm_(arm),
        fault_(std::move(fault)),
        random_(random),
        item_ms_(kItemMs * arm.cost * speed) {}

  TrialResult run() {
    TrialResult trial;
    trial.arm = arm_.name;
    trial.fault = fault_;
    trial.complete = true;
    trial.ran_to_end = true;
    trial.injection = fault_ == "none" ? InjectionOutcome::kNone : InjectionOutcome::kConfirmed;
    trial.stamps.launched = ns(1'000'000 + 1000 * random_.unit());
    std::array<double, 2> free{arm_.launch_ms + 3 * normal(random_), arm_.launch_ms + 2};
    double end = 0;
    std::int64_t undelivered = 0;
    for (int item = 0; item < kItems; ++item) {
      const std::size_t worker = free[0] <= free[1] ? 0 : 1;
      if (fault_ != "none" && item == kHitItem) {
        const double hit = free[worker] + item_ms_ * random_.unit();
        if (!strike(trial, hit, free[worker], undelivered)) break;
        if (undelivered > 0) continue;
      }
      free[worker] += item_ms_ * std::exp(0.22 * normal(random_));
      end = std::max(end, free[worker]);
      trial.good_outputs.push_back(trial.stamps.launched + ns(free[worker]));
    }
    finish(trial, end, undelivered);
    return trial;
  }

 private:
  // False when nothing goes on.
  bool strike(TrialResult& trial, double hit, double& free, std::int64_t& undelivered) {
    trial.stamps.activated = trial.stamps.launched + ns(hit);
    if (!arm_.isolated) {
      trial.ran_to_end = false;
      undelivered = kItems - kHitItem;
      return false;
    }
    if (!arm_.restarts) {
      free = 1e9;  // Its worker never takes another item.
      trial.ran_to_end = fault_ != "hang";
      undelivered = 1;
      return true;
    }
    const Recovery r = recovery_after(fault_, item_ms_, random_);
    Stamps& stamps = trial.stamps;
    stamps.detected = *stamps.activated + ns(r.detect);
    stamps.initiated = *stamps.detected + ns(r.initiate);
    stamps.up = *stamps.initiated + ns(r.repair);
    stamps.first_good = *stamps.up + ns(r.process);
    free = hit + r.detect + r.initiate + r.repair;
    trial.items.redone = 1;
    return true;
  }

  void finish(TrialResult& trial, double end, std::int64_t undelivered) {
    std::sort(trial.good_outputs.begin(), trial.good_outputs.end());
    const auto ok = std::min<std::int64_t>(kItems - undelivered,
                                           static_cast<std::int64_t>(trial.good_outputs.size()));
    trial.good_outputs.resize(static_cast<std::size_t>(ok));
    trial.items.offered = kItems;
    trial.items.classes[0] = ok;
    trial.items.classes[static_cast<std::size_t>(
        trial.ran_to_end ? ItemClass::kLost : ItemClass::kUnfinished)] += kItems - ok;
    trial.recovered = ok == kItems;
    if (trial.ran_to_end) trial.stamps.ended = trial.stamps.launched + ns(end + 4);
    measure(trial);
  }

  static Sample between(const std::optional<std::int64_t>& a, const std::optional<std::int64_t>& b,
                        const char* why_not) {
    return a && b ? Sample::of(static_cast<double>(*b - *a)) : Sample::none(why_not);
  }

  void measure(TrialResult& trial) const {
    auto& out = trial.measures;
    const Stamps& stamps = trial.stamps;
    const auto makespan = between(stamps.launched, stamps.ended, "");
    out["makespan"] = makespan.value ? makespan : Sample::never("the arm ended early");
    out["throughput"] = makespan.value
                            ? Sample::of(static_cast<double>(trial.items.of(ItemClass::kOk)) /
                                         (*makespan.value * 1e-9))
                            : Sample::none("the arm ended early");
    out["redone"] = Sample::of(static_cast<double>(trial.items.redone));
    if (fault_ == "none") return;
    out["detect"] =
        between(stamps.activated, stamps.detected, "nobody reports a death in this arm");
    out["initiate"] = between(stamps.detected, stamps.initiated, "no replacement was begun");
    out["repair"] = between(stamps.initiated, stamps.up, "no replacement became ready");
    out["process"] = between(stamps.up, stamps.first_good, "no replacement delivered");
    out["first_good"] = stamps.first_good ? between(stamps.activated, stamps.first_good, "")
                                          : Sample::never("no replacement delivered");
    out["outage_gap"] = trial.ran_to_end ? Sample::of(3e6 + 2e6 * random_.unit())
                                         : Sample::never("no good output after the fault");
  }

  const ArmModel& arm_;
  std::string fault_;
  Random& random_;
  double item_ms_;
};

void not_activated(TrialResult& trial) {
  trial.injection = InjectionOutcome::kNotActivated;
  trial.injection_reason = "the fault point was not reached";
  trial.stamps.activated.reset();
  for (auto& [name, sample] : trial.measures) {
    if (name != "makespan" && name != "throughput" && name != "redone") {
      sample = Sample::none("the fault was not confirmed");
    }
  }
}

json plan_of(const SyntheticOptions& options, const Run& run) {
  json arms = json::array();
  json faults = json::array();
  for (const ArmModel& arm : kArms) arms.push_back(arm.name);
  for (const char* fault : kFaults) faults.push_back(fault);
  json trials = json::array();
  for (const TrialResult& trial : run.trials) trials.push_back(trial.number);
  return {{"schema", kSchemaVersion},
          {"experiment", "tiles"},
          {"run", "2f9c41d0"},
          {"fingerprint", "9c1e5b7a02d4"},
          {"seed", options.seed},
          {"blocks", options.blocks},
          {"plan_hash", "5d0c6e"},
          {"clock_error_ns", 41'000},
          {"warnings", {"steal above 5% in 3 of 120 trials; try a quieter host or more blocks"}},
          {"arms", arms},
          {"faults", faults},
          {"trials", trials}};
}

// Arms and faults are renamed everywhere at once, so that the run stays coherent.
void make_hostile(Run& run) {
  const auto spoil = [](std::string& text) { text += kHostile; };
  for (TrialResult& trial : run.trials) {
    spoil(trial.arm);
    if (trial.fault != "none") spoil(trial.fault);
    spoil(trial.directory);
    spoil(trial.injection_reason);
  }
  Summary& summary = run.summary;
  for (CellSummary& cell : summary.cells) {
    spoil(cell.arm);
    if (cell.fault != "none") spoil(cell.fault);
    for (auto& [name, measure] : cell.measures) spoil(measure.reason);
    cell.injections[kHostile] = 1;
  }
  for (std::string* text : {&summary.experiment, &summary.run, &summary.sentence,
                            &summary.fingerprint, &summary.plan_hash}) {
    spoil(*text);
  }
  for (std::string& warning : summary.warnings) spoil(warning);
  for (std::string& reason : summary.reasons) spoil(reason);
  for (ExpectationResult& line : summary.expectations) {
    spoil(line.text);
    spoil(line.detail);
  }
  for (GateLine& line : summary.gate) spoil(line.margin_text);
  run.directory += kHostile;
}

}  // namespace

const char* const kHostile =
    "</style></title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"
    "\x1b[31m\x1b]0;owned\x07\n\xe2\x80\xae\xff\xc0\xaf|@everyone";

Run synthetic_run(const SyntheticOptions& options) {
  Run run;
  run.directory = "runs/2f9c41d0";
  for (int block = 0; block < options.blocks; ++block) {
    std::vector<TrialResult> cells;
    Random random(derive_seed(options.seed, "block", static_cast<std::uint64_t>(block)));
    const double drift = std::exp(0.02 * normal(random));
    for (const ArmModel& arm : kArms) {
      for (const char* fault : kFaults) {
        const double speed = drift * (arm.restarts ? options.slower : 1);
        cells.push_back(TrialModel(arm, fault, speed, random).run());
      }
    }
    if (block == 3) not_activated(cells[6]);
    random.shuffle(cells);
    for (TrialResult& trial : cells) {
      trial.number = static_cast<int>(run.trials.size());
      trial.block = block;
      trial.directory = "runs/2f9c41d0/trials/" + std::to_string(trial.number);
      run.trials.push_back(std::move(trial));
    }
  }
  const json experiment{
      {"expect",
       {"supervised.*.items.lost == 0", "supervised.kill.first_good < 60ms",
        "supervised.none.protection_cost < 5%", "processes.kill.recovered == 10"}},
      {"gate",
       {{{"measure", "supervised.none.throughput"}, {"margin", "5%"}},
        {{"measure", "supervised.kill.first_good"}, {"margin", "20%"}}}}};
  run.summary = summarize(experiment, plan_of(options, run), run.trials);
  if (options.hostile) make_hostile(run);
  return run;
}

}  // namespace crashworthy::report

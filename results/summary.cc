#include "results/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/os/clock.h"
#include "results/expectation.h"
#include "results/run.h"
#include "results/statistics/statistics.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr double kNever = std::numeric_limits<double>::infinity();

std::optional<double> finite(double value) {
  return std::isfinite(value) ? std::optional<double>(value) : std::nullopt;
}

// The measure `name` over the trials of one cell, in order of their blocks.
MeasureSummary summarize_measure(const std::vector<std::pair<int, Sample>>& samples,
                                 const std::string& unit) {
  MeasureSummary summary;
  summary.unit = unit;
  std::vector<double> values;
  bool censored_reason = false;
  for (const auto& [block, sample] : samples) {
    summary.blocks.push_back(block);
    summary.samples.push_back(sample.value);
    summary.sample_censored.push_back(sample.censored);
    summary.outside += sample.outside ? 1 : 0;
    if (sample.value) values.push_back(*sample.value);
    if (sample.censored) values.push_back(kNever);
    const bool first = summary.reason.empty() || (sample.censored && !censored_reason);
    if (!sample.value && first) summary.reason = sample.reason;
    censored_reason = censored_reason || sample.censored;
  }
  if (values.empty()) return summary;
  const auto estimate = statistics::median_estimate(values);
  if (!estimate) {
    summary.reason = estimate.error().message;
    return summary;
  }
  summary.estimate = finite(estimate->value);
  if (estimate->interval) {
    summary.low = finite(estimate->interval->low);
    summary.high = finite(estimate->interval->high);
  }
  if (!summary.estimate) {
    const auto never = std::count(values.begin(), values.end(), kNever);
    summary.censored = true;
    summary.reason = fmt::format("{} of {} never: {}", never, values.size(), summary.reason);
  } else if (!estimate->interval) {
    summary.reason = estimate->reason;
  } else if (summary.high) {
    summary.reason.clear();
  }
  return summary;
}

using CellTrials = std::vector<const TrialResult*>;

const TrialResult* find_block(const CellTrials& trials, int block) {
  const auto found = std::find_if(trials.begin(), trials.end(),
                                  [&](const TrialResult* t) { return t->block == block; });
  return found == trials.end() ? nullptr : *found;
}

// Makespan beyond that of the same arm without a fault in the same block.
Sample equivalent_outage(const TrialResult& trial, const CellTrials& twins) {
  if (trial.fault == "none") return Sample::none("no fault in this cell");
  if (trial.injection != InjectionOutcome::kConfirmed)
    return Sample::none("the fault was not confirmed");
  const TrialResult* twin = find_block(twins, trial.block);
  if (twin == nullptr || !twin->measures.at("makespan").value)
    return Sample::none("its twin did not finish");
  const Sample& own = trial.measures.at("makespan");
  if (!own.value) return own;
  return Sample::of(*own.value - *twin->measures.at("makespan").value);
}

MeasureSummary no_measure(std::string reason, const std::string& unit) {
  MeasureSummary summary;
  summary.unit = unit;
  summary.reason = std::move(reason);
  return summary;
}

// How much longer the arm takes than the baseline arm in the same block, both without a fault.
MeasureSummary protection_cost(const CellTrials& own, const CellTrials& baseline) {
  std::vector<double> contender_times;
  std::vector<double> baseline_times;
  MeasureSummary summary = no_measure({}, "ratio");
  for (const TrialResult* trial : own) {
    const TrialResult* twin = find_block(baseline, trial->block);
    if (twin == nullptr) continue;
    const Sample& a = twin->measures.at("makespan");
    const Sample& b = trial->measures.at("makespan");
    if (!a.value || !b.value) continue;
    baseline_times.push_back(*a.value);
    contender_times.push_back(*b.value);
    summary.blocks.push_back(trial->block);
    summary.samples.push_back(*b.value / *a.value - 1);
    summary.sample_censored.push_back(false);
  }
  const auto ratio = statistics::paired_log_ratio(baseline_times, contender_times);
  if (!ratio) {
    summary.reason = ratio.error().message;
    return summary;
  }
  summary.estimate = ratio->ratio.value - 1;
  if (ratio->ratio.interval) {
    summary.low = ratio->ratio.interval->low - 1;
    summary.high = ratio->ratio.interval->high - 1;
  }
  summary.reason = ratio->ratio.reason;
  return summary;
}

class Summarizer {
 public:
  Summarizer(const json& experiment, const json& plan, const std::vector<TrialResult>& trials)
      : experiment_(experiment), plan_(plan), trials_(trials) {}

  Summary run() {
    read_plan();
    for (const json& arm : plan_.value("arms", json::array())) {
      for (const json& fault : plan_.value("faults", json::array())) {
        summary_.cells.push_back(summarize_cell(arm.get<std::string>(), fault.get<std::string>()));
      }
    }
    read_expectations();
    decide();
    summary_.sentence = sentence();
    return std::move(summary_);
  }

 private:
  void read_plan() {
    summary_.experiment = plan_.value("experiment", "");
    summary_.run = plan_.value("run", "");
    summary_.fingerprint = plan_.value("fingerprint", "");
    summary_.seed = plan_.value("seed", std::uint64_t{0});
    summary_.blocks = plan_.value("blocks", 0);
    summary_.disarmed = plan_.value("disarmed", false);
    summary_.plan_hash = plan_.value("plan_hash", "");
    if (plan_.contains("clock_error_ns") && plan_["clock_error_ns"].is_number()) {
      summary_.clock_error_ns = plan_["clock_error_ns"].get<double>();
    }
    summary_.warnings = plan_.value("warnings", std::vector<std::string>{});
    summary_.skipped_arms = skipped_arms_from_json(plan_);
  }

  CellTrials trials_of(const std::string& arm, const std::string& fault) const {
    CellTrials found;
    for (const TrialResult& trial : trials_) {
      if (trial.complete && !trial.harness_error && trial.arm == arm && trial.fault == fault)
        found.push_back(&trial);
    }
    std::sort(found.begin(), found.end(), [](auto* a, auto* b) { return a->block < b->block; });
    return found;
  }

  CellSummary summarize_cell(const std::string& arm, const std::string& fault) {
    CellSummary cell;
    cell.arm = arm;
    cell.fault = fault;
    const CellTrials trials = trials_of(arm, fault);
    cell.trials = static_cast<int>(trials.size());
    for (const TrialResult* trial : trials) {
      const bool confirmed = trial->injection == InjectionOutcome::kConfirmed;
      ++cell.injections[injection_outcome_name(trial->injection)];
      cell.confirmed += confirmed ? 1 : 0;
      cell.recovered += trial->recovered && (confirmed || fault == "none") ? 1 : 0;
      cell.items += trial->items;
      if (!trial->stall.empty()) ++cell.stalls[trial->stall];
      cell.late_publications += trial->late_publications;
      if (confirmed && trial->rerun_whole) {
        ++cell.rerun;
        cell.rerun_whole += *trial->rerun_whole ? 1 : 0;
      }
    }
    const int basis = fault == "none" ? cell.trials : cell.confirmed;
    const auto bound = statistics::wilson(static_cast<std::uint64_t>(cell.recovered),
                                          static_cast<std::uint64_t>(basis));
    cell.recovered_low = bound.low;
    cell.recovered_high = bound.high;
    summarize_measures(trials, cell);
    return cell;
  }

  void summarize_measures(const CellTrials& trials, CellSummary& cell) const {
    if (trials.empty()) return;
    const CellTrials twins = trials_of(cell.arm, "none");
    std::map<std::string, std::vector<std::pair<int, Sample>>> samples;
    for (const TrialResult* trial : trials) {
      for (const auto& [name, sample] : trial->measures)
        samples[name].emplace_back(trial->block, sample);
      samples["equivalent_outage"].emplace_back(trial->block, equivalent_outage(*trial, twins));
    }
    for (const auto& [name, values] : samples)
      cell.measures[name] = summarize_measure(values, measure_unit(name));
    const std::string baseline = baseline_arm();
    if (cell.fault != "none") {
      cell.measures["protection_cost"] = no_measure("defined without a fault only", "ratio");
    } else if (cell.arm == baseline) {
      cell.measures["protection_cost"] = no_measure("this is the baseline", "ratio");
    } else {
      cell.measures["protection_cost"] = protection_cost(trials, trials_of(baseline, "none"));
    }
  }

  // The arm called `bare`, else the first.
  std::string baseline_arm() const {
    std::string first;
    for (const json& arm : plan_.value("arms", json::array())) {
      if (first.empty()) first = arm.get<std::string>();
      if (arm == "bare") return "bare";
    }
    return first;
  }

  void read_expectations() {
    for (const json& line : experiment_.value("expect", json::array())) {
      const auto expectation = parse_expectation(line.get<std::string>());
      if (!expectation) {
        summary_.expectations.push_back(
            {line.get<std::string>(), "undecided", expectation.error().message});
      } else {
        summary_.expectations.push_back(evaluate(*expectation, summary_));
      }
    }
    for (const json& line : experiment_.value("gate", json::array())) {
      const std::string margin = line.value("margin", "0%");
      summary_.gate.push_back(
          {line.value("measure", ""), std::strtod(margin.c_str(), nullptr) / 100, margin});
    }
  }

  // True when an expectation names this cell: then it says what is right there.
  bool is_expected(const std::string& cell) const {
    return std::any_of(
        summary_.expectations.begin(), summary_.expectations.end(),
        [&](const ExpectationResult& result) { return result.text.starts_with(cell); });
  }

  // Error, else inconclusive for a fault that was not confirmed, else fail, else inconclusive, else
  // pass.
  void decide() {
    std::vector<std::string> unproved;
    std::vector<std::string> broken;
    std::vector<std::string> undecided;
    std::vector<std::string> errors;
    for (const TrialResult& trial : trials_) {
      if (trial.harness_error)
        errors.push_back(fmt::format("trial {} failed in the harness", trial.number));
      if (trial.complete && !trial.harness_error && !trial.items.exact()) {
        errors.push_back(fmt::format(
            "trial {}: the classes of items do not sum up to those offered", trial.number));
      }
    }
    for (const CellSummary& cell : summary_.cells) {
      if (cell.fault == "none" && cell.recovered < cell.trials &&
          !is_expected(cell.arm + ".none.")) {
        unproved.push_back(
            fmt::format("{}.none: {} of {} trials without a fault differ from the golden run",
                        cell.arm, cell.trials - cell.recovered, cell.trials));
      }
      if (cell.fault == "none" || cell.confirmed == cell.trials) continue;
      std::string outcomes;
      for (const auto& [name, count] : cell.injections) {
        std::string words = name;
        std::replace(words.begin(), words.end(), '_', ' ');
        if (name != "confirmed")
          outcomes += fmt::format("{}{} {}", outcomes.empty() ? "" : ", ", count, words);
      }
      unproved.push_back(fmt::format("{}.{}: {} of {} injections confirmed ({})", cell.arm,
                                     cell.fault, cell.confirmed, cell.trials, outcomes));
    }
    const auto planned = plan_.value("trials", json::array()).size();
    const auto complete =
        std::count_if(trials_.begin(), trials_.end(), [](const auto& t) { return t.complete; });
    if (static_cast<std::size_t>(complete) < planned) {
      unproved.push_back(
          fmt::format("the run was cut off: {} of {} trials are complete", complete, planned));
    }
    for (const ExpectationResult& result : summary_.expectations) {
      if (result.verdict == "false")
        broken.push_back("expected " + result.text + ", but " + result.detail);
      if (result.verdict == "undecided")
        undecided.push_back("cannot decide " + result.text + ": " + result.detail);
    }
    const std::pair<const std::vector<std::string>*, RunVerdict> order[] = {
        {&errors, RunVerdict::kError},
        {&unproved, RunVerdict::kInconclusive},
        {&broken, RunVerdict::kFail},
        {&undecided, RunVerdict::kInconclusive}};
    summary_.verdict = RunVerdict::kPass;
    for (const auto& [reasons, verdict] : order) {
      if (!reasons->empty() && summary_.verdict == RunVerdict::kPass) summary_.verdict = verdict;
      summary_.reasons.insert(summary_.reasons.end(), reasons->begin(), reasons->end());
    }
  }

  // Faults survived by an arm over all fault cells: {recovered, confirmed, lost or corrupt items}.
  std::array<std::int64_t, 3> survival(const std::string& arm) const {
    std::array<std::int64_t, 3> sums{};
    for (const CellSummary& cell : summary_.cells) {
      if (cell.arm != arm || cell.fault == "none") continue;
      sums[0] += cell.recovered;
      sums[1] += cell.confirmed;
      sums[2] += cell.items.of(ItemClass::kLost) + cell.items.of(ItemClass::kUnfinished) +
                 cell.items.of(ItemClass::kCorrupt);
    }
    return sums;
  }

  std::string sentence() const {
    if (summary_.cells.empty()) return "nothing was run";
    if (summary_.disarmed)
      return "a disarmed run: no fault was injected, so nothing is said about protection";
    const std::string baseline = baseline_arm();
    const std::string& last = summary_.cells.back().arm;
    if (plan_.value("faults", json::array()).size() < 2)
      return "no fault was planned, so nothing is said about protection";
    const auto base = survival(baseline);
    std::string text =
        fmt::format("{} came back whole from {} of {} faults", baseline, base[0], base[1]);
    if (last == baseline) return text;
    const auto own = survival(last);
    text = fmt::format(
        "{} came back whole from {} of {} faults ({} items lost, unfinished or corrupt); {} from "
        "{} of {}",
        last, own[0], own[1], own[2], baseline, base[0], base[1]);
    const CellSummary* cell = summary_.cell(last, "none");
    if (cell == nullptr || !cell->measures.contains("protection_cost")) return text;
    const MeasureSummary& cost = cell->measures.at("protection_cost");
    if (cost.estimate && cost.high) {
      text += fmt::format(
          "; without faults {} takes {:+.1f}% of time compared with {} (95%: {:+.1f}% to {:+.1f}%)",
          last, *cost.estimate * 100, baseline, *cost.low * 100, *cost.high * 100);
    }
    return text;
  }

  const json& experiment_;
  const json& plan_;
  const std::vector<TrialResult>& trials_;
  Summary summary_;
};

json optional_number(const std::optional<double>& value, const std::string& unit) {
  if (!value) return nullptr;
  if (unit == "ns" || unit == "count") return static_cast<std::int64_t>(std::llround(*value));
  return *value;
}

json measure_to_json(const MeasureSummary& measure) {
  json object{{"estimate", optional_number(measure.estimate, measure.unit)},
              {"unit", measure.unit}};
  if (measure.estimate) {
    object["low"] = optional_number(measure.low, measure.unit);
    object["high"] = optional_number(measure.high, measure.unit);
  } else {
    object["censored"] = measure.censored;
    if (measure.low) object["low"] = optional_number(measure.low, measure.unit);
  }
  if (!measure.reason.empty()) object["reason"] = measure.reason;
  if (measure.outside > 0) object["outside"] = measure.outside;
  json samples = json::array();
  for (const auto& sample : measure.samples)
    samples.push_back(optional_number(sample, measure.unit));
  object["samples"] = samples;
  object["sample_censored"] = measure.sample_censored;
  object["blocks"] = measure.blocks;
  return object;
}

json items_to_json(const ItemCounts& items) {
  json object{{"offered", items.offered},
              {"duplicated", items.duplicated},
              {"misplaced", items.misplaced},
              {"torn", items.torn},
              {"empty", items.empty},
              {"extra", items.extra},
              {"stale_temporary", items.stale_temporary},
              {"redone", items.redone}};
  for (std::size_t i = 0; i < kItemClassCount; ++i)
    object[item_class_name(static_cast<ItemClass>(i))] = items.classes[i];
  return object;
}

json cell_to_json(const CellSummary& cell) {
  json object{{"arm", cell.arm},
              {"fault", cell.fault},
              {"trials", cell.trials},
              {"confirmed", cell.confirmed},
              {"recovered", cell.recovered},
              {"recovered_share", {{"low", cell.recovered_low}, {"high", cell.recovered_high}}},
              {"injections", cell.injections},
              {"stalls", cell.stalls},
              {"late_publications", cell.late_publications},
              {"rerun", {{"trials", cell.rerun}, {"whole", cell.rerun_whole}}},
              {"items", items_to_json(cell.items)}};
  json measures = json::object();
  for (const auto& [name, measure] : cell.measures) measures[name] = measure_to_json(measure);
  object["measures"] = measures;
  return object;
}

std::optional<double> read_optional(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::nullopt;
  return found->get<double>();
}

MeasureSummary measure_from_json(const json& object) {
  MeasureSummary measure;
  measure.estimate = read_optional(object, "estimate");
  measure.low = read_optional(object, "low");
  measure.high = read_optional(object, "high");
  measure.unit = object.at("unit").get<std::string>();
  measure.censored = object.value("censored", false);
  measure.reason = object.value("reason", "");
  measure.outside = object.value("outside", 0);
  for (const json& sample : object.value("samples", json::array())) {
    measure.samples.push_back(sample.is_null() ? std::nullopt
                                               : std::optional<double>(sample.get<double>()));
  }
  measure.sample_censored = object.value("sample_censored", std::vector<bool>{});
  measure.blocks = object.value("blocks", std::vector<int>{});
  return measure;
}

CellSummary cell_from_json(const json& object) {
  CellSummary cell;
  cell.arm = object.at("arm").get<std::string>();
  cell.fault = object.at("fault").get<std::string>();
  cell.trials = object.at("trials").get<int>();
  cell.confirmed = object.at("confirmed").get<int>();
  cell.recovered = object.at("recovered").get<int>();
  cell.recovered_low = object.at("recovered_share").at("low").get<double>();
  cell.recovered_high = object.at("recovered_share").at("high").get<double>();
  cell.injections = object.at("injections").get<std::map<std::string, int>>();
  cell.stalls = object.value("stalls", std::map<std::string, int>());
  cell.late_publications = object.value("late_publications", std::int64_t{0});
  const json rerun = object.value("rerun", json::object());
  cell.rerun = rerun.value("trials", 0);
  cell.rerun_whole = rerun.value("whole", 0);
  const json& items = object.at("items");
  cell.items.offered = items.at("offered").get<std::int64_t>();
  cell.items.duplicated = items.at("duplicated").get<std::int64_t>();
  cell.items.misplaced = items.at("misplaced").get<std::int64_t>();
  cell.items.torn = items.at("torn").get<std::int64_t>();
  cell.items.empty = items.at("empty").get<std::int64_t>();
  cell.items.extra = items.at("extra").get<std::int64_t>();
  cell.items.stale_temporary = items.at("stale_temporary").get<std::int64_t>();
  cell.items.redone = items.at("redone").get<std::int64_t>();
  for (std::size_t i = 0; i < kItemClassCount; ++i) {
    cell.items.classes[i] =
        items.at(item_class_name(static_cast<ItemClass>(i))).get<std::int64_t>();
  }
  for (const auto& [name, measure] : object.at("measures").items())
    cell.measures[name] = measure_from_json(measure);
  return cell;
}

}  // namespace

const char* run_verdict_name(RunVerdict verdict) {
  switch (verdict) {
    case RunVerdict::kPass:
      return "pass";
    case RunVerdict::kFail:
      return "fail";
    case RunVerdict::kInconclusive:
      return "inconclusive";
    case RunVerdict::kError:
      return "error";
  }
  return "error";
}

int run_verdict_exit_code(RunVerdict verdict) {
  switch (verdict) {
    case RunVerdict::kPass:
      return 0;
    case RunVerdict::kFail:
      return 1;
    case RunVerdict::kInconclusive:
      return 3;
    case RunVerdict::kError:
      return 5;
  }
  return 5;
}

const CellSummary* Summary::cell(const std::string& arm, const std::string& fault) const {
  for (const CellSummary& candidate : cells) {
    if (candidate.arm == arm && candidate.fault == fault) return &candidate;
  }
  return nullptr;
}

Summary summarize(const json& experiment, const json& plan,
                  const std::vector<TrialResult>& trials) {
  return Summarizer(experiment, plan, trials).run();
}

json to_json(const std::vector<SkippedArm>& arms) {
  json list = json::array();
  for (const SkippedArm& arm : arms) list.push_back({{"arm", arm.arm}, {"reason", arm.reason}});
  return list;
}

std::vector<SkippedArm> skipped_arms_from_json(const json& document) {
  std::vector<SkippedArm> arms;
  for (const json& arm : document.value("skipped_arms", json::array()))
    arms.push_back({arm.value("arm", ""), arm.value("reason", "")});
  return arms;
}

json to_json(const Summary& summary) {
  json document{{"schema", summary.schema},
                {"experiment", summary.experiment},
                {"run", summary.run},
                {"verdict", run_verdict_name(summary.verdict)},
                {"reasons", summary.reasons},
                {"sentence", summary.sentence},
                {"fingerprint", summary.fingerprint},
                {"seed", summary.seed},
                {"blocks", summary.blocks},
                {"disarmed", summary.disarmed},
                {"plan_hash", summary.plan_hash},
                {"clock_error_ns", optional_number(summary.clock_error_ns, "ns")},
                {"warnings", summary.warnings},
                {"skipped_arms", to_json(summary.skipped_arms)},
                {"cells", json::array()},
                {"expect", json::array()},
                {"gate", json::array()}};
  for (const CellSummary& cell : summary.cells) document["cells"].push_back(cell_to_json(cell));
  for (const ExpectationResult& result : summary.expectations) {
    document["expect"].push_back(
        {{"text", result.text}, {"verdict", result.verdict}, {"detail", result.detail}});
  }
  for (const GateLine& line : summary.gate) {
    document["gate"].push_back({{"measure", line.measure}, {"margin", line.margin_text}});
  }
  return document;
}

Result<Summary> summary_from_json(const json& document) try {
  Summary summary;
  if (!document.is_object()) return corrupt_error("a summary is a JSON object");
  summary.schema = document.at("schema").get<int>();
  if (summary.schema != kSchemaVersion) {
    return Error{ErrorKind::kIncomparable,
                 0,
                 fmt::format("schema {} is not the one this program reads ({})", summary.schema,
                             kSchemaVersion),
                 {}};
  }
  summary.experiment = document.at("experiment").get<std::string>();
  summary.run = document.at("run").get<std::string>();
  for (const RunVerdict verdict :
       {RunVerdict::kPass, RunVerdict::kFail, RunVerdict::kInconclusive, RunVerdict::kError}) {
    if (document.at("verdict") == run_verdict_name(verdict)) summary.verdict = verdict;
  }
  summary.reasons = document.at("reasons").get<std::vector<std::string>>();
  summary.sentence = document.at("sentence").get<std::string>();
  summary.fingerprint = document.at("fingerprint").get<std::string>();
  summary.seed = document.at("seed").get<std::uint64_t>();
  summary.blocks = document.at("blocks").get<int>();
  summary.disarmed = document.at("disarmed").get<bool>();
  summary.plan_hash = document.at("plan_hash").get<std::string>();
  summary.clock_error_ns = read_optional(document, "clock_error_ns");
  summary.warnings = document.at("warnings").get<std::vector<std::string>>();
  summary.skipped_arms = skipped_arms_from_json(document);
  for (const json& cell : document.at("cells")) summary.cells.push_back(cell_from_json(cell));
  for (const json& line : document.at("expect")) {
    summary.expectations.push_back({line.at("text"), line.at("verdict"), line.at("detail")});
  }
  for (const json& line : document.at("gate")) {
    const std::string margin = line.at("margin").get<std::string>();
    summary.gate.push_back(
        {line.at("measure"), std::strtod(margin.c_str(), nullptr) / 100, margin});
  }
  return summary;
} catch (const json::exception& failure) {
  return corrupt_error(std::string("not a summary: ") + failure.what());
}

}  // namespace crashworthy

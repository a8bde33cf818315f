#include "harness/experiment/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/experiment/environment.h"
#include "harness/experiment/inject.h"
#include "harness/experiment/interrupts.h"
#include "harness/experiment/output_names.h"
#include "harness/experiment/trial.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/json_fields.h"
#include "harness/process/scratch_guard.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool is_counted(const FaultSpec& fault) { return fault.trigger_kind() == TriggerKind::kCounted; }

// The rule that only this victim fits.
VictimRule rule_of(const json& victim, const VictimRule& asked) {
  VictimRule rule;
  rule.holding_item = asked.holding_item;
  if (victim.contains("worker")) {
    rule.worker = victim["worker"].get<std::int64_t>();
    rule.incarnation = victim.value("incarnation", std::int64_t{1});
    return rule;
  }
  rule.role = asked.role;
  if (victim.contains("child")) {
    rule.role = Role::kAny;
    rule.child = victim["child"].get<std::int64_t>();
    rule.command = literal_pattern(victim.value("command", ""));
  }
  return rule;
}

std::vector<std::vector<VictimRule>> victims_of(const FaultSpec& fault, const json& result) {
  std::vector<std::vector<VictimRule>> firings;
  if (!result.is_object() || is_counted(fault)) return firings;
  std::int64_t last_ns = -1;
  for (const json& victim : result.value("victims", json::array())) {
    const std::int64_t struck_ns = victim.value("struck_ns", std::int64_t{0});
    if (firings.empty() || struck_ns != last_ns) firings.emplace_back();
    firings.back().push_back(rule_of(victim, fault.victim));
    last_ns = struck_ns;
  }
  return firings;
}

// When each firing was, as far as it is known.
std::vector<std::int64_t> firings_of(const FaultSpec& fault, const json& result) {
  std::vector<std::int64_t> times;
  if (!result.is_object() || fault.trigger_kind() == TriggerKind::kLaunch) return times;
  if (is_counted(fault)) {
    const json activated = result.value("activated_ns", json());
    if (activated.is_number_integer()) times.push_back(activated.get<std::int64_t>());
    return times;
  }
  for (const json& victim : result.value("victims", json::array())) {
    const std::int64_t struck_ns = victim.value("struck_ns", std::int64_t{0});
    if (struck_ns != 0 && (times.empty() || times.back() != struck_ns)) times.push_back(struck_ns);
  }
  return times;
}

std::vector<std::size_t> order_of(const RecordedTrial& trial) {
  std::vector<std::pair<std::int64_t, std::size_t>> firings;
  for (std::size_t i = 0; i < trial.faults.size(); ++i) {
    for (const std::int64_t time : firings_of(trial.faults[i], trial.results[i]))
      firings.emplace_back(time, i);
  }
  std::sort(firings.begin(), firings.end());
  std::vector<std::size_t> order;
  for (const auto& [time, number] : firings) order.push_back(number);
  return order;
}

std::string victim_name(const FaultSpec& fault, const json& victim) {
  std::string name = victim.value("role", "");
  if (victim.contains("worker") && !is_counted(fault)) name += " " + victim["worker"].dump();
  if (victim.contains("incarnation")) name += " in life " + victim["incarnation"].dump();
  if (victim.contains("child") && !victim.contains("worker"))
    name += fmt::format(" {} '{}'", victim["child"].dump(), victim.value("command", ""));
  return name;
}

std::string victim_names(const FaultSpec& fault, const json& result) {
  std::string names;
  for (const json& victim : result.value("victims", json::array()))
    names += (names.empty() ? "" : ", ") + victim_name(fault, victim);
  return names.empty() ? "nobody" : names;
}

std::string order_names(const RecordedTrial& trial) {
  std::string names;
  for (const std::size_t number : order_of(trial))
    names += (names.empty() ? "" : ", ") + trial.faults[number].name;
  return names.empty() ? "nothing" : names;
}

Result<json> read_document(const fs::path& path) {
  auto text = read_file(path);
  if (!text)
    return usage_error(text.error().message, "name a record of inject, or a run directory");
  json document = json::parse(*text, nullptr, false);
  if (!document.is_object()) return corrupt_error("'" + path.string() + "' is no JSON object");
  return document;
}

Result<Golden> read_golden_file(const fs::path& path) {
  auto document = read_document(path);
  if (!document) return document.error();
  return golden_from_json(*document);
}

Error nothing_to_repeat(const fs::path& directory) {
  return usage_error("the trial in '" + directory.string() + "' had no fault",
                     "there is nothing to repeat");
}

Result<ReplayResult> compared(const RecordedTrial& first, const fs::path& record) {
  auto history = read_history(record);
  if (!history) return history.error();
  auto again = recorded_trial(*history);
  if (!again) return again.error();
  ReplayResult result;
  result.record = record;
  result.injections = again->results;
  result.differences = differences(first, *again);
  return result;
}

Result<ReplayResult> replay_inject(const TrialHistory& history, const ReplayOptions& options) {
  auto recorded = recorded_trial(history);
  if (!recorded) return recorded.error();
  if (recorded->faults.empty()) return nothing_to_repeat(history.directory);
  const json& header = history.events.front();
  InjectOptions inject_options;
  inject_options.command = header.value("command", std::vector<std::string>());
  inject_options.environment = header.value("environment", std::vector<std::string>());
  inject_options.directory = header.value("directory", "");
  inject_options.seed = header.value("seed", std::uint64_t{0});
  inject_options.disarmed = header.value("disarmed", false);
  const json timeout = header.value("timeout_ns", json());
  if (timeout.is_number_integer())
    inject_options.timeout = Nanoseconds(timeout.get<std::int64_t>());
  inject_options.faults = recorded->faults;
  inject_options.triggers = recorded->triggers;
  inject_options.schedule = recorded->schedule();
  auto record = make_record_directory(options.out, "replay", record_name(recorded->faults));
  if (!record) return record.error();
  inject_options.out = record->path;
  auto done = inject(inject_options);
  if (!done) {
    std::error_code ignored;
    if (record->made) fs::remove(record->path, ignored);  // Only if it is empty.
    return done.error();
  }
  auto result = compared(*recorded, done->record);
  if (!result) return result;
  result->injections = done->injections;
  result->ended = done->ended;
  result->interrupted_by = done->interrupted_by;
  return result;
}

const ArmSpec* find_arm(const Experiment& experiment, const std::string& name) {
  for (const ArmSpec& arm : experiment.arms) {
    if (arm.name == name) return &arm;
  }
  return nullptr;
}

// Runs the recorded trial of a run directory again, judged against the same golden run.
Result<ReplayResult> replay_trial(const fs::path& run, int number, const ReplayOptions& options) {
  const fs::path place = run / "trials" / fmt::format("{:04}", number);
  auto history = read_history(place);
  if (!history)
    return usage_error(fmt::format("there is no trial {} in '{}'", number, run.string()),
                       "see the numbers in its trials/");
  auto recorded = recorded_trial(*history);
  if (!recorded) return recorded.error();
  if (recorded->faults.empty()) return nothing_to_repeat(place);
  auto plan = read_document(run / "plan.json");
  if (!plan) return plan.error();
  auto document = read_document(run / "experiment.json");
  if (!document) return document.error();
  const json& header = history->events.front();
  adopt_variables(header.value("environment", std::vector<std::string>()));
  auto experiment = parse_experiment(*document, plan->value("directory", run.string()));
  if (!experiment) return experiment.error().with_context((run / "experiment.json").string());
  const ArmSpec* arm = find_arm(*experiment, header.value("arm", ""));
  if (arm == nullptr) return corrupt_error("the trial's arm is not in its experiment");
  auto golden = read_golden_file(run / "golden.json");
  if (!golden) return golden.error();

  auto record = make_record_directory(options.out, "replay", fmt::format("trial-{}", number));
  if (!record) return record.error();
  const Interrupts interrupts;
  auto scratch = ScratchGuard::create(record->path / "scratch");
  if (!scratch) return scratch.error();
  auto prepared = prepare_subject(experiment->subject, scratch->path());
  if (!prepared) return prepared.error();
  const FaultCase faults{header.value("fault", ""), recorded->faults};
  TrialSpec spec;
  spec.number = number;
  spec.block = header.value("block", 0);
  spec.order = header.value("order", 0);
  spec.arm = arm;
  spec.faults = &faults;
  spec.triggers = recorded->triggers;
  spec.schedule = recorded->schedule();
  spec.seed = header.value("seed", std::uint64_t{0});
  spec.disarmed = header.value("disarmed", false);
  spec.timeout = Nanoseconds(header.value("timeout_ns", std::int64_t{0}));
  spec.disk_bytes = experiment->disk_bytes;
  spec.linger = experiment->linger;
  spec.hang_after = experiment->hang_after;
  spec.directory = record->path;
  spec.scratch = scratch->path() / "trial";
  spec.run = header.value("run", "");
  auto outcome = run_trial(spec, *prepared, &*golden, nullptr, interrupts.fd());
  if (!outcome) return outcome.error();
  if (auto removed = scratch->remove(); !removed) return removed.error();
  if (outcome->interrupted) {
    ReplayResult result;
    result.record = record->path;
    result.interrupted_by = interrupts.take();
    return result;
  }
  auto result = compared(*recorded, record->path);
  if (result) result->ended = outcome->ended;
  return result;
}

}  // namespace

Schedule RecordedTrial::schedule() const {
  Schedule schedule;
  for (std::size_t i = 0; i < faults.size(); ++i)
    schedule.victims.push_back(victims_of(faults[i], results[i]));
  schedule.order = order_of(*this);
  return schedule;
}

Result<RecordedTrial> recorded_trial(const TrialHistory& history) {
  RecordedTrial trial;
  std::vector<json> results;
  for (const json& event : history.events) {
    const auto type = event.value("type", "");
    if (type == "injection_result") results.push_back(event);
    if (type != "injection" || event.value("step", "") != "plan") continue;
    auto fault = parse_fault(event.value("fault", json::object()), "");
    if (!fault) return fault.error().with_context((history.directory / "history.jsonl").string());
    trial.triggers.push_back(fault->trigger);
    trial.faults.push_back(*std::move(fault));
  }
  results.resize(trial.faults.size());  // Both are in the order of the plan.
  trial.results = std::move(results);
  return trial;
}

std::vector<std::string> differences(const RecordedTrial& first, const RecordedTrial& again) {
  std::vector<std::string> found;
  const auto differ = [&](const std::string& what, const std::string& before,
                          const std::string& now) {
    if (before != now) found.push_back(fmt::format("{}: {} before, {} now", what, before, now));
  };
  if (first.faults.size() != again.faults.size()) {
    differ("faults", std::to_string(first.faults.size()), std::to_string(again.faults.size()));
    return found;
  }
  for (std::size_t i = 0; i < first.faults.size(); ++i) {
    const FaultSpec& fault = first.faults[i];
    const auto outcome = [](const json& result) {
      return result.is_object() ? result.value("outcome", "") : std::string("never judged");
    };
    differ(fault.name + ": trigger", to_json(fault, first.triggers[i]).dump(),
           to_json(again.faults[i], again.triggers[i]).dump());
    differ(fault.name + ": outcome", outcome(first.results[i]), outcome(again.results[i]));
    if (first.results[i].is_object() && again.results[i].is_object()) {
      differ(fault.name + ": victims", victim_names(fault, first.results[i]),
             victim_names(fault, again.results[i]));
    }
  }
  differ("order", order_names(first), order_names(again));
  return found;
}

namespace {

Result<ReplayResult> replay_what_lies_there(const ReplayOptions& options) {
  std::error_code failure;
  const fs::path directory = fs::absolute(options.directory, failure).lexically_normal();
  if (fs::exists(directory / "history.jsonl", failure)) {
    auto history = read_history(directory);
    if (!history) return history.error();
    if (history->events.front().value("run", "") == "inject")
      return replay_inject(*history, options);
    return usage_error("'" + directory.string() + "' is a trial of a run",
                       "name the run directory, and the trial with --trial N");
  }
  if (!fs::exists(directory / "plan.json", failure)) {
    return usage_error("there is no recorded trial in '" + directory.string() + "'",
                       "name a record of inject, or a run directory with --trial N");
  }
  if (!options.trial) {
    return usage_error("'" + directory.string() + "' holds the trials of a run",
                       "say which one with --trial N");
  }
  return replay_trial(directory, *options.trial, options);
}

}  // namespace

Result<ReplayResult> replay(const ReplayOptions& options) {
  try {
    return replay_what_lies_there(options);
  } catch (const json::exception& failure) {  // A field of another type than we write.
    return corrupt_error("the record in '" + options.directory.string() + "' makes no sense");
  }
}

}  // namespace crashworthy

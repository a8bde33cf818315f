#include "results/measures.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "results/outside.h"

namespace crashworthy {
namespace {

using nlohmann::json;

// The victim of the injection, as the subject sees it.
struct Victim {
  std::int32_t pid = 0;
  bool known = false;
};

std::int64_t time_of(const json& event) { return event["time_ns"].get<std::int64_t>(); }

InjectionOutcome parse_outcome(const std::string& name) {
  for (const InjectionOutcome outcome :
       {InjectionOutcome::kConfirmed, InjectionOutcome::kNotActivated, InjectionOutcome::kSkipped,
        InjectionOutcome::kIndeterminate}) {
    if (name == injection_outcome_name(outcome)) return outcome;
  }
  return InjectionOutcome::kIndeterminate;
}

void read_header(const json& header, TrialResult& result) {
  result.number = header.value("trial", 0);
  result.block = header.value("block", 0);
  result.arm = header.value("arm", "");
  result.fault = header.value("fault", "");
  result.deliverable = header.value("deliverable", std::int64_t{-1});
}

// Of several, the trial's outcome is that of the first that was not confirmed, and its fault the
// one that was activated first.
void read_injection(const json& event, TrialResult& result, Victim& victim) {
  const InjectionOutcome outcome = parse_outcome(event.value("outcome", ""));
  if (result.injection == InjectionOutcome::kNone ||
      result.injection == InjectionOutcome::kConfirmed) {
    result.injection = outcome;
    result.injection_reason = event.value("reason", "");
  }
  std::optional<std::int64_t> activated;
  if (event.contains("activated_ns") && event["activated_ns"].is_number_integer())
    activated = event["activated_ns"].get<std::int64_t>();
  const bool first =
      !result.stamps.activated || (activated && *activated < *result.stamps.activated);
  if (!first && victim.known) return;
  if (activated && first) result.stamps.activated = activated;
  if (event.contains("victim") && event["victim"].is_object() && event["victim"].contains("pid")) {
    victim.pid = event["victim"].value("pid", 0);
    victim.known = true;
  }
}

void read_event(const json& event, TrialResult& result, Victim& victim) {
  const std::string type = event["type"];
  if (type == "process" && event.value("role", "") == "main") {
    if (event.value("event", "") == "launched") result.stamps.launched = time_of(event);
    if (event.value("event", "") == "ended") result.stamps.ended = time_of(event);
  } else if (type == "injection_result") {
    read_injection(event, result, victim);
  } else if (type == "extra_output") {
    const bool stale = event.value("kind", "") == "stale_temporary";
    ++(stale ? result.items.stale_temporary : result.items.extra);
  } else if (type == "rerun") {
    const json items = event.value("items", json::object());
    result.rerun_whole = items.value("ok", std::int64_t{-1}) == result.deliverable;
  } else if (type == "end") {
    result.complete = true;
    const std::string outcome = event.value("outcome", "");
    result.harness_error = outcome == "harness_error";
    result.records_lost = event.value("probe_dropped", std::int64_t{0});
    result.outputs_missed = event.value("observer_overflowed", false);
    result.ran_to_end = outcome == "finished";
    result.late_publications = event.value("late_publications", std::int64_t{0});
    if (event.contains("stall") && event["stall"].is_object())
      result.stall = event["stall"].value("kind", "");
  }
}

using Unit = std::pair<std::uint64_t, std::uint32_t>;

// Counts every class from the checker's verdicts, and the extra executions from the probe's
// records.
void count_items(const TrialHistory& history, std::int64_t offered, TrialResult& result) {
  result.items.offered = offered;
  std::map<Unit, std::int64_t> executions;
  for (const ItemRecord& record : history.items) {
    if (record.kind() == ItemEvent::kJudged && record.value >= 0 &&
        record.value < static_cast<std::int64_t>(kItemClassCount)) {
      ++result.items.classes[static_cast<std::size_t>(record.value)];
    } else if (record.kind() == ItemEvent::kDuplicated) {
      result.items.duplicated += record.value;
    } else if (record.kind() == ItemEvent::kMisplaced) {
      ++result.items.misplaced;
    } else if (record.kind() == ItemEvent::kTorn) {
      ++result.items.torn;
    } else if (record.kind() == ItemEvent::kEmpty) {
      ++result.items.empty;
    } else if (record.kind() == ItemEvent::kStarted) {
      result.tells = true;
      ++executions[{record.item, record.part}];
    }
  }
  for (const auto& [unit, count] : executions) result.items.redone += count - 1;
}

std::set<std::uint64_t> good_items(const TrialHistory& history) {
  std::set<std::uint64_t> good;
  for (const ItemRecord& record : history.items) {
    if (record.kind() == ItemEvent::kJudged &&
        record.value == static_cast<std::int64_t>(ItemClass::kOk)) {
      good.insert(record.item);
    }
  }
  return good;
}

// When each good item was last published: an output that was replaced counts from its replacement.
std::vector<std::int64_t> good_output_times(const TrialHistory& history,
                                            const std::set<std::uint64_t>& good) {
  std::unordered_map<std::uint64_t, std::int64_t> last;
  for (const ItemRecord& record : history.items) {
    if (record.kind() == ItemEvent::kPublished && good.contains(record.item))
      last[record.item] = record.time_ns;
  }
  std::vector<std::int64_t> times;
  for (const auto& [item, time_ns] : last) times.push_back(time_ns);
  std::sort(times.begin(), times.end());
  return times;
}

// Death known, replacement begun, replacement ready, its first good unit of work: the inside stamps
// after activation.
void find_recovery_stamps(const TrialHistory& history, const std::set<std::uint64_t>& good,
                          const Victim& victim, Stamps& stamps) {
  if (!stamps.activated || !victim.known) return;
  // Noticed or proved, whichever is first. The victim's death is known by its pid, not by its time:
  // we may be late in stamping our own signal.
  const auto death = [&victim](const ItemRecord& record) {
    return (record.kind() == ItemEvent::kWorkerDied || record.kind() == ItemEvent::kSuspected) &&
           record.pid == victim.pid;
  };
  std::vector<ItemRecord> records;
  for (const ItemRecord& record : history.items) {
    if (death(record) || record.time_ns >= *stamps.activated) records.push_back(record);
  }
  std::stable_sort(records.begin(), records.end(),
                   [](const ItemRecord& a, const ItemRecord& b) { return a.time_ns < b.time_ns; });
  std::uint32_t place = 0;
  std::uint32_t incarnation = 0;
  for (const ItemRecord& record : records) {
    const ItemEvent kind = record.kind();
    if (!stamps.detected) {
      if (death(record)) {
        stamps.detected = record.time_ns;
        place = record.worker;
        incarnation = record.incarnation;
      }
    } else if (record.worker == place && record.incarnation > incarnation) {
      if (kind == ItemEvent::kReplacement && !stamps.initiated) stamps.initiated = record.time_ns;
      if (kind == ItemEvent::kWorkerReady && !stamps.up) stamps.up = record.time_ns;
      if (kind == ItemEvent::kDone && record.value == 0 && good.contains(record.item)) {
        stamps.first_good = record.time_ns;
        return;
      }
    }
  }
}

Sample difference(const std::optional<std::int64_t>& from, const std::optional<std::int64_t>& to,
                  const char* why_not) {
  if (!from || !to) return Sample::none(why_not);
  return Sample::of(static_cast<double>(std::max<std::int64_t>(0, *to - *from)));
}

// Longest interval without a good output that overlaps the time after the fault, minus the median
// gap before it.
Sample outage_gap(const TrialResult& result) {
  const Stamps& stamps = result.stamps;
  if (!stamps.activated) return Sample::none("no fault was activated");
  if (!result.ran_to_end) return Sample::never("the arm ended early");
  std::vector<double> steady;
  double longest = 0;
  std::int64_t previous = stamps.launched;
  bool after_fault = false;
  for (const std::int64_t output : result.good_outputs) {
    const auto gap = static_cast<double>(output - previous);
    if (output < *stamps.activated) {
      if (previous != stamps.launched) steady.push_back(gap);
    } else {
      longest = std::max(longest, gap);
      after_fault = true;
    }
    previous = output;
  }
  if (!after_fault) return Sample::never("no good output after the fault");
  if (steady.empty()) return Sample::none("fewer than two good outputs before the fault");
  std::nth_element(steady.begin(), steady.begin() + static_cast<std::ptrdiff_t>(steady.size() / 2),
                   steady.end());
  return Sample::of(std::max(0.0, longest - steady[steady.size() / 2]));
}

void measure_speed(TrialResult& result) {
  auto& measures = result.measures;
  const Stamps& stamps = result.stamps;
  if (!result.ran_to_end || !stamps.ended) {
    measures["makespan"] = Sample::never("the arm ended early");
    measures["throughput"] = Sample::none("the arm ended early");
    return;
  }
  const auto makespan = static_cast<double>(*stamps.ended - stamps.launched);
  measures["makespan"] = Sample::of(makespan);
  measures["throughput"] =
      Sample::of(static_cast<double>(result.items.of(ItemClass::kOk)) / (makespan * 1e-9));
}

void measure_recovery(const TrialHistory& history, const std::set<std::uint64_t>& good,
                      TrialResult& result) {
  auto& measures = result.measures;
  const Stamps& stamps = result.stamps;
  measures["detect"] = difference(stamps.activated, stamps.detected,
                                  "nobody reports the worker's death in this arm");
  measures["initiate"] = difference(stamps.detected, stamps.initiated, "no replacement was begun");
  measures["repair"] = difference(stamps.initiated, stamps.up, "no replacement became ready");
  measures["process"] = difference(stamps.up, stamps.first_good, "no replacement delivered");
  if (stamps.first_good) {
    measures["first_good"] = difference(stamps.activated, stamps.first_good, "");
  } else if (stamps.detected) {
    measures["first_good"] = Sample::never("no replacement delivered");
  } else {
    measures["first_good"] = first_good_from_outside(history, good, result);
    if (!measures["first_good"].value && !result.ran_to_end)
      measures["first_good"] = Sample::never("no replacement delivered");
  }
  measures["outage_gap"] = outage_gap(result);
}

constexpr const char* kOutside[] = {"makespan",     "throughput", "outage_gap",
                                    "first_effect", "next_good",  "quiesced"};
constexpr const char* kInside[] = {"detect",  "initiate",   "repair",
                                   "process", "first_good", "redone"};

void compute_measures(const TrialHistory& history, const std::set<std::uint64_t>& good,
                      TrialResult& result) {
  auto& measures = result.measures;
  measure_from_outside(history, good, result);
  if (result.fault != "none" && result.injection != InjectionOutcome::kConfirmed) {
    for (const char* name : kOutside) measures[name] = Sample::none("the fault was not confirmed");
    for (const char* name : kInside) measures[name] = Sample::none("the fault was not confirmed");
    return;
  }
  measure_speed(result);
  measures["redone"] = result.tells ? Sample::of(static_cast<double>(result.items.redone))
                                    : Sample::none("the subject tells nothing");
  if (result.fault == "none") {
    for (const char* name : {"detect", "initiate", "repair", "process", "first_good", "outage_gap"})
      measures[name] = Sample::none("no fault in this cell");
  } else {
    measure_recovery(history, good, result);
  }
  if (result.records_lost > 0) {
    for (const char* name : kInside)
      measures[name] = Sample::none("records of the probe were lost");
  }
  if (!result.outputs_missed) return;
  for (const char* name : {"outage_gap", "first_effect", "next_good"})
    measures[name] = Sample::none("stamps of outputs were lost");
  if (measures["first_good"].outside)
    measures["first_good"] = Sample::none("stamps of outputs were lost");
}

}  // namespace

const char* injection_outcome_name(InjectionOutcome outcome) {
  switch (outcome) {
    case InjectionOutcome::kNone:
      return "none";
    case InjectionOutcome::kConfirmed:
      return "confirmed";
    case InjectionOutcome::kNotActivated:
      return "not_activated";
    case InjectionOutcome::kSkipped:
      return "skipped";
    case InjectionOutcome::kIndeterminate:
      return "indeterminate";
  }
  return "unknown";
}

bool ItemCounts::exact() const {
  std::int64_t sum = 0;
  for (const std::int64_t count : classes) sum += count;
  return sum == offered;
}

ItemCounts& ItemCounts::operator+=(const ItemCounts& other) {
  offered += other.offered;
  for (std::size_t i = 0; i < classes.size(); ++i) classes[i] += other.classes[i];
  duplicated += other.duplicated;
  misplaced += other.misplaced;
  torn += other.torn;
  empty += other.empty;
  extra += other.extra;
  stale_temporary += other.stale_temporary;
  redone += other.redone;
  return *this;
}

TrialResult measure_trial(const TrialHistory& history) {
  TrialResult result;
  Victim victim;
  const json& header = history.events.front();
  read_header(header, result);
  result.directory = history.directory.string();
  for (const json& event : history.events) read_event(event, result, victim);
  if (!result.complete) return result;  // Cut off: nothing is concluded from half a trial.
  count_items(history, header.value("items", std::int64_t{0}), result);
  const std::set<std::uint64_t> good = good_items(history);
  result.good_outputs = good_output_times(history, good);
  find_recovery_stamps(history, good, victim, result.stamps);
  // Without a fault a subject must also end by itself; after one, delivery is what counts.
  result.recovered = (result.ran_to_end || result.fault != "none") &&

                     static_cast<std::int64_t>(good.size()) == result.deliverable;
  compute_measures(history, good, result);
  return result;
}

}  // namespace crashworthy

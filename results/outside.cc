#include "results/outside.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

namespace crashworthy {
namespace {

using nlohmann::json;

// A silence is an effect when it is so many times as long as the longest of the golden run.
constexpr std::int64_t kGapFactor = 2;
// The stamp of our own signal may come so much after the death that it brought.
constexpr std::int64_t kStampedLateNs = 5'000'000;

using Instant = std::optional<std::int64_t>;

Instant earlier(Instant a, Instant b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

Instant optional_time(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer()) return std::nullopt;
  return found->get<std::int64_t>();
}

std::int64_t time_of(const json& event) { return event["time_ns"].get<std::int64_t>(); }

bool is_process(const json& event, const char* what) {
  return event["type"] == "process" && event.value("event", "") == what;
}

std::vector<ItemRecord> publications(const TrialHistory& history) {
  std::vector<ItemRecord> found;
  for (const ItemRecord& record : history.items) {
    if (record.kind() == ItemEvent::kPublished) found.push_back(record);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.time_ns < b.time_ns; });
  return found;
}

// The last publication of each item counts; in order of time.
std::vector<ItemRecord> last_publications(const TrialHistory& history) {
  std::map<std::uint64_t, ItemRecord> last;
  for (const ItemRecord& record : publications(history)) last[record.item] = record;
  std::vector<ItemRecord> found;
  for (const auto& [item, record] : last) found.push_back(record);
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.time_ns < b.time_ns; });
  return found;
}

bool abnormal(const json& event) {
  const auto status = event.find("status");
  if (status == event.end() || !status->is_object()) return false;
  const auto code = status->find("exit_code");
  return code == status->end() || !code->is_number_integer() || *code != 0;
}

// The end of a victim, or of the main process, other than by exit(0).
Instant end_after(const TrialHistory& history, std::int64_t activated) {
  std::set<std::int64_t> victims;
  for (const json& event : history.events) {
    if (event["type"] != "injection_result" || !event.contains("victims")) continue;
    if (!event["victims"].is_array()) continue;
    for (const json& victim : event["victims"]) {
      if (const Instant pid = optional_time(victim, "host_pid")) victims.insert(*pid);
    }
  }
  Instant first;
  for (const json& event : history.events) {
    if (!is_process(event, "ended") || !abnormal(event)) continue;
    const Instant pid = optional_time(event, "host_pid");
    const bool watched = event.value("role", "") == "main" || (pid && victims.contains(*pid));
    if (watched && time_of(event) >= activated - kStampedLateNs)
      first = earlier(first, std::max(activated, time_of(event)));
  }
  return first;
}

// When a silence after the fault had become too long.
Instant silence_after(const TrialHistory& history, std::int64_t activated,
                      const TrialResult& result) {
  const Instant longest = optional_time(history.events.front(), "longest_golden_gap_ns");
  if (!longest || *longest <= 0) return std::nullopt;
  const std::int64_t over = result.stamps.ended.value_or(time_of(history.events.back()));
  std::int64_t last = result.stamps.launched;
  const auto too_long_until = [&](std::int64_t until) -> Instant {
    const std::int64_t at = last + kGapFactor * *longest;
    last = until;
    return at < until && at >= activated ? Instant(at) : std::nullopt;
  };
  for (const ItemRecord& record : publications(history)) {
    if (record.time_ns > over) break;
    if (const Instant at = too_long_until(record.time_ns)) return at;
  }
  return too_long_until(over);
}

// When an output was published that is wrong.
Instant bad_output_after(const TrialHistory& history, std::int64_t activated) {
  std::set<std::uint64_t> bad;
  for (const ItemRecord& record : history.items) {
    if (record.kind() == ItemEvent::kJudged &&
        record.value == static_cast<std::int64_t>(ItemClass::kCorrupt)) {
      bad.insert(record.item);
    }
  }
  for (const ItemRecord& record : last_publications(history)) {
    if (record.time_ns >= activated && bad.contains(record.item)) return record.time_ns;
  }
  return std::nullopt;
}

Sample since(std::int64_t from, std::int64_t to) {
  Sample sample = Sample::of(static_cast<double>(std::max<std::int64_t>(0, to - from)));
  sample.outside = true;
  return sample;
}

Sample quiesced(const TrialHistory& history, const TrialResult& result) {
  if (!result.stamps.ended) return Sample::none("the main process did not end");
  const json& end = history.events.back();
  if (end["type"] != "end" || !end.contains("quiesced_ns"))
    return Sample::none("it was not recorded");
  if (const Instant at = optional_time(end, "quiesced_ns")) return since(*result.stamps.ended, *at);
  const std::string reason = end.value("quiesced_reason", "it was not recorded");
  const Instant linger = optional_time(history.events.front(), "linger_ns");
  return linger && *linger > 0 ? Sample::never(reason) : Sample::none(reason);
}

Sample next_good(const TrialHistory& history, const std::set<std::uint64_t>& good,
                 const Stamps& stamps) {
  if (!stamps.first_effect) return Sample::none("no effect was seen from outside");
  for (const ItemRecord& record : last_publications(history)) {
    if (record.time_ns > *stamps.first_effect && good.contains(record.item))
      return since(*stamps.activated, record.time_ns);
  }
  return Sample::never("no good output after the first effect");
}

// Births, by pid: exact only where the kernel told of each.
struct Births {
  bool exact = false;
  std::map<std::int64_t, std::vector<std::int64_t>> of;

  // The last one before `time_ns`: a pid may come again.
  Instant before(std::int64_t pid, std::int64_t time_ns) const {
    Instant born;
    const auto found = of.find(pid);
    if (found == of.end()) return born;
    for (const std::int64_t birth : found->second) {
      if (birth <= time_ns && (!born || birth > *born)) born = birth;
    }
    return born;
  }
};

Births births_in(const TrialHistory& history) {
  Births births;
  for (const json& event : history.events) {
    if (event["type"] == "observer" && event.value("of", "") == "processes")
      births.exact = event.value("source", "") == "connector";
    if (!is_process(event, "started") && !is_process(event, "launched")) continue;
    if (const Instant pid = optional_time(event, "host_pid"))
      births.of[*pid].push_back(time_of(event));
  }
  return births;
}

}  // namespace

void measure_from_outside(const TrialHistory& history, const std::set<std::uint64_t>& good,
                          TrialResult& result) {
  auto& measures = result.measures;
  measures["quiesced"] = quiesced(history, result);
  Stamps& stamps = result.stamps;
  if (!stamps.activated) {
    const char* reason =
        result.fault == "none" ? "no fault in this cell" : "no fault was activated";
    measures["first_effect"] = measures["next_good"] = Sample::none(reason);
    return;
  }
  stamps.first_effect = earlier(end_after(history, *stamps.activated),
                                earlier(silence_after(history, *stamps.activated, result),
                                        bad_output_after(history, *stamps.activated)));
  measures["first_effect"] = stamps.first_effect ? since(*stamps.activated, *stamps.first_effect)
                                                 : Sample::none("no effect was seen from outside");
  measures["next_good"] = next_good(history, good, stamps);
}

Sample first_good_from_outside(const TrialHistory& history, const std::set<std::uint64_t>& good,
                               const TrialResult& result) {
  const Births births = births_in(history);
  if (!births.exact) return Sample::none("the subject does not tell who replaces its workers");
  if (!result.stamps.activated) return Sample::none("no fault was activated");
  bool unknown = false;
  for (const ItemRecord& record : last_publications(history)) {
    if (record.time_ns < *result.stamps.activated || !good.contains(record.item)) continue;
    const Instant born = births.before(record.value, record.time_ns);
    unknown = unknown || !born;
    if (born && *born >= *result.stamps.activated)
      return since(*result.stamps.activated, record.time_ns);
  }
  return unknown ? Sample::none("who wrote the outputs is not known")
                 : Sample::never("no good output by a process born after the fault");
}

}  // namespace crashworthy

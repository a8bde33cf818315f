#include "faults/trigger.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>

#include "harness/os/clock.h"
#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

using nlohmann::json;
using Kind = Condition::Kind;

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMaxFirings = 10'000;
constexpr int kMaxDepth = 8;

// Where a fault without `when` strikes: in this part of the golden run's duration, past start-up
// and before the end; where nobody knows that, so long after the launch.
constexpr double kDefaultFrom = 0.3;
constexpr double kDefaultTo = 0.7;
constexpr std::int64_t kDefaultAfterNs = 100'000'000;

const std::vector<std::string> kPhases{"startup", "steady", "delivering"};
const std::vector<std::string> kEvents{"ready", "first_output", "recovered", "fired"};
const std::vector<std::string> kConditionKeys{"after", "item", "phase", "event",
                                              "all",   "any",  "then"};

Result<std::int64_t> read_count(const json& value) {
  if (value.is_number_integer() && value.get<std::int64_t>() >= 1) return value.get<std::int64_t>();
  return usage_error("must be a whole number of at least 1, not " + quoted(value));
}

Result<std::int64_t> read_duration(const json& value) {
  if (!value.is_string())
    return usage_error("must be a duration such as \"200ms\", not " + quoted(value));
  auto duration = parse_duration(value.get<std::string>());
  if (!duration) return duration.error();
  return duration->count();
}

Result<Range> read_range(const json& value, const std::string& pointer,
                         Result<std::int64_t> (*read)(const json&)) {
  const auto at = [&](const json& element) -> Result<std::int64_t> {
    auto number = read(element);
    if (!number) return field_error(pointer, number.error().message, number.error().hint);
    return number;
  };
  const bool pair = value.is_array();
  if (pair && value.size() != 2) return field_error(pointer, "a range has two ends: [LOW, HIGH]");
  auto low = at(pair ? value[0] : value);
  if (!low) return low.error();
  auto high = at(pair ? value[1] : value);
  if (!high) return high.error();
  if (*low > *high) return field_error(pointer, "the range " + quoted(value) + " is empty");
  return Range{*low, *high};
}

Result<std::string> read_name(const json& value, const std::string& pointer, const char* what,
                              const std::vector<std::string>& known) {
  if (!value.is_string()) return field_error(pointer, "must be a text");
  auto name = value.get<std::string>();
  if (std::find(known.begin(), known.end(), name) != known.end()) return name;
  return field_error(pointer, std::string("unknown ") + what + " '" + name + "'",
                     suggest(name, known));
}

// "recovered" or "recovered+2s".
Result<Condition> read_event(const json& value, const std::string& pointer) {
  if (!value.is_string()) return field_error(pointer, "must be a text such as \"recovered+2s\"");
  const auto text = value.get<std::string>();
  const std::size_t plus = text.find('+');
  auto name = read_name(text.substr(0, plus), pointer, "event", kEvents);
  if (!name) return name.error();
  Condition condition;
  condition.kind = Kind::kEvent;
  condition.name = *name;
  if (plus == std::string::npos) return condition;
  auto delay = read_range(text.substr(plus + 1), pointer, read_duration);
  if (!delay) return delay.error();
  condition.value = *delay;
  return condition;
}

Result<Condition> read_condition(const std::string& key, const json& value,
                                 const std::string& pointer, int depth);

Result<Condition> read_parts(Kind kind, const json& value, const std::string& pointer, int depth) {
  if (!value.is_array() || value.empty()) {
    return field_error(pointer, "must be a list of conditions such as [{\"after\": \"1s\"}]");
  }
  if (depth > kMaxDepth) return field_error(pointer, "conditions are nested too deeply");
  Condition condition;
  condition.kind = kind;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string here = pointer + "/" + std::to_string(i);
    if (auto valid = require_object(value[i], here, kConditionKeys); !valid) return valid.error();
    if (value[i].size() != 1) return field_error(here, "a condition has exactly one key");
    const std::string& key = value[i].begin().key();
    auto part = read_condition(key, value[i].begin().value(), here + "/" + key, depth + 1);
    if (!part) return part.error();
    condition.parts.push_back(*std::move(part));
  }
  return condition;
}

Result<Condition> read_condition(const std::string& key, const json& value,
                                 const std::string& pointer, int depth) {
  if (key == "event") return read_event(value, pointer);
  if (key == "all") return read_parts(Kind::kAll, value, pointer, depth);
  if (key == "any") return read_parts(Kind::kAny, value, pointer, depth);
  if (key == "then") return read_parts(Kind::kThen, value, pointer, depth);
  Condition condition;
  if (key == "phase") {
    condition.kind = Kind::kPhase;
    auto name = read_name(value, pointer, "phase", kPhases);
    if (!name) return name.error();
    condition.name = *name;
    return condition;
  }
  condition.kind = key == "item" ? Kind::kItem : Kind::kAfter;
  auto range = read_range(value, pointer, key == "item" ? read_count : read_duration);
  if (!range) return range.error();
  condition.value = *range;
  return condition;
}

Result<void> read_repeat(const json& object, const std::string& pointer, TriggerKind kind,
                         Trigger& trigger) {
  const bool counted = kind == TriggerKind::kCounted;
  if (auto valid = require_object(object, pointer, {"times", counted ? "every" : "gap"}); !valid)
    return valid;
  auto times = read_integer(object, pointer, "times", 1, 1, kMaxFirings);
  if (!times) return times.error();
  auto every = read_integer(object, pointer, "every", 1, 1, INT64_MAX);
  if (!every) return every.error();
  trigger.times = *times;
  trigger.every = *every;
  if (!object.contains("gap")) {
    if (!counted && *times > 1) {
      return field_error(pointer, "'times' needs a 'gap'",
                         R"(write {"times": 5, "gap": "1s"} or {"gap": "recovered+2s"})");
    }
    return {};
  }
  const json& gap = object["gap"];
  const std::string here = pointer + "/gap";
  const bool event = gap.is_string() && !gap.get<std::string>().empty() &&
                     std::isalpha(static_cast<unsigned char>(gap.get<std::string>()[0])) != 0;
  auto condition = read_condition(event ? "event" : "after", gap, here, 0);
  if (!condition) return condition.error();
  trigger.gap = *std::move(condition);
  return {};
}

Result<void> read_probability(const json& value, const std::string& pointer, Trigger& trigger) {
  if (!value.is_number() || value.get<double>() <= 0 || value.get<double>() > 1) {
    return field_error(pointer, "must be a number above 0, at most 1, not " + quoted(value));
  }
  trigger.probability = value.get<double>();
  return {};
}

json range_json(const Range& range) {
  return range.low == range.high ? json(range.low) : json::array({range.low, range.high});
}

json duration_json(const Range& range) {
  const auto text = [](std::int64_t ns) { return std::to_string(ns) + "ns"; };
  return range.low == range.high ? json(text(range.low))
                                 : json::array({text(range.low), text(range.high)});
}

json condition_json(const Condition& condition) {
  const auto parts = [&] {
    json list = json::array();
    for (const Condition& part : condition.parts) list.push_back(condition_json(part));
    return list;
  };
  switch (condition.kind) {
    case Kind::kAfter:
      return {{"after", duration_json(condition.value)}};
    case Kind::kItem:
      return {{"item", range_json(condition.value)}};
    case Kind::kPhase:
      return {{"phase", condition.name}};
    case Kind::kEvent: {
      const std::string delay =
          condition.value.high == 0 ? "" : "+" + std::to_string(condition.value.low) + "ns";
      return {{"event", condition.name + delay}};
    }
    case Kind::kAll:
      return {{"all", parts()}};
    case Kind::kAny:
      return {{"any", parts()}};
    case Kind::kThen:
      return {{"then", parts()}};
  }
  return json::object();
}

std::int64_t draw(const Range& range, Random& random) {
  const auto width = static_cast<std::uint64_t>(range.high - range.low) + 1;
  return range.low + static_cast<std::int64_t>(width == 0 ? 0 : random.below(width));
}

void draw_all(Condition& condition, Random& random) {
  condition.value.low = condition.value.high = draw(condition.value, random);
  for (Condition& part : condition.parts) draw_all(part, random);
}

}  // namespace

Result<Trigger> parse_trigger(const json& object, const std::string& pointer, TriggerKind kind,
                              const char* count_key) {
  const bool counted = kind == TriggerKind::kCounted;
  std::vector<std::string> known;
  if (kind != TriggerKind::kLaunch) {
    known = kConditionKeys;
    known.emplace_back("repeat");
  }
  if (counted) {
    known.emplace_back(count_key);
    known.emplace_back("probability");
  }
  if (auto valid = require_object(object, pointer, known); !valid) return valid.error();
  Trigger trigger;
  for (const auto& [key, value] : object.items()) {
    const std::string here = pointer + "/" + key;
    if (key == "repeat") {
      if (auto read = read_repeat(value, here, kind, trigger); !read) return read.error();
    } else if (key == "probability") {
      if (auto read = read_probability(value, here, trigger); !read) return read.error();
    } else if (counted && key == count_key) {
      auto range = read_range(value, here, read_count);
      if (!range) return range.error();
      trigger.count = *range;
    } else {
      if (trigger.gate) {
        return field_error(pointer, "two conditions at once: '" + key + "' is one too many",
                           R"(write {"all": [..]}, {"any": [..]} or {"then": [..]})");
      }
      auto condition = read_condition(key, value, here, 0);
      if (!condition) return condition.error();
      trigger.gate = *std::move(condition);
    }
  }
  if (counted && !trigger.count) trigger.count = Range{1, 1};
  if (trigger.probability < 1 && trigger.times == 1 && !object.contains("repeat")) {
    trigger.times = kMaxFirings;  // Each of them has its chance.
  }
  return trigger;
}

json to_json(const Trigger& trigger, const char* count_key) {
  json object = trigger.gate ? condition_json(*trigger.gate) : json::object();
  if (trigger.count) object[count_key] = range_json(*trigger.count);
  if (trigger.probability < 1) object["probability"] = trigger.probability;
  if (trigger.times > 1 || trigger.probability < 1) {
    object["repeat"] = {{"times", trigger.times}};
    if (trigger.count) object["repeat"]["every"] = trigger.every;
    if (trigger.gap) {
      const json gap = condition_json(*trigger.gap);
      object["repeat"]["gap"] = gap.begin().value();
    }
  }
  return object;
}

Trigger resolve(const Trigger& trigger, TriggerKind kind, std::uint64_t seed,
                std::int64_t golden_ns) {
  Random random(seed);
  Trigger resolved = trigger;
  if (kind == TriggerKind::kMoment && !resolved.gate) {
    const auto length = static_cast<double>(golden_ns);
    Condition after;
    after.value = {static_cast<std::int64_t>(length * kDefaultFrom),
                   static_cast<std::int64_t>(length * kDefaultTo)};
    if (golden_ns == 0) after.value = {kDefaultAfterNs, kDefaultAfterNs};
    resolved.gate = after;
  }
  if (resolved.gate) draw_all(*resolved.gate, random);
  if (resolved.count) resolved.count->low = resolved.count->high = draw(*resolved.count, random);
  if (resolved.gap) draw_all(*resolved.gap, random);
  return resolved;
}

// ---- Following one ----

TriggerWatch::Progress TriggerWatch::start(const Condition& condition, std::int64_t now_ns,
                                           std::uint64_t items) {
  Progress progress;
  progress.since_ns = now_ns;
  progress.since_items = items;
  // The parts of a `then` start when it is their turn.
  for (const Condition& part : condition.parts) {
    if (condition.kind == Kind::kThen && !progress.parts.empty()) break;
    progress.parts.push_back(start(part, now_ns, items));
  }
  return progress;
}

namespace {

bool phase_is(const std::string& name, const Moment& moment) {
  if (name == "startup") return moment.launched_ns == 0 || moment.ready_ns == 0;
  if (name == "steady") return moment.launched_ns != 0 && moment.ready_ns != 0;
  return moment.first_output_ns != 0;
}

// When the event came, after `since_ns`; 0: not yet.
std::int64_t time_of(const std::string& name, const Moment& moment, std::int64_t since_ns) {
  if (name == "ready") return moment.ready_ns;
  if (name == "first_output") return moment.first_output_ns;
  if (name == "fired") return moment.fired_ns > since_ns ? moment.fired_ns : 0;
  // Recovered: something was delivered after the last firing.
  const bool recovered = moment.fired_ns != 0 && moment.last_output_ns > moment.fired_ns;
  return recovered ? moment.last_output_ns : 0;
}

}  // namespace

void TriggerWatch::advance(const Condition& condition, Progress& progress,
                           const Moment& moment) const {
  if (progress.held_ns != 0) return;
  const auto hold_from = [&](std::int64_t time_ns) {
    if (time_ns != 0 && moment.now_ns >= time_ns)
      progress.held_ns = std::max<std::int64_t>(time_ns, 1);
  };
  switch (condition.kind) {
    case Kind::kAfter:
      return hold_from(progress.since_ns + condition.value.low);
    case Kind::kItem:
      if (moment.items_taken >=
          progress.since_items + static_cast<std::uint64_t>(condition.value.low)) {
        hold_from(moment.now_ns);
      }
      return;
    case Kind::kPhase:
      if (phase_is(condition.name, moment)) hold_from(moment.now_ns);
      return;
    case Kind::kEvent:
      if (const std::int64_t at = time_of(condition.name, moment, progress.since_ns); at != 0) {
        hold_from(at + condition.value.low);
      }
      return;
    case Kind::kAll:
    case Kind::kAny: {
      std::size_t held = 0;
      for (std::size_t i = 0; i < condition.parts.size(); ++i) {
        advance(condition.parts[i], progress.parts[i], moment);
        held += progress.parts[i].held_ns != 0;
      }
      if (held == condition.parts.size() || (held > 0 && condition.kind == Kind::kAny)) {
        hold_from(moment.now_ns);
      }
      return;
    }
    case Kind::kThen:
      while (true) {
        const std::size_t last = progress.parts.size() - 1;
        advance(condition.parts[last], progress.parts[last], moment);
        if (progress.parts[last].held_ns == 0) return;
        if (last + 1 == condition.parts.size()) return hold_from(moment.now_ns);
        progress.parts.push_back(
            start(condition.parts[last + 1], progress.parts[last].held_ns, moment.items_taken));
      }
  }
}

bool TriggerWatch::due(const Moment& moment) {
  if (spent() || moment.launched_ns == 0) return false;
  if (trigger_.gate) {
    if (!gate_) gate_ = start(*trigger_.gate, moment.launched_ns, 0);
    advance(*trigger_.gate, *gate_, moment);
    if (gate_->held_ns == 0) return false;
  }
  if (!gap_) return true;
  advance(*trigger_.gap, *gap_, moment);
  return gap_->held_ns != 0;
}

void TriggerWatch::fired(std::int64_t time_ns) {
  ++firings_;
  if (trigger_.gap) gap_ = start(*trigger_.gap, time_ns, 0);
}

std::int64_t TriggerWatch::next_of(const Condition& condition, const Progress& progress,
                                   const Moment& moment) const {
  if (progress.held_ns != 0) return kNever;
  if (condition.kind == Kind::kAfter) return progress.since_ns + condition.value.low;
  if (condition.kind == Kind::kEvent) {
    const std::int64_t at = time_of(condition.name, moment, progress.since_ns);
    return at == 0 ? kNever : at + condition.value.low;
  }
  std::int64_t next = kNever;
  for (std::size_t i = 0; i < progress.parts.size(); ++i) {
    next = std::min(next, next_of(condition.parts[i], progress.parts[i], moment));
  }
  return next;
}

std::int64_t TriggerWatch::next_ns(const Moment& moment) const {
  if (spent() || moment.launched_ns == 0) return kNever;
  if (trigger_.gate && (!gate_ || gate_->held_ns == 0)) {
    const Progress progress = gate_ ? *gate_ : start(*trigger_.gate, moment.launched_ns, 0);
    return next_of(*trigger_.gate, progress, moment);
  }
  return gap_ ? next_of(*trigger_.gap, *gap_, moment) : kNever;
}

std::optional<std::uint64_t> TriggerWatch::item_of(const Condition& condition,
                                                   const Progress& progress) const {
  if (progress.held_ns != 0) return std::nullopt;
  if (condition.kind == Kind::kItem) {
    return progress.since_items + static_cast<std::uint64_t>(condition.value.low);
  }
  std::optional<std::uint64_t> next;
  for (std::size_t i = 0; i < progress.parts.size(); ++i) {
    const auto item = item_of(condition.parts[i], progress.parts[i]);
    if (item && (!next || *item < *next)) next = item;
  }
  return next;
}

std::optional<std::uint64_t> TriggerWatch::next_item() const {
  if (spent() || !trigger_.gate) return std::nullopt;
  return item_of(*trigger_.gate, gate_ ? *gate_ : start(*trigger_.gate, 0, 0));
}

}  // namespace crashworthy

#include "faults/fault_spec.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "harness/os/clock.h"
#include "harness/os/json_fields.h"
#include "harness/os/random.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::array<const char*, 4> kRoleNames{"worker", "main", "supervisor", "any"};

// Where a fault without `when` strikes: in this part of the golden run's duration, past start-up
// and before the end.
constexpr double kDefaultFrom = 0.3;
constexpr double kDefaultTo = 0.7;

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

Result<void> read_victim(const json& object, const std::string& pointer, FaultSpec& fault) {
  if (auto valid = require_object(object, pointer, {"role", "holding_item"}); !valid) return valid;
  auto role = read_string(object, pointer, "role", "worker");
  if (!role) return role.error();
  const auto found = std::find(kRoleNames.begin(), kRoleNames.end(), *role);
  if (found == kRoleNames.end()) {
    return field_error(pointer + "/role", "unknown role '" + *role + "'",
                       suggest(*role, {kRoleNames.begin(), kRoleNames.end()}));
  }
  fault.victim.role = static_cast<Role>(found - kRoleNames.begin());
  auto holding = read_bool(object, pointer, "holding_item", false);
  if (!holding) return holding.error();
  fault.victim.holding_item = *holding;
  if (*holding && fault.victim.role != Role::kWorker) {
    return field_error(pointer + "/holding_item", "only a worker holds items");
  }
  return {};
}

Result<void> read_repeat(const json& object, const std::string& pointer, FaultSpec& fault) {
  if (auto valid = require_object(object, pointer, {"times", "every"}); !valid) return valid;
  auto times = read_integer(object, pointer, "times", 1, 1, 64);
  if (!times) return times.error();
  auto every = read_integer(object, pointer, "every", 1, 1, INT64_MAX);
  if (!every) return every.error();
  fault.repeat_times = *times;
  fault.repeat_every = *every;
  return {};
}

Result<void> read_when(const json& object, const std::string& pointer, FaultSpec& fault) {
  const bool by_hit = fault.row().mechanism == Mechanism::kFaultPoint;
  const std::vector<std::string> known = by_hit ? std::vector<std::string>{"hit", "repeat"}
                                                : std::vector<std::string>{"item", "after"};
  if (auto valid = require_object(object, pointer, known); !valid) return valid;
  for (const auto& [key, value] : object.items()) {
    const std::string here = pointer + "/" + key;
    if (key == "repeat") {
      if (auto read = read_repeat(value, here, fault); !read) return read;
      continue;
    }
    auto range = read_range(value, here, key == "after" ? read_duration : read_count);
    if (!range) return range.error();
    (key == "item" ? fault.item : key == "hit" ? fault.hit : fault.after_ns) = *range;
  }
  if (fault.item && fault.after_ns)
    return field_error(pointer, "'item' and 'after' exclude each other");
  return {};
}

Result<void> read_set(const json& object, const std::string& pointer, FaultSpec& fault) {
  const bool has_headroom = fault.row().mechanism == Mechanism::kResourceLimit;
  if (auto valid = require_object(
          object, pointer,
          has_headroom ? std::vector<std::string>{"headroom"} : std::vector<std::string>{});
      !valid) {
    return valid;
  }
  if (!object.contains("headroom")) return {};
  auto text = read_string(object, pointer, "headroom", "");
  if (!text) return text.error();
  auto size = parse_size(*text);
  if (!size) return field_error(pointer + "/headroom", size.error().message, size.error().hint);
  fault.headroom = *size;
  return {};
}

Result<void> read_fault_name(const json& object, const std::string& pointer, FaultSpec& fault) {
  auto name = read_string(object, pointer, "fault", "");
  if (!name) return name.error();
  const std::size_t at = name->find('@');
  fault.fault = name->substr(0, at);
  fault.point = at == std::string::npos ? "" : name->substr(at + 1);
  const FaultRow* row = find_fault(fault.fault);
  if (row == nullptr) {
    return field_error(pointer + "/fault", "unknown fault '" + fault.fault + "'",
                       suggest(fault.fault, fault_names()));
  }
  if (row->needs_point && fault.point.empty()) {
    return field_error(pointer + "/fault", "'" + fault.fault + "' needs a point",
                       "write \"" + fault.fault + "@POINT\"");
  }
  if (!row->needs_point && at != std::string::npos) {
    return field_error(pointer + "/fault", "'" + fault.fault + "' takes no point");
  }
  if (fault.point.size() >= 48)
    return field_error(pointer + "/fault", "the point's name is longer than 47 bytes");
  return {};
}

json range_json(const Range& range) {
  return range.low == range.high ? json(range.low) : json::array({range.low, range.high});
}

}  // namespace

const char* role_name(Role role) { return kRoleNames[static_cast<std::size_t>(role)]; }

const FaultRow& FaultSpec::row() const {
  const FaultRow* found = find_fault(fault);
  CRASHWORTHY_CHECK(found != nullptr, fault);
  return *found;
}

Result<FaultSpec> parse_fault(const json& object, const std::string& pointer) {
  if (auto valid = require_object(object, pointer, {"name", "fault", "victim", "when", "set"});
      !valid)
    return valid.error();
  FaultSpec fault;
  if (auto read = read_fault_name(object, pointer, fault); !read) return read.error();
  auto name = read_string(object, pointer, "name",
                          fault.point.empty() ? fault.fault : fault.fault + "@" + fault.point);
  if (!name) return name.error();
  fault.name = *name;
  if (fault.name.empty() || fault.name == "none") {
    return field_error(
        pointer + "/name",
        "'" + fault.name + "' is no name for a fault: 'none' is the twin, which is always added");
  }
  using Reader = Result<void> (*)(const json&, const std::string&, FaultSpec&);
  const std::pair<const char*, Reader> parts[] = {
      {"victim", read_victim}, {"when", read_when}, {"set", read_set}};
  for (const auto& [key, read] : parts) {
    if (!object.contains(key)) continue;
    if (fault.row().needs_point && std::string(key) == "victim") {
      return field_error(pointer + "/victim",
                         "the victim of a fault point is whoever passes it on the chosen hit");
    }
    if (auto done = read(object[key], pointer + "/" + key, fault); !done) return done.error();
  }
  if (fault.row().needs_point && !fault.hit) fault.hit = Range{1, 1};
  return fault;
}

ResolvedTrigger resolve_trigger(const FaultSpec& fault, std::uint64_t seed,
                                std::int64_t golden_ns) {
  Random random(seed);
  const auto draw = [&](const Range& range) {
    return range.low + static_cast<std::int64_t>(
                           random.below(static_cast<std::uint64_t>(range.high - range.low) + 1));
  };
  ResolvedTrigger trigger;
  if (fault.item) {
    trigger.item = draw(*fault.item);
  } else if (fault.hit) {
    trigger.hit = draw(*fault.hit);
  } else if (fault.after_ns) {
    trigger.after_ns = draw(*fault.after_ns);
  } else {
    const auto length = static_cast<double>(golden_ns);
    trigger.after_ns = draw({static_cast<std::int64_t>(length * kDefaultFrom),
                             static_cast<std::int64_t>(length * kDefaultTo)});
  }
  return trigger;
}

json to_json(const FaultSpec& fault) {
  json object{{"name", fault.name},
              {"fault", fault.point.empty() ? fault.fault : fault.fault + "@" + fault.point},
              {"when", json::object()}};
  if (!fault.row().needs_point) {
    object["victim"] = {{"role", role_name(fault.victim.role)},
                        {"holding_item", fault.victim.holding_item}};
  }
  if (fault.item) object["when"]["item"] = range_json(*fault.item);
  if (fault.hit) object["when"]["hit"] = range_json(*fault.hit);
  if (fault.after_ns) object["when"]["after_ns"] = range_json(*fault.after_ns);
  if (fault.row().needs_point)
    object["when"]["repeat"] = {{"times", fault.repeat_times}, {"every", fault.repeat_every}};
  if (fault.headroom) object["set"] = {{"headroom", *fault.headroom}};
  return object;
}

json to_json(const ResolvedTrigger& trigger) {
  json object = json::object();
  if (trigger.item) object["item"] = *trigger.item;
  if (trigger.hit) object["hit"] = *trigger.hit;
  if (trigger.after_ns) object["after_ns"] = *trigger.after_ns;
  return object;
}

}  // namespace crashworthy

#include "faults/fault_spec.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "faults/fault_checks.h"
#include "faults/system_calls.h"
#include "harness/os/check.h"
#include "harness/os/clock.h"
#include "harness/os/json_fields.h"
#include "harness/os/system_names.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::array<const char*, 4> kRoleNames{"worker", "main", "supervisor", "any"};
constexpr std::array<const char*, 4> kPickNames{"random", "oldest", "newest", "all"};
constexpr std::size_t kMaxPointName = 128;

// The keys of `part` ("victim", "when", "set") that the row has, without the part's name.
std::vector<std::string> keys_of(const FaultRow& row, const std::string& part) {
  std::vector<std::string> keys;
  for (const FaultKey& key : row.keys) {
    const std::string name = key.key;
    if (name.starts_with(part + ".")) keys.push_back(name.substr(part.size() + 1));
  }
  return keys;
}

Result<void> read_optional_count(const json& object, const std::string& pointer, const char* key,
                                 std::int64_t least, std::optional<std::int64_t>& into) {
  if (!object.contains(key)) return {};
  auto number = read_integer(object, pointer, key, least, least, INT32_MAX);
  if (!number) return number.error();
  into = *number;
  return {};
}

// "random", "oldest", "newest", "all", or a number: so many at random.
Result<void> read_pick(const json& object, const std::string& pointer, VictimRule& victim) {
  if (!object.contains("pick")) return {};
  const json& value = object["pick"];
  if (value.is_number()) {
    auto count = read_integer(object, pointer, "pick", 1, 1, INT32_MAX);
    if (!count) return count.error();
    victim.count = *count;
    return {};
  }
  auto name = read_string(object, pointer, "pick", "random");
  if (!name) return name.error();
  const auto found = std::find(kPickNames.begin(), kPickNames.end(), *name);
  if (found == kPickNames.end()) {
    const bool number =
        !name->empty() && name->find_first_not_of("0123456789") == std::string::npos;
    return field_error(pointer + "/pick", "unknown pick '" + *name + "'",
                       number ? "a number is written without quotation marks: " + *name
                              : suggest(*name, {kPickNames.begin(), kPickNames.end()}) +
                                    "; or a number: so many at random");
  }
  victim.pick = static_cast<Pick>(found - kPickNames.begin());
  return {};
}

// Most faults strike a worker unless told otherwise; some rows name another role.
std::string default_role(const FaultRow& row) {
  for (const FaultKey& key : row.keys) {
    if (std::string(key.key) == "victim.role" && key.fallback != nullptr) return key.fallback;
  }
  return role_name(Role::kWorker);
}

Result<void> read_victim(const json& object, const std::string& pointer, FaultSpec& fault) {
  if (auto valid = require_object(object, pointer, keys_of(fault.row(), "victim")); !valid)
    return valid;
  VictimRule& victim = fault.victim;
  auto role = read_string(object, pointer, "role", default_role(fault.row()));
  if (!role) return role.error();
  const auto found = std::find(kRoleNames.begin(), kRoleNames.end(), *role);
  if (found == kRoleNames.end()) {
    return field_error(pointer + "/role", "unknown role '" + *role + "'",
                       suggest(*role, {kRoleNames.begin(), kRoleNames.end()}));
  }
  victim.role = static_cast<Role>(found - kRoleNames.begin());
  auto holding = read_bool(object, pointer, "holding_item", false);
  if (!holding) return holding.error();
  victim.holding_item = *holding;
  auto command = read_string(object, pointer, "command", "");
  if (!command) return command.error();
  victim.command = *command;
  if (auto read = read_optional_count(object, pointer, "worker", 0, victim.worker); !read)
    return read;
  if (auto read = read_optional_count(object, pointer, "incarnation", 1, victim.incarnation); !read)
    return read;
  if (auto read = read_optional_count(object, pointer, "child", 1, victim.child); !read)
    return read;
  if (auto read = read_pick(object, pointer, victim); !read) return read;
  // Whoever names a process of the tree by what only the tree knows means any of it.
  if ((victim.child || !victim.command.empty()) && !object.contains("role"))
    victim.role = Role::kAny;
  const bool of_worker = victim.holding_item || victim.worker || victim.incarnation;
  if (of_worker && victim.role != Role::kWorker) {
    return field_error(pointer + (victim.holding_item ? "/holding_item" : "/worker"),
                       "only a worker holds items");
  }
  return {};
}

Result<Setting> read_setting(const FaultKey& key, const json& value) {
  Setting setting;
  setting.text = value.is_string() ? value.get<std::string>() : value.dump();
  switch (key.type) {
    case KeyType::kReserved:
    case KeyType::kText:
      if (setting.text.empty()) return usage_error("is empty");
      return setting;
    case KeyType::kCalls:
      if (auto calls = parse_calls(setting.text); !calls) return calls.error();
      return setting;
    case KeyType::kCount: {
      const json number = value.is_string() ? json::parse(setting.text, nullptr, false) : value;
      if (!number.is_number_integer() || number.get<std::int64_t>() < 0) {
        return usage_error("must be a whole number of at least 0, not " + quoted(value));
      }
      setting.number = number.get<std::int64_t>();
      if (auto right = check_bounds(key, setting.number, quoted(value)); !right)
        return right.error();
      return setting;
    }
    case KeyType::kDuration: {
      auto duration = parse_duration(setting.text);
      if (!duration) return duration.error();
      setting.number = duration->count();
      if (auto right = check_bounds(key, setting.number, quoted(value)); !right)
        return right.error();
      return setting;
    }
    case KeyType::kSize: {
      auto size = parse_size(setting.text);
      if (!size) return size.error();
      setting.number = static_cast<std::int64_t>(*size);
      if (auto right = check_bounds(key, setting.number, quoted(value)); !right)
        return right.error();
      return setting;
    }
    case KeyType::kPortion: {
      if (setting.text.empty() || setting.text.back() != '%') {
        auto size = parse_size(setting.text);
        if (!size) return size.error();
        setting.number = static_cast<std::int64_t>(*size);
        return setting;
      }
      const json share =
          json::parse(setting.text.substr(0, setting.text.size() - 1), nullptr, false);
      const auto most = static_cast<std::uint64_t>(std::min<std::int64_t>(key.most, 100));
      if (!share.is_number_unsigned() || share.get<std::uint64_t>() > most) {
        return usage_error("must be \"0%\" to \"" + std::to_string(most) + "%\", or a size, not " +
                           quoted(value));
      }
      setting.number = share.get<std::int64_t>();
      return setting;
    }
    case KeyType::kSignal:
    case KeyType::kErrno: {
      const bool signal = key.type == KeyType::kSignal;
      auto number = signal ? signal_by_name(setting.text) : errno_by_name(setting.text);
      if (!number) return number.error();
      setting.number = *number;
      return setting;
    }
  }
  return setting;
}

Result<void> read_settings(const json& object, const std::string& pointer, FaultSpec& fault) {
  if (auto valid = require_object(object, pointer, keys_of(fault.row(), "set")); !valid)
    return valid;
  for (const FaultKey& key : fault.row().keys) {
    const std::string full = key.key;
    if (!full.starts_with("set.")) continue;
    const std::string name = full.substr(4);
    const bool given = object.contains(name);
    if (!given && key.required) {
      return field_error(pointer, "'" + fault.fault + "' needs '" + name + "'",
                         "on the command line: --set " + name + "=...; " + key.meaning);
    }
    if (!given && key.fallback == nullptr) continue;
    auto setting = read_setting(key, given ? object[name] : json(key.fallback));
    if (!setting) {
      return field_error(pointer + "/" + name, setting.error().message, setting.error().hint);
    }
    fault.settings[name] = *std::move(setting);
  }
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
  if (row->point == PointRule::kRequired && fault.point.empty()) {
    return field_error(pointer + "/fault", "'" + fault.fault + "' needs a point",
                       "write \"" + fault.fault + "@POINT\"");
  }
  if (row->point == PointRule::kNone && at != std::string::npos) {
    return field_error(pointer + "/fault", "'" + fault.fault + "' takes no point");
  }
  if (at != std::string::npos && fault.point.empty())
    return field_error(pointer + "/fault", "the point has no name");
  if (fault.point.size() > kMaxPointName) {
    return field_error(pointer + "/fault", "the point's name is longer than " +
                                               std::to_string(kMaxPointName) + " bytes");
  }
  return {};
}

json victim_json(const VictimRule& victim) {
  json object{{"role", role_name(victim.role)}};
  if (victim.holding_item) object["holding_item"] = true;
  if (victim.worker) object["worker"] = *victim.worker;
  if (victim.incarnation) object["incarnation"] = *victim.incarnation;
  if (!victim.command.empty()) object["command"] = victim.command;
  if (victim.child) object["child"] = *victim.child;
  if (victim.pick != Pick::kRandom) object["pick"] = pick_name(victim.pick);
  if (victim.count > 1) object["pick"] = victim.count;
  return object;
}

}  // namespace

const char* role_name(Role role) { return kRoleNames[static_cast<std::size_t>(role)]; }
const char* pick_name(Pick pick) { return kPickNames[static_cast<std::size_t>(pick)]; }

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
  if (object.contains("victim") && fault.trigger_kind() == TriggerKind::kCounted) {
    return field_error(pointer + "/victim",
                       fault.point.empty()
                           ? "the victim is whoever makes the chosen call"
                           : "the victim of a point is whoever passes it on the chosen hit");
  }
  if (auto read = read_victim(object.value("victim", json::object()), pointer + "/victim", fault);
      !read)
    return read.error();
  const char* count_key = fault.row().count_key == nullptr ? "hit" : fault.row().count_key;
  const json when = object.value("when", json::object());
  if (auto valid = require_object(when, pointer + "/when", keys_of(fault.row(), "when")); !valid)
    return valid.error();
  auto trigger = parse_trigger(when, pointer + "/when", fault.trigger_kind(), count_key);
  if (!trigger) return trigger.error();
  fault.trigger = *std::move(trigger);
  if (auto read = read_settings(object.value("set", json::object()), pointer + "/set", fault);
      !read)
    return read.error();
  if (auto right = check_fault(fault, pointer); !right) return right.error();
  // What waits for bytes waits for nothing else, if nothing else is named.
  if (fault.has("after_bytes") && !fault.trigger.gate) fault.trigger.gate = Condition{};
  return fault;
}

json to_json(const FaultSpec& fault, const Trigger& trigger) {
  const char* count_key = fault.row().count_key == nullptr ? "hit" : fault.row().count_key;
  json object{{"name", fault.name},
              {"fault", fault.point.empty() ? fault.fault : fault.fault + "@" + fault.point}};
  if (fault.trigger_kind() != TriggerKind::kLaunch) object["when"] = to_json(trigger, count_key);
  if (fault.trigger_kind() == TriggerKind::kMoment && !keys_of(fault.row(), "victim").empty())
    object["victim"] = victim_json(fault.victim);
  for (const auto& [key, setting] : fault.settings) object["set"][key] = setting.text;
  return object;
}

json to_json(const FaultSpec& fault) { return to_json(fault, fault.trigger); }

}  // namespace crashworthy

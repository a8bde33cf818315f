#include "harness/supervision/spec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

using nlohmann::json;

// Each enum has one table of words, in the order of its enumerators.
constexpr std::array<std::string_view, 4> kStrategies{"one_for_one", "one_for_all", "rest_for_one",
                                                      "dynamic"};
constexpr std::array<std::string_view, 3> kRestarts{"permanent", "transient", "temporary"};
constexpr std::array<std::string_view, 2> kTypes{"worker", "supervisor"};
constexpr std::array<std::string_view, 3> kAutoShutdowns{"never", "any_significant",
                                                         "all_significant"};

// So that sums of times, and the product of an interval and its misses, never overflow.
constexpr Nanoseconds kMaxTime = std::chrono::hours(100'000);
constexpr std::size_t kMaxIdBytes = 200;

template <std::size_t N, typename Enum>
std::string_view word_of(const std::array<std::string_view, N>& words, Enum value) {
  return words[static_cast<std::size_t>(value)];
}

template <typename Enum, std::size_t N>
std::optional<Enum> value_of(const std::array<std::string_view, N>& words, std::string_view word) {
  const auto found = std::find(words.begin(), words.end(), word);
  if (found == words.end()) return std::nullopt;
  return static_cast<Enum>(found - words.begin());
}

// The shortest way to write `time` exactly: "90s", "2m", "250ms".
std::string exact_duration(Nanoseconds time) {
  static constexpr std::array<std::pair<const char*, std::int64_t>, 6> kUnits{
      {{"h", 3'600'000'000'000},
       {"m", 60'000'000'000},
       {"s", 1'000'000'000},
       {"ms", 1'000'000},
       {"us", 1'000},
       {"ns", 1}}};
  if (time.count() == 0) return "0s";
  for (const auto& [name, factor] : kUnits) {
    if (time.count() % factor == 0) return std::to_string(time.count() / factor) + name;
  }
  return std::to_string(time.count()) + "ns";
}

// As messages quote it; std::quoted must not be meant.
std::string quote(std::string_view text) { return quoted(json(std::string(text))); }

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

// Whether `text` is UTF-8 without control characters (C0, DEL, C1): it goes into logs, onto
// terminals and into JSON.
bool is_printable(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7f) return false;
    if (c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0)
      return false;
  }
  try {
    static_cast<void>(json(std::string(text)).dump());
  } catch (const json::exception&) {
    return false;  // No UTF-8.
  }
  return true;
}

Result<void> check_id(const std::string& id, const std::string& pointer) {
  if (id.empty()) return field_error(pointer, "must not be empty");
  if (id.size() > kMaxIdBytes) {
    return field_error(pointer, "must have at most " + std::to_string(kMaxIdBytes) +
                                    " bytes, not " + std::to_string(id.size()));
  }
  if (id.find('/') != std::string::npos)
    return field_error(pointer, "must be without '/', not " + quote(id),
                       "'/' separates a supervisor from its child in a path");
  if (!is_printable(id))
    return field_error(pointer, "must be UTF-8 text without control characters, not " + quote(id));
  return {};
}

enum class Zero { kAllowed, kRefused };

Result<void> check_time(Nanoseconds time, Zero zero, const std::string& pointer) {
  if (time.count() < 0)
    return field_error(pointer, "must not be negative, not " + exact_duration(time));
  if (time.count() == 0 && zero == Zero::kRefused)
    return field_error(pointer, "must be longer than 0, not " + exact_duration(time));
  if (time > kMaxTime) {
    return field_error(
        pointer, "must be at most " + exact_duration(kMaxTime) + ", not " + exact_duration(time));
  }
  return {};
}

Result<void> check_what(const ChildSpec& spec, const std::string& pointer) {
  const int kinds = (spec.command.empty() ? 0 : 1) + (spec.function.empty() ? 0 : 1) +
                    (spec.supervisor == nullptr ? 0 : 1);
  if (kinds != 1) {
    return field_error(pointer,
                       "needs exactly one of a command, a function and a supervisor, not " +
                           std::string(kinds == 0   ? "none"
                                       : kinds == 2 ? "two of them"
                                                    : "all three"));
  }
  if (!spec.command.empty() && spec.command.front().empty())
    return field_error(pointer + "/command/0", "must name a program, not \"\"");
  for (std::size_t i = 0; i < spec.command.size(); ++i) {
    if (has_nul(spec.command[i])) {
      return field_error(pointer + "/command/" + std::to_string(i),
                         "must be without NUL characters, not " + quote(spec.command[i]));
    }
  }
  if (!spec.argument.empty() && spec.function.empty())
    return field_error(pointer + "/argument", "only a function has an argument");
  return {};
}

Result<void> check_surroundings(const ChildSpec& spec, const std::string& pointer) {
  for (const auto& [name, value] : spec.environment) {
    if (name.empty() || name.find('=') != std::string::npos || has_nul(name)) {
      return field_error(
          pointer + "/env",
          "a variable's name must be without '=' and NUL, and not empty, not " + quote(name));
    }
    if (has_nul(value)) {
      return field_error(pointer + "/env/" + name,
                         "must be without NUL characters, not " + quote(value));
    }
  }
  if (has_nul(spec.directory.native())) {
    return field_error(pointer + "/cwd",
                       "must be without NUL characters, not " + quote(spec.directory.native()));
  }
  return {};
}

// The numbers that the child gets, each once.
class DescriptorNumbers {
 public:
  Result<void> add(int number, const std::string& pointer) {
    if (number < kLowestChildDescriptor || number > kHighestChildDescriptor) {
      return field_error(
          pointer, "must be a descriptor from " + std::to_string(kLowestChildDescriptor) + " to " +
                       std::to_string(kHighestChildDescriptor) + ", not " + std::to_string(number));
    }
    const auto [place, added] = taken_.emplace(number, pointer);
    if (added) return {};
    return field_error(pointer,
                       "descriptor " + std::to_string(number) + " is also that of " + place->second,
                       "give each a number of its own");
  }

 private:
  std::map<int, std::string> taken_;
};

Result<void> check_descriptors(const ChildSpec& spec, const std::string& pointer) {
  DescriptorNumbers numbers;
  for (std::size_t i = 0; i < spec.descriptors.size(); ++i) {
    const std::string here = pointer + "/descriptors/" + std::to_string(i);
    if (spec.descriptors[i].first < 0)
      return field_error(here, "ours must be an open descriptor, not " +
                                   std::to_string(spec.descriptors[i].first));
    if (auto added = numbers.add(spec.descriptors[i].second, here); !added) return added;
  }
  if (spec.ready && spec.ready->descriptor) {
    if (auto added = numbers.add(*spec.ready->descriptor, pointer + "/ready/fd"); !added)
      return added;
  }
  if (spec.heartbeat) return numbers.add(spec.heartbeat->descriptor, pointer + "/heartbeat/fd");
  return {};
}

Result<void> check_watch(const ChildSpec& spec, const std::string& pointer) {
  if (auto checked = check_descriptors(spec, pointer); !checked) return checked;
  if (spec.ready) {
    if (!spec.ready->descriptor && !spec.heartbeat) {
      return field_error(pointer + "/ready", "readiness by the first heartbeat needs a heartbeat",
                         "add \"heartbeat\", or name the descriptor: {\"fd\": 3}");
    }
    if (auto checked = check_time(spec.ready->timeout, Zero::kRefused, pointer + "/ready/timeout");
        !checked)
      return checked;
  }
  if (spec.heartbeat) {
    const std::string here = pointer + "/heartbeat";
    if (auto checked = check_time(spec.heartbeat->interval, Zero::kRefused, here + "/interval");
        !checked)
      return checked;
    if (spec.heartbeat->misses < 1) {
      return field_error(here + "/misses", "must be a whole number of at least 1, not " +
                                               std::to_string(spec.heartbeat->misses));
    }
    if (spec.heartbeat->interval > kMaxTime / spec.heartbeat->misses) {
      return field_error(here, "the interval, as often as it may be missed, must be at most " +
                                   exact_duration(kMaxTime));
    }
  }
  if (!spec.deadline) return {};
  return check_time(*spec.deadline, Zero::kRefused, pointer + "/deadline");
}

Result<void> check_restarts(const ChildSpec& spec, const std::string& pointer) {
  const Backoff& backoff = spec.backoff;
  const std::string here = pointer + "/backoff";
  if (auto checked = check_time(backoff.first, Zero::kAllowed, here + "/first"); !checked)
    return checked;
  if (auto checked = check_time(backoff.max, Zero::kRefused, here + "/max"); !checked)
    return checked;
  if (backoff.first > backoff.max) {
    return field_error(here + "/max", "must be at least 'first', " + exact_duration(backoff.first) +
                                          ", not " + exact_duration(backoff.max));
  }
  if (!(backoff.jitter >= 0 && backoff.jitter <= 1)) {  // Not a number is neither.
    return field_error(here + "/jitter",
                       "must be a number from 0 to 1, not " + quoted(json(backoff.jitter)));
  }
  if (spec.crash_loop.count < 0) {
    return field_error(pointer + "/crash_loop/count", "must be a whole number of at least 0, not " +
                                                          std::to_string(spec.crash_loop.count));
  }
  return check_time(spec.crash_loop.within, Zero::kRefused, pointer + "/crash_loop/within");
}

// A nested supervisor is no process: what is said of processes cannot be said of it.
Result<void> check_supervisor_role(const ChildSpec& spec, const std::string& pointer) {
  const std::pair<bool, const char*> process_fields[] = {
      {!spec.environment.empty(), "env"},         {!spec.directory.empty(), "cwd"},
      {!spec.descriptors.empty(), "descriptors"}, {spec.ready.has_value(), "ready"},
      {spec.heartbeat.has_value(), "heartbeat"},  {spec.deadline.has_value(), "deadline"}};
  for (const auto& [given, name] : process_fields) {
    if (given)
      return field_error(pointer + "/" + name, "a supervisor is no process and has none",
                         "say it of its children");
  }
  return {};
}

Result<void> check_significance(const ChildSpec& spec, AutoShutdown auto_shutdown,
                                const std::string& pointer) {
  if (!spec.significant) return {};
  const std::string here = pointer + "/significant";
  if (auto_shutdown == AutoShutdown::kNever) {
    return field_error(here, "must be false, not true: its supervisor never shuts down by itself",
                       "set \"auto_shutdown\" to \"any_significant\" or \"all_significant\"");
  }
  if (spec.restart == RestartType::kPermanent) {
    return field_error(
        here,
        "must be false, not true: a permanent child is always restarted, so its end means nothing",
        "set \"restart\" to \"transient\" or \"temporary\"");
  }
  return {};
}

Result<void> check_supervisor(const SupervisorSpec& spec, const std::string& pointer, int depth);

Result<void> check_child_at(const ChildSpec& spec, AutoShutdown auto_shutdown,
                            const std::string& pointer, int depth) {
  if (auto checked = check_id(spec.id, pointer + "/id"); !checked) return checked;
  if (auto checked = check_what(spec, pointer); !checked) return checked;
  if (auto checked = check_surroundings(spec, pointer); !checked) return checked;
  if (spec.stop && spec.stop->kind == StopPolicy::Kind::kTime) {
    // 0 as with OTP: asked, and killed at once.
    if (auto checked = check_time(spec.stop->time, Zero::kAllowed, pointer + "/stop"); !checked)
      return checked;
  }
  if (auto checked = check_significance(spec, auto_shutdown, pointer); !checked) return checked;
  if (auto checked = check_watch(spec, pointer); !checked) return checked;
  if (auto checked = check_restarts(spec, pointer); !checked) return checked;
  if (spec.supervisor == nullptr) return {};
  if (auto checked = check_supervisor_role(spec, pointer); !checked) return checked;
  return check_supervisor(*spec.supervisor, pointer, depth + 1);
}

Result<void> check_dynamic(const SupervisorSpec& spec, const std::string& pointer) {
  if (spec.strategy != Strategy::kDynamic) return {};
  if (spec.children.size() != 1) {
    return field_error(pointer + "/children",
                       "a dynamic supervisor needs exactly one child, its template, not " +
                           std::to_string(spec.children.size()));
  }
  if (spec.auto_shutdown == AutoShutdown::kNever) return {};
  return field_error(pointer + "/auto_shutdown",
                     "a dynamic supervisor never shuts down by itself, not " +
                         quote(auto_shutdown_name(spec.auto_shutdown)),
                     "leave it out, or use another strategy");
}

Result<void> check_supervisor(const SupervisorSpec& spec, const std::string& pointer, int depth) {
  if (depth > kMaxSupervisorDepth) {
    return field_error(pointer,
                       "supervisors nest at most " + std::to_string(kMaxSupervisorDepth) + " deep");
  }
  if (spec.intensity < 0) {
    return field_error(pointer + "/intensity", "must be a whole number of at least 0, not " +
                                                   std::to_string(spec.intensity));
  }
  if (auto checked = check_time(spec.period, Zero::kRefused, pointer + "/period"); !checked)
    return checked;
  if (auto checked = check_dynamic(spec, pointer); !checked) return checked;
  if (spec.children.size() > kMaxChildren) {
    return field_error(pointer + "/children", "must be at most " + std::to_string(kMaxChildren) +
                                                  ", not " + std::to_string(spec.children.size()));
  }
  std::set<std::string_view> ids;
  for (std::size_t i = 0; i < spec.children.size(); ++i) {
    const std::string here = pointer + "/children/" + std::to_string(i);
    if (auto checked = check_child_at(spec.children[i], spec.auto_shutdown, here, depth); !checked)
      return checked;
    if (!ids.insert(spec.children[i].id).second) {
      return field_error(here + "/id", quote(spec.children[i].id) + " is used twice",
                         "give each child of a supervisor an id of its own");
    }
  }
  return {};
}

}  // namespace

ChildType ChildSpec::child_type() const {
  return type.value_or(supervisor != nullptr ? ChildType::kSupervisor : ChildType::kWorker);
}

StopPolicy ChildSpec::stop_policy() const {
  if (stop) return *stop;
  if (child_type() == ChildType::kSupervisor) return {StopPolicy::Kind::kInfinite, {}};
  return {};
}

std::string_view strategy_name(Strategy strategy) { return word_of(kStrategies, strategy); }
std::string_view restart_name(RestartType restart) { return word_of(kRestarts, restart); }
std::string_view type_name(ChildType type) { return word_of(kTypes, type); }
std::string_view auto_shutdown_name(AutoShutdown auto_shutdown) {
  return word_of(kAutoShutdowns, auto_shutdown);
}

std::string stop_name(const StopPolicy& stop) {
  switch (stop.kind) {
    case StopPolicy::Kind::kKill:
      return "kill";
    case StopPolicy::Kind::kInfinite:
      return "infinite";
    case StopPolicy::Kind::kTime:
      break;
  }
  return exact_duration(stop.time);
}

std::optional<Strategy> strategy_from_name(std::string_view name) {
  return value_of<Strategy>(kStrategies, name);
}
std::optional<RestartType> restart_from_name(std::string_view name) {
  return value_of<RestartType>(kRestarts, name);
}
std::optional<ChildType> type_from_name(std::string_view name) {
  return value_of<ChildType>(kTypes, name);
}
std::optional<AutoShutdown> auto_shutdown_from_name(std::string_view name) {
  return value_of<AutoShutdown>(kAutoShutdowns, name);
}

Result<void> check_spec(const SupervisorSpec& spec, const std::string& pointer) {
  return check_supervisor(spec, pointer, 0);
}

Result<void> check_child(const ChildSpec& spec, AutoShutdown auto_shutdown,
                         const std::string& pointer) {
  return check_child_at(spec, auto_shutdown, pointer, 0);
}

}  // namespace crashworthy

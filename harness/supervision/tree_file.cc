#include "harness/supervision/tree_file.h"

#include <fcntl.h>

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/json_fields.h"
#include "harness/supervision/programs.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uintmax_t kMaxFileBytes = 64 << 20;
constexpr std::int64_t kMaxIntensity = 1'000'000;
constexpr std::int64_t kMaxMisses = 1'000'000;
constexpr std::int64_t kMaxCrashes = 1'000'000;

const std::vector<std::string> kSupervisorFields{"id",     "strategy",      "intensity",
                                                 "period", "auto_shutdown", "children"};
const std::vector<std::string> kRoleFields{"restart", "stop", "significant", "type"};
const std::vector<std::string> kWorkerFields{
    "id",  "command", "restart",   "stop",     "type",    "significant", "env",
    "cwd", "ready",   "heartbeat", "deadline", "backoff", "crash_loop",  "inherit"};

// Reads the fields of one object; keeps the first error, and then does nothing more. A field that
// is absent leaves its target alone.
class Fields {
 public:
  Fields(const json& object, std::string pointer, const std::vector<std::string>& known)
      : object_(object), pointer_(std::move(pointer)) {
    keep(require_object(object, pointer_, known));
  }

  bool has(const char* key) const { return ok() && object_.contains(key); }
  const json& at(const char* key) const { return object_.at(key); }
  std::string place(const char* key) const { return pointer_ + "/" + key; }
  bool ok() const { return !error_.has_value(); }
  Result<void> result() const { return error_ ? Result<void>(*error_) : Result<void>(); }

  void fail(Error error) {
    if (ok()) error_ = std::move(error);
  }
  void keep(const Result<void>& result) {
    if (!result) fail(result.error());
  }
  void fail_at(const char* key, const std::string& must) {
    fail(field_error(place(key), must + ", not " + quoted(at(key))));
  }

  void text(const char* key, std::string& target) {
    if (has(key)) take(target, read_string(object_, pointer_, key, {}));
  }
  void flag(const char* key, bool& target) {
    if (has(key)) take(target, read_bool(object_, pointer_, key, false));
  }
  void number(const char* key, int& target, std::int64_t low, std::int64_t high) {
    if (has(key)) take(target, read_integer(object_, pointer_, key, 0, low, high));
  }
  // Durations are words with a unit; their range is check_spec's business.
  void duration(const char* key, Nanoseconds& target) {
    if (!has(key)) return;
    if (!at(key).is_string()) return fail_at(key, "must be a duration such as \"5s\"");
    auto read = parse_duration(at(key).get<std::string>());
    if (!read) {
      return fail(field_error(place(key), "must be a duration such as \"5s\", not " +
                                              quoted(at(key)) + ": " + read.error().message));
    }
    target = *read;
  }
  // A word out of those that `name` gives to `values`.
  template <typename Enum>
  void word(const char* key, Enum& target, std::string_view (*name)(Enum),
            std::initializer_list<Enum> values) {
    std::string read;
    text(key, read);
    if (!has(key)) return;
    std::vector<std::string> known;
    for (const Enum value : values) {
      if (name(value) == read) {
        target = value;
        return;
      }
      known.emplace_back(name(value));
    }
    fail(field_error(place(key), std::string("unknown ") + key + " " + quoted(at(key)),
                     suggest(read, known)));
  }

 private:
  template <typename Target, typename Value>
  void take(Target& target, Result<Value> value) {
    if (!value) return fail(value.error());
    target = static_cast<Target>(*std::move(value));
  }

  const json& object_;
  std::string pointer_;
  std::optional<Error> error_;
};

void read_command(Fields& fields, ChildSpec& child) {
  if (!fields.ok()) return;
  const json& words = fields.at("command");
  if (!words.is_array() || words.empty()) {
    return fields.fail_at("command",
                          "must be an array of words, such as [\"sleep\", \"inf\"], the program "
                          "first");
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (!words[i].is_string()) {
      return fields.fail(field_error(fields.place("command") + "/" + std::to_string(i),
                                     "must be a string, not " + quoted(words[i])));
    }
    child.command.push_back(words[i].get<std::string>());
  }
}

void read_environment(Fields& fields, ChildSpec& child) {
  if (!fields.has("env")) return;
  const json& variables = fields.at("env");
  if (!variables.is_object()) return fields.fail_at("env", "must be an object of strings");
  for (const auto& [name, value] : variables.items()) {
    if (!value.is_string()) {
      return fields.fail(field_error(fields.place("env") + "/" + name,
                                     "must be a string, not " + quoted(value),
                                     "write it in quotes"));
    }
    child.environment[name] = value.get<std::string>();
  }
}

void read_stop(Fields& fields, ChildSpec& child) {
  if (!fields.has("stop")) return;
  const json& value = fields.at("stop");
  StopPolicy stop;
  if (value == "kill") {
    stop.kind = StopPolicy::Kind::kKill;
  } else if (value == "infinite") {
    stop.kind = StopPolicy::Kind::kInfinite;
  } else if (!value.is_string() || !parse_duration(value.get<std::string>())) {
    return fields.fail_at("stop",
                          "must be a duration such as \"5s\", or \"kill\", or \"infinite\"");
  } else {
    stop.time = *parse_duration(value.get<std::string>());
  }
  child.stop = stop;
}

void read_ready(Fields& fields, ChildSpec& child) {
  if (!fields.has("ready")) return;
  Readiness ready;
  Fields inner(fields.at("ready"), fields.place("ready"), {"fd", "heartbeat", "timeout"});
  int descriptor = 3;
  bool by_heartbeat = false;
  inner.number("fd", descriptor, kLowestChildDescriptor, kHighestChildDescriptor);
  inner.flag("heartbeat", by_heartbeat);
  inner.duration("timeout", ready.timeout);
  if (by_heartbeat && inner.has("fd")) {
    inner.fail(field_error(fields.place("ready"), "needs either 'fd' or 'heartbeat', not both"));
  }
  ready.descriptor = by_heartbeat ? std::nullopt : std::optional(descriptor);
  child.ready = ready;
  fields.keep(inner.result());
}

void read_heartbeat(Fields& fields, ChildSpec& child) {
  if (!fields.has("heartbeat")) return;
  Heartbeat heartbeat;
  Fields inner(fields.at("heartbeat"), fields.place("heartbeat"), {"fd", "interval", "misses"});
  inner.number("fd", heartbeat.descriptor, kLowestChildDescriptor, kHighestChildDescriptor);
  inner.duration("interval", heartbeat.interval);
  inner.number("misses", heartbeat.misses, 1, kMaxMisses);
  child.heartbeat = heartbeat;
  fields.keep(inner.result());
}

void read_backoff(Fields& fields, ChildSpec& child) {
  if (!fields.has("backoff")) return;
  Fields inner(fields.at("backoff"), fields.place("backoff"), {"first", "max", "jitter"});
  inner.duration("first", child.backoff.first);
  inner.duration("max", child.backoff.max);
  if (inner.has("jitter")) {
    if (inner.at("jitter").is_number()) {
      child.backoff.jitter = inner.at("jitter").get<double>();
    } else {
      inner.fail_at("jitter", "must be a number from 0 to 1");
    }
  }
  fields.keep(inner.result());
}

void read_crash_loop(Fields& fields, ChildSpec& child) {
  if (!fields.has("crash_loop")) return;
  Fields inner(fields.at("crash_loop"), fields.place("crash_loop"), {"count", "within"});
  inner.number("count", child.crash_loop.count, 0, kMaxCrashes);
  inner.duration("within", child.crash_loop.within);
  fields.keep(inner.result());
}

// Descriptors of ours that the child has too, under the same numbers.
void read_inherit(Fields& fields, ChildSpec& child) {
  if (!fields.has("inherit")) return;
  const json& numbers = fields.at("inherit");
  if (!numbers.is_array()) {
    return fields.fail_at("inherit", "must be an array of descriptor numbers, such as [3]");
  }
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::string place = fields.place("inherit") + "/" + std::to_string(i);
    const bool sane = numbers[i].is_number_integer() && numbers[i] >= kLowestChildDescriptor &&
                      numbers[i] <= kHighestChildDescriptor;
    if (!sane) {
      return fields.fail(field_error(place, "must be a descriptor number from " +
                                                std::to_string(kLowestChildDescriptor) + " to " +
                                                std::to_string(kHighestChildDescriptor) + ", not " +
                                                quoted(numbers[i])));
    }
    const int number = numbers[i].get<int>();
    if (::fcntl(number, F_GETFD) < 0) {
      return fields.fail(
          field_error(place, "descriptor " + std::to_string(number) + " is not open here"));
    }
    child.descriptors.emplace_back(number, number);
  }
}

// What a child is to its supervisor, whether it is a command or a supervisor itself.
void read_role(Fields& fields, ChildSpec& child) {
  fields.word("restart", child.restart, restart_name,
              {RestartType::kPermanent, RestartType::kTransient, RestartType::kTemporary});
  read_stop(fields, child);
  fields.flag("significant", child.significant);
  if (fields.has("type")) {
    ChildType type = ChildType::kWorker;
    fields.word("type", type, type_name, {ChildType::kWorker, ChildType::kSupervisor});
    child.type = type;
  }
}

void read_worker(Fields& fields, const fs::path& directory, ChildSpec& child) {
  read_command(fields, child);
  read_role(fields, child);
  read_environment(fields, child);
  std::string cwd;
  fields.text("cwd", cwd);
  if (fields.has("cwd")) {
    if (cwd.empty()) fields.fail_at("cwd", "must name a directory");
    child.directory = (directory / cwd).lexically_normal();
  }
  read_ready(fields, child);
  read_heartbeat(fields, child);
  if (fields.has("deadline")) {
    Nanoseconds deadline{0};
    fields.duration("deadline", deadline);
    child.deadline = deadline;
  }
  read_backoff(fields, child);
  read_crash_loop(fields, child);
  read_inherit(fields, child);
}

Result<SupervisorSpec> read_supervisor(Fields& fields, const fs::path& directory,
                                       const std::string& pointer, int depth);

Result<ChildSpec> read_child(const json& object, const fs::path& directory,
                             const std::string& pointer, int depth) {
  const bool nested = object.is_object() && !object.contains("command") &&
                      (object.contains("children") || object.contains("strategy"));
  if (object.is_object() && object.contains("command") && object.contains("children")) {
    return field_error(pointer, "needs either 'command' or 'children', not both",
                       "a nested supervisor has children, a worker a command");
  }
  std::vector<std::string> known = kWorkerFields;
  if (nested) {
    known = kSupervisorFields;
    known.insert(known.end(), kRoleFields.begin(), kRoleFields.end());
  }
  Fields fields(object, pointer, known);
  ChildSpec child;
  if (fields.ok() && !fields.has("id"))
    fields.fail(field_error(pointer, "needs an 'id', its name among its siblings"));
  fields.text("id", child.id);
  if (nested) {
    read_role(fields, child);
    auto supervisor = read_supervisor(fields, directory, pointer, depth + 1);
    if (!supervisor) return supervisor.error();
    child.supervisor = std::make_shared<const SupervisorSpec>(*std::move(supervisor));
    return child;
  }
  if (fields.ok() && !fields.has("command")) {
    fields.fail(
        field_error(pointer, "needs a 'command', or the 'children' of a nested supervisor"));
  }
  read_worker(fields, directory, child);
  if (auto read = fields.result(); !read) return read.error();
  return child;
}

Result<SupervisorSpec> read_supervisor(Fields& fields, const fs::path& directory,
                                       const std::string& pointer, int depth) {
  SupervisorSpec spec;
  fields.word(
      "strategy", spec.strategy, strategy_name,
      {Strategy::kOneForOne, Strategy::kOneForAll, Strategy::kRestForOne, Strategy::kDynamic});
  fields.number("intensity", spec.intensity, 0, kMaxIntensity);
  fields.duration("period", spec.period);
  fields.word("auto_shutdown", spec.auto_shutdown, auto_shutdown_name,
              {AutoShutdown::kNever, AutoShutdown::kAnySignificant, AutoShutdown::kAllSignificant});
  if (fields.ok() && !fields.has("children"))
    fields.fail(field_error(pointer, "needs 'children', an array that may be empty"));
  if (fields.ok() && !fields.at("children").is_array())
    fields.fail_at("children", "must be an array of children");
  // Before going down, so that the depth of a document never becomes the depth of our stack.
  if (depth > kMaxSupervisorDepth) {
    fields.fail(field_error(
        pointer, "supervisors nest at most " + std::to_string(kMaxSupervisorDepth) + " deep"));
  }
  if (auto read = fields.result(); !read) return read.error();
  const json& children = fields.at("children");
  for (std::size_t i = 0; i < children.size(); ++i) {
    auto child =
        read_child(children[i], directory, pointer + "/children/" + std::to_string(i), depth);
    if (!child) return child.error();
    spec.children.push_back(*std::move(child));
  }
  return spec;
}

// The root's name is written beside the paths of children, and must not be taken for one.
Result<void> check_name(const TreeFile& file) {
  ChildSpec like_a_child;
  like_a_child.id = file.name;
  like_a_child.command = {"any"};
  if (auto checked = check_child(like_a_child, AutoShutdown::kNever); !checked) return checked;
  for (std::size_t i = 0; i < file.root.children.size(); ++i) {
    if (file.root.children[i].id != file.name) continue;
    return field_error("/children/" + std::to_string(i) + "/id",
                       quoted(json(file.name)) + " is also the name of the whole tree",
                       "give the tree another name: an \"id\" beside \"children\"");
  }
  return {};
}

// A program may be looked for from its working directory, so that must be there first.
Result<void> find_directories(const SupervisorSpec& spec, const std::string& pointer) {
  for (std::size_t i = 0; i < spec.children.size(); ++i) {
    const ChildSpec& child = spec.children[i];
    const std::string here = pointer + "/children/" + std::to_string(i);
    if (child.supervisor != nullptr) {
      if (auto found = find_directories(*child.supervisor, here); !found) return found;
    }
    std::error_code failure;
    if (child.directory.empty() || fs::is_directory(child.directory, failure)) continue;
    return field_error(here + "/cwd", quoted(json(child.directory.string())) + " is no directory" +
                                          (failure ? ": " + failure.message()
                                                   : std::string(" but something else")));
  }
  return {};
}

}  // namespace

Result<TreeFile> parse_tree(const json& document, const fs::path& directory) {
  TreeFile file;
  Fields fields(document, "", kSupervisorFields);
  fields.text("id", file.name);
  auto root = read_supervisor(fields, directory, "", 0);
  if (!root) return root.error();
  file.root = *std::move(root);
  if (auto checked = check_name(file); !checked) return checked.error();
  if (auto checked = check_spec(file.root); !checked) return checked.error();
  return file;
}

Result<TreeFile> read_tree_file(const fs::path& path) {
  std::error_code failure;
  if (const auto size = fs::file_size(path, failure); !failure && size > kMaxFileBytes) {
    return usage_error(path.string() + ": a tree file has at most " +
                       std::to_string(kMaxFileBytes >> 20) + " MiB");
  }
  auto text = read_file(path);
  if (!text) {
    Error error = text.error();
    error.kind = ErrorKind::kUsage;
    error.hint = "name a tree file";
    return error;
  }
  auto document = parse_json(*text);
  if (!document) return usage_error(path.string() + ": not JSON: " + document.error().message);
  std::error_code ignored;
  auto file = parse_tree(*document, fs::absolute(path, ignored).parent_path());
  if (!file) return file.error().with_context(path.string());
  if (auto found = find_directories(file->root, ""); !found)
    return found.error().with_context(path.string());
  if (auto found = check_programs(file->root); !found)
    return found.error().with_context(path.string());
  return file;
}

}  // namespace crashworthy

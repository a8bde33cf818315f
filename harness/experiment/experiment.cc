#include "harness/experiment/experiment.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/experiment/item_command.h"
#include "harness/experiment/needs.h"
#include "harness/experiment/service_command.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/json_fields.h"
#include "results/expectation.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uint64_t kLeastDisk = std::uint64_t{1} << 20;
constexpr int kMaxWorkers = 256;
constexpr int kMaxBlocks = 10'000;

// Stops at the first error of a chain of reads: `if (auto e = check(...)) return *e;`
std::optional<Error> failed(const Result<void>& result) {
  return result ? std::nullopt : std::optional<Error>(result.error());
}

template <typename T, typename U>
Result<void> assign(T& target, Result<U> value) {
  if (!value) return value.error();
  target = static_cast<T>(*std::move(value));
  return {};
}

Result<std::vector<std::string>> read_words(const json& value, const std::string& pointer) {
  std::vector<std::string> words;
  if (!value.is_array()) return field_error(pointer, "must be an array of strings");
  for (const json& word : value) {
    if (!word.is_string())
      return field_error(pointer, "must be an array of strings, not " + quoted(word));
    words.push_back(word.get<std::string>());
  }
  return words;
}

// "25%".
Result<double> read_percent(const json& object, const std::string& pointer, const char* key,
                            double fallback) {
  const auto found = object.find(key);
  if (found == object.end()) return fallback;
  if (found->is_string()) {
    const std::string text = found->get<std::string>();
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (end != text.c_str() && std::string(end) == "%" && value >= 0 && value <= 1000) return value;
  }
  return field_error(pointer + "/" + key, "must be a share such as \"5%\", not " + quoted(*found));
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name.size() <= 64 &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
}

Result<void> read_input(const json& object, const std::string& pointer, const fs::path& directory,
                        InputSpec& input) {
  if (auto e = failed(require_object(object, pointer, {"set", "path", "generate", "ppm", "limit"})))
    return *e;
  const auto kinds =
      object.count("set") + object.count("path") + object.count("generate") + object.count("ppm");
  if (kinds != 1)
    return field_error(pointer, "needs exactly one of 'set', 'path', 'generate' and 'ppm'");
  if (auto e = failed(assign(input.limit, read_integer(object, pointer, "limit", 0, 1, 1'000'000))))
    return *e;
  if (object.contains("set")) {
    if (object["set"] != "photographs") {
      return field_error(pointer + "/set", "unknown image set " + quoted(object["set"]),
                         "known: photographs");
    }
  } else if (object.contains("path")) {
    auto text = read_string(object, pointer, "path", "");
    if (!text) return text.error();
    input.kind = InputSpec::Kind::kPath;
    input.path =
        fs::path(*text).is_absolute() ? fs::path(*text) : (directory / *text).lexically_normal();
  } else {
    const bool ppm = object.contains("ppm");
    const std::string here = pointer + (ppm ? "/ppm" : "/generate");
    const json& part = object[ppm ? "ppm" : "generate"];
    const std::vector<std::string> known = ppm ? std::vector<std::string>{"width", "height", "seed"}
                                               : std::vector<std::string>{"count", "seed"};
    if (auto e = failed(require_object(part, here, known))) return *e;
    input.kind = ppm ? InputSpec::Kind::kPpm : InputSpec::Kind::kGenerate;
    if (auto e = failed(assign(input.seed, read_integer(part, here, "seed", 1, 0, INT64_MAX))))
      return *e;
    if (auto e = failed(assign(input.count, read_integer(part, here, "count", 24, 1, 100'000))))
      return *e;
    if (auto e = failed(assign(input.width, read_integer(part, here, "width", 4096, 1, 1 << 20))))
      return *e;
    if (auto e = failed(assign(input.height, read_integer(part, here, "height", 4096, 1, 1 << 20))))
      return *e;
  }
  return {};
}

Result<void> read_batchers(const json& value, const std::string& pointer,
                           std::vector<Batcher>& batchers) {
  if (!value.is_array() || value.empty())
    return field_error(pointer, "must be an array of at least one batcher");
  batchers.clear();
  for (std::size_t i = 0; i < value.size(); ++i) {
    const std::string here = pointer + "/" + std::to_string(i);
    Batcher batcher;
    if (auto e = failed(require_object(value[i], here, {"name", "concurrency", "size"}))) return *e;
    if (auto e = failed(assign(batcher.name, read_string(value[i], here, "name", "default"))))
      return *e;
    if (!is_plain_name(batcher.name))
      return field_error(here + "/name", "must be letters, digits, '_' and '-'");
    if (auto e = failed(assign(batcher.concurrency,
                               read_integer(value[i], here, "concurrency", 1, 1, kMaxWorkers))))
      return *e;
    if (auto e = failed(assign(batcher.size, read_integer(value[i], here, "size", 10, 1, 64))))
      return *e;
    batchers.push_back(batcher);
  }
  return {};
}

// 256, or "512x256".
Result<std::string> read_tile_size(const json& object, const std::string& pointer) {
  constexpr std::int64_t kMost = 1 << 20;
  const auto found = object.find("tile");
  if (found != object.end() && found->is_string()) {
    const std::string text = found->get<std::string>();
    unsigned width = 0, height = 0;
    int used = 0;
    const bool read = std::sscanf(text.c_str(), "%7ux%7u%n", &width, &height, &used) == 2;
    if (read && used == static_cast<int>(text.size()) && width >= 1 && height >= 1 &&
        width <= kMost && height <= kMost)
      return text;
    return field_error(pointer + "/tile",
                       "must be a side in pixels or \"WIDTHxHEIGHT\", not " + quoted(*found));
  }
  auto side = read_integer(object, pointer, "tile", 256, 1, kMost);
  if (!side) return side.error();
  return std::to_string(*side);
}

Result<void> read_tiles(const json& object, const std::string& pointer, const fs::path& directory,
                        SubjectSpec& subject) {
  if (auto e = failed(require_object(object, pointer,
                                     {"pipeline", "input", "tile", "operations", "format",
                                      "producers", "max_demand", "batchers", "slow", "inexact"}))) {
    return *e;
  }
  if (object.contains("input")) {
    if (auto e = failed(read_input(object["input"], pointer + "/input", directory, subject.input)))
      return *e;
  }
  if (auto e = failed(assign(subject.tile, read_tile_size(object, pointer)))) return *e;
  if (auto e = failed(assign(subject.operations,
                             read_string(object, pointer, "operations", subject.operations))))
    return *e;
  if (auto e = failed(assign(subject.format, read_string(object, pointer, "format", "png"))))
    return *e;
  const std::vector<std::string> formats{"png", "jpg", "ppm"};
  if (std::find(formats.begin(), formats.end(), subject.format) == formats.end()) {
    return field_error(pointer + "/format", "unknown format '" + subject.format + "'",
                       suggest(subject.format, formats));
  }
  if (auto e = failed(
          assign(subject.producers, read_integer(object, pointer, "producers", 1, 1, kMaxWorkers))))
    return *e;
  if (auto e = failed(
          assign(subject.max_demand, read_integer(object, pointer, "max_demand", 10, 1, 256))))
    return *e;
  if (auto e = failed(assign(subject.slow_percent, read_percent(object, pointer, "slow", 0))))
    return *e;
  if (auto e = failed(assign(subject.inexact, read_bool(object, pointer, "inexact", false))))
    return *e;
  if (!object.contains("batchers")) return {};
  return read_batchers(object["batchers"], pointer + "/batchers", subject.batchers);
}

Result<std::vector<std::string>> read_command_words(const json& object,
                                                    const std::string& pointer) {
  auto words = read_words(object["command"], pointer + "/command");
  if (words && (words->empty() || (*words)[0].empty()))
    return field_error(pointer + "/command", "is empty");
  return words;
}

Result<void> read_command(const json& object, const std::string& pointer, SubjectSpec& subject) {
  if (auto e = failed(
          require_object(object, pointer,
                         {"command", "inputs", "outputs", "environment", "directory", "needs",
                          "items", "output", "protocol", "item_deadline", "heartbeat", "service"})))
    return *e;
  if (auto e = failed(assign(subject.command, read_command_words(object, pointer)))) return *e;
  for (const auto& [key, target] :
       {std::pair("inputs", &subject.inputs), std::pair("outputs", &subject.outputs),
        std::pair("items", &subject.items)}) {
    if (!object.contains(key)) continue;
    if (auto e = failed(assign(*target, read_words(object[key], pointer + "/" + key)))) return *e;
    for (const std::string& pattern : *target) {
      const fs::path path(pattern);
      const bool outside =
          path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end();
      if (pattern.empty() || outside) {
        return field_error(
            pointer + "/" + key,
            "'" + pattern +
                "' must lie below the working directory: a trial runs in a directory of its own");
      }
    }
  }
  if (auto e = failed(read_item_fields(object, pointer, subject))) return *e;
  if (object.contains("service")) {
    if (subject.by_items())
      return field_error(pointer + "/service", "a service has requests, and no 'items'",
                         "leave one of them out");
    auto service = read_service(object["service"], pointer + "/service");
    if (!service) return service.error();
    subject.service = *std::move(service);
  }
  if (object.contains("directory")) {
    auto text = read_string(object, pointer, "directory", "");
    if (!text) return text.error();
    subject.directory = (subject.directory / *text).lexically_normal();
  }
  if (object.contains("needs")) {
    if (auto e = failed(assign(subject.needs, read_needs(object["needs"], pointer + "/needs"))))
      return *e;
  }
  if (!object.contains("environment")) return {};
  const json& environment = object["environment"];
  if (!environment.is_object())
    return field_error(pointer + "/environment", "must be an object of strings");
  for (const auto& [name, value] : environment.items()) {
    if (!value.is_string())
      return field_error(pointer + "/environment/" + name, "must be a string");
    subject.environment[name] = value.get<std::string>();
  }
  return {};
}

Result<SubjectSpec> read_subject(const json& object, const fs::path& directory) {
  const std::string pointer = "/subject";
  SubjectSpec subject;
  subject.directory = directory;
  if (!object.is_object() || object.contains("pipeline") == object.contains("command")) {
    return field_error(pointer, "must be an object with either 'pipeline' or 'command'");
  }
  Result<void> read;
  if (object.contains("command")) {
    read = read_command(object, pointer, subject);
  } else {
    auto name = read_string(object, pointer, "pipeline", "");
    if (!name) return name.error();
    subject.pipeline = *name;
    if (subject.pipeline == "tiles") {
      read = read_tiles(object, pointer, directory, subject);
    } else if (subject.pipeline == "canary") {
      read = require_object(object, pointer, {"pipeline"});
    } else {
      return field_error(pointer + "/pipeline", "unknown pipeline '" + subject.pipeline + "'",
                         suggest(subject.pipeline, {"tiles", "canary"}));
    }
  }
  if (!read) return read.error();
  return subject;
}

Result<void> read_supervision(const json& value, const std::string& pointer, ArmSpec& arm) {
  if (value == "none") return {};
  if (value == "isolate") {
    arm.supervision = Supervision::kIsolate;
    return {};
  }
  if (value == "restart") {
    arm.supervision = Supervision::kRestart;
    return {};
  }
  if (value.is_string()) {
    return field_error(pointer, "unknown supervision " + quoted(value),
                       "write \"none\", \"isolate\", \"restart\" or "
                       "{\"strategy\": \"one_for_one\"}");
  }
  if (auto e = failed(require_object(value, pointer, {"strategy", "intensity", "period"})))
    return *e;
  arm.supervision = Supervision::kSupervised;
  auto strategy = read_string(value, pointer, "strategy", "one_for_one");
  if (!strategy) return strategy.error();
  if (*strategy != "one_for_one") {
    return field_error(pointer + "/strategy", "unknown strategy '" + *strategy + "'",
                       "workers of a pool do not depend on each other: one_for_one");
  }
  if (auto e = failed(
          assign(arm.intensity, read_integer(value, pointer, "intensity", 100, 0, 1'000'000))))
    return *e;
  if (auto e = failed(assign(arm.period, read_string(value, pointer, "period", "10s")))) return *e;
  auto period = parse_duration(arm.period);
  if (!period) return field_error(pointer + "/period", period.error().message, period.error().hint);
  if (period->count() == 0) return field_error(pointer + "/period", "must be longer than 0");
  return {};
}

// What stands in place of the subject's command, and what must be there for it.
Result<void> read_own_command(const json& object, const std::string& pointer,
                              const SubjectSpec& subject, ArmSpec& arm) {
  if (object.contains("needs")) {
    if (auto e = failed(assign(arm.needs, read_needs(object["needs"], pointer + "/needs"))))
      return *e;
  }
  if (!object.contains("command")) return {};
  if (!subject.pipeline.empty()) {
    return field_error(pointer + "/command", "only an arm of a command has words of its own",
                       "a pipeline takes further words as \"arguments\"");
  }
  return assign(arm.command, read_command_words(object, pointer));
}

Result<ArmSpec> read_arm(const json& object, const std::string& pointer,
                         const SubjectSpec& subject) {
  ArmSpec arm;
  if (auto e = failed(require_object(
          object, pointer,
          {"name", "supervision", "workers", "spares", "command", "needs", "arguments"})))
    return *e;
  if (auto e = failed(assign(arm.name, read_string(object, pointer, "name", "")))) return *e;
  if (!is_plain_name(arm.name))
    return field_error(pointer + "/name",
                       "must be letters, digits, '_' and '-', not '" + arm.name + "'");
  if (object.contains("supervision")) {
    if (auto e = failed(read_supervision(object["supervision"], pointer + "/supervision", arm)))
      return *e;
  }
  const bool whole =
      arm.supervision == Supervision::kNone || arm.supervision == Supervision::kRestart;
  if (!whole && subject.pipeline != "tiles" && !subject.by_items()) {
    return field_error(pointer + "/supervision", "only the pipeline 'tiles' has isolated workers",
                       "use \"none\" or \"restart\", or name the \"items\" of the command");
  }
  if (subject.by_items()) {
    if (auto e = failed(check_item_arm(object, pointer, arm))) return *e;
  }
  if (auto e =
          failed(assign(arm.workers, read_integer(object, pointer, "workers", 2, 1, kMaxWorkers))))
    return *e;
  if (auto e =
          failed(assign(arm.spares, read_integer(object, pointer, "spares", 1, 0, kMaxWorkers))))
    return *e;
  if (object.contains("spares") && arm.supervision != Supervision::kSupervised) {
    return field_error(pointer + "/spares", "only a supervised arm has spares");
  }
  if (auto e = failed(read_own_command(object, pointer, subject, arm))) return *e;
  if (!object.contains("arguments")) return arm;
  if (auto e =
          failed(assign(arm.arguments, read_words(object["arguments"], pointer + "/arguments"))))
    return *e;
  return arm;
}

template <typename Spec>
Result<void> require_unique(const std::vector<Spec>& specs, const std::string& pointer) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (!names.insert(specs[i].name).second) {
      return field_error(pointer + "/" + std::to_string(i) + "/name",
                         "'" + specs[i].name + "' is used twice", "give it a \"name\" of its own");
    }
  }
  return {};
}

// One fault, or {"name": .., "faults": [..]}: several in one trial.
Result<FaultCase> read_case(const json& value, const std::string& pointer) {
  FaultCase result;
  if (!value.is_object() || !value.contains("faults")) {
    auto fault = parse_fault(value, pointer);
    if (!fault) return fault.error();
    result.name = fault->name;
    result.faults.push_back(*std::move(fault));
    return result;
  }
  if (auto valid = require_object(value, pointer, {"name", "faults"}); !valid) return valid.error();
  auto name = read_string(value, pointer, "name", "");
  if (!name) return name.error();
  if (name->empty() || *name == "none")
    return field_error(pointer + "/name", "several faults together need a name of their own");
  result.name = *name;
  const json& parts = value["faults"];
  if (!parts.is_array() || parts.empty())
    return field_error(pointer + "/faults", "must be a list of faults");
  for (std::size_t i = 0; i < parts.size(); ++i) {
    auto fault = parse_fault(parts[i], pointer + "/faults/" + std::to_string(i));
    if (!fault) return fault.error();
    result.faults.push_back(*std::move(fault));
  }
  return result;
}

Result<void> read_arms_and_faults(const json& document, Experiment& experiment) {
  const json arms = document.value("arms", json::array({{{"name", "bare"}}}));
  if (!arms.is_array() || arms.empty())
    return field_error("/arms", "must be an array of at least one arm");
  for (std::size_t i = 0; i < arms.size(); ++i) {
    auto arm = read_arm(arms[i], "/arms/" + std::to_string(i), experiment.subject);
    if (!arm) return arm.error();
    experiment.arms.push_back(*std::move(arm));
  }
  const json faults = document.value("faults", json::array());
  if (!faults.is_array()) return field_error("/faults", "must be an array");
  for (std::size_t i = 0; i < faults.size(); ++i) {
    auto faults_of_case = read_case(faults[i], "/faults/" + std::to_string(i));
    if (!faults_of_case) return faults_of_case.error();
    experiment.faults.push_back(*std::move(faults_of_case));
  }
  if (auto e = failed(require_unique(experiment.arms, "/arms"))) return *e;
  return require_unique(experiment.faults, "/faults");
}

// The arm and fault of a path must exist, or a line could never be decided.
Result<void> require_cell(const MeasurePath& path, const std::string& pointer,
                          const Experiment& experiment) {
  std::vector<std::string> arms{"*"};
  std::vector<std::string> faults{"*", "none"};
  for (const ArmSpec& arm : experiment.arms) arms.push_back(arm.name);
  for (const FaultCase& fault : experiment.faults) faults.push_back(fault.name);
  if (std::find(arms.begin(), arms.end(), path.arm) == arms.end()) {
    return field_error(pointer, "unknown arm '" + path.arm + "'", suggest(path.arm, arms));
  }
  if (std::find(faults.begin(), faults.end(), path.fault) == faults.end()) {
    return field_error(pointer, "unknown fault '" + path.fault + "'", suggest(path.fault, faults));
  }
  return {};
}

Result<void> check_expectations(const json& document, const Experiment& experiment) {
  const json lines = document.value("expect", json::array());
  if (!lines.is_array()) return field_error("/expect", "must be an array of strings");
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string pointer = "/expect/" + std::to_string(i);
    if (!lines[i].is_string()) return field_error(pointer, "must be a string");
    auto expectation = parse_expectation(lines[i].get<std::string>());
    if (!expectation)
      return field_error(pointer, expectation.error().message, expectation.error().hint);
    if (auto e = failed(require_cell(expectation->path, pointer, experiment))) return *e;
  }
  return {};
}

Result<void> check_gate(const json& document, const Experiment& experiment) {
  const json lines = document.value("gate", json::array());
  if (!lines.is_array()) return field_error("/gate", "must be an array of objects");
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string pointer = "/gate/" + std::to_string(i);
    if (auto e = failed(require_object(lines[i], pointer, {"measure", "margin"}))) return *e;
    auto measure = read_string(lines[i], pointer, "measure", "");
    if (!measure) return measure.error();
    auto path = parse_measure_path(*measure);
    if (!path) return field_error(pointer + "/measure", path.error().message, path.error().hint);
    if (path->is_count() || path->arm == "*" || path->fault == "*") {
      return field_error(
          pointer + "/measure",
          "a gate names one measure of one cell, such as \"supervised.none.throughput\"");
    }
    if (auto e = failed(require_cell(*path, pointer + "/measure", experiment))) return *e;
    if (!lines[i].contains("margin"))
      return field_error(pointer, "needs a 'margin' such as \"5%\"");
    auto margin = read_percent(lines[i], pointer, "margin", 0);
    if (!margin) return margin.error();
    if (*margin >= 100) return field_error(pointer + "/margin", "must be below 100%");
  }
  return {};
}

Result<std::chrono::nanoseconds> read_time(const json& document, const char* field,
                                           const char* fallback,
                                           ZeroDuration zero = ZeroDuration::kAllowed) {
  auto text = read_duration(document, "", field, fallback, zero);
  if (!text) return text.error();
  return parse_duration(*text);
}

Result<void> read_settings(const json& document, Experiment& experiment) {
  auto name = read_string(document, "", "experiment", "");
  if (!name) return name.error();
  experiment.name = *name;
  if (!is_plain_name(experiment.name))
    return field_error("/experiment", "needs a name of letters, digits, '_' and '-'");
  if (auto e = failed(
          assign(experiment.blocks, read_integer(document, "", "blocks", 10, 1, kMaxBlocks))))
    return *e;
  if (document.contains("seed")) {
    auto seed = read_integer(document, "", "seed", 0, 0, INT64_MAX);
    if (!seed) return seed.error();
    experiment.seed = static_cast<std::uint64_t>(*seed);
  }
  if (document.contains("timeout")) {
    auto timeout = read_time(document, "timeout", "", ZeroDuration::kRefused);
    if (!timeout) return timeout.error();
    experiment.timeout = *timeout;
  }
  if (document.contains("disk")) {
    auto text = read_string(document, "", "disk", "");
    if (!text) return text.error();
    auto bytes = parse_size(*text);
    if (!bytes) return field_error("/disk", bytes.error().message, bytes.error().hint);
    if (*bytes < kLeastDisk) return field_error("/disk", "must be at least 1M");
    experiment.disk_bytes = *bytes;
  }
  if (auto e = failed(assign(experiment.linger, read_time(document, "linger", "10s")))) return *e;
  if (auto e = failed(assign(experiment.hang_after, read_time(document, "hang_after", "5s"))))
    return *e;
  if (experiment.hang_after < std::chrono::seconds(1))
    return field_error("/hang_after", "must be at least 1s");
  return {};
}

}  // namespace

const char* supervision_name(Supervision supervision) {
  switch (supervision) {
    case Supervision::kNone:
      return "none";
    case Supervision::kIsolate:
      return "isolate";
    case Supervision::kRestart:
      return "restart";
    case Supervision::kSupervised:
      return "one_for_one";
  }
  return "none";
}

Result<Experiment> parse_experiment(const json& document, const fs::path& directory) {
  if (auto e = failed(require_object(
          document, "",
          {"experiment", "title", "description", "subject", "arms", "faults", "blocks", "seed",
           "timeout", "disk", "linger", "hang_after", "rerun", "expect", "gate"}))) {
    return *e;
  }
  Experiment experiment;
  experiment.directory = directory;
  if (auto e = failed(read_settings(document, experiment))) return *e;
  if (!document.contains("subject")) return field_error("", "needs a 'subject'");
  if (auto e = failed(assign(experiment.subject, read_subject(document["subject"], directory))))
    return *e;
  if (auto e = failed(assign(experiment.rerun, read_bool(document, "", "rerun", false)))) return *e;
  const SubjectSpec& subject = experiment.subject;
  if (experiment.rerun && (!subject.pipeline.empty() || subject.by_items() || subject.service)) {
    return field_error("/rerun", "is for a command that is run as it is",
                       "pipelines of ours, items and services are given out again by their arms");
  }
  if (auto e = failed(read_arms_and_faults(document, experiment))) return *e;
  if (auto e = failed(check_expectations(document, experiment))) return *e;
  if (auto e = failed(check_gate(document, experiment))) return *e;
  return experiment;
}

Result<ExperimentFile> read_experiment_file(const fs::path& path) {
  auto text = read_file(path);
  if (!text) {
    Error error = text.error();
    error.kind = ErrorKind::kUsage;
    error.hint = "name an experiment file, or give --fault NAME and a command after --";
    return error;
  }
  auto document = parse_json(*text);
  if (!document)
    return usage_error("'" + path.string() + "' is not JSON: " + document.error().message);
  std::error_code ignored;
  auto experiment = parse_experiment(*document, fs::absolute(path, ignored).parent_path());
  if (!experiment) return experiment.error().with_context(path.string());
  return ExperimentFile{*std::move(experiment), *std::move(text)};
}

}  // namespace crashworthy

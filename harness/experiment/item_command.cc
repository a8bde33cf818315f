#include "harness/experiment/item_command.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/experiment/environment.h"
#include "harness/experiment/service_command.h"
#include "harness/os/file.h"
#include "harness/os/json_fields.h"
#include "harness/process/program_path.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kInputMark = "{}";
constexpr const char* kOutputMark = "{out}";
const std::vector<std::string> kNameMarks{"{name}", "{stem}", "{ext}"};

bool any_has(const std::vector<std::string>& words, const std::string& mark) {
  return std::any_of(words.begin(), words.end(),
                     [&](const std::string& word) { return word.find(mark) != std::string::npos; });
}

// `text` with every mark replaced by what `value` makes of it.
template <typename Value>
std::string replace_marks(std::string text, const Value& value) {
  for (const std::string& mark : kNameMarks) {
    const std::string with = value(mark);
    for (std::size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += with.size())
      text.replace(at, mark.size(), with);
  }
  return text;
}

std::string output_of(const std::string& pattern, const std::string& input) {
  const fs::path path(input);
  const std::string extension = path.extension().string();
  return replace_marks(pattern, [&](const std::string& mark) {
    if (mark == "{name}") return path.filename().string();
    if (mark == "{stem}") return path.stem().string();
    return extension.empty() ? extension : extension.substr(1);
  });
}

Result<void> check_output_name(const std::string& name, const std::string& pointer) {
  const fs::path path(name);
  if (name.empty() || path.is_absolute() || path.filename().empty() ||
      std::find(path.begin(), path.end(), "..") != path.end()) {
    return field_error(pointer, "'" + name + "' must be a file below the working directory",
                       "write a name such as \"out/{name}\"");
  }
  const std::string rest = replace_marks(name, [](const std::string&) { return std::string(); });
  if (rest.find_first_of("{}") != std::string::npos) {
    return field_error(pointer, "'" + name + "' has an unknown mark",
                       "known: {name}, the item's file name; {stem}, without its extension; {ext}");
  }
  if (name.find("{name}") == std::string::npos && name.find("{stem}") == std::string::npos) {
    return field_error(pointer, "every item would have the same output, '" + name + "'",
                       "write a name such as \"out/{name}\" or \"out/{stem}.png\"");
  }
  return {};
}

Result<void> check_words(const json& object, const std::string& pointer,
                         const SubjectSpec& subject) {
  const std::string here = pointer + "/command";
  const bool input = any_has(subject.command, kInputMark);
  const bool output = any_has(subject.command, kOutputMark);
  if (subject.lines) {
    if (!input && !output) return {};
    return field_error(here,
                       "a worker is told of its items in lines: its command has no {} or {out}",
                       "leave out \"protocol\" for a command that is run for each item");
  }
  if (any_has({subject.command[0]}, kInputMark) || any_has({subject.command[0]}, kOutputMark))
    return field_error(here, "the program itself cannot be an item", "its first word has no {}");
  if (!input) {
    return field_error(here, "no word has {}, the path of the item",
                       "such as: convert {} -resize 50% {out}; a command that finds its files by "
                       "itself takes 'inputs' in place of 'items'");
  }
  if (!output && !object.contains("output") && !object.contains("outputs")) {
    return field_error(here, "no word has {out}, the path of the item's output",
                       "write it, or say by 'output' under which name the command leaves it, such "
                       "as \"out/{stem}.png\"");
  }
  return {};
}

}  // namespace

Result<void> read_item_fields(const json& object, const std::string& pointer,
                              SubjectSpec& subject) {
  if (!object.contains("items")) {
    for (const char* key : {"output", "protocol", "item_deadline", "heartbeat"}) {
      if (object.contains(key))
        return field_error(pointer + "/" + key, "belongs to a command with 'items'",
                           "name the items, such as \"items\": [\"in/*.jpg\"]");
    }
    return {};
  }
  if (subject.items.empty()) return field_error(pointer + "/items", "names no files");
  if (object.contains("protocol")) {
    if (object["protocol"] != "lines") {
      return field_error(pointer + "/protocol", "unknown protocol " + quoted(object["protocol"]),
                         "known: \"lines\"");
    }
    subject.lines = true;
  }
  auto output = read_string(object, pointer, "output", subject.output_name);
  if (!output) return output.error();
  subject.output_name = *output;
  if (auto good = check_output_name(*output, pointer + "/output"); !good) return good;
  auto deadline = read_duration(object, pointer, "item_deadline", subject.item_deadline);
  if (!deadline) return deadline.error();
  subject.item_deadline = *deadline;
  if (object.contains("heartbeat") && !subject.lines) {
    return field_error(pointer + "/heartbeat", "only a worker with \"protocol\": \"lines\" has one",
                       "a command that has hung is found by 'item_deadline'");
  }
  auto heartbeat = read_duration(object, pointer, "heartbeat", subject.heartbeat);
  if (!heartbeat) return heartbeat.error();
  subject.heartbeat = *heartbeat;
  return check_words(object, pointer, subject);
}

Result<void> check_item_arm(const json& object, const std::string& pointer, const ArmSpec& arm) {
  if (arm.supervision == Supervision::kIsolate) {
    return field_error(pointer + "/supervision", "items have processes of their own in every arm",
                       "use \"none\", \"restart\" or {\"strategy\": \"one_for_one\"}");
  }
  if (object.contains("spares")) {
    return field_error(pointer + "/spares", "commands and workers of items have no spares",
                       "leave it out");
  }
  return {};
}

std::vector<std::string> output_patterns(const SubjectSpec& subject) {
  std::vector<std::string> patterns = subject.outputs;
  if (subject.service) patterns.emplace_back(kAnswers);
  if (subject.items.empty()) return patterns;
  std::string pattern = replace_marks(subject.output_name, [](const std::string&) { return "*"; });
  if (std::find(patterns.begin(), patterns.end(), pattern) == patterns.end())
    patterns.push_back(std::move(pattern));
  return patterns;
}

Result<void> prepare_items(PreparedSubject& prepared, const std::vector<std::string>& found,
                           const fs::path& work) {
  const SubjectSpec& spec = prepared.spec;
  std::map<std::string, std::string> variables = inherited_variables();
  for (const auto& [name, value] : spec.environment) variables[name] = value;
  const std::string word = prepared.program.empty() ? spec.command[0] : prepared.program.string();
  const auto candidates = program_candidates(word, to_environment(variables));
  if (const int number = look_for_executable(candidates, spec.directory); number != 0)
    return explain_unexecutable(word, candidates, spec.directory, number);
  prepared.items.emplace();
  std::map<std::string, std::string> input_of;
  const std::set<std::string> inputs(prepared.input_files.begin(), prepared.input_files.end());
  std::string list;
  for (const std::string& input : found) {
    const std::string output = fs::path(output_of(spec.output_name, input)).lexically_normal();
    if (input.find_first_of("\n\t") != std::string::npos)
      return usage_error("the file name '" + input + "' has a tab or a line break");
    const auto [other, added] = input_of.emplace(output, input);
    if (!added) {
      return usage_error("the items '" + other->second + "' and '" + input +
                             "' have the same output, '" + output + "'",
                         "name the outputs by {name} and not {stem}, or the items of one directory "
                         "only");
    }
    if (inputs.contains(output)) {
      return usage_error("the output of '" + input + "' would be the input '" + output + "'",
                         "name the outputs otherwise, such as 'out/{name}'");
    }
    prepared.items->push_back({output});
    list += input + "\t" + output + "\n";
  }
  prepared.list_file = work / "items.list";
  return write_file_atomically(prepared.list_file, list);
}

std::vector<std::string> item_arguments(const PreparedSubject& subject, const ArmSpec& arm) {
  const SubjectSpec& spec = subject.spec;
  const bool supervised = arm.supervision == Supervision::kSupervised;
  std::vector<std::string> argv{
      subject.dispatcher.string(),
      "--list",
      subject.list_file.string(),
      "--workers",
      std::to_string(arm.workers),
      "--supervision",
      supervision_name(supervised ? arm.supervision : Supervision::kNone)};
  if (spec.lines) argv.emplace_back("--lines");
  if (supervised) {
    argv.insert(argv.end(), {"--deadline", spec.item_deadline, "--intensity",
                             std::to_string(arm.intensity), "--period", arm.period});
    if (spec.lines) argv.insert(argv.end(), {"--heartbeat", spec.heartbeat});
  }
  argv.emplace_back("--");
  return argv;
}

}  // namespace crashworthy

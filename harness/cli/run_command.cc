// crashworthy run: an experiment from a file, or from --fault and a command line.
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "harness/cli/commands.h"
#include "harness/experiment/runner.h"
#include "results/report/terminal.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// "KEY=VALUE" words into an object; values that are JSON (numbers, true, [1, 5]) are taken as such,
// others as strings.
Result<json> key_values(const std::vector<std::string>& words, const char* option) {
  json object = json::object();
  for (const std::string& word : words) {
    const std::size_t at = word.find('=');
    if (at == std::string::npos || at == 0) {
      return usage_error(fmt::format("{} '{}' is not KEY=VALUE", option, word),
                         "see: crashworthy faults NAME");
    }
    const std::string key = word.substr(0, at);
    const std::string value = word.substr(at + 1);
    if (object.contains(key)) return usage_error(fmt::format("{} names '{}' twice", option, key));
    json parsed = json::parse(value, nullptr, false);
    const std::size_t comma = value.find(',');
    if (!parsed.is_discarded()) {
      object[key] = parsed;
    } else if (value.starts_with('[') && value.ends_with(']') && comma != std::string::npos) {
      object[key] = {value.substr(1, comma - 1),
                     value.substr(comma + 1, value.size() - comma - 2)};  // [50ms,90ms]
    } else {
      object[key] = value;
    }
  }
  return object;
}

// The fault that the options stand for, as a file would say it.
Result<json> fault_document(const RunArguments& arguments) {
  json fault{{"fault", arguments.fault}, {"name", arguments.fault}};
  const std::tuple<const char*, const char*, const std::vector<std::string>*> parts[] = {
      {"victim", "--victim", &arguments.victim},
      {"when", "--when", &arguments.when},
      {"set", "--set", &arguments.set}};
  for (const auto& [key, option, words] : parts) {
    if (words->empty()) continue;
    auto object = key_values(*words, option);
    if (!object) return object.error();
    fault[key] = *object;
  }
  return fault;
}

// The experiment that --fault, --supervise and a command stand for, as a file would say it.
Result<json> command_document(const RunArguments& arguments) {
  json faults = json::array();
  if (!arguments.fault.empty()) {
    auto fault = fault_document(arguments);
    if (!fault) return fault.error();
    faults.push_back(*fault);
  }
  std::string name = fs::path(arguments.words[0]).filename().string();
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '-') c = '_';
  }
  json subject{{"command", arguments.words}};
  if (!arguments.inputs.empty()) subject["inputs"] = arguments.inputs;
  if (!arguments.outputs.empty()) subject["outputs"] = arguments.outputs;
  json arms = json::array({{{"name", "bare"}}});
  if (arguments.supervise) arms.push_back({{"name", "restart"}, {"supervision", "restart"}});
  return json{
      {"experiment", name.substr(0, 64)}, {"subject", subject}, {"arms", arms}, {"faults", faults}};
}

Result<ExperimentFile> from_command(const RunArguments& arguments) {
  const bool fault_options =
      !arguments.victim.empty() || !arguments.when.empty() || !arguments.set.empty();
  if (arguments.fault.empty() && fault_options) {
    return usage_error("--victim, --when and --set belong to --fault", "add --fault NAME");
  }
  if (arguments.words.empty())
    return usage_error("no command to test",
                       "write it after --: crashworthy run --fault process.kill -- ./program");
  if (arguments.supervise && arguments.words.size() == 1 && arguments.words[0].ends_with(".json")) {
    return usage_error("--supervise is for a command, and '" + arguments.words[0] +
                           "' looks like an experiment file",
                       "an experiment file names its arms itself: {\"supervision\": \"restart\"}");
  }
  auto document = command_document(arguments);
  if (!document) return document.error();
  std::error_code ignored;
  auto experiment = parse_experiment(*document, fs::current_path(ignored));
  if (!experiment) return experiment.error();
  return ExperimentFile{*std::move(experiment),
                        document->dump(1, ' ', false, json::error_handler_t::replace) + "\n"};
}

Result<ExperimentFile> from_file(const RunArguments& arguments) {
  const bool command_options = !arguments.victim.empty() || !arguments.when.empty() ||
                               !arguments.set.empty() || !arguments.inputs.empty() ||
                               !arguments.outputs.empty();
  if (arguments.words.size() != 1) {
    return usage_error(
        arguments.words.empty() ? "no experiment file" : "more than one experiment file",
        "name one EXPERIMENT.json; to test a command, give --fault NAME and the command after --");
  }
  if (command_options) {
    return usage_error(
        "--supervise, --victim, --when, --set, --inputs and --outputs belong to --fault and a "
        "command",
        "write them into the experiment file, or give --fault NAME");
  }
  return read_experiment_file(arguments.words[0]);
}

void print_result(const RunArguments& arguments, const RunResult& result) {
  if (arguments.json) {
    std::printf("%s\n", to_json(result.run.summary)
                            .dump(1, ' ', false, nlohmann::json::error_handler_t::replace)
                            .c_str());
    return;
  }
  if (arguments.quiet) {
    std::printf("%s\n", quiet_report(result.run.summary).c_str());
    return;
  }
  std::printf("%s", terminal_report(result.run.summary, {use_colour(), 100}).c_str());
  std::printf("\nReport   %s\n", (result.directory / "report.html").c_str());
}

}  // namespace

int run_command(const RunArguments& arguments) {
  const bool command = !arguments.fault.empty() || arguments.supervise;
  auto file = command ? from_command(arguments) : from_file(arguments);
  if (!file) return fail(file.error());
  RunOptions options;
  options.out = arguments.out;
  options.blocks = arguments.blocks;
  options.seed = arguments.seed;
  options.disarm = arguments.disarm;
  options.progress = !arguments.quiet;
  auto result = run_experiment(file->experiment, file->text, options);
  if (!result) return fail(result.error());
  const bool anything = !result->run.directory.empty();
  if (anything) print_result(arguments, *result);
  std::fflush(stdout);
  if (result->interrupted_by != 0) {
    if (anything) {
      std::fprintf(stderr, "crashworthy: interrupted; what was measured lies in %s\n",
                   result->directory.c_str());
    } else {
      std::fprintf(stderr, "crashworthy: interrupted before the first trial\n");
    }
    ::signal(result->interrupted_by, SIG_DFL);
    ::raise(result->interrupted_by);  // Everything is cleaned up: end as the user asked, so that a
                                      // calling shell sees it.
  }
  return run_verdict_exit_code(result->run.summary.verdict);
}

}  // namespace crashworthy

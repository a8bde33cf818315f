// crashworthy run: an experiment from a file, or from --fault and a command line.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "harness/cli/commands.h"
#include "harness/cli/fault_words.h"
#include "harness/experiment/runner.h"
#include "results/report/terminal.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The fields of a subject by items, and what they are given by.
std::vector<std::pair<const char*, const std::string*>> item_fields(const RunArguments& arguments) {
  return {{"output", &arguments.output_name},
          {"item_deadline", &arguments.item_deadline},
          {"protocol", &arguments.protocol},
          {"heartbeat", &arguments.heartbeat}};
}

bool has_item_options(const RunArguments& arguments) {
  const auto fields = item_fields(arguments);
  return arguments.workers || std::any_of(fields.begin(), fields.end(),
                                          [](const auto& field) { return !field.second->empty(); });
}

// The field `service` that --service KEY=VALUE stands for.
Result<json> service_document(const std::vector<std::string>& words) {
  auto service = key_values(words, "--service", "such as --service ready=http://127.0.0.1:8000/");
  if (!service || !service->contains("targets") || !(*service)["targets"].is_string())
    return service;
  std::istringstream targets((*service)["targets"].get<std::string>());
  json list = json::array();
  for (std::string target; std::getline(targets, target, ',');) list.push_back(target);
  (*service)["targets"] = list;
  return service;
}

// The experiment that --fault, --supervise and a command stand for, as a file would say it.
Result<json> command_document(const RunArguments& arguments) {
  json faults = json::array();
  if (!arguments.fault.empty()) {
    auto fault = fault_document(arguments.fault, arguments.victim, arguments.when, arguments.set);
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
  if (!arguments.items.empty()) subject["items"] = arguments.items;
  for (const auto& [key, text] : item_fields(arguments)) {
    if (!text->empty()) subject[key] = *text;
  }
  if (!arguments.service.empty()) {
    auto service = service_document(arguments.service);
    if (!service) return service.error();
    subject["service"] = *service;
  }
  json arms = json::array({{{"name", "bare"}}});
  if (arguments.supervise && arguments.items.empty()) {
    arms.push_back({{"name", "restart"}, {"supervision", "restart"}});
  } else if (arguments.supervise) {
    arms.push_back({{"name", "supervised"}, {"supervision", {{"strategy", "one_for_one"}}}});
  }
  for (json& arm : arms) {
    if (arguments.workers) arm["workers"] = *arguments.workers;
  }
  json document{
      {"experiment", name.substr(0, 64)}, {"subject", subject}, {"arms", arms}, {"faults", faults}};
  if (arguments.rerun) document["rerun"] = true;
  if (!arguments.timeout.empty()) document["timeout"] = arguments.timeout;
  return document;
}

Result<ExperimentFile> from_command(const RunArguments& arguments) {
  const bool fault_options =
      !arguments.victim.empty() || !arguments.when.empty() || !arguments.set.empty();
  if (arguments.fault.empty() && fault_options) {
    return usage_error("--victim, --when and --set belong to --fault", "add --fault NAME");
  }
  if (arguments.items.empty() && has_item_options(arguments)) {
    return usage_error(
        "--workers, --output-name, --item-deadline, --protocol and --heartbeat belong to --items",
        "add --items GLOB");
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
  const bool command_options =
      !arguments.victim.empty() || !arguments.when.empty() || !arguments.set.empty() ||
      !arguments.inputs.empty() || !arguments.outputs.empty() || !arguments.service.empty() ||
      arguments.rerun || !arguments.timeout.empty() || has_item_options(arguments);
  if (arguments.words.size() != 1) {
    return usage_error(
        arguments.words.empty() ? "no experiment file" : "more than one experiment file",
        "name one EXPERIMENT.json; to test a command, give --fault NAME and the command after --");
  }
  if (command_options) {
    return usage_error(
        "--victim, --when, --set, --inputs, --outputs, --service, --timeout, --rerun and the "
        "options of --items belong to --fault, --items or --service and a command",
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
  const bool command = !arguments.fault.empty() || arguments.supervise ||
                       !arguments.items.empty() || !arguments.service.empty();
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
    end_by_signal(result->interrupted_by);  // Everything is cleaned up.
  }
  return run_verdict_exit_code(result->run.summary.verdict);
}

}  // namespace crashworthy

// crashworthy inject: any command under one fault, or several.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>

#include "harness/cli/commands.h"
#include "harness/cli/fault_words.h"
#include "harness/cli/injections.h"
#include "harness/experiment/inject.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

using nlohmann::json;

Result<std::vector<FaultSpec>> read_faults(const std::string& path) {
  auto text = read_file(path);
  if (!text)
    return usage_error(text.error().message, "--faults names a JSON file: a list of faults");
  auto document = parse_json(*text);
  if (!document) return usage_error("'" + path + "' is not JSON: " + document.error().message);
  if (!document->is_array() || document->empty())
    return usage_error("'" + path + "' must be a list of faults",
                       R"(write [{"fault": "process.kill", "when": {"after": "1s"}}])");
  std::vector<FaultSpec> faults;
  for (std::size_t i = 0; i < document->size(); ++i) {
    auto fault = parse_fault((*document)[i], "/" + std::to_string(i));
    if (!fault) return fault.error().with_context(path);
    faults.push_back(*std::move(fault));
  }
  return faults;
}

Result<std::vector<FaultSpec>> faults_of(const InjectArguments& arguments) {
  const bool single =
      !arguments.victim.empty() || !arguments.when.empty() || !arguments.set.empty();
  if (!arguments.faults_file.empty()) {
    if (single) {
      return usage_error("--victim, --when and --set belong to a fault named on the command line",
                         "write them into '" + arguments.faults_file + "'");
    }
    if (!arguments.fault.empty())
      return usage_error("both a fault and --faults",
                         "write '" + arguments.fault + "' into the file");
    return read_faults(arguments.faults_file);
  }
  if (arguments.fault.empty()) {
    return usage_error("no fault",
                       "name one: crashworthy inject process.kill -- ./program; see: "
                       "crashworthy faults");
  }
  auto document = fault_document(arguments.fault, arguments.victim, arguments.when, arguments.set);
  if (!document) return document.error();
  auto fault = parse_fault(*document, "");
  if (!fault) return fault.error();
  return std::vector<FaultSpec>{*std::move(fault)};
}

Result<InjectOptions> options_of(const InjectArguments& arguments) {
  auto faults = faults_of(arguments);
  if (!faults) return faults.error();
  if (arguments.command.empty()) {
    return usage_error("no command to run",
                       "write it after --: crashworthy inject process.kill -- ./program");
  }
  InjectOptions options;
  options.command = arguments.command;
  options.faults = *std::move(faults);
  options.seed = arguments.seed.value_or(std::random_device()() & 0x7fffffffu);
  options.disarmed = arguments.disarm;
  options.out = arguments.out;
  if (!arguments.timeout.empty()) {
    auto timeout = parse_duration(arguments.timeout);
    if (!timeout) return timeout.error().with_context("--timeout");
    if (timeout->count() == 0 || *timeout > std::chrono::hours(24 * 365))
      return usage_error("--timeout: must be above 0 and at most 8760h");
    options.timeout = *timeout;
  }
  return options;
}

}  // namespace

int inject_command(const InjectArguments& arguments) {
  auto options = options_of(arguments);
  if (!options) return fail(options.error());
  auto result = inject(*options);
  if (!result) return fail_injection(result.error());
  tell_injections(*options, *result, arguments.json, arguments.quiet);
  if (result->interrupted_by != 0) end_by_signal(result->interrupted_by);
  return result->all_confirmed ? 0 : 3;
}

}  // namespace crashworthy

#include "harness/supervision/programs.h"

#include <unistd.h>

#include <map>
#include <string_view>

#include "harness/process/program_path.h"
#include "harness/supervision/function.h"
#include "harness/supervision/function_command.h"

namespace crashworthy {
namespace {

Result<void> look_for(const ChildSpec& spec) {
  const auto candidates = program_candidates(spec.command[0], child_environment(spec));
  const int error = look_for_executable(candidates, spec.directory);
  if (error == 0) return {};
  return explain_unexecutable(spec.command[0], candidates, spec.directory, error);
}

Result<void> check_child_program(const ChildSpec& child, const std::string& pointer) {
  if (child.supervisor) return check_programs(*child.supervisor, pointer);
  if (!child.command.empty()) {
    auto found = look_for(child);
    return found ? found : found.error().with_context(pointer + "/command");
  }
  if (is_registered(child.function)) return {};
  return usage_error(pointer + "/function: no function '" + child.function + "' is registered",
                     "call register_function() before the tree is made");
}

}  // namespace

std::vector<std::string> child_environment(const ChildSpec& spec) {
  std::map<std::string, std::string, std::less<>> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=', 1);
    if (equals == std::string_view::npos) continue;
    // The first of a repeated name is the one that getenv() finds.
    variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  for (const char* name : {kReadyVariable, kHeartbeatVariable}) variables.erase(name);
  for (const auto& [name, value] : spec.environment) variables[name] = value;
  // A command that is this program must not take itself for a function.
  for (const char* name : {kFunctionVariable, kArgumentVariable}) variables.erase(name);
  if (spec.ready && spec.ready->descriptor) {
    variables[kReadyVariable] = std::to_string(*spec.ready->descriptor);
  }
  if (spec.heartbeat) variables[kHeartbeatVariable] = std::to_string(spec.heartbeat->descriptor);
  std::vector<std::string> environment;
  environment.reserve(variables.size());
  for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
  return environment;
}

Result<void> check_programs(const SupervisorSpec& spec, const std::string& pointer) {
  for (std::size_t i = 0; i < spec.children.size(); ++i) {
    auto found = check_child_program(spec.children[i], pointer + "/children/" + std::to_string(i));
    if (!found) return found;
  }
  return {};
}

}  // namespace crashworthy

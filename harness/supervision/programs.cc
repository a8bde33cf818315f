#include "harness/supervision/programs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "harness/process/program_path.h"
#include "harness/supervision/function.h"
#include "harness/supervision/function_command.h"

namespace crashworthy {
namespace {

// What execve(2) would say of `file`, as far as it can be known without executing it; 0: nothing.
int executable_errno(const std::filesystem::path& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) return errno;
  if (!S_ISREG(info.st_mode)) return EACCES;
  return ::faccessat(AT_FDCWD, file.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

// As the start does it: a file that may not be executed is remembered, and the search goes on.
Result<void> look_for(const ChildSpec& spec) {
  const auto candidates = program_candidates(spec.command[0], child_environment(spec));
  int error = ENOENT;
  for (const std::string& candidate : candidates) {
    const int number = executable_errno(spec.directory / candidate);
    if (number == 0) return {};
    if (number != ENOENT && number != ENOTDIR) error = number;
  }
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

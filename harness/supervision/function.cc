#include "harness/supervision/function.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <utility>

#include "harness/os/check.h"
#include "harness/os/file.h"
#include "harness/supervision/function_command.h"

namespace crashworthy {
namespace {

constexpr int kNoSuchFunction = 127;  // As a shell says of a missing command.

std::map<std::string, ChildFunction>& functions() {
  static std::map<std::string, ChildFunction> registered;
  return registered;
}

// Where this program can be executed from. Its path does as long as it still leads to this very
// file: it reads better in a list of processes than the link, which always leads there.
std::filesystem::path own_program() {
  const std::filesystem::path link = "/proc/" + std::to_string(::getpid()) + "/exe";
  std::error_code failure;
  const std::filesystem::path path = std::filesystem::read_symlink(link, failure);
  if (failure) return link;
  struct stat ours {};
  struct stat there {};
  if (::stat(link.c_str(), &ours) != 0 || ::stat(path.c_str(), &there) != 0) return link;
  return ours.st_dev == there.st_dev && ours.st_ino == there.st_ino ? path : link;
}

int free_number(const ChildSpec& spec) {
  std::set<int> taken;
  for (const auto& [ours, number] : spec.descriptors) taken.insert(number);
  if (spec.ready && spec.ready->descriptor) taken.insert(*spec.ready->descriptor);
  if (spec.heartbeat) taken.insert(spec.heartbeat->descriptor);
  int number = 3;
  while (taken.contains(number)) ++number;
  return number;
}

Result<UniqueFd> argument_memory(const std::string& argument) {
  UniqueFd memory(::memfd_create("crashworthy-argument", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.valid()) return system_error("create a memory file", errno);
  if (auto written = write_all(memory.get(), argument); !written) return written.error();
  // Every incarnation gets the same memory: none may change it for the next.
  if (::fcntl(memory.get(), F_ADD_SEALS,
              F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0) {
    return system_error("seal a memory file", errno);
  }
  return memory;
}

// Reads from the beginning, whatever an earlier incarnation has read: the offset is shared.
std::optional<std::string> read_argument(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return std::nullopt;
  std::string argument(static_cast<std::size_t>(info.st_size), '\0');
  for (std::size_t at = 0; at < argument.size();) {
    const ssize_t count =
        ::pread(fd, argument.data() + at, argument.size() - at, static_cast<off_t>(at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return std::nullopt;
    at += static_cast<std::size_t>(count);
  }
  return argument;
}

}  // namespace

void register_function(const std::string& name, ChildFunction function) {
  CRASHWORTHY_CHECK(!name.empty() && name.find('\0') == std::string::npos);
  CRASHWORTHY_CHECK(function != nullptr, name);
  const bool added = functions().emplace(name, std::move(function)).second;
  CRASHWORTHY_CHECK(added, name);
}

bool is_registered(const std::string& name) { return functions().contains(name); }

std::optional<int> run_child_function() {
  const char* marker = std::getenv(kFunctionVariable);
  if (marker == nullptr) return std::nullopt;
  const std::string name = marker;
  const char* number = std::getenv(kArgumentVariable);
  UniqueFd memory(number == nullptr ? -1 : std::atoi(number));
  // Before anything else is executed, so that no process of the function takes itself for one.
  ::unsetenv(kFunctionVariable);
  ::unsetenv(kArgumentVariable);
  const auto function = functions().find(name);
  if (function == functions().end()) {
    std::fprintf(stderr, "crashworthy: error: no function '%s' is registered\n", name.c_str());
    return kNoSuchFunction;
  }
  const auto argument = read_argument(memory.get());
  if (!argument) {
    std::fprintf(stderr, "crashworthy: error: the argument of function '%s' cannot be read\n",
                 name.c_str());
    return kNoSuchFunction;
  }
  memory.reset();
  return function->second(*argument);
}

Result<FunctionCommand> make_function_command(const ChildSpec& spec) {
  FunctionCommand command;
  command.program = own_program();
  command.name = program_invocation_name;
  auto memory = argument_memory(spec.argument);
  if (!memory) return memory.error().with_context("the argument of '" + spec.function + "'");
  command.argument = *std::move(memory);
  command.argument_number = free_number(spec);
  command.variables = {
      std::string(kFunctionVariable) + "=" + spec.function,
      std::string(kArgumentVariable) + "=" + std::to_string(command.argument_number)};
  return command;
}

}  // namespace crashworthy

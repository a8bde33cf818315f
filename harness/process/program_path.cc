#include "harness/process/program_path.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace crashworthy {
namespace fs = std::filesystem;

namespace {

bool has_slash(const std::string& name) { return name.find('/') != std::string::npos; }

std::string default_path() {
  std::string path(::confstr(_CS_PATH, nullptr, 0), '\0');
  ::confstr(_CS_PATH, path.data(), path.size());
  return path.c_str();
}

std::string path_of(const std::vector<std::string>& environment) {
  constexpr std::string_view kPath = "PATH=";
  for (const std::string& variable : environment) {
    if (variable.rfind(kPath, 0) == 0) return variable.substr(kPath.size());
  }
  return default_path();
}

enum class Found { kNothing, kDirectory, kNotExecutable, kFile };

Found look_at(const fs::path& file) {
  std::error_code failure;
  const fs::file_status status = fs::status(file, failure);
  if (failure || status.type() == fs::file_type::not_found) return Found::kNothing;
  if (status.type() == fs::file_type::directory) return Found::kDirectory;
  return ::access(file.c_str(), X_OK) == 0 ? Found::kFile : Found::kNotExecutable;
}

struct Reason {
  std::string text;
  std::string hint;
};

Reason reason_for(const std::string& name, Found found, const fs::path& file, int number) {
  const std::string shown = "'" + file.string() + "'";
  if (name.empty()) return {"the name of the program is empty", ""};
  if (number == ENOENT && found != Found::kNothing) {
    return {"the interpreter of " + shown + " is missing", "look at its first line (head -1)"};
  }
  if (number == ENOENT && !has_slash(name)) {
    return {"no such program in PATH", "try an absolute path, or ./" + name};
  }
  if (number == EACCES && found == Found::kDirectory) {
    return {shown + " is a directory", "name a program in it"};
  }
  if (number == EACCES && found == Found::kNotExecutable) {
    return {shown + " is not executable: " + std::strerror(number), "try chmod +x"};
  }
  if (number == ENOEXEC) {
    return {shown + " is no program for this machine: " + std::strerror(number),
            "a script needs a first line such as #!/bin/sh"};
  }
  return {std::strerror(number), number == ENOENT ? "try an absolute path" : ""};
}

}  // namespace

std::vector<std::string> program_candidates(const std::string& name,
                                            const std::vector<std::string>& environment) {
  if (name.empty() || has_slash(name)) return {name};
  std::vector<std::string> candidates;
  const std::string path = path_of(environment);
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find(':', begin), path.size());
    const std::string directory = path.substr(begin, end - begin);
    candidates.push_back(directory.empty() ? "./" + name : directory + "/" + name);
    begin = end + 1;
  }
  return candidates;
}

int look_for_executable(const std::vector<std::string>& candidates, const fs::path& directory) {
  int error = ENOENT;
  for (const std::string& candidate : candidates) {
    const Found found = candidate.empty() ? Found::kNothing : look_at(directory / candidate);
    if (found == Found::kFile) return 0;
    if (found != Found::kNothing) error = EACCES;
  }
  return error;
}

Error explain_unexecutable(const std::string& name, const std::vector<std::string>& candidates,
                           const fs::path& directory, int number) {
  Found found = Found::kNothing;
  fs::path file = name;
  for (const std::string& candidate : candidates) {
    const fs::path place = directory / candidate;
    const Found here = look_at(place);
    if (here == Found::kNothing) continue;
    file = place;
    found = here;
    break;
  }
  const Reason reason = reason_for(name, found, file, number);
  Error error = usage_error("unable to start '" + name + "': " + reason.text, reason.hint);
  error.sys_errno = number;
  return error;
}

}  // namespace crashworthy

#include "harness/experiment/environment.h"

#include <array>
#include <cstdlib>

namespace crashworthy {

namespace {

constexpr std::array<const char*, 9> kNames{
    "PATH",         "LANG",         "LC_ALL",        "TZ",          "LD_LIBRARY_PATH",
    "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"};

}  // namespace

std::map<std::string, std::string> inherited_variables() {
  std::map<std::string, std::string> variables{{"PATH", "/usr/local/bin:/usr/bin:/bin"}};
  for (const char* name : kNames) {
    if (const char* value = std::getenv(name)) variables[name] = value;
  }
  return variables;
}

void adopt_variables(const std::vector<std::string>& recorded) {
  for (const char* name : kNames) {
    ::unsetenv(name);
    const std::string start = std::string(name) + "=";
    for (const std::string& variable : recorded) {
      if (variable.starts_with(start)) ::setenv(name, variable.c_str() + start.size(), 1);
    }
  }
}

std::vector<std::string> to_environment(const std::map<std::string, std::string>& variables) {
  std::vector<std::string> environment;
  for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
  return environment;
}

}  // namespace crashworthy

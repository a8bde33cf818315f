#include "harness/experiment/environment.h"

#include <array>
#include <cstdlib>

namespace crashworthy {

std::map<std::string, std::string> inherited_variables() {
  constexpr std::array<const char*, 9> kNames{
      "PATH",         "LANG",         "LC_ALL",        "TZ",          "LD_LIBRARY_PATH",
      "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"};
  std::map<std::string, std::string> variables{{"PATH", "/usr/local/bin:/usr/bin:/bin"}};
  for (const char* name : kNames) {
    if (const char* value = std::getenv(name)) variables[name] = value;
  }
  return variables;
}

std::vector<std::string> to_environment(const std::map<std::string, std::string>& variables) {
  std::vector<std::string> environment;
  for (const auto& [name, value] : variables) environment.push_back(name + "=" + value);
  return environment;
}

}  // namespace crashworthy

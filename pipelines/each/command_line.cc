#include "pipelines/each/command_line.h"

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "harness/os/clock.h"

namespace crashworthy::each {

std::vector<std::string> take_command(int& argc, char** argv) {
  char** const end = argv + argc;
  char** const dashes =
      std::find_if(argv, end, [](const char* word) { return std::string_view(word) == "--"; });
  argc = static_cast<int>(dashes - argv);
  return dashes == end ? std::vector<std::string>() : std::vector<std::string>(dashes + 1, end);
}

Result<void> read_durations(std::initializer_list<DurationOption> options) {
  for (const DurationOption& option : options) {
    auto duration = parse_duration(*option.text);
    if (!duration) return duration.error().with_context(option.name);
    *option.value = *duration;
  }
  return {};
}

int fail(const char* program, int code, const Error& error) {
  std::fprintf(stderr, "%s: error: %s\n", program, error.message.c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "  %s\n", error.hint.c_str());
  return code;
}

}  // namespace crashworthy::each

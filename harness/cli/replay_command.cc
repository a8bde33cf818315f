// crashworthy replay: a recorded trial once more.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "harness/cli/commands.h"
#include "harness/cli/injections.h"
#include "harness/experiment/replay.h"

namespace crashworthy {

using nlohmann::json;

int replay_command(const ReplayArguments& arguments) {
  auto result = replay({arguments.directory, arguments.trial, arguments.out});
  if (!result) return fail_injection(result.error());
  const bool same = result->differences.empty() && result->interrupted_by == 0;
  if (arguments.json) {
    const json document{{"same", same},
                        {"differences", result->differences},
                        {"injections", result->injections},
                        {"ended", result->ended},
                        {"interrupted", result->interrupted_by != 0},
                        {"record", result->record.string()}};
    std::fprintf(stderr, "%s\n",
                 document.dump(-1, ' ', false, json::error_handler_t::replace).c_str());
  } else if (!arguments.quiet) {
    for (const json& injection : result->injections) {
      if (injection.is_object())
        std::fprintf(stderr, "crashworthy: %s\n", injection_line(injection).c_str());
    }
    for (const std::string& difference : result->differences)
      std::fprintf(stderr, "crashworthy: differs: %s\n", difference.c_str());
    if (same) std::fprintf(stderr, "crashworthy: same triggers, victims, order and outcomes\n");
    std::fprintf(stderr, "crashworthy: record in %s\n", result->record.c_str());
  }
  if (result->interrupted_by != 0) end_by_signal(result->interrupted_by);
  return same ? 0 : 3;
}

}  // namespace crashworthy

// crashworthy recover: undoes what a killed harness left.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "harness/cli/commands.h"
#include "harness/experiment/recover.h"

namespace crashworthy {

using nlohmann::json;

int recover_command(const std::string& directory, bool as_json) {
  auto findings = recover(directory);
  if (!findings) return fail(findings.error());
  json list = json::array();
  std::size_t there = 0;
  for (const Finding& finding : *findings) {
    there += finding.state != Leftover::kGone;
    list.push_back({{"what", finding.what},
                    {"state", leftover_name(finding.state)},
                    {"detail", finding.detail}});
    if (as_json || finding.state == Leftover::kGone) continue;
    std::printf("%-9s  %s%s%s\n", leftover_name(finding.state), finding.what.c_str(),
                finding.detail.empty() ? "" : ": ", finding.detail.c_str());
  }
  const bool remaining =
      std::any_of(findings->begin(), findings->end(),
                  [](const Finding& finding) { return finding.state == Leftover::kRemaining; });
  if (as_json) {
    std::printf("%s\n", json{{"findings", list}, {"clean", !remaining}}
                            .dump(1, ' ', false, json::error_handler_t::replace)
                            .c_str());
  } else if (there == 0) {
    std::printf("nothing was left (%zu looked for)\n", findings->size());
  }
  return remaining ? 5 : 0;
}

}  // namespace crashworthy

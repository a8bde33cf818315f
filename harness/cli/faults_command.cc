// crashworthy faults: the catalogue, printed from the code's own table.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "faults/catalogue.h"
#include "harness/cli/commands.h"
#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

using nlohmann::json;

std::string full_name(const FaultRow& row) {
  const char* point = row.point == PointRule::kRequired   ? "@POINT"
                      : row.point == PointRule::kOptional ? "[@POINT]"
                                                          : "";
  return std::string(row.name) + point;
}

json row_json(const FaultRow& row) {
  json keys = json::object();
  for (const FaultKey& key : row.keys) keys[key.key] = key.meaning;
  return {{"name", row.name},
          {"point", row.point != PointRule::kNone},
          {"mechanism", row.mechanism},
          {"needs", row.needs},
          {"summary", row.summary},
          {"in_real_life", row.in_real_life},
          {"proof", row.proof},
          {"undone", row.undone},
          {"keys", keys},
          {"example", row.example}};
}

void print_row(const FaultRow& row) {
  std::printf(
      "%s\n  %s\n\n  stands for   %s\n  proved by    %s\n  undone by    %s\n  needs        %s\n\n  "
      "keys\n",
      full_name(row).c_str(), row.summary, row.in_real_life, row.proof, row.undone, row.needs);
  for (const FaultKey& key : row.keys) std::printf("    %-20s %s\n", key.key, key.meaning);
  std::printf("\n  example\n    %s\n", row.example);
}

}  // namespace

int faults_command(const std::string& name, bool as_json) {
  if (!name.empty()) {
    const std::string bare = name.substr(0, name.find('@'));
    const FaultRow* row = find_fault(bare);
    if (row == nullptr)
      return fail(usage_error("unknown fault '" + bare + "'", suggest(bare, fault_names())));
    if (as_json) {
      std::printf("%s\n", row_json(*row).dump(1).c_str());
    } else {
      print_row(*row);
    }
    return 0;
  }
  json all = json::array();
  for (const FaultRow& row : fault_catalogue()) {
    all.push_back(row_json(row));
    if (!as_json) std::printf("%-22s %s\n", full_name(row).c_str(), row.summary);
  }
  if (as_json) std::printf("%s\n", all.dump(1).c_str());
  return 0;
}

}  // namespace crashworthy

// crashworthy faults: the catalogue, printed from the code's own table.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

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

const char* type_name(KeyType type) {
  switch (type) {
    case KeyType::kCount:
      return "count";
    case KeyType::kDuration:
      return "duration";
    case KeyType::kSize:
      return "size";
    case KeyType::kText:
      return "text";
    case KeyType::kSignal:
      return "signal";
    case KeyType::kErrno:
      return "errno";
    case KeyType::kCalls:
      return "system calls";
    case KeyType::kPortion:
      return "portion";
    case KeyType::kReserved:
      break;
  }
  return "";  // Of `victim` and `when`: the meaning says it.
}

// "count, default 1"; empty where there is nothing to say.
std::string kind_of(const FaultKey& key) {
  std::string text = type_name(key.type);
  const auto add = [&](const std::string& word) { text += (text.empty() ? "" : ", ") + word; };
  if (key.required) add("required");
  if (key.fallback != nullptr) add(std::string("default ") + key.fallback);
  return text;
}

const char* trigger_name(const FaultRow& row) {
  switch (row.trigger) {
    case TriggerKind::kLaunch:
      return "from the launch on";
    case TriggerKind::kMoment:
      return "at a moment";
    case TriggerKind::kCounted:
      break;
  }
  return "counted by the victim";
}

// "process" of "process.kill".
std::string family_of(const FaultRow& row) {
  const std::string name = row.name;
  return name.substr(0, name.find('.'));
}

// The families in the order of the table, each with its rows.
std::vector<std::pair<std::string, std::vector<const FaultRow*>>> families() {
  std::vector<std::pair<std::string, std::vector<const FaultRow*>>> groups;
  for (const FaultRow& row : fault_catalogue()) {
    const std::string family = family_of(row);
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& known) { return known.first == family; });
    if (group == groups.end()) group = groups.insert(group, {family, {}});
    group->second.push_back(&row);
  }
  return groups;
}

json row_json(const FaultRow& row) {
  json keys = json::object();
  for (const FaultKey& key : row.keys) {
    json about{{"meaning", key.meaning}, {"required", key.required}};
    about["type"] = key.type == KeyType::kReserved ? json(nullptr) : json(type_name(key.type));
    about["default"] = key.fallback == nullptr ? json(nullptr) : json(key.fallback);
    keys[key.key] = std::move(about);
  }
  const char* point = row.point == PointRule::kRequired   ? "required"
                      : row.point == PointRule::kOptional ? "optional"
                                                          : "none";
  return {{"name", row.name},
          {"family", family_of(row)},
          {"point", point},
          {"trigger", trigger_name(row)},
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
  const std::vector<std::pair<const char*, std::string>> facts{
      {"stands for", row.in_real_life}, {"proved by", row.proof},
      {"undone by", row.undone},        {"needs", row.needs},
      {"strikes", trigger_name(row)},   {"mechanism", row.mechanism}};
  std::printf("%s\n  %s\n\n", full_name(row).c_str(), row.summary);
  for (const auto& [name, value] : facts) std::printf("  %-12s %s\n", name, value.c_str());
  std::printf("\n  keys\n");
  for (const FaultKey& key : row.keys) {
    const std::string kind = kind_of(key);
    std::printf("    %-20s %s%s\n", key.key, kind.empty() ? "" : ("(" + kind + ") ").c_str(),
                key.meaning);
  }
  std::printf("\n  example\n    %s\n", row.example);
}

void print_list() {
  for (const auto& [family, rows] : families()) {
    std::printf("%s\n", family.c_str());
    for (const FaultRow* row : rows)
      std::printf("  %-28s %s\n", full_name(*row).c_str(), row->summary);
  }
  std::printf(
      "\ncrashworthy faults NAME explains one; crashworthy inject NAME -- COMMAND tries it\n");
}

// A cell of a Markdown table.
std::string cell(const std::string& text) {
  std::string safe;
  for (const char c : text) safe += c == '|' ? std::string("\\|") : std::string(1, c);
  return safe;
}

void print_markdown() {
  std::printf(
      "# The faults\n\n"
      "Printed by `crashworthy faults --markdown` from the tables in `faults/catalogue_*.cc`.\n\n"
      "| fault | what it does |\n|---|---|\n");
  for (const auto& [family, rows] : families()) {
    for (const FaultRow* row : rows)
      std::printf("| `%s` | %s |\n", full_name(*row).c_str(), cell(row->summary).c_str());
  }
  for (const auto& [family, rows] : families()) {
    std::printf("\n## %s\n", family.c_str());
    for (const FaultRow* row : rows) {
      std::printf("\n### %s\n\n%s.\n\n", full_name(*row).c_str(), row->summary);
      std::printf(
          "- Stands for: %s\n- Proved by: %s\n- Undone by: %s\n- Needs: %s\n"
          "- Strikes: %s\n- Mechanism: `%s`\n\n",
          row->in_real_life, row->proof, row->undone, row->needs, trigger_name(*row),
          row->mechanism);
      std::printf("| key | kind | meaning |\n|---|---|---|\n");
      for (const FaultKey& key : row->keys) {
        std::printf("| `%s` | %s | %s |\n", key.key, cell(kind_of(key)).c_str(),
                    cell(key.meaning).c_str());
      }
      std::printf("\n```text\n%s\n```\n", row->example);
    }
  }
}

}  // namespace

int faults_command(const std::string& name, bool as_json, bool markdown) {
  if (!name.empty()) {
    const std::string bare = name.substr(0, name.find('@'));
    const FaultRow* row = find_fault(bare);
    if (row == nullptr)
      return fail(usage_error("unknown fault '" + bare + "'", suggest(bare, fault_names())));
    if (markdown) return fail(usage_error("--markdown prints all faults", "leave the name out"));
    if (as_json) {
      std::printf("%s\n", row_json(*row).dump(1).c_str());
    } else {
      print_row(*row);
    }
    return 0;
  }
  if (as_json) {
    json all = json::array();
    for (const FaultRow& row : fault_catalogue()) all.push_back(row_json(row));
    std::printf("%s\n", all.dump(1).c_str());
  } else if (markdown) {
    print_markdown();
  } else {
    print_list();
  }
  return 0;
}

}  // namespace crashworthy

// A tree's status, as the server of a running tree gives it in JSON, for people.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace crashworthy {

struct TreeStyle {
  bool colour = false;
  bool box_characters = true;  // Else ASCII.
};

// A table with a line for each supervisor and child, indented as they nest.
std::string tree_table(const nlohmann::json& tree, const TreeStyle& style);
// One line a supervisor: how many of its children run, and how many restarts are left.
std::string tree_summary(const nlohmann::json& tree);
// One line about a child, and those below it if it is a supervisor.
std::string child_summary(const nlohmann::json& child);

}  // namespace crashworthy

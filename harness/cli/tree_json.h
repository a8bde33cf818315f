// A tree's status as JSON, and the names by which people call its children.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "harness/os/result.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

// The supervisor with all below it; `name` is how it is called: the root has no path.
nlohmann::ordered_json tree_json(const SupervisorInfo& info, const std::string& name,
                                 std::int64_t now);
// A child; a nested supervisor has what is below it in "supervisor".
nlohmann::ordered_json child_json(const SupervisorInfo::Entry& entry, std::int64_t now);

// The path that `name` stands for: a path from the root, with or without a '/' in front, the
// root's own name (or "/"), or an id that only one child of the tree has. kGone when there is no
// such child, kUsage when there are several.
Result<std::string> find_path(const SupervisorInfo& root, const std::string& root_name,
                              const std::string& name);

// The child of this path, and its supervisor; null when there is none.
struct Found {
  const SupervisorInfo* supervisor = nullptr;
  const SupervisorInfo::Entry* entry = nullptr;
};
Found find_entry(const SupervisorInfo& root, const std::string& path);

}  // namespace crashworthy

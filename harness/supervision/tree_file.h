// The tree file: a supervision tree as JSON (docs/supervision.md).
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "harness/os/result.h"
#include "harness/supervision/spec.h"

namespace crashworthy {

struct TreeFile {
  std::string name = "root";  // The root's, in logs and in what people see.
  SupervisorSpec root;
};

// Reads and checks everything that can be checked without looking at the machine: kUsage errors
// begin with the JSON pointer of the place, and quote the value. Relative `cwd`s are relative to
// `directory`.
Result<TreeFile> parse_tree(const nlohmann::json& document, const std::filesystem::path& directory);

// The same from a file; messages begin with its name. Also looks for every program, and for every
// working directory. Nothing is started.
Result<TreeFile> read_tree_file(const std::filesystem::path& path);

}  // namespace crashworthy

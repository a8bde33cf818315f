// A source tree in memory, as the rules of harness/tidy.h read it.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy::tidy {

struct File {
  std::string content;
  bool executable = false;
};

// Files by their path from the root, with '/'.
using Tree = std::map<std::string, File>;

// Reads the tree below `root`: regular files, without what .gitignore names, build directories, and
// hidden directories other than .ci.
Result<Tree> read_tree(const std::filesystem::path& root);

// Whether the tree has such a file or directory.
bool exists(const Tree& tree, const std::string& path);

// The paths that .gitignore names from the root: what a build or a run makes.
std::vector<std::string> ignored_paths(const std::string& gitignore);

bool in_directory(std::string_view path, std::string_view directory);
std::string directory_of(const std::string& path);
// Without '.', '..' and a trailing '/'.
std::string normal(const std::filesystem::path& path);
bool is_header(std::string_view path);
bool is_source(std::string_view path);  // A header or a .cc file.

std::vector<std::string> lines_of(const std::string& content);

}  // namespace crashworthy::tidy

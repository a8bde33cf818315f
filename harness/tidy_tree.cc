#include "harness/tidy_tree.h"

#include <algorithm>
#include <sstream>
#include <system_error>

#include "harness/os/file.h"

namespace crashworthy::tidy {

namespace fs = std::filesystem;

namespace {

// A directory whose files are not of the project.
bool is_foreign(const fs::path& directory, const std::string& path,
                const std::vector<std::string>& ignored) {
  const std::string name = directory.filename().string();
  return (name.starts_with('.') && path != ".ci") || fs::exists(directory / "CMakeCache.txt") ||
         std::ranges::find(ignored, path) != ignored.end();
}

}  // namespace

bool in_directory(std::string_view path, std::string_view directory) {
  return path.size() > directory.size() && path.starts_with(directory) &&
         path[directory.size()] == '/';
}

std::string directory_of(const std::string& path) { return fs::path(path).parent_path().string(); }

std::string normal(const fs::path& path) {
  std::string text = path.lexically_normal().generic_string();
  if (text.ends_with('/')) text.pop_back();
  return text;
}

bool is_header(std::string_view path) { return path.ends_with(".h"); }
bool is_source(std::string_view path) { return is_header(path) || path.ends_with(".cc"); }

bool exists(const Tree& tree, const std::string& path) {
  if (path.empty() || path == "." || tree.contains(path)) return true;
  const auto next = tree.lower_bound(path + "/");
  return next != tree.end() && in_directory(next->first, path);
}

std::vector<std::string> lines_of(const std::string& content) {
  std::vector<std::string> lines;
  std::istringstream stream(content);
  for (std::string line; std::getline(stream, line);) lines.push_back(std::move(line));
  return lines;
}

std::vector<std::string> ignored_paths(const std::string& gitignore) {
  std::vector<std::string> paths;
  for (const std::string& line : lines_of(gitignore)) {
    if (line.starts_with('/')) paths.push_back(normal(line.substr(1)));
  }
  return paths;
}

Result<Tree> read_tree(const fs::path& root) {
  const auto rules = read_file(root / ".gitignore");
  const auto ignored = ignored_paths(rules ? *rules : "");
  Tree tree;
  std::error_code error;
  fs::recursive_directory_iterator entry(root, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    const std::string path = normal(entry->path().lexically_relative(root));
    if (entry->is_symlink()) continue;
    if (entry->is_directory()) {
      if (is_foreign(entry->path(), path, ignored)) entry.disable_recursion_pending();
    } else if (entry->is_regular_file() && path != ".git") {
      auto content = read_file(entry->path());
      if (!content) return content.error();
      const auto permissions = entry->status().permissions();
      tree[path] = {std::move(*content), (permissions & fs::perms::owner_exec) != fs::perms::none};
    }
  }
  if (error) return system_error("unable to read the tree " + root.string(), error.value());
  return tree;
}

}  // namespace crashworthy::tidy

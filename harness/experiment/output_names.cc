#include "harness/experiment/output_names.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

bool matches(const std::string& name, const std::vector<std::string>& patterns) {
  return patterns.empty() ||
         std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
           return ::fnmatch(pattern.c_str(), name.c_str(), FNM_PATHNAME | FNM_PERIOD) == 0;
         });
}

// The six characters that mkstemp(3) draws, after a dot: unlike a word, a number or an extension.
bool ends_as_mkstemp(const std::string& base) {
  constexpr std::size_t kDrawn = 6;
  if (base.size() <= kDrawn || base[base.size() - kDrawn - 1] != '.') return false;
  const std::string drawn = base.substr(base.size() - kDrawn);
  bool upper = false, other = false;
  for (const unsigned char c : drawn) {
    if (std::isalnum(c) == 0) return false;
    (std::isupper(c) != 0 ? upper : other) = true;
  }
  return upper && other;
}

bool looks_temporary(const std::string& base) {
  constexpr std::array<const char*, 13> kPatterns{"*~",
                                                  "*.tmp",
                                                  "*.temp",
                                                  "*.part",
                                                  "*.partial",
                                                  "*.swp",
                                                  "*_exiftool_tmp",
                                                  ".nfs?*",
                                                  ".gsf-save-*",
                                                  ".goutputstream-*",
                                                  ".fuse_hidden*",
                                                  "magick-?*",
                                                  "*.crdownload"};
  return std::any_of(
             kPatterns.begin(), kPatterns.end(),
             [&](const char* pattern) { return ::fnmatch(pattern, base.c_str(), 0) == 0; }) ||
         ends_as_mkstemp(base);
}

bool begins_suffix(char c) { return c == '.' || c == '~' || c == '#'; }

// The name of an item before a suffix: all of its prefixes that end where a suffix begins.
bool has_item_before_suffix(const std::string& name, std::size_t base,
                            const std::set<std::string>& items) {
  for (std::size_t at = base + 1; at < name.size(); ++at) {
    if (begins_suffix(name[at]) && items.contains(name.substr(0, at))) return true;
  }
  return false;
}

// The first item that follows "NAME." in order begins so if any does.
bool is_item_without_suffix(const std::string& name, const std::set<std::string>& items) {
  const auto next = items.lower_bound(name + ".");
  return next != items.end() && next->starts_with(name + ".") &&
         next->find('/', name.size()) == std::string::npos;
}

}  // namespace

std::string literal_pattern(const std::string& name) {
  std::string pattern;
  for (const char c : name) {
    if (std::string_view("*?[\\").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

Result<std::vector<std::string>> list_outputs(const fs::path& root,
                                              const std::vector<std::string>& patterns) {
  std::vector<std::string> names;
  std::error_code failure;
  // What the subject made unreadable was not delivered either.
  const auto skip = fs::directory_options::skip_permission_denied;
  for (auto entry = fs::recursive_directory_iterator(root, skip, failure);
       !failure && entry != fs::recursive_directory_iterator(); entry.increment(failure)) {
    if (entry->is_symlink(failure) || !entry->is_regular_file(failure)) continue;
    const std::string name = entry->path().lexically_relative(root).string();
    if (matches(name, patterns)) names.push_back(name);
  }
  if (failure == std::errc::no_such_file_or_directory)
    return names;  // The subject removed it: nothing was delivered.
  if (failure) return system_error("list the outputs in '" + root.string() + "'", failure.value());
  std::sort(names.begin(), names.end());
  return names;
}

bool is_temporary_name(const std::string& name, const std::set<std::string>& items) {
  if (items.contains(name)) return false;
  const std::size_t slash = name.rfind('/');
  const std::size_t base = slash == std::string::npos ? 0 : slash + 1;
  if (looks_temporary(name.substr(base))) return true;
  if (has_item_before_suffix(name, base, items) || is_item_without_suffix(name, items)) return true;
  if (name[base] != '.' && name[base] != '#') return false;
  const std::string shown = name.substr(0, base) + name.substr(base + 1);  // ".x.png", "#x.png#"
  return items.contains(shown) || has_item_before_suffix(shown, base, items);
}

}  // namespace crashworthy

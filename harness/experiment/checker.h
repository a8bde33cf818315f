// The checker: what became of each item, decided from the outputs as they lie on disk, against the
// golden run's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "results/history.h"

namespace crashworthy {

// One item of the harness's own list.
struct Item {
  std::string name;  // Its output, relative to the output directory.
};

// What a fault-free run delivered for an item; empty strings where it delivered nothing (an
// unreadable input).
struct GoldenOutput {
  std::string bytes;    // hash_file()
  std::string content;  // read_contents()
};

// A command that leaves no files has one item: that it ends as the golden run did.
inline constexpr const char* kExitStatusItem = "(exit status)";

struct Golden {
  std::vector<Item> items;
  std::vector<GoldenOutput> outputs;  // One an item.
  std::int64_t duration_ns = 0;
  std::int64_t longest_gap_ns = 0;  // In which nothing was published.
  std::int64_t deliverable() const;
  bool exit_status_only() const { return items.size() == 1 && items[0].name == kExitStatusItem; }
};

// Relative paths of the regular files below `root` that match one of `patterns` (fnmatch with
// FNM_PATHNAME; none: all), sorted. Symbolic links are not followed.
Result<std::vector<std::string>> list_outputs(const std::filesystem::path& root,
                                              const std::vector<std::string>& patterns);

// Reads the outputs of a fault-free run. With `items` given they are the list; otherwise the
// outputs found are.
Result<Golden> read_golden(const std::filesystem::path& root,
                           const std::vector<std::string>& patterns,
                           std::optional<std::vector<Item>> items,
                           const std::filesystem::path& scratch);

struct ItemVerdicts {
  std::vector<ItemClass> classes;                  // One an item.
  std::map<std::size_t, std::int64_t> duplicated;  // Item -> extra outputs with its content.
  std::map<std::size_t, std::string> misplaced;    // Item -> where its content lies instead.
  std::vector<std::string> extra;                  // Outputs that belong to no item.
};

// `inputs`: what the harness itself put there; no outputs unless they are items. `failed`: items
// that the subject reported as failed. `ran_to_end` decides between lost and unfinished.
//
// An item is ok when its content lies under its own name, or, when it does not, under some other
// name (then also misplaced). Wrong content under its own name, its right content nowhere: corrupt.
// Nothing under its name: failed if reported so, else lost or unfinished.
Result<ItemVerdicts> check_outputs(const Golden& golden, const std::filesystem::path& root,
                                   const std::vector<std::string>& patterns,
                                   const std::set<std::string>& inputs,
                                   const std::set<std::uint64_t>& failed, bool ran_to_end,
                                   const std::filesystem::path& scratch);

nlohmann::json to_json(const Golden& golden);

}  // namespace crashworthy

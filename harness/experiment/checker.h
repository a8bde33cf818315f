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

#include "harness/experiment/content.h"
#include "harness/experiment/output_names.h"
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
  std::string content;  // read_content(); of a text with lines that change, with those masked
  std::string type;
  std::string flaw;                       // Why it is not whole, or was not decoded; else empty.
  std::vector<std::size_t> masked_lines;  // Of a text: they change from run to run.
};

// An output whose bytes differ between two fault-free runs, and how it is compared all the same.
struct Canonicalised {
  std::size_t item = 0;
  std::string how;
};

// A command that leaves no files has one item: that it ends as the golden run did.
inline constexpr const char* kExitStatusItem = "(exit status)";

struct Golden {
  std::vector<Item> items;
  std::vector<GoldenOutput> outputs;  // One an item.
  // Files that lay beside the outputs, outside of the patterns; sorted.
  std::vector<std::string> others;
  // Where the golden run's outputs are kept while trials run; empty: they are gone, and a file that
  // stops early counts as torn only where its type tells.
  std::filesystem::path files;
  std::int64_t duration_ns = 0;
  std::vector<std::int64_t> durations_ns;    // Of each golden run.
  std::vector<Canonicalised> canonicalised;  // What agree() found.
  std::vector<std::string> left_out;         // Temporary files of one golden run alone.
  std::int64_t longest_gap_ns = 0;           // In which nothing was published.
  std::int64_t deliverable() const;
  bool exit_status_only() const { return items.size() == 1 && items[0].name == kExitStatusItem; }
};

// Reads the outputs of a fault-free run. With `items` given they are the list; otherwise the
// outputs found are.
Result<Golden> read_golden(const std::filesystem::path& root,
                           const std::vector<std::string>& patterns,
                           std::optional<std::vector<Item>> items,
                           const std::filesystem::path& scratch);

// What lies under an item's name instead of its content.
struct BadOutput {
  std::size_t item = 0;
  ContentState state = ContentState::kWhole;
  std::string difference;  // "no IEND", "the pixels", "the type: text, not png"
};

struct ItemVerdicts {
  std::vector<ItemClass> classes;                  // One an item.
  std::map<std::size_t, std::int64_t> duplicated;  // Item -> extra outputs with its content.
  std::map<std::size_t, std::string> misplaced;    // Item -> where its content lies instead.
  std::vector<std::string> extra;                  // Outputs that belong to no item.
  std::vector<std::string> stale_temporary;        // Files that look unfinished by their names.
  std::vector<BadOutput> bad;                      // Of each item that is corrupt.
};

// `inputs`: what the harness itself put there; no outputs unless they are items. `failed`: items
// that the subject reported as failed. `ran_to_end` decides between lost and unfinished.
//
// An item is ok when its content lies under its own name, or, when it does not, under some other
// name (then also misplaced). Wrong content under its own name, its right content nowhere: corrupt.
// Nothing under its name: failed if reported so, else lost or unfinished. A file with the name of a
// temporary one is never looked at: nobody takes it for an output. Those are counted outside of
// the patterns, too.
Result<ItemVerdicts> check_outputs(const Golden& golden, const std::filesystem::path& root,
                                   const std::vector<std::string>& patterns,
                                   const std::set<std::string>& inputs,
                                   const std::set<std::uint64_t>& failed, bool ran_to_end,
                                   const std::filesystem::path& scratch);

// golden.json, and what of it a trial can be judged by again.
nlohmann::json to_json(const Golden& golden);
Golden golden_from_json(const nlohmann::json& document);

}  // namespace crashworthy

#include "harness/experiment/checker.h"

#include <fnmatch.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/experiment/content.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool matches(const std::string& name, const std::vector<std::string>& patterns) {
  return patterns.empty() ||
         std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
           return ::fnmatch(pattern.c_str(), name.c_str(), FNM_PATHNAME | FNM_PERIOD) == 0;
         });
}

// What lies on disk after a trial, read against the golden outputs: bytes first, canonical content
// only where bytes differ.
struct FoundOutput {
  std::string name;
  std::optional<std::size_t> item;  // The item whose name it has.
  bool right = false;               // The content of that item.
  std::string content;              // Only when not `right`.
};

Result<std::vector<FoundOutput>> read_found(const Golden& golden, const fs::path& root,
                                            const std::vector<std::string>& names,
                                            const fs::path& scratch) {
  std::map<std::string, std::size_t> item_of;
  for (std::size_t i = 0; i < golden.items.size(); ++i) item_of[golden.items[i].name] = i;
  std::vector<FoundOutput> found;
  std::vector<fs::path> unsure;
  for (const std::string& name : names) {
    FoundOutput output{name, std::nullopt, false, {}};
    if (const auto item = item_of.find(name); item != item_of.end()) output.item = item->second;
    auto bytes = hash_file(root / name);
    output.right = output.item && bytes && !golden.outputs[*output.item].bytes.empty() &&
                   *bytes == golden.outputs[*output.item].bytes;
    if (!output.right) unsure.push_back(root / name);
    found.push_back(std::move(output));
  }
  auto contents = read_contents(unsure, scratch);
  if (!contents) return contents.error();
  std::size_t next = 0;
  for (FoundOutput& output : found) {
    if (output.right) continue;
    output.content = (*contents)[next++];
    output.right = output.item && output.content != kUndecodable &&
                   output.content == golden.outputs[*output.item].content;
  }
  return found;
}

// Decides the classes from the outputs found.
class Judge {
 public:
  Judge(const Golden& golden, const std::vector<FoundOutput>& found)
      : golden_(golden), found_(found) {
    for (std::size_t i = 0; i < golden.outputs.size(); ++i) {
      if (!golden.outputs[i].content.empty()) by_content_[golden.outputs[i].content].push_back(i);
    }
  }

  ItemVerdicts run(const std::set<std::uint64_t>& failed, bool ran_to_end) {
    const std::size_t count = golden_.items.size();
    in_place_.assign(count, false);
    wrong_.assign(count, false);
    for (const FoundOutput& output : found_) {
      if (output.item) (output.right ? in_place_ : wrong_)[*output.item] = true;
    }
    for (const FoundOutput& output : found_) {
      if (!output.right) place_stray(output);
    }
    for (std::size_t i = 0; i < count; ++i)
      verdicts_.classes.push_back(classify(i, failed.contains(i), ran_to_end));
    return std::move(verdicts_);
  }

 private:
  // Content under a name that is not its own: of an item that is nowhere else it is the misplaced
  // output, else a duplicate.
  void place_stray(const FoundOutput& output) {
    const auto owners = by_content_.find(output.content);
    if (output.content == kUndecodable || owners == by_content_.end()) {
      if (!output.item) verdicts_.extra.push_back(output.name);
      return;
    }
    for (const std::size_t owner : owners->second) {
      if (in_place_[owner] || verdicts_.misplaced.contains(owner)) continue;
      verdicts_.misplaced[owner] = output.name;
      return;
    }
    ++verdicts_.duplicated[owners->second.front()];
  }

  ItemClass classify(std::size_t item, bool failed, bool ran_to_end) const {
    if (in_place_[item] || verdicts_.misplaced.contains(item)) return ItemClass::kOk;
    if (wrong_[item]) return ItemClass::kCorrupt;
    if (failed) return ItemClass::kFailed;
    return ran_to_end ? ItemClass::kLost : ItemClass::kUnfinished;
  }

  const Golden& golden_;
  const std::vector<FoundOutput>& found_;
  std::map<std::string, std::vector<std::size_t>> by_content_;
  std::vector<bool> in_place_;
  std::vector<bool> wrong_;
  ItemVerdicts verdicts_;
};

}  // namespace

std::int64_t Golden::deliverable() const {
  return std::count_if(outputs.begin(), outputs.end(),
                       [](const GoldenOutput& output) { return !output.bytes.empty(); });
}

Result<std::vector<std::string>> list_outputs(const fs::path& root,
                                              const std::vector<std::string>& patterns) {
  std::vector<std::string> names;
  std::error_code failure;
  for (auto entry = fs::recursive_directory_iterator(root, failure);
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

Result<Golden> read_golden(const fs::path& root, const std::vector<std::string>& patterns,
                           std::optional<std::vector<Item>> items, const fs::path& scratch) {
  Golden golden;
  auto listed = list_outputs(root, patterns);
  if (!listed) return listed.error();
  const std::vector<std::string>& names = *listed;
  if (items) {
    golden.items = *std::move(items);
  } else {
    for (const std::string& name : names) golden.items.push_back({name});
  }
  golden.outputs.resize(golden.items.size());
  std::vector<fs::path> files;
  std::vector<std::size_t> owners;
  for (std::size_t i = 0; i < golden.items.size(); ++i) {
    if (!std::binary_search(names.begin(), names.end(), golden.items[i].name)) continue;
    files.push_back(root / golden.items[i].name);
    owners.push_back(i);
  }
  auto contents = read_contents(files, scratch);
  if (!contents) return contents.error();
  for (std::size_t k = 0; k < files.size(); ++k) {
    auto bytes = hash_file(files[k]);
    if (!bytes) return bytes.error();
    golden.outputs[owners[k]] = {*bytes, (*contents)[k]};
  }
  return golden;
}

Result<ItemVerdicts> check_outputs(const Golden& golden, const fs::path& root,
                                   const std::vector<std::string>& patterns,
                                   const std::set<std::string>& inputs,
                                   const std::set<std::uint64_t>& failed, bool ran_to_end,
                                   const fs::path& scratch) {
  auto names = list_outputs(root, patterns);
  if (!names) return names.error();
  std::set<std::string> items;
  for (const Item& item : golden.items) items.insert(item.name);
  std::erase_if(*names, [&](const std::string& name) {
    return inputs.contains(name) && !items.contains(name);
  });
  auto found = read_found(golden, root, *names, scratch);
  if (!found) return found.error();
  return Judge(golden, *found).run(failed, ran_to_end);
}

json to_json(const Golden& golden) {
  json items = json::array();
  for (std::size_t i = 0; i < golden.items.size(); ++i) {
    items.push_back({{"item", i},
                     {"name", golden.items[i].name},
                     {"bytes", golden.outputs[i].bytes},
                     {"content", golden.outputs[i].content}});
  }
  return {{"schema", kSchemaVersion},
          {"duration_ns", golden.duration_ns},
          {"longest_gap_ns", golden.longest_gap_ns},
          {"deliverable", golden.deliverable()},
          {"items", items}};
}

}  // namespace crashworthy

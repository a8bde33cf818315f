#include "harness/experiment/checker.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/experiment/content_reader.h"
#include "harness/experiment/text_mask.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// What lies on disk after a trial, read against the golden outputs: bytes first, content only where
// bytes differ.
struct FoundOutput {
  std::string name;
  std::optional<std::size_t> item;  // The item whose name it has.
  bool right = false;               // The content of that item.
  // Only when not `right`:
  Content content;
  std::vector<std::string> says;  // All that it may be taken for: with lines masked, and without.
};

// Reads what was found, and compares each with the item whose name it has.
class Reader {
 public:
  Reader(const Golden& golden, const fs::path& root, const fs::path& scratch)
      : golden_(golden), root_(root), scratch_(scratch) {
    for (std::size_t i = 0; i < golden.items.size(); ++i) item_of_[golden.items[i].name] = i;
    for (const GoldenOutput& output : golden.outputs) {
      if (!output.masked_lines.empty()) masks_.insert(output.masked_lines);
    }
  }

  Result<std::vector<FoundOutput>> run(const std::vector<std::string>& names) {
    std::vector<FoundOutput> found;
    std::vector<fs::path> unsure;
    for (const std::string& name : names) {
      FoundOutput output;
      output.name = name;
      if (const auto item = item_of_.find(name); item != item_of_.end()) output.item = item->second;
      auto bytes = hash_file(root_ / name);
      output.right = output.item && bytes && *bytes == golden_.outputs[*output.item].bytes;
      if (!output.right) unsure.push_back(root_ / name);
      found.push_back(std::move(output));
    }
    auto contents = read_contents(unsure, scratch_);
    if (!contents) return contents.error();
    std::size_t next = 0;
    for (FoundOutput& output : found) {
      if (output.right) continue;
      output.content = std::move((*contents)[next++]);
      compare(output);
    }
    return found;
  }

 private:
  void compare(FoundOutput& output) const {
    if (output.content.state == ContentState::kEmpty) return;  // It says nothing.
    output.says.push_back(output.content.canonical);
    std::string text;
    if (output.content.type == "text" && !masks_.empty()) {
      if (auto read = read_file(root_ / output.name)) text = *std::move(read);
      for (const auto& lines : masks_)
        output.says.push_back("text:" + hash_bytes(mask_lines(text, lines)));
    }
    if (!output.item) return;
    const GoldenOutput& golden = golden_.outputs[*output.item];
    output.right = !golden.content.empty() && std::find(output.says.begin(), output.says.end(),
                                                        golden.content) != output.says.end();
    if (!output.right && stops_early(output, golden, text))
      output.content.state = ContentState::kTorn;
  }

  // Text and unknown types have no end of their own: there it is the right file that tells.
  bool stops_early(FoundOutput& output, const GoldenOutput& golden, const std::string& text) const {
    if (golden_.files.empty() || output.content.state == ContentState::kTorn) return false;
    const fs::path right = golden_.files / output.name;
    bool early = is_beginning_of(root_ / output.name, right);
    if (!early && !golden.masked_lines.empty() && !text.empty()) {
      auto whole = read_file(right);
      early = whole && mask_lines(*whole, golden.masked_lines)
                           .starts_with(mask_lines(text, golden.masked_lines));
    }
    if (early) output.content.why = "it stops where the right file goes on";
    return early;
  }

  const Golden& golden_;
  const fs::path& root_;
  const fs::path& scratch_;
  std::map<std::string, std::size_t> item_of_;
  std::set<std::vector<std::size_t>> masks_;
};

// "pixels:640x480:8" of "pixels:640x480:8:HASH".
std::string kind_of(const std::string& content) { return content.substr(0, content.rfind(':')); }

// In what a whole output differs from the right one.
std::string difference(const GoldenOutput& golden, const Content& found) {
  if (golden.content.empty()) return "the golden run delivered nothing here";
  if (golden.type != found.type) return "the type: " + found.type + ", not " + golden.type;
  const std::string right = kind_of(golden.content), wrong = kind_of(found.canonical);
  if (found.type == "text") return "the text";
  if (right != wrong) return "the kind: " + wrong + ", not " + right;
  return "the " + right.substr(0, right.find(':'));
}

// Decides the classes from the outputs found.
class Judge {
 public:
  Judge(const Golden& golden, const std::vector<FoundOutput>& found)
      : golden_(golden), found_(found) {
    const std::string nothing = hash_bytes({});
    for (std::size_t i = 0; i < golden.outputs.size(); ++i) {
      const GoldenOutput& output = golden.outputs[i];
      // Empty files are all alike: one elsewhere is no trace of this item.
      if (!output.content.empty() && output.bytes != nothing)
        by_content_[output.content].push_back(i);
    }
  }

  ItemVerdicts run(const std::set<std::uint64_t>& failed, bool ran_to_end) {
    const std::size_t count = golden_.items.size();
    in_place_.assign(count, false);
    wrong_.assign(count, nullptr);
    for (const FoundOutput& output : found_) {
      if (!output.item) continue;
      if (output.right) in_place_[*output.item] = true;
      if (!output.right) wrong_[*output.item] = &output;
    }
    for (const FoundOutput& output : found_) {
      if (!output.right) place_stray(output);
    }
    for (std::size_t i = 0; i < count; ++i) {
      verdicts_.classes.push_back(classify(i, failed.contains(i), ran_to_end));
      if (verdicts_.classes.back() == ItemClass::kCorrupt) describe(i);
    }
    return std::move(verdicts_);
  }

 private:
  const std::vector<std::size_t>* owners_of(const FoundOutput& output) const {
    for (const std::string& says : output.says) {
      if (const auto found = by_content_.find(says); found != by_content_.end())
        return &found->second;
    }
    return nullptr;
  }

  // Content under a name that is not its own: of an item that is nowhere else it is the misplaced
  // output, else a duplicate.
  void place_stray(const FoundOutput& output) {
    const std::vector<std::size_t>* owners = owners_of(output);
    if (owners == nullptr) {
      if (!output.item) verdicts_.extra.push_back(output.name);
      return;
    }
    for (const std::size_t owner : *owners) {
      if (in_place_[owner] || verdicts_.misplaced.contains(owner)) continue;
      verdicts_.misplaced[owner] = output.name;
      return;
    }
    ++verdicts_.duplicated[owners->front()];
  }

  ItemClass classify(std::size_t item, bool failed, bool ran_to_end) const {
    if (in_place_[item] || verdicts_.misplaced.contains(item)) return ItemClass::kOk;
    if (wrong_[item] != nullptr) return ItemClass::kCorrupt;
    if (failed) return ItemClass::kFailed;
    return ran_to_end ? ItemClass::kLost : ItemClass::kUnfinished;
  }

  void describe(std::size_t item) {
    const FoundOutput& output = *wrong_[item];
    BadOutput bad{item, output.content.state, output.content.why};
    const std::vector<std::size_t>* owners = owners_of(output);
    if (owners != nullptr) {
      bad.difference = "it has the content of '" + golden_.items[owners->front()].name + "'";
    } else if (bad.state == ContentState::kWhole) {
      bad.difference = difference(golden_.outputs[item], output.content);
    }
    verdicts_.bad.push_back(std::move(bad));
  }

  const Golden& golden_;
  const std::vector<FoundOutput>& found_;
  std::map<std::string, std::vector<std::size_t>> by_content_;
  std::vector<bool> in_place_;
  std::vector<const FoundOutput*> wrong_;
  ItemVerdicts verdicts_;
};

std::set<std::string> names_of(const Golden& golden) {
  std::set<std::string> names;
  for (const Item& item : golden.items) names.insert(item.name);
  return names;
}

}  // namespace

std::int64_t Golden::deliverable() const {
  return std::count_if(outputs.begin(), outputs.end(),
                       [](const GoldenOutput& output) { return !output.bytes.empty(); });
}

Result<Golden> read_golden(const fs::path& root, const std::vector<std::string>& patterns,
                           std::optional<std::vector<Item>> items, const fs::path& scratch) {
  Golden golden;
  auto listed = list_outputs(root, patterns);
  if (!listed) return listed.error();
  const std::vector<std::string>& names = *listed;
  auto all = list_outputs(root, {});
  if (!all) return all.error();
  std::set_difference(all->begin(), all->end(), names.begin(), names.end(),
                      std::back_inserter(golden.others));
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
    const Content& content = (*contents)[k];
    golden.outputs[owners[k]] = {*bytes, content.canonical, content.type, content.why, {}};
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
  auto all = list_outputs(root, {});
  if (!all) return all.error();
  const std::set<std::string> items = names_of(golden);
  std::vector<std::string> temporary;
  for (const std::string& name : *all) {
    const bool known = inputs.contains(name) ||
                       std::binary_search(golden.others.begin(), golden.others.end(), name);
    if (!known && is_temporary_name(name, items)) temporary.push_back(name);
  }
  std::erase_if(*names, [&](const std::string& name) {
    return std::binary_search(temporary.begin(), temporary.end(), name) ||
           (inputs.contains(name) && !items.contains(name));
  });
  auto found = Reader(golden, root, scratch).run(*names);
  if (!found) return found.error();
  ItemVerdicts verdicts = Judge(golden, *found).run(failed, ran_to_end);
  verdicts.stale_temporary = std::move(temporary);
  return verdicts;
}

json to_json(const Golden& golden) {
  json items = json::array();
  for (std::size_t i = 0; i < golden.items.size(); ++i) {
    const GoldenOutput& output = golden.outputs[i];
    json item{{"item", i},
              {"name", golden.items[i].name},
              {"bytes", output.bytes},
              {"content", output.content},
              {"type", output.type}};
    if (!output.flaw.empty()) item["flaw"] = output.flaw;
    if (!output.masked_lines.empty()) item["masked_lines"] = output.masked_lines;
    items.push_back(std::move(item));
  }
  json canonicalised = json::array();
  for (const Canonicalised& output : golden.canonicalised) {
    canonicalised.push_back(
        {{"item", output.item}, {"name", golden.items[output.item].name}, {"how", output.how}});
  }
  return {{"schema", kSchemaVersion},
          {"duration_ns", golden.duration_ns},
          {"durations_ns", golden.durations_ns},
          {"longest_gap_ns", golden.longest_gap_ns},
          {"deliverable", golden.deliverable()},
          {"canonicalised", canonicalised},
          {"left_out", golden.left_out},
          {"others", golden.others},
          {"items", items}};
}

Golden golden_from_json(const json& document) {
  Golden golden;
  golden.duration_ns = document.value("duration_ns", std::int64_t{0});
  golden.longest_gap_ns = document.value("longest_gap_ns", golden.duration_ns);
  golden.others = document.value("others", std::vector<std::string>());
  for (const json& item : document.value("items", json::array())) {
    golden.items.push_back({item.value("name", "")});
    golden.outputs.push_back({item.value("bytes", ""), item.value("content", ""),
                              item.value("type", ""), item.value("flaw", ""),
                              item.value("masked_lines", std::vector<std::size_t>())});
  }
  return golden;
}

}  // namespace crashworthy

#include "pipelines/each/items.h"

#include <algorithm>
#include <climits>
#include <utility>

#include "harness/os/file.h"

namespace crashworthy::each {
namespace {

constexpr const char* kInputMark = "{}";
constexpr const char* kOutputMark = "{out}";

}  // namespace

Result<std::vector<Item>> read_list(const std::filesystem::path& list) {
  auto text = read_file(list);
  if (!text) return usage_error(text.error().message, "name a list of items with --list");
  std::vector<Item> items;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t end = std::min(text->find('\n', at), text->size());
    const std::string line = text->substr(at, end - at);
    at = end + 1;
    const std::size_t tab = line.find('\t');
    if (tab == 0 || tab == std::string::npos || tab + 1 == line.size()) {
      return usage_error("line " + std::to_string(items.size() + 1) + " of '" + list.string() +
                         "' is not INPUT<TAB>OUTPUT");
    }
    items.push_back({line.substr(0, tab), line.substr(tab + 1)});
  }
  if (items.empty()) return usage_error("no items in '" + list.string() + "'");
  return items;
}

std::vector<std::string> fill_in(const std::vector<std::string>& words, const std::string& input,
                                 const std::string& output) {
  std::vector<std::string> filled;
  for (const std::string& word : words) {
    std::string result;
    for (std::size_t at = 0; at < word.size();) {
      if (word.compare(at, 2, kInputMark) == 0) {
        result += input;
        at += 2;
      } else if (word.compare(at, 5, kOutputMark) == 0) {
        result += output;
        at += 5;
      } else {
        result += word[at++];
      }
    }
    filled.push_back(std::move(result));
  }
  return filled;
}

bool names_output(const std::vector<std::string>& words) {
  return std::any_of(words.begin(), words.end(), [](const std::string& word) {
    return word.find(kOutputMark) != std::string::npos;
  });
}

std::string temporary_name(const std::string& output, std::uint64_t item, std::uint32_t attempt) {
  const std::filesystem::path path(output);
  const std::string mark = ".each-" + std::to_string(item) + "-" + std::to_string(attempt) + "-";
  // A long name is cut in front: programs look at its end for what they shall write.
  std::string name = path.filename().string();
  if (mark.size() + name.size() > NAME_MAX) name.erase(0, mark.size() + name.size() - NAME_MAX);
  return (path.parent_path() / (mark + name)).string();
}

}  // namespace crashworthy::each

#include "pipelines/tiles/items.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "harness/os/file.h"
#include "pipelines/tiles/output_directory.h"

namespace crashworthy::tiles {
namespace {

namespace fs = std::filesystem;

std::string lower_extension(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension;
}

bool is_image_name(const fs::path& path) {
  constexpr std::array<std::string_view, 8> kExtensions = {".png",  ".jpg",  ".jpeg", ".tif",
                                                           ".tiff", ".webp", ".ppm",  ".pgm"};
  const std::string extension = lower_extension(path);
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

std::optional<OutputFormat> format_of_name(const std::string& name) {
  const std::string extension = lower_extension(name);
  if (extension == ".png") return OutputFormat::kPng;
  if (extension == ".jpg" || extension == ".jpeg") return OutputFormat::kJpeg;
  if (extension == ".ppm") return OutputFormat::kPpm;
  return std::nullopt;
}

Result<void> check_name(const std::string& name) {
  if (name.empty()) return usage_error("the output name is empty");
  if (name == "." || name == ".." || name.find('/') != std::string::npos) {
    return usage_error("the output name '" + name + "' is not a plain file name",
                       "outputs lie directly in the output directory");
  }
  if (name.starts_with(kTemporaryPrefix)) {
    return usage_error("the output name '" + name + "' is one of our temporary files");
  }
  return {};
}

Result<Item> parse_line(const std::string& line, OutputFormat standard) {
  const std::size_t tab = line.find('\t');
  if (tab == std::string::npos) {
    return usage_error("there is no tab between the input and the output name");
  }
  Item item{line.substr(0, tab), line.substr(tab + 1), standard};
  if (item.input.empty()) return usage_error("the input is empty");
  if (auto good = check_name(item.output); !good) return good.error();
  item.format = format_of_name(item.output).value_or(standard);
  return item;
}

// The images of a directory; a file is itself, and so is what does not exist: reading it will tell.
Result<std::vector<fs::path>> expand(const fs::path& path) {
  std::error_code failure;
  if (!fs::is_directory(path, failure)) return std::vector<fs::path>{path};
  std::vector<fs::path> found;
  for (auto entry = fs::directory_iterator(path, failure);
       !failure && entry != fs::directory_iterator(); entry.increment(failure)) {
    std::error_code ignored;
    if (is_image_name(entry->path()) && !entry->is_directory(ignored)) {
      found.push_back(entry->path());
    }
  }
  if (failure) {
    return usage_error("unable to list directory '" + path.string() + "': " + failure.message());
  }
  if (found.empty()) {
    return usage_error("no images in directory '" + path.string() + "'",
                       "it must hold .png, .jpg, .tif, .webp, .ppm or .pgm files");
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string free_name(const fs::path& input, OutputFormat format,
                      const std::set<std::string>& taken) {
  const std::string stem = input.stem().string();
  std::string name = stem + std::string(format_extension(format));
  for (int i = 2; taken.contains(name); ++i) {
    name = stem + "-" + std::to_string(i) + std::string(format_extension(format));
  }
  return name;
}

}  // namespace

std::string_view format_extension(OutputFormat format) {
  constexpr std::array<std::string_view, 3> kExtensions = {".png", ".jpg", ".ppm"};
  return kExtensions[static_cast<std::size_t>(format)];
}

Result<std::vector<Item>> read_list(const fs::path& list, OutputFormat standard) {
  auto text = read_file(list);
  if (!text) return usage_error("unable to read the list: " + text.error().message);
  std::vector<Item> items;
  std::set<std::string> taken;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t end = std::min(text->find('\n', at), text->size());
    auto item = parse_line(text->substr(at, end - at), standard);
    const std::string place =
        "list '" + list.string() + "', line " + std::to_string(items.size() + 1);
    if (!item) return item.error().with_context(place);
    if (!taken.insert(item->output).second) {
      return usage_error(place + ": the output name '" + item->output + "' is used twice");
    }
    items.push_back(*std::move(item));
    at = end + 1;
  }
  if (items.empty()) return usage_error("the list '" + list.string() + "' is empty");
  return items;
}

Result<std::vector<Item>> find_items(const std::vector<std::string>& paths, OutputFormat format) {
  std::vector<Item> items;
  std::set<std::string> taken;
  for (const std::string& path : paths) {
    auto inputs = expand(path);
    if (!inputs) return inputs.error();
    for (const fs::path& input : *inputs) {
      Item item{input, free_name(input, format, taken), format};
      if (auto good = check_name(item.output); !good) return good.error();
      taken.insert(item.output);
      items.push_back(std::move(item));
    }
  }
  return items;
}

}  // namespace crashworthy::tiles

// The items of a run: which images, and under which names their results go.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/result.h"
#include "pipelines/tiles/settings.h"

namespace crashworthy::tiles {

// ".png", ".jpg", ".ppm".
std::string_view format_extension(OutputFormat format);

// The items of a list file: a line each, "INPUT<TAB>OUTPUT-NAME"; the number of the line, from 0,
// is the item's index. A name that ends in .png, .jpg, .jpeg or .ppm has that format, others have
// `standard`. Whether an input exists is not looked at: an unreadable one is a failed item. A
// mistake, an empty list, and a name that is used twice or is not a plain file name are kUsage
// errors; a list that cannot be read is one too.
Result<std::vector<Item>> read_list(const std::filesystem::path& list, OutputFormat standard);

// The items of files and directories; of a directory its images (by extension), sorted, without
// those of its directories. The output's name is the input's with the extension of `format`, and a
// number where two inputs would get the same. Nothing found is a kUsage error.
Result<std::vector<Item>> find_items(const std::vector<std::string>& paths, OutputFormat format);

}  // namespace crashworthy::tiles

// Which files are outputs, and which look like what a program leaves when it did not come to its
// end.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

// What fnmatch(3) and glob(3) match with this name alone.
std::string literal_pattern(const std::string& name);

// Relative paths of the regular files below `root` that match one of `patterns` (fnmatch with
// FNM_PATHNAME; none: all), sorted. Symbolic links are not followed.
Result<std::vector<std::string>> list_outputs(const std::filesystem::path& root,
                                              const std::vector<std::string>& patterns);

// True for names that programs give to files that they have not finished: x.tmp, x~, x.Ab3dE9,
// x_exiftool_tmp, .gsf-save-*, .nfs*; and for the name of an item with something after or before
// it: x.png.1, .x.png.part, x. Never for an item itself. Names are relative paths.
bool is_temporary_name(const std::string& name, const std::set<std::string>& items);

}  // namespace crashworthy

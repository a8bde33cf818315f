// Reading outputs without trusting them.
#pragma once

#include <filesystem>
#include <vector>

#include "harness/experiment/content.h"

namespace crashworthy {

// Reads files by a helper process of its own, so that a hostile file can harm only the helper: one
// that makes it crash, or takes it over its bounds of time and memory, is damaged. In order of
// `files`. Fails for what is no fault of the files.
Result<std::vector<Content>> read_contents(const std::vector<std::filesystem::path>& files,
                                           const std::filesystem::path& scratch);

}  // namespace crashworthy

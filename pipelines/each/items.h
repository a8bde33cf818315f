// The items of a run, and how a command is told of one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "pipelines/each/settings.h"

namespace crashworthy::each {

// The items of a list file: a line each, "INPUT<TAB>OUTPUT"; the number of the line, from 0, is the
// item's index. A mistake, and an empty list, are kUsage errors.
Result<std::vector<Item>> read_list(const std::filesystem::path& list);

// The words with each `{}` replaced by `input` and each `{out}` by `output`.
std::vector<std::string> fill_in(const std::vector<std::string>& words, const std::string& input,
                                 const std::string& output);

// Whether a word has `{out}`.
bool names_output(const std::vector<std::string>& words);

// Where an attempt writes, to be renamed: beside the output, hidden, with the same extension, from
// which programs take the format.
std::string temporary_name(const std::string& output, std::uint64_t item, std::uint32_t attempt);

}  // namespace crashworthy::each

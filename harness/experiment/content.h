// What an output contains: its bytes, and where bytes differ for no reason (a date in a PNG) its
// canonical content.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

// XXH3-128 of the file's bytes, in hexadecimal. Not cryptographic: the subject is under test, not
// an attacker.
Result<std::string> hash_file(const std::filesystem::path& path);

// Canonical content by a helper process of its own, so that a damaged file can crash only the
// helper: "pixels:..." for what decodes as an image, "bytes:..." for anything else, "undecodable"
// for an image that does not decode. In order of `files`.
Result<std::vector<std::string>> read_contents(const std::vector<std::filesystem::path>& files,
                                               const std::filesystem::path& scratch);

inline constexpr const char* kUndecodable = "undecodable";

}  // namespace crashworthy

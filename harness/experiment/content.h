// What an output contains: its bytes, and where bytes differ for no reason (a date in a PNG) its
// canonical content; and whether it is whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

// How far up the ladder of its type a file came: something in it, its signature, its end, a decode
// without an error or a warning.
enum class ContentState {
  kWhole,
  kEmpty,   // No bytes at all.
  kTorn,    // It stops before its end.
  kDamaged  // It has its end, and does not decode without an error or a warning.
};
inline constexpr std::size_t kContentStateCount = 4;
const char* content_state_name(ContentState state);

struct Content {
  ContentState state = ContentState::kWhole;
  std::string type;  // "png", "jpeg", "webp", "tiff", "bmp", "pnm", "pdf", "mp4", "matroska",
                     // "avi", "text", "any"
  // Equal for two files exactly when they say the same: "pixels:...", "pages:...", "frames:..."; in
  // all other cases, and whenever the file is not whole, "bytes:...".
  std::string canonical;
  std::string why;  // Why it is not whole, or why only its bytes can be compared; else empty.
};

// XXH3-128 of the file's bytes, in hexadecimal. Not cryptographic: the subject is under test, not
// an attacker.
Result<std::string> hash_file(const std::filesystem::path& path);
std::string hash_bytes(std::string_view bytes);

// True when `part` is not empty, and `whole` begins with it and goes on. False when one of them
// cannot be read.
bool is_beginning_of(const std::filesystem::path& part, const std::filesystem::path& whole);

}  // namespace crashworthy

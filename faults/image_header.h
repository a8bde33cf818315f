// The size that an image file claims to have.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace crashworthy {

// `file` with `pixels` as the width and the height in its header, all else as it was: PNG (with the
// right checksum), JPEG, BMP and PNM. Empty for other types, for damaged headers, and for a size
// that the type cannot express.
std::optional<std::string> with_image_size(std::string file, std::uint32_t pixels);

}  // namespace crashworthy

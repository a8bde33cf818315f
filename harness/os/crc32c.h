// CRC-32C (Castagnoli): the checksum of our stores on disk. crc32c("123456789") is 0xe3069283.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crashworthy {

std::uint32_t crc32c(const void* data, std::size_t size);

}  // namespace crashworthy

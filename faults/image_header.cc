#include "faults/image_header.h"

#include <cctype>
#include <string_view>

namespace crashworthy {
namespace {

using Changed = std::optional<std::string>;

unsigned byte_at(const std::string& file, std::size_t at) {
  return static_cast<unsigned char>(file[at]);
}

void put_big_endian(std::string& file, std::size_t at, std::uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i)
    file[at + static_cast<std::size_t>(i)] = static_cast<char>(value >> (8 * (bytes - 1 - i)));
}

void put_little_endian(std::string& file, std::size_t at, std::uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i)
    file[at + static_cast<std::size_t>(i)] = static_cast<char>(value >> (8 * i));
}

// Of zlib and PNG, bit by bit: it is for a few bytes.
std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
  }
  return ~crc;
}

// Signature of 8 bytes; length, "IHDR", width, height, 5 more; checksum of the chunk from its name.
Changed png(std::string file, std::uint32_t pixels) {
  constexpr std::size_t kName = 12;
  constexpr std::size_t kCrc = 29;
  if (file.size() < kCrc + 4 || file.compare(kName, 4, "IHDR") != 0 || pixels > 0x7fffffffu)
    return std::nullopt;
  put_big_endian(file, kName + 4, pixels, 4);
  put_big_endian(file, kName + 8, pixels, 4);
  put_big_endian(file, kCrc, crc32(std::string_view(file).substr(kName, kCrc - kName)), 4);
  return file;
}

// Segments of a marker and a length; the frame header (SOF) has precision, height, width.
Changed jpeg(std::string file, std::uint32_t pixels) {
  if (pixels > 0xffff) return std::nullopt;
  for (std::size_t at = 2; at + 9 <= file.size() && byte_at(file, at) == 0xff;) {
    const unsigned marker = byte_at(file, at + 1);
    if (marker == 0xff) {  // Padding.
      ++at;
      continue;
    }
    const bool frame =
        marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (frame) {
      put_big_endian(file, at + 5, pixels, 2);
      put_big_endian(file, at + 7, pixels, 2);
      return file;
    }
    if (marker == 0xda) return std::nullopt;  // The picture itself: there was no frame header.
    at += 2 + (byte_at(file, at + 2) << 8 | byte_at(file, at + 3));
  }
  return std::nullopt;
}

Changed bmp(std::string file, std::uint32_t pixels) {
  constexpr std::size_t kSize = 14;  // Of the information header, 12 in its oldest form.
  if (file.size() < kSize + 12) return std::nullopt;
  const bool old = byte_at(file, kSize) == 12 && byte_at(file, kSize + 1) == 0;
  if (pixels > (old ? 0xffffu : 0x7fffffffu)) return std::nullopt;
  const int bytes = old ? 2 : 4;
  put_little_endian(file, kSize + 4, pixels, bytes);
  put_little_endian(file, kSize + 4 + static_cast<std::size_t>(bytes), pixels, bytes);
  return file;
}

// "P6", width, height, ..., in digits, with white space and comments between them.
Changed pnm(std::string file, std::uint32_t pixels) {
  const std::string digits = std::to_string(pixels);
  const auto is_space = [&](std::size_t i) { return std::isspace(byte_at(file, i)) != 0; };
  const auto is_digit = [&](std::size_t i) { return std::isdigit(byte_at(file, i)) != 0; };
  std::size_t at = 2;
  for (int field = 0; field < 2; ++field) {
    while (at < file.size() && (is_space(at) || file[at] == '#')) {
      at = file[at] == '#' ? file.find('\n', at) : at + 1;
    }
    std::size_t end = at;
    while (end < file.size() && is_digit(end)) ++end;
    if (end == at || at >= file.size()) return std::nullopt;
    file.replace(at, end - at, digits);
    at += digits.size();
  }
  return file;
}

}  // namespace

Changed with_image_size(std::string file, std::uint32_t pixels) {
  const std::string_view bytes = file;
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return png(std::move(file), pixels);
  if (bytes.starts_with("\xff\xd8\xff")) return jpeg(std::move(file), pixels);
  if (bytes.starts_with("BM")) return bmp(std::move(file), pixels);
  if (bytes.size() > 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6')
    return pnm(std::move(file), pixels);
  return std::nullopt;
}

}  // namespace crashworthy

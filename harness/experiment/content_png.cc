// PNG: every chunk whole with its right checksum, IEND the last, and a decode by libpng in which a
// warning about the picture is an error.
#include <png.h>

#include <array>
#include <csetjmp>
#include <cstring>
#include <memory>

#include "harness/experiment/content_ladder.h"

namespace crashworthy::content {
namespace {

constexpr std::size_t kSignature = 8;
constexpr std::size_t kChunkFrame = 12;  // Length, name and checksum.

std::uint32_t crc_of(std::string_view bytes) {
  static const auto kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t n = 0; n < table.size(); ++n) {
      std::uint32_t value = n;
      for (int bit = 0; bit < 8; ++bit)
        value = (value & 1u) != 0 ? 0xedb88320u ^ (value >> 1) : value >> 1;
      table[n] = value;
    }
    return table;
  }();
  std::uint32_t crc = 0xffffffffu;
  for (const char c : bytes)
    crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 0xffu] ^ (crc >> 8);
  return ~crc;
}

std::string printable(std::string_view name) {
  for (const char c : name) {
    if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z')) return "that has no name";
  }
  return std::string(name);
}

Rung check_chunks(std::string_view bytes) {
  for (std::size_t at = kSignature; at < bytes.size();) {
    if (bytes.size() - at < kChunkFrame) return Rung::torn("it ends inside a chunk's frame");
    const std::uint64_t length = big_endian(bytes, at, 4);
    const std::string name = printable(bytes.substr(at + 4, 4));
    if (length > 0x7fffffffu) return Rung::damaged("a chunk " + name + " of impossible length");
    if (length > bytes.size() - at - kChunkFrame)
      return Rung::torn("it ends inside the chunk " + name);
    const std::size_t size = static_cast<std::size_t>(length);
    if (crc_of(bytes.substr(at + 4, size + 4)) != big_endian(bytes, at + 8 + size, 4))
      return Rung::damaged("wrong checksum of the chunk " + name);
    at += size + kChunkFrame;
    if (name == "IEND")
      return at == bytes.size() ? Rung{} : Rung::damaged("something follows its end");
  }
  return Rung::torn("no IEND");
}

// All of one decode, so that longjmp() passes over no destructor.
struct Decoder {
  std::string_view bytes;
  std::size_t at = 0;
  std::string message;
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::vector<png_byte> pixels;
  std::vector<png_bytep> rows;
  png_uint_32 width = 0, height = 0;
  bool wide = false;  // 16 bits a channel.

  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }
};

[[noreturn]] void fail(png_structp png, png_const_charp message) {
  static_cast<Decoder*>(png_get_error_ptr(png))->message = message;
  std::longjmp(png_jmpbuf(png), 1);
}

void read_bytes(png_structp png, png_bytep target, std::size_t size) {
  auto* decoder = static_cast<Decoder*>(png_get_io_ptr(png));
  if (size > decoder->bytes.size() - decoder->at) fail(png, "read error");
  std::memcpy(target, decoder->bytes.data() + decoder->at, size);
  decoder->at += size;
}

// Chunks about the picture are nothing of it: a colour profile that libpng dislikes is no damage.
void ignore_descriptions(png_structp png) {
  static constexpr png_byte kNames[] =
      "bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0"
      "tIME\0zTXt";
  png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, kNames, sizeof kNames / 5);
}

void ask_for_rgba(Decoder& decoder) {
  png_set_expand(decoder.png);
  png_set_gray_to_rgb(decoder.png);
  png_set_add_alpha(decoder.png, decoder.wide ? 0xffff : 0xff, PNG_FILLER_AFTER);
  if (decoder.wide) png_set_swap(decoder.png);  // Little-endian, as our machines are.
  png_set_interlace_handling(decoder.png);
  png_read_update_info(decoder.png, decoder.info);
}

// False after an error, with its message. Nothing in here may have a destructor.
bool decode(Decoder& decoder) {
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
  png_set_read_fn(decoder.png, &decoder, read_bytes);
  png_set_user_limits(decoder.png, 0x7fffffff, 0x7fffffff);
  ignore_descriptions(decoder.png);
  png_read_info(decoder.png, decoder.info);
  decoder.width = png_get_image_width(decoder.png, decoder.info);
  decoder.height = png_get_image_height(decoder.png, decoder.info);
  decoder.wide = png_get_bit_depth(decoder.png, decoder.info) == 16;
  if (std::uint64_t{decoder.width} * decoder.height > kMaxPixels) return true;
  ask_for_rgba(decoder);
  const std::size_t stride = png_get_rowbytes(decoder.png, decoder.info);
  decoder.pixels.resize(stride * decoder.height);
  decoder.rows.resize(decoder.height);
  for (png_uint_32 y = 0; y < decoder.height; ++y)
    decoder.rows[y] = decoder.pixels.data() + stride * y;
  png_read_image(decoder.png, decoder.rows.data());
  png_read_end(decoder.png, nullptr);
  return true;
}

}  // namespace

Rung climb_png(std::string_view bytes) {
  if (Rung chunks = check_chunks(bytes); !chunks.whole()) return chunks;
  Decoder decoder;
  decoder.bytes = bytes;
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, fail, fail);
  if (decoder.png == nullptr) return Rung::undecoded("not decoded: libpng does not start");
  decoder.info = png_create_info_struct(decoder.png);
  if (decoder.info == nullptr) return Rung::undecoded("not decoded: libpng does not start");
  if (!decode(decoder)) return Rung::damaged("libpng: " + decoder.message);
  if (decoder.rows.empty()) return Rung::undecoded("not decoded: it has too many pixels");
  PixelHash hash(decoder.width, decoder.height, decoder.wide ? "16" : "8");
  hash.add(decoder.pixels.data(), decoder.pixels.size());
  return {ContentState::kWhole, hash.finish(), {}};
}

}  // namespace crashworthy::content

// JPEG: the marker of its end, and a decode by libjpeg in which a warning is an error: most
// programs swallow them and go on with a picture that is half grey.
#include <cstdio>  // jpeglib.h needs it first.

#include <jerror.h>
#include <jpeglib.h>

#include <csetjmp>

#include "harness/experiment/content_ladder.h"

namespace crashworthy::content {
namespace {

constexpr unsigned kStartOfScan = 0xda;
constexpr unsigned kEndOfImage = 0xd9;

bool stands_alone(unsigned marker) { return marker == 0x01 || (marker >= 0xd0 && marker <= 0xd7); }

// Past the compressed data: the place of the next marker that is neither a stuffed byte nor a
// restart; npos when there is none.
std::size_t end_of_scan(std::string_view bytes, std::size_t at) {
  for (at = bytes.find('\xff', at); at != std::string_view::npos && at + 1 < bytes.size();
       at = bytes.find('\xff', at + 1)) {
    const auto next = static_cast<unsigned char>(bytes[at + 1]);
    if (next != 0 && next != 0xff && !(next >= 0xd0 && next <= 0xd7)) return at;
  }
  return std::string_view::npos;
}

Rung check_markers(std::string_view bytes) {
  for (std::size_t at = 2; at + 1 < bytes.size();) {
    if (bytes[at] != '\xff') return Rung::damaged("no marker where one must be");
    const auto marker = static_cast<unsigned char>(bytes[at + 1]);
    if (marker == kEndOfImage)
      return at + 2 == bytes.size() ? Rung{} : Rung::damaged("something follows its end");
    if (marker == 0xff || stands_alone(marker)) {
      at += marker == 0xff ? 1 : 2;  // Markers may be padded.
      continue;
    }
    if (bytes.size() - at < 4) break;
    at += 2 + static_cast<std::size_t>(big_endian(bytes, at + 2, 2));
    if (marker == kStartOfScan && at < bytes.size()) at = end_of_scan(bytes, at);
    if (at == std::string_view::npos) break;
  }
  return Rung::torn("no end of image");
}

// All of one decode, so that longjmp() passes over no destructor.
struct Decoder {
  jpeg_error_mgr errors{};
  std::jmp_buf place{};
  jpeg_decompress_struct jpeg{};
  char message[JMSG_LENGTH_MAX] = "";
  bool early_end = false;
  std::vector<JSAMPLE> row;
  PixelHash* hash = nullptr;

  ~Decoder() {
    jpeg_destroy_decompress(&jpeg);
    delete hash;
  }
};

[[noreturn]] void fail(j_common_ptr jpeg) {
  auto* decoder = static_cast<Decoder*>(jpeg->client_data);
  jpeg->err->format_message(jpeg, decoder->message);
  const int code = jpeg->err->msg_code;
  decoder->early_end = code == JWRN_JPEG_EOF || code == JERR_INPUT_EOF;
  std::longjmp(decoder->place, 1);
}

// Level -1 is a warning, of data that is damaged; higher ones are traces.
void on_message(j_common_ptr jpeg, int level) {
  if (level < 0) fail(jpeg);
}

// False after an error or a warning. Nothing in here may have a destructor.
bool decode(Decoder& decoder, std::string_view bytes) {
  if (setjmp(decoder.place) != 0) return false;
  jpeg_create_decompress(&decoder.jpeg);
  jpeg_mem_src(&decoder.jpeg, reinterpret_cast<const unsigned char*>(bytes.data()),
               static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&decoder.jpeg, TRUE);
  jpeg_decompress_struct& jpeg = decoder.jpeg;
  if (std::uint64_t{jpeg.image_width} * jpeg.image_height > kMaxPixels) return true;
  const bool ink = jpeg.num_components == 4;
  jpeg.out_color_space = ink ? JCS_CMYK : JCS_EXT_RGBA;
  jpeg_start_decompress(&jpeg);
  decoder.row.resize(std::size_t{jpeg.output_width} *
                     static_cast<std::size_t>(jpeg.output_components));
  decoder.hash = new PixelHash(jpeg.output_width, jpeg.output_height, ink ? "cmyk" : "8");
  JSAMPROW row = decoder.row.data();
  while (jpeg.output_scanline < jpeg.output_height) {
    jpeg_read_scanlines(&jpeg, &row, 1);
    decoder.hash->add(row, decoder.row.size());
  }
  jpeg_finish_decompress(&jpeg);
  return true;
}

}  // namespace

Rung climb_jpeg(std::string_view bytes) {
  if (Rung markers = check_markers(bytes); !markers.whole()) return markers;
  Decoder decoder;
  decoder.jpeg.err = jpeg_std_error(&decoder.errors);
  decoder.jpeg.client_data = &decoder;
  decoder.errors.error_exit = fail;
  decoder.errors.emit_message = on_message;
  if (!decode(decoder, bytes)) {
    const std::string why = std::string("libjpeg: ") + decoder.message;
    return decoder.early_end ? Rung::torn(why) : Rung::damaged(why);
  }
  if (decoder.hash == nullptr) return Rung::undecoded("not decoded: it has too many pixels");
  return {ContentState::kWhole, decoder.hash->finish(), {}};
}

}  // namespace crashworthy::content

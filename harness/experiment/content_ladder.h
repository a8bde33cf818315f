// The ladder of each type of file: signature, end, a full decode in which a warning is an error,
// and what the file says. Runs in the helper crashworthy-content alone: files are hostile.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "harness/experiment/content.h"

namespace crashworthy::content {

// Larger pictures and files are not decoded; then only their bytes can be compared.
inline constexpr std::uint64_t kMaxPixels = 1u << 28;
inline constexpr std::uint64_t kMaxBytes = 1u << 30;

// How far one file came. `canonical` is set when it was decoded; without it, and whole, the file's
// bytes are what it says, and `why` says why.
struct Rung {
  ContentState state = ContentState::kWhole;
  std::string canonical;
  std::string why;

  bool whole() const { return state == ContentState::kWhole; }
  static Rung torn(std::string why) { return {ContentState::kTorn, {}, std::move(why)}; }
  static Rung damaged(std::string why) { return {ContentState::kDamaged, {}, std::move(why)}; }
  static Rung undecoded(std::string why) { return {ContentState::kWhole, {}, std::move(why)}; }
};

// Climbs as far as the file comes. Never throws.
Content read_content(const std::filesystem::path& path);

// The ladders. `bytes` is the whole file and begins with the signature of its type.
Rung climb_png(std::string_view bytes);
Rung climb_jpeg(std::string_view bytes);
Rung climb_webp(std::string_view bytes);
Rung climb_tiff(std::string_view bytes, const std::filesystem::path& path);
Rung climb_bmp(std::string_view bytes);
Rung climb_pnm(std::string_view bytes);
Rung climb_pdf(std::string_view bytes, const std::filesystem::path& path);
Rung climb_mp4(std::string_view bytes, const std::filesystem::path& path);
Rung climb_matroska(std::string_view bytes, const std::filesystem::path& path);
Rung climb_avi(std::string_view bytes, const std::filesystem::path& path);

// Their lower halves, without the decode by another program: signature and end.
Rung check_pdf_end(std::string_view bytes);
Rung check_mp4_end(std::string_view bytes);
Rung check_matroska_end(std::string_view bytes);
Rung check_riff_end(std::string_view bytes);

// Unsigned integers of `size` bytes (1 to 8) at `at`; the caller has checked that they are there.
std::uint64_t big_endian(std::string_view bytes, std::size_t at, std::size_t size);
std::uint64_t little_endian(std::string_view bytes, std::size_t at, std::size_t size);

// What a picture says: its size, and its pixels as RGBA of 8 or 16 bits, so that a grey picture and
// the same one in colours are equal. Rows come from the top.
class PixelHash {
 public:
  PixelHash(std::uint32_t width, std::uint32_t height, const std::string& kind);
  ~PixelHash();
  PixelHash(const PixelHash&) = delete;
  PixelHash& operator=(const PixelHash&) = delete;
  void add(const void* row, std::size_t size);
  std::string finish() const;  // "pixels:WIDTHxHEIGHT:KIND:HASH"

 private:
  struct State;
  std::string head_;
  std::unique_ptr<State> state_;
};

// Decodes one picture, or all of a file, by OpenCV.
Rung decode_picture(std::string_view bytes);
Rung decode_pages(const std::filesystem::path& path);

// Runs another program to its end. `missing`: it is not installed.
struct ToolRun {
  bool missing = false;
  bool succeeded = false;
  std::string output_hash;
  std::uint64_t output_size = 0;
  std::uint64_t form_feeds = 0;  // Of the output: pdftotext ends each page with one.
  std::string errors;            // The beginning of what it wrote to stderr.
};
ToolRun run_tool(const std::vector<std::string>& argv);

}  // namespace crashworthy::content

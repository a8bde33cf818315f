// Films: MP4, Matroska and AVI have an end that is checked here; their frames are decoded by
// ffmpeg.
#include "harness/experiment/content_ladder.h"

namespace crashworthy::content {
namespace {

Rung decode_frames(const std::filesystem::path& path) {
  const ToolRun frames =
      run_tool({"ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", "file:" + path.string(),
                "-map", "0:v?", "-map", "0:a?", "-fflags", "+bitexact", "-f", "framemd5", "-"});
  if (frames.missing)
    return Rung::undecoded(
        "compared by its bytes: ffmpeg (Debian package ffmpeg) is not installed");
  if (!frames.succeeded || !frames.errors.empty())
    return Rung::damaged("ffmpeg: " + (frames.errors.empty() ? "failed" : frames.errors));
  return {ContentState::kWhole, "frames:" + frames.output_hash, {}};
}

// An EBML number: its first byte says how many bytes it has. False when it is cut off.
bool ebml_number(std::string_view bytes, std::size_t& at, std::uint64_t& value, bool& unknown) {
  if (at >= bytes.size()) return false;
  const auto first = static_cast<unsigned char>(bytes[at]);
  std::size_t length = 1;
  while (length <= 8 && (first & (0x80u >> (length - 1))) == 0) ++length;
  if (length > 8 || bytes.size() - at < length) return false;
  const std::uint64_t mask = (std::uint64_t{1} << (7 * length)) - 1;
  value = big_endian(bytes, at, length) & mask;
  unknown = value == mask;
  at += length;
  return true;
}

}  // namespace

// Boxes, each of which says its length: all whole, and one of them the table of contents.
Rung check_mp4_end(std::string_view bytes) {
  bool contents = false;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t left = bytes.size() - at;
    if (left < 8) return Rung::torn("it ends inside a box's frame");
    std::uint64_t size = big_endian(bytes, at, 4);
    const std::string_view name = bytes.substr(at + 4, 4);
    if (size == 1 && left < 16) return Rung::torn("it ends inside a box's frame");
    if (size == 1) size = big_endian(bytes, at + 8, 8);
    if (size == 0) size = left;  // Up to the end of the file.
    if (size < 8) return Rung::damaged("a box of impossible length");
    if (size > left) return Rung::torn("it ends inside a box");
    contents = contents || name == "moov";
    at += static_cast<std::size_t>(size);
  }
  return contents ? Rung{} : Rung::torn("no moov box");
}

// The header, then a segment whose length its writer fills in at the end.
Rung check_matroska_end(std::string_view bytes) {
  constexpr std::size_t kName = 4;
  std::size_t at = kName;
  std::uint64_t size = 0;
  bool unknown = false;
  if (!ebml_number(bytes, at, size, unknown)) return Rung::torn("it ends inside its header");
  if (size > bytes.size() - at || bytes.size() - at - size < kName)
    return Rung::torn("it ends inside its header");
  at += static_cast<std::size_t>(size);
  if (bytes.substr(at, kName) != "\x18\x53\x80\x67") return Rung::damaged("no segment");
  at += kName;
  if (!ebml_number(bytes, at, size, unknown)) return Rung::torn("it ends inside its segment");
  if (unknown) return Rung::torn("its segment was never closed");
  return size > bytes.size() - at ? Rung::torn("it ends inside its segment") : Rung{};
}

Rung climb_mp4(std::string_view bytes, const std::filesystem::path& path) {
  if (Rung end = check_mp4_end(bytes); !end.whole()) return end;
  return decode_frames(path);
}

Rung climb_matroska(std::string_view bytes, const std::filesystem::path& path) {
  if (Rung end = check_matroska_end(bytes); !end.whole()) return end;
  return decode_frames(path);
}

Rung climb_avi(std::string_view bytes, const std::filesystem::path& path) {
  if (Rung end = check_riff_end(bytes); !end.whole()) return end;
  return decode_frames(path);
}

}  // namespace crashworthy::content

#include "harness/experiment/content_ladder.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <optional>

#include "harness/os/file.h"

namespace crashworthy::content {
namespace {

namespace fs = std::filesystem;

// The longest signature that tells a type: "RIFF", a size, "WEBP".
constexpr std::size_t kSignature = 12;

bool is_pnm(std::string_view bytes) {
  if (bytes.size() < 4 || bytes[0] != 'P' || bytes[1] < '1' || bytes[1] > '6') return false;
  const auto space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  if (!space(bytes[2])) return false;
  return bytes[3] == '#' || space(bytes[3]) || (bytes[3] >= '0' && bytes[3] <= '9');
}

// "BM" alone also begins words.
bool is_bmp(std::string_view bytes) {
  constexpr std::array<std::uint64_t, 7> kHeaderSizes{12, 40, 52, 56, 64, 108, 124};
  if (!bytes.starts_with("BM") || bytes.size() < 18 || little_endian(bytes, 6, 4) != 0)
    return false;
  return std::find(kHeaderSizes.begin(), kHeaderSizes.end(), little_endian(bytes, 14, 4)) !=
         kHeaderSizes.end();
}

// The type that the signature tells; empty: none of ours.
std::string type_by_signature(std::string_view bytes) {
  using namespace std::string_view_literals;
  constexpr std::array<std::pair<std::string_view, const char*>, 8> kSignatures{
      {{"\x89PNG\r\n\x1a\n"sv, "png"},
       {"\xff\xd8\xff"sv, "jpeg"},
       {"II*\0"sv, "tiff"},
       {"MM\0*"sv, "tiff"},
       {"II+\0"sv, "tiff"},
       {"MM\0+"sv, "tiff"},
       {"%PDF-"sv, "pdf"},
       {"\x1a\x45\xdf\xa3"sv, "matroska"}}};
  for (const auto& [signature, type] : kSignatures) {
    if (bytes.starts_with(signature)) return type;
  }
  if (bytes.size() >= kSignature && bytes.starts_with("RIFF")) {
    if (bytes.substr(8, 4) == "WEBP") return "webp";
    if (bytes.substr(8, 4) == "AVI ") return "avi";
  }
  if (bytes.size() >= 8 && bytes.substr(4, 4) == "ftyp") return "mp4";
  if (is_bmp(bytes)) return "bmp";
  return is_pnm(bytes) ? "pnm" : "";
}

// What the name promises; empty: nothing that we know.
std::string type_by_name(const fs::path& path) {
  constexpr std::array<std::pair<const char*, const char*>, 17> kExtensions{{{".png", "png"},
                                                                             {".jpg", "jpeg"},
                                                                             {".jpeg", "jpeg"},
                                                                             {".webp", "webp"},
                                                                             {".tif", "tiff"},
                                                                             {".tiff", "tiff"},
                                                                             {".bmp", "bmp"},
                                                                             {".ppm", "pnm"},
                                                                             {".pgm", "pnm"},
                                                                             {".pbm", "pnm"},
                                                                             {".pdf", "pdf"},
                                                                             {".mp4", "mp4"},
                                                                             {".mov", "mp4"},
                                                                             {".m4v", "mp4"},
                                                                             {".mkv", "matroska"},
                                                                             {".webm", "matroska"},
                                                                             {".avi", "avi"}}};
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const auto& [name, type] : kExtensions) {
    if (extension == name) return type;
  }
  return {};
}

// What a file is when it ends inside its first character that is longer than a byte, or is none.
enum class Utf8 { kValid, kCutOff, kInvalid };

// Bytes of a character by its first one; 0: no character begins so.
std::size_t utf8_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

bool is_text_control(unsigned char c) {
  return c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\b' || c == 0x1b;
}

Utf8 check_utf8(std::string_view bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const auto first = static_cast<unsigned char>(bytes[at]);
    if (first < 0x20 && !is_text_control(first)) return Utf8::kInvalid;
    const std::size_t length = utf8_length(first);
    if (length == 0) return Utf8::kInvalid;
    const std::size_t end = std::min(bytes.size(), at + length);
    for (std::size_t i = at + 1; i < end; ++i) {
      const auto next = static_cast<unsigned char>(bytes[i]);
      // Longer forms than needed, surrogates, and what lies beyond Unicode.
      const bool odd =
          i == at + 1 && ((first == 0xe0 && next < 0xa0) || (first == 0xed && next > 0x9f) ||
                          (first == 0xf0 && next < 0x90) || (first == 0xf4 && next > 0x8f));
      if ((next & 0xc0) != 0x80 || odd) return Utf8::kInvalid;
    }
    if (at + length > bytes.size()) return Utf8::kCutOff;
    at += length;
  }
  return Utf8::kValid;
}

struct Climbed {
  std::string type;
  Rung rung;
};

// True when it is too short for its signature, and fits to its beginning.
bool may_begin(std::string_view type, std::string_view bytes) {
  using namespace std::string_view_literals;
  constexpr std::size_t kLongest = 18;  // That of a BMP.
  constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kBeginnings{
      {{"png", "\x89PNG\r\n\x1a\n"sv},
       {"jpeg", "\xff\xd8\xff"sv},
       {"webp", "RIFF"sv},
       {"avi", "RIFF"sv},
       {"tiff", "II"sv},
       {"tiff", "MM"sv},
       {"bmp", "BM"sv},
       {"pnm", "P"sv},
       {"pdf", "%PDF-"sv},
       {"matroska", "\x1a\x45\xdf\xa3"sv}}};
  if (bytes.size() >= kLongest) return false;
  if (type == "mp4") return bytes.size() < 8;  // It begins with a length.
  for (const auto& [name, beginning] : kBeginnings) {
    const std::size_t common = std::min(beginning.size(), bytes.size());
    if (name == type && bytes.substr(0, common) == beginning.substr(0, common)) return true;
  }
  return false;
}

// A file without a signature of ours: what its name promises, else text, else bytes.
Climbed climb_plain(std::string_view bytes, const fs::path& path) {
  const std::string promised = type_by_name(path);
  if (!promised.empty() && may_begin(promised, bytes))
    return {promised, Rung::torn("it ends inside its signature")};
  if (!promised.empty()) return {promised, Rung::damaged("no signature of " + promised)};
  switch (check_utf8(bytes)) {
    case Utf8::kValid:
      return {"text", {}};
    case Utf8::kCutOff:
      return {"text", Rung::torn("it ends inside a character")};
    case Utf8::kInvalid:
      break;
  }
  return {"any", {}};
}

Climbed climb(std::string_view bytes, const fs::path& path) {
  const std::string type = type_by_signature(bytes);
  if (type == "png") return {type, climb_png(bytes)};
  if (type == "jpeg") return {type, climb_jpeg(bytes)};
  if (type == "webp") return {type, climb_webp(bytes)};
  if (type == "tiff") return {type, climb_tiff(bytes, path)};
  if (type == "bmp") return {type, climb_bmp(bytes)};
  if (type == "pnm") return {type, climb_pnm(bytes)};
  if (type == "pdf") return {type, climb_pdf(bytes, path)};
  if (type == "mp4") return {type, climb_mp4(bytes, path)};
  if (type == "matroska") return {type, climb_matroska(bytes, path)};
  if (type == "avi") return {type, climb_avi(bytes, path)};
  return climb_plain(bytes, path);
}

// One line of printable text: it is a field of an answer.
std::string one_line(std::string text) {
  constexpr std::size_t kMost = 200;
  if (text.size() > kMost) text.resize(kMost);
  for (char& c : text) {
    if (c < ' ' || c > '~') c = c == '\n' || c == '\t' ? ' ' : '?';
  }
  while (text.ends_with(' ')) text.pop_back();
  return text;
}

Content read_whole(const fs::path& path) {
  const auto bytes = read_file(path);
  if (!bytes) return {ContentState::kDamaged, "any", "bytes:unreadable", bytes.error().message};
  if (bytes->empty()) return {ContentState::kEmpty, "any", "bytes:" + hash_bytes({}), "0 bytes"};
  Climbed climbed{"any", {}};
  try {
    climbed = climb(*bytes, path);
  } catch (const std::bad_alloc&) {
    climbed.rung = Rung::undecoded("not decoded: it needs too much memory");
  }
  const Rung& rung = climbed.rung;
  const bool decoded = rung.whole() && !rung.canonical.empty();
  return {rung.state, climbed.type, decoded ? rung.canonical : "bytes:" + hash_bytes(*bytes),
          rung.why};
}

}  // namespace

std::uint64_t big_endian(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i)
    value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

std::uint64_t little_endian(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i > 0; --i)
    value = value << 8 | static_cast<unsigned char>(bytes[at + i - 1]);
  return value;
}

Content read_content(const fs::path& path) {
  std::error_code failure;
  Content content;
  if (fs::file_size(path, failure) > kMaxBytes && !failure) {
    auto bytes = hash_file(path);
    content = {bytes ? ContentState::kWhole : ContentState::kDamaged, "any",
               bytes ? "bytes:" + *bytes : "bytes:unreadable",
               bytes ? "not decoded: it is larger than 1 GiB" : bytes.error().message};
  } else {
    content = read_whole(path);
  }
  content.why = one_line(content.why);
  return content;
}

}  // namespace crashworthy::content

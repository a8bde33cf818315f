#include "pipelines/tiles/image_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <optional>
#include <vector>

#include <opencv2/imgcodecs.hpp>

#include "harness/os/file.h"
#include "pipelines/tiles/opencv_error.h"

namespace crashworthy::tiles {
namespace {

enum class Endian { kBig, kLittle };

// Numbers at places of a file; a place outside it is an empty optional.
class Bytes {
 public:
  Bytes(std::string_view bytes, Endian endian) : bytes_(bytes), endian_(endian) {}
  std::size_t size() const { return bytes_.size(); }
  bool has(std::uint64_t at, std::uint64_t length) const {
    return at <= size() && length <= size() - at;
  }
  bool text_at(std::size_t at, std::string_view text) const {
    return has(at, text.size()) && bytes_.substr(at, text.size()) == text;
  }
  std::string_view part(std::size_t at, std::size_t length) const {
    return bytes_.substr(at, length);
  }
  int byte(std::size_t at) const { return static_cast<unsigned char>(bytes_[at]); }

  // The unsigned number of `width` bytes at `at`.
  std::optional<std::uint64_t> number(std::uint64_t at, int width) const {
    if (!has(at, static_cast<std::uint64_t>(width))) return std::nullopt;
    std::uint64_t value = 0;
    for (int i = 0; i < width; ++i) {
      const int from = endian_ == Endian::kBig ? i : width - 1 - i;
      value = value << 8 | static_cast<std::uint64_t>(byte(static_cast<std::size_t>(at) + from));
    }
    return value;
  }

 private:
  std::string_view bytes_;
  Endian endian_;
};

Error cut_off(const std::string& what) { return corrupt_error("the file is cut off: " + what); }

Result<ImageInfo> make_info(ImageFormat format, std::uint64_t width, std::uint64_t height) {
  if (width == 0 || height == 0 || width > INT_MAX || height > INT_MAX) {
    return corrupt_error("the header gives an impossible size: " + std::to_string(width) + " x " +
                         std::to_string(height));
  }
  return ImageInfo{format, static_cast<int>(width), static_cast<int>(height)};
}

// Orientations 5 to 8 of EXIF and TIFF lay the image on its side.
void lay_on_side(ImageInfo& info, int orientation) {
  if (orientation >= 5 && orientation <= 8) std::swap(info.width, info.height);
}

// ---- TIFF, which EXIF data also is ----

enum TiffTag : int {
  kTagWidth = 256,
  kTagHeight = 257,
  kTagStripOffsets = 273,
  kTagOrientation = 274,
  kTagStripBytes = 279,
  kTagTileOffsets = 324,
  kTagTileBytes = 325,
};

class TiffDirectory {
  static constexpr std::uint64_t kMaxValues = 1 << 24;  // Strips of an image.

 public:
  // The first directory of a TIFF file, all of which lies within `bytes`.
  static Result<TiffDirectory> read(std::string_view bytes) {
    const bool little = bytes.substr(0, 2) == "II";
    TiffDirectory directory(Bytes(bytes, little ? Endian::kLittle : Endian::kBig));
    const Bytes& file = directory.file_;
    directory.big_ = file.number(2, 2).value_or(0) == 43;
    const auto at = directory.big_ ? file.number(8, 8) : file.number(4, 4);
    if (!at) return cut_off("the TIFF header is not whole");
    const auto count = file.number(*at, directory.big_ ? 8 : 2);
    if (!count) return cut_off("the first TIFF directory is missing");
    directory.entries_at_ = *at + (directory.big_ ? 8 : 2);
    if (*count > file.size() / directory.entry_size() ||
        !file.has(directory.entries_at_, *count * directory.entry_size())) {
      return cut_off("the first TIFF directory is not whole");
    }
    directory.count_ = *count;
    return directory;
  }

  // Whether all that the directory refers to for its own entries is there, and the link to the next
  // directory behind them.
  bool whole() const {
    for (std::uint64_t i = 0; i < count_; ++i) {
      if (!place_of_values(entries_at_ + i * entry_size())) return false;
    }
    return file_.has(entries_at_ + count_ * entry_size(), big_ ? 8 : 4);
  }

  // The values of `tag`; empty when it is not there, has no integer type or lies outside the file.
  std::vector<std::uint64_t> values(int tag) const {
    for (std::uint64_t i = 0; i < count_; ++i) {
      const std::uint64_t entry = entries_at_ + i * entry_size();
      if (static_cast<int>(*file_.number(entry, 2)) == tag) return entry_values(entry);
    }
    return {};
  }
  std::optional<std::uint64_t> value(int tag) const {
    const std::vector<std::uint64_t> all = values(tag);
    return all.empty() ? std::nullopt : std::optional(all.front());
  }

 private:
  explicit TiffDirectory(const Bytes& file) : file_(file) {}
  std::uint64_t entry_size() const { return big_ ? 20 : 12; }

  // Bytes of a value of each type; 0 for those that are unknown.
  static std::uint64_t width_of_type(std::uint64_t type) {
    constexpr std::array<std::uint8_t, 19> kWidths = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4,
                                                      8, 4, 8, 4, 0, 0, 8, 8, 8};
    return type < kWidths.size() ? kWidths[type] : 0;
  }
  static bool is_unsigned_integer(std::uint64_t type) {
    constexpr std::array<std::uint64_t, 6> kTypes = {
        1, 3, 4, 13, 16, 18};  // BYTE, SHORT, LONG, IFD, LONG8, IFD8
    return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
  }

  // Where the values of an entry lie; empty when that is not wholly within the file.
  std::optional<std::uint64_t> place_of_values(std::uint64_t entry) const {
    const std::uint64_t width = width_of_type(*file_.number(entry + 2, 2));
    const std::uint64_t count = *file_.number(entry + 4, big_ ? 8 : 4);
    const std::uint64_t inside = entry + (big_ ? 12 : 8);  // Few values lie in the entry itself.
    if (width == 0) return inside;
    if (count > file_.size() / width) return std::nullopt;
    if (count * width <= (big_ ? 8u : 4u)) return inside;
    const std::uint64_t at = *file_.number(inside, big_ ? 8 : 4);
    return file_.has(at, count * width) ? std::optional(at) : std::nullopt;
  }

  std::vector<std::uint64_t> entry_values(std::uint64_t entry) const {
    const std::uint64_t type = *file_.number(entry + 2, 2);
    const auto at = place_of_values(entry);
    const std::uint64_t count = *file_.number(entry + 4, big_ ? 8 : 4);
    if (!at || !is_unsigned_integer(type) || count > kMaxValues) return {};
    const std::uint64_t width = width_of_type(type);
    std::vector<std::uint64_t> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = *file_.number(*at + i * width, static_cast<int>(width));
    return values;
  }

  Bytes file_;
  bool big_ = false;
  std::uint64_t entries_at_ = 0;
  std::uint64_t count_ = 0;
};

Result<ImageInfo> inspect_tiff(std::string_view bytes) {
  auto directory = TiffDirectory::read(bytes);
  if (!directory) return directory.error();
  if (!directory->whole()) return cut_off("the first TIFF directory is not whole");
  const auto width = directory->value(kTagWidth);
  const auto height = directory->value(kTagHeight);
  if (!width || !height) return corrupt_error("the first TIFF directory gives no image size");
  const bool tiled = !directory->values(kTagTileOffsets).empty();
  const auto offsets = directory->values(tiled ? kTagTileOffsets : kTagStripOffsets);
  const auto lengths = directory->values(tiled ? kTagTileBytes : kTagStripBytes);
  if (offsets.empty()) return corrupt_error("the first TIFF directory names no image data");
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    const std::uint64_t length =
        i < lengths.size() ? lengths[i] : 0;  // Old writers leave the lengths out.
    if (offsets[i] > bytes.size() || length > bytes.size() - offsets[i]) {
      return cut_off((tiled ? "tile " : "strip ") + std::to_string(i + 1) + " of " +
                     std::to_string(offsets.size()) + " is not whole");
    }
  }
  auto info = make_info(ImageFormat::kTiff, *width, *height);
  if (info) lay_on_side(*info, static_cast<int>(directory->value(kTagOrientation).value_or(1)));
  return info;
}

// The orientation that EXIF data (a small TIFF file) asks for; 1 when there is none.
int exif_orientation(std::string_view exif) {
  if (exif.substr(0, 2) != "II" && exif.substr(0, 2) != "MM") return 1;
  auto directory = TiffDirectory::read(exif);
  return directory ? static_cast<int>(directory->value(kTagOrientation).value_or(1)) : 1;
}

// ---- JPEG ----

bool is_frame_header(int marker) {
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}
bool is_restart(int marker) { return marker >= 0xD0 && marker <= 0xD7; }

// Walks the segments of a JPEG from SOI to the EOI that ends it. Thumbnails inside segments are
// stepped over with them, so their end markers are not taken for the image's.
class JpegWalk {
 public:
  explicit JpegWalk(std::string_view bytes) : bytes_(bytes, Endian::kBig) {}

  Result<ImageInfo> run() {
    while (next_marker()) {
      if (marker_ == 0xD9) return end();
      if (marker_ == 0x01 || is_restart(marker_)) continue;  // They stand alone.
      if (marker_ == 0xD8) return corrupt_error("a second JPEG start marker inside the image");
      const auto length = bytes_.number(at_, 2);
      if (!length || !bytes_.has(at_, *length)) return cut_off("a JPEG segment is not whole");
      if (*length < 2) return corrupt_error("a JPEG segment has an impossible length");
      if (auto seen = segment(static_cast<std::size_t>(*length)); !seen) return seen.error();
      at_ += static_cast<std::size_t>(*length);
      if (marker_ == 0xDA) skip_scan();
    }
    return cut_off("no JPEG end marker");
  }

 private:
  // Moves behind the next marker; like libjpeg, steps over rubbish and fill bytes before it.
  bool next_marker() {
    while (at_ + 1 < bytes_.size()) {
      if (bytes_.byte(at_) == 0xFF && bytes_.byte(at_ + 1) != 0xFF && bytes_.byte(at_ + 1) != 0) {
        marker_ = bytes_.byte(at_ + 1);
        at_ += 2;
        return true;
      }
      ++at_;
    }
    return false;
  }

  // Moves to the marker that ends the compressed data of a scan.
  void skip_scan() {
    while (next_marker()) {
      if (is_restart(marker_)) continue;
      at_ -= 2;
      return;
    }
  }

  Result<void> segment(std::size_t length) {
    if (is_frame_header(marker_)) {
      const auto height = bytes_.number(at_ + 3, 2);
      const auto width = bytes_.number(at_ + 5, 2);
      if (length < 8) return corrupt_error("the JPEG frame header is too short");
      auto info = make_info(ImageFormat::kJpeg, *width, *height);
      if (!info) return info.error();
      info_ = *info;
    } else if (marker_ == 0xE1 && bytes_.text_at(at_ + 2, std::string_view("Exif\0\0", 6)) &&
               length > 8) {
      orientation_ = exif_orientation(bytes_.part(at_ + 8, length - 8));
    } else if (marker_ == 0xDA) {
      if (!info_) return corrupt_error("the JPEG has a scan before its frame header");
      scanned_ = true;
    }
    return {};
  }

  Result<ImageInfo> end() {
    if (!scanned_) return corrupt_error("the JPEG ends without an image");
    lay_on_side(*info_, orientation_);
    return *info_;
  }

  Bytes bytes_;
  std::size_t at_ = 2;
  int marker_ = 0;
  int orientation_ = 1;
  bool scanned_ = false;
  std::optional<ImageInfo> info_;
};

// ---- PNG and WebP ----

Result<ImageInfo> inspect_png(std::string_view content) {
  const Bytes bytes(content, Endian::kBig);
  if (!bytes.text_at(12, "IHDR") || !bytes.has(16, 13))
    return cut_off("the PNG header is not whole");
  auto info = make_info(ImageFormat::kPng, *bytes.number(16, 4), *bytes.number(20, 4));
  if (!info) return info;
  bool data = false;
  std::uint64_t at = 8;
  while (true) {
    const auto length = bytes.number(at, 4);
    if (!length || !bytes.has(at, *length + 12)) return cut_off("no whole PNG end chunk");
    const std::string_view type = bytes.part(static_cast<std::size_t>(at) + 4, 4);
    if (type == "eXIf") {
      lay_on_side(*info, exif_orientation(bytes.part(static_cast<std::size_t>(at) + 8,
                                                     static_cast<std::size_t>(*length))));
    }
    data = data || type == "IDAT";
    if (type == "IEND") {
      if (!data) return corrupt_error("the PNG ends without an image");
      return info;
    }
    at += *length + 12;
  }
}

Result<ImageInfo> inspect_webp(std::string_view content) {
  const Bytes bytes(content, Endian::kLittle);
  const std::uint64_t length = bytes.number(4, 4).value_or(0);
  if (!bytes.has(8, length) || !bytes.has(0, 30)) return cut_off("WebP data is missing");
  if (bytes.text_at(12, "VP8X")) {
    return make_info(ImageFormat::kWebp, *bytes.number(24, 3) + 1, *bytes.number(27, 3) + 1);
  }
  if (bytes.text_at(12, "VP8L")) {
    const std::uint64_t packed = *bytes.number(21, 4);
    return make_info(ImageFormat::kWebp, (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1);
  }
  if (bytes.text_at(12, "VP8 ")) {
    return make_info(ImageFormat::kWebp, *bytes.number(26, 2) & 0x3FFF,
                     *bytes.number(28, 2) & 0x3FFF);
  }
  return corrupt_error("the WebP file holds no image");
}

// ---- OpenCV ----

void rethrow_out_of_memory() {
  const OpenCvReport& report = last_opencv_report();
  if (report.code != cv::Error::StsNoMem) return;
  throw cv::Exception(cv::Error::StsNoMem, report.text.data(), "imdecode", __FILE__, __LINE__);
}

// Codecs written in C do without what they cannot allocate, and say only that they failed. So a
// failure without a reason counts only while there is memory for the image: what is not there fails
// here, as StsNoMem.
void require_memory(const ImageInfo& info) {
  constexpr std::size_t kBytesPerPixel = 6;  // What a progressive JPEG takes besides the pixels.
  const std::size_t pixels = static_cast<std::size_t>(info.width) * info.height;
  cv::fastFree(cv::fastMalloc(pixels * kBytesPerPixel));
}

// Whether the error is OpenCV's own limit of image sizes.
bool is_size_limit(const std::string& text) {
  return text.find("CV_IO_MAX_IMAGE") != std::string::npos;
}

Error decode_error(const ImageInfo& info, const cv::Exception& error) {
  if (!is_size_limit(error.err))
    return opencv_error("decode " + std::string(format_name(info.format)), error);
  Error limit =
      corrupt_error("its " + std::to_string(info.width) + " x " + std::to_string(info.height) +
                    " pixels are above OpenCV's limit (2^20 a side, 2^30 in all)");
  limit.hint =
      "raise OPENCV_IO_MAX_IMAGE_PIXELS, _WIDTH or _HEIGHT, or convert it to PPM, which is not "
      "decoded";
  return limit;
}

Result<cv::Mat> decode(const std::string& bytes, const ImageInfo& info) {
  watch_opencv_errors();
  last_opencv_report().code = 0;
  cv::Mat image;
  try {
    const cv::Mat data(1, static_cast<int>(bytes.size()), CV_8UC1, const_cast<char*>(bytes.data()));
    image = cv::imdecode(data, cv::IMREAD_COLOR);
  } catch (const cv::Exception& error) {
    if (error.code == cv::Error::StsNoMem) throw;
    return decode_error(info, error);
  }
  rethrow_out_of_memory();
  if (image.empty()) {
    const OpenCvReport& report = last_opencv_report();
    if (report.code == 0) {
      require_memory(info);
      return corrupt_error("its " + std::string(format_name(info.format)) +
                           " data cannot be decoded");
    }
    return decode_error(info, cv::Exception(report.code, report.text.data(), "", "", 0));
  }
  if (image.type() != CV_8UC3)
    return corrupt_error("OpenCV decoded it to something else than 8-bit colour");
  if (image.cols != info.width || image.rows != info.height) {
    return corrupt_error("it decodes to " + std::to_string(image.cols) + " x " +
                         std::to_string(image.rows) + " pixels, but its header says " +
                         std::to_string(info.width) + " x " + std::to_string(info.height));
  }
  return image;
}

// The content of a regular file that OpenCV can take as a whole.
Result<std::string> read_regular_file(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return system_error("open '" + path.string() + "'", errno);
  if (S_ISDIR(info.st_mode)) return system_error("read '" + path.string() + "'", EISDIR);
  if (!S_ISREG(info.st_mode))
    return corrupt_error("read '" + path.string() + "': not a regular file");
  if (info.st_size > INT_MAX) {
    return corrupt_error("read '" + path.string() +
                         "': larger than the 2 GiB that OpenCV decodes at once");
  }
  return read_file(path);
}

std::string in_file(const std::filesystem::path& path) {
  return "read image '" + path.string() + "'";
}

}  // namespace

std::string_view format_name(ImageFormat format) {
  constexpr std::array<std::string_view, 4> kNames = {"PNG", "JPEG", "TIFF", "WebP"};
  return kNames[static_cast<std::size_t>(format)];
}

Result<ImageInfo> inspect_bytes(std::string_view bytes) {
  const Bytes file(bytes, Endian::kBig);
  if (bytes.empty()) return corrupt_error("the file is empty");
  if (file.text_at(0, "\x89PNG\r\n\x1A\n")) return inspect_png(bytes);
  if (file.text_at(0, "\xFF\xD8\xFF")) return JpegWalk(bytes).run();
  if (file.text_at(0, "RIFF") && file.text_at(8, "WEBP")) return inspect_webp(bytes);
  for (const std::string_view magic :
       {std::string_view("II*\0", 4), std::string_view("MM\0*", 4), std::string_view("II+\0", 4),
        std::string_view("MM\0+", 4)}) {
    if (file.text_at(0, magic)) return inspect_tiff(bytes);
  }
  return corrupt_error("not a PNG, JPEG, TIFF or WebP image");
}

Result<ImageInfo> inspect(const std::filesystem::path& path) {
  auto bytes = read_regular_file(path);
  if (!bytes) return bytes.error();
  auto info = inspect_bytes(*bytes);
  if (!info) return info.error().with_context(in_file(path));
  return info;
}

Result<ImageFile> ImageFile::open(const std::filesystem::path& path) {
  auto bytes = read_regular_file(path);
  if (!bytes) return bytes.error();
  auto info = inspect_bytes(*bytes);
  if (!info) return info.error().with_context(in_file(path));
  return ImageFile(path, *std::move(bytes), *info);
}

Result<cv::Mat> ImageFile::decode() const {
  auto image = tiles::decode(bytes_, info_);
  if (!image) return image.error().with_context(in_file(path_));
  return image;
}

Result<cv::Mat> read_image(const std::filesystem::path& path) {
  auto file = ImageFile::open(path);
  if (!file) return file.error();
  return file->decode();
}

Result<cv::Mat> decode_image(const std::string& bytes) {
  auto info = inspect_bytes(bytes);
  if (!info) return info.error();
  return decode(bytes, *info);
}

Result<std::string> encode_image(std::string_view extension, const cv::Mat& image) {
  const std::string kind(extension);
  const bool jpeg = kind == ".jpg" || kind == ".jpeg";
  if (!jpeg && kind != ".png" && kind != ".ppm" && kind != ".pgm") {
    return usage_error("unknown image file extension '" + kind + "'",
                       "known: .png, .jpg, .jpeg, .ppm, .pgm");
  }
  CRASHWORTHY_CHECK(image.type() == CV_8UC1 || image.type() == CV_8UC3, image.type());
  if (kind == ".ppm" && image.channels() != 3)
    return usage_error("a gray image is no '.ppm'", "write it as '.pgm'");
  if (kind == ".pgm" && image.channels() != 1)
    return usage_error("a colour image is no '.pgm'", "write it as '.ppm'");
  // OpenCV's PNG is fastest with its own settings: naming a level, even 1, turns its cheap row
  // filter off.
  std::vector<int> settings;
  if (jpeg) settings = {cv::IMWRITE_JPEG_QUALITY, 95};
  return guard_opencv("encode as '" + kind + "'", [&]() -> Result<std::string> {
    std::vector<unsigned char> bytes;
    if (image.empty() || !cv::imencode(kind, image, bytes, settings)) {
      return corrupt_error("encode as '" + kind + "': OpenCV refuses the image");
    }
    return std::string(bytes.begin(), bytes.end());
  });
}

}  // namespace crashworthy::tiles

// Photographs on disk: PNG, JPEG, TIFF and WebP through OpenCV, with the checks that OpenCV leaves
// out.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include <opencv2/core.hpp>

#include "harness/os/result.h"

namespace crashworthy::tiles {

enum class ImageFormat { kPng, kJpeg, kTiff, kWebp };

// "PNG", "JPEG", "TIFF", "WebP".
std::string_view format_name(ImageFormat format);

struct ImageInfo {
  ImageFormat format = ImageFormat::kPng;
  // As read_image() will give it: exchanged already where an orientation lays the image on its
  // side.
  int width = 0;
  int height = 0;
};

// Checks the structure of the file without decoding it: that it is one of the formats, that its
// headers make sense, and that it is not cut off (JPEG: an end marker after the last scan; PNG: all
// chunks up to IEND; WebP: the RIFF length; TIFF: the first directory and all strips or tiles that
// it names). Bytes after the end are tolerated: cameras append previews. Damage inside the
// compressed data is not looked for. Errors name the file and the reason in one line: kSystem
// (missing, unreadable, a directory) or kCorrupt.
Result<ImageInfo> inspect(const std::filesystem::path& path);

// The same for the bytes of a file; the errors do not name one.
Result<ImageInfo> inspect_bytes(std::string_view bytes);

// The content of an image file, inspected and not yet decoded: its size can be refused before it
// costs memory.
class ImageFile {
 public:
  // Errors as with inspect().
  static Result<ImageFile> open(const std::filesystem::path& path);
  const ImageInfo& info() const { return info_; }
  // Decodes as read_image() does.
  Result<cv::Mat> decode() const;

 private:
  ImageFile(std::filesystem::path path, std::string bytes, const ImageInfo& info)
      : path_(std::move(path)), bytes_(std::move(bytes)), info_(info) {}
  std::filesystem::path path_;
  std::string bytes_;
  ImageInfo info_;
};

// Inspects, then decodes to 8-bit BGR (cv::IMREAD_COLOR), whatever the file holds:
//   gray      becomes three equal channels
//   alpha     is dropped, not blended; TIFF: libtiff has multiplied by it before
//   16 bits   keep their upper 8
//   turned    by an orientation of EXIF or TIFF: is turned upright; other metadata is ignored
//   pages     of a TIFF: the first
// OpenCV's limits (2^20 pixels a side, 2^30 in all, unless OPENCV_IO_MAX_IMAGE_* say otherwise)
// give an Error; larger images go through PPM (ppm.h).
//
// No exception but one: when OpenCV reports cv::Error::StsNoMem, a cv::Exception of that code is
// thrown, also where cv::imdecode itself would swallow it. To see that, it calls
// watch_opencv_errors(). Decoding libraries may print warnings to stderr. Safe from any thread.
Result<cv::Mat> read_image(const std::filesystem::path& path);

// The same for the bytes of a file; the errors do not name one.
Result<cv::Mat> decode_image(const std::string& bytes);

// The bytes of an image file of the kind that `extension` names: ".png" (fast compression), ".jpg"
// or ".jpeg" (quality 95), ".ppm" (BGR in, colour), ".pgm" (gray). The same image gives the same
// bytes each time. An unknown extension is a kUsage error, as is a colour image for ".pgm" or a
// gray one for ".ppm". StsNoMem is thrown as in read_image().
Result<std::string> encode_image(std::string_view extension, const cv::Mat& image);

}  // namespace crashworthy::tiles

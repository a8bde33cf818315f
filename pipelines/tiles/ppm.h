// Binary PPM (P6, colour) and PGM (P5, gray) files as mapped images: a picture of any size without
// a decoder and without a copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <opencv2/core.hpp>

#include "harness/os/result.h"

namespace crashworthy::tiles {

inline constexpr int kMaxPpmSide = 1 << 20;

struct PpmHeader {
  int width = 0;
  int height = 0;
  int channels = 0;           // 3 (P6) or 1 (P5).
  std::size_t pixels_at = 0;  // Where the pixels begin.
  std::uint64_t pixel_bytes() const {
    return std::uint64_t(width) * std::uint64_t(height) * std::uint64_t(channels);
  }
};

// Reads the header at the start of `bytes`. Only 8-bit samples (maximum 255) and sides up to
// kMaxPpmSide. Comments are allowed where the format allows them. Does not look at the pixels. The
// errors do not name the file.
Result<PpmHeader> parse_ppm_header(std::string_view bytes);

// Owns a MAP_SHARED mapping of a PPM or PGM file. The Mat headers it gives lie over the mapping and
// must not outlive it. Moving it keeps them valid. Reads from several threads and processes are
// fine; so are writes to different pixels. If somebody else shortens the file meanwhile, touching
// the lost pages raises SIGBUS: that cannot be told apart in advance.
class MappedImage {
 public:
  enum class Access { kRead, kReadWrite };

  MappedImage() = default;
  MappedImage(MappedImage&& other) noexcept;
  MappedImage& operator=(MappedImage&& other) noexcept;
  ~MappedImage();

  // Maps an existing file. kCorrupt when it is not an image of these kinds or shorter than its
  // header says.
  static Result<MappedImage> open(const std::filesystem::path& path, Access access = Access::kRead);

  // Makes (or replaces the content of) `path`, reserves its whole room on the disk and maps it
  // writable; all pixels are 0. A disk without room is an Error (ENOSPC), found before the disk is
  // filled where possible, and never a SIGBUS later. On failure no file is left. `channels` is 1
  // or 3.
  static Result<MappedImage> create(const std::filesystem::path& path, int width, int height,
                                    int channels);

  int width() const { return header_.width; }
  int height() const { return header_.height; }
  int channels() const { return header_.channels; }

  // The pixels, with no copy; colours lie as R, G, B (ChannelOrder::kRgb). Writing through it is
  // allowed only after create() or with Access::kReadWrite: otherwise it raises SIGSEGV.
  cv::Mat pixels() const;

  // Waits until all pixels are on the disk.
  Result<void> sync() const;

  // Lets go of the memory of the rows [first, last): their content stays in the file and comes back
  // when touched.
  void release_rows(int first, int last) const;

 private:
  static Result<MappedImage> map(int fd, const std::string& name, const PpmHeader& header,
                                 Access access);

  PpmHeader header_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::string name_;
};

}  // namespace crashworthy::tiles

// What a picture says, and pictures that OpenCV decodes for us.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "harness/experiment/content_ladder.h"

namespace crashworthy::content {

struct PixelHash::State {
  XXH3_state_t hash;
};

PixelHash::PixelHash(std::uint32_t width, std::uint32_t height, const std::string& kind)
    : head_("pixels:" + std::to_string(width) + "x" + std::to_string(height) + ":" + kind + ":"),
      state_(std::make_unique<State>()) {
  XXH3_128bits_reset(&state_->hash);
}

PixelHash::~PixelHash() = default;

void PixelHash::add(const void* row, std::size_t size) {
  XXH3_128bits_update(&state_->hash, row, size);
}

std::string PixelHash::finish() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->hash);
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return head_ + text;
}

namespace {

// As RGBA where it has 8 or 16 bits a channel, else as it is.
std::string pixels_of(const cv::Mat& decoded) {
  cv::Mat image = decoded;
  const bool integer = image.depth() == CV_8U || image.depth() == CV_16U;
  std::string kind = image.depth() == CV_8U ? "8" : "16";
  if (integer && image.channels() == 1) {
    cv::cvtColor(decoded, image, cv::COLOR_GRAY2RGBA);
  } else if (integer && image.channels() == 3) {
    cv::cvtColor(decoded, image, cv::COLOR_BGR2RGBA);
  } else if (integer && image.channels() == 4) {
    cv::cvtColor(decoded, image, cv::COLOR_BGRA2RGBA);
  } else {
    kind = "opencv" + std::to_string(image.type());
  }
  PixelHash hash(static_cast<std::uint32_t>(image.cols), static_cast<std::uint32_t>(image.rows),
                 kind);
  const std::size_t size = static_cast<std::size_t>(image.cols) * image.elemSize();
  for (int y = 0; y < image.rows; ++y) hash.add(image.ptr(y), size);
  return hash.finish();
}

// OpenCV reads its bound from the environment, once.
void bound_pixels() {
  static const bool kDone = [] {
    ::setenv("OPENCV_IO_MAX_IMAGE_PIXELS", std::to_string(kMaxPixels).c_str(), 1);
    ::setenv("OPENCV_LOG_LEVEL", "OFF", 1);
    return true;
  }();
  (void)kDone;
}

Rung refused(const cv::Exception& failure) {
  const std::string why = failure.err.empty() ? failure.what() : failure.err;
  const bool bound =
      why.find("CV_IO_MAX_IMAGE") != std::string::npos || failure.code == cv::Error::StsNoMem;
  if (bound) return Rung::undecoded("not decoded: it has too many pixels");
  return Rung::damaged("OpenCV: " + why);
}

}  // namespace

Rung decode_picture(std::string_view bytes) {
  bound_pixels();
  if (bytes.size() > static_cast<std::size_t>(INT_MAX))
    return Rung::undecoded("not decoded: it is too large for OpenCV");
  try {
    const cv::Mat encoded(1, static_cast<int>(bytes.size()), CV_8U,
                          const_cast<char*>(bytes.data()));
    const cv::Mat image = cv::imdecode(encoded, cv::IMREAD_UNCHANGED);
    if (image.empty()) return Rung::damaged("OpenCV does not decode it");
    return {ContentState::kWhole, pixels_of(image), {}};
  } catch (const cv::Exception& failure) {
    return refused(failure);
  }
}

Rung decode_pages(const std::filesystem::path& path) {
  bound_pixels();
  try {
    std::vector<cv::Mat> pages;
    if (!cv::imreadmulti(path.string(), pages, cv::IMREAD_UNCHANGED) || pages.empty())
      return Rung::damaged("OpenCV does not decode it");
    if (pages.size() == 1) return {ContentState::kWhole, pixels_of(pages[0]), {}};
    std::string all;
    for (const cv::Mat& page : pages) all += pixels_of(page) + '\n';
    return {
        ContentState::kWhole, "pages:" + std::to_string(pages.size()) + ":" + hash_bytes(all), {}};
  } catch (const cv::Exception& failure) {
    return refused(failure);
  }
}

}  // namespace crashworthy::content

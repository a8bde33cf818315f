// What the tests of the image part share: made-up images, the photographs of opencv-doc, a
// temporary directory.
#pragma once

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <opencv2/core.hpp>

#include "harness/os/random.h"

namespace crashworthy::tiles {

// Removes itself and what is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name =
        (std::filesystem::temp_directory_path() / "crashworthy-tiles-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Random pixels with `levels` different values. Few levels make many equal gradients: the ties that
// tell two Cannys apart.
inline cv::Mat random_image(int width, int height, int channels, int levels, std::uint64_t seed) {
  cv::Mat image(height, width, CV_8UC(channels));
  Random random(seed);
  for (int y = 0; y < height; ++y) {
    unsigned char* row = image.ptr<unsigned char>(y);
    for (int i = 0; i < width * channels; ++i) {
      row[i] = static_cast<unsigned char>(random.below(static_cast<std::uint64_t>(levels)) * 255 /
                                          static_cast<std::uint64_t>(std::max(levels - 1, 1)));
    }
  }
  return image;
}

// The photographs of opencv-doc, smallest names first; empty where the package is not installed.
inline std::vector<std::filesystem::path> photographs() {
  std::vector<std::filesystem::path> found;
  std::error_code missing;
  for (const auto& entry :
       std::filesystem::directory_iterator("/usr/share/doc/opencv-doc/examples/data", missing)) {
    const auto extension = entry.path().extension();
    if (entry.is_regular_file() && (extension == ".jpg" || extension == ".png"))
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// How many bytes differ; -1 when the sizes or types do.
inline long difference(const cv::Mat& a, const cv::Mat& b) {
  if (a.size() != b.size() || a.type() != b.type()) return -1;
  long count = 0;
  for (int y = 0; y < a.rows; ++y) {
    const unsigned char* left = a.ptr<unsigned char>(y);
    const unsigned char* right = b.ptr<unsigned char>(y);
    for (std::size_t i = 0; i < a.cols * a.elemSize(); ++i) count += left[i] != right[i];
  }
  return count;
}

}  // namespace crashworthy::tiles

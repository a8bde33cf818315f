// Images made up from a seed, for machines without photographs and for sizes that no photograph
// has. They look like pictures to a filter: smooth light, flat shapes with sharp edges, texture and
// grain.
#pragma once

#include <cstdint>
#include <filesystem>

#include <opencv2/core.hpp>

#include "harness/os/result.h"

namespace crashworthy::tiles {

// The pixels `region` of the endless picture `seed`, written to `out` (8-bit, 3 channels, of the
// size of `region`, BGR). Each pixel depends on its place and the seed alone, by integer
// arithmetic: the same on every machine, whatever the regions asked for. `region` lies in 0 <= x, y
// < 2^20.
void paint_region(std::uint64_t seed, const cv::Rect& region, cv::Mat& out);

// Writes the picture's top left `width` x `height` pixels as a PPM file, in little memory whatever
// the size. Replaces `path`; on failure no file is left. The same `seed` and size give the same
// bytes.
Result<void> generate_ppm(const std::filesystem::path& path, int width, int height,
                          std::uint64_t seed);

inline constexpr int kMaxGeneratedSet = 100'000;

// Writes `count` images of 300 to 1200 pixels a side to `directory` (made if missing):
// image-00000.jpg, image-00001.png and so on, half of them JPEG. The same `seed` gives the same
// files; image i does not depend on `count`.
Result<void> generate_set(const std::filesystem::path& directory, int count, std::uint64_t seed);

}  // namespace crashworthy::tiles

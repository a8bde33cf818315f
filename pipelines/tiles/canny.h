// Canny edges in two steps that can be split: a map per tile, then one hysteresis over the merged
// map.
//
// The result equals cv::Canny(image, low, high, 3, false) of the whole image byte for byte, for 1
// and 3 channels.
#pragma once

#include <cstddef>
#include <cstdint>

#include <opencv2/core.hpp>

#include "harness/os/result.h"

namespace crashworthy::tiles {

// What canny_map() writes for a pixel.
inline constexpr std::uint8_t kNoEdge = 0;
inline constexpr std::uint8_t kWeakEdge = 1;    // An edge if it touches an edge.
inline constexpr std::uint8_t kStrongEdge = 2;  // An edge.

// A pixel's map value depends on the pixels at most this far away: 1 for the gradient, 1 for its
// neighbours' gradients.
inline constexpr int kCannyHalo = 2;

// The map of `region` (8-bit, 1 or 3 channels, not empty, not a part of a larger Mat), as a new
// 8-bit Mat of its size. A side of the region that is a side of the image is treated as OpenCV
// does. At any other side the outer kCannyHalo pixels of the map are wrong and have to be cut off.
// `low` <= `high` are thresholds of |dx|+|dy|. Lets cv::Exception through.
cv::Mat canny_map(const cv::Mat& region, int low, int high);

// Entries of the hysteresis stack: 8 bytes each, and only touched ones take memory.
inline constexpr std::size_t kHysteresisStack = std::size_t{8} << 20;

struct HysteresisStats {
  std::size_t sweeps = 0;       // Passes over the map; 1 unless the stack overflowed.
  std::size_t deepest = 0;      // Most entries in use.
  std::uint64_t overflows = 0;  // Pixels left for a later pass.
};

// Turns a merged map of canny_map() values into edges (255) and the rest (0), in place, whatever
// the size of the map. Takes at most 8 * `stack_bound` bytes besides. A smaller bound costs passes,
// never correctness; `stack_bound` > 0. `map` is 8-bit with 1 channel. A finished map stays as it
// is; one left half-way (the process died) has to be merged anew.
HysteresisStats canny_hysteresis(cv::Mat& map, std::size_t stack_bound = kHysteresisStack);

}  // namespace crashworthy::tiles

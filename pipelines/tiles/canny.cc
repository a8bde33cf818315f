#include "pipelines/tiles/canny.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include <opencv2/imgproc.hpp>

namespace crashworthy::tiles {
namespace {

constexpr std::uint8_t kEdge = 255;  // A found edge whose neighbours are done or on the stack.

// One row of gradients: its direction, and its length with a zero on either side.
struct GradientRow {
  explicit GradientRow(int width) : dx(width), dy(width), length(width + 2) {}
  std::vector<int> dx;
  std::vector<int> dy;
  std::vector<int> length;

  void clear() { std::fill(length.begin(), length.end(), 0); }

  // Keeps, for each pixel, the first channel whose |dx|+|dy| is the largest.
  void load(const short* x, const short* y, int width, int channels) {
    for (int i = 0; i < width; ++i, x += channels, y += channels) {
      int best = 0;
      int best_length = std::abs(x[0]) + std::abs(y[0]);
      for (int c = 1; c < channels; ++c) {
        const int candidate = std::abs(x[c]) + std::abs(y[c]);
        if (candidate > best_length) {
          best = c;
          best_length = candidate;
        }
      }
      dx[i] = x[best];
      dy[i] = y[best];
      length[i + 1] = best_length;
    }
  }
};

// Whether pixel `i` of `row` is the ridge of its edge: longer than its neighbours across the edge.
// The asymmetry of > and >=, and the integer tangents, are OpenCV's; they decide ties.
bool is_ridge(const GradientRow& above, const GradientRow& row, const GradientRow& below, int i) {
  constexpr int kShift = 15;
  constexpr int kTan22 = 13573;  // tan(22.5 degrees) * 2^15
  const int length = row.length[i + 1];
  const int x = std::abs(row.dx[i]);
  const int y = std::abs(row.dy[i]) << kShift;
  const int tan22 = x * kTan22;
  if (y < tan22) return length > row.length[i] && length >= row.length[i + 2];
  const int tan67 = tan22 + (x << (kShift + 1));
  if (y > tan67) return length > above.length[i + 1] && length >= below.length[i + 1];
  const int slope = (row.dx[i] ^ row.dy[i]) < 0 ? -1 : 1;
  return length > above.length[i + 1 - slope] && length > below.length[i + 1 + slope];
}

// A stack of pixels with a fixed room; memory is taken from the kernel only where it is touched.
class PixelStack {
 public:
  explicit PixelStack(std::size_t bound) : bound_(bound), entries_(new Entry[bound]) {}
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == bound_; }
  std::size_t deepest() const { return deepest_; }
  void push(int x, int y) {
    entries_[size_++] = {x, y};
    deepest_ = std::max(deepest_, size_);
  }
  std::array<int, 2> pop() {
    const Entry entry = entries_[--size_];
    return {entry.x, entry.y};
  }

 private:
  struct Entry {  // No initialisers: `new Entry[n]` must not touch the memory.
    int x, y;
  };
  std::size_t bound_;
  std::size_t size_ = 0;
  std::size_t deepest_ = 0;
  std::unique_ptr<Entry[]> entries_;
};

class Hysteresis {
 public:
  Hysteresis(cv::Mat& map, std::size_t bound) : map_(map), stack_(bound) {}

  HysteresisStats run() {
    // A pixel for which the stack has no room stays kStrongEdge, as if it had been so from the
    // start. Those ahead of the scan are met by it; for those behind it the next sweep starts at
    // the first such row. Each sweep ends a pixel, so this terminates.
    int row = 0;
    while (row < map_.rows) row = sweep(row);
    for (int y = 0; y < map_.rows; ++y) {
      std::uint8_t* pixels = map_.ptr<std::uint8_t>(y);
      for (int x = 0; x < map_.cols; ++x) pixels[x] = pixels[x] == kEdge ? kEdge : 0;
    }
    stats_.deepest = stack_.deepest();
    return stats_;
  }

 private:
  // Follows every strong pixel from row `first` on; returns the row at which to sweep again, or the
  // number of rows.
  int sweep(int first) {
    ++stats_.sweeps;
    left_behind_ = map_.rows;
    for (int y = first; y < map_.rows; ++y) {
      std::uint8_t* pixels = map_.ptr<std::uint8_t>(y);
      int x = 0;
      while (const void* found = std::memchr(pixels + x, kStrongEdge, map_.cols - x)) {
        x = static_cast<int>(static_cast<const std::uint8_t*>(found) - pixels);
        pixels[x] = kEdge;
        stack_.push(x, y);
        follow(y);
      }
    }
    return left_behind_;
  }

  void follow(int scan_row) {
    while (!stack_.empty()) {
      const auto [x, y] = stack_.pop();
      const int left = std::max(x - 1, 0);
      const int right = std::min(x + 1, map_.cols - 1);
      const int bottom = std::min(y + 1, map_.rows - 1);
      for (int ny = std::max(y - 1, 0); ny <= bottom; ++ny) {
        std::uint8_t* pixels = map_.ptr<std::uint8_t>(ny);
        for (int nx = left; nx <= right; ++nx) {
          if (pixels[nx] == kWeakEdge || pixels[nx] == kStrongEdge)
            visit(pixels[nx], nx, ny, scan_row);
        }
      }
    }
  }

  void visit(std::uint8_t& pixel, int x, int y, int scan_row) {
    if (!stack_.full()) {
      pixel = kEdge;
      stack_.push(x, y);
      return;
    }
    pixel = kStrongEdge;
    ++stats_.overflows;
    // The scan stands on scan_row and still looks at the rest of that row, but not at what is left
    // of it.
    if (y <= scan_row) left_behind_ = std::min(left_behind_, y);
  }

  cv::Mat& map_;
  PixelStack stack_;
  HysteresisStats stats_;
  int left_behind_ = 0;
};

}  // namespace

cv::Mat canny_map(const cv::Mat& region, int low, int high) {
  CRASHWORTHY_CHECK(region.depth() == CV_8U && !region.empty() && !region.isSubmatrix(),
                    region.type());
  CRASHWORTHY_CHECK(low <= high, low, high);
  const int width = region.cols;
  cv::Mat dx, dy;
  cv::Sobel(region, dx, CV_16S, 1, 0, 3, 1, 0, cv::BORDER_REPLICATE);
  cv::Sobel(region, dy, CV_16S, 0, 1, 3, 1, 0, cv::BORDER_REPLICATE);

  cv::Mat map(region.size(), CV_8UC1);
  GradientRow above(width), row(width), below(width);
  row.load(dx.ptr<short>(0), dy.ptr<short>(0), width, region.channels());
  for (int y = 0; y < region.rows; ++y) {
    if (y + 1 < region.rows) {
      below.load(dx.ptr<short>(y + 1), dy.ptr<short>(y + 1), width, region.channels());
    } else {
      below.clear();
    }
    std::uint8_t* out = map.ptr<std::uint8_t>(y);
    for (int x = 0; x < width; ++x) {
      const int length = row.length[x + 1];
      const bool edge = length > low && is_ridge(above, row, below, x);
      out[x] = !edge ? kNoEdge : length > high ? kStrongEdge : kWeakEdge;
    }
    std::swap(above, row);
    std::swap(row, below);
  }
  return map;
}

HysteresisStats canny_hysteresis(cv::Mat& map, std::size_t stack_bound) {
  CRASHWORTHY_CHECK(map.type() == CV_8UC1, map.type());
  CRASHWORTHY_CHECK(stack_bound > 0);
  if (map.empty()) return {};
  return Hysteresis(map, std::min(stack_bound, map.total())).run();
}

}  // namespace crashworthy::tiles

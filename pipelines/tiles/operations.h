// The chain of image operations that the subject runs, and the promise that makes it a good
// subject: an image done in tiles of any size is byte for byte the image done whole.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <opencv2/core.hpp>

#include "harness/os/result.h"

namespace crashworthy::tiles {

enum class OperationKind { kGray, kBlur, kMedian, kDenoise, kSharpen, kCanny, kEqualize, kInvert };

// One operation with its parameters. All work on 8-bit pixels with 1 or 3 channels.
struct Operation {
  OperationKind kind = OperationKind::kGray;
  int first = 0;   // blur, median: the size k; denoise: the strength h; canny: the low threshold.
  int second = 0;  // canny: the high threshold.

  std::string_view name() const;
  // As it is written in a chain, parameters included.
  std::string text() const;
  // How far away, in pixels along either axis, a pixel can be that matters to a pixel of the
  // result.
  int halo() const;
  int output_channels(int input_channels) const;
  // Whether a tile with its halo is enough. Not for equalize: it looks at the whole image.
  bool exact() const;
};

inline constexpr std::size_t kMaxOperations = 16;

// A chain of operations, checked. Immutable; safe from any thread.
class Chain {
 public:
  // Reads "blur:5,gray,canny:50:150". The operations:
  //   gray              luma of a colour image; a gray image stays as it is
  //   blur[:k]          Gaussian, k x k, k odd from 3 to 31, 5 unless told
  //   median[:k]        median of k x k, k 3 or 5, 3 unless told
  //   denoise[:h]       non-local means, strength h from 1 to 100, 3 unless told; slow on purpose
  //   sharpen           unsharp mask, 3 x 3
  //   canny[:low:high]  edges as 0 or 255, 0 <= low <= high <= 10000, 50:150 unless told; only last
  //   equalize          histogram of the luma; has no exact tiled form
  //   invert            255 - value
  // A mistake is a kUsage error that names it.
  static Result<Chain> parse(std::string_view text);

  const std::vector<Operation>& operations() const { return operations_; }
  std::string text() const;
  // The sum of the halos: what a tile needs around it.
  int halo() const;
  int output_channels(int input_channels) const;
  // A kUsage error that names the first operation without an exact tiled form.
  Result<void> require_exact() const;
  // Whether tiles are only half the work: finish() has to be called once they are all there.
  bool needs_finish() const;

 private:
  std::vector<Operation> operations_;
};

inline constexpr std::size_t kMaxTiles = std::size_t{1} << 24;

// A tile's width and height in pixels; square from one number.
struct TileSize {
  TileSize(int side) : width(side), height(side) {}  // NOLINT(google-explicit-constructor)
  TileSize(int w, int h) : width(w), height(h) {}
  int width;
  int height;
  std::string text() const;  // "256", "512x256".
};
// Reads "256" or "512x256"; each side from 1 to 2^20.
Result<TileSize> parse_tile_size(std::string_view text);

// How many tiles an image has. A size of 0 or less, or more than kMaxTiles tiles, is a kUsage
// error.
Result<std::size_t> tile_count(int width, int height, const TileSize& tile);

// Tile number `index` of tile_count(), row by row; the last column and row may be smaller, and a
// tile larger than the image is the image.
cv::Rect tile_rect(int width, int height, const TileSize& tile, std::size_t index);

// All of them.
Result<std::vector<cv::Rect>> tile_rects(int width, int height, const TileSize& tile);

// How the 3 channels of a pixel lie in memory: OpenCV's way, or a PPM file's. Operations always see
// OpenCV's, so an image gives the same edges and luma from a PNG and from a PPM.
enum class ChannelOrder { kBgr, kRgb };

struct TileOptions {
  ChannelOrder input_order = ChannelOrder::kBgr;
  ChannelOrder output_order = ChannelOrder::kBgr;
  // Called once, in a frame of libopencv_core (cv::parallel_for_), before the first operation. What
  // it throws reaches the caller, but for a cv::Exception, which is treated as one of OpenCV's own.
  std::function<void()> before_filters;
};

// Runs `chain` for the pixels `tile` of `input` and writes them to the same place of `output`,
// touching nothing else of it. `input` and `output` are headers over whole images of one size,
// maybe over mapped files; the halo is read from `input`. `output` must be 8-bit with
// chain.output_channels() channels. Pixels outside `input` are never read: both are not to be parts
// of larger Mats. If the chain has an operation without an exact tiled form, it sees the tile with
// its halo and nothing more.
//
// An exception of OpenCV becomes an Error, except cv::Error::StsNoMem, which is rethrown: out of
// memory is for the process to die of. Different tiles may be run from different threads and
// processes at once. On failure the tile's pixels are untouched.
Result<void> run_tile(const Chain& chain, const cv::Mat& input, const cv::Rect& tile,
                      cv::Mat& output, const TileOptions& options = {});

// The same into a Mat of its own, `result`, of the tile's size.
Result<void> filter_tile(const Chain& chain, const cv::Mat& input, const cv::Rect& tile,
                         cv::Mat& result, const TileOptions& options = {});

// The last step over a whole output, once: the hysteresis of canny, in place. Nothing for other
// chains.
void finish(const Chain& chain, cv::Mat& output);

// The chain on the whole image at once, by the plain functions of OpenCV (cv::Canny included): what
// the tiles have to equal. Errors and exceptions as with run_tile().
Result<cv::Mat> run_whole(const Chain& chain, const cv::Mat& image,
                          ChannelOrder order = ChannelOrder::kBgr);

}  // namespace crashworthy::tiles

#include "pipelines/tiles/operations.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>

#include <opencv2/imgproc.hpp>
#include <opencv2/photo.hpp>

#include "pipelines/tiles/canny.h"
#include "pipelines/tiles/opencv_error.h"

namespace crashworthy::tiles {
namespace {

constexpr int kDenoiseTemplate = 5;
constexpr int kDenoiseSearch = 11;

// One parameter: its default and what it may be.
struct Parameter {
  int standard, least, most, step;
  const char* meaning;
};

struct Row {
  OperationKind kind;
  std::string_view name;
  int parameters;  // Given all or none.
  std::array<Parameter, 2> limits;
};

constexpr std::array<Row, 8> kOperations = {{
    {OperationKind::kGray, "gray", 0, {}},
    {OperationKind::kBlur, "blur", 1, {{{5, 3, 31, 2, "an odd size from 3 to 31"}}}},
    {OperationKind::kMedian, "median", 1, {{{3, 3, 5, 2, "the size 3 or 5"}}}},
    {OperationKind::kDenoise, "denoise", 1, {{{3, 1, 100, 1, "a strength from 1 to 100"}}}},
    {OperationKind::kSharpen, "sharpen", 0, {}},
    {OperationKind::kCanny,
     "canny",
     2,
     {{{50, 0, 10000, 1, "a threshold from 0 to 10000"},
       {150, 0, 10000, 1, "a threshold from 0 to 10000"}}}},
    {OperationKind::kEqualize, "equalize", 0, {}},
    {OperationKind::kInvert, "invert", 0, {}},
}};

constexpr bool rows_match_kinds() {
  for (std::size_t i = 0; i < kOperations.size(); ++i) {
    if (static_cast<std::size_t>(kOperations[i].kind) != i) return false;
  }
  return true;
}
static_assert(rows_match_kinds(), "kOperations is indexed by OperationKind");

const Row& row_of(OperationKind kind) { return kOperations[static_cast<std::size_t>(kind)]; }

constexpr const char* kKnown =
    "known: gray, blur[:k], median[:k], denoise[:h], sharpen, canny[:low:high], equalize, invert";

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

Result<int> parse_parameter(const Row& row, const Parameter& parameter, std::string_view text) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool number = failure == std::errc() && end == text.data() + text.size();
  if (!number || value < parameter.least || value > parameter.most ||
      (value - parameter.least) % parameter.step != 0) {
    return usage_error("operation '" + std::string(row.name) + "' takes " + parameter.meaning +
                       ", not '" + std::string(text) + "'");
  }
  return value;
}

Result<Operation> parse_operation(std::string_view text) {
  const std::vector<std::string_view> parts = split(text, ':');
  const auto row = std::find_if(kOperations.begin(), kOperations.end(),
                                [&](const Row& candidate) { return candidate.name == parts[0]; });
  if (row == kOperations.end()) {
    if (text.empty()) return usage_error("the chain of operations has an empty place", kKnown);
    return usage_error("unknown operation '" + std::string(parts[0]) + "'", kKnown);
  }
  Operation operation{row->kind, row->limits[0].standard, row->limits[1].standard};
  const int given = static_cast<int>(parts.size()) - 1;
  if (given == 0) return operation;
  if (given != row->parameters) {
    const char* wanted = row->parameters == 0   ? "no parameter"
                         : row->parameters == 1 ? "one parameter or none"
                                                : "two parameters or none";
    return usage_error("operation '" + std::string(row->name) + "' takes " + wanted + ", not '" +
                           std::string(text) + "'",
                       kKnown);
  }
  for (int i = 0; i < given; ++i) {
    auto value = parse_parameter(*row, row->limits[i], parts[i + 1]);
    if (!value) return value.error();
    (i == 0 ? operation.first : operation.second) = *value;
  }
  if (operation.kind == OperationKind::kCanny && operation.first > operation.second) {
    return usage_error("operation 'canny' takes the low threshold first, not '" +
                       std::string(text) + "'");
  }
  return operation;
}

cv::Mat to_gray(const cv::Mat& image) {
  if (image.channels() == 1) return image;
  cv::Mat gray;
  cv::cvtColor(image, gray, cv::COLOR_BGR2GRAY);
  return gray;
}

cv::Mat equalize(const cv::Mat& image) {
  cv::Mat result;
  if (image.channels() == 1) {
    cv::equalizeHist(image, result);
    return result;
  }
  cv::Mat luma_chroma;
  cv::cvtColor(image, luma_chroma, cv::COLOR_BGR2YCrCb);
  std::vector<cv::Mat> planes;
  cv::split(luma_chroma, planes);
  cv::equalizeHist(planes[0], planes[0]);
  cv::merge(planes, luma_chroma);
  cv::cvtColor(luma_chroma, result, cv::COLOR_YCrCb2BGR);
  return result;
}

// The non-local means of a Mat. OpenCV's function for "colored" images goes through floating point
// Lab; this one is exact integers for any number of channels.
cv::Mat denoise(const cv::Mat& image, int strength) {
  cv::Mat result;
  cv::fastNlMeansDenoising(image, result, static_cast<float>(strength), kDenoiseTemplate,
                           kDenoiseSearch);
  return result;
}

// The float kernel that filter2D wants for 8-bit pixels: the sums are small integers, hence exact
// in any order.
cv::Mat sharpen(const cv::Mat& image) {
  const cv::Mat kernel = (cv::Mat_<float>(3, 3) << 0, -1, 0, -1, 5, -1, 0, -1, 0);
  cv::Mat result;
  cv::filter2D(image, result, CV_8U, kernel);
  return result;
}

// One operation but canny on an image of its own (not a part of a larger one: OpenCV would look
// around it).
cv::Mat apply(const Operation& operation, const cv::Mat& image) {
  cv::Mat result;
  switch (operation.kind) {
    case OperationKind::kGray:
      return to_gray(image);
    case OperationKind::kBlur:
      cv::GaussianBlur(image, result, cv::Size(operation.first, operation.first), 0);
      return result;
    case OperationKind::kMedian:
      cv::medianBlur(image, result, operation.first);
      return result;
    case OperationKind::kDenoise:
      return denoise(image, operation.first);
    case OperationKind::kSharpen:
      return sharpen(image);
    case OperationKind::kEqualize:
      return equalize(image);
    case OperationKind::kInvert:
      cv::bitwise_not(image, result);
      return result;
    case OperationKind::kCanny:
      break;
  }
  CRASHWORTHY_CHECK(false, operation.text());
  return result;
}

void swap_red_and_blue(cv::Mat& image, ChannelOrder order) {
  if (order == ChannelOrder::kRgb && image.channels() == 3)
    cv::cvtColor(image, image, cv::COLOR_RGB2BGR);
}

bool is_image(const cv::Mat& image) {
  return !image.empty() && image.dims == 2 && (image.type() == CV_8UC1 || image.type() == CV_8UC3);
}

// The work on a tile, as OpenCV's own filters do theirs: a body that cv::parallel_for_ calls. So a
// fault in it has frames of libopencv_core above it, like a fault in any real filter.
class TileBody : public cv::ParallelLoopBody {
 public:
  TileBody(const Chain& chain, const cv::Mat& input, const cv::Rect& tile, cv::Mat& result,
           const TileOptions& options)
      : chain_(chain), input_(input), tile_(tile), result_(result), options_(options) {}

  void operator()(const cv::Range&) const override {
    if (options_.before_filters) options_.before_filters();
    const int halo = chain_.halo();
    const cv::Rect image(0, 0, input_.cols, input_.rows);
    const cv::Rect region =
        cv::Rect(tile_.x - halo, tile_.y - halo, tile_.width + 2 * halo, tile_.height + 2 * halo) &
        image;
    // A copy: given a part of a larger Mat, OpenCV's filters look beyond its borders, and
    // GaussianBlur even computes otherwise.
    cv::Mat pixels = input_(region).clone();
    swap_red_and_blue(pixels, options_.input_order);
    for (const Operation& operation : chain_.operations()) {
      pixels = operation.kind == OperationKind::kCanny
                   ? canny_map(pixels, operation.first, operation.second)
                   : apply(operation, pixels);
    }
    swap_red_and_blue(pixels, options_.output_order);
    pixels(cv::Rect(tile_.x - region.x, tile_.y - region.y, tile_.width, tile_.height))
        .copyTo(result_);
  }

 private:
  const Chain& chain_;
  const cv::Mat& input_;
  const cv::Rect tile_;
  cv::Mat& result_;
  const TileOptions& options_;
};

}  // namespace

std::string_view Operation::name() const { return row_of(kind).name; }

std::string Operation::text() const {
  std::string text(name());
  const int parameters = row_of(kind).parameters;
  if (parameters >= 1) text += ":" + std::to_string(first);
  if (parameters >= 2) text += ":" + std::to_string(second);
  return text;
}

int Operation::halo() const {
  switch (kind) {
    case OperationKind::kBlur:
    case OperationKind::kMedian:
      return first / 2;
    case OperationKind::kDenoise:
      return kDenoiseTemplate / 2 + kDenoiseSearch / 2;
    case OperationKind::kSharpen:
      return 1;
    case OperationKind::kCanny:
      return kCannyHalo;
    case OperationKind::kGray:
    case OperationKind::kEqualize:
    case OperationKind::kInvert:
      return 0;
  }
  return 0;
}

int Operation::output_channels(int input_channels) const {
  return kind == OperationKind::kGray || kind == OperationKind::kCanny ? 1 : input_channels;
}

bool Operation::exact() const { return kind != OperationKind::kEqualize; }

Result<Chain> Chain::parse(std::string_view text) {
  if (text.empty()) return usage_error("the chain of operations is empty", kKnown);
  const std::vector<std::string_view> parts = split(text, ',');
  if (parts.size() > kMaxOperations) {
    return usage_error("a chain has at most " + std::to_string(kMaxOperations) +
                       " operations, not " + std::to_string(parts.size()));
  }
  Chain chain;
  for (const std::string_view part : parts) {
    auto operation = parse_operation(part);
    if (!operation) return operation.error();
    if (chain.needs_finish()) {
      return usage_error(
          "operation 'canny' must be the last one: its tiles are not edges until they are merged",
          "move it to the end of '" + std::string(text) + "'");
    }
    chain.operations_.push_back(*operation);
  }
  return chain;
}

std::string Chain::text() const {
  std::string text;
  for (const Operation& operation : operations_)
    text += (text.empty() ? "" : ",") + operation.text();
  return text;
}

int Chain::halo() const {
  int sum = 0;
  for (const Operation& operation : operations_) sum += operation.halo();
  return sum;
}

int Chain::output_channels(int input_channels) const {
  for (const Operation& operation : operations_)
    input_channels = operation.output_channels(input_channels);
  return input_channels;
}

Result<void> Chain::require_exact() const {
  for (const Operation& operation : operations_) {
    if (operation.exact()) continue;
    return usage_error(
        "operation '" + std::string(operation.name()) +
            "' has no exact tiled form: its result depends on the whole image",
        "take it out, or accept results that depend on the tile size with --inexact");
  }
  return {};
}

bool Chain::needs_finish() const {
  return !operations_.empty() && operations_.back().kind == OperationKind::kCanny;
}

std::string TileSize::text() const {
  return width == height ? std::to_string(width)
                         : std::to_string(width) + "x" + std::to_string(height);
}

Result<TileSize> parse_tile_size(std::string_view text) {
  constexpr int kMost = 1 << 20;
  TileSize size(0);
  const char* end = text.data() + text.size();
  auto [at, failure] = std::from_chars(text.data(), end, size.width);
  size.height = size.width;
  if (failure == std::errc() && at != end && *at == 'x') {
    const auto second = std::from_chars(at + 1, end, size.height);
    at = second.ptr;
    failure = second.ec;
  }
  const bool good = failure == std::errc() && at == end && std::min(size.width, size.height) >= 1 &&
                    std::max(size.width, size.height) <= kMost;
  if (good) return size;
  return usage_error("'" + std::string(text) + "' is no tile size",
                     "a side in pixels from 1 to 1048576, or WIDTHxHEIGHT");
}

Result<std::size_t> tile_count(int width, int height, const TileSize& tile) {
  if (width <= 0 || height <= 0) {
    return usage_error("an image of " + std::to_string(width) + " x " + std::to_string(height) +
                       " pixels has no tiles");
  }
  if (tile.width <= 0 || tile.height <= 0)
    return usage_error("a tile has at least 1 pixel a side, not " + tile.text());
  const std::int64_t columns = (std::int64_t{width} + tile.width - 1) / tile.width;
  const std::int64_t rows = (std::int64_t{height} + tile.height - 1) / tile.height;
  if (columns * rows > static_cast<std::int64_t>(kMaxTiles)) {
    return usage_error(std::to_string(columns * rows) + " tiles are more than the " +
                           std::to_string(kMaxTiles) + " that an image may have",
                       "take tiles larger than " + tile.text());
  }
  return static_cast<std::size_t>(columns * rows);
}

cv::Rect tile_rect(int width, int height, const TileSize& tile, std::size_t index) {
  const std::int64_t columns = (std::int64_t{width} + tile.width - 1) / tile.width;
  const auto number = static_cast<std::int64_t>(index);
  const auto x = static_cast<int>(number % columns * tile.width);
  const auto y = static_cast<int>(number / columns * tile.height);
  CRASHWORTHY_CHECK(y < height, index, width, height, tile.text());
  return {x, y, std::min(tile.width, width - x), std::min(tile.height, height - y)};
}

Result<std::vector<cv::Rect>> tile_rects(int width, int height, const TileSize& tile) {
  auto count = tile_count(width, height, tile);
  if (!count) return count.error();
  std::vector<cv::Rect> rects;
  rects.reserve(*count);
  for (std::size_t i = 0; i < *count; ++i) rects.push_back(tile_rect(width, height, tile, i));
  return rects;
}

Result<void> run_tile(const Chain& chain, const cv::Mat& input, const cv::Rect& tile,
                      cv::Mat& output, const TileOptions& options) {
  CRASHWORTHY_CHECK(output.size() == input.size(), output.rows, output.cols);
  CRASHWORTHY_CHECK((tile & cv::Rect(0, 0, input.cols, input.rows)) == tile, tile);
  cv::Mat result = output(tile);
  return filter_tile(chain, input, tile, result, options);
}

Result<void> filter_tile(const Chain& chain, const cv::Mat& input, const cv::Rect& tile,
                         cv::Mat& result, const TileOptions& options) {
  CRASHWORTHY_CHECK(is_image(input) && !input.isSubmatrix(), input.type(), input.rows, input.cols);
  CRASHWORTHY_CHECK(!tile.empty() && (tile & cv::Rect(0, 0, input.cols, input.rows)) == tile, tile);
  CRASHWORTHY_CHECK(result.size() == tile.size() &&
                        result.type() == CV_8UC(chain.output_channels(input.channels())),
                    result.type(), result.rows, result.cols);
  return guard_opencv("run " + chain.text() + " on a tile", [&]() -> Result<void> {
    cv::parallel_for_(cv::Range(0, 1), TileBody(chain, input, tile, result, options));
    return {};
  });
}

void finish(const Chain& chain, cv::Mat& output) {
  if (chain.needs_finish()) canny_hysteresis(output);
}

Result<cv::Mat> run_whole(const Chain& chain, const cv::Mat& image, ChannelOrder order) {
  CRASHWORTHY_CHECK(is_image(image), image.type(), image.rows, image.cols);
  return guard_opencv("run " + chain.text(), [&]() -> Result<cv::Mat> {
    cv::Mat pixels = image.clone();
    swap_red_and_blue(pixels, order);
    for (const Operation& operation : chain.operations()) {
      if (operation.kind == OperationKind::kCanny) {
        cv::Mat edges;
        cv::Canny(pixels, edges, operation.first, operation.second, 3, false);
        pixels = edges;
      } else {
        pixels = apply(operation, pixels);
      }
    }
    swap_red_and_blue(pixels, order);
    return pixels;
  });
}

}  // namespace crashworthy::tiles

#include "pipelines/tiles/generate.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <vector>

#include <opencv2/imgproc.hpp>

#include "harness/os/file.h"
#include "harness/os/random.h"
#include "pipelines/tiles/image_file.h"
#include "pipelines/tiles/ppm.h"

namespace crashworthy::tiles {
namespace {

constexpr int kBlock = 128;  // Painted at once; has no influence on the picture.

// A well mixed number for a place. Cheaper than derive_seed(), since it is asked once a pixel.
std::uint32_t hash_place(std::uint32_t seed, std::uint32_t x, std::uint32_t y) {
  std::uint32_t h = seed ^ x * 0x9E3779B1u ^ y * 0x85EBCA77u;
  h = (h ^ h >> 15) * 0x2C1B3C6Du;
  h = (h ^ h >> 12) * 0x297A2D39u;
  return h ^ h >> 15;
}

// Smooth noise from 0 to 255, given in 8-bit fractions: random values at the corners of a grid,
// linear in between.
class Noise {
 public:
  Noise(std::uint64_t seed, int cell_shift)
      : seed_(static_cast<std::uint32_t>(seed >> 32)), shift_(cell_shift) {}

  // Adds `weight` / 256 of the noise at (x0 .. x0 + count, y) to `sums`, in 8-bit fractions.
  void add(int x0, int y, int count, int weight, int* sums) const {
    const int cell = 1 << shift_;
    const int row = y >> shift_;
    const int down = y & (cell - 1);
    for (int x = x0; x < x0 + count;) {
      const int column = x >> shift_;
      const int left = mix(column, row, down);
      const int slope = mix(column + 1, row, down) - left;
      const int stop = std::min((column + 1) << shift_, x0 + count);
      for (int right = x & (cell - 1); x < stop; ++x, ++right) {
        sums[x - x0] += ((left + ((slope * right) >> shift_)) * weight) >> 8;
      }
    }
  }

 private:
  // The value at a vertical side of a cell, in 8-bit fractions.
  int mix(int column, int row, int down) const {
    const int top = corner(column, row);
    return (top << 8) + (((corner(column, row + 1) - top) * down << 8) >> shift_);
  }
  int corner(int column, int row) const {
    return static_cast<int>(
        hash_place(seed_, static_cast<std::uint32_t>(column), static_cast<std::uint32_t>(row)) >>
        24);
  }

  std::uint32_t seed_;
  int shift_;
};

struct Shape {
  bool ellipse = false;
  int x = 0, y = 0, half_width = 0, half_height = 0;
  std::array<int, 3> colour{};

  bool touches(const cv::Rect& block) const {
    return x - half_width < block.x + block.width && x + half_width >= block.x &&
           y - half_height < block.y + block.height && y + half_height >= block.y;
  }
  // Half of the shape's width in row `row`; -1 where it has none.
  int half_width_at(int row) const {
    const std::int64_t away = std::abs(row - y);
    if (away > half_height) return -1;
    if (!ellipse) return half_width;
    const std::int64_t square = std::int64_t{half_width} * half_width *
                                (std::int64_t{half_height} * half_height - away * away) /
                                std::max<std::int64_t>(1, std::int64_t{half_height} * half_height);
    return integer_root(square);
  }

 private:
  static int integer_root(std::int64_t square) {
    std::int64_t root = 0;
    for (std::int64_t bit = std::int64_t{1} << 12; bit > 0; bit >>= 1) {
      if ((root + bit) * (root + bit) <= square) root += bit;
    }
    return static_cast<int>(root);
  }
};

// Shapes scattered with one density: each cell of a grid has some, with their middles in the cell
// and no larger than a cell, so that a place needs to know only the cells around it.
struct ShapeLayer {
  const char* name;
  int cell;
  int most_in_cell;
};
constexpr std::array<ShapeLayer, 2> kShapeLayers = {
    {{"large shapes", 1024, 3}, {"small shapes", 192, 2}}};

void add_shapes_of_cell(std::uint64_t seed, const ShapeLayer& layer, int column, int row,
                        const cv::Rect& block, std::vector<Shape>& shapes) {
  Random random(
      derive_seed(seed, layer.name,
                  (static_cast<std::uint64_t>(row) << 32) + static_cast<std::uint64_t>(column)));
  const auto count = random.below(static_cast<std::uint64_t>(layer.most_in_cell) + 1);
  const auto pick = [&](int bound) {
    return static_cast<int>(random.below(static_cast<std::uint64_t>(bound)));
  };
  for (std::uint64_t i = 0; i < count; ++i) {
    Shape shape;
    shape.ellipse = pick(2) == 1;
    shape.x = column * layer.cell + pick(layer.cell);
    shape.y = row * layer.cell + pick(layer.cell);
    shape.half_width = layer.cell / 24 + pick(layer.cell / 3);
    shape.half_height = layer.cell / 24 + pick(layer.cell / 3);
    for (int& channel : shape.colour) channel = (20 + pick(200)) << 8;
    if (shape.touches(block)) shapes.push_back(shape);
  }
}

// The shapes that touch `block`, in the order in which they cover each other.
std::vector<Shape> shapes_of_block(std::uint64_t seed, const cv::Rect& block) {
  std::vector<Shape> shapes;
  for (const ShapeLayer& layer : kShapeLayers) {
    const int last_row = (block.y + block.height - 1) / layer.cell + 1;
    const int last_column = (block.x + block.width - 1) / layer.cell + 1;
    for (int row = std::max(block.y / layer.cell - 1, 0); row <= last_row; ++row) {
      for (int column = std::max(block.x / layer.cell - 1, 0); column <= last_column; ++column) {
        add_shapes_of_cell(seed, layer, column, row, block, shapes);
      }
    }
  }
  return shapes;
}

class Painter {
 public:
  explicit Painter(std::uint64_t seed)
      : seed_(seed),
        grain_(static_cast<std::uint32_t>(derive_seed(seed, "grain") >> 32)),
        light_{Noise(derive_seed(seed, "light", 0), 9), Noise(derive_seed(seed, "light", 1), 9),
               Noise(derive_seed(seed, "light", 2), 9)},
        texture_coarse_(derive_seed(seed, "coarse texture"), 5),
        texture_fine_(derive_seed(seed, "fine texture"), 2) {}

  // `block` is at most kBlock wide.
  void paint(const cv::Rect& block, cv::Mat out) const {
    const std::vector<Shape> shapes = shapes_of_block(seed_, block);
    for (int row = 0; row < block.height; ++row)
      paint_row(block, block.y + row, shapes, out.ptr<unsigned char>(row));
  }

 private:
  using Row = std::array<int, kBlock>;  // Values in 8-bit fractions.

  void paint_row(const cv::Rect& block, int y, const std::vector<Shape>& shapes,
                 unsigned char* pixels) const {
    std::array<Row, 3> colour{};
    for (std::size_t c = 0; c < 3; ++c)
      light_[c].add(block.x, y, block.width, 256, colour[c].data());
    for (const Shape& shape : shapes) cover(shape, block, y, colour);

    Row detail{};
    texture_coarse_.add(block.x, y, block.width, 40, detail.data());
    texture_fine_.add(block.x, y, block.width, 24, detail.data());
    for (int i = 0; i < block.width; ++i) {
      const std::uint32_t noise = hash_place(grain_, static_cast<std::uint32_t>(block.x + i),
                                             static_cast<std::uint32_t>(y));
      detail[i] +=
          static_cast<int>(noise >> 22) - (32 << 8);  // Grain of 4 levels, then all around 0.
    }
    for (int i = 0; i < block.width; ++i) {
      for (std::size_t c = 0; c < 3; ++c) {
        pixels[3 * i + static_cast<int>(c)] =
            static_cast<unsigned char>(std::clamp((colour[c][i] + detail[i]) >> 8, 0, 255));
      }
    }
  }

  // Paints the shape over what lies below; some of the light falls on it too.
  static void cover(const Shape& shape, const cv::Rect& block, int y, std::array<Row, 3>& colour) {
    const int half = shape.half_width_at(y);
    if (half < 0) return;
    const int first = std::max(shape.x - half - block.x, 0);
    const int last = std::min(shape.x + half - block.x, block.width - 1);
    for (std::size_t c = 0; c < 3; ++c) {
      for (int i = first; i <= last; ++i) colour[c][i] = (shape.colour[c] * 7 + colour[c][i]) >> 3;
    }
  }

  std::uint64_t seed_;
  std::uint32_t grain_;
  std::array<Noise, 3> light_;
  Noise texture_coarse_;
  Noise texture_fine_;
};

Result<void> write_image(const std::filesystem::path& directory, int index, std::uint64_t seed) {
  Random random(seed);
  const auto side = [&] { return 300 + static_cast<int>(random.below(901)); };
  const int width = side();
  const int height = side();
  const bool jpeg = random.below(2) == 0;
  cv::Mat image(height, width, CV_8UC3);
  paint_region(random.next(), cv::Rect(0, 0, width, height), image);
  const std::string_view extension = jpeg ? ".jpg" : ".png";
  auto bytes = encode_image(extension, image);
  if (!bytes) return bytes.error();
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "image-%05d%s", index, extension.data());
  return write_file_atomically(directory / name.data(), *bytes);
}

}  // namespace

void paint_region(std::uint64_t seed, const cv::Rect& region, cv::Mat& out) {
  CRASHWORTHY_CHECK(out.type() == CV_8UC3 && out.size() == region.size(), out.type(), out.rows,
                    out.cols);
  CRASHWORTHY_CHECK(region.x >= 0 && region.y >= 0 && region.x + region.width <= kMaxPpmSide &&
                        region.y + region.height <= kMaxPpmSide,
                    region);
  const Painter painter(seed);
  for (int y = 0; y < region.height; y += kBlock) {
    for (int x = 0; x < region.width; x += kBlock) {
      const cv::Rect part(x, y, std::min(kBlock, region.width - x),
                          std::min(kBlock, region.height - y));
      painter.paint(part + region.tl(), out(part));
    }
  }
}

Result<void> generate_ppm(const std::filesystem::path& path, int width, int height,
                          std::uint64_t seed) {
  auto image = MappedImage::create(path, width, height, 3);
  if (!image) return image.error();
  const cv::Mat pixels = image->pixels();
  for (int y = 0; y < height; y += kBlock) {
    const int last = std::min(y + kBlock, height);
    cv::Mat band = pixels.rowRange(y, last);
    paint_region(seed, cv::Rect(0, y, width, last - y), band);
    cv::cvtColor(band, band, cv::COLOR_BGR2RGB);
    image->release_rows(y, last);
  }
  return {};
}

Result<void> generate_set(const std::filesystem::path& directory, int count, std::uint64_t seed) {
  if (count < 1 || count > kMaxGeneratedSet) {
    return usage_error("a set has from 1 to " + std::to_string(kMaxGeneratedSet) + " images, not " +
                       std::to_string(count));
  }
  if (auto made = make_directories(directory); !made) return made.error();
  for (int i = 0; i < count; ++i) {
    auto written = write_image(directory, i,
                               derive_seed(seed, "image of a set", static_cast<std::uint64_t>(i)));
    if (!written) return written.error().with_context("generate image " + std::to_string(i));
  }
  return {};
}

}  // namespace crashworthy::tiles

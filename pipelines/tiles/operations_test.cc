// The promise of the subject: an image done in tiles, of whatever size, is byte for byte the image
// done whole.
#include "pipelines/tiles/operations.h"

#include <execinfo.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <stdexcept>

#include <opencv2/imgproc.hpp>

#include "harness/os/clock.h"
#include "pipelines/tiles/generate.h"
#include "pipelines/tiles/image_file.h"
#include "pipelines/tiles/test_images.h"

namespace crashworthy::tiles {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// One thread, as in the workers.
class Operations : public ::testing::Test {
 protected:
  void SetUp() override { cv::setNumThreads(1); }
};

Chain chain_of(const std::string& text) {
  auto chain = Chain::parse(text);
  EXPECT_TRUE(chain) << text;
  return *chain;
}

cv::Mat run_tiled(const Chain& chain, const cv::Mat& image, int tile,
                  const TileOptions& options = {}) {
  cv::Mat output(image.size(), CV_8UC(chain.output_channels(image.channels())),
                 cv::Scalar::all(77));
  const auto rects = tile_rects(image.cols, image.rows, tile);
  for (const cv::Rect& rect : *rects) {
    auto done = run_tile(chain, image, rect, output, options);
    EXPECT_TRUE(done) << done.error().message;
  }
  finish(chain, output);
  return output;
}

void expect_tiles_equal_whole(const std::string& ops, const cv::Mat& image,
                              const std::vector<int>& tiles) {
  const Chain chain = chain_of(ops);
  auto whole = run_whole(chain, image);
  ASSERT_TRUE(whole) << ops << ": " << whole.error().message;
  for (const int tile : tiles) {
    EXPECT_EQ(difference(run_tiled(chain, image, tile), *whole), 0)
        << ops << " in tiles of " << tile << " on " << image.cols << " x " << image.rows << " x "
        << image.channels();
  }
}

const std::vector<std::string> kSingleOperations = {
    "gray",     "blur:3",    "blur",    "blur:7", "blur:15",      "blur:31",   "median:3",
    "median:5", "denoise:3", "sharpen", "invert", "canny:50:150", "canny:0:0", "canny:200:900"};
const std::vector<std::string> kChains = {
    "blur:5,gray,canny:50:150", "blur:3,canny",      "median:5,sharpen,invert",
    "gray,denoise:10,canny",    "denoise,blur:7",    "sharpen,sharpen,blur:9,median",
    "invert,gray,invert",       "blur:31,canny:1:5", "gray,gray,blur:3,blur:3,blur:3"};
const std::vector<int> kTiles = {7, 16, 61, 64, 100, 256, 1000};

TEST_F(Operations, TilesEqualTheWholeImage) {
  cv::Mat picture(129, 257, CV_8UC3);
  paint_region(5, cv::Rect(300, 200, 257, 129), picture);
  cv::Mat gray;
  cv::cvtColor(picture, gray, cv::COLOR_BGR2GRAY);
  for (const auto* list : {&kSingleOperations, &kChains}) {
    for (const std::string& ops : *list) {
      const bool slow = ops.find("denoise") != std::string::npos;
      const std::vector<int> tiles = slow ? std::vector<int>{16, 61, 100, 1000} : kTiles;
      expect_tiles_equal_whole(ops, picture, tiles);
      expect_tiles_equal_whole(ops, gray, tiles);
      if (!slow) expect_tiles_equal_whole(ops, random_image(257, 129, 3, 4, 9), tiles);
    }
  }
}

// Images smaller than the kernels, a single row, a single column, and tiles of one pixel.
TEST_F(Operations, TilesEqualTheWholeImageWhenItIsTiny) {
  const std::vector<cv::Size> sizes = {{1, 1}, {2, 1}, {1, 40}, {40, 1}, {2, 33},
                                       {3, 5}, {5, 3}, {17, 9}, {37, 23}};
  for (const auto* list : {&kSingleOperations, &kChains}) {
    for (const std::string& ops : *list) {
      for (const cv::Size& size : sizes) {
        const bool slow = ops.find("denoise") != std::string::npos && size.area() > 100;
        for (const int channels : {1, 3}) {
          expect_tiles_equal_whole(ops, random_image(size.width, size.height, channels, 256, 11),
                                   slow ? std::vector{5, 16} : std::vector{1, 2, 7, 16});
        }
      }
    }
  }
}

TEST_F(Operations, TilesEqualTheWholeImageWhateverTheWidth) {
  // Each remainder of a vector register's width, for the whole image and for its tiles.
  for (int width = 60; width < 60 + 33; ++width) {
    for (const char* ops : {"blur:5", "median:3", "median:5", "sharpen", "gray", "canny",
                            "blur:3,median:5,canny:30:60"}) {
      expect_tiles_equal_whole(
          ops, random_image(width, 20, 3, 256, static_cast<std::uint64_t>(width)), {16, 31});
      expect_tiles_equal_whole(
          ops, random_image(width, 20, 1, 256, static_cast<std::uint64_t>(width)), {16, 31});
    }
  }
}

TEST_F(Operations, TilesEqualTheWholePhotograph) {
  const auto files = photographs();
  if (files.empty()) GTEST_SKIP() << "the package opencv-doc with its photographs is not installed";
  for (std::size_t i = 0; i < files.size(); i += files.size() / 8 + 1) {
    auto image = read_image(files[i]);
    ASSERT_TRUE(image) << image.error().message;
    for (const char* ops : {"blur:5,gray,canny:50:150", "median:5,sharpen", "canny:100:200"}) {
      expect_tiles_equal_whole(ops, *image, {61, 256});
    }
  }
}

TEST_F(Operations, TilesEqualTheWholeImageWithSeveralThreads) {
  const cv::Mat image = random_image(300, 200, 3, 256, 4);
  auto whole = run_whole(chain_of("blur:5,median,canny"), image);
  cv::setNumThreads(4);
  EXPECT_EQ(difference(run_tiled(chain_of("blur:5,median,canny"), image, 64), *whole), 0);
  auto threaded = run_whole(chain_of("blur:5,median,canny"), image);
  cv::setNumThreads(1);
  EXPECT_EQ(difference(*threaded, *whole), 0);
}

TEST_F(Operations, SeeTheSameColoursInAPpm) {
  const cv::Mat bgr = random_image(90, 70, 3, 4, 8);
  cv::Mat rgb;
  cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
  for (const char* ops : {"gray", "canny", "blur:3,sharpen"}) {
    const Chain chain = chain_of(ops);
    const cv::Mat plain = run_tiled(chain, bgr, 32);
    EXPECT_EQ(
        difference(run_tiled(chain, rgb, 32, {ChannelOrder::kRgb, ChannelOrder::kBgr, {}}), plain),
        0)
        << ops;
    cv::Mat back = run_tiled(chain, bgr, 32, {ChannelOrder::kBgr, ChannelOrder::kRgb, {}});
    if (back.channels() == 3) cv::cvtColor(back, back, cv::COLOR_RGB2BGR);
    EXPECT_EQ(difference(back, plain), 0) << ops;
  }
}

TEST_F(Operations, TouchOnlyTheirTile) {
  const cv::Mat image = random_image(50, 40, 3, 256, 2);
  cv::Mat output(image.size(), CV_8UC3, cv::Scalar::all(77));
  const cv::Rect tile(10, 5, 20, 20);
  ASSERT_TRUE(run_tile(chain_of("blur:9"), image, tile, output));
  output(tile).setTo(cv::Scalar::all(77));
  EXPECT_EQ(difference(output, cv::Mat(image.size(), CV_8UC3, cv::Scalar::all(77))), 0);
}

TEST_F(Operations, EqualizeRunsButIsNotExact) {
  const Chain chain = chain_of("gray,equalize");
  const auto refused = chain.require_exact();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(refused.error().message,
            "operation 'equalize' has no exact tiled form: its result depends on the whole image");
  EXPECT_THAT(refused.error().hint, HasSubstr("--inexact"));
  EXPECT_TRUE(chain_of("gray,canny").require_exact());

  cv::Mat picture(200, 200, CV_8UC3);
  paint_region(5, cv::Rect(0, 0, 200, 200), picture);
  for (const char* ops : {"equalize", "gray,equalize"}) {
    const cv::Mat whole = *run_whole(chain_of(ops), picture);
    EXPECT_EQ(difference(run_tiled(chain_of(ops), picture, 500), whole), 0)
        << "one tile is the whole image";
    EXPECT_GT(difference(run_tiled(chain_of(ops), picture, 64), whole), 0)
        << "otherwise why refuse it?";
  }
}

// An abort at the hook must look like one inside a filter: OpenCV's own frames lie above it.
TEST_F(Operations, CallTheHookOnceInAFrameOfOpenCv) {
  const cv::Mat image = random_image(20, 20, 1, 256, 2);
  cv::Mat output(image.size(), CV_8UC1, cv::Scalar::all(77));
  int calls = 0;
  bool in_opencv = false;
  TileOptions options;
  options.before_filters = [&] {
    ++calls;
    std::array<void*, 64> frames{};
    const int count = ::backtrace(frames.data(), static_cast<int>(frames.size()));
    char** names = ::backtrace_symbols(frames.data(), count);
    for (int i = 0; i < count; ++i)
      in_opencv = in_opencv || std::string(names[i]).find("libopencv_core") != std::string::npos;
    ::free(names);
  };
  ASSERT_TRUE(run_tile(chain_of("blur"), image, cv::Rect(0, 0, 20, 20), output, options));
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(in_opencv);
}

TEST_F(Operations, PassOutOfMemoryOnAndTurnOtherErrorsOfOpenCvIntoErrors) {
  const cv::Mat image = random_image(20, 20, 1, 256, 2);
  cv::Mat output(image.size(), CV_8UC1, cv::Scalar::all(77));
  const cv::Rect tile(0, 0, 20, 20);
  TileOptions options;
  options.before_filters = [] {
    throw cv::Exception(cv::Error::StsNoMem, "no more", "f", "f.cc", 1);
  };
  EXPECT_THROW((void)run_tile(chain_of("blur"), image, tile, output, options), cv::Exception);
  options.before_filters = [] { throw std::runtime_error("not OpenCV's"); };
  EXPECT_THROW((void)run_tile(chain_of("blur"), image, tile, output, options), std::runtime_error);
  options.before_filters = [] {
    throw cv::Exception(cv::Error::StsAssert, "two\nlines ", "f", "f.cc", 1);
  };
  const auto failed = run_tile(chain_of("blur"), image, tile, output, options);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "run blur:5 on a tile: OpenCV: two lines");
  EXPECT_EQ(difference(output, cv::Mat(image.size(), CV_8UC1, cv::Scalar::all(77))), 0);
}

TEST_F(Operations, ReadTheirChainAndWriteItBack) {
  EXPECT_EQ(chain_of("blur,median,denoise,canny").text(), "blur:5,median:3,denoise:3,canny:50:150");
  EXPECT_EQ(chain_of("gray,sharpen,equalize,invert").text(), "gray,sharpen,equalize,invert");
  EXPECT_EQ(chain_of("blur:7,median:5,denoise,sharpen,gray,canny:10:20").halo(),
            3 + 2 + 7 + 1 + 0 + 2);
  EXPECT_EQ(chain_of("blur").output_channels(3), 3);
  EXPECT_EQ(chain_of("blur,gray").output_channels(3), 1);
  EXPECT_EQ(chain_of("canny").output_channels(3), 1);
  EXPECT_TRUE(chain_of("blur,canny").needs_finish());
  EXPECT_FALSE(chain_of("blur,gray").needs_finish());
}

TEST_F(Operations, RefuseAWrongChainByName) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"", "the chain of operations is empty"},
      {"gray,,blur", "the chain of operations has an empty place"},
      {"gray,", "the chain of operations has an empty place"},
      {"blurr:5", "unknown operation 'blurr'"},
      {"Gray", "unknown operation 'Gray'"},
      {" gray", "unknown operation ' gray'"},
      {":5", "unknown operation ''"},
      {"blur:4", "operation 'blur' takes an odd size from 3 to 31, not '4'"},
      {"blur:33", "operation 'blur' takes an odd size from 3 to 31, not '33'"},
      {"blur:", "operation 'blur' takes an odd size from 3 to 31, not ''"},
      {"blur:5x", "operation 'blur' takes an odd size from 3 to 31, not '5x'"},
      {"blur:-5", "operation 'blur' takes an odd size from 3 to 31, not '-5'"},
      {"blur:99999999999", "operation 'blur' takes an odd size from 3 to 31, not '99999999999'"},
      {"blur:3:3", "operation 'blur' takes one parameter or none, not 'blur:3:3'"},
      {"median:7", "operation 'median' takes the size 3 or 5, not '7'"},
      {"denoise:0", "operation 'denoise' takes a strength from 1 to 100, not '0'"},
      {"gray:1", "operation 'gray' takes no parameter, not 'gray:1'"},
      {"canny:50", "operation 'canny' takes two parameters or none, not 'canny:50'"},
      {"canny:9:8", "operation 'canny' takes the low threshold first, not 'canny:9:8'"},
      {"canny:-1:8", "operation 'canny' takes a threshold from 0 to 10000, not '-1'"},
      {"canny,gray",
       "operation 'canny' must be the last one: its tiles are not edges until they are merged"},
  };
  for (const auto& [text, message] : wrong) {
    const auto chain = Chain::parse(text);
    ASSERT_FALSE(chain) << text;
    EXPECT_EQ(chain.error().kind, ErrorKind::kUsage);
    EXPECT_EQ(chain.error().message, message);
  }
  EXPECT_THAT(Chain::parse("blurr").error().hint,
              AllOf(HasSubstr("blur[:k]"), HasSubstr("equalize"), HasSubstr("invert")));
  std::string long_chain = "gray";
  for (int i = 0; i < 16; ++i) long_chain += ",gray";
  EXPECT_THAT(Chain::parse(long_chain).error().message, HasSubstr("at most 16"));
}

TEST(TileRects, CoverTheImageOnceRowByRow) {
  for (const cv::Size& size :
       {cv::Size(1, 1), cv::Size(257, 129), cv::Size(64, 64), cv::Size(1, 1000)}) {
    for (const int tile : {1, 7, 64, 100, 5000}) {
      cv::Mat cover = cv::Mat::zeros(size, CV_8UC1);
      const auto rects = tile_rects(size.width, size.height, tile);
      ASSERT_TRUE(rects);
      for (const cv::Rect& rect : *rects) {
        ASSERT_LE(std::max(rect.width, rect.height), tile);
        cover(rect) += 1;
      }
      EXPECT_EQ(difference(cover, cv::Mat::ones(size, CV_8UC1)), 0);
    }
  }
  EXPECT_EQ(*tile_rects(512, 512, TileSize(512, 256)),
            (std::vector<cv::Rect>{cv::Rect(0, 0, 512, 256), cv::Rect(0, 256, 512, 256)}));
  EXPECT_EQ(parse_tile_size("512x256")->text(), "512x256");
  for (const char* bad : {"", "0", "-1", "x", "1x", "1x0", "1x2x3", "9999999", "1.5"})
    EXPECT_FALSE(parse_tile_size(bad)) << bad;
  EXPECT_EQ(tile_rects(257, 129, 100)->size(), 6u);
  EXPECT_EQ((*tile_rects(257, 129, 100))[2], cv::Rect(200, 0, 57, 100));
  EXPECT_EQ((*tile_rects(257, 129, 100))[3], cv::Rect(0, 100, 100, 29));
  EXPECT_EQ((*tile_rects(257, 129, 1 << 30)), std::vector<cv::Rect>{cv::Rect(0, 0, 257, 129)});
  EXPECT_EQ(tile_rects(40000, 40000, 256)->size(), 157u * 157u);
}

TEST(TileRects, RefuseSizesThatMakeNoSense) {
  for (const auto& [width, height, tile] :
       {std::array{10, 10, 0}, std::array{10, 10, -5}, std::array{0, 10, 5}, std::array{10, -1, 5},
        std::array{40000, 40000, 1}}) {
    const auto rects = tile_rects(width, height, tile);
    ASSERT_FALSE(rects) << width << ' ' << height << ' ' << tile;
    EXPECT_EQ(rects.error().kind, ErrorKind::kUsage);
  }
  EXPECT_EQ(tile_rects(10, 10, 0).error().message, "a tile has at least 1 pixel a side, not 0");
}

// What a tile costs here, for people: nothing is asserted.
TEST_F(Operations, PrintTheCostOfATile) {
  cv::Mat picture(512, 512, CV_8UC3);
  paint_region(1, cv::Rect(0, 0, 512, 512), picture);
  for (const char* ops : {"invert", "gray", "blur:5", "blur:15", "median:3", "median:5", "sharpen",
                          "denoise", "gray,denoise", "canny", "gray,canny",
                          "blur:5,gray,canny:50:150", "blur:5,canny", "median:5,sharpen"}) {
    const Chain chain = chain_of(ops);
    cv::Mat output(picture.size(), CV_8UC(chain.output_channels(3)));
    std::vector<std::int64_t> times;
    for (int i = 0; i < 11; ++i) {
      const std::int64_t start = now_ns();
      ASSERT_TRUE(run_tile(chain, picture, cv::Rect(128, 128, 256, 256), output));
      times.push_back(now_ns() - start);
    }
    std::sort(times.begin(), times.end());
    std::printf("256 x 256 x 3, %-26s %s\n", ops,
                format_duration(static_cast<double>(times[times.size() / 2])).c_str());
  }
}

}  // namespace
}  // namespace crashworthy::tiles

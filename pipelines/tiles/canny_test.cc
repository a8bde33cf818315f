// Canny in two steps equals cv::Canny, and its hysteresis needs no more memory than it is allowed.
#include "pipelines/tiles/canny.h"

#include <gtest/gtest.h>

#include <opencv2/imgproc.hpp>

#include "pipelines/tiles/generate.h"
#include "pipelines/tiles/image_file.h"
#include "pipelines/tiles/test_images.h"

namespace crashworthy::tiles {
namespace {

void expect_equals_opencv(const cv::Mat& image, int low, int high,
                          std::size_t stack = kHysteresisStack) {
  cv::Mat wanted;
  cv::Canny(image, wanted, low, high, 3, false);
  cv::Mat map = canny_map(image, low, high);
  canny_hysteresis(map, stack);
  EXPECT_EQ(difference(map, wanted), 0) << image.cols << " x " << image.rows << " x "
                                        << image.channels() << ", " << low << " to " << high;
}

const std::vector<std::pair<int, int>> kThresholds = {{0, 0},       {0, 1},       {50, 150},
                                                      {100, 100},   {1, 2000},    {400, 900},
                                                      {2039, 2040}, {2040, 2040}, {10000, 10000}};

TEST(Canny, EqualsOpenCvOnRandomImages) {
  cv::setNumThreads(1);
  Random random(1);
  for (int i = 0; i < 120; ++i) {
    const int width = 1 + static_cast<int>(random.below(90));
    const int height = 1 + static_cast<int>(random.below(60));
    const int levels = std::array{2, 3, 5, 256}[random.below(4)];
    for (const int channels : {1, 3}) {
      const cv::Mat image = random_image(width, height, channels, levels, random.next());
      for (const auto& [low, high] : kThresholds) expect_equals_opencv(image, low, high);
    }
  }
}

TEST(Canny, EqualsOpenCvOnPictures) {
  cv::setNumThreads(1);
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    cv::Mat picture(301, 403, CV_8UC3);
    paint_region(seed, cv::Rect(1000, 500, 403, 301), picture);
    cv::Mat gray;
    cv::cvtColor(picture, gray, cv::COLOR_BGR2GRAY);
    for (const auto& [low, high] : kThresholds) {
      expect_equals_opencv(picture, low, high);
      expect_equals_opencv(gray, low, high);
    }
  }
}

TEST(Canny, EqualsOpenCvOnPhotographs) {
  cv::setNumThreads(1);
  const auto files = photographs();
  if (files.empty()) GTEST_SKIP() << "the package opencv-doc with its photographs is not installed";
  for (std::size_t i = 0; i < files.size(); i += files.size() / 16 + 1) {
    auto image = read_image(files[i]);
    ASSERT_TRUE(image) << image.error().message;
    cv::Mat gray;
    cv::cvtColor(*image, gray, cv::COLOR_BGR2GRAY);
    for (const auto& [low, high] : {std::pair{50, 150}, std::pair{0, 300}}) {
      expect_equals_opencv(*image, low, high);
      expect_equals_opencv(gray, low, high);
    }
  }
}

// OpenCV with several threads splits the image itself; its answer, and so ours, must not depend on
// that.
TEST(Canny, EqualsOpenCvWithThreads) {
  cv::setNumThreads(4);
  expect_equals_opencv(random_image(501, 403, 3, 256, 3), 300, 700);
  cv::setNumThreads(1);
}

TEST(Hysteresis, IsExactHoweverSmallItsStack) {
  cv::setNumThreads(1);
  for (const std::size_t stack : {1, 2, 3, 7, 64, 1000}) {
    expect_equals_opencv(random_image(101, 77, 1, 256, 21), 20, 1200, stack);
    expect_equals_opencv(random_image(101, 77, 3, 3, 22), 0, 1500, stack);
  }
  cv::Mat picture(301, 403, CV_8UC3);
  paint_region(3, cv::Rect(0, 0, 403, 301), picture);
  expect_equals_opencv(picture, 20, 300, 1);
}

// A weak line that winds from its only strong point, at the bottom right, back up to the top left:
// the scan meets every overflow from the wrong side.
TEST(Hysteresis, FollowsAWindingLineBackwards) {
  constexpr int kSide = 41;
  cv::Mat line = cv::Mat::zeros(kSide, kSide, CV_8UC1);
  for (int y = 0; y < kSide; ++y) {
    if (y % 2 == 0) line.row(y).setTo(kWeakEdge);
    if (y % 2 == 1) line.at<unsigned char>(y, y % 4 == 1 ? kSide - 1 : 0) = kWeakEdge;
  }
  line.at<unsigned char>(kSide - 1, kSide - 1) = kStrongEdge;
  cv::Mat wanted = line.clone();
  wanted.setTo(255, line != 0);
  for (const std::size_t stack : {1, 2, 5, 100000}) {
    cv::Mat map = line.clone();
    const HysteresisStats stats = canny_hysteresis(map, stack);
    EXPECT_EQ(difference(map, wanted), 0) << stack;
    EXPECT_LE(stats.deepest, stack);
    EXPECT_EQ(stats.sweeps == 1, stats.overflows == 0);
  }
}

TEST(Hysteresis, OverflowsAreCountedAndCostSweeps) {
  cv::Mat full(300, 300, CV_8UC1, cv::Scalar(kWeakEdge));
  full.at<unsigned char>(150, 150) = kStrongEdge;
  const HysteresisStats stats = canny_hysteresis(full, 50);
  EXPECT_EQ(difference(full, cv::Mat(300, 300, CV_8UC1, cv::Scalar(255))), 0);
  EXPECT_EQ(stats.deepest, 50u);
  EXPECT_GT(stats.overflows, 0u);
  EXPECT_GT(stats.sweeps, 1u);
  EXPECT_LT(stats.sweeps, 400u);
}

TEST(Hysteresis, LeavesNothingOfAMapWithoutStrongEdgesAndAFinishedMapAsItIs) {
  cv::Mat weak(20, 30, CV_8UC1, cv::Scalar(kWeakEdge));
  canny_hysteresis(weak);
  EXPECT_EQ(cv::countNonZero(weak), 0);
  cv::Mat finished = random_image(40, 30, 1, 2, 1);
  cv::Mat again = finished.clone();
  canny_hysteresis(again);
  EXPECT_EQ(difference(finished, again), 0);
  cv::Mat none;
  canny_hysteresis(none);
}

}  // namespace
}  // namespace crashworthy::tiles

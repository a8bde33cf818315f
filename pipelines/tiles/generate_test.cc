// Made-up pictures: the same bytes from the same seed, in one piece or in many; and the program
// that writes them.
#include "pipelines/tiles/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>

#include <array>
#include <set>

#include <opencv2/imgproc.hpp>

#include "harness/os/crc32c.h"
#include "harness/os/file.h"
#include "pipelines/tiles/image_file.h"
#include "pipelines/tiles/ppm.h"
#include "pipelines/tiles/test_images.h"

namespace crashworthy::tiles {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

cv::Mat paint(std::uint64_t seed, const cv::Rect& region) {
  cv::Mat image(region.size(), CV_8UC3);
  paint_region(seed, region, image);
  return image;
}

TEST(Generate, AnyRegionIsAPartOfTheSamePicture) {
  const cv::Rect all(900, 700, 700, 500);
  const cv::Mat whole = paint(3, all);
  EXPECT_EQ(difference(paint(3, all), whole), 0);
  EXPECT_GT(difference(paint(4, all), whole), 700L * 500 * 2) << "another seed is another picture";
  Random random(1);
  for (int i = 0; i < 50; ++i) {
    const int x = static_cast<int>(random.below(600));
    const int y = static_cast<int>(random.below(400));
    const cv::Rect part(x, y,
                        1 + static_cast<int>(random.below(700 - static_cast<std::uint64_t>(x))),
                        1 + static_cast<int>(random.below(500 - static_cast<std::uint64_t>(y))));
    EXPECT_EQ(difference(paint(3, part + all.tl()), whole(part)), 0) << part;
  }
}

// The bytes are part of the contract: results of different machines are compared. A change here
// invalidates them.
TEST(Generate, IsTheSameOnEveryMachine) {
  const cv::Mat image = paint(1, cv::Rect(0, 0, 400, 300));
  EXPECT_EQ(crc32c(image.data, image.total() * image.elemSize()), 0xcce06840u);
}

TEST(Generate, LooksLikeAPicture) {
  cv::Scalar mean, deviation;
  cv::meanStdDev(paint(6, cv::Rect(0, 0, 1500, 1500)), mean, deviation);
  for (int c = 0; c < 3; ++c) {
    EXPECT_GT(mean[c], 60);
    EXPECT_LT(mean[c], 195);
    EXPECT_GT(deviation[c], 15);
  }
  cv::Mat edges;
  cv::Canny(paint(6, cv::Rect(0, 0, 1500, 1500)), edges, 100, 200);
  EXPECT_GT(cv::countNonZero(edges), 1500 * 1500 / 1000);
  EXPECT_LT(cv::countNonZero(edges), 1500 * 1500 / 5);
}

TEST(Generate, PpmIsThePicture) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(generate_ppm(directory / "a.ppm", 301, 277, 9));
  ASSERT_TRUE(generate_ppm(directory / "b.ppm", 301, 277, 9));
  EXPECT_EQ(*read_file(directory / "a.ppm"), *read_file(directory / "b.ppm"));
  cv::Mat bgr;
  cv::cvtColor(MappedImage::open(directory / "a.ppm")->pixels(), bgr, cv::COLOR_RGB2BGR);
  EXPECT_EQ(difference(bgr, paint(9, cv::Rect(0, 0, 301, 277))), 0);
  EXPECT_FALSE(generate_ppm(directory / "none/a.ppm", 10, 10, 1));
  EXPECT_FALSE(generate_ppm(directory / "c.ppm", 0, 10, 1));
}

TEST(Generate, SetHasImagesOfBothKindsAndAnySizes) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(generate_set(directory / "deep/set", 12, 5));
  ASSERT_TRUE(generate_set(directory / "again", 6, 5));
  std::set<std::string> kinds;
  int count = 0;
  for (const auto& entry : fs::directory_iterator(directory / "deep/set")) {
    const auto image = read_image(entry.path());
    ASSERT_TRUE(image) << image.error().message;
    for (const int side : {image->cols, image->rows}) {
      EXPECT_GE(side, 300);
      EXPECT_LE(side, 1200);
    }
    kinds.insert(entry.path().extension());
    ++count;
  }
  EXPECT_EQ(count, 12);
  EXPECT_EQ(kinds, (std::set<std::string>{".jpg", ".png"}));
  for (const auto& entry : fs::directory_iterator(directory / "again")) {
    EXPECT_EQ(*read_file(entry.path()),
              *read_file(directory / "deep/set" / entry.path().filename()));
  }
  EXPECT_EQ(generate_set(directory / "x", 0, 1).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(generate_set(directory / "again/image-00000.png/x", 1, 1).error().kind,
            ErrorKind::kSystem);
}

struct Ended {
  int code = -1;
  std::string text;  // stdout and stderr.
};

Ended run_program(const std::string& arguments) {
  Ended ended;
  FILE* pipe = ::popen(
      (std::string(CRASHWORTHY_PROGRAM_DIR "/tiles-generate ") + arguments + " 2>&1").c_str(),
      "re");
  EXPECT_NE(pipe, nullptr);
  std::array<char, 4096> buffer{};
  while (std::size_t count = ::fread(buffer.data(), 1, buffer.size(), pipe))
    ended.text.append(buffer.data(), count);
  const int status = ::pclose(pipe);
  EXPECT_TRUE(WIFEXITED(status));
  ended.code = WEXITSTATUS(status);
  return ended;
}

TEST(GenerateProgram, WritesWhatTheLibraryWrites) {
  const TemporaryDirectory directory;
  const Ended done =
      run_program("--ppm " + (directory / "a.ppm").string() + " --width 200 --height 100 --seed 7");
  EXPECT_EQ(done.code, 0) << done.text;
  EXPECT_EQ(done.text, "");
  ASSERT_TRUE(generate_ppm(directory / "b.ppm", 200, 100, 7));
  EXPECT_EQ(*read_file(directory / "a.ppm"), *read_file(directory / "b.ppm"));
  EXPECT_EQ(run_program("--set " + (directory / "set").string() + " --count 2").code, 0);
  EXPECT_TRUE(fs::exists(directory / "set"));
}

TEST(GenerateProgram, ExplainsItselfAndItsErrors) {
  const Ended help = run_program("--help");
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.text,
              HasSubstr("tiles-generate --ppm big.ppm --width 40000 --height 40000 --seed 1"));
  for (const char* wrong :
       {"", "--ppm x", "--ppm x --width 5", "--ppm x --set y --width 5 --height 5 --count 5",
        "--nonsense", "--set x", "--ppm /tmp/x --width five --height 5",
        "--ppm /nowhere/x --width 0 --height 5", "--set /nowhere/x --count 0",
        "--ppm x --width 5 --height 5 --seed -1"}) {
    const Ended ended = run_program(wrong);
    EXPECT_EQ(ended.code, 64) << wrong << ": " << ended.text;
    EXPECT_THAT(ended.text, ::testing::StartsWith("tiles-generate: error: ")) << wrong;
  }
  const Ended failed = run_program("--ppm /nowhere/x --width 5 --height 5");
  EXPECT_EQ(failed.code, 5);
  EXPECT_EQ(failed.text, "tiles-generate: error: create '/nowhere/x': No such file or directory\n");
}

}  // namespace
}  // namespace crashworthy::tiles

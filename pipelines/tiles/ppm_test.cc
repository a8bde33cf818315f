// PPM and PGM files: what the header parser takes and refuses, and that a mapped image is its file.
#include "pipelines/tiles/ppm.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "harness/os/file.h"
#include "pipelines/tiles/image_file.h"
#include "pipelines/tiles/test_images.h"

namespace crashworthy::tiles {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

void write(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(PpmHeader, ReadsBlanksAndComments) {
  const std::vector<std::string> headers = {"P6\n3 5\n255\n", "P6 3 5 255 ", "P6\r\n3\t5\v255\f",
                                            "P6# a comment\n3 # and\n# more\n 5\n255\n",
                                            "P6\n003 0005\n0255\n"};
  for (const std::string& text : headers) {
    const auto header = parse_ppm_header(text + "\n#5 ");  // Pixels that look like a header.
    ASSERT_TRUE(header) << text << ": " << header.error().message;
    EXPECT_EQ(header->width, 3);
    EXPECT_EQ(header->height, 5);
    EXPECT_EQ(header->channels, 3);
    EXPECT_EQ(header->pixels_at, text.size());
    EXPECT_EQ(header->pixel_bytes(), 45u);
  }
  EXPECT_EQ(parse_ppm_header("P5 3 5 255\n")->channels, 1);
  EXPECT_EQ(parse_ppm_header("P6 40000 40000 255\n")->pixel_bytes(), 4'800'000'000u);
}

TEST(PpmHeader, RefusesTheRest) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"", "no P6 or P5"},
      {"P", "no P6 or P5"},
      {"P3\n1 1\n255\n1 1 1", "no P6 or P5"},
      {"P7\n", "no P6 or P5"},
      {"P6", "ends before the width"},
      {"P6\n", "ends before the width"},
      {"P6\n# never ends", "ends before the width"},
      {"P6\n3", "ends before the height"},
      {"P6\n3 5", "ends before the maximum value"},
      {"P6\n3 5\n255", "no blank before the pixels"},
      {"P6\n3 5\n255x", "no blank before the pixels"},
      {"P6\nx 5\n255\n", "the width is not a number"},
      {"P6\n-3 5\n255\n", "the width is not a number"},
      {"P6\n3 5.0\n255\n", "the maximum value is not a number"},
      {"P6\n0 5\n255\n", "the width is not from 1 to 1048576"},
      {"P6\n3 0\n255\n", "the height is not from 1 to"},
      {"P6\n1048577 5\n255\n", "the width is not from 1 to"},
      {"P6\n4294967299 5\n255\n", "the width is not from 1 to"},
      {"P6\n99999999999999999999999999999999999 5\n255\n", "the width is not from 1 to"},
      {"P6\n3 5\n65535\n", "the maximum value is 65535; only 255"},
      {"P6\n3 5\n1\n", "the maximum value is 1; only 255"},
      {"P6\n3 5\n0\n", "the maximum value is not from 1"},
  };
  for (const auto& [text, message] : wrong) {
    const auto header = parse_ppm_header(text);
    ASSERT_FALSE(header) << text;
    EXPECT_EQ(header.error().kind, ErrorKind::kCorrupt);
    EXPECT_THAT(header.error().message, HasSubstr(message)) << text;
  }
}

TEST(MappedImage, IsItsFile) {
  const TemporaryDirectory directory;
  const fs::path path = directory / "image.ppm";
  {
    auto image = MappedImage::create(path, 7, 4, 3);
    ASSERT_TRUE(image) << image.error().message;
    cv::Mat pixels = image->pixels();
    EXPECT_EQ(cv::countNonZero(pixels.reshape(1)), 0);
    pixels.at<cv::Vec3b>(3, 6) = cv::Vec3b('r', 'g', 'b');
    ASSERT_TRUE(image->sync());
    const MappedImage moved = std::move(*image);
    pixels.at<cv::Vec3b>(0, 0) = cv::Vec3b('1', '2', '3');  // The header outlives the move.
  }
  const std::string bytes = *read_file(path);
  EXPECT_EQ(bytes.size(), 11u + 84u);
  EXPECT_EQ(bytes.substr(0, 14), "P6\n7 4\n255\n123");
  EXPECT_EQ(bytes.substr(bytes.size() - 3), "rgb");

  auto again = MappedImage::open(path, MappedImage::Access::kReadWrite);
  ASSERT_TRUE(again) << again.error().message;
  again->pixels().at<cv::Vec3b>(0, 0) = cv::Vec3b('x', 'y', 'z');
  EXPECT_EQ(MappedImage::open(path)->pixels().at<cv::Vec3b>(0, 0), cv::Vec3b('x', 'y', 'z'));
  again->release_rows(0, 4);
  EXPECT_EQ(again->pixels().at<cv::Vec3b>(0, 0), cv::Vec3b('x', 'y', 'z'));

  auto gray = MappedImage::create(path, 5, 5, 1);
  ASSERT_TRUE(gray);
  EXPECT_EQ(fs::file_size(path), 11u + 25u) << "the old content is replaced, not overlaid";
}

TEST(MappedImage, HoldsWhatOpenCvWrites) {
  const TemporaryDirectory directory;
  const cv::Mat bgr = random_image(31, 17, 3, 256, 1);
  ASSERT_TRUE(write_file_atomically(directory / "a.ppm", *encode_image(".ppm", bgr)));
  auto image = MappedImage::open(directory / "a.ppm");
  ASSERT_TRUE(image) << image.error().message;
  const cv::Vec3b pixel = bgr.at<cv::Vec3b>(16, 30);
  EXPECT_EQ(image->pixels().at<cv::Vec3b>(16, 30), cv::Vec3b(pixel[2], pixel[1], pixel[0]));
  const cv::Mat gray = random_image(31, 17, 1, 256, 1);
  ASSERT_TRUE(write_file_atomically(directory / "a.pgm", *encode_image(".pgm", gray)));
  EXPECT_EQ(difference(MappedImage::open(directory / "a.pgm")->pixels(), gray), 0);
}

TEST(MappedImage, RefusesBadFiles) {
  const TemporaryDirectory directory;
  const std::string path = (directory / "bad.ppm").string();
  const auto message_of = [&](const std::string& bytes) {
    write(path, bytes);
    const auto image = MappedImage::open(path);
    EXPECT_FALSE(image) << bytes;
    EXPECT_EQ(image.error().kind, ErrorKind::kCorrupt);
    return image.error().message;
  };
  EXPECT_THAT(message_of(""), HasSubstr("read '" + path + "': not a binary PPM"));
  EXPECT_THAT(message_of("P6\n2 2\n255\n12345678901"), HasSubstr("truncated: 11 of 12 bytes"));
  EXPECT_THAT(message_of("P6\n1048576 1048576\n255\nabc"),
              HasSubstr("truncated: 3 of 3298534883328 bytes"));
  EXPECT_THAT(message_of("P6\n#" + std::string(100'000, 'x') + "\n1 1\n255\nabc"),
              HasSubstr("ends before the width"));
  write(path, "P6\n2 2\n255\n123456789012 and more");
  EXPECT_TRUE(MappedImage::open(path))
      << "what follows the pixels is another image, and none of ours";

  EXPECT_EQ(MappedImage::open(directory / "none").error().sys_errno, ENOENT);
  EXPECT_THAT(MappedImage::open(directory.path()).error().message, HasSubstr("not a regular file"));
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(MappedImage::open(directory / "fifo").error().message,
              HasSubstr("not a regular file"));
}

TEST(MappedImage, SaysWhenTheDiskHasNoRoom) {
  const TemporaryDirectory directory;
  const auto image = MappedImage::create(directory / "huge.ppm", kMaxPpmSide, kMaxPpmSide, 3);
  if (image) GTEST_SKIP() << "this disk has room for 3 TiB";
  EXPECT_EQ(image.error().sys_errno, ENOSPC) << image.error().message;
  EXPECT_THAT(image.error().message, HasSubstr("huge.ppm': No space left on device"));
  EXPECT_FALSE(fs::exists(directory / "huge.ppm"));
  EXPECT_EQ(MappedImage::create(directory / "none/x.ppm", 5, 5, 3).error().sys_errno, ENOENT);
  EXPECT_EQ(MappedImage::create(directory / "x.ppm", 0, 5, 3).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(MappedImage::create(directory / "x.ppm", kMaxPpmSide + 1, 5, 3).error().kind,
            ErrorKind::kUsage);
}

}  // namespace
}  // namespace crashworthy::tiles

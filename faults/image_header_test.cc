// The header of each image type with another size: that and its checksum change, nothing else.
#include "faults/image_header.h"

#include <gtest/gtest.h>

namespace crashworthy {
namespace {

std::string bytes(std::initializer_list<int> values) {
  std::string text;
  for (const int value : values) text += static_cast<char>(value);
  return text;
}

// A PNG of 1x1 as every encoder writes its beginning.
std::string png() {
  return std::string("\x89PNG\r\n\x1a\n", 8) + bytes({0, 0, 0, 13}) + "IHDR" +
         bytes({0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55}) + "the rest";
}

TEST(ImageHeader, PngKeepsARightChecksum) {
  const auto same = with_image_size(png(), 1);
  ASSERT_TRUE(same);
  EXPECT_EQ(*same, png()) << "the checksum of the file was right, so it must stay";
  const auto huge = with_image_size(png(), 65500);
  ASSERT_TRUE(huge);
  EXPECT_EQ(huge->substr(16, 8), bytes({0, 0, 0xff, 0xdc, 0, 0, 0xff, 0xdc}));
  EXPECT_NE(huge->substr(29, 4), png().substr(29, 4));
  EXPECT_EQ(huge->substr(33), "the rest");
}

TEST(ImageHeader, JpegIsChangedInItsFrameHeaderBehindOtherSegments) {
  const std::string before = bytes({0xff, 0xd8, 0xff, 0xe0, 0, 4, 9, 9, 0xff, 0xc4, 0, 3, 7});
  const std::string frame = bytes({0xff, 0xc2, 0, 11, 8, 0, 16, 0, 32, 1, 1, 0x11, 0});
  const auto huge = with_image_size(before + frame, 65500);
  ASSERT_TRUE(huge);
  EXPECT_EQ(*huge, before + bytes({0xff, 0xc2, 0, 11, 8, 0xff, 0xdc, 0xff, 0xdc, 1, 1, 0x11, 0}));
  EXPECT_FALSE(with_image_size(before + frame, 70000)) << "JPEG cannot say so";
  EXPECT_FALSE(with_image_size(before, 100)) << "no frame header";
}

TEST(ImageHeader, BmpAndPnm) {
  std::string bmp = "BM" + std::string(12, '\0') + bytes({40, 0, 0, 0}) + std::string(36, '\0');
  const auto huge = with_image_size(bmp, 65500);
  ASSERT_TRUE(huge);
  EXPECT_EQ(huge->substr(18, 8), bytes({0xdc, 0xff, 0, 0, 0xdc, 0xff, 0, 0}));
  EXPECT_EQ(with_image_size("P6\n# a comment 1 2\n3 4\n255\nxyz", 10),
            "P6\n# a comment 1 2\n10 10\n255\nxyz");
  EXPECT_FALSE(with_image_size("P6\n# a comment without an end", 10));
}

TEST(ImageHeader, OthersAreLeftAlone) {
  EXPECT_FALSE(with_image_size("", 10));
  EXPECT_FALSE(with_image_size("some text", 10));
  EXPECT_FALSE(with_image_size(png().substr(0, 20), 10)) << "cut off";
}

}  // namespace
}  // namespace crashworthy

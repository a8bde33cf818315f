// Image files, whole and damaged: a good one decodes as OpenCV does it, a bad one is an error that
// says why, never an exception and never half an image.
#include "pipelines/tiles/image_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "harness/os/file.h"
#include "pipelines/tiles/generate.h"
#include "pipelines/tiles/test_images.h"

namespace crashworthy::tiles {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
namespace fs = std::filesystem;

class ImageFile : public ::testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& bytes) {
    std::ofstream(directory_ / name, std::ios::binary) << bytes;
    return directory_ / name;
  }
  // The reason why `bytes` are refused, by both functions.
  std::string refusal(const std::string& bytes) {
    const fs::path path = write("image", bytes);
    const auto image = read_image(path);
    EXPECT_FALSE(image) << bytes.size() << " bytes";
    if (image) return {};
    EXPECT_EQ(image.error().kind, ErrorKind::kCorrupt);
    EXPECT_THAT(image.error().message, StartsWith("read image '" + path.string() + "': "));
    EXPECT_THAT(image.error().message, Not(HasSubstr("\n")));
    return image.error().message;
  }
  TemporaryDirectory directory_;
};

cv::Mat picture(int width = 200, int height = 150) {
  cv::Mat image(height, width, CV_8UC3);
  paint_region(2, cv::Rect(100, 100, width, height), image);
  return image;
}

std::string encode(const std::string& extension, const cv::Mat& image,
                   const std::vector<int>& settings = {}) {
  std::vector<unsigned char> bytes;
  cv::imencode(extension, image, bytes, settings);
  return std::string(bytes.begin(), bytes.end());
}

std::string number(std::uint64_t value, int width, bool little) {
  std::string bytes;
  for (int i = 0; i < width; ++i) {
    const char byte = static_cast<char>(value >> (8 * (little ? i : width - 1 - i)));
    bytes += byte;
  }
  return bytes;
}

// A small uncompressed TIFF of 2 x 3 pixels; the directory comes before the pixels.
std::string tiff(bool little, int orientation) {
  const auto entry = [&](int tag, int type, int value) {
    const std::string field =
        type == 3 ? number(value, 2, little) + std::string(2, '\0') : number(value, 4, little);
    return number(tag, 2, little) + number(type, 2, little) + number(1, 4, little) + field;
  };
  const std::vector<std::string> entries = {
      entry(256, 3, 2),           entry(257, 3, 3),
      entry(258, 3, 8),           entry(259, 3, 1),
      entry(262, 3, 1),           entry(273, 4, 8 + 2 + 120 + 4),
      entry(274, 3, orientation), entry(277, 3, 1),
      entry(278, 3, 3),           entry(279, 4, 6)};
  std::string file = (little ? std::string("II*\0", 4) : std::string("MM\0*", 4)) +
                     number(8, 4, little) + number(entries.size(), 2, little);
  for (const std::string& one : entries) file += one;
  return file + number(0, 4, little) + std::string("\x10\x20\x30\x40\x50\x60", 6);
}

// EXIF data that asks for `orientation`.
std::string exif(int orientation, bool little = true) {
  return (little ? std::string("II*\0", 4) : std::string("MM\0*", 4)) + number(8, 4, little) +
         number(1, 2, little) + number(274, 2, little) + number(3, 2, little) +
         number(1, 4, little) + number(orientation, 2, little) + std::string(2, '\0') +
         number(0, 4, little);
}

// The checksum of a PNG chunk: its type and data.
std::uint32_t png_crc(const std::string& bytes) {
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
  }
  return ~crc;
}

std::string with_png_exif(const std::string& png, const std::string& data) {
  const std::string chunk = "eXIf" + data;
  return png.substr(0, 33) + number(data.size(), 4, false) + chunk +
         number(png_crc(chunk), 4, false) + png.substr(33);
}

std::string with_jpeg_exif(const std::string& jpeg, const std::string& data) {
  const std::string payload = std::string("Exif\0\0", 6) + data;
  return jpeg.substr(0, 2) + "\xFF\xE1" + number(payload.size() + 2, 2, false) + payload +
         jpeg.substr(2);
}

// A PNG of 60 x 40 pixels whose header claims another size.
std::string png_of_size(std::uint32_t width, std::uint32_t height) {
  std::string png = encode(".png", picture(60, 40));
  png.replace(16, 8, number(width, 4, false) + number(height, 4, false));
  png.replace(29, 4, number(png_crc(png.substr(12, 17)), 4, false));  // Else libpng refuses.
  return png;
}

TEST_F(ImageFile, DecodesEachFormatAsOpenCvDoes) {
  const std::vector<std::pair<std::string, std::string>> formats = {
      {".png", "PNG"}, {".jpg", "JPEG"}, {".tiff", "TIFF"}, {".webp", "WebP"}};
  for (const auto& [extension, name] : formats) {
    for (const cv::Mat& source :
         {picture(), random_image(1, 1, 1, 256, 1), random_image(61, 33, 1, 256, 1)}) {
      const std::string bytes = encode(extension, source);
      const fs::path path = write("image" + extension, bytes);
      const auto info = inspect(path);
      ASSERT_TRUE(info) << info.error().message;
      EXPECT_EQ(format_name(info->format), name);
      EXPECT_EQ(cv::Size(info->width, info->height), source.size()) << name;
      const auto image = read_image(path);
      ASSERT_TRUE(image) << image.error().message;
      EXPECT_EQ(difference(*image, cv::imread(path.string(), cv::IMREAD_COLOR)), 0) << name;
    }
  }
  // Also lossless and with alpha, whose headers differ.
  cv::Mat alpha;
  cv::cvtColor(picture(), alpha, cv::COLOR_BGR2BGRA);
  alpha.col(0).setTo(cv::Scalar(1, 2, 3, 0));
  for (const std::string& bytes :
       {encode(".webp", picture(), {cv::IMWRITE_WEBP_QUALITY, 101}), encode(".webp", alpha)}) {
    const auto info = inspect_bytes(bytes);
    ASSERT_TRUE(info) << info.error().message;
    EXPECT_EQ(cv::Size(info->width, info->height), cv::Size(200, 150));
  }
}

TEST_F(ImageFile, DropsAlphaAndKeepsTheUpperBitsOf16) {
  cv::Mat alpha(2, 2, CV_8UC4, cv::Scalar(10, 20, 30, 0));
  const auto dropped = read_image(write("alpha.png", encode(".png", alpha)));
  ASSERT_TRUE(dropped) << dropped.error().message;
  EXPECT_EQ(dropped->at<cv::Vec3b>(1, 1), cv::Vec3b(10, 20, 30));
  cv::Mat deep(2, 2, CV_16UC3, cv::Scalar(0x12FF, 0x3400, 0xFFFF));
  const auto shallow = read_image(write("deep.png", encode(".png", deep)));
  ASSERT_TRUE(shallow) << shallow.error().message;
  EXPECT_EQ(shallow->at<cv::Vec3b>(1, 1), cv::Vec3b(0x12, 0x34, 0xFF));
  const auto tiff16 = read_image(write("deep.tiff", encode(".tiff", deep)));
  ASSERT_TRUE(tiff16) << tiff16.error().message;
  EXPECT_EQ(tiff16->at<cv::Vec3b>(1, 1)[2], 0xFF);
}

TEST_F(ImageFile, StandsPhotographsUpright) {
  const std::string jpeg = encode(".jpg", picture());
  for (int orientation = 1; orientation <= 8; ++orientation) {
    for (const bool little : {true, false}) {
      const fs::path path = write("turned.jpg", with_jpeg_exif(jpeg, exif(orientation, little)));
      const auto info = inspect(path);
      ASSERT_TRUE(info) << info.error().message;
      EXPECT_EQ(info->width, orientation < 5 ? 200 : 150) << orientation;
      const auto image = read_image(path);  // Fails by itself if the sizes disagree.
      ASSERT_TRUE(image) << image.error().message;
      EXPECT_EQ(difference(*image, cv::imread(path.string())), 0);
      const auto png = read_image(
          write("turned.png", with_png_exif(encode(".png", picture()), exif(orientation, little))));
      ASSERT_TRUE(png) << png.error().message;
      EXPECT_EQ(png->size(), image->size());
    }
  }
  for (const std::string& data :
       {std::string("II*"), std::string("rubbish of any kind"), exif(6).substr(0, 14), exif(99)}) {
    EXPECT_TRUE(read_image(write("odd.jpg", with_jpeg_exif(jpeg, data))))
        << "bad EXIF data spoils no image";
  }
}

TEST_F(ImageFile, ReadsTiffOfBothByteOrdersAndAllOrientations) {
  for (const bool little : {true, false}) {
    // The pixels of the file are 10 20 / 30 40 / 50 60; here are those of the image as it stands.
    const std::vector<std::string> upright = {
        "\x10\x20\x30\x40\x50\x60", "\x20\x10\x40\x30\x60\x50", "\x60\x50\x40\x30\x20\x10",
        "\x50\x60\x30\x40\x10\x20", "\x10\x30\x50\x20\x40\x60", "\x50\x30\x10\x60\x40\x20",
        "\x60\x40\x20\x50\x30\x10", "\x20\x40\x60\x10\x30\x50"};
    for (int orientation = 1; orientation <= 8; ++orientation) {
      const auto image = read_image(write("small.tiff", tiff(little, orientation)));
      ASSERT_TRUE(image) << orientation << ": " << image.error().message;
      EXPECT_EQ(image->cols, orientation < 5 ? 2 : 3);
      std::string pixels;
      for (auto at = image->begin<cv::Vec3b>(); at != image->end<cv::Vec3b>(); ++at) {
        pixels += static_cast<char>((*at)[0]);
      }
      EXPECT_EQ(pixels, upright[static_cast<std::size_t>(orientation) - 1]) << orientation;
    }
  }
}

// OpenCV decodes a JPEG cut off anywhere after its header and fills the rest with gray. We refuse
// all of them.
TEST_F(ImageFile, RefusesAJpegCutOffAnywhere) {
  for (const std::vector<int>& settings :
       {std::vector<int>{}, std::vector<int>{cv::IMWRITE_JPEG_PROGRESSIVE, 1},
        std::vector<int>{cv::IMWRITE_JPEG_RST_INTERVAL, 3}}) {
    // An end marker inside an EXIF thumbnail must not be taken for the image's.
    const std::string whole =
        with_jpeg_exif(encode(".jpg", picture(), settings), exif(1) + "\xFF\xD8\xFF\xD9");
    ASSERT_TRUE(read_image(write("whole.jpg", whole)));
    int silently_wrong = 0;
    for (std::size_t length = 1; length < whole.size(); length += length < 700 ? 1 : 37) {
      const auto info = inspect_bytes(whole.substr(0, length));
      EXPECT_FALSE(info) << length;
      if (length % 5 == 0) {
        const std::string part = whole.substr(0, length);
        refusal(part);
        silently_wrong += !cv::imread((directory_ / "image").string()).empty();
      }
    }
    EXPECT_GT(silently_wrong, 0) << "OpenCV has become careful: this check may go";
    EXPECT_FALSE(inspect_bytes(whole.substr(0, whole.size() - 1)));
    EXPECT_THAT(refusal(whole.substr(0, whole.size() - 2)),
                HasSubstr("the file is cut off: no JPEG end marker"));
  }
}

TEST_F(ImageFile, ToleratesBytesAfterTheEnd) {
  for (const char* extension : {".jpg", ".png", ".webp", ".tiff"}) {
    const std::string whole = encode(extension, picture());
    const cv::Mat image = *read_image(write("whole", whole));
    for (const std::string& tail : {std::string(1, '\0'), std::string(5000, '\0'),
                                    std::string("rubbish"), encode(".jpg", picture())}) {
      const auto again = read_image(write("longer", whole + tail));
      ASSERT_TRUE(again) << extension << ": " << again.error().message;
      EXPECT_EQ(difference(*again, image), 0);
    }
  }
}

TEST_F(ImageFile, RefusesOtherFormatsCutOffAnywhere) {
  for (const char* extension : {".png", ".webp", ".tiff"}) {
    const std::string whole = encode(extension, picture(60, 40));
    for (std::size_t length = 1; length < whole.size(); length += length < 300 ? 1 : 17) {
      EXPECT_FALSE(inspect_bytes(whole.substr(0, length))) << extension << ' ' << length;
    }
    EXPECT_FALSE(inspect_bytes(whole.substr(0, whole.size() - 1))) << extension;
    EXPECT_THAT(refusal(whole.substr(0, whole.size() / 2)), HasSubstr("cut off")) << extension;
  }
  const std::string small = tiff(true, 1);
  EXPECT_THAT(refusal(small.substr(0, small.size() - 1)), HasSubstr("strip 1 of 1 is not whole"));
  EXPECT_THAT(refusal(small.substr(0, 60)), HasSubstr("directory is not whole"));
}

// Any byte changed: an error or an image of the stated size, but no exception and no crash.
TEST_F(ImageFile, SurvivesChangedBytes) {
  Random random(7);
  for (const char* extension : {".jpg", ".png", ".webp", ".tiff"}) {
    const std::string whole = encode(extension, picture(60, 40));
    for (int i = 0; i < 300; ++i) {
      std::string damaged = whole;
      const std::size_t reach =
          i % 2 == 0 ? std::min<std::size_t>(damaged.size(), 200) : damaged.size();
      for (int changes = 0; changes < 3; ++changes)
        damaged[random.below(reach)] = static_cast<char>(random.below(256));
      const auto info = inspect_bytes(damaged);
      if (info && std::int64_t{info->width} * info->height > 50'000'000)
        continue;  // Decoding it would only take long.
      const auto image = read_image(write("damaged", damaged));
      if (image) {
        ASSERT_TRUE(info);
        EXPECT_EQ(image->size(), cv::Size(info->width, info->height));
      } else {
        EXPECT_THAT(image.error().message, Not(HasSubstr("\n")));
      }
    }
  }
}

TEST_F(ImageFile, RefusesWhatIsNoImage) {
  EXPECT_THAT(refusal(""), HasSubstr("the file is empty"));
  EXPECT_THAT(refusal("just some text\n"), HasSubstr("not a PNG, JPEG, TIFF or WebP image"));
  EXPECT_THAT(refusal(std::string(1000, '\0')), HasSubstr("not a PNG"));
  EXPECT_THAT(refusal("P6\n1 1\n255\nabc"), HasSubstr("not a PNG"));
  EXPECT_THAT(refusal("\xFF\xD8\xFF\xD9"), HasSubstr("the JPEG ends without an image"));
  EXPECT_THAT(refusal("\x89PNG\r\n\x1A\n"), HasSubstr("the PNG header is not whole"));
  EXPECT_THAT(refusal(std::string("II*\0\xFF\xFF\xFF\xFF", 8)), HasSubstr("directory is missing"));
  EXPECT_THAT(refusal("RIFF____WEBPVP8 "), HasSubstr("WebP data is missing"));

  const auto directory = read_image(directory_.path());
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().message, "read '" + directory_.path().string() + "': Is a directory");
  const auto missing = inspect(directory_ / "none.jpg");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().sys_errno, ENOENT);
  EXPECT_EQ(missing.error().message,
            "open '" + (directory_ / "none.jpg").string() + "': No such file or directory");
  ASSERT_EQ(::mkfifo((directory_ / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(read_image(directory_ / "fifo").error().message, HasSubstr("not a regular file"));
}

TEST_F(ImageFile, NamesAFileThatItMayNotRead) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  const fs::path path = write("secret.jpg", encode(".jpg", picture()));
  fs::permissions(path, fs::perms::none);
  EXPECT_EQ(read_image(path).error().sys_errno, EACCES);
}

TEST_F(ImageFile, SaysWhenAnImageIsAboveOpenCvsLimits) {
  EXPECT_THAT(refusal(png_of_size(40000, 40000)),
              HasSubstr("its 40000 x 40000 pixels are above OpenCV's limit"));
  const auto image = read_image(write("huge.png", png_of_size(40000, 40000)));
  EXPECT_THAT(image.error().hint, HasSubstr("PPM"));
  EXPECT_THAT(refusal(png_of_size(0, 40)), HasSubstr("impossible size: 0 x 40"));
  EXPECT_THAT(refusal(png_of_size(0xFFFFFFFFu, 1)), HasSubstr("impossible size"));
  EXPECT_THAT(refusal(png_of_size(60, 41)), HasSubstr("decode")) << "a row is missing";
  EXPECT_TRUE(read_image(write("same.png", png_of_size(60, 40))));
}

// Out of memory is no fault of the image: the process is to end by it, as it would with any
// exception that nobody catches.
TEST_F(ImageFile, ThrowsWhenMemoryRunsOut) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer does not live within a limit of memory";
#endif
  const fs::path path = write("huge.png", png_of_size(30000, 30000));
  const pid_t child = ::fork();
  if (child == 0) {
    const struct rlimit limit { 1u << 30, 1u << 30 };
    ::setrlimit(RLIMIT_AS, &limit);
    try {
      (void)read_image(path);
      ::_exit(1);
    } catch (const cv::Exception& error) {
      ::_exit(error.code == cv::Error::StsNoMem ? 0 : 2);
    }
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(ImageFile, EncodesTheSameBytesEachTime) {
  const cv::Mat colour = picture();
  const cv::Mat gray = random_image(60, 40, 1, 256, 1);
  for (const char* extension : {".png", ".jpg", ".jpeg", ".ppm"}) {
    const auto bytes = encode_image(extension, colour);
    ASSERT_TRUE(bytes) << bytes.error().message;
    EXPECT_EQ(*bytes, *encode_image(extension, colour.clone()));
  }
  EXPECT_EQ(difference(*read_image(write("same.png", *encode_image(".png", colour))), colour), 0);
  EXPECT_EQ(encode_image(".pgm", gray)->substr(0, 3), "P5\n");
  EXPECT_EQ(encode_image(".gif", colour).error().message, "unknown image file extension '.gif'");
  EXPECT_EQ(encode_image("png", colour).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(encode_image(".pgm", colour).error().kind, ErrorKind::kUsage);
  EXPECT_EQ(encode_image(".ppm", gray).error().kind, ErrorKind::kUsage);
}

TEST_F(ImageFile, ReadsEveryPhotographOfOpenCvDoc) {
  const auto files = photographs();
  if (files.empty()) GTEST_SKIP() << "the package opencv-doc with its photographs is not installed";
  for (const fs::path& path : files) {
    const auto image = read_image(path);
    ASSERT_TRUE(image) << image.error().message;
    EXPECT_EQ(difference(*image, cv::imread(path.string(), cv::IMREAD_COLOR)), 0) << path;
  }
}

}  // namespace
}  // namespace crashworthy::tiles

// The ladder of every type against planted files: made whole by the real libraries, then cut off at
// many places, changed, emptied, or made to claim what they do not hold.
#include "harness/experiment/content_ladder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "harness/os/file.h"

namespace crashworthy::content {
namespace {

namespace fs = std::filesystem;
using Bytes = std::string;

constexpr auto kWhole = ContentState::kWhole;
constexpr auto kEmpty = ContentState::kEmpty;
constexpr auto kTorn = ContentState::kTorn;
constexpr auto kDamaged = ContentState::kDamaged;

class Ladder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "crashworthy-content-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(directory_); }

  Content read(const std::string& name, const Bytes& bytes) {
    const fs::path file = directory_ / name;
    std::ofstream(file, std::ios::binary) << bytes;
    return read_content(file);
  }

  fs::path directory_;
};

// Neither flat nor pure noise: decoders have something to do.
cv::Mat picture(int type, int side = 48) {
  cv::Mat image(side, side, type);
  cv::RNG random(7);
  random.fill(image, cv::RNG::UNIFORM, 0, CV_MAT_DEPTH(type) == CV_16U ? 65535 : 255);
  cv::blur(image, image, {5, 5});
  return image;
}

Bytes encode(const std::string& extension, const cv::Mat& image,
             const std::vector<int>& parameters = {}) {
  std::vector<unsigned char> bytes;
  EXPECT_TRUE(cv::imencode(extension, image, bytes, parameters)) << extension;
  return Bytes(bytes.begin(), bytes.end());
}

Bytes big(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16),
          static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::uint32_t crc_of(const Bytes& bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1u) != 0 ? 0xedb88320u ^ (crc >> 1) : crc >> 1;
  }
  return ~crc;
}

Bytes chunk(const Bytes& name, const Bytes& data) {
  return big(static_cast<std::uint32_t>(data.size())) + name + data + big(crc_of(name + data));
}

// The place of a chunk's frame in a PNG.
std::size_t find_chunk(const Bytes& png, const Bytes& name) { return png.find(name) - 4; }

struct Kind {
  const char* name;
  const char* type;
  Bytes bytes;
};

std::vector<Kind> all_pictures() {
  const cv::Mat colours = picture(CV_8UC3);
  return {{"grey.png", "png", encode(".png", picture(CV_8UC1))},
          {"colours.png", "png", encode(".png", colours)},
          {"alpha.png", "png", encode(".png", picture(CV_8UC4))},
          {"deep.png", "png", encode(".png", picture(CV_16UC3))},
          {"a.jpg", "jpeg", encode(".jpg", colours)},
          {"progressive.jpg", "jpeg", encode(".jpg", colours, {cv::IMWRITE_JPEG_PROGRESSIVE, 1})},
          {"restarts.jpg", "jpeg", encode(".jpg", colours, {cv::IMWRITE_JPEG_RST_INTERVAL, 2})},
          {"lossy.webp", "webp", encode(".webp", colours, {cv::IMWRITE_WEBP_QUALITY, 80})},
          {"lossless.webp", "webp", encode(".webp", colours, {cv::IMWRITE_WEBP_QUALITY, 101})},
          {"a.tiff", "tiff", encode(".tiff", colours)},
          {"deep.tiff", "tiff", encode(".tiff", picture(CV_16UC1))},
          {"a.bmp", "bmp", encode(".bmp", colours)},
          {"a.ppm", "pnm", encode(".ppm", colours)},
          {"a.pgm", "pnm", encode(".pgm", picture(CV_8UC1))},
          {"deep.pgm", "pnm", encode(".pgm", picture(CV_16UC1))}};
}

TEST_F(Ladder, PicturesOfTheRealLibrariesAreWholeAndSayTheirPixels) {
  for (const Kind& kind : all_pictures()) {
    const Content content = read(kind.name, kind.bytes);
    EXPECT_EQ(content.state, kWhole) << kind.name << ": " << content.why;
    EXPECT_EQ(content.type, kind.type) << kind.name;
    EXPECT_TRUE(content.canonical.starts_with("pixels:48x48:")) << kind.name << content.canonical;
    EXPECT_EQ(content.why, "") << kind.name;
  }
}

TEST_F(Ladder, APictureThatIsCutOffAnywhereIsTorn) {
  for (const Kind& kind : all_pictures()) {
    const std::size_t step = kind.bytes.size() > 2000 ? 37 : 11;
    for (std::size_t size = 1; size < kind.bytes.size(); size += size < 64 ? 1 : step) {
      const Content content = read(kind.name, kind.bytes.substr(0, size));
      EXPECT_EQ(content.state, kTorn) << kind.name << " cut to " << size << ": " << content.why;
      EXPECT_TRUE(content.canonical.starts_with("bytes:"));
      EXPECT_NE(content.why, "");
    }
    const Content last = read(kind.name, kind.bytes.substr(0, kind.bytes.size() - 1));
    EXPECT_EQ(last.state, kTorn) << kind.name << " without its last byte: " << last.why;
  }
}

TEST_F(Ladder, NothingIsEmptyUnderEveryName) {
  for (const char* name : {"a.png", "a.jpg", "a.webp", "a.tiff", "a.pdf", "a.mp4", "a.txt", "a"})
    EXPECT_EQ(read(name, "").state, kEmpty) << name;
}

// What a program leaves that sets the length first and is killed then.
TEST_F(Ladder, ZerosInThePlaceOfTheSecondHalfAreSeen) {
  for (const Kind& kind : all_pictures()) {
    if (Bytes(kind.type) == "pnm" || Bytes(kind.type) == "bmp")
      continue;  // Zeros are pixels there.
    Bytes half = kind.bytes;
    std::fill(half.begin() + static_cast<std::ptrdiff_t>(half.size() / 2), half.end(), '\0');
    const Content content = read(kind.name, half);
    const Content right = read(kind.name, kind.bytes);
    EXPECT_TRUE(content.state != kWhole || content.canonical != right.canonical) << kind.name;
    const bool formal = Bytes(kind.type) != "webp" && Bytes(kind.type) != "tiff";
    if (formal) {
      EXPECT_NE(content.state, kWhole) << kind.name;
    }
    Bytes zeros(kind.bytes.size(), '\0');
    EXPECT_EQ(read(kind.name, zeros).state, kDamaged) << kind.name;
  }
}

TEST_F(Ladder, EachFlippedByteOfAPngIsDamage) {
  const Bytes png = encode(".png", picture(CV_8UC1, 12));
  for (std::size_t at = 0; at < png.size(); ++at) {
    Bytes changed = png;
    changed[at] = static_cast<char>(changed[at] ^ 0x20);
    EXPECT_NE(read("a.png", changed).state, kWhole) << "byte " << at;
  }
}

// In other formats a flipped bit may be nothing but another pixel: then the content differs.
TEST_F(Ladder, FlippedBytesOfAPictureChangeItsStateOrItsContent) {
  for (const Kind& kind : all_pictures()) {
    const Content right = read(kind.name, kind.bytes);
    int unseen = 0, tried = 0;
    for (std::size_t at = kind.bytes.size() / 3; at < kind.bytes.size(); at += 29, ++tried) {
      Bytes changed = kind.bytes;
      changed[at] = static_cast<char>(changed[at] ^ 0x10);
      const Content content = read(kind.name, changed);
      unseen += content.state == kWhole && content.canonical == right.canonical ? 1 : 0;
    }
    EXPECT_GT(tried, 5) << kind.name;
    EXPECT_LE(unseen, tried / 10) << kind.name << ": padding and descriptions only";
  }
}

// The half-grey picture: its data stop early and its end is put behind them. OpenCV decodes it
// without a word.
TEST_F(Ladder, AJpegThatIsHalfGreyIsDamaged) {
  const Bytes jpeg = encode(".jpg", picture(CV_8UC3, 200));
  const Bytes grey = jpeg.substr(0, jpeg.size() / 2) + "\xff\xd9";
  const std::vector<unsigned char> bytes(grey.begin(), grey.end());
  ASSERT_FALSE(cv::imdecode(bytes, cv::IMREAD_COLOR).empty()) << "the trap is none";
  const Content content = read("a.jpg", grey);
  EXPECT_EQ(content.state, kDamaged);
  EXPECT_NE(content.why.find("libjpeg"), Bytes::npos) << content.why;
}

TEST_F(Ladder, AnythingBehindTheEndIsDamage) {
  for (const Kind& kind : all_pictures()) {
    if (Bytes(kind.type) == "tiff" || Bytes(kind.type) == "bmp")
      continue;  // They have no end mark.
    EXPECT_EQ(read(kind.name, kind.bytes + "rest of an older file").state, kDamaged) << kind.name;
  }
}

// All chunks are whole, and the data inside of them stop early.
TEST_F(Ladder, APngWithTooFewPixelsIsDamaged) {
  const Bytes png = encode(".png", picture(CV_8UC3));
  const std::size_t data = find_chunk(png, "IDAT");
  const std::size_t length = big_endian(png, data, 4);
  const Bytes half =
      png.substr(0, data) + chunk("IDAT", png.substr(data + 8, length / 2)) + chunk("IEND", "");
  const Content content = read("a.png", half);
  EXPECT_EQ(content.state, kDamaged);
  EXPECT_NE(content.why.find("libpng"), Bytes::npos) << content.why;
}

TEST_F(Ladder, ADateInAPngChangesItsBytesAndNotItsContent) {
  const Bytes png = encode(".png", picture(CV_8UC3));
  const std::size_t data = find_chunk(png, "IDAT");
  const Bytes dated = png.substr(0, data) + chunk("tEXt", Bytes("date\0today", 10)) +
                      chunk("tIME", Bytes("\x07\xe8\x01\x01\x01\x01\x01", 7)) + png.substr(data);
  const Content content = read("a.png", dated);
  EXPECT_EQ(content.state, kWhole) << content.why;
  EXPECT_EQ(content.canonical, read("a.png", png).canonical);
}

TEST_F(Ladder, TheSamePixelsAreTheSameInEveryExactFormat) {
  const cv::Mat grey = picture(CV_8UC1);
  cv::Mat colours, alpha;
  cv::cvtColor(grey, colours, cv::COLOR_GRAY2BGR);
  cv::cvtColor(grey, alpha, cv::COLOR_GRAY2BGRA);
  const Bytes right = read("a.png", encode(".png", grey)).canonical;
  EXPECT_EQ(read("a.png", encode(".png", colours)).canonical, right);
  EXPECT_EQ(read("a.png", encode(".png", alpha)).canonical, right);
  EXPECT_EQ(read("a.pgm", encode(".pgm", grey)).canonical, right);
  EXPECT_EQ(read("a.bmp", encode(".bmp", colours)).canonical, right);
  EXPECT_EQ(read("a.tiff", encode(".tiff", grey)).canonical, right);
  EXPECT_EQ(read("a.webp", encode(".webp", colours, {cv::IMWRITE_WEBP_QUALITY, 101})).canonical,
            right);
  const Bytes deep = read("a.png", encode(".png", picture(CV_16UC1))).canonical;
  EXPECT_EQ(read("a.tiff", encode(".tiff", picture(CV_16UC1))).canonical, deep);
  EXPECT_EQ(read("a.pgm", encode(".pgm", picture(CV_16UC1))).canonical, deep);
}

TEST_F(Ladder, DepthAlphaAndOnePixelAreContent) {
  cv::Mat image = picture(CV_8UC4);
  const Bytes right = read("a.png", encode(".png", image)).canonical;
  image.at<cv::Vec4b>(3, 3)[3] ^= 1;
  EXPECT_NE(read("a.png", encode(".png", image)).canonical, right);
  cv::Mat grey = picture(CV_8UC1), deep;
  const Bytes shallow = read("a.png", encode(".png", grey)).canonical;
  grey.convertTo(deep, CV_16U, 257);
  EXPECT_NE(read("a.png", encode(".png", deep)).canonical, shallow);
  deep.at<std::uint16_t>(5, 5) ^= 1;
  const Bytes low_bit = read("a.png", encode(".png", deep)).canonical;
  deep.at<std::uint16_t>(5, 5) ^= 1;
  EXPECT_NE(read("a.png", encode(".png", deep)).canonical, low_bit);
}

TEST_F(Ladder, EveryPageOfATiffIsContent) {
  const std::vector<cv::Mat> pages{picture(CV_8UC3), picture(CV_8UC1, 20)};
  ASSERT_TRUE(cv::imwrite((directory_ / "two.tiff").string(), pages));
  const Bytes two = *read_file(directory_ / "two.tiff");
  const Content content = read("a.tiff", two);
  EXPECT_EQ(content.state, kWhole) << content.why;
  EXPECT_TRUE(content.canonical.starts_with("pages:2:")) << content.canonical;
  EXPECT_NE(read("a.tiff", two.substr(0, two.size() - 5)).state, kWhole);
}

// A few bytes that claim to be a picture of gigabytes.
TEST_F(Ladder, AHugePictureIsNotDecodedAndTakesNoTime) {
  const auto start = std::chrono::steady_clock::now();
  const Bytes png = encode(".png", picture(CV_8UC1));
  const Bytes header = png.substr(16, 13);
  const Bytes bomb =
      png.substr(0, 8) + chunk("IHDR", big(60000) + big(60000) + header.substr(8)) + png.substr(33);
  const Content content = read("a.png", bomb);
  EXPECT_EQ(content.state, kWhole);
  EXPECT_TRUE(content.canonical.starts_with("bytes:")) << content.canonical;
  EXPECT_NE(content.why.find("not decoded"), Bytes::npos) << content.why;
  Bytes jpeg = encode(".jpg", picture(CV_8UC1));
  const std::size_t frame = jpeg.find("\xff\xc0");
  jpeg.replace(frame + 5, 4, "\xea\x60\xea\x60");
  EXPECT_NE(read("a.jpg", jpeg).why.find("not decoded"), Bytes::npos);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST_F(Ladder, AnotherTypeUnderTheNameIsReadAsWhatItIs) {
  EXPECT_EQ(read("a.png", encode(".jpg", picture(CV_8UC3))).type, "jpeg");
  const Content text = read("a.png", "an error message instead of a picture");
  EXPECT_EQ(text.state, kDamaged);
  EXPECT_EQ(text.why, "no signature of png");
}

TEST_F(Ladder, TextIsUtf8AndEndsWithACharacter) {
  const Content right = read("a.txt",
                             "gr\xc3\xbc\xc3\x9f"
                             "e, \xe2\x82\xac 5, \xf0\x9f\x98\x80\n");
  EXPECT_EQ(right.state, kWhole);
  EXPECT_EQ(right.type, "text");
  const Content torn = read("a.txt", "a \xe2\x82");
  EXPECT_EQ(torn.state, kTorn);
  EXPECT_EQ(torn.why, "it ends inside a character");
  for (const Bytes& bytes : {Bytes("a \xfc b"), Bytes("a\0b", 3), Bytes("\xc0\x80"),
                             Bytes("\xed\xa0\x80 x"), Bytes("\x01\x02")}) {
    EXPECT_EQ(read("a.txt", bytes).type, "any");
    EXPECT_EQ(read("a.txt", bytes).state, kWhole);
  }
  EXPECT_EQ(read("BMW.txt", "BMW and P5 are cars\n").type, "text");
}

// One page with a word on it.
Bytes pdf(const Bytes& word) {
  const Bytes stream = "BT /F1 24 Tf 20 100 Td (" + word + ") Tj ET";
  const std::vector<Bytes> objects{
      "<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
      "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R /Resources << /Font << "
      "/F1 5 0 R >> >> >>",
      "<< /Length " + std::to_string(stream.size()) + " >>\nstream\n" + stream + "\nendstream",
      "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"};
  Bytes file = "%PDF-1.4\n";
  Bytes table = "xref\n0 6\n0000000000 65535 f \n";
  for (std::size_t i = 0; i < objects.size(); ++i) {
    char line[32];
    std::snprintf(line, sizeof line, "%010zu 00000 n \n", file.size());
    table += line;
    file += std::to_string(i + 1) + " 0 obj\n" + objects[i] + "\nendobj\n";
  }
  return file + table + "trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n" +
         std::to_string(file.size()) + "\n%%EOF\n";
}

TEST_F(Ladder, APdfHasATrailerThatPointsAtItsTable) {
  const Bytes whole = pdf("word");
  EXPECT_TRUE(check_pdf_end(whole).whole()) << check_pdf_end(whole).why;
  for (std::size_t size = 8; size + 1 < whole.size(); ++size)
    EXPECT_EQ(check_pdf_end(whole.substr(0, size)).state, kTorn) << size;
  Bytes lost = whole;
  lost.replace(lost.rfind("startxref") + 10, 3, "999");
  EXPECT_EQ(check_pdf_end(lost).state, kDamaged);
  EXPECT_EQ(read("a.pdf", whole.substr(0, 300)).state, kTorn);
}

TEST_F(Ladder, APdfSaysItsTextAndHowItLooks) {
  if (run_tool({"pdftotext", "-v"}).missing) GTEST_SKIP() << "needs poppler-utils";
  const Content content = read("a.pdf", pdf("word"));
  EXPECT_EQ(content.state, kWhole) << content.why;
  EXPECT_TRUE(content.canonical.starts_with("pages:1:")) << content.canonical;
  EXPECT_EQ(read("b.pdf", pdf("word") + "\n").canonical, content.canonical);
  EXPECT_NE(read("b.pdf", pdf("ward")).canonical, content.canonical);
  Bytes moved = pdf("word");
  moved.replace(moved.find("20 100"), 6, "50 100");
  EXPECT_NE(read("b.pdf", moved).canonical, content.canonical);
  Bytes broken = pdf("word");
  broken.replace(broken.find("/Kids"), 5, "/Gone");
  EXPECT_EQ(read("b.pdf", broken).state, kDamaged);
}

Bytes box(const Bytes& name, const Bytes& data) {
  return big(static_cast<std::uint32_t>(data.size() + 8)) + name + data;
}

TEST_F(Ladder, AnMp4HasItsTableOfContents) {
  const Bytes start = box("ftyp", "isom0000") + box("mdat", Bytes(100, 'x'));
  const Bytes whole = start + box("moov", Bytes(60, 'y'));
  EXPECT_TRUE(check_mp4_end(whole).whole());
  EXPECT_EQ(check_mp4_end(start).state, kTorn) << "killed before it wrote its contents";
  for (std::size_t size = 1; size < whole.size(); ++size)
    EXPECT_EQ(check_mp4_end(whole.substr(0, size)).state, kTorn) << size;
  EXPECT_EQ(check_mp4_end(box("ftyp", "isom") + big(3) + "moov").state, kDamaged);
  EXPECT_EQ(read("a.mp4", start).state, kTorn);
}

TEST_F(Ladder, AMatroskaFileHasAClosedSegment) {
  const Bytes head = Bytes("\x1a\x45\xdf\xa3\x84", 5) + "mkv!" + "\x18\x53\x80\x67";
  EXPECT_TRUE(check_matroska_end(head + "\x88" + Bytes(8, 'x')).whole());
  EXPECT_EQ(check_matroska_end(head + "\x88" + Bytes(7, 'x')).state, kTorn);
  EXPECT_EQ(check_matroska_end(head + "\x01\xff\xff\xff\xff\xff\xff\xff" + "xx").state, kTorn);
  EXPECT_EQ(check_matroska_end(head.substr(0, 7)).state, kTorn);
}

TEST_F(Ladder, FilmsSayTheirFrames) {
  const Bytes file = (directory_ / "film.mp4").string();
  const ToolRun made = run_tool({"ffmpeg", "-v", "error", "-f", "lavfi", "-i",
                                 "testsrc=size=64x48:rate=10:duration=1", file});
  if (made.missing) GTEST_SKIP() << "needs ffmpeg";
  ASSERT_TRUE(made.succeeded) << made.errors;
  const Bytes whole = *read_file(file);
  const Content content = read("a.mp4", whole);
  EXPECT_EQ(content.state, kWhole) << content.why;
  EXPECT_TRUE(content.canonical.starts_with("frames:")) << content.canonical;
  Bytes changed = whole;
  const std::size_t box = changed.find("mdat");  // It begins with the encoder's name and settings.
  const std::size_t data = box + big_endian(whole, box - 4, 4) / 2;
  for (std::size_t at = data; at < data + 200; ++at) changed[at] = static_cast<char>(at * 7);
  const Content damaged = read("a.mp4", changed);
  EXPECT_TRUE(damaged.state == kDamaged || damaged.canonical != content.canonical);
  EXPECT_EQ(read("a.mp4", whole.substr(0, whole.size() - 10)).state, kTorn);
}

// Without the program, bytes are compared, and the content says so.
TEST_F(Ladder, AMissingProgramIsSaid) {
  const std::string path = ::getenv("PATH");
  const Bytes whole = pdf("word");
  ::symlink("/usr/bin/timeout", (directory_ / "timeout").c_str());
  ::setenv("PATH", directory_.c_str(), 1);
  const Content content = read("a.pdf", whole);
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(content.state, kWhole);
  EXPECT_TRUE(content.canonical.starts_with("bytes:"));
  EXPECT_NE(content.why.find("poppler-utils"), Bytes::npos) << content.why;
}

}  // namespace
}  // namespace crashworthy::content

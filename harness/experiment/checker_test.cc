// The checker against planted outputs: each sin is counted as exactly what it is,
// and a clean set as nothing.
#include "harness/experiment/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "harness/experiment/content.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class Outputs : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "crashworthy-checker-XXXXXX").string();
    scratch_ = ::mkdtemp(pattern.data());
    fs::create_directories(root());
    for (int i = 0; i < 5; ++i) put(name(i), picture(i));
    auto golden = read_golden(root(), {}, std::nullopt, scratch_);
    ASSERT_TRUE(golden) << golden.error().message;
    golden_ = *golden;
  }
  void TearDown() override { fs::remove_all(scratch_); }

  fs::path root() const { return scratch_ / "out"; }
  static std::string name(int i) { return "i" + std::to_string(i) + ".pgm"; }
  static std::string picture(int i) {
    return "P5\n2 2\n255\n" + std::string(4, static_cast<char>('a' + i));
  }
  void put(const std::string& file, const std::string& content) {
    std::ofstream(root() / file, std::ios::binary) << content;
  }
  ItemVerdicts check(bool ran_to_end = true, const std::set<std::uint64_t>& failed = {}) {
    auto verdicts = check_outputs(golden_, root(), {}, {}, failed, ran_to_end, scratch_);
    EXPECT_TRUE(verdicts);
    return verdicts ? *verdicts : ItemVerdicts{};
  }

  fs::path scratch_;
  Golden golden_;
};

constexpr auto kOk = ItemClass::kOk;

TEST_F(Outputs, ACleanSetIsAllOk) {
  const ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.classes, ElementsAre(kOk, kOk, kOk, kOk, kOk));
  EXPECT_THAT(verdicts.duplicated, IsEmpty());
  EXPECT_THAT(verdicts.misplaced, IsEmpty());
  EXPECT_THAT(verdicts.extra, IsEmpty());
}

TEST_F(Outputs, LostUnfinishedAndFailedAreToldApart) {
  fs::remove(root() / name(1));
  fs::remove(root() / name(3));
  EXPECT_THAT(check(true, {3}).classes,
              ElementsAre(kOk, ItemClass::kLost, kOk, ItemClass::kFailed, kOk));
  EXPECT_THAT(check(false, {3}).classes,
              ElementsAre(kOk, ItemClass::kUnfinished, kOk, ItemClass::kFailed, kOk));
}

TEST_F(Outputs, OneFlippedBitIsCorrupt) {
  std::string changed = picture(2);
  changed.back() = static_cast<char>(changed.back() ^ 1);
  put(name(2), changed);
  EXPECT_THAT(check().classes, ElementsAre(kOk, kOk, ItemClass::kCorrupt, kOk, kOk));
}

TEST_F(Outputs, TornAndEmptyFilesAreCorrupt) {
  put(name(0), picture(0).substr(0, 13));
  put(name(4), "");
  EXPECT_THAT(check().classes,
              ElementsAre(ItemClass::kCorrupt, kOk, kOk, kOk, ItemClass::kCorrupt));
}

TEST_F(Outputs, OtherBytesWithTheSamePixelsAreOk) {
  put(name(1), "P5\n# a comment\n2 2\n255\n" + std::string(4, 'b'));
  EXPECT_THAT(check().classes, ElementsAre(kOk, kOk, kOk, kOk, kOk));
}

TEST_F(Outputs, AnExtraCopyIsADuplicate) {
  put("again.pgm", picture(1));
  const ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.classes, ElementsAre(kOk, kOk, kOk, kOk, kOk));
  EXPECT_EQ(verdicts.duplicated, (std::map<std::size_t, std::int64_t>{{1, 1}}));
  EXPECT_THAT(verdicts.misplaced, IsEmpty());
}

TEST_F(Outputs, RightContentElsewhereIsMisplacedAndNotLost) {
  fs::rename(root() / name(3), root() / "elsewhere.pgm");
  const ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.classes, ElementsAre(kOk, kOk, kOk, kOk, kOk));
  EXPECT_EQ(verdicts.misplaced, (std::map<std::size_t, std::string>{{3, "elsewhere.pgm"}}));
  EXPECT_THAT(verdicts.duplicated, IsEmpty());
}

// A frame is dropped and the later ones are renumbered: every file is a perfect picture of the
// wrong input.
TEST_F(Outputs, RenumberedOutputsAreMisplaced) {
  for (int i = 1; i < 4; ++i) put(name(i), picture(i + 1));
  fs::remove(root() / name(4));
  const ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.classes, ElementsAre(kOk, ItemClass::kCorrupt, kOk, kOk, kOk));
  EXPECT_EQ(verdicts.misplaced,
            (std::map<std::size_t, std::string>{{2, name(1)}, {3, name(2)}, {4, name(3)}}));
}

TEST_F(Outputs, ReplacedByACopyOfItsNeighbourIsCorruptAndADuplicate) {
  put(name(1), picture(2));
  const ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.classes, ElementsAre(kOk, ItemClass::kCorrupt, kOk, kOk, kOk));
  EXPECT_EQ(verdicts.duplicated, (std::map<std::size_t, std::int64_t>{{2, 1}}));
}

TEST_F(Outputs, StrangersAreExtra) {
  put("half.tmp", "not a picture");
  EXPECT_THAT(check().extra, ElementsAre("half.tmp"));
}

TEST_F(Outputs, LinksAreNotFollowed) {
  fs::remove(root() / name(2));
  fs::create_symlink(root() / name(1), root() / name(2));
  EXPECT_THAT(check().classes, ElementsAre(kOk, kOk, ItemClass::kLost, kOk, kOk));
}

}  // namespace
}  // namespace crashworthy

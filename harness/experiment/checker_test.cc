// The checker against planted outputs: each sin is counted as exactly what it is,
// and a clean set as nothing.
#include "harness/experiment/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "harness/experiment/baseline.h"
#include "harness/experiment/content_reader.h"
#include "harness/experiment/observer.h"
#include "harness/experiment/text_mask.h"
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
    keep_golden();
  }
  // The golden run's outputs stay, as in a run.
  void keep_golden() {
    fs::remove_all(scratch_ / "golden");
    fs::copy(root(), scratch_ / "golden", fs::copy_options::recursive);
    golden_.files = scratch_ / "golden";
  }
  // What is there now is the golden run.
  void make_golden(const std::vector<std::string>& patterns = {}) {
    auto golden = read_golden(root(), patterns, std::nullopt, scratch_);
    ASSERT_TRUE(golden) << golden.error().message;
    golden_ = *golden;
    keep_golden();
  }
  void empty_root() {
    fs::remove_all(root());
    fs::create_directories(root());
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
  const ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.classes,
              ElementsAre(ItemClass::kCorrupt, kOk, kOk, kOk, ItemClass::kCorrupt));
  ASSERT_EQ(verdicts.bad.size(), 2u);
  EXPECT_EQ(verdicts.bad[0].item, 0u);
  EXPECT_EQ(verdicts.bad[0].state, ContentState::kTorn);
  EXPECT_EQ(verdicts.bad[1].item, 4u);
  EXPECT_EQ(verdicts.bad[1].state, ContentState::kEmpty);
}

TEST_F(Outputs, WhatABadOutputIsInsteadIsSaid) {
  put(name(0), "P5\n2 3\n255\n" + std::string(6, 'a'));
  put(name(1), picture(4));
  put(name(2), "no picture at all, but longer than one");
  std::string changed = picture(3);
  changed.back() = 'z';
  put(name(3), changed);
  std::vector<std::string> said;
  for (const BadOutput& bad : check().bad)
    said.push_back(std::string(content_state_name(bad.state)) + ": " + bad.difference);
  EXPECT_THAT(said, ElementsAre("whole: the kind: pixels:2x3:8, not pixels:2x2:8",
                                "whole: it has the content of 'i4.pgm'",
                                "damaged: no signature of pnm", "whole: the pixels"));
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

// One frame comes twice, and all later ones move on by one.
TEST_F(Outputs, ADuplicatedFrameMisplacesTheLaterOnes) {
  for (int i = 3; i < 6; ++i) put(name(i), picture(i - 1));
  const ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.classes, ElementsAre(kOk, kOk, kOk, kOk, kOk));
  EXPECT_EQ(verdicts.duplicated, (std::map<std::size_t, std::int64_t>{{2, 1}}));
  EXPECT_EQ(verdicts.misplaced, (std::map<std::size_t, std::string>{{3, name(4)}, {4, name(5)}}));
  EXPECT_THAT(verdicts.bad, IsEmpty());
}

TEST_F(Outputs, ItemsOfTheSameContentAreNotConfused) {
  put(name(1), picture(0));
  put(name(3), picture(0));
  make_golden();
  const ItemVerdicts clean = check();
  EXPECT_THAT(clean.classes, ElementsAre(kOk, kOk, kOk, kOk, kOk));
  EXPECT_THAT(clean.duplicated, IsEmpty());
  fs::remove(root() / name(1));
  ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.classes, ElementsAre(kOk, ItemClass::kLost, kOk, kOk, kOk));
  EXPECT_THAT(verdicts.misplaced, IsEmpty());
  put("elsewhere.pgm", picture(0));
  verdicts = check();
  EXPECT_THAT(verdicts.classes, ElementsAre(kOk, kOk, kOk, kOk, kOk));
  EXPECT_EQ(verdicts.misplaced, (std::map<std::size_t, std::string>{{1, "elsewhere.pgm"}}));
  EXPECT_THAT(verdicts.duplicated, IsEmpty());
  put("once_more.pgm", picture(0));
  EXPECT_EQ(check().duplicated, (std::map<std::size_t, std::int64_t>{{0, 1}}));
}

// Empty files are all alike: the empty output of one item is no trace of another.
TEST_F(Outputs, AnEmptyOutputIsNobodysContent) {
  put("empty.txt", "");
  make_golden();
  EXPECT_THAT(check().classes, ::testing::Each(kOk));
  put(name(0), "");
  put("stranger", "");
  const ItemVerdicts verdicts = check();
  EXPECT_EQ(verdicts.classes[1], ItemClass::kCorrupt);
  EXPECT_EQ(verdicts.classes[0], kOk);
  EXPECT_THAT(verdicts.duplicated, IsEmpty());
  EXPECT_THAT(verdicts.extra, ElementsAre("stranger"));
}

TEST_F(Outputs, StrangersAreExtra) {
  put("half.dat", "not a picture");
  const ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.extra, ElementsAre("half.dat"));
  EXPECT_THAT(verdicts.stale_temporary, IsEmpty());
}

// What was not renamed yet is not delivered, however whole it is.
TEST_F(Outputs, TemporaryFilesAreCountedByThemselves) {
  fs::rename(root() / name(3), root() / (name(3) + ".tmp"));
  put("magick-XyZ12", "");
  const ItemVerdicts verdicts = check();
  EXPECT_THAT(verdicts.classes, ElementsAre(kOk, kOk, kOk, ItemClass::kLost, kOk));
  EXPECT_THAT(verdicts.stale_temporary, ElementsAre("i3.pgm.tmp", "magick-XyZ12"));
  EXPECT_THAT(verdicts.extra, IsEmpty());
  EXPECT_THAT(verdicts.misplaced, IsEmpty());
  EXPECT_THAT(verdicts.duplicated, IsEmpty());
}

TEST_F(Outputs, TemporaryFilesCountOutsideOfThePatternsUnlessTheGoldenRunLeftThem) {
  put("always~", "");
  make_golden({"*.pgm"});
  put("x.part", "");
  put("notes.txt", "");
  auto verdicts = check_outputs(golden_, root(), {"*.pgm"}, {}, {}, true, scratch_);
  ASSERT_TRUE(verdicts);
  EXPECT_THAT(verdicts->stale_temporary, ElementsAre("x.part"));
  EXPECT_THAT(verdicts->extra, IsEmpty());
}

TEST(OutputNames, TellTemporaryFilesFromOutputs) {
  const std::set<std::string> items{"out/a.png", "out/b.tar.gz", "log", "out/c~"};
  for (const char* name :
       {"out/x.tmp", "out/a.png~", "out/a.png.1", "out/.a.png.AbC123", "out/a", "out/b.tar",
        "out/z.Ab3dE9", "out/z.jpg_exiftool_tmp", "out/.gsf-save-K3X", "out/.nfs0001",
        "out/#a.png#", "log.old", "out/q.part"})
    EXPECT_TRUE(is_temporary_name(name, items)) << name;
  for (const char* name : {"out/a.png", "out/a_01.png", "out/d.png", "out/c~", "logger", "out/a.p",
                           "out/page.000123", "out/file.backup", "a.png", "out/photo.JPEG"})
    EXPECT_FALSE(is_temporary_name(name, items)) << name;
}

// Text has no end of its own: only the golden file tells that it goes on.
TEST_F(Outputs, TextThatStopsEarlyIsTorn) {
  empty_root();
  put("a.txt", "one\ntwo\nthree\n");
  put("b.bin", std::string("\x01\x02\x03\x04", 4));
  put("c.txt", "right\n");
  make_golden();
  put("a.txt", "one\ntwo\n");
  put("b.bin", std::string("\x01\x02", 2));
  put("c.txt", "wrong\n");
  const ItemVerdicts verdicts = check();
  ASSERT_EQ(verdicts.bad.size(), 3u);
  EXPECT_EQ(verdicts.bad[0].state, ContentState::kTorn);
  EXPECT_EQ(verdicts.bad[1].state, ContentState::kTorn);
  EXPECT_EQ(verdicts.bad[2].state, ContentState::kWhole);
  EXPECT_EQ(verdicts.bad[2].difference, "the text");
}

// A file that kills its reader: a program on the way to the content of a PDF does it here.
TEST_F(Outputs, AFileAtWhichTheReaderDiesIsDamagedAndTheOthersAreRead) {
  const std::string path = ::getenv("PATH");
  const fs::path programs = scratch_ / "programs";
  fs::create_directories(programs);
  ::setenv("PATH", (programs.string() + ":" + path).c_str(), 1);
  put("1.txt", "before");
  put("2.pdf", "%PDF-1.4\nxref\nstartxref\n9\n%%EOF\n");
  put("3.txt", "after");
  const std::vector<fs::path> files{root() / "1.txt", root() / "2.pdf", root() / "3.txt"};
  const std::map<std::string, std::string> deaths{{"SEGV", "the reader was killed by SIGSEGV"},
                                                  {"ALRM", "reading it took too long"}};
  for (const auto& [signal, why] : deaths) {
    std::ofstream(programs / "timeout") << "#!/bin/sh\nkill -" << signal << " $PPID\n";
    fs::permissions(programs / "timeout", fs::perms::owner_all);
    const auto contents = read_contents(files, scratch_);
    ASSERT_TRUE(contents) << contents.error().message;
    EXPECT_EQ((*contents)[0].type, "text");
    EXPECT_EQ((*contents)[1].state, ContentState::kDamaged);
    EXPECT_EQ((*contents)[1].why, why);
    EXPECT_EQ((*contents)[2].canonical, "bytes:" + hash_bytes("after"));
  }
  std::ofstream(programs / "timeout") << "#!/bin/sh\nkill -KILL $PPID\n";
  EXPECT_FALSE(read_contents(files, scratch_)) << "somebody's SIGKILL is no fault of the file";
  ::setenv("PATH", path.c_str(), 1);
}

// Two tebibytes of nothing: as large as it says, nobody reads it.
TEST_F(Outputs, ASparseFileIsCorruptAtOnce) {
  put("a.txt", "text");
  const Golden golden = *read_golden(root(), {}, std::nullopt, scratch_);
  fs::resize_file(root() / "a.txt", std::uintmax_t{2} << 40);
  const auto verdicts = check_outputs(golden, root(), {}, {}, {}, true, scratch_);
  ASSERT_TRUE(verdicts) << verdicts.error().message;
  EXPECT_EQ(verdicts->classes[0], ItemClass::kCorrupt);
}

TEST_F(Outputs, OneLostInAThousandIsOneLost) {
  empty_root();
  for (int i = 0; i < 1000; ++i)
    put(std::to_string(i) + ".txt", "item " + std::to_string(i) + "\n");
  make_golden();
  EXPECT_THAT(check().classes, ::testing::Each(kOk));
  fs::remove(root() / "437.txt");
  const ItemVerdicts verdicts = check();
  EXPECT_EQ(std::count(verdicts.classes.begin(), verdicts.classes.end(), kOk), 999);
  EXPECT_EQ(std::count(verdicts.classes.begin(), verdicts.classes.end(), ItemClass::kLost), 1);
  for (std::size_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(verdicts.classes[i] == ItemClass::kLost, golden_.items[i].name == "437.txt");
  }
}

// Two fault-free runs, planted.
class TwoRuns : public Outputs {
 protected:
  Result<Golden> agree_on(const std::map<std::string, std::string>& first,
                          const std::map<std::string, std::string>& second) {
    return agree(read_run("first", first), read_run("second", second));
  }
  Golden read_run(const std::string& run, const std::map<std::string, std::string>& files) {
    const fs::path directory = scratch_ / run;
    fs::create_directories(directory);
    for (const auto& [file, content] : files)
      std::ofstream(directory / file, std::ios::binary) << content;
    auto golden = read_golden(directory, {}, std::nullopt, scratch_);
    EXPECT_TRUE(golden);
    golden->files = directory;
    return *golden;
  }
};

TEST_F(TwoRuns, ThatAreEqualNeedNothing) {
  const auto golden = agree_on({{"a", "x"}, {"b", picture(0)}}, {{"a", "x"}, {"b", picture(0)}});
  ASSERT_TRUE(golden);
  EXPECT_EQ(golden->items.size(), 2u);
  EXPECT_THAT(golden->canonicalised, IsEmpty());
}

TEST_F(TwoRuns, OtherBytesOfTheSamePixelsAreComparedByPixels) {
  const auto golden = agree_on({{"a.pgm", picture(0)}},
                               {{"a.pgm", "P5\n# today\n2 2\n255\n" + std::string(4, 'a')}});
  ASSERT_TRUE(golden);
  ASSERT_EQ(golden->canonicalised.size(), 1u);
  EXPECT_THAT(golden->canonicalised[0].how, ::testing::HasSubstr("by its pixels"));
  EXPECT_THAT(golden_notes(*golden), ElementsAre(::testing::HasSubstr("'a.pgm': compared by")));
}

TEST_F(TwoRuns, NumbersThatChangeInALineAreMaskedThereAndNowhereElse) {
  const auto text = [](const char* date, const char* count) {
    return std::string("made ") + date + " by process " + count + " in /tmp/x" + count +
           "/y\nitems: 12\n";
  };
  auto golden = agree_on({{"a.txt", text("Mon Jan  5 12:00:01 UTC", "4711")}},
                         {{"a.txt", text("Tue Feb 16 13:10:22 UTC", "99")}});
  ASSERT_TRUE(golden) << golden.error().message;
  EXPECT_THAT(golden->outputs[0].masked_lines, ElementsAre(0u));
  golden_ = golden_from_json(to_json(*golden));
  golden_.files = scratch_ / "second";
  empty_root();
  put("a.txt", text("Sun Dec 31 01:02:03 CET", "5"));
  EXPECT_THAT(check().classes, ElementsAre(kOk)) << "a third date";
  fs::rename(root() / "a.txt", root() / "elsewhere.txt");
  EXPECT_THAT(check().classes, ElementsAre(kOk)) << "found by its content all the same";
  fs::remove(root() / "elsewhere.txt");
  put("a.txt", "made Sun Dec 31 01:02:03 CET by process 5 in /tmp/x5/y\nitems: 13\n");
  EXPECT_THAT(check().classes, ElementsAre(ItemClass::kCorrupt)) << "another number elsewhere";
  put("a.txt", "made Sun Dec 31 01:02:03 CET by process 5 in /tmp/x5/y\n");
  const ItemVerdicts torn = check();
  ASSERT_EQ(torn.bad.size(), 1u);
  EXPECT_EQ(torn.bad[0].state, ContentState::kTorn);
}

TEST_F(TwoRuns, ThatDifferOtherwiseAreRefusedAndSaidWhere) {
  const auto text = agree_on({{"a", "1\nred 5\n"}}, {{"a", "1\nblue 5\n"}});
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().kind, ErrorKind::kNoData);
  EXPECT_THAT(text.error().message, ::testing::HasSubstr("'a' differs in line 2 of its text"));
  EXPECT_THAT(text.error().hint, ::testing::HasSubstr("--outputs"));
  const auto pixels = agree_on({{"p.pgm", picture(0)}}, {{"p.pgm", picture(1)}});
  ASSERT_FALSE(pixels);
  EXPECT_THAT(pixels.error().message, ::testing::HasSubstr("'p.pgm' differs in its pixels"));
  const auto torn = agree_on({{"t.pgm", "P5\n9 9\n255\na"}}, {{"t.pgm", "P5\n9 9\n255\nb"}});
  ASSERT_FALSE(torn);
  EXPECT_THAT(torn.error().message, ::testing::HasSubstr("shorter than its header says"));
}

TEST_F(TwoRuns, AnOutputOfOneRunAloneIsRefusedUnlessItIsTemporary) {
  const auto extra = agree_on({{"a", "x"}}, {{"a", "x"}, {"run-8", "y"}});
  ASSERT_FALSE(extra);
  EXPECT_THAT(extra.error().message,
              ::testing::HasSubstr("'run-8' is there after the second run only"));
  fs::remove_all(scratch_ / "second");
  const auto temporary = agree_on({{"a", "x"}, {"magick-Ab1", "y"}}, {{"a", "x"}});
  ASSERT_TRUE(temporary);
  EXPECT_EQ(temporary->items.size(), 1u);
  EXPECT_THAT(temporary->left_out, ElementsAre("magick-Ab1"));
}

TEST(TextMask, MasksNumbersDatesAndPathsAlone) {
  EXPECT_EQ(mask_lines("at 12:30 on May 5\nat 12:30\n", {0}), "at #:# on # #\nat 12:30\n");
  EXPECT_EQ(mask_lines("see \"/tmp/a b\" and a/b", {0}), "see \"# b\" and a/b");
  EXPECT_FALSE(changing_lines("a 1\n", "b 1\n"));
  EXPECT_FALSE(changing_lines("a 1\n", "a 1\na 2\n"));
  EXPECT_EQ(changing_lines("x\na 1\n", "x\na 2\n"), std::vector<std::size_t>{1});
  EXPECT_EQ(changing_lines("x\n", "x\n"), std::vector<std::size_t>{});
}

TEST_F(Outputs, LinksAreNotFollowed) {
  fs::remove(root() / name(2));
  fs::create_symlink(root() / name(1), root() / name(2));
  EXPECT_THAT(check().classes, ElementsAre(kOk, kOk, ItemClass::kLost, kOk, kOk));
}

}  // namespace
}  // namespace crashworthy

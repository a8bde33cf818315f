// The program `tiles` undisturbed: all arms give the bytes of the whole image, bad inputs cost only
// themselves, and mistakes are told in a line.
#include "pipelines/tiles/pipeline.h"

#include <algorithm>

#include <opencv2/imgcodecs.hpp>

#include "pipelines/tiles/image_file.h"
#include "pipelines/tiles/pipeline_test_util.h"
#include "pipelines/tiles/ppm.h"

namespace crashworthy::tiles {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

const char* const kArms[] = {"none", "isolate", "one_for_one"};

TEST_F(Tiles, AllArmsGiveTheSameBytes) {
  make_inputs(12);
  const Files expected = golden();
  ASSERT_EQ(expected.size(), 12u);
  for (const char* arm : kArms) {
    for (const std::vector<std::string>& more :
         {std::vector<std::string>{},
          {"--workers", "3", "--producers", "2", "--max-demand", "3"}}) {
      const fs::path output = fresh_output();
      TilesRun run(words(output, arm, more));
      EXPECT_EQ(run.exit_code(), 0);
      EXPECT_THAT(run.errors(), IsEmpty());
      EXPECT_THAT(run.output(), StartsWith("tiles: 12 delivered, 0 failed, 0 lost in "));
      EXPECT_EQ(missing(expected, files_of(output)), 0u);
    }
  }
}

TEST_F(Tiles, ResultsEqualTheWholeImageWhateverTheTile) {
  make_inputs(4, 2);
  for (const char* operations : {"blur:5,canny:60:150", "median:5,sharpen", "gray,invert"}) {
    const auto chain = Chain::parse(operations);
    ASSERT_TRUE(chain);
    for (const char* tile : {"97", "5000"}) {
      const fs::path output = fresh_output();
      TilesRun run(words(output, "one_for_one", {"--tile", tile, "--ops", operations}));
      ASSERT_EQ(run.exit_code(), 0);
      for (const auto& entry : fs::directory_iterator(inputs())) {
        const auto whole = run_whole(*chain, *read_image(entry.path()));
        ASSERT_TRUE(whole);
        const cv::Mat found = cv::imread(output / entry.path().filename().replace_extension(".png"),
                                         cv::IMREAD_UNCHANGED);
        EXPECT_EQ(difference(found, *whole), 0) << operations << " " << entry.path();
      }
    }
  }
}

TEST_F(Tiles, ListsNameOutputsAndFormats) {
  make_inputs(3);
  const std::vector<fs::path> made = sorted_inputs();
  std::ofstream list(directory_ / "items.list");
  list << made[0].string() << "\tb.jpg\n"
       << made[1].string() << "\ta.png\n"
       << made[2].string() << "\tc.ppm\n";
  list.close();
  for (const char* arm : kArms) {
    const fs::path output = fresh_output();
    TilesRun run({"--list", (directory_ / "items.list").string(), "--output", output.string(),
                  "--supervision", arm, "--ops", "sharpen"});
    EXPECT_EQ(run.exit_code(), 0) << run.errors();
    const Files found = files_of(output);
    EXPECT_EQ(names(found), (std::set<std::string>{"a.png", "b.jpg", "c.ppm"}));
    EXPECT_THAT(found.at("b.jpg"), StartsWith("\xFF\xD8\xFF"));
    EXPECT_THAT(found.at("c.ppm"), StartsWith("P6"));
    const cv::Mat ppm = cv::imread(output / "c.ppm");
    const auto whole = run_whole(*Chain::parse("sharpen"), *read_image(made[2]));
    EXPECT_EQ(difference(ppm, *whole), 0);
  }
}

// Mapped files in, mapped files out, with the map of canny between.
TEST_F(Tiles, PpmIsMappedAndEqualsTheWholeImage) {
  fs::create_directories(inputs());
  ASSERT_TRUE(generate_ppm(inputs() / "big.ppm", 1500, 1100, 7));
  const auto image = MappedImage::open(inputs() / "big.ppm");
  for (const char* operations : {"blur:5,canny:60:150", "sharpen"}) {
    const auto whole = run_whole(*Chain::parse(operations), image->pixels(), ChannelOrder::kRgb);
    for (const char* arm : kArms) {
      const fs::path output = fresh_output();
      TilesRun run(words(output, arm, {"--format", "ppm", "--ops", operations}));
      EXPECT_EQ(run.exit_code(), 0) << run.errors();
      EXPECT_EQ(names(files_of(output)), std::set<std::string>{"big.ppm"});
      const auto found = MappedImage::open(output / "big.ppm");
      ASSERT_TRUE(found);
      EXPECT_EQ(difference(found->pixels(), *whole), 0) << arm << " " << operations;
    }
  }
}

TEST_F(Tiles, EveryItemGoesThroughSomeBatcher) {
  make_inputs(11);
  const Files expected = golden();
  const fs::path output = fresh_output();
  TilesRun run(words(output, "one_for_one",
                     {"--batcher", "a:1:3", "--batcher", "b:2:2", "--max-demand", "4"}));
  EXPECT_EQ(run.exit_code(), 0);
  EXPECT_EQ(missing(expected, files_of(output)), 0u);
  EXPECT_EQ(run.all(ProbeEvent::kTaken).size(), 11u);
  EXPECT_EQ(run.all(ProbeEvent::kDelivered).size(), 11u);
  for (const ProbeRecord& record : run.all(ProbeEvent::kDelivered)) {
    EXPECT_EQ(record.worker, kCoordinator.worker);
    EXPECT_EQ(record.incarnation, kCoordinator.incarnation);
  }
}

TEST_F(Tiles, OutputsOfTheSameNameAreNumbered) {
  fs::create_directories(inputs());
  for (const char* name : {"a.png", "a.jpg"})
    ASSERT_TRUE(cv::imwrite(inputs() / name, random_image(40, 30, 3, 9, 1)));
  EXPECT_EQ(names(golden()), (std::set<std::string>{"a.png", "a-2.png"}));
}

// ---- Bad inputs ----

class BadInputs : public Tiles {
 protected:
  struct Bad {
    std::string name;
    FailureReason reason;
    std::string text;
  };

  void put(const std::string& name, const std::string& content) {
    std::ofstream(inputs() / name, std::ios::binary) << content;
  }

  std::vector<Bad> make_bad() {
    make_inputs(2);
    const cv::Mat image = random_image(200, 150, 3, 40, 1);
    const std::string jpeg = encode_image(".jpg", image).value();
    const std::string png = encode_image(".png", image).value();
    put("b-empty.png", "");
    put("b-half.jpg", jpeg.substr(0, jpeg.size() / 2));
    put("b-half.png", png.substr(0, png.size() / 2));
    put("b-noise.png", std::string(5000, 'x'));
    put("b-half.ppm", "P6 100 100 255\nxxx");
    put("b-deep.ppm", "P6 1 1 65535\nxxxxxx");
    put("b-damaged.png", std::string(png).replace(png.size() / 2, 64, std::string(64, 'x')));
    std::string vast = png;  // Its header claims 2^20 x 2^16 pixels.
    vast.replace(16, 8, std::string("\x00\x10\x00\x00\x00\x01\x00\x00", 8));
    put("b-vast.png", vast);
    put("b-wide.ppm", "P6 200000 1 255\n" + std::string(600'000, 'x'));
    ::mkfifo((inputs() / "b-pipe.png").c_str(), 0600);
    fs::create_symlink("nowhere", inputs() / "b-gone.png");
    const auto unreadable = FailureReason::kUnreadable;
    return {{"b-empty.png", unreadable, "empty"},
            {"b-half.jpg", unreadable, "cut off"},
            {"b-half.png", unreadable, "cut off"},
            {"b-noise.png", unreadable, "not a PNG"},
            {"b-half.ppm", unreadable, "truncated"},
            {"b-deep.ppm", unreadable, "65535"},
            {"b-damaged.png", unreadable, "b-damaged.png"},
            {"b-vast.png", FailureReason::kTooLarge, "do not fit a frame"},
            {"b-pipe.png", unreadable, "not a regular file"},
            {"b-gone.png", unreadable, "No such file"}};
  }
};

TEST_F(BadInputs, CostOnlyThemselvesAndTellWhy) {
  const std::vector<Bad> bad = make_bad();
  const std::vector<fs::path> sorted = sorted_inputs();
  for (const char* arm : kArms) {
    const fs::path output = fresh_output();
    TilesRun run(words(output, arm));
    EXPECT_EQ(run.exit_code(), 1) << run.errors();
    EXPECT_EQ(names(files_of(output)),
              (std::set<std::string>{"b-wide.png", "image-00000.png", "image-00001.png"}));
    EXPECT_THAT(run.output(), StartsWith("tiles: 3 delivered, 10 failed, 0 lost"));
    EXPECT_THAT(run.all(ProbeEvent::kWorkerDied), IsEmpty());
    const std::vector<ProbeRecord> failures = run.all(ProbeEvent::kFailed);
    EXPECT_EQ(failures.size(), bad.size());
    for (const ProbeRecord& failure : failures) {
      const std::string name = sorted.at(failure.item).filename();
      const auto found = std::find_if(bad.begin(), bad.end(),
                                      [&](const Bad& candidate) { return candidate.name == name; });
      ASSERT_NE(found, bad.end()) << name;
      EXPECT_EQ(failure.value, static_cast<std::int64_t>(found->reason)) << name;
      EXPECT_THAT(run.errors(), HasSubstr("tiles: item " + std::to_string(failure.item) + " (" +
                                          sorted.at(failure.item).string() + "): "));
      EXPECT_THAT(run.errors(), HasSubstr(found->text)) << name;
    }
  }
}

TEST_F(BadInputs, TooLargeForAFrameAndAboveTheLimitOfOpenCv) {
  make_bad();
  const auto only = [&](const std::string& name, std::vector<std::string> more) {
    more.insert(more.begin(), {(inputs() / name).string(), "--output", fresh_output().string()});
    TilesRun run(more);
    EXPECT_EQ(run.exit_code(), 1);
    return run.errors();
  };
  EXPECT_THAT(only(sorted_inputs().back().filename(), {"--frame-bytes", "64K"}),
              HasSubstr("--frame-bytes"));
  EXPECT_THAT(only("b-wide.ppm", {"--frame-bytes", "64K"}), HasSubstr("--format ppm"));
  EXPECT_THAT(only("b-wide.ppm", {"--tile", "1", "--frame-bytes", "64K"}), HasSubstr("ppm"));
  // 65000 x 32768 pixels are more than OpenCV decodes, though not more than the frame holds.
  std::string vast = encode_image(".jpg", random_image(200, 150, 3, 40, 1)).value();
  const std::size_t size_at = vast.find("\xFF\xC0") + 5;
  vast.replace(size_at, 4, std::string("\x80\x00\xFD\xE8", 4));
  put("b-vast.jpg", vast);
  EXPECT_THAT(only("b-vast.jpg", {"--frame-bytes", "8G", "--max-demand", "1"}),
              HasSubstr("OpenCV's limit"));
}

// ---- Wrong usage ----

TEST_F(Tiles, MistakesAreToldInOneLine) {
  make_inputs(1);
  fs::create_directories(directory_ / "empty");
  std::ofstream(directory_ / "twice") << "a\tx.png\nb\tx.png\n";
  std::ofstream(directory_ / "tabless") << "a x.png\n";
  std::ofstream(directory_ / "outside") << "a\t../x.png\n";
  std::ofstream(directory_ / "nothing");
  const std::string in = inputs().string();
  const auto at = [&](const char* name) { return (directory_ / name).string(); };
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{in, "--tile", "0"}, "--tile"},
      {{in, "--tile", "-5"}, "--tile"},
      {{in, "--workers", "0"}, "--workers"},
      {{in, "--ops", "blur:4"}, "blur"},
      {{in, "--ops", "equalize"}, "--ops: operation 'equalize' has no exact"},
      {{in, "--format", "gif"}, "--format"},
      {{in, "--supervision", "all"}, "--supervision"},
      {{in, "--period", "10"}, "--period"},
      {{in, "--batcher", "x"}, "--batcher"},
      {{in, "--batcher", "x:0:4"}, "impossible number"},
      {{in, "--batcher", "x:1:65"}, "impossible number"},
      {{in, "--frame-bytes", "1"}, "--frame-bytes"},
      {{in, "--nonsense"}, "--nonsense"},
      {{}, "neither --list"},
      {{in, "--list", at("twice")}, "--list"},
      {{at("empty")}, "no images"},
      {{"--list", at("nothing")}, "empty"},
      {{"--list", at("twice")}, "used twice"},
      {{"--list", at("tabless")}, "tab"},
      {{"--list", at("outside")}, "plain file name"},
      {{"--list", at("gone")}, "unable to read the list"},
  };
  for (const auto& [arguments, text] : cases) {
    std::vector<std::string> all = arguments;
    all.insert(all.end(), {"--output", at("never")});
    TilesRun run(all);
    EXPECT_EQ(run.exit_code(), 64) << text;
    EXPECT_THAT(run.errors(), AllOf(StartsWith("tiles: error: "), HasSubstr(text)));
    const std::string errors = run.errors();
    EXPECT_LE(std::count(errors.begin(), errors.end(), '\n'), 2) << errors;
    EXPECT_THAT(run.output(), IsEmpty());
  }
  EXPECT_FALSE(fs::exists(directory_ / "never"));
}

TEST_F(Tiles, HelpHasExamples) {
  TilesRun run({"--help"});
  EXPECT_EQ(run.exit_code(), 0);
  EXPECT_THAT(run.output(), AllOf(HasSubstr("Examples:"), HasSubstr("--supervision")));
}

// ---- Outputs ----

TEST_F(Tiles, AnUnwritableOutputIsToldAtOnce) {
  make_inputs(1);
  std::ofstream(directory_ / "file") << "x";
  for (const fs::path& output :
       {directory_ / "file", directory_ / "file" / "below", fs::path("/proc/none")}) {
    TilesRun run(words(output, "one_for_one"));
    EXPECT_EQ(run.exit_code(), 74);
    EXPECT_THAT(run.errors(), StartsWith("tiles: error: unable to use the output directory"));
    EXPECT_THAT(run.all(ProbeEvent::kTaken), IsEmpty());
  }
}

TEST_F(Tiles, AnOutputThatCannotBeReplacedFailsItsItemOnly) {
  make_inputs(3);
  const fs::path output = fresh_output();
  fs::create_directories(output / "image-00001.png");  // No file can take a directory's name.
  TilesRun run(words(output, "one_for_one"));
  EXPECT_EQ(run.exit_code(), 1);
  EXPECT_THAT(run.errors(), HasSubstr("tiles: item 1 "));
  fs::remove(output / "image-00001.png");
  EXPECT_EQ(names(files_of(output)), (std::set<std::string>{"image-00000.png", "image-00002.png"}));
  const auto failures = run.all(ProbeEvent::kFailed);
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].value, static_cast<std::int64_t>(FailureReason::kWrite));
}

// Runs the program on a disk of its own, `kib` large, and copies what is there at its end.
class FullDisk : public Tiles {
 protected:
  std::string script(const std::string& kib, const fs::path& copy, const std::string& filler,
                     const std::string& more) {
    const std::string disk = (directory_ / "disk").string();
    return "mkdir -p " + disk + " && mount -t tmpfs -o size=" + kib + "k none " + disk + " && " +
           filler + " " + tiles_program() + " " + inputs().string() + " --output " + disk + " " +
           more + "; code=$?; mkdir -p " + copy.string() + " && cp -a " + disk + "/. " +
           copy.string() + "; exit $code";
  }
  bool can_mount() {
    TilesRun trial(TilesRun::Command{},
                   {"unshare", "-Urm", "sh", "-c",
                    "mount -t tmpfs -o size=64k none " + directory_.path().string()});
    return trial.exit_code() == 0;
  }
};

TEST_F(FullDisk, FailsTheItemsThatFindNoRoomAndLeavesNothingTorn) {
  make_inputs(12);
  if (!can_mount()) GTEST_SKIP() << "no user and mount namespaces here";
  for (const std::string format : {"png", "ppm"}) {
    const Files expected = golden({"--format", format});
    std::size_t all = 0;
    for (const auto& [name, content] : expected) all += content.size();
    for (const char* arm : kArms) {
      const fs::path copy = fresh_output();
      TilesRun run(TilesRun::Command{},
                   {"unshare", "-Urm", "sh", "-c",
                    script(std::to_string(all / 2048), copy, "",
                           std::string("--format ") + format + " --supervision " + arm)});
      EXPECT_EQ(run.exit_code(), 1) << run.errors();
      EXPECT_THAT(run.errors(), HasSubstr("No space left on device"));
      const std::size_t gone = missing(expected, files_of(copy));
      EXPECT_GT(gone, 0u);
      EXPECT_LT(gone, expected.size());
      EXPECT_EQ(run.all(ProbeEvent::kFailed).size(), gone);
      for (const ProbeRecord& failure : run.all(ProbeEvent::kFailed))
        EXPECT_EQ(failure.value, static_cast<std::int64_t>(FailureReason::kWrite));
    }
  }
}

TEST_F(FullDisk, IsToldAtOnce) {
  make_inputs(1);
  if (!can_mount()) GTEST_SKIP() << "no user and mount namespaces here";
  const std::string fill =
      "{ cat /dev/zero > " + (directory_ / "disk" / "fill").string() + " 2>/dev/null; true; } &&";
  TilesRun run(TilesRun::Command{},
               {"unshare", "-Urm", "sh", "-c", script("64", fresh_output(), fill, "")});
  EXPECT_EQ(run.exit_code(), 74);
  EXPECT_THAT(run.errors(), HasSubstr("No space left on device"));
}

TEST_F(Tiles, WhatAKilledRunLeftIsRemovedByTheNext) {
  make_inputs(1);
  const fs::path output = fresh_output();
  fs::create_directories(output);
  std::ofstream(output / ".tiles-part.17.map") << "old";
  std::ofstream(output / "mine") << "kept";
  TilesRun run(words(output, "isolate"));
  EXPECT_EQ(run.exit_code(), 0);
  EXPECT_EQ(names(files_of(output)), (std::set<std::string>{"image-00000.png", "mine"}));
}

TEST_F(Tiles, ASlowdownCostsTime) {
  make_inputs(6);
  const auto seconds = [&](const std::string& percent) {
    const std::int64_t start = now_ns();
    TilesRun run(words(fresh_output(), "none", {"--workers", "1", "--slow", percent}));
    EXPECT_EQ(run.exit_code(), 0);
    return static_cast<double>(now_ns() - start) / 1e9;
  };
  EXPECT_GT(seconds("900"), 2 * seconds("0"));
}

}  // namespace
}  // namespace crashworthy::tiles

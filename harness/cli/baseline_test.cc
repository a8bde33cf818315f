// What commands leave behind, judged through the whole program: the baseline gate and its refusals,
// a wrong output of a run that says 0, one item lost in a thousand, unfinished files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "harness/cli/program_test_util.h"
#include "harness/os/file.h"

namespace crashworthy::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uid_t kNobody = 65534;

class Baseline : public ::testing::Test {
 protected:
  Finished crashworthy(std::vector<std::string> words, std::optional<uid_t> uid = std::nullopt) {
    words.insert(words.begin(), crashworthy_program());
    for (const char* stream : {"out", "err"}) fs::remove(directory_.path() / stream);  // Root's.
    return run_program(words, directory_.path(), 240, uid);
  }
  // An experiment without a fault on a line of shell.
  Finished run_shell(const std::string& line, json more = json::object()) {
    json document{{"experiment", "c"},
                  {"subject", {{"command", {"sh", "-c", line, "sh"}}, {"outputs", {"out/*"}}}},
                  {"blocks", 1}};
    document.update(more);
    std::ofstream(directory_.path() / "e.json") << document;
    fs::remove_all(directory_.path() / "r");
    return crashworthy({"run", "--quiet", "--out", "r", "e.json"});
  }
  json read(const std::string& name) {
    return json::parse(*read_file(directory_.path() / "r" / name));
  }
  std::vector<json> history(const std::string& trial, const std::string& type) {
    std::vector<json> found;
    std::istringstream lines(
        *read_file(directory_.path() / "r" / "trials" / trial / "history.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      if (json event = json::parse(line); event["type"] == type) found.push_back(event);
    }
    return found;
  }
  void expect_refused(const Finished& run, const char* why) {
    EXPECT_EQ(run.exit_code, 3) << run.out << run.err;
    EXPECT_THAT(run.err, HasSubstr(why));
    EXPECT_FALSE(fs::exists(directory_.path() / "r")) << "a refused run leaves nothing";
  }

  TemporaryDirectory directory_;
};

TEST_F(Baseline, ACommandWhoseRunsAgreeIsRecordedTwice) {
  const Finished run = run_shell("echo same > out/a; echo $PWD > out/b");
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  EXPECT_TRUE(fs::exists(directory_.path() / "r" / "golden" / "history.jsonl"));
  EXPECT_TRUE(fs::exists(directory_.path() / "r" / "golden-2" / "history.jsonl"));
  const json golden = read("golden.json");
  EXPECT_EQ(golden["durations_ns"].size(), 2u);
  ASSERT_EQ(golden["canonicalised"].size(), 1u) << golden;
  EXPECT_EQ(golden["canonicalised"][0]["name"], "out/b");
  EXPECT_EQ(golden["items"][1]["masked_lines"], json::array({0}));
  EXPECT_EQ(read("summary.json")["cells"][0]["items"]["ok"], 2);
  EXPECT_THAT(read("summary.json")["warnings"].dump(), HasSubstr("'out/b': compared by its text"));
}

TEST_F(Baseline, ACommandWhoseRunsDifferIsRefusedWithTheOutputThatDoes) {
  const Finished run =
      run_shell("echo same > out/a; head -c 64 /dev/urandom > out/noise; echo x > out/c");
  expect_refused(run, "'out/noise' differs in its bytes");
  EXPECT_THAT(run.err, HasSubstr("--outputs"));
  EXPECT_THAT(run.err, Not(HasSubstr("'out/a'")));
  // Without the output that differs, it is a subject.
  const Finished narrower =
      run_shell("echo same > out/a; head -c 64 /dev/urandom > out/noise",
                {{"subject",
                  {{"command", {"sh", "-c", "echo same > out/a; head -c 64 /dev/urandom > out/n"}},
                   {"outputs", {"out/a"}}}}});
  EXPECT_EQ(narrower.exit_code, 0) << narrower.err;
}

TEST_F(Baseline, ASecondRunThatFailsOrDeliversMoreIsRefused) {
  const std::string once = (directory_.path() / "once").string();
  expect_refused(
      run_shell("echo x > out/a; [ -e " + once + " ] && { echo oh >&2; exit 7; }; touch " + once),
      "the second fault-free run exited with 7");
  fs::remove(once);
  const Finished more =
      run_shell("echo x > out/a; if [ -e " + once + " ]; then echo x > out/b; fi; touch " + once);
  expect_refused(more, "'out/b' is there after the second run only");
  expect_refused(run_shell("echo last words >&2; exit 3"), "last words");
}

TEST_F(Baseline, OneItemLostInAThousandIsFound) {
  const json arms = json::array(
      {{{"name", "honest"}, {"arguments", {"none"}}}, {{"name", "loser"}, {"arguments", {"437"}}}});
  const Finished run = run_shell(
      "i=0; while [ $i -lt 1000 ]; do [ $i = $1 ] || echo \"item $i\" > out/$i; i=$((i+1)); done",
      {{"arms", arms}, {"expect", {"loser.none.items.lost == 1", "honest.none.items.ok == 1000"}}});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const json cells = read("summary.json")["cells"];
  EXPECT_EQ(cells[1]["items"]["ok"], 999);
  EXPECT_EQ(cells[1]["items"]["lost"], 1);
}

TEST_F(Baseline, TornEmptyExtraAndUnfinishedFilesAreCountsOfTheirOwn) {
  const json arms = json::array(
      {{{"name", "honest"}, {"arguments", {"no"}}}, {{"name", "sinner"}, {"arguments", {"yes"}}}});
  const Finished run = run_shell(
      "for i in 1 2 3 4; do printf 'item %s has two\\nlines\\n' $i > out/$i; done; "
      "[ $1 = yes ] || exit 0; printf 'item 1 has' > out/1; : > out/2; echo new > out/9; "
      "mv out/3 out/3.tmp; echo wrong > out/4",
      {{"arms", arms},
       {"expect",
        {"sinner.none.items.torn == 1", "sinner.none.items.empty == 1",
         "sinner.none.items.extra == 1", "sinner.none.items.stale_temporary == 1",
         "sinner.none.items.corrupt == 3", "sinner.none.items.lost == 1",
         "honest.none.items.torn == 0", "honest.none.items.extra == 0"}}});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const std::string sinner = history("0001", "trial")[0]["arm"] == "sinner" ? "0001" : "0002";
  std::map<std::string, std::string> states;
  for (const json& bad : history(sinner, "bad_output")) states[bad["name"]] = bad["state"];
  EXPECT_EQ(states, (std::map<std::string, std::string>{
                        {"out/1", "torn"}, {"out/2", "empty"}, {"out/4", "whole"}}));
  std::map<std::string, std::string> kinds;
  for (const json& extra : history(sinner, "extra_output")) kinds[extra["name"]] = extra["kind"];
  EXPECT_EQ(kinds, (std::map<std::string, std::string>{{"out/3.tmp", "stale_temporary"},
                                                       {"out/9", "extra"}}));
  const Finished report = crashworthy({"report", "r"});
  EXPECT_THAT(report.out, HasSubstr("torn"));
  EXPECT_THAT(report.out, HasSubstr("stale temporary"));
}

// A frame is dropped and the later ones move up: every file is there, and whole.
TEST_F(Baseline, RenumberedOutputsAreMisplacedAndOneIsNot) {
  const json arms = json::array(
      {{{"name", "honest"}, {"arguments", {"0"}}}, {{"name", "dropper"}, {"arguments", {"3"}}}});
  const Finished run = run_shell(
      "n=1; for i in 1 2 3 4 5 6; do [ $i = $1 ] && continue; echo frame $i > out/f$n; n=$((n+1)); "
      "done",
      {{"arms", arms},
       {"expect",
        {"dropper.none.items.misplaced == 3", "dropper.none.items.corrupt == 1",
         "dropper.none.items.ok == 5"}}});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
}

// The same by a real program: after one write that fails, ffmpeg goes on with the next frame under
// the name of the one that it dropped, for as long as it lives.
TEST_F(Baseline, AFrameThatFfmpegDropsMisplacesTheLaterOnes) {
  if (!fs::exists("/usr/bin/ffmpeg")) GTEST_SKIP() << "needs ffmpeg";
  std::vector<std::optional<uid_t>> users{std::nullopt};
  if (::getuid() == 0) users.emplace_back(kNobody);
  for (const auto& user : users) {
    fs::remove_all(directory_.path() / "r");
    const Finished run = crashworthy(
        {"run",         "--quiet",    "--blocks",  "1",
         "--out",       "r",          "--outputs", "out/*",
         "--fault",     "io.errno",   "--set",     "call=write",
         "--set",       "path=*.png", "--when",    "call=12",
         "--",          "ffmpeg",     "-v",        "error",
         "-f",          "lavfi",      "-i",        "testsrc=size=320x240:rate=10:duration=3",
         "out/%03d.png"},
        user);
    EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
    const json cells = read("summary.json")["cells"];
    EXPECT_EQ(cells[0]["items"]["ok"], 30);
    ASSERT_EQ(cells[1]["confirmed"], 1) << cells[1];
    EXPECT_EQ(cells[1]["items"]["corrupt"], 1) << cells[1];
    EXPECT_GE(cells[1]["items"]["misplaced"], 1) << cells[1];
    const std::string trial = history("0001", "trial")[0]["fault"] == "none" ? "0002" : "0001";
    ASSERT_EQ(history(trial, "bad_output").size(), 1u);
    EXPECT_THAT(history(trial, "bad_output")[0]["difference"].get<std::string>(),
                HasSubstr("it has the content of 'out/"));
  }
}

// Running again brings back what was lost, unless the killed run has left a lock behind.
TEST_F(Baseline, RunningAgainIsJudgedApart) {
  const json more{{"rerun", true},
                  {"faults",
                   {{{"fault", "process.kill"},
                     {"name", "kill"},
                     {"victim", {{"role", "main"}}},
                     {"when", {{"event", "first_output"}}}}}}};
  const std::string work = "for i in 1 2 3 4; do sleep 0.2; echo $i > out/$i; done";
  for (const bool locks : {false, true}) {
    const std::string line = "[ -e lock ] && exit 9; touch lock; " + work + "; rm lock";
    const Finished run = run_shell(locks ? line : work, more);
    EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
    const json cells = read("summary.json")["cells"];
    EXPECT_EQ(cells[0]["rerun"]["trials"], 0) << "only after faults";
    EXPECT_EQ(cells[1]["confirmed"], 1) << cells[1];
    EXPECT_LT(cells[1]["items"]["ok"], 4) << "the first run's items are counted as they were";
    EXPECT_EQ(cells[1]["rerun"]["trials"], 1);
    EXPECT_EQ(cells[1]["rerun"]["whole"], locks ? 0 : 1) << cells[1];
    const std::string trial = history("0001", "trial")[0]["fault"] == "none" ? "0002" : "0001";
    ASSERT_EQ(history(trial, "rerun").size(), 1u);
    EXPECT_EQ(history(trial, "rerun")[0]["ended"], locks ? "exited with 9" : "exited with 0");
  }
}

// A real program that nobody here wrote.
class Mogrify : public Baseline, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    if (GetParam() && ::getuid() != 0) GTEST_SKIP() << "only root can become somebody else";
    if (!fs::exists("/usr/bin/mogrify")) GTEST_SKIP() << "needs imagemagick";
    const std::string programs = fs::path(crashworthy_program()).parent_path();
    fs::create_directories(directory_.path() / "in");
    ASSERT_EQ(
        run_program({programs + "/tiles-generate", "--set", "made", "--count", "8", "--seed", "1"},
                    directory_.path())
            .exit_code,
        0);
    std::vector<std::string> words{"/usr/bin/mogrify", "-path",  "in", "-format", "jpg",
                                   "-resize",          "200x200"};
    for (const auto& entry : fs::directory_iterator(directory_.path() / "made"))
      words.push_back(entry.path().string());
    ASSERT_EQ(run_program(words, directory_.path()).exit_code, 0);
    for (const auto& entry : fs::directory_iterator(directory_.path() / "in"))
      inputs_.push_back("in/" + entry.path().filename().string());
    ASSERT_EQ(inputs_.size(), 8u);
    std::sort(inputs_.begin(), inputs_.end());
    for (const auto& entry : fs::recursive_directory_iterator(directory_.path()))
      fs::permissions(entry.path(), fs::perms::group_read | fs::perms::others_read,
                      fs::perm_options::add);
  }
  std::optional<uid_t> user() const { return GetParam() ? std::optional(kNobody) : std::nullopt; }
  Finished mogrify(std::vector<std::string> options) {
    std::vector<std::string> words{"run", "--quiet", "--blocks", "2", "--out", "r", "--seed", "5"};
    words.insert(words.end(), {"--inputs", "in/*.jpg", "--outputs", "out/*.png"});
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(),
                 {"--", "mogrify", "-path", "out", "-format", "png", "-resize", "50%"});
    words.insert(words.end(), inputs_.begin(), inputs_.end());
    return crashworthy(words, user());
  }

  std::vector<std::string> inputs_;
};

// It ends with 0 and leaves a PNG that every program opens; half of it is grey.
TEST_P(Mogrify, ATruncatedInputIsTheCorruptionOfItsItemAlone) {
  const Finished run = mogrify({"--fault", "input.truncate", "--set", "path=*" + inputs_[2]});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const json cells = read("summary.json")["cells"];
  EXPECT_EQ(cells[0]["items"]["ok"], 16) << cells[0];
  EXPECT_EQ(cells[1]["confirmed"], 2) << cells[1];
  EXPECT_EQ(cells[1]["items"]["ok"], 14);
  EXPECT_EQ(cells[1]["items"]["corrupt"], 2);
  EXPECT_EQ(cells[1]["items"]["torn"], 0);
  const std::string trial = history("0001", "trial")[0]["fault"] == "none" ? "0002" : "0001";
  EXPECT_EQ(history(trial, "end")[0]["ended"], "exited with 0");
  const auto bad = history(trial, "bad_output");
  ASSERT_EQ(bad.size(), 1u);
  const std::string stem = fs::path(inputs_[2]).stem();
  EXPECT_EQ(bad[0]["name"], "out/" + stem + ".png");
  EXPECT_EQ(bad[0]["state"], "whole");
  EXPECT_EQ(bad[0]["difference"], "the pixels");
}

// Its PNG files hold dates: their bytes change from run to run when the clock moves on.
TEST_P(Mogrify, ADisarmedFaultHarmsNothing) {
  const Finished run =
      mogrify({"--disarm", "--fault", "input.truncate", "--set", "path=*" + inputs_[2]});
  EXPECT_EQ(run.exit_code, 3) << run.err;
  for (const json& cell : read("summary.json")["cells"]) EXPECT_EQ(cell["items"]["ok"], 16) << cell;
}

INSTANTIATE_TEST_SUITE_P(AsRootAndAsNobody, Mogrify, ::testing::Bool(),
                         [](const auto& user) { return user.param ? "nobody" : "self"; });

}  // namespace
}  // namespace crashworthy::testing

// `crashworthy run --items`: a command for each item, and workers that speak lines, under faults
// that hit whoever holds an item. Bare costs exactly that item, supervised none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "harness/cli/program_test_util.h"
#include "harness/os/file.h"

namespace crashworthy::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr int kItems = 8;
constexpr uid_t kNobody = 65534;
constexpr const char* kConvert = "/usr/bin/convert";

class Items : public ::testing::Test {
 protected:
  Finished crashworthy(std::vector<std::string> words) {
    words.insert(words.begin(), crashworthy_program());
    return run_program(words, directory_.path(), 200, uid_);
  }
  // `run --items` with these options, before the command.
  Finished run(std::vector<std::string> options, const std::vector<std::string>& command) {
    std::vector<std::string> words{"run",   "--quiet", "--items", "in/*",
                                   "--out", "r",       "--seed",  "1"};
    words.insert(words.end(), options.begin(), options.end());
    words.emplace_back("--");
    words.insert(words.end(), command.begin(), command.end());
    return crashworthy(words);
  }
  void write(const std::string& name, const std::string& text) {
    const fs::path file = directory_.path() / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    fs::permissions(file.parent_path(), fs::perms::all);
  }
  // Grey noise, which no two items share.
  void write_images(int side) {
    for (int i = 0; i < kItems; ++i) {
      std::string image = "P5\n" + std::to_string(side) + " " + std::to_string(side) + "\n255\n";
      std::uint32_t state = 12345u + static_cast<std::uint32_t>(i);
      for (int k = 0; k < side * side; ++k) {
        state = state * 1664525u + 1013904223u;
        image += static_cast<char>(state >> 24);
      }
      write("in/" + std::to_string(i) + ".pgm", image);
    }
  }
  void write_texts() {
    for (int i = 0; i < kItems; ++i)
      write("in/" + std::to_string(i), "content " + std::to_string(i) + "\n");
  }
  json cell(const std::string& arm, const std::string& fault) {
    const auto text = read_file(directory_.path() / "r" / "summary.json");
    if (!text) return json::object();
    const json summary = json::parse(*text);
    for (const json& found : summary["cells"]) {
      if (found["arm"] == arm && found["fault"] == fault) return found;
    }
    return json::object();
  }
  static std::int64_t missing(const json& items) {
    return items.value("lost", 0) + items.value("failed", 0) + items.value("corrupt", 0) +
           items.value("unfinished", 0);
  }
  // What holds whatever strikes the process that executes an item. `early`: it is struck for sure
  // before its output is whole.
  void expect_one_item_or_none(const std::string& fault, int blocks, bool early) {
    for (const char* arm : {"bare", "supervised"}) {
      SCOPED_TRACE(std::string(arm) + " " + fault);
      EXPECT_EQ(cell(arm, "none")["items"]["ok"], kItems * blocks);
      EXPECT_EQ(cell(arm, fault)["confirmed"], blocks);
      EXPECT_EQ(cell(arm, fault)["items"]["offered"], kItems * blocks);
    }
    const std::int64_t bare = missing(cell("bare", fault)["items"]);
    EXPECT_TRUE(early ? bare == blocks : bare <= blocks) << bare;
    EXPECT_EQ(cell("bare", fault)["items"]["redone"], 0);
    EXPECT_EQ(missing(cell("supervised", fault)["items"]), 0);
    EXPECT_EQ(cell("supervised", fault)["items"]["ok"], kItems * blocks);
    EXPECT_EQ(cell("supervised", fault)["items"]["redone"], blocks);
  }

  TemporaryDirectory directory_;
  std::optional<uid_t> uid_;
};

// Whoever works when the third item is taken; faults that take the key: at an item, for sure.
std::vector<std::string> struck_by(const std::string& fault, std::vector<std::string> more = {}) {
  const bool hang = fault == "process.hang";
  std::vector<std::string> options{
      "--supervise", "--blocks", "2",
      "--when",      "item=3",   "--fault",
      fault,         "--victim", hang ? "role=worker" : "holding_item=true"};
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

struct Case {
  const char* name;
  const char* fault;
  bool unprivileged;
};
class ImageMagick : public Items, public ::testing::WithParamInterface<Case> {};

// The command of README.md.
TEST_P(ImageMagick, OneItemBareAndNoneSupervised) {
  if (::access(kConvert, X_OK) != 0) GTEST_SKIP() << "not installed: imagemagick";
  if (GetParam().unprivileged && ::getuid() != 0) GTEST_SKIP() << "only root can be another user";
  if (GetParam().unprivileged) uid_ = kNobody;
  write_images(2200);
  const Finished finished =
      run(struck_by(GetParam().fault, {"--workers", "2", "--output-name", "out/{stem}.png"}),
          {kConvert, "{}", "-resize", "50%", "{out}"});
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  expect_one_item_or_none(GetParam().fault, 2, false);
  EXPECT_TRUE(
      cell("supervised", GetParam().fault)["measures"]["first_good"]["estimate"].is_number());
  EXPECT_FALSE(fs::exists(directory_.path() / "out" / "0.png")) << "a trial has its own directory";
  EXPECT_TRUE(processes_naming(directory_.path().string()).empty());
}
INSTANTIATE_TEST_SUITE_P(All, ImageMagick,
                         ::testing::Values(Case{"Kill", "process.kill", false},
                                           Case{"KillAsNobody", "process.kill", true},
                                           Case{"Abort", "native.abort", false},
                                           Case{"AbortAsNobody", "native.abort", true}),
                         [](const auto& test) { return test.param.name; });

constexpr const char* kSlowCopy = "sleep 0.1; cp \"$0\" \"$1\"";

TEST_F(Items, AHungCommandIsTriedAgainAfterItsDeadline) {
  write_texts();
  // Whoever is stopped has just begun or is asleep: what it does afterwards is not done.
  const Finished finished =
      run(struck_by("process.hang", {"--item-deadline", "3s", "--timeout", "20s"}),
          {"sh", "-c", "case $0 in *[02468]) sleep 0.4;; *) sleep 0.9;; esac; cp \"$0\" \"$1\"",
           "{}", "{out}"});
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  EXPECT_GE(cell("bare", "process.hang")["items"]["unfinished"].get<int>(), 2)
      << "nobody ends it: the trial's time was over";
  EXPECT_EQ(cell("supervised", "process.hang")["items"]["ok"], kItems * 2);
  EXPECT_EQ(cell("supervised", "process.hang")["recovered"], 2);
}

TEST_F(Items, ADisarmedFaultStrikesNobody) {
  write_texts();
  const Finished finished =
      run(struck_by("process.kill", {"--disarm"}), {"sh", "-c", kSlowCopy, "{}", "{out}"});
  EXPECT_EQ(finished.exit_code, 3) << finished.out << finished.err;
  for (const char* arm : {"bare", "supervised"}) {
    EXPECT_EQ(cell(arm, "process.kill")["confirmed"], 0);
    EXPECT_EQ(cell(arm, "process.kill")["items"]["ok"], kItems * 2);
    EXPECT_EQ(cell(arm, "process.kill")["items"]["redone"], 0);
  }
}

TEST_F(Items, NeedsNoFault) {
  write_texts();
  const Finished finished =
      run({"--blocks", "1", "--workers", "3", "--output-name", "deep/er/{stem}-{name}.{ext}x"},
          {"cp", "{}", "{out}"});
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  EXPECT_EQ(cell("bare", "none")["items"]["ok"], kItems);
  EXPECT_TRUE(cell("supervised", "none").empty());
}

// Crashes at one input, whenever that is tried.
TEST_F(Items, APoisonedItemIsQuarantined) {
  write_texts();
  const char* script = "[ $2 ] && [ $0 = in/3 ] && kill -ABRT $$; cp $0 $1";
  json experiment{
      {"experiment", "poison"},
      {"subject", {{"items", {"in/*"}}, {"command", {"sh", "-c", script, "{}", "{out}"}}}},
      {"blocks", 1}};
  // Not in the first arm, which says what the outputs are.
  experiment["arms"] = {{{"name", "good"}},
                        {{"name", "supervised"},
                         {"supervision", {{"strategy", "one_for_one"}}},
                         {"arguments", {"poison"}}}};
  experiment["expect"] = {"supervised.none.items.failed == 1", "supervised.none.items.ok == 7"};
  write("e.json", experiment.dump());
  const Finished finished = crashworthy({"run", "--quiet", "--out", "r", "e.json"});
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  EXPECT_EQ(cell("supervised", "none")["items"]["redone"], 1);
  const Finished dump = crashworthy({"report", "--dump", "r"});
  EXPECT_THAT(dump.out, HasSubstr("\"event\":\"failed\""));
}

TEST_F(Items, TheDispatchersDeathLeavesNothing) {
  write_texts();
  const Finished finished = run({"--blocks", "2", "--fault", "process.kill", "--victim",
                                 "role=main", "--when", "item=3", "--supervise"},
                                {"sh", "-c", "sleep 0.2 & wait; cp \"$0\" \"$1\"", "{}", "{out}"});
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  for (const char* arm : {"bare", "supervised"}) {
    EXPECT_EQ(cell(arm, "process.kill")["confirmed"], 2);
    EXPECT_GT(cell(arm, "process.kill")["items"]["unfinished"].get<int>(), 0);
  }
  EXPECT_TRUE(processes_naming(directory_.path().string()).empty());
}

TEST_F(Items, TheWholeCanBeRestarted) {
  write_texts();
  write("e.json", json{{"experiment", "restart"},
                       {"subject",
                        {{"items", {"in/*"}}, {"command", {"sh", "-c", kSlowCopy, "{}", "{out}"}}}},
                       {"arms", {{{"name", "restart"}, {"supervision", "restart"}}}},
                       {"faults",
                        {{{"name", "kill"},
                          {"fault", "process.kill"},
                          {"victim", {{"role", "main"}}},
                          {"when", {{"item", 3}}}},
                         {{"name", "worker"},
                          {"fault", "process.kill"},
                          {"victim", {{"holding_item", true}}},
                          {"when", {{"item", 3}}}}}},
                       {"blocks", 1}}
                      .dump());
  const Finished finished = crashworthy({"run", "--quiet", "--out", "r", "e.json"});
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  for (const char* fault : {"kill", "worker"}) {
    EXPECT_EQ(cell("restart", fault)["items"]["ok"], kItems) << fault;
    EXPECT_GT(cell("restart", fault)["items"]["redone"].get<int>(), 0) << "it knows of no items";
  }
}

TEST_F(Items, ATruncatedInputIsCorruptForItsItem) {
  write_texts();
  const Finished finished =
      run({"--blocks", "2", "--fault", "input.truncate"}, {"cp", "{}", "{out}"});
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  EXPECT_EQ(cell("bare", "input.truncate")["items"]["corrupt"], 2);
  EXPECT_EQ(cell("bare", "input.truncate")["items"]["ok"], kItems * 2 - 2);
  EXPECT_EQ(*read_file(directory_.path() / "in" / "0"), "content 0\n");
}

TEST_F(Items, WhatCannotBeIsRefused) {
  write_texts();
  write("other/0", "x");
  const auto refused = [&](std::vector<std::string> options, std::vector<std::string> command) {
    const Finished finished = run(std::move(options), command);
    EXPECT_EQ(finished.exit_code, 64) << finished.err;
    EXPECT_FALSE(fs::exists(directory_.path() / "r"));
    return finished.err;
  };
  const std::vector<std::string> copy{"cp", "{}", "{out}"};
  EXPECT_THAT(refused({"--items", "other/*"}, copy), HasSubstr("the same output, 'out/0'"));
  EXPECT_THAT(refused({"--items", "none/*"}, copy), HasSubstr("no file matches 'none/*'"));
  EXPECT_THAT(refused({"--output-name", "in/{name}"}, copy),
              HasSubstr("would be the input 'in/0'"));
  EXPECT_THAT(refused({"--output-name", "out/x"}, copy), HasSubstr("the same output, 'out/x'"));
  EXPECT_THAT(refused({}, {"cp", "in", "{out}"}), HasSubstr("no word has {}"));
  EXPECT_THAT(refused({}, {"cp", "{}", "out"}), HasSubstr("no word has {out}"));
  EXPECT_THAT(refused({}, {"no-such-program", "{}", "{out}"}), HasSubstr("no-such-program"));
  EXPECT_THAT(refused({"--protocol", "words"}, {"cat"}), HasSubstr("known: \"lines\""));
}

// ---- Workers that speak lines ----

class LineWorkers : public Items {
 protected:
  void expect_kills_cost_one_item_or_none(const std::vector<std::string>& worker) {
    write_images(900);
    const Finished finished =
        run(struck_by("process.kill", {"--protocol", "lines", "--output-name", "out/{stem}.png"}),
            worker);
    EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
    expect_one_item_or_none("process.kill", 2, true);
    EXPECT_TRUE(processes_naming(directory_.path().string()).empty());
  }
};

const std::string kWorker = std::string(CRASHWORTHY_PROGRAM_DIR) + "/line_worker";

TEST_F(LineWorkers, InCpp) { expect_kills_cost_one_item_or_none({kWorker}); }

TEST_F(LineWorkers, InCppAsNobody) {
  if (::getuid() != 0) GTEST_SKIP() << "only root can be another user";
  uid_ = kNobody;
  expect_kills_cost_one_item_or_none({kWorker});
}

TEST_F(LineWorkers, InPython) {
  if (std::system("/usr/bin/python3 -c 'import cv2' >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "not installed: python3-opencv";
  expect_kills_cost_one_item_or_none(
      {"/usr/bin/python3", std::string(CRASHWORTHY_SOURCE_DIR) + "/examples/line_worker.py"});
}

TEST_F(LineWorkers, OneThatHangsIsReplaced) {
  write_images(900);
  const Finished finished =
      run(struck_by("process.hang", {"--protocol", "lines", "--output-name", "out/{stem}.png",
                                     "--heartbeat", "1500ms"}),
          {kWorker});
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  EXPECT_EQ(cell("supervised", "process.hang")["items"]["ok"], kItems * 2);
  EXPECT_GE(cell("bare", "process.hang")["items"]["unfinished"].get<int>(), 2);
}

}  // namespace
}  // namespace crashworthy::testing

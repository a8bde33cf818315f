// Damaged inputs in a trial's own directory, read by real programs: the bytes that they get are
// exactly those of the fault, the originals stay, and what nobody reads is not confirmed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "faults/program_test_util.h"

namespace crashworthy {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class Inputs : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "inputs-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
    launch_.directory = root_ / "work";
    launch_.scratch = root_ / "scratch";
    fs::create_directories(launch_.directory);
    fs::create_directories(launch_.scratch);
    launch_.inputs_are_copies = true;
    for (const char* file : {"a.txt", "b.txt", "c.txt"}) {
      const fs::path original = root_ / (std::string("original-") + file);
      ASSERT_TRUE(write_file_atomically(original, content(file)));
      // A link, which the injection must not write through.
      fs::create_symlink(original, launch_.directory / file);
      launch_.inputs.push_back(launch_.directory / file);
    }
  }
  void TearDown() override {
    for (const char* file : {"a.txt", "b.txt", "c.txt"}) {
      EXPECT_EQ(*read_file(root_ / (std::string("original-") + file)), content(file))
          << "an original was touched";
    }
    fs::remove_all(root_);
  }
  static std::string content(const std::string& file) {
    std::string text;
    for (int i = 0; i < 100; ++i) text += file + " " + std::to_string(i) + "\n";
    return text;
  }
  std::string read(const std::string& file) const { return *read_file(launch_.directory / file); }

  // Injects, lets the shell do `script` in the directory, and gives the result.
  json inject(const std::string& fault, const std::string& script, bool disarmed = false,
              std::uint64_t seed = 1) {
    const FaultSpec spec = fault_of(fault);
    launch_.before_exec.clear();  // Of the injection before, which is gone.
    auto injection = Injection::plan({spec, spec.trigger, seed, disarmed, log_.sink()});
    EXPECT_TRUE(injection->arm(launch_));
    ProgramSubject subject(
        {"sh", "-c", "cd \"$0\"; echo ready; sleep 0.3; " + script, launch_.directory.string()});
    for (const auto& hook : launch_.before_exec) EXPECT_TRUE(hook(subject.pid()));
    injection->launched(subject);
    injection->finish(subject.work_until_end(*injection));
    return log_.result();
  }

  fs::path root_;
  LaunchPlan launch_;
  Log log_;
};

TEST_F(Inputs, ATruncatedFileIsConfirmedWhenItIsRead) {
  const json result = inject(R"({"fault": "input.truncate", "set": {"path": "b*", "keep": "25%"}})",
                             "cat b.txt > out");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(read("out"), content("b.txt").substr(0, content("b.txt").size() / 4));
  EXPECT_EQ(log_.step("evidence")["item"], "b.txt");
  EXPECT_NE(log_.step("evidence")["crc32c"], log_.step("evidence")["crc32c_before"]);
}

TEST_F(Inputs, WhatNobodyReadsIsNotActivated) {
  EXPECT_EQ(inject(R"({"fault": "input.truncate", "set": {"path": "b*"}})", "cat a.txt")["outcome"],
            "not_activated");
}

// The second reads all inputs, also the one that the first has changed, before it chooses.
TEST_F(Inputs, WhatAnotherInjectionReadsIsNoReadingOfTheSubject) {
  Log other_log;
  const FaultSpec other = fault_of(R"({"fault": "input.garbage", "set": {"path": "b*"}})");
  auto first = Injection::plan({other, other.trigger, 1, false, other_log.sink()});
  ASSERT_TRUE(first->arm(launch_));
  EXPECT_EQ(inject(R"({"fault": "input.empty", "set": {"path": "[bc]*", "count": 2}})",
                   "true")["outcome"],
            "not_activated");
  first->finish({});
  EXPECT_EQ(other_log.result()["outcome"], "not_activated") << other_log.result().dump();
}

TEST_F(Inputs, LookingAtItAndWritingOverItAreNoReading) {
  EXPECT_EQ(inject(R"({"fault": "input.empty", "set": {"path": "b*"}})",
                   "stat b.txt; ls; echo new > b.txt")["outcome"],
            "not_activated");
}

TEST_F(Inputs, DisarmedNothingChanges) {
  for (const char* fault :
       {"truncate", "bitflip", "garbage", "empty", "missing", "duplicate", "reorder"}) {
    const json result = inject(std::string(R"({"fault": "input.)") + fault + "\"}",
                               "cat a.txt b.txt c.txt > ../out; ls | wc -l > ../count", true);
    EXPECT_EQ(result["outcome"], "not_activated");
    EXPECT_EQ(*read_file(root_ / "out"), content("a.txt") + content("b.txt") + content("c.txt"));
    EXPECT_EQ(std::stoi(*read_file(root_ / "count")), 3) << fault;
  }
}

TEST_F(Inputs, ExactlyTheWantedBitsFlipBehindTheStart) {
  inject(R"({"fault": "input.bitflip", "set": {"path": "a*", "bits": 7, "skip": 600}})",
         "cat a.txt > out");
  EXPECT_EQ(log_.result()["outcome"], "confirmed");
  const std::string was = content("a.txt");
  const std::string is = read("out");
  ASSERT_EQ(is.size(), was.size());
  int flipped = 0;
  for (std::size_t i = 0; i < is.size(); ++i) {
    const int bits = __builtin_popcount(static_cast<unsigned char>(is[i] ^ was[i]));
    EXPECT_TRUE(bits == 0 || i >= 600) << i;
    flipped += bits;
  }
  EXPECT_EQ(flipped, 7);
}

TEST_F(Inputs, TheSeedChoosesTheFileAndTheBytes) {
  std::vector<std::string> outputs;
  for (const std::uint64_t seed : {5, 5, 6}) {
    log_.steps.clear();
    for (const char* file : {"a.txt", "b.txt", "c.txt"}) {
      fs::remove(launch_.directory / file);
      fs::create_symlink(root_ / (std::string("original-") + file), launch_.directory / file);
    }
    inject(R"({"fault": "input.garbage"})", "cat a.txt b.txt c.txt > out", false, seed);
    EXPECT_EQ(log_.result()["outcome"], "confirmed");
    outputs.push_back(read("out"));
  }
  EXPECT_EQ(outputs[0], outputs[1]);
  EXPECT_NE(outputs[0], outputs[2]);
  EXPECT_EQ(outputs[0].size(), content("a.txt").size() * 3);
}

TEST_F(Inputs, TwoInputsChangePlaces) {
  const json result =
      inject(R"({"fault": "input.reorder", "set": {"path": "[ab]*"}})", "cat a.txt b.txt > out");
  EXPECT_EQ(result["outcome"], "confirmed");
  EXPECT_EQ(read("out"), content("b.txt") + content("a.txt"));
}

TEST_F(Inputs, ADuplicateIsAnInputToo) {
  const json result =
      inject(R"({"fault": "input.duplicate", "set": {"path": "b*"}})", "cat *.txt > out");
  EXPECT_EQ(result["outcome"], "confirmed");
  EXPECT_EQ(read("out"), content("a.txt") + content("b.txt") + content("b.txt") + content("c.txt"));
  EXPECT_EQ(launch_.inputs.size(), 4u) << "no output of the subject";
}

TEST_F(Inputs, MissingIsSeenInAListing) {
  const json result = inject(R"({"fault": "input.missing", "set": {"path": "b*"}})",
                             "for f in *.txt; do cat $f; done > out");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_GT(log_.step("evidence")["directory_listed_without_it_ns"], 0);
  EXPECT_EQ(read("out"), content("a.txt") + content("c.txt"));
}

TEST_F(Inputs, MissingIsSeenByTheCallThatFailed) {
  const json result =
      inject(R"({"fault": "input.missing", "set": {"path": "b*"}})", "cat a.txt ./b.txt > out");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(log_.step("evidence")["directory_listed_without_it_ns"], 0);
  EXPECT_GT(log_.step("evidence")["call_on_its_name_failed_ns"], 0);
}

TEST_F(Inputs, MissingThatNobodyLooksForIsNotActivated) {
  EXPECT_EQ(inject(R"({"fault": "input.missing", "set": {"path": "b*"}})",
                   "cat a.txt ./nothing; cat ../b.txt")["outcome"],
            "not_activated")
      << "other names, and the same name elsewhere";
}

TEST_F(Inputs, LateComesAfterItsDelay) {
  const json result =
      inject(R"({"fault": "input.late", "set": {"path": "b*", "delay": "700ms"}})",
             "test -e b.txt && echo early > early; until cat b.txt > out 2> err; do sleep 0.05; "
             "done");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_FALSE(fs::exists(launch_.directory / "early"));
  EXPECT_EQ(read("out"), content("b.txt"));
  EXPECT_GE(log_.step("appeared")["time_ns"].get<std::int64_t>() -
                log_.step("fired")["time_ns"].get<std::int64_t>(),
            400'000'000);
}

TEST_F(Inputs, LateForASubjectThatLooksLaterIsNotActivated) {
  EXPECT_EQ(inject(R"({"fault": "input.late", "set": {"path": "b*", "delay": "50ms"}})",
                   "cat b.txt > out")["outcome"],
            "not_activated");
  EXPECT_EQ(read("out"), content("b.txt"));
}

TEST_F(Inputs, WhatDoesNotFitIsSkippedWithTheReason) {
  EXPECT_EQ(inject(R"({"fault": "input.huge_header"})", "true")["outcome"], "skipped");
  EXPECT_THAT(log_.result()["reason"].get<std::string>(), HasSubstr("PNG"));
  EXPECT_EQ(inject(R"({"fault": "input.empty", "set": {"count": 4}})", "true")["outcome"],
            "skipped");
}

TEST_F(Inputs, ANameThatNoInputOfATrialHasIsSkipped) {
  EXPECT_EQ(inject(R"({"fault": "input.empty", "set": {"path": "z*"}})", "true")["outcome"],
            "skipped");
  EXPECT_THAT(log_.result()["reason"].get<std::string>(), HasSubstr("'z*'"));
}

TEST_F(Inputs, ANameThatNoFileOfTheUserHasIsRefused) {
  launch_.inputs_are_copies = false;
  const FaultSpec fault = fault_of(R"({"fault": "input.empty", "set": {"path": "z*"}})");
  const auto armed = Injection::plan({fault, fault.trigger, 1, false, log_.sink()})->arm(launch_);
  ASSERT_FALSE(armed);
  EXPECT_EQ(armed.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(armed.error().message, HasSubstr("'z*'"));
}

TEST_F(Inputs, TheUsersOwnFilesAreLeftAlone) {
  launch_.inputs_are_copies = false;
  launch_.no_mounts = "no namespaces here";
  for (const char* fault : {"missing", "duplicate", "empty"}) {
    inject(std::string(R"({"fault": "input.)") + fault + "\"}", "cat a.txt > out");
    EXPECT_EQ(log_.result()["outcome"], "skipped") << fault;
    EXPECT_EQ(read("out"), content("a.txt"));
  }
  // So are files beside the inputs, whoever names them.
  launch_.inputs_are_copies = true;
  ASSERT_TRUE(write_file_atomically(root_ / "outside", "precious"));
  inject(R"({"fault": "input.empty", "set": {"path": "../outside"}})", "cat ../outside > out");
  EXPECT_EQ(log_.result()["outcome"], "skipped");
  EXPECT_EQ(read("out"), "precious");
}

}  // namespace
}  // namespace crashworthy

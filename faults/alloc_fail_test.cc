// native.alloc_fail in programs that really allocate: exactly the chosen call gets null, and says
// so; where nothing can be preloaded, or disarmed, nothing is confirmed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "faults/executed_subject_test_util.h"
#include "faults/injection_set.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class AllocFail : public ExecutedSubjects {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "the sanitizer has an allocator of its own";
#endif
    ExecutedSubjects::SetUp();
  }

  json run(const std::string& when, const std::string& how, int count,
           const std::string& program = "alloc-subject", bool disarmed = false) {
    InjectionSet injections;
    injections.add(plan(
        R"({"fault": "native.alloc_fail", "when": )" + when + R"(, "set": {"size_min": "250K"}})",
        disarmed));
    const std::string path =
        program.find('/') == std::string::npos ? find_helper(program)->string() : program;
    launch_.argv = {path, how, std::to_string(count)};
    execute(injections, "");
    return log_.result();
  }
};

TEST_F(AllocFail, ExactlyTheChosenCallGetsNull) {
  for (const char* how : {"malloc", "calloc", "realloc", "memalign", "aligned_alloc",
                          "posix_memalign", "new", "aligned new"}) {
    launch_ = {};
    log_ = {};
    const json result = run(R"({"call": 3})", how, 6);
    EXPECT_EQ(result["outcome"], "confirmed") << how << result.dump();
    EXPECT_EQ(end_.describe(), WaitStatus::from_raw(3 << 8).describe()) << how;
    const json evidence = log_.step("evidence");
    EXPECT_EQ(evidence["call"], 3);
    EXPECT_EQ(evidence["returned"], 0);
    EXPECT_EQ(evidence["errno"], ENOMEM);
    EXPECT_GE(evidence["size"], 250'000) << evidence.dump();
    if (std::string(how).find("new") == std::string::npos) {
      EXPECT_EQ(evidence["function"], how);
    }
  }
}

TEST_F(AllocFail, CountsOverTheProcessesOfTheTrial) {
  const json result = run(R"({"call": 5})", "fork", 3);
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(end_.exit_code(), 2) << "the second call of the second child";
}

TEST_F(AllocFail, DisarmedDoesNothing) {
  const json result = run(R"({"call": 3})", "malloc", 6, "alloc-subject", true);
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_EQ(end_.exit_code(), 0);
}

TEST_F(AllocFail, ACallThatNeverComesFailsNothing) {
  const json result = run(R"({"call": 7})", "malloc", 6);
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("6 such calls, call 7"));
  EXPECT_EQ(end_.exit_code(), 0);
}

TEST_F(AllocFail, NothingIsCountedBeforeItsConditionHolds) {
  const json result = run(R"({"after": "1h", "call": 1})", "malloc", 6);
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_EQ(end_.exit_code(), 0);
}

TEST_F(AllocFail, AStaticProgramIsOutOfReachAndThatIsSaid) {
  if (!find_helper("alloc-subject-static")) GTEST_SKIP() << "nothing can be linked statically here";
  const json result = run(R"({"call": 3})", "malloc", 6, "alloc-subject-static");
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("statically linked"));
  EXPECT_EQ(end_.exit_code(), 0);
}

TEST_F(AllocFail, ASetUserIdProgramIsOutOfReachAndThatIsSaid) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a program to another user";
  std::string directory = (fs::temp_directory_path() / "crashworthy-alloc-XXXXXX").string();
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const fs::path program = fs::path(directory) / "alloc-subject";
  fs::copy_file(find_helper("alloc-subject").value(), program);
  ASSERT_EQ(::chown(program.c_str(), 65534, 65534), 0);
  ASSERT_EQ(::chmod(program.c_str(), 04755), 0);
  const json result = run(R"({"call": 3})", "malloc", 6, program);
  EXPECT_EQ(result["outcome"], "not_activated") << result.dump();
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("set-user-ID"));
  fs::remove_all(directory);
  EXPECT_EQ(end_.exit_code(), 0);
}

TEST_F(AllocFail, WhatTheUserPreloadsStays) {
  launch_.environment = {"LD_PRELOAD=libm.so.6"};
  const json result = run(R"({"call": 2})", "malloc", 3);
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(end_.exit_code(), 2);
  EXPECT_THAT(launch_.environment[0], ::testing::EndsWith("libcrashworthy-alloc.so:libm.so.6"));
}

// Every allocation counts where no size is named, from the program's start on.
TEST_F(AllocFail, RepeatsAsOftenAsAsked) {
  InjectionSet injections;
  injections.add(plan(
      R"({"fault": "native.alloc_fail", "when": {"call": 1, "repeat": {"times": 2, "every": 2}},
          "set": {"size_min": "250K"}})"));
  launch_.argv = {find_helper("alloc-subject")->string(), "fork", "2"};
  execute(injections, "");
  EXPECT_EQ(log_.result()["outcome"], "confirmed") << log_.result().dump();
  EXPECT_EQ(log_.result()["reason"], "2 of 2 failed");
  EXPECT_EQ(end_.exit_code(), 2) << "the first call of either child";
}

TEST_F(AllocFail, AnyProgramOfTheSystemIsAVictim) {
  InjectionSet injections;
  injections.add(plan(R"({"fault": "native.alloc_fail", "when": {"call": 1}})"));
  launch_.argv = {"sort", "/dev/null"};
  execute(injections, "");
  EXPECT_EQ(log_.result()["outcome"], "confirmed") << log_.result().dump();
  EXPECT_EQ(log_.step("evidence")["call"], 1);
}

}  // namespace
}  // namespace crashworthy

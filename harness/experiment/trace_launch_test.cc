// Faults at an ELF symbol of a command that is launched as every subject is: held, in namespaces,
// with the tracer in the harness. Unmodified mogrify dies inside its third JPEG header; nothing is
// left when the harness is killed while it traces.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "faults/elf_symbols.h"
#include "faults/injection_test_util.h"
#include "harness/experiment/launch.h"
#include "harness/process/process_test_support.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::string kPhotographs = "/usr/share/doc/opencv-doc/examples/data";
constexpr int kPictures = 4;

class TraceLaunch : public ProcessTest {
 protected:
  void SetUp() override {
    ProcessTest::SetUp();
    if (!symbols_supported()) GTEST_SKIP() << "built without libelf";
  }

  std::unique_ptr<Injection> plan(const FaultSpec& fault) {
    auto injection = Injection::plan(
        {fault, resolve(fault.trigger, fault.trigger_kind(), 1, 0), 1, false, log_.sink()});
    EXPECT_TRUE(injection->arm(plan_));
    return injection;
  }

  // As `shell`, with what the injections want.
  LaunchSpec spec_of(const std::string& script) {
    LaunchSpec spec = shell(script);
    plan_.argv = spec.argv;
    LaunchSpec wanted = launch_spec(plan_);
    spec.before_exec = wanted.before_exec;
    return spec;
  }

  // Runs it under the fault and gives the result of the injection.
  json run(const std::string& text, const std::string& script) {
    auto injection = plan(fault_of(text));
    auto subject = Subject::launch(spec_of(script));
    if (!subject) {
      ADD_FAILURE() << subject.error().message;
      return nullptr;
    }
    InjectionEvidence evidence;
    for (const Report& report : all_reports(&*subject)) {
      if (report.kind == Report::Kind::kMainEnded) main_ = report.status;
      if (report.pid != 0) evidence.ends.push_back({report.pid, report.status, report.time_ns});
    }
    injection->finish(evidence);
    return log_.result();
  }

  LaunchPlan plan_;
  Log log_;
  WaitStatus main_;
};

// Small copies of photographs, as mogrify changes them in place.
bool copy_pictures(const fs::path& directory) {
  int copied = 0;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(kPhotographs, failure)) {
    if (entry.path().extension() != ".jpg" || copied == kPictures) continue;
    fs::copy_file(entry.path(), directory / ("picture" + std::to_string(copied++) + ".jpg"));
  }
  return copied == kPictures;
}

TEST_F(TraceLaunch, MogrifyDiesInsideItsThirdHeader) {
  if (::access("/usr/bin/mogrify", X_OK) != 0) GTEST_SKIP() << "imagemagick is not installed";
  if (!copy_pictures(directory_)) GTEST_SKIP() << "opencv-doc is not installed";
  const std::string script =
      "cd '" + directory_.string() + "' && exec mogrify -resize 50% picture*.jpg";
  const json result =
      run(R"({"fault": "native.abort@jpeg_read_header", "when": {"hit": 3}})", script);
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(log_.step("fired")["hit"], 3);
  EXPECT_THAT(log_.step("fired")["file"].get<std::string>(), HasSubstr("libjpeg"));
  EXPECT_TRUE(main_.signalled() && main_.signal() == SIGABRT) << main_.describe();
}

TEST_F(TraceLaunch, MogrifyWithFewerPicturesIsUnharmed) {
  if (::access("/usr/bin/mogrify", X_OK) != 0) GTEST_SKIP() << "imagemagick is not installed";
  if (!copy_pictures(directory_)) GTEST_SKIP() << "opencv-doc is not installed";
  const std::string script =
      "cd '" + directory_.string() + "' && exec mogrify -resize 50% picture0.jpg picture1.jpg";
  const json result =
      run(R"({"fault": "native.abort@jpeg_read_header", "when": {"hit": 3}})", script);
  EXPECT_EQ(result["outcome"], "not_activated") << result.dump();
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 2 times"));
  EXPECT_TRUE(main_.success()) << main_.describe();
}

TEST_F(TraceLaunch, NothingIsLeftWhenTheHarnessIsKilledWhileItTraces) {
  const FaultSpec fault =
      fault_of(R"({"fault": "native.abort@malloc", "when": {"hit": 999999999}})");
  for (const char* script : {"sleep 600", "while true; do sh -c :; done"}) {
    std::unique_ptr<Injection> injection;
    std::optional<Subject> subject;
    {
      Harness harness([&] {
        injection = plan(fault);
        auto launched = Subject::launch(spec_of(script));
        if (!launched) return false;
        subject.emplace(std::move(*launched));
        ::usleep(100'000);
        return true;
      });
      ASSERT_TRUE(harness.ready());
    }
    EXPECT_TRUE(nothing_left_within(std::chrono::seconds(10)));
  }
}

}  // namespace
}  // namespace crashworthy

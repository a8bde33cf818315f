// Faults that show the subject other files than we see, on commands that are launched as `run` and
// `inject` do it: changed copies over the user's inputs, small file systems over directories.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "faults/injection_test_util.h"
#include "harness/experiment/launch.h"
#include "harness/experiment/launched_subject_test_util.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class MountFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!why_no_mounts().empty()) GTEST_SKIP() << why_no_mounts();
    std::string name = (fs::temp_directory_path() / "mounts-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
    launch_.directory = root_ / "user";
    launch_.scratch = root_ / "scratch";
    launch_.environment = {"PATH=/usr/local/bin:/usr/bin:/bin"};
    fs::create_directories(launch_.directory / "out" / "deeper");
    fs::create_directories(launch_.scratch);
    for (const char* file : {"a.txt", "b.txt"})
      ASSERT_TRUE(write_file_atomically(launch_.directory / file, std::string(1000, file[0])));
  }
  void TearDown() override {
    if (!root_.empty()) fs::remove_all(root_);
  }

  json inject(const std::string& fault, const std::string& script, bool disarmed = false) {
    const FaultSpec spec = fault_of(fault);
    auto injection = Injection::plan({spec, spec.trigger, 1, disarmed, log_.sink()});
    EXPECT_TRUE(injection->arm(launch_));
    launch_.argv = {"sh", "-c", script};
    LaunchSpec launch = launch_spec(launch_);
    auto subject = Subject::launch(launch);
    EXPECT_TRUE(subject) << subject.error().message;
    if (!subject) return nullptr;
    LaunchedSubject view(*subject);
    injection->launched(view);
    InjectionEvidence evidence;
    const std::int64_t deadline = now_ns() + 20'000'000'000;
    for (bool ended = false; !ended && now_ns() < deadline;) {
      pollfd reports{subject->report_fd(), POLLIN, 0};
      ::poll(&reports, 1, 5);
      injection->look(view, view.moment());
      auto read = subject->read_reports();
      for (const Report& report : *read) {
        ended = ended || report.kind == Report::Kind::kChildless;
        if (report.kind == Report::Kind::kMainEnded) status_ = report.status;
        if (!ended) evidence.ends.push_back({report.pid, report.status, report.time_ns});
      }
    }
    subject->kill_tree();
    EXPECT_TRUE(subject->wait_until_gone(std::chrono::seconds(10)));
    injection->finish(evidence);
    return log_.result();
  }
  std::string read(const std::string& file) const { return *read_file(launch_.directory / file); }

  fs::path root_;
  LaunchPlan launch_;
  Log log_;
  WaitStatus status_;
};

TEST_F(MountFaults, AChangedCopyIsSeenBySubjectAlone) {
  const json result = inject(R"({"fault": "input.truncate", "set": {"path": "b*", "keep": "7"}})",
                             "cat a.txt b.txt > seen");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(read("seen"), std::string(1000, 'a') + std::string(7, 'b'));
  EXPECT_EQ(read("b.txt"), std::string(1000, 'b'));
}

TEST_F(MountFaults, TwoOfTheUsersFilesChangePlaces) {
  const json result =
      inject(R"({"fault": "input.reorder", "set": {"path": "*.txt"}})", "cat a.txt b.txt > seen");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(read("seen"), std::string(1000, 'b') + std::string(1000, 'a'));
  EXPECT_EQ(read("a.txt"), std::string(1000, 'a'));
}

TEST_F(MountFaults, AMountedCopyThatNobodyReadsIsNotActivated) {
  EXPECT_EQ(inject(R"({"fault": "input.empty", "set": {"path": "b*"}})", "cat a.txt")["outcome"],
            "not_activated");
}

TEST_F(MountFaults, DisarmedTheMountedCopyIsTrue) {
  const json result =
      inject(R"({"fault": "input.garbage", "set": {"path": "b*"}})", "cat b.txt > seen", true);
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_EQ(read("seen"), std::string(1000, 'b'));
}

constexpr const char* kDiskFull =
    R"({"fault": "resource.disk_full", "set": {"path": "out", "size": "64K"}})";

TEST_F(MountFaults, AFullDiskFailsTheWriteThatDoesNotFit) {
  const json result =
      inject(kDiskFull,
             "head -c 1000 /dev/zero > out/fits || exit 3; "
             "head -c 1000000 /dev/zero > out/large && exit 4; rm out/large; exit 5");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(status_.exit_code(), 5);
  EXPECT_TRUE(log_.step("evidence")["traced"]);
  EXPECT_TRUE(fs::is_empty(launch_.directory / "out" / "deeper"));
  EXPECT_FALSE(fs::exists(launch_.directory / "out" / "fits")) << "it ended with the namespace";
}

TEST_F(MountFaults, OutputsOfATrialAreCopiedOutToBeJudged) {
  launch_.scratch = root_;
  launch_.inputs_are_copies = true;
  launch_.output = launch_.directory / "out";
  const json result = inject(R"({"fault": "resource.disk_full", "set": {"size": "64K"}})",
                             "echo word > out/deeper/fits; head -c 1000000 /dev/zero > out/large");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(read("out/deeper/fits"), "word\n");
  EXPECT_GT(fs::file_size(launch_.directory / "out" / "large"), 10'000u);
  EXPECT_LE(fs::file_size(launch_.directory / "out" / "large"), 65'536u);
}

TEST_F(MountFaults, ADiskWithRoomIsNotActivated) {
  const json result = inject(kDiskFull, "echo word > out/word; head -c 1000 /dev/zero > /dev/full");
  EXPECT_EQ(result["outcome"], "not_activated") << "an ENOSPC from elsewhere is not ours";
}

TEST_F(MountFaults, DisarmedTheDiskHasRoom) {
  const json result =
      inject(kDiskFull, "head -c 1000000 /dev/zero > out/large || exit 3; exit 4", true);
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_EQ(status_.exit_code(), 4);
}

TEST_F(MountFaults, SharedMemoryIsFull) {
  const json result = inject(R"({"fault": "resource.shm_full", "set": {"size": "16K"}})",
                             "head -c 100000 /dev/zero > /dev/shm/$$ && exit 3; exit 4");
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(status_.exit_code(), 4);
}

TEST_F(MountFaults, AMappingOfFullSharedMemoryEndsBySigbus) {
  const json result = inject(
      R"({"fault": "resource.shm_full", "set": {"size": "16K"}})",
      "exec python3 -c \"import mmap; f = open('/dev/shm/mapped', 'w+b'); f.truncate(100000); "
      "m = mmap.mmap(f.fileno(), 100000)\nfor i in range(0, 100000, 4096): m[i] = 1\"");
  if (status_.exited()) GTEST_SKIP() << "python3 does not work here: " << status_.describe();
  EXPECT_EQ(status_.signal(), SIGBUS);
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
}

TEST_F(MountFaults, WithoutADirectoryItIsRefused) {
  for (const char* text : {R"({"fault": "resource.disk_full"})",
                           R"({"fault": "resource.disk_full", "set": {"path": "nowhere"}})"}) {
    const FaultSpec fault = fault_of(text);
    const auto armed = Injection::plan({fault, fault.trigger, 1, false, log_.sink()})->arm(launch_);
    ASSERT_FALSE(armed);
    EXPECT_EQ(armed.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(armed.error().hint, HasSubstr("set.path"));
  }
}

}  // namespace
}  // namespace crashworthy

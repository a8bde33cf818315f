// io.errno, io.short and io.delay in real programs: exactly the chosen call is struck, as its maker
// sees it; the count is exact over threads and processes; and nothing is confirmed that was not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "faults/call_server.h"
#include "faults/injection_set.h"
#include "faults/injection_test_util.h"
#include "harness/experiment/launch.h"
#include "harness/experiment/launched_subject_test_util.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Lt;

class Calls : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string refused = notify_support().refused;
    if (!refused.empty()) GTEST_SKIP() << refused;
    std::string pattern = (fs::temp_directory_path() / "crashworthy-calls-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }

  static std::string victim(const char* name = "call-victim") {
    return std::string(CRASHWORTHY_PROGRAM_DIR) + "/" + name;
  }
  void add(const std::string& fault, bool disarmed = false) {
    logs_.push_back(std::make_unique<Log>());
    const FaultSpec spec = fault_of(fault);
    set_.add(Injection::plan({spec, resolve(spec.trigger, spec.trigger_kind(), 1, 0), logs_.size(),
                              disarmed, logs_.back()->sink()}));
  }
  // Runs `argv` under what was added, to its end; returns what it wrote to stdout. `meanwhile` is
  // called once, when an injection has fired.
  std::string run(const std::vector<std::string>& argv,
                  std::function<void(Subject&)> meanwhile = {}) {
    LaunchPlan plan;
    plan.argv = argv;
    plan.environment = {"PATH=/usr/local/bin:/usr/bin:/bin"};
    plan.directory = directory_;
    const UniqueFd probe(::eventfd(0, EFD_CLOEXEC));
    plan.descriptors = {{probe.get(), kProbeNumber}};
    EXPECT_TRUE(set_.arm(plan));
    LaunchSpec launch = launch_spec(plan);
    fs::remove(directory_ / "stdout");
    launch.stdout_file = directory_ / "stdout";
    launch.stderr_file = directory_ / "stderr";
    auto subject = Subject::launch(launch);
    EXPECT_TRUE(subject) << (subject ? "" : subject.error().message);
    if (!subject) return "";
    LaunchedSubject view(*subject);
    ProbeRing ring = *ProbeRing::create(16);
    set_.launched(view, ring);
    InjectionEvidence evidence;
    const std::int64_t deadline = now_ns() + 60'000'000'000;
    for (bool ended = false; !ended && now_ns() < deadline;) {
      std::vector<pollfd> fds{{subject->report_fd(), POLLIN, 0}};
      for (const int fd : set_.descriptors()) fds.push_back({fd, POLLIN, 0});
      const std::int64_t next = std::min(set_.next_ns(view), now_ns() + 1'000'000'000);
      ::poll(fds.data(), fds.size(),
             static_cast<int>(std::max<std::int64_t>(0, next - now_ns()) / 1'000'000 + 1));
      set_.look(view, ring);
      if (meanwhile && set_.fired()) std::exchange(meanwhile, {})(*subject);
      const auto reports = subject->read_reports();
      for (const Report& report : *reports) {
        if (report.kind == Report::Kind::kMainEnded)
          evidence.ends.push_back({report.pid, report.status, report.time_ns});
        ended = ended || report.kind == Report::Kind::kChildless;
      }
    }
    subject->kill_tree();
    EXPECT_TRUE(subject->wait_until_gone(5s));
    EXPECT_EQ(evidence.ends.size(), 1u) << "it did not end by itself";
    if (!evidence.ends.empty()) status_ = evidence.ends[0].status;
    set_.finish(evidence);
    return read_file(directory_ / "stdout").value();
  }
  json result(std::size_t i = 0) const { return logs_[i]->result(); }
  json evidence(std::size_t i = 0) const { return logs_[i]->step("evidence"); }
  std::string healed(std::size_t i = 0) const { return logs_[i]->step("heal")["done"]; }
  std::string put(const std::string& name, const std::string& content) {
    std::ofstream(directory_ / name, std::ios::binary) << content;
    return directory_ / name;
  }
  // Places that were written, of those of `count`.
  long written(const std::string& name) const {
    const std::string content = read_file(directory_ / name).value();
    long found = 0;
    for (std::size_t i = 0; i * 8 < content.size(); ++i) {
      std::int64_t value = 0;
      std::memcpy(&value, content.data() + i * 8, sizeof value);
      if (value == static_cast<std::int64_t>(i) + 1) ++found;
    }
    return found;
  }

  static constexpr int kProbeNumber = 101;
  fs::path directory_;
  std::vector<std::unique_ptr<Log>> logs_;
  InjectionSet set_;
  WaitStatus status_;
};

constexpr const char* kThe777th =
    R"({"fault": "io.errno", "set": {"call": "pwrite64", "errno": "ENOSPC"}, "when": {"call": 777}})";

TEST_F(Calls, ExactlyThe777thFailsInADynamicAndInAStaticProgram) {
  for (const char* program : {"call-victim", "call-victim-static"}) {
    if (!fs::exists(victim(program))) continue;  // No static C++ library here.
    set_ = {};
    logs_.clear();
    add(kThe777th);
    EXPECT_EQ(run({victim(program), "count", "20000", "file"}), "errors=1 errno=28 at=776\n");
    EXPECT_EQ(written("file"), 19999);
    EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
    EXPECT_EQ(evidence()["count"], 777);
    EXPECT_EQ(evidence()["call"], "pwrite64");
    EXPECT_EQ(evidence()["errno"], "ENOSPC");
    EXPECT_EQ(evidence()["arguments"][3], 776 * 8);
    EXPECT_EQ(evidence()["file"], (fs::canonical(directory_) / "file").string());
    EXPECT_EQ(result()["victim"]["pid"], evidence()["pid"]);
    EXPECT_GT(evidence()["pid"], 0);
    EXPECT_EQ(result()["activated_ns"], evidence()["answered_ns"]);
    EXPECT_THAT(healed(), HasSubstr("20000 matching"));
    EXPECT_FALSE(logs_[0]->step("fired").is_null());
  }
}

TEST_F(Calls, APythonProgramSeesTheError) {
  add(R"({"fault": "io.errno", "set": {"call": "write", "path": "*/log"}, "when": {"call": 777}})");
  const std::string script = put("program.py", R"(
import os, errno
fd = os.open("log", os.O_WRONLY | os.O_CREAT)
errors = []
for i in range(1000):
    try:
        os.write(fd, b"x")
    except OSError as error:
        errors.append((i, errno.errorcode[error.errno]))
print(errors)
)");
  const std::string output = run({"/usr/bin/env", "python3", script});
  if (status_.exited() && status_.exit_code() == 127) GTEST_SKIP() << "no python3 here";
  EXPECT_EQ(output, "[(776, 'EIO')]\n");
  EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
  EXPECT_THAT(healed(), HasSubstr("1000 matching"));
}

TEST_F(Calls, TheCountIsExactOverThreadsAndProcesses) {
  add(R"({"fault": "io.errno", "set": {"call": "pwrite64"}, "when": {"call": 5000}})");
  EXPECT_THAT(run({victim(), "count", "1000", "file", "2", "4"}), HasSubstr("errors=1 errno=5"));
  EXPECT_EQ(written("file"), 7999);
  EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
  EXPECT_EQ(evidence()["count"], 5000);
  EXPECT_THAT(healed(), HasSubstr("8000 matching"));
}

TEST_F(Calls, WhatTheProbeWritesDoesNotCount) {
  add(R"({"fault": "io.errno", "set": {"call": "write"}, "when": {"call": 5}})");
  EXPECT_EQ(run({victim(), "write", std::to_string(kProbeNumber)}), "errors=0,1\n");
  EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
  EXPECT_EQ(evidence()["arguments"][0], STDERR_FILENO);
}

// The number is given after the injection that counts was armed.
TEST_F(Calls, NorDoesWhatAFaultPointOfAnotherInjectionWrites) {
  add(R"({"fault": "io.errno", "set": {"call": "write"}, "when": {"call": 5}})");
  add(R"({"fault": "native.slow@a.point"})");
  EXPECT_EQ(run({victim(), "write", std::to_string(kProbeNumber + 2)}), "errors=0,1\n");
  EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
}

TEST_F(Calls, ItRepeats) {
  add(R"({"fault": "io.errno", "set": {"call": "pwrite64"},
          "when": {"call": 10, "repeat": {"times": 5, "every": 20}}})");
  EXPECT_EQ(run({victim(), "count", "1000", "file"}), "errors=5 errno=5 at=89\n");
  EXPECT_EQ(result()["outcome"], "confirmed");
  EXPECT_EQ(result()["victims"].size(), 5u);
}

TEST_F(Calls, AProbabilityStrikesItsShare) {
  add(R"({"fault": "io.errno", "set": {"call": "pwrite64"}, "when": {"probability": 0.1}})");
  const std::string output = run({victim(), "count", "2000", "file"});
  const int errors = std::atoi(output.substr(7).c_str());
  EXPECT_THAT(errors, AllOf(Ge(120), Lt(290)));  // 200, and 6 standard deviations.
  EXPECT_EQ(written("file"), 2000 - errors);
  EXPECT_THAT(result()["reason"].get<std::string>(), HasSubstr(std::to_string(errors) + " of"));
}

TEST_F(Calls, OnlyCallsOnThePathCount) {
  put("in", std::string(10, 'x'));
  add(R"({"fault": "io.errno", "set": {"call": "open,openat", "path": "*/in", "errno": "EACCES"}})");
  run({"cat", "nothing", "in"});
  EXPECT_EQ(status_.exit_code(), 1);
  EXPECT_EQ(read_file(directory_ / "stderr").value(),
            "cat: nothing: No such file or directory\ncat: in: Permission denied\n");
  EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
  EXPECT_EQ(evidence()["count"], 1);
  EXPECT_EQ(evidence()["file"], (fs::canonical(directory_) / "in").string());
  EXPECT_THAT(healed(), HasSubstr("1 matching"));
}

// Whoever loops over the rest loses nothing; the data are the right ones.
TEST_F(Calls, AShortReadAndAShortWriteHaveTheRightData) {
  std::string content;
  for (int i = 0; i < 5000; ++i) content += static_cast<char>('a' + i % 23);
  put("in", content);
  add(R"({"fault": "io.short", "set": {"call": "readv", "bytes": "700"}, "when": {"call": 2}})");
  add(R"({"fault": "io.short", "set": {"call": "write", "path": "*/out"}, "when": {"call": 3}})");
  // 1000, 700 (short), 1000 (its write is short: 500, 500), 1000, 1000, 300 (short), 0.
  EXPECT_EQ(run({victim(), "copy", "in", "out"}), "short_reads=3 short_writes=1\n");
  EXPECT_EQ(read_file(directory_ / "out").value(), content);
  for (const std::size_t i : {0, 1}) {
    EXPECT_EQ(result(i)["outcome"], "confirmed") << result(i).dump();
    EXPECT_EQ(evidence(i)["asked_bytes"], 1000);
    EXPECT_EQ(evidence(i)["bytes"], i == 0 ? 700 : 500);
    EXPECT_TRUE(evidence(i)["cut"]);
  }
}

TEST_F(Calls, AShortReadThatWouldHaveEndedThereAnywayIsNotActivated) {
  put("in", std::string(700, 'x'));
  add(R"({"fault": "io.short", "set": {"call": "readv", "bytes": "700"}, "when": {"call": 1}})");
  EXPECT_EQ(run({victim(), "copy", "in", "out"}), "short_reads=2 short_writes=0\n");
  EXPECT_EQ(result()["outcome"], "not_activated") << result().dump();
  EXPECT_THAT(result()["reason"].get<std::string>(), HasSubstr("would not have transferred more"));
}

// The reader would have to wait for the writer, which has calls of its own that we answer.
TEST_F(Calls, AShortReadOfAPipeWaitsAsTheReaderWould) {
  add(R"({"fault": "io.short", "set": {"call": "read", "bytes": "10", "path": "pipe:*"}})");
  add(R"({"fault": "io.errno", "set": {"call": "write"}, "when": {"call": 100000}})");
  EXPECT_EQ(run({victim(), "pipe", "50000"}), "first=10 total=50000\n");
  EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
  EXPECT_EQ(result(1)["outcome"], "not_activated");
}

// Nobody reads what is written there: a whole write would wait for ever, and we with it.
TEST_F(Calls, AShortWriteToATerminalWaitsForNobody) {
  add(R"({"fault": "io.short", "set": {"call": "write", "path": "/dev/pts/*"}})");
  const std::string script = put("program.py", R"(
import os
master, slave = os.openpty()
count = os.write(slave, b"x" * 100000)
print(0 < count < 50001)
)");
  const std::string output = run({"/usr/bin/env", "python3", script});
  if (status_.exited() && status_.exit_code() == 127) GTEST_SKIP() << "no python3 here";
  EXPECT_EQ(output, "True\n");
  EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
}

TEST_F(Calls, AFileThatCouldMakeUsWaitIsLeftAlone) {
  add(R"({"fault": "io.short", "set": {"call": "read", "path": "anon_inode:*"}})");
  const std::string script = put("program.py", R"(
import os
print(int.from_bytes(os.read(os.eventfd(5), 16), "little"))
)");
  const std::string output = run({"/usr/bin/env", "python3", script});
  if (!status_.success()) GTEST_SKIP() << "no python3 with eventfd here";
  EXPECT_EQ(output, "5\n");
  EXPECT_EQ(result()["outcome"], "not_activated");
  EXPECT_THAT(result()["reason"].get<std::string>(), HasSubstr("EOPNOTSUPP"));
}

TEST_F(Calls, ACallIsDelayedAndThenMade) {
  add(R"({"fault": "io.delay", "set": {"call": "fsync", "delay": "300ms"}, "when": {"call": 3}})");
  const std::string output = run({victim(), "time", "file"});
  std::istringstream words(output);
  for (int i = 1; i <= 5; ++i) {
    int ms = -1;
    words >> ms;
    EXPECT_EQ(ms >= 300, i == 3) << output;
  }
  EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
  EXPECT_GE(evidence()["held_ns"], 300'000'000);
}

TEST_F(Calls, WhileOneCallIsDelayedOthersGoOnAndItsCallerCanBeKilled) {
  add(R"({"fault": "io.delay", "set": {"call": "pwrite64", "delay": "1h"}, "when": {"call": 100}})");
  const std::int64_t before = now_ns();
  run({victim(), "count", "1000", "file", "2", "1"}, [&](Subject& subject) {
    // All of the other thread's.
    while (written("file") < 1000) std::this_thread::sleep_for(1ms);
    EXPECT_TRUE(send_signal(subject.main_pidfd(), SIGKILL));
  });
  EXPECT_LT(now_ns() - before, 60'000'000'000);
  EXPECT_EQ(status_.describe(), "killed by SIGKILL");
  EXPECT_EQ(result()["outcome"], "confirmed") << result().dump();
  EXPECT_THAT(result()["reason"].get<std::string>(), HasSubstr("its caller ended"));
  EXPECT_TRUE(evidence()["caller_ended"]);
}

TEST_F(Calls, DisarmedItCountsAndStrikesNothing) {
  add(kThe777th, true);
  EXPECT_EQ(run({victim(), "count", "1000", "file"}), "errors=0 errno=0 at=-1\n");
  EXPECT_EQ(result()["outcome"], "not_activated");
  EXPECT_EQ(result()["reason"], "disarmed");
  EXPECT_THAT(healed(), HasSubstr("1000 matching"));
}

TEST_F(Calls, ACallThatIsNeverMadeIsNotActivated) {
  add(kThe777th);
  EXPECT_EQ(run({victim(), "count", "776", "file"}), "errors=0 errno=0 at=-1\n");
  EXPECT_EQ(result()["outcome"], "not_activated");
  EXPECT_THAT(result()["reason"].get<std::string>(), HasSubstr("776 matching calls of pwrite64"));
}

TEST_F(Calls, ConditionsOpenTheCount) {
  add(R"({"fault": "io.errno", "set": {"call": "pwrite64"}, "when": {"after": "1h", "call": 1}})");
  EXPECT_EQ(run({victim(), "count", "100", "file"}), "errors=0 errno=0 at=-1\n");
  EXPECT_EQ(result()["outcome"], "not_activated");
  EXPECT_THAT(healed(), HasSubstr(" 0 matching"));
}

// The second counts the call that the first took.
TEST_F(Calls, TheFirstInjectionThatWantsACallDecides) {
  add(R"({"fault": "io.errno", "set": {"call": "pwrite64", "errno": "EPERM"}, "when": {"call": 7}})");
  add(R"({"fault": "io.errno", "set": {"call": "pwrite64,write"}, "when": {"call": 7}})");
  add(R"({"fault": "io.errno", "set": {"call": "pwrite64"}, "when": {"call": 8}})");
  EXPECT_EQ(run({victim(), "count", "100", "file"}), "errors=2 errno=5 at=7\n");
  EXPECT_EQ(result(0)["outcome"], "confirmed");
  EXPECT_EQ(result(1)["outcome"], "not_activated");
  EXPECT_THAT(result(1)["reason"].get<std::string>(), HasSubstr("another injection"));
  EXPECT_EQ(result(2)["outcome"], "confirmed");
}

TEST_F(Calls, WhatCannotBeDoneIsRefused) {
  const auto wrong =
      parse_fault(json::parse(R"({"fault": "io.errno", "set": {"call": "pwrite"}})"), "/faults/0");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().hint, HasSubstr("'write'"));
  EXPECT_FALSE(parse_fault(json::parse(R"({"fault": "io.errno"})"), "/faults/0"));
}

// Root runs everything once more as an ordinary user.
TEST(CallsUnprivileged, AllOfThisHoldsForAnOrdinaryUser) {
  constexpr uid_t kNobody = 65534;
  if (::geteuid() != 0) GTEST_SKIP() << "is an ordinary user";
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) ::_exit(77);
    ::execl(self.c_str(), self.c_str(), "--gtest_filter=Calls.*", nullptr);
    ::_exit(77);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
    GTEST_SKIP() << "the test program cannot be run as user 65534";
  EXPECT_EQ(WaitStatus::from_raw(status).describe(), "exited with 0");
}

}  // namespace
}  // namespace crashworthy

// For tests of faults that need a program executed as a launch plan says: this test program itself,
// of which one test is the subject's body, or another one.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "faults/injection_set.h"
#include "faults/injection_test_util.h"

namespace crashworthy {

// Whether this process is the subject of a test.
inline bool is_subject() { return std::getenv("CRASHWORTHY_TEST_SUBJECT") != nullptr; }

class ExecutedSubjects : public ::testing::Test {
 protected:
  void SetUp() override { ring_ = *ProbeRing::create(1 << 10); }

  std::unique_ptr<Injection> plan(const std::string& text, bool disarmed = false,
                                  std::uint64_t seed = 1) {
    const FaultSpec fault = fault_of(text);
    auto injection = Injection::plan(
        {fault, resolve(fault.trigger, fault.trigger_kind(), 1, 0), seed, disarmed, log_.sink()});
    const auto armed = injection->arm(launch_);
    EXPECT_TRUE(armed) << armed.error().message;
    return injection;
  }

  // Runs the test `name` of this program, or `argv` if there is one, under the injections. What has
  // no end of its own is killed after a while.
  void execute(InjectionSet& injections, const std::string& name) {
    executing() = {&launch_, launch_.argv};
    if (executing().argv.empty()) {
      executing().argv = {"/proc/self/exe", "--gtest_filter=" + name, "--gtest_brief=1",
                          "--gtest_catch_exceptions=0"};
    }
    launched_ns_ = now_ns();
    FakeSubject subject(*ring_, start);
    injections.launched(subject, *ring_);
    const std::int64_t until = launched_ns_ + kPatienceNs;
    while (now_ns() < until && !has_ended(subject.pidfd())) {
      if (hurry_ && injections.fired()) break;
      std::vector<pollfd> polled{{subject.pidfd(), POLLIN, 0}};
      for (const int fd : injections.descriptors()) polled.push_back({fd, POLLIN, 0});
      const std::int64_t wait_ns =
          std::max<std::int64_t>(0, std::min(until, injections.next_ns(subject)) - now_ns());
      const timespec timeout{wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
      ::ppoll(polled.data(), polled.size(), &timeout, nullptr);
      injections.look(subject, *ring_);
    }
    ::kill(subject.pid(), SIGKILL);
    const InjectionEvidence evidence = subject.end();
    end_ = evidence.ends.front().status;
    injections.finish(evidence);
  }

  LaunchPlan launch_;
  std::optional<ProbeRing> ring_;
  Log log_;
  std::int64_t launched_ns_ = 0;
  bool hurry_ = false;  // Kills it as soon as something has fired.
  WaitStatus end_;

 private:
  static constexpr std::int64_t kPatienceNs = 1'000'000'000;

  struct Executing {
    LaunchPlan* launch = nullptr;
    std::vector<std::string> argv;
  };
  static Executing& executing() {
    static Executing now;
    return now;
  }

  // In the child.
  static int start(const Probe&) {
    const Executing& now = executing();
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    for (const auto& [ours, number] : now.launch->descriptors) {
      if (::dup2(ours, number) < 0) return 126;
    }
    ::setenv("CRASHWORTHY_TEST_SUBJECT", "1", 1);
    for (const std::string& variable : now.launch->environment)
      ::putenv(const_cast<char*>(variable.c_str()));
    std::vector<char*> argv;
    for (const std::string& word : now.argv) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    ::execvp(argv[0], argv.data());
    return 127;
  }
};

}  // namespace crashworthy

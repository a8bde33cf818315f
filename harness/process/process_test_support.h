// Helpers of the tests of this part: marked subjects, and harnesses that may be killed.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "harness/process/launcher.h"

namespace crashworthy {

// Marks every process that it starts, crashworthy-init included, by a random value of an
// environment variable, and checks in the end that none is left in the whole of /proc.
class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // `sh -c script`, marked.
  LaunchSpec shell(const std::string& script) const;
  // The same, with everything the script prints.
  std::string output_of(const std::string& script, LaunchSpec spec);
  std::string output_of(const std::string& script) { return output_of(script, shell(script)); }

  // Live processes with our mark, but for this one.
  std::vector<pid_t> marked() const;
  // Waits until none is left.
  ::testing::AssertionResult nothing_left_within(std::chrono::milliseconds bound) const;

  std::filesystem::path directory_;
  std::string mark_;
};

// Waits for `holds`, at most `bound`.
bool eventually(const std::function<bool()>& holds,
                std::chrono::milliseconds bound = std::chrono::seconds(10));

// All reports up to and with the last one of the tree; fails the test after 10 s.
std::vector<Report> all_reports(Subject* subject);
// The report of the command's own process.
Report main_report(Subject* subject);

// A process that plays the harness: a fork of the test that runs `body` and then waits to be
// killed. Not a fork once threads run.
class Harness {
 public:
  explicit Harness(const std::function<bool()>& body);
  Harness(const Harness&) = delete;
  Harness& operator=(const Harness&) = delete;
  ~Harness() { end(); }
  // `body` has returned true.
  bool ready() const { return ready_; }
  pid_t pid() const { return pid_; }
  // SIGKILL, and reaps it.
  void end();

 private:
  pid_t pid_ = -1;
  bool ready_ = false;
};

}  // namespace crashworthy

// Helpers of the tests of this room: a forked child as a subject, and what an injection has
// written.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "faults/injection.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"

namespace crashworthy {

using nlohmann::json;

inline FaultSpec fault_of(const std::string& text) {
  auto fault = parse_fault(json::parse(text), "/faults/0");
  EXPECT_TRUE(fault) << fault.error().message;
  return *fault;
}

// A forked child as the subject: one worker, which is the main process.
class FakeSubject : public SubjectView {
 public:
  FakeSubject(ProbeRing& ring, int (*body)(const Probe&)) : ring_(ring) {
    const Probe probe = ring.probe();
    pid_ = ::fork();
    if (pid_ == 0) ::_exit(body(probe));
    pidfd_ = *open_pidfd(pid_);
  }
  ~FakeSubject() override {
    (void)send_signal(pidfd_.get(), SIGKILL);
    if (!reaped_) ::waitpid(pid_, nullptr, 0);
  }
  void refresh() override {
    const std::size_t before = records_.size();
    ring_.drain(records_);
    tracker_.add(std::span(records_).subspan(before));
  }
  const WorkerTracker& workers() const override { return tracker_; }
  bool supervised() const override { return false; }
  bool isolated() const override { return isolated_; }
  bool isolated_ = false;
  std::int32_t main_pid() const override { return pid_; }
  std::int32_t supervisor_pid() const override { return pid_; }
  Result<UniqueFd> open(std::int32_t pid) const override { return open_pidfd(pid); }
  std::vector<pid_t> host_pids() const override { return {pid_}; }
  Moment moment() const override {
    Moment moment;
    moment.now_ns = now_ns();
    moment.launched_ns = moment.ready_ns = launched_ns_;
    moment.items_taken = ring_.count(ProbeEvent::kTaken);
    return moment;
  }

  // Waits for the child's end and gives all that is known of it.
  InjectionEvidence end() {
    EXPECT_TRUE(wait_for_end(pidfd_.get(), 10'000));
    const auto status = reap(pidfd_.get());
    reaped_ = true;
    refresh();
    return {{{pid_, **status, now_ns()}}, records_};
  }
  void wait_for(ProbeEvent event, std::uint64_t count) {
    while (ring_.count(event) < count) ::usleep(100);
  }
  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }

 private:
  ProbeRing& ring_;
  const std::int64_t launched_ns_ = now_ns();
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  WorkerTracker tracker_;
  std::vector<ProbeRecord> records_;
  bool reaped_ = false;
};

// What an injection has written.
struct Log {
  std::vector<json> steps;
  StepLog sink() {
    return [this](json step, bool synced) {
      step["synced"] = synced;
      steps.push_back(std::move(step));
    };
  }
  json result() const { return steps.back(); }
  json step(const std::string& name) const {
    for (const json& candidate : steps) {
      if (candidate.value("step", "") == name) return candidate;
    }
    return nullptr;
  }
  std::ptrdiff_t count(const std::string& name) const {
    return std::count_if(steps.begin(), steps.end(), [&](const json& candidate) {
      return candidate.value("step", "") == name;
    });
  }
};

}  // namespace crashworthy

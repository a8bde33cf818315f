// SIGKILL of `crashworthy` itself in every phase of a run, with the subject's processes seen alive
// just before: a second later none of them lives, no temporary file is left, what was written can
// be read, and `crashworthy report` works on it.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <thread>

#include "harness/cli/program_test_util.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/random.h"
#include "results/history.h"

namespace crashworthy::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr std::int64_t kSecond = 1'000'000'000;

// A small run of the real pipeline: enough images that each trial takes some tenths of a second.
constexpr const char* kExperiment = R"({
  "experiment": "victim",
  "subject": {"pipeline": "tiles", "input": {"generate": {"count": 24, "seed": 3}}, "slow": "400%"},
  "arms": [
    {"name": "bare", "supervision": "none", "workers": 2},
    {"name": "supervised", "supervision": {"intensity": 100, "period": "10s"}, "workers": 2, "spares": 1}
  ],
  "faults": [{"name": "kill", "fault": "process.kill", "victim": {"holding_item": true}, "when": {"item": [4, 8]}}],
  "blocks": 50
})";

enum class Phase { kGolden, kSteady, kDelivering, kFired };
constexpr const char* kPhaseNames[] = {"golden run", "steady", "delivering", "after the fault"};

std::string text_of(const fs::path& file) {
  auto text = read_file(file);
  return text ? *text : std::string();
}

// The phase that the newest history is in.
std::optional<Phase> phase_of(const fs::path& run) {
  fs::path newest = run / "golden";
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(run / "trials", failure)) {
    if (newest.filename() == "golden" || entry.path() > newest) newest = entry.path();
  }
  const std::string history = text_of(newest / "history.jsonl");
  if (history.find("\"check") != std::string::npos ||
      history.find("\"launched\"") == std::string::npos)
    return std::nullopt;
  if (newest.filename() == "golden") return Phase::kGolden;
  if (history.find("\"fired\"") != std::string::npos) return Phase::kFired;
  return history.find("\"delivering\"") != std::string::npos ? Phase::kDelivering : Phase::kSteady;
}

bool subject_alive(const std::vector<ProcessId>& processes) {
  for (const ProcessId& process : processes) {
    if (process.command.find("bin/tiles ") != std::string::npos &&
        process.command.find("crashworthy-init") == std::string::npos)
      return true;
  }
  return false;
}

// Waits until the run is in `phase` with its subject alive, and kills it there. False when it ended
// before.
bool kill_in_phase(pid_t pid, const fs::path& run, Phase phase, std::int64_t delay_ns,
                   std::vector<ProcessId>& before) {
  // Two golden runs and up to three trials come first, each of 20 s on a machine that is busy.
  const std::int64_t deadline = now_ns() + 180 * kSecond;
  while (now_ns() < deadline) {
    if (::waitpid(pid, nullptr, WNOHANG) != 0) return false;
    if (phase_of(run) == phase) {
      std::this_thread::sleep_for(std::chrono::nanoseconds(delay_ns));
      before = descendants_of(pid);
      if (phase_of(run) == phase && subject_alive(before)) {
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
        return true;
      }
    }
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

// Everything that was alive or names the run must be gone within a second.
std::string survivors(const std::vector<ProcessId>& before, const std::string& run) {
  const std::int64_t deadline = now_ns() + kSecond;
  std::string left;
  do {
    left.clear();
    for (const ProcessId& process : before) {
      if (is_alive(process)) left += std::to_string(process.pid) + " " + process.command + "\n";
    }
    for (const ProcessId& process : processes_naming(run))
      left += std::to_string(process.pid) + " " + process.command + "\n";
    if (left.empty()) return left;
    std::this_thread::sleep_for(10ms);
  } while (now_ns() < deadline);
  return left;
}

void kill_many_times(int times, std::optional<uid_t> uid) {
  TemporaryDirectory directory;
  std::ofstream(directory.path() / "victim.json") << kExperiment;
  Random random(42);
  std::map<Phase, int> hit;
  for (int i = 0; i < times; ++i) {
    const Phase phase = static_cast<Phase>(i % 4);
    const fs::path run = directory.path() / ("run" + std::to_string(i));
    const pid_t pid = start_program({crashworthy_program(), "run", "--quiet", "--seed",
                                     std::to_string(i), "--out", run.string(), "victim.json"},
                                    directory.path(), uid);
    std::vector<ProcessId> before;
    const auto delay =
        static_cast<std::int64_t>(random.below(phase == Phase::kGolden ? 200'000'000 : 60'000'000));
    ASSERT_TRUE(kill_in_phase(pid, run, phase, delay, before))
        << kPhaseNames[i % 4] << ": " << text_of(directory.path() / "err");
    ++hit[phase];
    EXPECT_EQ(survivors(before, run.string()), "") << "killed in: " << kPhaseNames[i % 4];
    EXPECT_FALSE(fs::exists(run / "scratch")) << "killed in: " << kPhaseNames[i % 4];
    for (const auto& trial : fs::directory_iterator(run / "trials")) {
      EXPECT_TRUE(read_history(trial.path())) << trial.path();
    }
    const Finished report =
        run_program({crashworthy_program(), "report", run.string()}, directory.path(), 60, uid);
    EXPECT_EQ(report.exit_code, 3) << "a run that was cut off is inconclusive: " << report.err;
    EXPECT_NE((report.out + report.err).find("cut off"), std::string::npos);
    EXPECT_EQ(fs::exists(run / "report.html"), phase != Phase::kGolden)
        << "there is a report once something was planned";
  }
  EXPECT_EQ(hit.size(), 4u) << "every phase was hit";
  std::string counts;
  for (const auto& [phase, count] : hit)
    counts +=
        std::string(kPhaseNames[static_cast<int>(phase)]) + " " + std::to_string(count) + ", ";
  std::printf("killed %d times: %snothing left\n", times, counts.c_str());
}

int kills() { return std::getenv("CRASHWORTHY_LONG") != nullptr ? 20 : 4; }

TEST(HarnessKill, LeavesNothingAndKeepsWhatWasMeasured) { kill_many_times(kills(), std::nullopt); }

TEST(HarnessKill, LeavesNothingWithoutPrivileges) {
  if (::getuid() != 0) GTEST_SKIP() << "the test above ran without privileges";
  kill_many_times(kills(), 65534);
}

// The user's own stop: everything is cleaned up, what was measured is reported, and the shell sees
// the signal.
TEST(HarnessInterrupt, CtrlCReportsAndLeavesNothing) {
  TemporaryDirectory directory;
  std::ofstream(directory.path() / "victim.json") << kExperiment;
  const fs::path run = directory.path() / "run";
  const pid_t pid =
      start_program({crashworthy_program(), "run", "--quiet", "--out", run.string(), "victim.json"},
                    directory.path());
  const std::int64_t deadline = now_ns() + 60 * kSecond;
  while (!fs::exists(run / "trials" / "0003" / "history.jsonl") && now_ns() < deadline)
    std::this_thread::sleep_for(1ms);
  const std::vector<ProcessId> before = descendants_of(pid);
  EXPECT_FALSE(before.empty());
  ::kill(pid, SIGINT);
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGINT);
  EXPECT_EQ(survivors(before, run.string()), "");
  EXPECT_FALSE(fs::exists(run / "scratch"));
  EXPECT_TRUE(fs::exists(run / "summary.json"));
}

}  // namespace
}  // namespace crashworthy::testing

// SIGKILL of the harness at any moment, with each kind of fault in force: nothing is left, and
// recover says so, as often as it is asked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <set>
#include <thread>

#include "harness/cli/outcome_test_util.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/random.h"

namespace crashworthy::testing {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kPatienceNs = 10'000'000'000;

// What we make outside of our own directories bears our name.
std::set<std::string> made_by_us() {
  std::set<std::string> found;
  for (const char* root : {"/sys/fs/cgroup", "/dev/shm"}) {
    std::error_code ignored;
    const auto options = fs::directory_options::skip_permission_denied;
    fs::recursive_directory_iterator entry(root, options, ignored), end;
    for (; !ignored && entry != end; entry.increment(ignored)) {
      const std::string name = entry->path().filename();
      if (entry.depth() > 3) entry.disable_recursion_pending();
      if (name.starts_with("crashworthy") && !name.starts_with("crashworthy-test-"))
        found.insert(entry->path());
    }
  }
  const auto mounts = read_file("/proc/mounts");
  std::istringstream lines(mounts ? *mounts : "");
  for (std::string line; std::getline(lines, line);) {
    if (line.find("crashworthy-test-") != std::string::npos) found.insert(line);
  }
  return found;
}

class KilledHarness : public ::testing::Test {
 protected:
  // Starts an injection of the row, kills us after `delay_ns`, and looks for what is left.
  void kill_once(const json& row, const std::string& program, bool unprivileged,
                 std::int64_t delay_ns) {
    const TemporaryDirectory directory;
    make_inputs(directory.path());
    const fs::path temporary = directory.path() / "tmp";
    fs::create_directory(temporary);
    fs::permissions(temporary, fs::perms::all);
    std::vector<std::string> words{
        "/usr/bin/env", "TMPDIR=" + temporary.string(), crashworthy_program(),
        "inject",       row.value("fault", ""),         "--out",
        "record"};
    for (const std::string& word : words_of(row, program)) words.push_back(word);
    words.emplace_back("--");
    for (const std::string& word : command_of(program, "out")) words.push_back(word);
    const auto uid = unprivileged ? std::optional<uid_t>(kNobody) : std::nullopt;
    const std::set<std::string> before = made_by_us();
    const pid_t pid = start_program(words, directory.path(), uid);
    std::this_thread::sleep_for(std::chrono::nanoseconds(delay_ns));
    const std::vector<ProcessId> tree = descendants_of(pid);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    killed_alive_ += tree.empty() ? 0 : 1;
    const std::int64_t deadline = now_ns() + kPatienceNs;
    std::string left;
    do {
      left.clear();
      for (const ProcessId& process : processes_naming(directory.path()))
        left += process.command + "; ";
      for (const ProcessId& process : tree) {
        if (is_alive(process)) left += process.command + "; ";
      }
      for (const auto& file : fs::directory_iterator(temporary))
        left += file.path().string() + "; ";
      for (const std::string& made : made_by_us()) {
        if (!before.contains(made)) left += made + "; ";
      }
      if (!left.empty()) std::this_thread::sleep_for(2ms);
    } while (!left.empty() && now_ns() < deadline);
    EXPECT_EQ(left, "");
    if (!fs::exists(directory.path() / "record" / "history.jsonl")) return;
    for (int again = 0; again < 2; ++again) {
      const Finished recovered =
          run_program({crashworthy_program(), "recover", "record"}, directory.path(), 20, uid);
      EXPECT_EQ(recovered.exit_code, 0) << recovered.out << recovered.err;
    }
  }
  int killed_alive_ = 0;
};

TEST_F(KilledHarness, LeavesNothingWhateverIsInForce) {
  const int kills = is_long() ? 200 : 12;
  Random random(std::random_device{}());
  std::vector<std::size_t> rows;
  for (std::size_t row = 0; row < table().size(); ++row) {
    if (!table()[row].contains("out")) rows.push_back(row);
  }
  random.shuffle(rows);
  // Only those count that found a subject alive.
  for (int i = 0; killed_alive_ < kills && i < 4 * kills; ++i) {
    const json& row = table()[rows[static_cast<std::size_t>(i) % rows.size()]];
    const std::string program = row.value("plain_static", "-") == "-" ? "tiles" : "plain_static";
    const bool unprivileged = i % 2 == 1 && ::getuid() == 0;
    const auto delay_ns = static_cast<std::int64_t>(5'000'000 + random.below(400'000'000));
    SCOPED_TRACE(row.value("fault", "") + " on " + program + (unprivileged ? " as nobody" : "") +
                 " after " + std::to_string(delay_ns) + " ns");
    kill_once(row, program, unprivileged, delay_ns);
    if (IsSkipped() || HasFailure()) return;
  }
  EXPECT_EQ(killed_alive_, kills);
}

}  // namespace
}  // namespace crashworthy::testing

// Real programs as the subject of a test, and the processes that are left of them.
#pragma once

#include <fcntl.h>
#include <sys/prctl.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <optional>
#include <sstream>

#include "faults/injection_test_util.h"
#include "harness/os/file.h"

namespace crashworthy {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitizedBuild = true;
#else
inline constexpr bool kSanitizedBuild = false;
#endif

// The words that start the tests' own program, which writes "ready" once it runs.
inline std::vector<std::string> victim_doing(std::vector<std::string> what) {
  what.insert(what.begin(), CRASHWORTHY_PROGRAM_DIR "/crashworthy-victim");
  return what;
}

// The state letter of a process; 0: it is gone.
inline char state_of(pid_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t at = stat ? stat->rfind(')') : std::string::npos;
  return at == std::string::npos ? '\0' : (*stat)[at + 2];
}

inline pid_t parent_of(pid_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t at = stat ? stat->rfind(')') : std::string::npos;
  return at == std::string::npos ? 0 : std::atoi(stat->c_str() + at + 4);
}

// `root` and the live processes below it.
inline std::vector<pid_t> tree_of(pid_t root) {
  std::vector<pid_t> pids{root};
  std::vector<std::pair<pid_t, pid_t>> all;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && state_of(pid) != 'Z') all.emplace_back(pid, parent_of(pid));
  }
  for (std::size_t i = 0; i < pids.size(); ++i) {
    for (const auto& [pid, parent] : all) {
      if (parent == pids[i]) pids.push_back(pid);
    }
  }
  if (state_of(root) == 'Z' || state_of(root) == '\0') pids.erase(pids.begin());
  return pids;
}

inline bool eventually(const std::function<bool()>& holds, int bound_ms = 5'000) {
  for (int i = 0; i < bound_ms; ++i) {
    if (holds()) return true;
    ::usleep(1'000);
  }
  return holds();
}

inline bool comes_to(pid_t pid, char state) {
  return eventually([&] { return state_of(pid) == state; });
}

// Whether a pidfd tells how a process ended that others have reaped (Linux 6.15).
inline bool kernel_tells_of_ends() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  const auto pidfd = open_pidfd(child);
  ::waitpid(child, nullptr, 0);
  return pidfd && exit_status_from_kernel(pidfd->get()).has_value();
}

// A program that was started by the test, as a subject without a probe; it has said that it is
// ready. Whatever is below it when it ends is this process's child then, and is ended too.
class ProgramSubject : public SubjectView {
 public:
  explicit ProgramSubject(
      std::vector<std::string> argv, const std::function<void()>& before_exec = [] {}) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    std::vector<char*> words;
    for (std::string& word : argv) words.push_back(word.data());
    words.push_back(nullptr);
    int ends[2] = {-1, -1};
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    out_.reset(ends[0]);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(ends[1], 1);
      before_exec();
      ::execvp(words[0], words.data());
      ::_exit(126);
    }
    ::close(ends[1]);
    pidfd_ = *open_pidfd(pid_);
    EXPECT_EQ(line(), "ready") << argv[0];
  }
  ~ProgramSubject() override {
    for (const pid_t pid : tree_of(pid_)) ::kill(pid, SIGKILL);
    if (!reaped_) ::waitpid(pid_, nullptr, 0);
    // Orphans of the tree.
    for (int i = 0; i < 1'000 && ::waitpid(-1, nullptr, WNOHANG) == 0; ++i) {
      for (const pid_t pid : tree_of(::getpid())) {
        if (pid != ::getpid()) ::kill(pid, SIGKILL);
      }
      ::usleep(1'000);
    }
  }

  void refresh() override {}
  const WorkerTracker& workers() const override { return tracker_; }
  bool supervised() const override { return supervised_; }
  bool isolated() const override { return false; }
  std::int32_t main_pid() const override { return has_ended(pidfd_.get()) ? 0 : pid_; }
  std::int32_t supervisor_pid() const override { return pid_; }
  Result<UniqueFd> open(std::int32_t pid) const override { return open_pidfd(pid); }
  std::vector<pid_t> host_pids() const override { return tree_of(pid_); }
  Moment moment() const override {
    Moment moment;
    moment.now_ns = now_ns();
    moment.launched_ns = moment.ready_ns = launched_ns_;
    return moment;
  }

  // What it writes to its standard output, until the end of the line.
  std::string line() {
    std::string text;
    for (char byte = 0; ::read(out_.get(), &byte, 1) == 1 && byte != '\n';) text += byte;
    return text;
  }
  // Lets the injection do its work until the program has ended, then says what is known of it.
  InjectionEvidence work_until_end(Injection& injection, int bound_ms = 10'000) {
    EXPECT_TRUE(work_until(
        injection, [&] { return has_ended(pidfd_.get()); }, bound_ms));
    return end();
  }
  bool work_until(Injection& injection, const std::function<bool()>& holds, int bound_ms = 10'000) {
    return eventually(
        [&] {
          injection.look(*this, moment());
          return holds();
        },
        bound_ms);
  }
  InjectionEvidence end() {
    EXPECT_TRUE(wait_for_end(pidfd_.get(), 10'000));
    const auto status = reap(pidfd_.get());
    reaped_ = true;
    return {{{pid_, **status, now_ns()}}, {}};
  }
  pid_t pid() const { return pid_; }
  bool supervised_ = false;

 private:
  const std::int64_t launched_ns_ = now_ns();
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd out_;
  WorkerTracker tracker_;
  bool reaped_ = false;
};

}  // namespace crashworthy

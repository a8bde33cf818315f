// From the kill of a child to the first instruction of its replacement, beside what a parent needs
// that does nothing but notice (pidfd), fork and execute.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/supervision/tree_test_support.h"

namespace crashworthy {
namespace {

using namespace std::chrono_literals;

constexpr int kTestFd = 7;
constexpr const char* kProbe = CRASHWORTHY_PROGRAM_DIR "/restart_probe";
// Two processes more stand between us and the child than with the plain parent; on a busy machine
// each may wait for a processor. What is aimed at is 1.3.
constexpr double kMostTimesSlower = 2;

// When the probe began; 0 when it does not say so within 10 s.
std::int64_t read_begin(int fd) {
  pollfd poll_fd{fd, POLLIN, 0};
  std::int64_t begin = 0;
  if (::poll(&poll_fd, 1, 10'000) <= 0) return 0;
  return ::read(fd, &begin, sizeof begin) == sizeof begin ? begin : 0;
}

// What most of the values were at least; others are those of a moment when the machine was busy.
double quartile(std::vector<std::int64_t> values) {
  std::sort(values.begin(), values.end());
  return static_cast<double>(values[values.size() / 4]);
}

// Restarts one process as simply as it can be done.
class PlainParent {
 public:
  PlainParent() {
    start();
    EXPECT_NE(read_begin(pipe_.read_end.get()), 0);
  }
  PlainParent(const PlainParent&) = delete;
  PlainParent& operator=(const PlainParent&) = delete;
  ~PlainParent() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  std::int64_t kill_and_restart() {
    const std::int64_t begin = now_ns();
    ::kill(pid_, SIGKILL);
    EXPECT_TRUE(wait_for_end(pidfd_.get(), 10'000));
    EXPECT_TRUE(reap(pidfd_.get()));
    start();
    return read_begin(pipe_.read_end.get()) - begin;
  }

 private:
  void start() {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(pipe_.write_end.get(), kTestFd);
      ::execl(kProbe, kProbe, nullptr);
      ::_exit(126);
    }
    pidfd_ = *open_pidfd(pid_);
  }

  ChildPipe pipe_;
  pid_t pid_ = -1;
  UniqueFd pidfd_;
};

class TreeLatency : public TreeTest {
 protected:
  std::int64_t kill_and_restart(SupervisionTree* tree, const ChildPipe& pipe) {
    EXPECT_TRUE(run_until(tree, [&] { return tree->logic().find("a")->pid != 0; }));
    const pid_t pid = pid_of(*tree, "a");
    const std::int64_t begin = now_ns();
    ::kill(pid, SIGKILL);
    pollfd poll_fd{pipe.read_end.get(), POLLIN, 0};
    while (::poll(&poll_fd, 1, 0) == 0 && now_ns() - begin < 10'000'000'000) {
      EXPECT_TRUE(tree->run(1ms));
    }
    return read_begin(pipe.read_end.get()) - begin;
  }

  // How many times longer the tree takes. Both by turns, so that both meet the same machine.
  double times_slower(int count) {
    ChildPipe pipe;
    ChildSpec child = command_child("a", {kProbe});
    pipe.give_to(&child, kTestFd);
    auto tree = boot(supervisor_of({child}));
    if (!tree) return 0;
    EXPECT_NE(read_begin(pipe.read_end.get()), 0);
    PlainParent parent;
    std::vector<std::int64_t> by_parent;
    std::vector<std::int64_t> by_tree;
    for (int i = 0; i < count; ++i) {
      by_parent.push_back(parent.kill_and_restart());
      by_tree.push_back(kill_and_restart(&*tree, pipe));
    }
    const double ratio = quartile(by_tree) / quartile(by_parent);
    std::printf("plain parent %s, tree %s: %.2f times\n",
                format_duration(quartile(by_parent)).c_str(),
                format_duration(quartile(by_tree)).c_str(), ratio);
    return ratio;
  }
};

TEST_F(TreeLatency, ARestartIsNotMuchSlowerThanByAPlainParent) {
  double best = times_slower(times(50, 1'000));
  for (int i = 0; i < 4 && best > kMostTimesSlower; ++i) best = std::min(best, times_slower(50));
  EXPECT_LT(best, kMostTimesSlower);
}

}  // namespace
}  // namespace crashworthy

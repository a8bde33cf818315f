// Whichever process of a supervision tree is killed, nothing that was below it is left: the host of
// the tree, nodes that are supervisors themselves, and the shims in between. What lived is then
// there again, unless it was the host.
#include <gmock/gmock.h>
#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <map>
#include <set>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/random.h"
#include "harness/process/process_tree.h"
#include "harness/supervision/tree_test_support.h"

namespace crashworthy {
namespace {

using namespace std::chrono_literals;
using ::testing::IsEmpty;

constexpr std::size_t kTreeSize = 20;  // supervision_node.cc
constexpr uid_t kNobody = 65534;
constexpr const char* kProgram = CRASHWORTHY_PROGRAM_DIR "/supervision_node";

class TreeKill : public TreeTest {
 protected:
  void SetUp() override {
    TreeTest::SetUp();
    host_ = -1;
  }
  void TearDown() override {
    end_host();
    TreeTest::TearDown();
  }

  // Starts the host, as another user if `user` is given, and waits until all of its tree lives.
  void start_host(uid_t user) {
    host_ = ::fork();
    ASSERT_GE(host_, 0);
    if (host_ == 0) {
      if (user != 0 &&
          (::setgroups(0, nullptr) != 0 || ::setgid(user) != 0 || ::setuid(user) != 0)) {
        ::_exit(77);
      }
      ::execl(kProgram, kProgram, nullptr);
      ::_exit(126);
    }
    ASSERT_TRUE(eventually([this] { return is_whole(); }, 20s)) << workers().size();
  }
  // Reaps what was killed.
  void end_host() {
    if (host_ <= 0) return;
    ::kill(host_, SIGKILL);
    int status = 0;
    ::waitpid(host_, &status, 0);
    host_ = -1;
  }

  bool is_whole() const {
    return workers().size() == kTreeSize && supervisors().size() == kSupervisors;
  }

  // The host, two nodes, and two processes for each of 5 + 4 + 4 children.
  static constexpr std::size_t kSupervisors = 1 + 2 + 2 * 13;

  std::vector<pid_t> supervisors() const {
    std::set<pid_t> found;
    const auto live = marked();
    const std::set<pid_t> shims = shims_among(live);
    for (const pid_t pid : live) {
      const auto state = read_process_state(pid);
      if (shims.contains(pid)) {
        found.insert(pid);
        // The parent of an outer process is a supervisor too.
        if (state && !shims.contains(state->parent)) found.insert(state->parent);
      }
    }
    found.erase(::getpid());
    return {found.begin(), found.end()};
  }

  static std::set<pid_t> shims_among(const std::vector<pid_t>& pids) {
    std::set<pid_t> shims;
    for (const pid_t pid : pids) {
      const auto name = read_file("/proc/" + std::to_string(pid) + "/comm");
      if (name && name->starts_with("crashworthy-ini")) shims.insert(pid);
    }
    return shims;
  }

  // The process whose end is the end of `victim`'s tree: the outer process of its shim.
  static pid_t top_of(pid_t victim, pid_t host, const std::set<pid_t>& shims) {
    pid_t top = victim;
    if (victim == host) return victim;
    while (true) {
      const auto state = read_process_state(top);
      if (!state) return top;
      if (!shims.contains(state->parent)) return top;
      top = state->parent;
    }
  }

  struct Watched {
    pid_t pid;
    UniqueFd pidfd;
  };
  static std::vector<Watched> watch(const std::vector<pid_t>& pids) {
    std::vector<Watched> watched;
    for (const pid_t pid : pids) {
      auto pidfd = open_pidfd(pid);
      if (pidfd) watched.push_back({pid, *std::move(pidfd)});
    }
    return watched;
  }
  static std::vector<pid_t> left_of(const std::vector<Watched>& watched, std::int64_t deadline) {
    std::vector<pid_t> left;
    for (const Watched& process : watched) {
      const auto ms = std::max<std::int64_t>(0, (deadline - now_ns()) / 1'000'000);
      if (!wait_for_end(process.pidfd.get(), static_cast<int>(ms))) left.push_back(process.pid);
    }
    return left;
  }

  void kill_one(Random* random, uid_t user) {
    ASSERT_NO_FATAL_FAILURE(start_host(user));
    const auto candidates = supervisors();
    // Every third time the host; it would be one in thirty otherwise.
    const pid_t victim =
        random->below(3) == 0 ? host_ : candidates[random->below(candidates.size())];
    const std::set<pid_t> shims = shims_among(marked());
    std::vector<pid_t> below{victim};
    // A node, or the process of a shim: what goes with it is all that its shim holds.
    for (const TreeProcess& process : descendants_of(top_of(victim, host_, shims))) {
      if (process.pid != victim) below.push_back(process.pid);
    }
    const bool is_shim_or_host = victim == host_ || shims.contains(victim);
    std::vector<pid_t> expected;
    for (const pid_t pid : below) {
      // The shim of a node that is killed is kept for its next incarnation.
      const auto state = read_process_state(pid);
      const bool kept =
          !is_shim_or_host && shims.contains(pid) && state && descendants_contain(pid, victim);
      if (!kept) expected.push_back(pid);
    }
    const auto watched = watch(expected);
    const std::int64_t deadline = now_ns() + 1'000'000'000;
    kill_process(victim);
    const auto left = left_of(watched, deadline);
    slowest_ms_ = std::max(slowest_ms_, 1000 - (deadline - now_ns()) / 1'000'000);
    EXPECT_THAT(left, IsEmpty()) << "victim " << victim << " host " << host_ << " shim "
                                 << shims.contains(victim);
    if (victim != host_) {
      EXPECT_TRUE(eventually([this] { return is_whole(); }, 20s))
          << "not whole again: " << workers().size() << " " << supervisors().size();
    }
    end_host();
    ASSERT_TRUE(nothing_left_within(1s));
  }

  static bool descendants_contain(pid_t root, pid_t wanted) {
    const auto below = descendants_of(root);
    return std::any_of(below.begin(), below.end(),
                       [&](const TreeProcess& process) { return process.pid == wanted; });
  }

  void kill_many(uid_t user) {
    const std::uint64_t seed = static_cast<std::uint64_t>(now_ns());
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    for (int i = 0; i < times(5, 200) && !HasFailure(); ++i) {
      SCOPED_TRACE("round " + std::to_string(i));
      kill_one(&random, user);
    }
    std::printf("gone after %lld ms at most\n", static_cast<long long>(slowest_ms_));
  }

  pid_t host_ = -1;
  std::int64_t slowest_ms_ = 0;
};

TEST_F(TreeKill, NothingIsLeftOfWhatIsKilled) { kill_many(0); }

TEST_F(TreeKill, NothingIsLeftOfWhatIsKilledWithoutPrivileges) {
  if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
  const pid_t probe = ::fork();
  if (probe == 0) {
    if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) ::_exit(1);
    ::_exit(::access(kProgram, X_OK) == 0 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(probe, &status, 0);
  if (status != 0) GTEST_SKIP() << "the test program cannot be run as user 65534";
  kill_many(kNobody);
}

}  // namespace
}  // namespace crashworthy

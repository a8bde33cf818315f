// What must not add up, and what must not get lost, over many restarts and suspensions.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/process_tree.h"
#include "harness/supervision/tree_test_support.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::IsEmpty;

constexpr int kTestFd = 7;  // As in tree_test_main.cc.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // Memory that was freed is kept for a while.
#else
constexpr bool kSanitized = false;
#endif

std::size_t entries(const fs::path& directory) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

// What a program that runs for years must not have more and more of.
struct Holdings {
  std::size_t descriptors = 0;
  std::size_t processes = 0;  // Below this one, zombies too.
  std::size_t shared_memory = 0;
  long resident_pages = 0;
};

std::size_t children_of_ours() {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    const auto state = read_process_state(pid);
    if (state && state->parent == ::getpid()) ++count;
  }
  return count;
}

Holdings holdings() {
  Holdings held;
  held.descriptors = entries("/proc/self/fd");
  held.processes = children_of_ours() + descendants_of(::getpid()).size();
  held.shared_memory = entries("/dev/shm");
  long size = 0;
  std::istringstream(read_file("/proc/self/statm").value()) >> size >> held.resident_pages;
  return held;
}

class TreeEndurance : public TreeTest {
 protected:
  // Events are counted, not kept: they are not the tree's to hold.
  TreeOptions counting() {
    TreeOptions options;
    options.sink = [this](const Event& event) {
      if (event.kind == EventKind::kRestart) ++restarts_;
    };
    return options;
  }
  int restarts_ = 0;
};

// One child that ends at once and always, beside one that lives.
TEST_F(TreeEndurance, RestartsLeaveNothingBehind) {
  auto spec = supervisor_of({function_child("lives", "sleep"), command_child("ends", {"true"})});
  spec.intensity = 1'000'000;
  spec.period = 1ms;
  ChildSpec& ends = spec.children[1];
  ends.ready.reset();
  auto tree = SupervisionTree::start(spec, counting());
  ASSERT_TRUE(tree) << tree.error().message;
  const auto restarted = [&](int count) {
    return run_until(
        &*tree, [&] { return restarts_ >= count; }, 120s);
  };
  const int warm_up = times(50, 1'000);
  const int count = times(200, 10'000);
  ASSERT_TRUE(restarted(warm_up));
  const auto paused = [&] {
    EXPECT_TRUE(tree->stop_child("ends", 10s)->ok());
    const Holdings held = holdings();
    EXPECT_TRUE(tree->restart_child("ends", 10s)->ok());
    return held;
  };
  const Holdings before = paused();
  const std::int64_t begin = now_ns();
  ASSERT_TRUE(restarted(warm_up + count));
  std::printf("%d restarts, %s each\n", count,
              format_duration(static_cast<double>(now_ns() - begin) / count).c_str());
  const Holdings after = paused();
  EXPECT_EQ(after.descriptors, before.descriptors);
  EXPECT_EQ(after.processes, before.processes);
  EXPECT_EQ(after.shared_memory, before.shared_memory);
  if (!kSanitized) {
    EXPECT_LE(after.resident_pages, before.resident_pages + 16);
  }
  end(&*tree);
}

// It is stopped in the middle of whatever it does, and loses nothing of it.
TEST_F(TreeEndurance, ASuspendedChildLosesNothing) {
  ChildPipe pipe;
  ChildSpec child = function_child("counts", "count");
  pipe.give_to(&child, kTestFd);
  auto tree = boot(supervisor_of({child}));
  ASSERT_TRUE(tree);
  pipe.write_end.reset();
  long next = 1;
  std::string text;
  // Takes what is complete off `text`; stops at the first number that is not the next.
  const auto check = [&] {
    pipe.drain(&text);
    std::size_t begin = 0;
    for (std::size_t line = 0; (line = text.find('\n', begin)) != std::string::npos;
         begin = line + 1) {
      ASSERT_EQ(text.substr(begin, line - begin), std::to_string(next));
      ++next;
    }
    text.erase(0, begin);
  };
  for (int i = 0; i < times(20, 1'000); ++i) {
    ASSERT_TRUE(tree->suspend("counts", 10s)->ok());
    EXPECT_EQ(tree->logic().find("counts")->state, LifeState::kIntermitted);
    EXPECT_TRUE(wait_until_stopped(pid_of(*tree, "counts"), 0));
    ASSERT_NO_FATAL_FAILURE(check());
    const long seen = next;
    ASSERT_NO_FATAL_FAILURE(check());
    EXPECT_EQ(next, seen);  // Not a number more while it is stopped.
    ASSERT_TRUE(tree->resume("counts", 10s)->ok());
    ASSERT_TRUE(run_until(&*tree, [&] {
      check();
      return next > seen || HasFatalFailure();
    }));
  }
  EXPECT_EQ(tree->logic().find("counts")->incarnation, 1u);
  end(&*tree);
  ASSERT_NO_FATAL_FAILURE(check());
}

// Whatever a child has started goes with it, also what has left its session.
TEST_F(TreeEndurance, NothingOfACrashedOrStoppedChildIsLeft) {
  constexpr const char* kScript =
      "(sleep 1001 & exec sleep 1002) &\n"
      "(setsid sh -c 'trap \"\" TERM; sleep 1003 & exec sleep 1004' &)\n"
      "exec sleep 1005";
  ChildSpec child = shell_child("a", kScript);
  child.stop = StopPolicy{.kind = StopPolicy::Kind::kTime, .time = 100ms};
  auto tree = boot(supervisor_of({child}));
  ASSERT_TRUE(tree);
  const auto all_there = [&] { return workers().size() == 5 && tree->logic().find("a")->pid != 0; };
  for (int i = 0; i < times(5, 50); ++i) {
    ASSERT_TRUE(run_until(&*tree, all_there)) << workers().size();
    std::vector<UniqueFd> before;
    for (const pid_t pid : workers()) {  // One that only forks may be gone already.
      if (auto pidfd = open_pidfd(pid)) before.push_back(*std::move(pidfd));
    }
    const auto incarnation = tree->logic().find("a")->incarnation;
    kill_process(pid_of(*tree, "a"));
    ASSERT_TRUE(
        run_until(&*tree, [&] { return tree->logic().find("a")->incarnation == incarnation + 1; }));
    // Gone before the next one is started.
    for (const UniqueFd& pidfd : before) EXPECT_TRUE(has_ended(pidfd.get()));
  }
  ASSERT_TRUE(run_until(&*tree, all_there)) << workers().size();
  ASSERT_TRUE(tree->stop_child("a", 10s)->ok());
  EXPECT_THAT(workers(), IsEmpty());
  end(&*tree);
}

}  // namespace
}  // namespace crashworthy

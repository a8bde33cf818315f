// A supervision tree over real processes: how it boots, watches, restarts, stops and suspends them,
// and what a child is given.
#include "harness/supervision/tree.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/process/process_tree.h"
#include "harness/supervision/function.h"
#include "harness/supervision/tree_test_support.h"

namespace crashworthy {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int kTestFd = 7;  // As in tree_test_main.cc.

ChildSpec when_ready(ChildSpec child, Nanoseconds timeout = 10s) {
  child.ready = Readiness{.descriptor = 3, .timeout = timeout};
  return child;
}

// ---- Boot and end ----

TEST_F(TreeTest, BootsInOrderAndEndsInReverseOrder) {
  auto tree =
      boot(supervisor_of({function_child("a", "sleep"), command_child("b", {"sleep", "1000"})}));
  ASSERT_TRUE(tree);
  EXPECT_THAT(workers(), SizeIs(2));
  end(&*tree);
  EXPECT_THAT(workers(), IsEmpty());
  EXPECT_THAT(trace(),
              ElementsAre("(root) initial", "a initial", "a ready", "a running", "b initial",
                          "b ready", "(root) ready", "b running", "(root) running",               //
                          "(root) order: shutdown", "b ended: killed by SIGTERM", "b completed",  //
                          "a ended: killed by SIGTERM", "a completed", "(root) completed"));
}

// Looked for before anything is started, at any depth.
TEST_F(TreeTest, RefusesAMissingProgramBeforeAnythingIsStarted) {
  ChildSpec inner;
  inner.id = "inner";
  inner.supervisor = std::make_shared<SupervisorSpec>(
      supervisor_of({function_child("ok", "sleep"), command_child("bad", {"no-such-program"})}));
  auto tree =
      SupervisionTree::start(supervisor_of({function_child("a", "sleep"), inner}), options());
  ASSERT_FALSE(tree);
  EXPECT_EQ(tree.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(tree.error().message,
            "/children/1/children/1/command: unable to start 'no-such-program': no such program in "
            "PATH");
  EXPECT_EQ(tree.error().hint, "try an absolute path, or ./no-such-program");
  EXPECT_THAT(events_, IsEmpty());
  EXPECT_THAT(marked(), IsEmpty());

  tree = SupervisionTree::start(supervisor_of({function_child("a", "no such function")}));
  ASSERT_FALSE(tree);
  EXPECT_EQ(tree.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(tree.error().message, HasSubstr("/children/0/function: no function 'no such"));
}

TEST_F(TreeTest, RollsBackAStartThatFails) {
  auto tree = SupervisionTree::start(
      supervisor_of({function_child("a", "sleep"), when_ready(shell_child("b", "exit 3"))}),
      options());
  ASSERT_FALSE(tree);
  EXPECT_THAT(tree.error().message, HasSubstr("'b'"));
  EXPECT_THAT(trace(),
              ElementsAre("(root) initial", "a initial", "a ready", "a running", "b initial",
                          "b ready", "(root) ready", "b running", "b ended: exited with 3",
                          "b start_failed", "b terminated", "a ended: killed by SIGTERM",
                          "a completed", ::testing::StartsWith("(root)")));
  EXPECT_THAT(marked(), IsEmpty());
}

// A program that cannot be executed after all, which only the start itself can find out.
TEST_F(TreeTest, TellsWhyAProgramCannotBeExecuted) {
  const auto file = directory_ / "script";
  ASSERT_TRUE(write_file_atomically(file, "#!/no/such/interpreter\n"));
  std::filesystem::permissions(file, std::filesystem::perms::all);
  auto tree = SupervisionTree::start(supervisor_of({command_child("a", {file.string()})}));
  ASSERT_FALSE(tree);
  EXPECT_THAT(tree.error().message, HasSubstr("the interpreter of"));
}

TEST_F(TreeTest, KillsEverythingWhenItIsDestroyed) {
  auto tree = boot(supervisor_of({when_ready(function_child("a", "ignore_sigterm")),
                                  shell_child("b", "setsid sleep 1000 & wait")}));
  ASSERT_TRUE(tree);
  ASSERT_TRUE(run_until(&*tree, [&] { return workers().size() == 3; }));
  tree.reset();
  EXPECT_THAT(marked(), IsEmpty());
}

// A user's loop: waits for the descriptor and the time, and then runs what there is to do.
TEST_F(TreeTest, RunsInAUsersEventLoop) {
  ChildSpec late = shell_child("a", "sleep 1000");
  late.deadline = 100ms;
  late.restart = RestartType::kTemporary;
  auto created = SupervisionTree::create(supervisor_of({late}), options());
  ASSERT_TRUE(created) << created.error().message;
  EXPECT_THAT(events_, IsEmpty());
  const std::int64_t bound = now_ns() + 10'000'000'000;
  while (events_of(EventKind::kEnded).empty() && now_ns() < bound) {
    pollfd poll_fd{created->event_fd(), POLLIN, 0};
    const auto timeout = created->timeout();
    const int ms = timeout ? static_cast<int>(*timeout / 1ms) + 1 : 10'000;
    ASSERT_GE(::poll(&poll_fd, 1, ms), 0);
    ASSERT_TRUE(created->run(0ns));
  }
  EXPECT_THAT(events_of(EventKind::kHang), SizeIs(1));
  EXPECT_THAT(events_of(EventKind::kEnded), SizeIs(1));
  end(&*created);
}

// Started and ended in the same breath is no failed start.
TEST_F(TreeTest, ATreeThatEndsAsSoonAsItHasStartedWasStarted) {
  ChildSpec quick = command_child("a", {"true"});
  quick.restart = RestartType::kTemporary;
  quick.significant = true;
  SupervisorSpec spec = supervisor_of({quick});
  spec.auto_shutdown = AutoShutdown::kAnySignificant;
  for (int i = 0; i < 20; ++i) {
    auto tree = boot(spec);
    ASSERT_TRUE(tree);
    const auto ended = tree->run_until_end(10s);
    ASSERT_TRUE(ended) << ended.error().message;
    EXPECT_EQ(*ended, TreeEnd::kAutoShutdown);
  }
}

TEST_F(TreeTest, StartsAndStops64Children) {
  std::vector<ChildSpec> children;
  for (int i = 0; i < 64; ++i) {
    children.push_back(command_child("c" + std::to_string(i), {"sleep", "1000"}));
  }
  auto tree = boot(supervisor_of(children));
  ASSERT_TRUE(tree);
  EXPECT_THAT(workers(), SizeIs(64));
  EXPECT_EQ(tree->logic().count_children("")->active, 64);
  const auto own = tree->own_pids();
  EXPECT_THAT(own, SizeIs(64));
  for (const pid_t pid : own) {
    const auto state = read_process_state(pid);
    EXPECT_TRUE(state && state->parent == ::getpid());
  }
  end(&*tree);
  const auto ends = events_of(EventKind::kEnded);
  ASSERT_THAT(ends, SizeIs(64));
  EXPECT_EQ(ends.front().path, "c63");
  EXPECT_EQ(ends.back().path, "c0");
  EXPECT_THAT(workers(), IsEmpty());
}

// ---- Restarts ----

TEST_F(TreeTest, RestartsAKilledChild) {
  auto tree = boot(supervisor_of({function_child("a", "sleep")}));
  ASSERT_TRUE(tree);
  const pid_t before = pid_of(*tree, "a");
  const auto number = next_number();
  kill_process(before);
  ASSERT_TRUE(run_until(&*tree, [&] { return tree->logic().find("a")->incarnation == 2; }));
  ASSERT_TRUE(run_until(&*tree, [&] { return tree->logic().find("a")->pid != 0; }));
  EXPECT_NE(pid_of(*tree, "a"), before);
  EXPECT_THAT(trace(number), ElementsAre("a ended: killed by SIGKILL", "a terminated", "a restart",
                                         "a initial", "a ready", "a running"));
  const auto ended = events_of(EventKind::kEnded);
  EXPECT_EQ(ended[0].pid, before);
  EXPECT_EQ(ended[0].incarnation, 1u);
}

TEST_F(TreeTest, RestForOneStopsThoseStartedLaterAndStartsThemInOrder) {
  auto spec = supervisor_of(
      {function_child("a", "sleep"), function_child("b", "sleep"), function_child("c", "sleep")});
  spec.strategy = Strategy::kRestForOne;
  auto tree = boot(spec);
  ASSERT_TRUE(tree);
  const auto number = next_number();
  kill_process(pid_of(*tree, "b"));
  ASSERT_TRUE(run_until(&*tree, [&] {
    const auto c = tree->logic().find("c");
    return c->incarnation == 2 && c->pid != 0;
  }));
  EXPECT_THAT(trace(number),
              ElementsAre("b ended: killed by SIGKILL", "b terminated", "b restart",
                          "c ended: killed by SIGTERM", "c completed", "b initial", "b ready",
                          "b running", "c initial", "c ready", "c running"));
  EXPECT_EQ(tree->logic().find("a")->incarnation, 1u);
}

TEST_F(TreeTest, GivesUpWhenTheIntensityIsSpent) {
  auto spec = supervisor_of({function_child("a", "sleep"), command_child("b", {"false"})});
  spec.intensity = 2;
  spec.period = 60s;
  auto tree = boot(spec);
  ASSERT_TRUE(tree);
  const auto ended = tree->run_until_end(20s);
  ASSERT_TRUE(ended) << ended.error().message;
  EXPECT_EQ(*ended, TreeEnd::kIntensitySpent);
  EXPECT_THAT(events_of(EventKind::kRestart, "b"), SizeIs(2));
  EXPECT_THAT(workers(), IsEmpty());
}

TEST_F(TreeTest, TellsTheExactEnd) {
  ChildSpec exits = shell_child("exits", "exit 42");
  ChildSpec signalled = shell_child("signalled", "kill -USR1 $$");
  ChildSpec dumps = function_child("dumps", "dump_core", directory_.string());
  for (ChildSpec* child : {&exits, &signalled, &dumps}) child->restart = RestartType::kTemporary;
  auto tree = boot(supervisor_of({exits, signalled, dumps}));
  ASSERT_TRUE(tree);
  ASSERT_TRUE(run_until(&*tree, [&] { return events_of(EventKind::kEnded).size() == 3; }));
  const auto status_of = [&](const std::string& path) {
    return *events_of(EventKind::kEnded, path).at(0).status;
  };
  EXPECT_EQ(status_of("exits").describe(), "exited with 42");
  EXPECT_EQ(status_of("signalled").describe(), "killed by SIGUSR1");
  ASSERT_TRUE(status_of("dumps").signalled());
  EXPECT_EQ(status_of("dumps").signal(), SIGABRT);
  // Whether the machine writes cores at all is not ours to say: the kernel's flag is passed on.
  rlimit limit{};
  ::getrlimit(RLIMIT_CORE, &limit);
  const std::string pattern = read_file("/proc/sys/kernel/core_pattern").value();
  if (limit.rlim_max != 0 && pattern == "core\n") {
    EXPECT_TRUE(status_of("dumps").dumped_core());
  }
}

// Its shim is gone: so is all of the child, which counts as killed, and gets another shim.
TEST_F(TreeTest, AChildWhoseShimIsKilledIsRestarted) {
  ChildSpec child = shell_child("a", "sleep 1001 & exec sleep 1002");
  child.crash_loop.count = 0;
  auto tree = boot(supervisor_of({child}));
  ASSERT_TRUE(tree);
  for (std::uint32_t i = 2; i < 6; ++i) {
    ASSERT_TRUE(run_until(&*tree, [&] { return workers().size() == 2; }));
    const auto number = next_number();
    ASSERT_THAT(tree->own_pids(), SizeIs(1));
    kill_process(tree->own_pids()[0]);
    ASSERT_TRUE(run_until(&*tree, [&] {
      const auto a = tree->logic().find("a");
      return a->incarnation == i && a->pid != 0;
    }));
    EXPECT_THAT(trace(number), ElementsAre("a ended: killed by SIGKILL", "a terminated",
                                           "a restart", "a initial", "a ready", "a running"));
  }
  end(&*tree);
}

// Nobody notices until it is needed.
TEST_F(TreeTest, AStoppedChildWhoseShimIsKilledCanBeStarted) {
  auto tree = boot(supervisor_of({function_child("a", "sleep")}));
  ASSERT_TRUE(tree);
  for (const bool noticed : {true, false}) {
    ASSERT_TRUE(tree->stop_child("a", 10s)->ok());
    kill_process(tree->own_pids().at(0));
    ASSERT_TRUE(eventually([&] { return marked().empty(); }));
    if (noticed) {
      ASSERT_TRUE(run_until(&*tree, [&] { return tree->own_pids().empty(); }));
    }
    const auto started = tree->restart_child("a", 10s);
    ASSERT_TRUE(started && started->ok()) << (started ? started->text : started.error().message);
    EXPECT_THAT(workers(), SizeIs(1));
  }
}

// ---- Orders ----

TEST_F(TreeTest, CarriesOutOrders) {
  auto tree = boot(supervisor_of({function_child("a", "sleep")}));
  ASSERT_TRUE(tree);
  auto started = tree->start_child("", function_child("b", "sleep"), 10s);
  ASSERT_TRUE(started) << started.error().message;
  EXPECT_TRUE(started->ok());
  EXPECT_GT(started->child.pid, 0);
  EXPECT_THAT(workers(), SizeIs(2));
  EXPECT_EQ(tree->start_child("", function_child("b", "sleep"), 10s)->refusal, Refusal::kRunning);
  EXPECT_EQ(tree->start_child("", function_child("c", "nobody"), 10s)->refusal, Refusal::kInvalid)
      << "no such function is registered";
  EXPECT_TRUE(tree->stop_child("b", 10s)->ok());
  EXPECT_THAT(workers(), SizeIs(1));
  EXPECT_TRUE(tree->restart_child("b", 10s)->ok());
  EXPECT_THAT(workers(), SizeIs(2));
  EXPECT_EQ(tree->delete_child("b", 10s)->refusal, Refusal::kRunning);
  EXPECT_TRUE(tree->stop_child("b", 10s)->ok());
  EXPECT_TRUE(tree->delete_child("b", 10s)->ok());
  EXPECT_THAT(tree->own_pids(), SizeIs(1));
  EXPECT_EQ(tree->stop_child("b", 10s)->refusal, Refusal::kNotFound);
  const auto failed = tree->start_child("", command_child("c", {"/no/such/program"}), 10s);
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->refusal, Refusal::kStartFailed);
  EXPECT_THAT(failed->text, HasSubstr("/no/such/program"));
}

TEST_F(TreeTest, AnOrderThatTakesTooLongIsCarriedOutLater) {
  ChildSpec stubborn = when_ready(function_child("a", "ignore_sigterm"));
  stubborn.stop = StopPolicy{.kind = StopPolicy::Kind::kTime, .time = 200ms};
  auto tree = boot(supervisor_of({stubborn}));
  ASSERT_TRUE(tree);
  const auto late = tree->stop_child("a", 10ms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::kTimeout);
  EXPECT_TRUE(run_until(&*tree, [&] { return workers().empty(); }));
}

TEST_F(TreeTest, KillsAChildThatIgnoresItsStop) {
  ChildSpec stubborn = when_ready(function_child("a", "ignore_sigterm"));
  stubborn.stop = StopPolicy{.kind = StopPolicy::Kind::kTime, .time = 200ms};
  auto tree = boot(supervisor_of({stubborn}));
  ASSERT_TRUE(tree);
  const auto number = next_number();
  const std::int64_t before = now_ns();
  end(&*tree);
  EXPECT_GE(now_ns() - before, 200'000'000);
  EXPECT_THAT(trace(number),
              ElementsAre("(root) order: shutdown", "a stop_timeout", "a ended: killed by SIGKILL",
                          "a terminated", ::testing::StartsWith("(root)")));
}

// ---- Readiness, heartbeats, deadlines ----

TEST_F(TreeTest, WaitsForTheLineOfAChild) {
  auto tree = boot(supervisor_of(
      {when_ready(shell_child("a", "printf rea >&3; sleep 0.2; echo dy >&3; sleep 1000")),
       command_child("b", {"sleep", "1000"})}));
  ASSERT_TRUE(tree);
  EXPECT_THAT(trace(),
              ElementsAre("(root) initial", "a initial", "a ready", "a running", "a says ready",
                          "b initial", "b ready", "(root) ready", "b running", "(root) running"));
  const auto ready = events_of(EventKind::kReady).at(0);
  EXPECT_GE(ready.time_ns - tree->logic().find("a")->started_ns, 190'000'000);
}

TEST_F(TreeTest, AChildThatClosesItsReadinessWithoutALineHasFailed) {
  const auto number = next_number();
  auto tree = SupervisionTree::start(
      supervisor_of({when_ready(shell_child("a", "printf almost >&3; exec 3>&-; sleep 1000"))}),
      options());
  ASSERT_FALSE(tree);
  EXPECT_THAT(trace(number),
              ElementsAre("(root) initial", "a initial", "a ready", "(root) ready", "a running",
                          "a start_failed", "a ended: killed by SIGKILL", "a terminated",
                          ::testing::StartsWith("(root)")));
}

TEST_F(TreeTest, AChildThatSaysNothingInTimeHasFailed) {
  auto tree = SupervisionTree::start(
      supervisor_of({when_ready(shell_child("a", "sleep 1000"), 100ms)}), options());
  ASSERT_FALSE(tree);
  EXPECT_THAT(events_of(EventKind::kStartFailed), SizeIs(1));
  EXPECT_THAT(workers(), IsEmpty());
}

// It says more than anybody wants to know, before its line and after it.
TEST_F(TreeTest, AFloodOfReadinessHarmsNobody) {
  auto tree = boot(supervisor_of(
      {when_ready(shell_child("a",
                              "head -c 1000000 /dev/zero >&3; echo >&3; echo more >&3; "
                              "sleep 1000"))}));
  ASSERT_TRUE(tree);
  EXPECT_THAT(events_of(EventKind::kReady), SizeIs(1));
  EXPECT_FALSE(run_until(
      &*tree, [&] { return !events_of(EventKind::kEnded).empty(); }, 100ms));
}

TEST_F(TreeTest, AFirstHeartbeatMakesReadyAndAMissedOneRestarts) {
  ChildSpec beats = function_child("a", "beat", "5");
  beats.ready = Readiness{.descriptor = std::nullopt, .timeout = 10s};
  beats.heartbeat = Heartbeat{.descriptor = 4, .interval = 100ms, .misses = 3};
  auto tree = boot(supervisor_of({beats}));
  ASSERT_TRUE(tree);
  EXPECT_THAT(trace(), ElementsAre("(root) initial", "a initial", "a ready", "(root) ready",
                                   "a running", "a says ready", "(root) running"));
  const auto number = next_number();
  ASSERT_TRUE(run_until(&*tree, [&] { return events_of(EventKind::kReady).size() == 2; }));
  EXPECT_THAT(trace(number),
              ElementsAre("a hang", "a ended: killed by SIGKILL", "a terminated", "a restart",
                          "a initial", "a ready", "a running", "a says ready"));
}

// More children than one wait looks at: all of them have spoken while nobody listened.
TEST_F(TreeTest, AfterAPauseOfOursNobodyIsLate) {
  std::vector<ChildSpec> children;
  for (int i = 0; i < 100; ++i) {
    ChildSpec child = function_child("c" + std::to_string(i), "beat", "1000000");
    child.heartbeat = Heartbeat{.descriptor = 4, .interval = 500ms, .misses = 3};
    children.push_back(child);
  }
  auto tree = boot(supervisor_of(children));
  ASSERT_TRUE(tree);
  for (int i = 0; i < 2; ++i) {
    std::this_thread::sleep_for(1700ms);
    ASSERT_TRUE(tree->run(0ns));
  }
  EXPECT_THAT(events_of(EventKind::kHang), IsEmpty());
  tree.reset();
  EXPECT_THAT(marked(), IsEmpty());
}

// A readiness that nobody reads any more, and a heartbeat without end, hold up no other child.
TEST_F(TreeTest, AFloodOfHeartbeatsHoldsUpNobody) {
  ChildSpec floods = shell_child("a", "exec cat /dev/zero >&4");
  floods.heartbeat = Heartbeat{};
  auto tree = boot(supervisor_of({floods, function_child("b", "sleep")}));
  ASSERT_TRUE(tree);
  for (std::uint32_t i = 2; i < 10; ++i) {
    kill_process(pid_of(*tree, "b"));
    ASSERT_TRUE(run_until(&*tree, [&] {
      const auto b = tree->logic().find("b");
      return b->incarnation == i && b->pid != 0;
    }));
  }
  end(&*tree);
}

TEST_F(TreeTest, AnIncarnationPastItsDeadlineHangs) {
  ChildSpec slow = shell_child("a", "sleep 1000");
  slow.deadline = 100ms;
  auto tree = boot(supervisor_of({slow}));
  ASSERT_TRUE(tree);
  const auto number = next_number();
  ASSERT_TRUE(run_until(&*tree, [&] { return tree->logic().find("a")->incarnation == 2; }));
  const auto seen = trace(number);
  EXPECT_THAT(std::vector<std::string>(seen.begin(), seen.begin() + 4),
              ElementsAre("a hang", "a ended: killed by SIGKILL", "a terminated", "a restart"));
}

// ---- What a child is given ----

TEST_F(TreeTest, AFunctionGetsItsArgumentByteByByte) {
  std::string argument(3'000'000, '\0');
  for (std::size_t i = 0; i < argument.size(); ++i) {
    argument[i] = static_cast<char>(i * 2654435761u >> 13);
  }
  for (const std::string& sent : {std::string(), std::string("\0\n\xff", 3), argument}) {
    ChildPipe pipe;
    ChildSpec child = function_child("a", "echo", sent);
    child.restart = RestartType::kTransient;
    pipe.give_to(&child, kTestFd);
    auto tree = boot(supervisor_of({child}));
    ASSERT_TRUE(tree);
    std::string received;
    ASSERT_TRUE(run_until(&*tree, [&] {
      pipe.drain(&received);
      return !events_of(EventKind::kEnded).empty();
    }));
    pipe.drain(&received);
    EXPECT_EQ(received.size(), sent.size());
    EXPECT_TRUE(received == sent);
    EXPECT_TRUE(events_of(EventKind::kEnded).at(0).status->success());
    events_.clear();
  }
}

TEST_F(TreeTest, AChildGetsItsDescriptorsAndNoOthers) {
  const UniqueFd stray(::dup(STDERR_FILENO));  // Not close-on-exec.
  ChildPipe pipe;
  ChildSpec child = function_child("a", "describe");
  child.environment["CRASHWORTHY_FUNCTION"] = "not for long";
  child.environment["CRASHWORTHY_OF_CHILD"] = "x=y";
  pipe.give_to(&child, kTestFd);
  const std::string expected[2] = {"0 1 2 7 /dev/null CRASHWORTHY_OF_CHILD=x=y\n",
                                   "0 1 2 3 4 7 /dev/null CRASHWORTHY_HEARTBEAT_FD=4 "
                                   "CRASHWORTHY_OF_CHILD=x=y CRASHWORTHY_READY_FD=3\n"};
  for (const std::string& wanted : expected) {
    auto created = SupervisionTree::create(supervisor_of({child}), options());
    ASSERT_TRUE(created) << created.error().message;
    SupervisionTree* tree = &*created;
    std::string text;
    const auto is_there = [&] {
      pipe.drain(&text);
      const auto info = tree->logic().find("a");
      return text.ends_with('\n') && info && info->pid != 0;
    };
    ASSERT_TRUE(run_until(tree, is_there));
    EXPECT_EQ(text, wanted);
    // An incarnation later it is the same.
    text.clear();
    kill_process(pid_of(*tree, "a"));
    ASSERT_TRUE(run_until(tree, is_there));
    EXPECT_EQ(text, wanted);
    child.ready = Readiness{.descriptor = 3, .timeout = 100s};
    child.heartbeat = Heartbeat{.descriptor = 4, .interval = 100s, .misses = 1};
  }
}

TEST_F(TreeTest, AChildRunsInItsDirectoryWithItsEnvironment) {
  ChildPipe pipe;
  ChildSpec child = shell_child("a", "echo \"$PWD $GREETING\" >&7; sleep 1000");
  child.directory = directory_;
  child.environment["GREETING"] = "hello";
  pipe.give_to(&child, kTestFd);
  auto tree = boot(supervisor_of({child}));
  ASSERT_TRUE(tree);
  std::string text;
  ASSERT_TRUE(run_until(&*tree, [&] {
    pipe.drain(&text);
    return text.ends_with('\n');
  }));
  EXPECT_EQ(text, std::filesystem::canonical(directory_).string() + " hello\n");
}

}  // namespace
}  // namespace crashworthy

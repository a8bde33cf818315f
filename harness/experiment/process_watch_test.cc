// Process events of a real tree: every descendant, grandchildren that die of signals too, with what
// the kernel says of their ends; by the connector, and by looks.
#include "harness/experiment/process_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <csignal>
#include <thread>

#include "harness/os/clock.h"
#include "harness/process/launcher.h"

namespace crashworthy {
namespace {

using std::chrono::milliseconds;
using ::testing::Contains;

class Processes : public ::testing::TestWithParam<ProcessSource> {
 protected:
  void SetUp() override {
    auto watch = ProcessWatch::create(GetParam());
    if (!watch && watch.error().kind == ErrorKind::kMissing) GTEST_SKIP() << watch.error().message;
    ASSERT_TRUE(watch);
    watch_.emplace(*std::move(watch));
  }

  // Runs it to its end, as a trial does.
  void run(const std::string& script) {
    LaunchSpec spec;
    spec.argv = {"bash", "-c", script};
    spec.environment = {"PATH=/usr/bin:/bin"};
    const std::int64_t launched_ns = now_ns();
    auto subject = Subject::launch(spec);
    ASSERT_TRUE(subject) << subject.error().message;
    main_ = subject->main_pid();
    watch_->begin(main_, launched_ns);
    const std::int64_t deadline = now_ns() + 20'000'000'000;
    for (bool over = false; !over && now_ns() < deadline;) {
      pollfd fds[] = {{subject->report_fd(), POLLIN, 0}, {watch_->fd(), POLLIN, 0}};
      ::poll(fds, 2, 20);
      watch_->update(subject->descendants());
      const auto reports = subject->read_reports();
      ASSERT_TRUE(reports);
      for (const Report& report : *reports) {
        over = over || report.kind == Report::Kind::kChildless;
        if (report.kind != Report::Kind::kChildless)
          watch_->add_orphan(report.host_pid, report.pid, report.status, report.time_ns);
      }
    }
    subject->kill_tree();
    EXPECT_TRUE(subject->wait_until_gone(milliseconds(10'000)));
    watch_->update({});
  }
  // How the descendants ended: "exited with 3", "killed by SIGABRT", "not known", "did not end".
  std::vector<std::string> ends() const {
    std::vector<std::string> ends;
    for (const SeenProcess& process : watch_->all()) {
      if (process.host_pid == main_) continue;
      ends.push_back(!process.ended_ns ? "did not end"
                     : process.status  ? process.status->describe()
                                       : "not known");
    }
    std::sort(ends.begin(), ends.end());
    return ends;
  }
  const SeenProcess* ended_with(const std::string& text) const {
    for (const SeenProcess& process : watch_->all()) {
      if (process.status && process.status->describe() == text) return &process;
    }
    return nullptr;
  }

  std::optional<ProcessWatch> watch_;
  pid_t main_ = 0;
};

// The main process swallows it all.
constexpr const char* kTree =
    "bash -c 'bash -c \"sleep 0.3; kill -ABRT \\$\\$\"; bash -c \"sleep 0.3; exit 7\"; exit 3'\n"
    "(sleep 0.3; kill -KILL $BASHPID)\n"
    "exit 0\n";

TEST_P(Processes, GrandchildrenThatDieOfSignalsAreSeenWithTheirSignal) {
  run(kTree);
  const auto all = ends();
  for (const char* end : {"exited with 3", "exited with 7"}) EXPECT_THAT(all, Contains(end));
  // Core dumps are a matter of the limits here, not of the signal.
  const auto died_of = [&](int signal) {
    return std::count_if(watch_->all().begin(), watch_->all().end(), [&](const auto& process) {
      return process.status && process.status->signalled() && process.status->signal() == signal;
    });
  };
  EXPECT_EQ(died_of(SIGABRT), 1);
  EXPECT_EQ(died_of(SIGKILL), 1);
  EXPECT_EQ(std::count(all.begin(), all.end(), "did not end"), 0);
  const SeenProcess* child = ended_with("exited with 3");
  const SeenProcess* grandchild = ended_with("exited with 7");
  ASSERT_TRUE(child && grandchild);
  EXPECT_EQ(child->parent, main_);
  EXPECT_EQ(grandchild->parent, child->host_pid);
  EXPECT_EQ(child->command, "bash");
  EXPECT_GT(child->pid, 0);
  ASSERT_TRUE(child->started_ns && grandchild->started_ns);
  EXPECT_LT(*child->started_ns, *grandchild->started_ns);
  EXPECT_GE(*grandchild->ended_ns - *grandchild->started_ns, 250'000'000);
  EXPECT_LE(*grandchild->ended_ns, *child->ended_ns);
  EXPECT_FALSE(watch_->overflowed());
}

TEST_P(Processes, OrphansAreTold) {
  run("(sleep 0.3; exit 5) & disown; exit 0");
  const SeenProcess* orphan = ended_with("exited with 5");
  ASSERT_TRUE(orphan);
  EXPECT_TRUE(orphan->orphan);
}

TEST_P(Processes, OfOthersNothingIsKept) {
  const auto stranger = [] { EXPECT_EQ(std::system("true; false; true"), 0); };
  std::thread noise([&] {
    for (int i = 0; i < 20; ++i) stranger();
  });
  run("sleep 0.2 & wait");
  noise.join();
  EXPECT_EQ(watch_->all().size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Sources, Processes,
                         ::testing::Values(ProcessSource::kConnector, ProcessSource::kLooks),
                         [](const auto& test) {
                           return test.param == ProcessSource::kConnector ? "Connector" : "Looks";
                         });

// What lives shorter than any look: only the connector sees it, and does not miss one.
TEST(ProcessConnector, MissesNone) {
  auto watch = ProcessWatch::create(ProcessSource::kConnector);
  if (!watch) GTEST_SKIP() << watch.error().message;
  LaunchSpec spec;
  spec.argv = {"bash", "-c", "for i in $(seq 200); do (exit $((i % 7))); done"};
  spec.environment = {"PATH=/usr/bin:/bin"};
  const std::int64_t launched_ns = now_ns();
  auto subject = Subject::launch(spec);
  ASSERT_TRUE(subject);
  watch->begin(subject->main_pid(), launched_ns);
  EXPECT_TRUE(subject->wait_until_gone(milliseconds(20'000)));
  watch->update({});
  EXPECT_FALSE(watch->overflowed());
  std::int64_t seen = 0;
  std::int64_t sum = 0;
  for (const SeenProcess& process : watch->all()) {
    if (process.parent != subject->main_pid() || !process.status) continue;
    ++seen;
    sum += process.status->exit_code();
  }
  EXPECT_EQ(seen, 201);  // And seq.
  std::int64_t wanted = 0;
  for (int i = 1; i <= 200; ++i) wanted += i % 7;
  EXPECT_EQ(sum, wanted);
}

}  // namespace
}  // namespace crashworthy

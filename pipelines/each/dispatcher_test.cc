// The dispatcher with real processes: commands that fail, crash, hang and are killed, and workers
// that break the protocol, supervised and bare.
#include "pipelines/each/dispatcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/process/process_tree.h"

namespace crashworthy::each {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

// Within three seconds; whether its parent reaps it is not our affair.
bool ends(pid_t pid) {
  const auto lives = [pid] {
    const auto state = read_process_state(pid);
    return state && state->live;
  };
  for (int i = 0; i < 300 && lives(); ++i) ::usleep(10'000);
  return !lives();
}

class Each : public ::testing::Test {
 protected:
  Each() {
    std::string pattern = (fs::temp_directory_path() / "each-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
    ring_ = std::move(*ProbeRing::create(4096));
    for (int i = 0; i < 6; ++i) add("item" + std::to_string(i), "content " + std::to_string(i));
    settings_.supervised = true;
    settings_.deadline = 10s;
  }
  ~Each() override {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }

  void add(const std::string& name, const std::string& content) {
    const fs::path input = directory_ / name;
    std::ofstream(input) << content;
    items_.push_back({input.string(), input.string() + ".out"});
  }
  std::string file(const char* name) { return (directory_ / name).string(); }

  // `script` is of sh; `$1` and `$2` are the paths of the item and of its output.
  Summary run(const std::string& script) {
    settings_.command = {"sh", "-c", script, "sh", "{}", "{out}"};
    return run();
  }
  Summary run_workers(const std::string& script) {
    settings_.lines = true;
    settings_.command = {"sh", "-c", script};
    return run();
  }
  Summary run() {
    Dispatcher dispatcher(settings_, items_, ring_->probe());
    ::testing::internal::CaptureStderr();
    result_ = dispatcher.run(-1);
    log_ = ::testing::internal::GetCapturedStderr();
    ring_->drain(records_, true);
    return dispatcher.summary();
  }

  std::size_t right() const {
    std::size_t count = 0;
    for (const Item& item : items_) {
      const auto in = read_file(item.input);
      const auto out = read_file(item.output);
      count += out && *out == *in;
    }
    return count;
  }
  std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(directory_), fs::directory_iterator()));
  }
  std::vector<ProbeRecord> all(ProbeEvent event) const {
    std::vector<ProbeRecord> found;
    for (const ProbeRecord& record : records_) {
      if (record.event == static_cast<std::uint16_t>(event)) found.push_back(record);
    }
    return found;
  }

  fs::path directory_;
  Settings settings_;
  std::vector<Item> items_;
  std::optional<ProbeRing> ring_;
  std::vector<ProbeRecord> records_;
  Result<void> result_;
  std::string log_;
};

// ---- Commands ----

TEST_F(Each, RunsTheCommandForEachItem) {
  const Summary summary = run(R"(cp "$1" "$2")");
  EXPECT_EQ(summary.delivered, 6u) << log_;
  EXPECT_EQ(right(), 6u);
  EXPECT_EQ(files(), 12u) << "no temporary file is left";
  EXPECT_EQ(all(ProbeEvent::kTaken).size(), 6u);
  EXPECT_EQ(all(ProbeEvent::kWorkerReady).size(), 6u);
  EXPECT_EQ(all(ProbeEvent::kStarted).size(), 6u);
  EXPECT_EQ(all(ProbeEvent::kDelivered).size(), 6u);
  EXPECT_TRUE(all(ProbeEvent::kWorkerDied).empty());
  EXPECT_TRUE(all(ProbeEvent::kReplacement).empty());
}

TEST_F(Each, RunsNoMoreThanItsWorkersAtOnce) {
  settings_.workers = 3;
  run(R"(sleep 0.05; cp "$1" "$2")");
  std::map<std::uint32_t, int> busy;
  std::size_t most = 0;
  for (const ProbeRecord& record : records_) {
    if (record.event == static_cast<std::uint16_t>(ProbeEvent::kStarted)) ++busy[record.worker];
    if (record.event == static_cast<std::uint16_t>(ProbeEvent::kDone)) busy.erase(record.worker);
    for (const auto& [worker, count] : busy) EXPECT_EQ(count, 1) << worker;
    most = std::max(most, busy.size());
  }
  EXPECT_EQ(most, 3u);
}

TEST_F(Each, GivesAnItemOutAgainWhenItsCommandWasKilled) {
  const Summary summary = run(
      R"(case $1 in *item2) [ -e "$1.once" ] || { : > "$1.once"; echo half > "$2"; kill -9 $$; };; esac
    cp "$1" "$2")");
  EXPECT_EQ(summary.delivered, 6u) << log_;
  EXPECT_EQ(right(), 6u);
  ASSERT_EQ(all(ProbeEvent::kWorkerDied).size(), 1u);
  const ProbeRecord died = all(ProbeEvent::kWorkerDied)[0];
  EXPECT_EQ(died.item, 2u);
  EXPECT_EQ(WaitStatus::from_raw(static_cast<int>(died.value)).describe(), "killed by SIGKILL");
  ASSERT_EQ(all(ProbeEvent::kReplacement).size(), 1u);
  EXPECT_EQ(all(ProbeEvent::kReplacement)[0].worker, died.worker);
  EXPECT_EQ(all(ProbeEvent::kReplacement)[0].incarnation, died.incarnation + 1);
  EXPECT_EQ(all(ProbeEvent::kStarted).size(), 7u);
}

TEST_F(Each, BareLosesExactlyWhatWasKilled) {
  settings_.supervised = false;
  const Summary summary = run(R"(case $1 in *item2) kill -9 $$;; esac; cp "$1" "$2")");
  EXPECT_EQ(summary.delivered, 5u);
  EXPECT_EQ(summary.lost, 1u);
  EXPECT_TRUE(all(ProbeEvent::kFailed).empty());
  EXPECT_THAT(log_, HasSubstr("item2): lost: its command was killed by SIGKILL"));
}

TEST_F(Each, QuarantinesAnItemWhoseCommandCrashesTwice) {
  const Summary summary = run(R"(case $1 in *item3) kill -ABRT $$;; esac; cp "$1" "$2")");
  EXPECT_EQ(summary.delivered, 5u);
  EXPECT_EQ(summary.failed, 1u);
  EXPECT_EQ(all(ProbeEvent::kWorkerDied).size(), 2u);
  ASSERT_EQ(all(ProbeEvent::kFailed).size(), 1u);
  EXPECT_EQ(all(ProbeEvent::kFailed)[0].item, 3u);
  EXPECT_EQ(all(ProbeEvent::kFailed)[0].value, static_cast<std::int64_t>(FailureReason::kPoison));
}

TEST_F(Each, GivesUpAnItemWhoseCommandSaysSoThreeTimes) {
  const Summary summary = run(R"(case $1 in *item3) exit 7;; esac; cp "$1" "$2")");
  EXPECT_EQ(summary.delivered, 5u);
  EXPECT_EQ(summary.failed, 1u);
  EXPECT_EQ(all(ProbeEvent::kStarted).size(), 8u);
  EXPECT_THAT(log_, HasSubstr("failed (reported): its command exited with 7"));
}

TEST_F(Each, KillsWhatTakesTooLongWithAllThatItStarted) {
  settings_.deadline = 300ms;
  const std::int64_t start = now_ns();
  const Summary summary = run(
      R"(case $1 in *item1) [ -e "$1.once" ] || { : > "$1.once"; sleep 60 & echo $! > "$1.pid"; wait; };; esac
    cp "$1" "$2")");
  EXPECT_EQ(summary.delivered, 6u) << log_;
  EXPECT_LT(now_ns() - start, 10'000'000'000);
  EXPECT_THAT(log_, HasSubstr("it took longer than the deadline of 300 ms; it is given out again"));
  const pid_t sleeper = std::stoi(*read_file(items_[1].input + ".pid"));
  EXPECT_TRUE(ends(sleeper)) << "what the command had started is gone, too";
}

TEST_F(Each, ACommandGetsAnEmptyStdinAndNoProbe) {
  ::setenv("CRASHWORTHY_PROBE", "900,901", 1);
  Probe::hide_from_programs();
  const Summary summary = run(
      R"(cat > "$2"; [ -s "$2" ] && exit 1; [ -n "$CRASHWORTHY_PROBE" ] && exit 1; cp "$1" "$2")");
  EXPECT_EQ(summary.delivered, 6u) << log_;
}

TEST_F(Each, GivesUpWhenTooManyDieFromOutside) {
  settings_.intensity = 3;
  const Summary summary = run("kill -9 $$");
  ASSERT_FALSE(result_);
  EXPECT_THAT(result_.error().message, HasSubstr("more than 3 deaths within"));
  EXPECT_EQ(summary.delivered, 0u);
  EXPECT_EQ(files(), 6u) << "nothing half done is left";
}

TEST_F(Each, AProgramThatIsGoneIsAnItemsFailure) {
  settings_.supervised = false;
  settings_.command = {file("no-such-program"), "{}", "{out}"};
  const Summary summary = run();
  EXPECT_EQ(summary.failed, 6u);
  EXPECT_THAT(log_, HasSubstr("No such file"));
}

// ---- Workers ----

// Paths of the tests need no decoding.
constexpr const char* kWorker = R"(
  echo ready
  while read -r word id attempt in out; do
    echo started $id
    BREAK
    cp "$in" "$out"
    echo done $id
  done)";

std::string worker(const std::string& what) {
  std::string script = kWorker;
  return script.replace(script.find("BREAK"), 5, what);
}
// Does `what` at item 2, the first time.
std::string once(const std::string& what) {
  return worker("if [ $id = 2 ] && [ ! -e \"$in.once\" ]; then : > \"$in.once\"; " + what + "; fi");
}

TEST_F(Each, WorkersStayForManyItems) {
  const Summary summary = run_workers(worker(":"));
  EXPECT_EQ(summary.delivered, 6u) << log_;
  EXPECT_EQ(right(), 6u);
  EXPECT_EQ(all(ProbeEvent::kWorkerReady).size(), 2u);
  EXPECT_EQ(all(ProbeEvent::kStarted).size(), 6u);
  EXPECT_TRUE(all(ProbeEvent::kWorkerDied).empty()) << "they end as told";
}

struct BrokenWorker {
  const char* name;
  const char* what;  // It does at item 2.
  const char* says;  // In the log.
};
class BrokenWorkers : public Each, public ::testing::WithParamInterface<BrokenWorker> {};

TEST_P(BrokenWorkers, AreReplacedAndTheirItemIsDoneAgain) {
  settings_.heartbeat = 500ms;
  const Summary summary = run_workers(once(GetParam().what));
  EXPECT_EQ(summary.delivered, 6u) << log_;
  EXPECT_EQ(right(), 6u);
  EXPECT_THAT(log_, HasSubstr(GetParam().says));
  ASSERT_EQ(all(ProbeEvent::kWorkerDied).size(), 1u);
  EXPECT_EQ(all(ProbeEvent::kWorkerDied)[0].item, 2u);
  EXPECT_EQ(all(ProbeEvent::kReplacement).size(), 1u);
}

TEST_P(BrokenWorkers, CostTheBareArmThatItem) {
  if (std::string(GetParam().name) == "Silent") GTEST_SKIP() << "nobody would end it";
  settings_.supervised = false;
  const Summary summary = run_workers(once(GetParam().what));
  EXPECT_EQ(summary.delivered, 5u) << log_;
  EXPECT_EQ(summary.lost, 1u);
  EXPECT_THAT(log_, HasSubstr(GetParam().says));
  EXPECT_TRUE(all(ProbeEvent::kReplacement).empty());
}

INSTANTIATE_TEST_SUITE_P(
    All, BrokenWorkers,
    ::testing::Values(
        BrokenWorker{"Killed", "kill -9 $$", "its worker was killed by SIGKILL"},
        BrokenWorker{"Aborts", "kill -ABRT $$", "its worker was killed by SIGABRT"},
        BrokenWorker{"Exits", "exit 0", "its worker exited with 0"},
        BrokenWorker{"Silent", "kill -STOP $$", "it gave no sign of life for 500 ms"},
        BrokenWorker{"Malformed", "echo what", "a line that makes no sense: 'what'"},
        BrokenWorker{"TooLong", "head -c 5000 /dev/zero | tr '\\0' x", "more than 4096 bytes"},
        BrokenWorker{"AnothersItem", "echo done 4", "of an item that it does not hold"},
        BrokenWorker{"StartsTwice", "echo started 2", "twice that it had started"},
        BrokenWorker{"ReadyTwice", "echo ready", "twice that it was ready"},
        BrokenWorker{"ClosesItsStdout", "exec 1>&-; sleep 30", "has closed its stdout"}),
    [](const auto& test) { return test.param.name; });

TEST_F(Each, AWorkerThatGetsOnIsNotSilent) {
  settings_.heartbeat = 400ms;
  const Summary summary = run_workers(
      worker("[ $id = 2 ] && for i in 1 2 3 4 5 6 7 8; do sleep 0.1; echo heartbeat; done"));
  EXPECT_EQ(summary.delivered, 6u) << log_;
  EXPECT_TRUE(all(ProbeEvent::kWorkerDied).empty());
}

TEST_F(Each, WhatAWorkerSaysHasFailedIsTriedAgain) {
  const Summary summary =
      run_workers(worker("[ $id = 2 ] && { echo failed $id no such colour; continue; }"));
  EXPECT_EQ(summary.delivered, 5u) << log_;
  EXPECT_EQ(summary.failed, 1u);
  EXPECT_THAT(log_, HasSubstr("failed (reported): its worker said: no such colour"));
  EXPECT_TRUE(all(ProbeEvent::kWorkerDied).empty());
}

// The second death is in a process that had executed nothing before, with the other one idle and
// used: nobody else's doing.
TEST_F(Each, QuarantinesAnItemThatCrashesAWorkerTwice) {
  const Summary summary = run_workers(worker("[ $id = 5 ] && kill -SEGV $$"));
  EXPECT_EQ(summary.delivered, 5u) << log_;
  EXPECT_EQ(all(ProbeEvent::kFailed).at(0).value,
            static_cast<std::int64_t>(FailureReason::kPoison));
  EXPECT_EQ(all(ProbeEvent::kWorkerDied).size(), 2u);
}

TEST_F(Each, GivesUpWorkersThatAreNeverReady) {
  run_workers("exit 3");
  ASSERT_FALSE(result_);
  EXPECT_THAT(result_.error().message, HasSubstr("10 times in a row before they were ready"));
  EXPECT_THAT(result_.error().message, HasSubstr("exited with 3"));
}

TEST_F(Each, BareWithoutAWorkerLosesTheRest) {
  settings_.supervised = false;
  const Summary summary = run_workers("exit 3");
  EXPECT_TRUE(result_);
  EXPECT_EQ(summary.lost, 6u);
}

// ---- The end ----

// As a process of its own that is killed: its commands die with it.
TEST_F(Each, ItsProcessesDieWithIt) {
  settings_.command = {"sh", "-c", "echo $$ >> \"$1.pid\"; exec sleep 60", "sh", "{}", "{out}"};
  const pid_t pid = ::fork();
  if (pid == 0) {
    Dispatcher dispatcher(settings_, items_, {});
    (void)dispatcher.run(-1);
    ::_exit(0);
  }
  const auto pid_file = [&](int i) {
    const auto text = read_file(items_[static_cast<std::size_t>(i)].input + ".pid");
    return text && text->ends_with('\n') ? std::stoi(*text) : 0;
  };
  for (int i = 0; i < 500 && (pid_file(0) == 0 || pid_file(1) == 0); ++i) ::usleep(10'000);
  ASSERT_NE(pid_file(0), 0);
  ASSERT_NE(pid_file(1), 0);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(ends(pid_file(i)));
  }
}

}  // namespace
}  // namespace crashworthy::each

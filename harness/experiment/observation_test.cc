// Whole trials of planted subjects: what is seen of them from outside (who wrote, who was born and
// died, what orphans delivered) and what is concluded: hang, slow, stopped, first effect, quiet.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "harness/experiment/observer.h"
#include "harness/experiment/process_watch.h"
#include "harness/experiment/runner.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr double kMs = 1e6;

class Observed : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "crashworthy-observed-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(root_); }

  // One block of `script` without and with `fault`; false when the run failed.
  bool run(const std::string& script, const json& fault, const json& settings = json::object()) {
    json document{{"experiment", "observed"},
                  {"subject", {{"command", {"bash", "-c", script}}}},
                  {"blocks", 1}};
    if (!fault.is_null()) document["faults"] = json::array({fault});
    document.update(settings);
    auto experiment = parse_experiment(document, root_);
    EXPECT_TRUE(experiment) << experiment.error().message;
    if (!experiment) return false;
    RunOptions options;
    options.out = root_ / "run";
    options.seed = 1;
    options.progress = false;
    auto result = run_experiment(*experiment, document.dump(), options);
    EXPECT_TRUE(result) << result.error().message;
    if (!result) return false;
    summary_ = result->run.summary;
    for (const TrialResult& trial : result->run.trials) {
      if (trial.fault != (fault.is_null() ? "none" : fault["name"].get<std::string>())) continue;
      trial_ = trial;
      auto history = read_history(trial.directory);
      EXPECT_TRUE(history);
      if (history) history_.emplace(*std::move(history));
    }
    return history_.has_value();
  }
  const json& end() const { return history_->events.back(); }
  const CellSummary& cell() const { return *summary_.cell("bare", trial_.fault); }
  const Sample& measure(const char* name) const { return trial_.measures.at(name); }
  // Births and writers are known here, and nobody has asked for less.
  bool exact() const {
    const auto processes = ProcessWatch::create();
    const auto outputs = OutputObserver::create(root_);
    return processes && outputs && std::string(processes->source()) == "connector" &&
           std::string(outputs->source()) == "fanotify";
  }

  fs::path root_;
  Summary summary_;
  TrialResult trial_;
  std::optional<TrialHistory> history_;
};

// Moments are told by outputs: how long a shell takes to start is anybody's guess.
json fault_of(const char* fault, const json& victim, const char* event = "first_output") {
  return {{"name", "f"}, {"fault", fault}, {"victim", victim}, {"when", {{"event", event}}}};
}

// Its main process waits for ever for what the dead one was to say.
TEST_F(Observed, AHangIsEndedWhenItIsCertain) {
  ASSERT_TRUE(run("mkfifo p; (sleep 0.5; echo x > p) & echo 1 > a; read x < p; rm p; echo y > out",
                  fault_of("process.kill", {{"child", 2}}),
                  {{"hang_after", "2s"}, {"timeout", "60s"}}));
  ASSERT_EQ(trial_.injection, InjectionOutcome::kConfirmed) << trial_.injection_reason;
  EXPECT_EQ(trial_.stall, "hang") << end().dump();
  EXPECT_THAT(end()["ended"].get<std::string>(), HasSubstr("hung: neither output nor"));
  EXPECT_LT(history_->events.back()["time_ns"].get<std::int64_t>() - trial_.stamps.launched,
            30'000'000'000);
  EXPECT_EQ(cell().items.of(ItemClass::kUnfinished), 1);
  EXPECT_EQ(cell().items.of(ItemClass::kOk), 1);
  EXPECT_EQ(cell().stalls, (std::map<std::string, int>{{"hang", 1}}));
  EXPECT_TRUE(measure("first_effect").value);
  EXPECT_TRUE(measure("next_good").censored);
  EXPECT_FALSE(measure("quiesced").value);
}

TEST_F(Observed, OneThatWorksOnIsSlow) {
  ASSERT_TRUE(run("(sleep 0.5) & echo 1 > a; wait $! || while :; do :; done; echo y > out",
                  fault_of("process.kill", {{"child", 2}}),
                  {{"hang_after", "1s"}, {"timeout", "4s"}}));
  EXPECT_EQ(trial_.stall, "slow") << end().dump();
  EXPECT_GT(end()["stall"]["cpu_ns"].get<std::int64_t>(), 500'000'000);
  EXPECT_THAT(end()["ended"].get<std::string>(), HasSubstr("did not end within"));
}

TEST_F(Observed, OneThatIsStoppedIsCalledSo) {
  json stop = fault_of("process.signal", {{"role", "main"}});
  stop["set"] = {{"signal", "SIGSTOP"}};
  ASSERT_TRUE(
      run("echo 1 > a; sleep 0.5; echo y > out", stop, {{"hang_after", "2s"}, {"timeout", "60s"}}));
  EXPECT_EQ(trial_.stall, "stopped") << end().dump();
  EXPECT_THAT(end()["ended"].get<std::string>(), HasSubstr("was stopped"));
}

TEST_F(Observed, OneThatEndsHasNoStall) {
  ASSERT_TRUE(run("sleep 0.1; echo y > out", nullptr));
  EXPECT_TRUE(end()["stall"].is_null());
  EXPECT_EQ(trial_.stall, "");
  EXPECT_EQ(end()["orphans"], 0);
  EXPECT_EQ(end()["late_publications"], 0);
  EXPECT_TRUE(measure("quiesced").value) << measure("quiesced").reason;
}

// The main process dies, what it has started goes on.
TEST_F(Observed, OrphansMayFinishTheirWork) {
  ASSERT_TRUE(run("for i in 5 7 9; do (sleep 0.$i; echo $i > o$i) & done; echo 1 > a; wait",
                  fault_of("process.kill", {{"role", "main"}})));
  EXPECT_EQ(trial_.items.of(ItemClass::kOk), 4);
  EXPECT_GE(end()["orphans"].get<int>(), 3);
  EXPECT_EQ(trial_.late_publications, 3);
  EXPECT_EQ(cell().late_publications, 3);
  ASSERT_TRUE(measure("quiesced").value) << measure("quiesced").reason;
  EXPECT_GT(*measure("quiesced").value, 300 * kMs);
  EXPECT_LT(*measure("quiesced").value, 5000 * kMs);
}

TEST_F(Observed, NotLongerThanTheyAreGiven) {
  ASSERT_TRUE(run("(sleep 0.3; echo y > out) & while :; do :; done & echo 1 > a; sleep 1; kill $!",
                  fault_of("process.kill", {{"role", "main"}}), {{"linger", "1s"}}));
  EXPECT_EQ(trial_.items.of(ItemClass::kOk), 2);
  ASSERT_TRUE(end()["quiesced_ns"].is_null()) << end().dump();
  EXPECT_THAT(end()["quiesced_reason"].get<std::string>(), HasSubstr("went on"));
  EXPECT_TRUE(measure("quiesced").censored);
}

TEST_F(Observed, IdleOrphansAreNotWaitedFor) {
  ASSERT_TRUE(run("sleep 100 & disown; echo y > out", nullptr, {{"linger", "60s"}}));
  EXPECT_THAT(end()["quiesced_reason"].get<std::string>(), HasSubstr("idle"));
  EXPECT_EQ(end()["orphans"], 1);
}

// A new process for each item: the one after the victim's delivers the first good output.
TEST_F(Observed, TheFirstGoodOutputOfAYoungerProcessIsSeenFromOutside) {
  ASSERT_TRUE(run("for i in 1 2 3 4 5 6; do bash -c \"sleep 0.1; echo $i > o$i\"; done; true",
                  fault_of("process.kill", {{"child", 2}}, "first_output+40ms")));
  ASSERT_EQ(trial_.injection, InjectionOutcome::kConfirmed) << trial_.injection_reason;
  EXPECT_EQ(trial_.items.of(ItemClass::kLost), 1);
  if (!exact()) {
    EXPECT_FALSE(measure("first_good").value);
    EXPECT_FALSE(measure("first_good").reason.empty());
    return;
  }
  // By looks the victim may have come and gone unseen.
  ASSERT_TRUE(measure("first_effect").value) << measure("first_effect").reason;
  EXPECT_LT(*measure("first_effect").value, 100 * kMs);
  ASSERT_TRUE(measure("next_good").value);
  ASSERT_TRUE(measure("first_good").value) << measure("first_good").reason;
  EXPECT_TRUE(measure("first_good").outside);
  EXPECT_GE(*measure("first_good").value, 100 * kMs);
  EXPECT_EQ(cell().measures.at("first_good").outside, 1);
  // Each publication has its writer, as we and as the subject know it.
  for (const ItemRecord& record : history_->items) {
    if (record.kind() != ItemEvent::kPublished) continue;
    EXPECT_GT(record.value, 0);
    EXPECT_GT(record.pid, 0);
  }
}

TEST_F(Observed, BirthsAndEndsAreInTheHistory) {
  ASSERT_TRUE(run("bash -c 'sleep 0.3; kill -SEGV $$'; bash -c 'sleep 0.3; exit 7'; echo y > out",
                  nullptr));
  std::vector<std::string> ends;
  for (const json& event : history_->events) {
    if (event["type"] != "process" || event.value("role", "") == "main") continue;
    if (event["event"] != "ended" || !event["status"].is_object()) continue;
    EXPECT_TRUE(event["host_pid"].is_number_integer());
    if (!event["status"]["signal"].is_null())
      ends.push_back("signal " + event["status"]["signal"].dump());
    if (event["status"]["exit_code"] != 0 && !event["status"]["exit_code"].is_null())
      ends.push_back("exit " + event["status"]["exit_code"].dump());
  }
  EXPECT_THAT(ends, ::testing::UnorderedElementsAre("signal 11", "exit 7"));
}

}  // namespace
}  // namespace crashworthy

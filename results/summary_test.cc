// Measures, expectations and verdicts from histories whose truth is known, each with its planted
// opposite.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "results/expectation.h"
#include "results/measures.h"
#include "results/run.h"

namespace crashworthy {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr std::int64_t kMs = 1'000'000;

// A trial of four items, one every 10 ms; a fault at 25 ms; the worker's replacement delivers item
// 2 at 45 ms.
struct History {
  TrialHistory history;
  History(const std::string& arm, const std::string& fault, int block, int number) {
    add({{"type", "trial"},
         {"time_ns", 0},
         {"trial", number},
         {"block", block},
         {"arm", arm},
         {"fault", fault},
         {"items", 4},
         {"deliverable", 4}});
    add({{"type", "process"}, {"event", "launched"}, {"role", "main"}, {"time_ns", 0}});
  }
  void add(json event) { history.events.push_back(std::move(event)); }
  void item(ItemEvent event, std::int64_t time_ms, std::uint64_t item, std::int64_t value = 0,
            std::uint32_t incarnation = 1, std::int32_t pid = 5) {
    ItemRecord record;
    record.time_ns = time_ms * kMs;
    record.item = item;
    record.value = value;
    record.event = static_cast<std::uint16_t>(event);
    record.incarnation = incarnation;
    record.pid = pid;
    history.items.push_back(record);
  }
  void judge(std::vector<ItemClass> classes) {
    for (std::size_t i = 0; i < classes.size(); ++i)
      item(ItemEvent::kJudged, 900, i, static_cast<std::int64_t>(classes[i]));
  }
  void end(std::int64_t time_ms, bool finished = true) {
    add({{"type", "process"}, {"event", "ended"}, {"role", "main"}, {"time_ns", time_ms * kMs}});
    add({{"type", "end"},
         {"time_ns", 1000 * kMs},
         {"outcome", finished ? "finished" : "ended_early"}});
  }
  void confirm(const char* outcome = "confirmed") {
    add({{"type", "injection_result"},
         {"time_ns", 800 * kMs},
         {"outcome", outcome},
         {"activated_ns", 25 * kMs},
         {"victim", {{"pid", 5}}}});
  }
};

TrialResult recovered_trial(int block = 1, int number = 1) {
  History h("supervised", "kill", block, number);
  for (std::uint64_t i = 0; i < 2; ++i)
    h.item(ItemEvent::kPublished, 10 + 10 * static_cast<std::int64_t>(i), i);
  h.item(ItemEvent::kStarted, 21, 2);
  h.item(ItemEvent::kWorkerDied, 30, 2, 9);
  h.item(ItemEvent::kReplacement, 31, 0, 0, 2, 6);
  h.item(ItemEvent::kWorkerReady, 35, 0, 0, 2, 6);
  h.item(ItemEvent::kStarted, 36, 2, 0, 2, 6);
  h.item(ItemEvent::kDone, 45, 2, 0, 2, 6);
  h.item(ItemEvent::kPublished, 50, 2);
  h.item(ItemEvent::kPublished, 60, 3);
  h.judge({ItemClass::kOk, ItemClass::kOk, ItemClass::kOk, ItemClass::kOk});
  h.confirm();
  h.end(70);
  return measure_trial(h.history);
}

TEST(Measures, DecomposeARecovery) {
  const TrialResult trial = recovered_trial();
  EXPECT_TRUE(trial.recovered);
  EXPECT_TRUE(trial.items.exact());
  EXPECT_EQ(trial.items.redone, 1);
  EXPECT_EQ(*trial.measures.at("detect").value, 5 * kMs);
  EXPECT_EQ(*trial.measures.at("initiate").value, 1 * kMs);
  EXPECT_EQ(*trial.measures.at("repair").value, 4 * kMs);
  EXPECT_EQ(*trial.measures.at("process").value, 10 * kMs);
  EXPECT_EQ(*trial.measures.at("first_good").value, 20 * kMs);
  EXPECT_EQ(*trial.measures.at("outage_gap").value, 20 * kMs)
      << "30 ms without output, 10 ms are usual";
  EXPECT_EQ(*trial.measures.at("makespan").value, 70 * kMs);
  EXPECT_DOUBLE_EQ(*trial.measures.at("throughput").value, 4 / 0.070);
}

// A spare notices the death and takes over; the proof comes when all is over.
TEST(Measures, ADeathIsDetectedWhenItIsNoticed) {
  History h("supervised", "kill", 1, 1);
  h.item(ItemEvent::kStarted, 21, 2);
  h.item(ItemEvent::kSuspected, 26, 0, 0, 1, 5);
  h.item(ItemEvent::kReplacement, 27, 0, 0, 2, 6);
  h.item(ItemEvent::kWorkerReady, 28, 0, 0, 2, 6);
  h.item(ItemEvent::kStarted, 28, 2, 0, 2, 6);
  h.item(ItemEvent::kDone, 32, 2, 0, 2, 6);
  h.item(ItemEvent::kWorkerDied, 60, 2, 9);
  h.judge({ItemClass::kOk, ItemClass::kOk, ItemClass::kOk, ItemClass::kOk});
  h.confirm();
  h.end(70);
  const TrialResult trial = measure_trial(h.history);
  EXPECT_EQ(*trial.measures.at("detect").value, 1 * kMs);
  EXPECT_EQ(*trial.measures.at("initiate").value, 1 * kMs);
  EXPECT_EQ(*trial.measures.at("repair").value, 1 * kMs);
  EXPECT_EQ(*trial.measures.at("process").value, 4 * kMs);
  EXPECT_EQ(*trial.measures.at("first_good").value, 7 * kMs);
}

TEST(Measures, ADeadArmIsCensoredNotMeasured) {
  History h("bare", "kill", 1, 1);
  h.item(ItemEvent::kPublished, 10, 0);
  h.judge({ItemClass::kOk, ItemClass::kUnfinished, ItemClass::kUnfinished, ItemClass::kUnfinished});
  h.confirm();
  h.end(26, false);
  const TrialResult trial = measure_trial(h.history);
  EXPECT_FALSE(trial.recovered);
  for (const char* name : {"makespan", "first_good", "outage_gap"}) {
    EXPECT_FALSE(trial.measures.at(name).value) << name;
    EXPECT_TRUE(trial.measures.at(name).censored) << name;
  }
  EXPECT_FALSE(trial.measures.at("throughput").value);
}

TEST(Measures, AWrongOutputOfTheReplacementIsNoRecovery) {
  History h("supervised", "kill", 1, 1);
  h.item(ItemEvent::kWorkerDied, 30, 2, 9);
  h.item(ItemEvent::kDone, 45, 2, 0, 2, 6);
  h.judge({ItemClass::kOk, ItemClass::kOk, ItemClass::kCorrupt, ItemClass::kOk});
  h.confirm();
  h.end(70);
  const TrialResult trial = measure_trial(h.history);
  EXPECT_FALSE(trial.recovered);
  EXPECT_TRUE(trial.measures.at("first_good").censored);
}

TEST(Measures, HalfATrialConcludesNothing) {
  History h("supervised", "kill", 1, 1);
  h.judge({ItemClass::kOk});
  const TrialResult trial = measure_trial(h.history);
  EXPECT_FALSE(trial.complete);
  EXPECT_EQ(trial.items.offered, 0);
}

json plan_of(int trials) {
  json list = json::array();
  for (int i = 0; i < trials; ++i) list.push_back({{"trial", i + 1}});
  return {{"experiment", "x"},
          {"arms", {"supervised"}},
          {"faults", {"none", "kill"}},
          {"blocks", 1},
          {"trials", list}};
}

TrialResult twin(int block, int number) {
  History h("supervised", "none", block, number);
  for (std::uint64_t i = 0; i < 4; ++i)
    h.item(ItemEvent::kPublished, 10 + 10 * static_cast<std::int64_t>(i), i);
  h.judge({ItemClass::kOk, ItemClass::kOk, ItemClass::kOk, ItemClass::kOk});
  h.end(50);
  return measure_trial(h.history);
}

Summary summary_of(const std::vector<TrialResult>& trials,
                   const std::vector<std::string>& expect = {}) {
  return summarize(json{{"expect", expect}}, plan_of(static_cast<int>(trials.size())), trials);
}

TEST(Summary, PassesAndPairsWithTheTwin) {
  const Summary summary =
      summary_of({twin(1, 1), recovered_trial(1, 2)}, {"supervised.*.items.lost == 0"});
  EXPECT_EQ(summary.verdict, RunVerdict::kPass) << json(summary.reasons).dump();
  const CellSummary* cell = summary.cell("supervised", "kill");
  ASSERT_NE(cell, nullptr);
  EXPECT_EQ(cell->recovered, 1);
  EXPECT_EQ(*cell->measures.at("equivalent_outage").estimate, 20 * kMs);
  EXPECT_FALSE(cell->measures.at("equivalent_outage").low);
  EXPECT_THAT(cell->measures.at("equivalent_outage").reason, HasSubstr("needs 6"));
}

TEST(Summary, AFalseExpectationFails) {
  const Summary summary =
      summary_of({twin(1, 1), recovered_trial(1, 2)}, {"supervised.kill.items.redone == 0"});
  EXPECT_EQ(summary.verdict, RunVerdict::kFail);
  EXPECT_THAT(summary.reasons.at(0), HasSubstr("supervised.kill.items.redone is 1"));
}

TEST(Summary, AnIntervalThatNeedsMoreTrialsIsInconclusive) {
  const Summary summary =
      summary_of({twin(1, 1), recovered_trial(1, 2)}, {"supervised.kill.first_good < 1s"});
  EXPECT_EQ(summary.verdict, RunVerdict::kInconclusive);
}

TEST(Summary, WithEnoughTrialsAnIntervalDecides) {
  std::vector<TrialResult> trials;
  for (int block = 1; block <= 6; ++block) {
    trials.push_back(twin(block, 2 * block - 1));
    trials.push_back(recovered_trial(block, 2 * block));
  }
  EXPECT_EQ(summary_of(trials, {"supervised.kill.first_good < 21ms"}).verdict, RunVerdict::kPass);
  EXPECT_EQ(summary_of(trials, {"supervised.kill.first_good < 19ms"}).verdict, RunVerdict::kFail);
}

TEST(Summary, AnUnconfirmedFaultIsInconclusiveEvenIfAllElseHolds) {
  TrialResult trial = recovered_trial(1, 2);
  trial.injection = InjectionOutcome::kNotActivated;
  const Summary summary = summary_of({twin(1, 1), trial}, {"supervised.*.items.lost == 0"});
  EXPECT_EQ(summary.verdict, RunVerdict::kInconclusive);
  EXPECT_EQ(summary.cell("supervised", "kill")->recovered, 0) << "an unproved fault does not count";
}

TEST(Summary, AHarnessErrorAndAnInexactSumAreErrors) {
  TrialResult broken = twin(1, 1);
  broken.harness_error = true;
  EXPECT_EQ(summary_of({broken, recovered_trial(1, 2)}).verdict, RunVerdict::kError);
  TrialResult inexact = twin(1, 1);
  inexact.items.offered = 5;
  EXPECT_EQ(summary_of({inexact, recovered_trial(1, 2)}).verdict, RunVerdict::kError);
}

TEST(Summary, ACutOffRunIsInconclusive) {
  const std::vector<TrialResult> trials{twin(1, 1)};
  const Summary summary = summarize(json::object(), plan_of(4), trials);
  EXPECT_EQ(summary.verdict, RunVerdict::kInconclusive);
  EXPECT_THAT(summary.reasons.at(0), HasSubstr("cut off"));
}

TEST(Summary, SurvivesJsonAndRefusesOthers) {
  const Summary summary =
      summary_of({twin(1, 1), recovered_trial(1, 2)}, {"supervised.*.items.lost == 0"});
  const json document = to_json(summary);
  EXPECT_EQ(document["cells"][1]["items"]["offered"], 4);
  EXPECT_TRUE(document["cells"][1]["measures"]["first_good"]["low"].is_null());
  EXPECT_EQ(document.dump().find("NaN"), std::string::npos);
  auto again = summary_from_json(json::parse(document.dump()));
  ASSERT_TRUE(again);
  EXPECT_EQ(to_json(*again), document);
  json other = document;
  other["schema"] = 99;
  EXPECT_EQ(summary_from_json(other).error().kind, ErrorKind::kIncomparable);
  other = document;
  other.erase("cells");
  EXPECT_FALSE(summary_from_json(other));
  EXPECT_FALSE(summary_from_json(json::array()));
}

TEST(Expectation, RefusesWhatItCannotMean) {
  for (const char* bad : {"", "supervised.kill.first_good", "a.b.items.lost = 0",
                          "a.b.items.lost != 0", "a.b.nonsense < 1", "a.b < 1",
                          "a.b.first_good < 20", "a.b.first_good == 20ms", "a.b.items.lost < many",
                          "a.b.items.lots == 0", ".b.items.lost == 0", "a.b.first_good < -20ms"}) {
    EXPECT_FALSE(parse_expectation(bad)) << bad;
  }
  for (const char* good :
       {"a.b.items.lost == 0", "*.*.recovered >= 3", "a.none.protection_cost < 5%",
        "a.b.throughput > 10/s", "a.b.equivalent_outage <= 1.5s"}) {
    EXPECT_TRUE(parse_expectation(good)) << good;
  }
}

}  // namespace
}  // namespace crashworthy

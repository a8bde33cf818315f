// Comparisons of small made-up runs: the same run, a planted slowdown, noise, and what may not be
// compared at all.
#include "results/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "harness/os/random.h"
#include "results/report/comparison.h"
#include "results/report/synthetic_run.h"

namespace crashworthy {
namespace {

using report::synthetic_run;
using ::testing::HasSubstr;
using ::testing::Not;

// Throughput of one cell, `factor` times 250/s with the relative noise `noise`.
Summary small_run(int blocks, double factor, double noise, std::uint64_t seed) {
  Summary summary;
  summary.experiment = "tiles";
  summary.run = "r";
  summary.verdict = RunVerdict::kPass;
  summary.fingerprint = "9c1e";
  summary.seed = 42;
  summary.blocks = blocks;
  CellSummary cell;
  cell.arm = "supervised";
  cell.fault = "none";
  cell.trials = blocks;
  cell.items.offered = cell.items.classes[0] = 100 * blocks;
  MeasureSummary& throughput = cell.measures["throughput"];
  throughput.unit = "items/s";
  Random random(seed);
  for (int block = 0; block < blocks; ++block) {
    throughput.samples.emplace_back(250 * factor * (1 + noise * (2 * random.unit() - 1)));
    throughput.sample_censored.push_back(false);
    throughput.blocks.push_back(block);
  }
  summary.cells.push_back(cell);
  summary.gate.push_back({"supervised.none.throughput", 0.05, "5%"});
  return summary;
}

TEST(Compare, ARunWithItselfPassesExactly) {
  const Summary summary = synthetic_run().summary;
  const auto comparison = compare(summary, summary);
  ASSERT_TRUE(comparison.ok());
  EXPECT_EQ(comparison->verdict, ComparisonVerdict::kPass);
  EXPECT_EQ(comparison_exit_code(comparison->verdict), 0);
  ASSERT_EQ(comparison->gate.size(), 2u);
  for (const GateComparison& line : comparison->gate) {
    EXPECT_TRUE(line.paired);
    EXPECT_EQ(line.ratio, 1.0);
    EXPECT_EQ(line.low, 1.0);
    EXPECT_EQ(line.high, 1.0);
  }
  EXPECT_TRUE(comparison->items.empty());
}

TEST(Compare, APlantedSlowdownFailsInEveryFormat) {
  const Summary baseline = synthetic_run().summary;
  const Summary contender = synthetic_run({42, 10, 1.25, false}).summary;
  const auto comparison = compare(baseline, contender);
  ASSERT_TRUE(comparison.ok());
  EXPECT_EQ(comparison->verdict, ComparisonVerdict::kFail);
  EXPECT_EQ(comparison_exit_code(comparison->verdict), 1);
  const GateComparison& line = comparison->gate.front();
  EXPECT_EQ(line.verdict, ComparisonVerdict::kFail);
  EXPECT_FALSE(line.lower_is_better);
  EXPECT_NEAR(*line.ratio, 0.8, 0.03);

  const std::string terminal = terminal_comparison(*comparison);
  EXPECT_THAT(terminal, HasSubstr("Verdict  FAIL: supervised.none.throughput is worse by more"));
  EXPECT_THAT(terminal, HasSubstr("10 pairs"));
  const std::string markdown = markdown_comparison(*comparison);
  EXPECT_THAT(markdown, HasSubstr("### Crash test `tiles`: FAIL"));
  EXPECT_THAT(markdown, HasSubstr("| `supervised.none.throughput` |"));
  const nlohmann::json document = to_json(*comparison);
  EXPECT_EQ(document["verdict"], "fail");
  EXPECT_EQ(document["gate"][0]["verdict"], "fail");
  EXPECT_EQ(document["level"], 0.95);
  EXPECT_EQ(nlohmann::json::parse(document.dump()), document) << "no NaN is written";
}

TEST(Compare, AFasterContenderPasses) {
  const auto comparison = compare(small_run(10, 1, 0.01, 1), small_run(10, 1.25, 0.01, 2));
  ASSERT_TRUE(comparison.ok());
  EXPECT_EQ(comparison->verdict, ComparisonVerdict::kPass);
}

TEST(Compare, NoiseIsInconclusiveAndSaysWhatItWouldFind) {
  const auto comparison = compare(small_run(10, 1, 0.2, 1), small_run(10, 0.97, 0.2, 2));
  ASSERT_TRUE(comparison.ok());
  EXPECT_EQ(comparison->verdict, ComparisonVerdict::kInconclusive);
  EXPECT_EQ(comparison_exit_code(comparison->verdict), 3);
  EXPECT_TRUE(comparison->gate[0].minimum_detectable_effect.has_value());
  EXPECT_THAT(terminal_comparison(*comparison), HasSubstr("are found 4 times in 5"));
}

TEST(Compare, TooFewBlocksAreInconclusive) {
  const auto comparison = compare(small_run(3, 1, 0.01, 1), small_run(3, 1, 0.01, 2));
  ASSERT_TRUE(comparison.ok());
  EXPECT_EQ(comparison->verdict, ComparisonVerdict::kInconclusive);
  EXPECT_THAT(comparison->gate[0].reason, HasSubstr("needs"));
}

TEST(Compare, OtherSeedsAreComparedUnpaired) {
  Summary contender = small_run(10, 0.7, 0.01, 2);
  contender.seed = 43;
  const auto comparison = compare(small_run(10, 1, 0.01, 1), contender);
  ASSERT_TRUE(comparison.ok());
  EXPECT_FALSE(comparison->gate[0].paired);
  EXPECT_EQ(comparison->verdict, ComparisonVerdict::kFail);
  EXPECT_THAT(comparison->warnings[0], HasSubstr("--seed 42"));
}

TEST(Compare, OnlySharedBlocksArePaired) {
  const auto comparison = compare(small_run(12, 1, 0.001, 1), small_run(8, 1, 0.001, 2));
  ASSERT_TRUE(comparison.ok());
  EXPECT_EQ(comparison->gate[0].samples, 8u);
  EXPECT_EQ(comparison->gate[0].left_out, 4u);
  EXPECT_EQ(comparison->verdict, ComparisonVerdict::kPass);
}

TEST(Compare, AContenderThatNeverGetsThereFails) {
  Summary baseline = small_run(10, 1, 0.01, 1);
  baseline.gate = {{"supervised.kill.first_good", 0.2, "20%"}};
  CellSummary cell = baseline.cells[0];
  cell.fault = "kill";
  cell.confirmed = cell.trials;
  cell.measures["first_good"] = cell.measures["throughput"];
  baseline.cells.push_back(cell);
  Summary contender = baseline;
  MeasureSummary& first_good = contender.cells[1].measures["first_good"];
  first_good.samples.assign(10, std::nullopt);
  first_good.sample_censored.assign(10, true);
  const auto comparison = compare(baseline, contender);
  ASSERT_TRUE(comparison.ok());
  EXPECT_EQ(comparison->verdict, ComparisonVerdict::kFail);
  EXPECT_FALSE(comparison->gate[0].contender.has_value());
  EXPECT_THAT(terminal_comparison(*comparison), HasSubstr("never"));
  // And back: what never got there is no measure to be within 20% of.
  const auto back = compare(contender, baseline);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->verdict, ComparisonVerdict::kPass);
  const auto neither = compare(contender, contender);
  ASSERT_TRUE(neither.ok());
  EXPECT_EQ(neither->verdict, ComparisonVerdict::kInconclusive) << "no data is not a pass";
}

TEST(Compare, AProtectionCostOfZeroHasARatio) {
  Summary baseline = small_run(10, 1, 0.01, 1);
  baseline.gate = {{"supervised.none.protection_cost", 0.05, "5%"}};
  MeasureSummary cost = baseline.cells[0].measures["throughput"];
  cost.unit = "ratio";
  for (std::size_t i = 0; i < 10; ++i) cost.samples[i] = 0.002 * (static_cast<double>(i) - 5);
  baseline.cells[0].measures["protection_cost"] = cost;
  Summary contender = baseline;
  for (auto& sample : contender.cells[0].measures["protection_cost"].samples) *sample += 0.2;
  const auto worse = compare(baseline, contender);
  ASSERT_TRUE(worse.ok());
  EXPECT_EQ(worse->verdict, ComparisonVerdict::kFail);
  EXPECT_NEAR(*worse->gate[0].ratio, 1.2, 0.01);
  EXPECT_EQ(compare(baseline, baseline)->verdict, ComparisonVerdict::kPass);
}

TEST(Compare, ItemsThatGetLostFailWhateverTheGate) {
  const Summary baseline = small_run(10, 1, 0.001, 1);
  for (const ItemClass item_class :
       {ItemClass::kLost, ItemClass::kCorrupt, ItemClass::kFailed, ItemClass::kUnfinished}) {
    Summary contender = baseline;
    contender.cells[0].items.classes[static_cast<std::size_t>(item_class)] = 1;
    const auto comparison = compare(baseline, contender);
    ASSERT_TRUE(comparison.ok());
    EXPECT_EQ(comparison->verdict, ComparisonVerdict::kFail) << item_class_name(item_class);
    EXPECT_THAT(markdown_comparison(*comparison), HasSubstr("**worse** `supervised.none`"));
  }
  Summary doubled = baseline;
  doubled.cells[0].items.duplicated = 3;
  EXPECT_EQ(compare(baseline, doubled)->verdict, ComparisonVerdict::kFail);
  EXPECT_EQ(compare(doubled, baseline)->verdict, ComparisonVerdict::kPass) << "fewer is fine";
  for (std::int64_t ItemCounts::*beside : {&ItemCounts::extra, &ItemCounts::stale_temporary}) {
    Summary littered = baseline;
    littered.cells[0].items.*beside = 1;
    EXPECT_EQ(compare(baseline, littered)->verdict, ComparisonVerdict::kFail);
    Summary more = littered;
    more.cells[0].items.*beside = 2;
    EXPECT_EQ(compare(littered, more)->verdict, ComparisonVerdict::kPass) << "a matter of chance";
    for (Summary* summary : {&littered, &more}) {
      CellSummary killed = baseline.cells[0];
      killed.fault = "kill";
      killed.confirmed = killed.trials;
      killed.items.*beside = summary == &more ? 2 : 0;
      summary->cells.push_back(killed);
    }
    EXPECT_EQ(compare(littered, more)->verdict, ComparisonVerdict::kPass) << "of the moment";
  }
}

TEST(Compare, CountsThatChanceMovesAreNotes) {
  Summary baseline = small_run(10, 1, 0.001, 1);
  CellSummary bare = baseline.cells[0];
  bare.arm = "bare";
  bare.items.classes[static_cast<std::size_t>(ItemClass::kLost)] = 14;
  baseline.cells.push_back(bare);
  Summary contender = baseline;
  contender.cells[1].items.classes[static_cast<std::size_t>(ItemClass::kLost)] = 15;
  const auto ungated = compare(baseline, contender);
  ASSERT_TRUE(ungated.ok());
  EXPECT_EQ(ungated->verdict, ComparisonVerdict::kPass);
  ASSERT_EQ(ungated->items.size(), 1u);
  EXPECT_FALSE(ungated->items[0].failure);

  baseline.gate.push_back({"bare.none.throughput", 0.05, "5%"});
  EXPECT_EQ(compare(baseline, contender)->verdict, ComparisonVerdict::kFail) << "now it is gated";
  contender.cells[1].trials = 11;
  EXPECT_EQ(compare(baseline, contender)->verdict, ComparisonVerdict::kPass) << "more trials";
}

TEST(Compare, RefusesWhatIsNotComparable) {
  const Summary baseline = small_run(10, 1, 0.01, 1);
  const auto refused = [&](auto change) {
    Summary contender = baseline;
    change(contender);
    const auto comparison = compare(baseline, contender);
    EXPECT_FALSE(comparison.ok());
    if (comparison.ok()) return std::string();
    EXPECT_EQ(comparison.error().kind, ErrorKind::kIncomparable);
    EXPECT_FALSE(comparison.error().hint.empty());
    return comparison.error().message;
  };
  EXPECT_THAT(refused([](Summary& s) { s.fingerprint = "other"; }), HasSubstr("'other'"));
  EXPECT_THAT(refused([](Summary& s) { s.schema = 2; }), HasSubstr("schema 1 with schema 2"));
  EXPECT_THAT(refused([](Summary& s) { s.disarmed = true; }), HasSubstr("disarmed"));
  EXPECT_THAT(refused([](Summary& s) { s.cells.clear(); }), HasSubstr("no cell"));
  Summary ungated = baseline;
  ungated.gate.clear();
  const auto comparison = compare(ungated, baseline);
  ASSERT_FALSE(comparison.ok());
  EXPECT_EQ(comparison.error().kind, ErrorKind::kIncomparable);
  EXPECT_THAT(comparison.error().hint, HasSubstr("\"gate\": [{\"measure\""));
}

TEST(Compare, ABadGateLineIsInconclusiveWithItsReason) {
  Summary baseline = small_run(10, 1, 0.01, 1);
  for (const char* measure : {"nonsense", "supervised.none.items.lost", "nobody.none.throughput",
                              "supervised.none.makespan"}) {
    baseline.gate = {{measure, 0.05, "5%"}};
    const auto comparison = compare(baseline, baseline);
    ASSERT_TRUE(comparison.ok());
    EXPECT_EQ(comparison->verdict, ComparisonVerdict::kInconclusive) << measure;
    EXPECT_FALSE(comparison->gate[0].reason.empty()) << measure;
  }
}

TEST(Compare, AWildcardGatesEveryMatchingCell) {
  Summary baseline = synthetic_run().summary;
  baseline.gate = {{"supervised.*.makespan", 0.1, "10%"}};
  const auto comparison = compare(baseline, baseline);
  ASSERT_TRUE(comparison.ok());
  EXPECT_EQ(comparison->gate.size(), 4u);
  EXPECT_EQ(comparison->verdict, ComparisonVerdict::kPass);
}

TEST(Compare, HostileNamesStayInert) {
  const Summary summary = synthetic_run({42, 8, 1, true}).summary;
  const auto comparison = compare(summary, summary);
  ASSERT_TRUE(comparison.ok());
  const std::string terminal = terminal_comparison(*comparison);
  EXPECT_THAT(terminal, Not(HasSubstr("\x1b")));
  const std::string markdown = markdown_comparison(*comparison);
  EXPECT_THAT(markdown, Not(HasSubstr("\x1b")));
  EXPECT_NO_THROW(static_cast<void>(
      to_json(*comparison).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
}

}  // namespace
}  // namespace crashworthy

// The experiment file: what is accepted, and that every wrong one is refused with its place and
// what to write instead.
#include "harness/experiment/experiment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/experiment/item_command.h"
#include "harness/experiment/needs.h"
#include "harness/experiment/plan.h"

namespace crashworthy {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

json valid() {
  return json::parse(R"({
    "experiment": "tiles",
    "subject": {"pipeline": "tiles", "input": {"set": "photographs"}, "tile": 256},
    "arms": [
      {"name": "bare", "supervision": "none"},
      {"name": "supervised", "supervision": {"strategy": "one_for_one", "intensity": 100, "period": "10s"},
       "workers": 2, "spares": 2}
    ],
    "faults": [
      {"name": "kill", "fault": "process.kill", "victim": {"role": "worker", "holding_item": true},
       "when": {"item": 120}},
      {"name": "abort", "fault": "native.abort@tile.filter",
       "when": {"hit": [50, 100], "repeat": {"times": 2, "every": 10}}}
    ],
    "blocks": 3,
    "expect": ["supervised.*.items.lost == 0"],
    "gate": [{"measure": "supervised.none.throughput", "margin": "5%"}]
  })");
}

TEST(ExperimentFile, ReadsAWholeOne) {
  auto experiment = parse_experiment(valid(), "/somewhere");
  ASSERT_TRUE(experiment);
  EXPECT_EQ(experiment->arms[1].supervision, Supervision::kSupervised);
  EXPECT_EQ(experiment->arms[1].spares, 2);
  EXPECT_EQ(experiment->faults[0].faults[0].trigger.gate->value.low, 120);
  EXPECT_TRUE(experiment->faults[0].faults[0].victim.holding_item);
  EXPECT_EQ(experiment->faults[1].faults[0].point, "tile.filter");
  EXPECT_EQ(experiment->faults[1].faults[0].trigger.times, 2);
  EXPECT_EQ(experiment->blocks, 3);
}

struct BadCase {
  const char*
      patch;  // JSON merge patch (RFC 7386), or a JSON pointer set to a value by "pointer=value".
  const char* place;  // What the message begins with.
  const char* says;   // What it (or its hint) contains.
};

class BadExperiment : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadExperiment, IsRefusedWithItsPlace) {
  json document = valid();
  const std::string patch = GetParam().patch;
  if (patch.front() == '/') {
    const std::size_t at = patch.find('=');
    document[json::json_pointer(patch.substr(0, at))] = json::parse(patch.substr(at + 1));
  } else {
    document.merge_patch(json::parse(patch));
  }
  auto experiment = parse_experiment(document, "/somewhere");
  ASSERT_FALSE(experiment) << document.dump(1);
  EXPECT_EQ(experiment.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(experiment.error().message, StartsWith(GetParam().place));
  EXPECT_THAT(experiment.error().message + " " + experiment.error().hint,
              HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadExperiment,
    ::testing::Values(
        BadCase{R"({"blokcs": 3})", "/blokcs:", "did you mean 'blocks'?"},
        BadCase{R"({"experiment": null})", "/experiment:", "needs a name"},
        BadCase{R"({"experiment": "../x"})", "/experiment:", "letters"},
        BadCase{R"({"subject": null})", "/:", "needs a 'subject'"},
        BadCase{R"({"subject": {"command": ["x"]}})",
                "/subject:", "either 'pipeline' or 'command'"},
        BadCase{"/subject/pipeline=\"tile\"", "/subject/pipeline:", "did you mean 'tiles'?"},
        BadCase{"/subject/tile=0", "/subject/tile:", "not 0"},
        BadCase{"/subject/tile=-5", "/subject/tile:", "not -5"},
        BadCase{"/subject/tile=\"0x9\"", "/subject/tile:", "WIDTHxHEIGHT"},
        BadCase{"/subject/tile=2.5", "/subject/tile:", "whole number"},
        BadCase{"/subject/tile=18446744073709551615", "/subject/tile:", "whole number"},
        BadCase{"/subject/input={\"set\": \"cats\"}", "/subject/input/set:", "photographs"},
        BadCase{"/subject/input={}", "/subject/input:", "exactly one"},
        BadCase{"/subject/format=\"gif\"", "/subject/format:", "png"},
        BadCase{"/arms=[]", "/arms:", "at least one"},
        BadCase{"/arms/0/supervision=\"isolated\"", "/arms/0/supervision:", "isolate"},
        BadCase{"/arms/1/supervision/strategy=\"one_for_all\"",
                "/arms/1/supervision/strategy:", "one_for_one"},
        BadCase{"/arms/1/supervision/period=\"-5s\"", "/arms/1/supervision/period:", "negative"},
        BadCase{"/arms/1/supervision/period=\"5 parsecs\"",
                "/arms/1/supervision/period:", "not a duration"},
        BadCase{"/arms/1/workers=0", "/arms/1/workers:", "not 0"},
        BadCase{"/arms/1/name=\"bare\"", "/arms/1/name:", "used twice"},
        BadCase{"/arms/0/spares=2", "/arms/0/spares:", "supervised"},
        BadCase{"/arms/0/command=[\"x\"]", "/arms/0/command:", "words of its own"},
        BadCase{"/arms/0/needs={}", "/arms/0/needs:", "list"},
        BadCase{"/arms/0/needs=[{\"package\": \"x\"}]", "/arms/0/needs/0:", "either"},
        BadCase{"/arms/0/needs=[{\"program\": \"x\", \"python\": \"x\", \"package\": \"x\"}]",
                "/arms/0/needs/0:", "either"},
        BadCase{"/arms/0/needs=[{\"program\": \"x\"}]", "/arms/0/needs/0:", "package"},
        BadCase{"/arms/0/needs=[{\"porgram\": \"x\"}]", "/arms/0/needs/0/porgram:", "program"},
        BadCase{"/faults/0/fault=\"process.kil\"",
                "/faults/0/fault:", "did you mean 'process.kill'?"},
        BadCase{"/faults/1/fault=\"native.poison\"", "/faults/1/fault:", "@POINT"},
        BadCase{"/faults/0/fault=\"process.kill@x\"", "/faults/0/fault:", "takes no point"},
        BadCase{"/faults/0/victim/role=\"wroker\"",
                "/faults/0/victim/role:", "did you mean 'worker'?"},
        BadCase{"/faults/0/victim=\"worker\"", "/faults/0/victim:", "must be an object"},
        BadCase{"/faults/0/when={\"item\": 0}", "/faults/0/when/item:", "at least 1"},
        BadCase{"/faults/0/when={\"after\": \"-1s\"}", "/faults/0/when/after:", "negative"},
        BadCase{"/faults/0/when={\"after\": 5}", "/faults/0/when/after:", "duration"},
        BadCase{"/faults/0/when={\"item\": [9, 2]}", "/faults/0/when/item:", "empty"},
        BadCase{"/faults/0/when={\"hit\": 3}", "/faults/0/when/hit:", "unknown field"},
        BadCase{"/faults/1/victim={\"role\": \"main\"}", "/faults/1/victim:", "whoever passes it"},
        BadCase{"/faults/0/name=\"none\"", "/faults/0/name:", "twin"},
        BadCase{"/faults/1/name=\"kill\"", "/faults/1/name:", "used twice"},
        BadCase{"/blocks=0", "/blocks:", "not 0"},
        BadCase{"/timeout=\"0s\"", "/timeout:", "longer than 0"},
        BadCase{"/disk=\"10K\"", "/disk:", "at least 1M"}, BadCase{"/disk=5", "/disk:", "a string"},
        BadCase{"/linger=\"long\"", "/linger:", "long"},
        BadCase{"/expect=[\"supervise.*.items.lost == 0\"]",
                "/expect/0:", "did you mean 'supervised'?"},
        BadCase{"/expect=[\"supervised.kil.items.lost == 0\"]",
                "/expect/0:", "did you mean 'kill'?"},
        BadCase{"/expect=[\"supervised.kill.lost\"]", "/expect/0:", "compares nothing"},
        BadCase{"/gate=[{\"measure\": \"supervised.none.throughput\"}]", "/gate/0:", "margin"},
        BadCase{"/gate=[{\"measure\": \"supervised.*.throughput\", \"margin\": \"5%\"}]",
                "/gate/0/measure:", "one measure of one cell"},
        BadCase{"/gate=[{\"measure\": \"supervised.none.throughput\", \"margin\": \"five\"}]",
                "/gate/0/margin:", "share"}));

json by_items() {
  return json::parse(R"({
    "experiment": "c",
    "subject": {"command": ["convert", "{}", "-resize", "50%", "png:{out}"], "items": ["in/*.jpg"],
                "inputs": ["models/*"], "output": "out/{stem}.png", "item_deadline": "5s"},
    "arms": [{"name": "bare", "workers": 3},
             {"name": "supervised", "supervision": {"strategy": "one_for_one"}}]
  })");
}

TEST(ExperimentFile, ReadsACommandByItems) {
  auto experiment = parse_experiment(by_items(), "/somewhere");
  ASSERT_TRUE(experiment) << experiment.error().message;
  const SubjectSpec& subject = experiment->subject;
  EXPECT_TRUE(subject.by_items());
  EXPECT_FALSE(subject.lines);
  EXPECT_EQ(subject.output_name, "out/{stem}.png");
  EXPECT_EQ(subject.item_deadline, "5s");
  EXPECT_EQ(experiment->arms[1].supervision, Supervision::kSupervised);
  EXPECT_THAT(output_patterns(subject), ::testing::ElementsAre("out/*.png"));
}

class BadItems : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadItems, AreRefusedWithTheirPlace) {
  json document = by_items();
  document.merge_patch(json::parse(GetParam().patch));
  auto experiment = parse_experiment(document, "/somewhere");
  ASSERT_FALSE(experiment) << document.dump(1);
  EXPECT_EQ(experiment.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(experiment.error().message, StartsWith(GetParam().place));
  EXPECT_THAT(experiment.error().message + " " + experiment.error().hint,
              HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadItems,
    ::testing::Values(
        BadCase{R"({"subject": {"items": []}})", "/subject/items:", "names no files"},
        BadCase{R"({"subject": {"items": "in/*"}})", "/subject/items:", "array"},
        BadCase{R"({"subject": {"items": ["../x"]}})", "/subject/items:", "below"},
        BadCase{R"({"subject": {"items": null}})", "/subject/output:", "belongs to"},
        BadCase{R"({"subject": {"output": "../{name}"}})", "/subject/output:", "below"},
        BadCase{R"({"subject": {"output": "/tmp/{name}"}})", "/subject/output:", "below"},
        BadCase{R"({"subject": {"output": "out/"}})", "/subject/output:", "file below"},
        BadCase{R"({"subject": {"output": "out/x.{ext}"}})", "/subject/output:", "same output"},
        BadCase{R"({"subject": {"output": "out/{base}"}})", "/subject/output:", "{stem}"},
        BadCase{R"({"subject": {"item_deadline": "5"}})", "/subject/item_deadline:", "unit"},
        BadCase{R"({"subject": {"heartbeat": "5s"}})", "/subject/heartbeat:", "item_deadline"},
        BadCase{R"({"subject": {"protocol": "json"}})", "/subject/protocol:", "\"lines\""},
        BadCase{R"({"subject": {"protocol": "lines"}})", "/subject/command:", "has no {}"},
        BadCase{R"({"subject": {"command": ["cp", "{out}"]}})", "/subject/command:", "has {}"},
        BadCase{R"({"subject": {"command": ["{}", "{}"]}})", "/subject/command:", "cannot be an"},
        BadCase{R"({"subject": {"command": ["cp", "{}"], "output": null}})",
                "/subject/command:", "no word has {out}"},
        BadCase{R"({"arms": [{"name": "a", "supervision": "isolate"}]})",
                "/arms/0/supervision:", "of their own"},
        BadCase{R"({"arms": [{"name": "a", "supervision": {"strategy": "one_for_one"},
                              "spares": 1}]})",
                "/arms/0/spares:", "no spares"}));

TEST(ExperimentFile, ACommandThatNamesItsOutputsItselfNeedsNoMark) {
  json document = by_items();
  document["subject"]["command"] = {"mogrify", "-path", "out", "{}"};
  EXPECT_TRUE(parse_experiment(document, "/somewhere"));
  document["subject"].erase("output");
  document["subject"]["outputs"] = {"out/*"};
  EXPECT_TRUE(parse_experiment(document, "/somewhere"));
}

TEST(ExperimentFile, ACommandKeepsToItsDirectory) {
  const json base = json::parse(
      R"({"experiment": "c", "subject": {"command": ["./p", "in/a"], "inputs": ["in/*"], "outputs": ["out/*"]}})");
  ASSERT_TRUE(parse_experiment(base, "/somewhere"));
  for (const char* pattern : {"/etc/*", "../x", ""}) {
    json bad = base;
    bad["subject"]["outputs"] = json::array({pattern});
    EXPECT_FALSE(parse_experiment(bad, "/somewhere")) << pattern;
  }
  json supervised = base;
  supervised["arms"] = json::parse(R"([{"name": "a", "supervision": "isolate"}])");
  EXPECT_THAT(parse_experiment(supervised, "/").error().message,
              StartsWith("/arms/0/supervision:"));
}

json with_needs(const char* first, const char* second) {
  json document = json::parse(
      R"({"experiment": "n", "subject": {"command": ["true"]}, "arms": [{"name": "a"}, {"name": "b"}]})");
  document["arms"][0]["needs"] = json::array({json::parse(first)});
  document["arms"][1]["needs"] = json::array({json::parse(second)});
  return document;
}

TEST(Needs, AnArmWhoseProgramIsMissingIsSkippedByItsPackage) {
  auto experiment = parse_experiment(
      with_needs(R"({"program": "no-such-supervisor", "package": "such-a-package"})",
                 R"({"program": "sh", "package": "dash"})"),
      "/");
  ASSERT_TRUE(experiment) << experiment.error().message;
  auto skipped = skip_arms(*experiment);
  ASSERT_TRUE(skipped) << skipped.error().message;
  ASSERT_EQ(skipped->size(), 1u);
  EXPECT_EQ(skipped->front().arm, "a");
  EXPECT_EQ(skipped->front().reason, "no-such-supervisor is missing (package such-a-package)");
  ASSERT_EQ(experiment->arms.size(), 1u);
  EXPECT_EQ(experiment->arms[0].name, "b");
}

TEST(Needs, AModuleIsLookedForInDebiansPython) {
  if (!std::filesystem::exists("/usr/bin/python3")) GTEST_SKIP() << "python3 is not installed";
  auto experiment =
      parse_experiment(with_needs(R"({"python": "no_such_module", "package": "python3-such"})",
                                  R"({"python": "json", "package": "libpython3-stdlib"})"),
                       "/");
  ASSERT_TRUE(experiment);
  auto skipped = skip_arms(*experiment);
  ASSERT_TRUE(skipped) << skipped.error().message;
  ASSERT_EQ(skipped->size(), 1u);
  EXPECT_THAT(skipped->front().reason, HasSubstr("module no_such_module"));
  EXPECT_THAT(skipped->front().reason, HasSubstr("python3-such"));
}

TEST(Needs, NobodyLeftIsAnError) {
  const char* missing = R"({"program": "no-such-supervisor", "package": "such-a-package"})";
  auto experiment = parse_experiment(with_needs(missing, missing), "/");
  ASSERT_TRUE(experiment);
  auto skipped = skip_arms(*experiment);
  ASSERT_FALSE(skipped);
  EXPECT_EQ(skipped.error().kind, ErrorKind::kMissing);
  EXPECT_THAT(skipped.error().message, HasSubstr("such-a-package"));
}

TEST(Needs, WhatTheSubjectNeedsAllArmsNeed) {
  const char* there = R"({"program": "sh", "package": "dash"})";
  json document = with_needs(there, there);
  document["subject"]["needs"] = json::array({json::parse(there)});
  auto experiment = parse_experiment(document, "/");
  ASSERT_TRUE(experiment);
  auto skipped = skip_arms(*experiment);
  ASSERT_TRUE(skipped);
  EXPECT_TRUE(skipped->empty());
  document["subject"]["needs"][0]["program"] = "no-such-program";
  experiment = parse_experiment(document, "/");
  ASSERT_TRUE(experiment);
  EXPECT_EQ(skip_arms(*experiment).error().kind, ErrorKind::kMissing);
}

TEST(ExperimentFile, AnArmOfACommandHasWordsOfItsOwn) {
  json document = with_needs(R"({"program": "sh", "package": "dash"})",
                             R"({"program": "sh", "package": "dash"})");
  document["arms"][1]["command"] = json::array({"./other", "x"});
  auto experiment = parse_experiment(document, "/somewhere");
  ASSERT_TRUE(experiment);
  EXPECT_TRUE(experiment->arms[0].command.empty());
  EXPECT_THAT(experiment->arms[1].command, ::testing::ElementsAre("./other", "x"));
  document["arms"][1]["command"] = json::array();
  EXPECT_THAT(parse_experiment(document, "/").error().message, StartsWith("/arms/1/command:"));
}

TEST(Plan, HasEveryCellOncePerBlockInARandomOrderOfTheSeed) {
  auto experiment = parse_experiment(valid(), "/somewhere");
  ASSERT_TRUE(experiment);
  const auto plan = make_plan(*experiment, 20, 7, 1'000'000'000);
  ASSERT_EQ(plan.size(), 20u * 2 * 3);
  std::set<std::string> orders;
  for (int block = 1; block <= 20; ++block) {
    std::set<std::pair<std::size_t, std::size_t>> cells;
    std::string order;
    std::optional<std::int64_t> hit;
    for (const PlannedTrial& trial : plan) {
      if (trial.block != block) continue;
      cells.insert({trial.arm, trial.fault.value_or(99)});
      order += std::to_string(trial.arm) + std::to_string(trial.fault.value_or(9));
      if (trial.fault != std::size_t{1}) continue;
      EXPECT_GE(trial.triggers[0].count->low, 50);
      EXPECT_LE(trial.triggers[0].count->low, 100);
      if (hit) {
        EXPECT_EQ(*hit, trial.triggers[0].count->low)
            << "the phase is the same in all arms of a block";
      }
      hit = trial.triggers[0].count->low;
    }
    EXPECT_EQ(cells.size(), 6u);
    orders.insert(order);
  }
  EXPECT_GT(orders.size(), 10u);
  const auto again = make_plan(*experiment, 20, 7, 1'000'000'000);
  EXPECT_EQ(to_json(plan, *experiment), to_json(again, *experiment));
  EXPECT_NE(to_json(plan, *experiment),
            to_json(make_plan(*experiment, 20, 8, 1'000'000'000), *experiment));
}

TEST(ExperimentFile, ThoseOfTheTreeAreValid) {
  const std::filesystem::path directory =
      std::filesystem::path(CRASHWORTHY_SOURCE_DIR) / "benchmarks" / "experiments";
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    auto file = read_experiment_file(entry.path());
    EXPECT_TRUE(file) << entry.path() << ": " << file.error().message;
    ++files;
  }
  EXPECT_GE(files, 3);
}

}  // namespace
}  // namespace crashworthy

// The measures from outside, computed from planted histories: each with what must be found, and one
// that must not.
#include "results/outside.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kMs = 1'000'000;

// Four items, one every 10 ms; a fault at 25 ms strikes the process 70.
struct Planted {
  TrialHistory history;
  explicit Planted(const char* processes = "connector") {
    add({{"type", "trial"},
         {"arm", "a"},
         {"fault", "kill"},
         {"items", 4},
         {"deliverable", 4},
         {"linger_ns", 1000 * kMs},
         {"longest_golden_gap_ns", 15 * kMs}},
        0);
    add({{"type", "process"}, {"event", "launched"}, {"role", "main"}, {"host_pid", 1}}, 0);
    add({{"type", "observer"}, {"of", "processes"}, {"source", processes}}, 0);
    born(70, 1);
  }
  void add(json event, std::int64_t time_ms) {
    event["time_ns"] = time_ms * kMs;
    history.events.push_back(std::move(event));
  }
  void born(int pid, std::int64_t time_ms) {
    add({{"type", "process"}, {"event", "started"}, {"role", "descendant"}, {"host_pid", pid}},
        time_ms);
  }
  void died(int pid, std::int64_t time_ms, const json& exit_code) {
    add({{"type", "process"},
         {"event", "ended"},
         {"role", "descendant"},
         {"host_pid", pid},
         {"status", {{"exit_code", exit_code}}}},
        time_ms);
  }
  void published(std::uint64_t item, std::int64_t time_ms, int by) {
    item_event(ItemEvent::kPublished, item, time_ms, by);
  }
  void item_event(ItemEvent event, std::uint64_t item, std::int64_t time_ms, std::int64_t value) {
    ItemRecord record;
    record.time_ns = time_ms * kMs;
    record.item = item;
    record.value = value;
    record.event = static_cast<std::uint16_t>(event);
    history.items.push_back(record);
  }
  TrialResult judged(const std::vector<ItemClass>& classes, json end = json::object()) {
    for (std::size_t i = 0; i < classes.size(); ++i)
      item_event(ItemEvent::kJudged, i, 900, static_cast<std::int64_t>(classes[i]));
    add({{"type", "injection_result"},
         {"outcome", "confirmed"},
         {"activated_ns", 25 * kMs},
         {"victims", {{{"host_pid", 70}}}}},
        800);
    add({{"type", "process"}, {"event", "ended"}, {"role", "main"}, {"status", {{"exit_code", 0}}}},
        90);
    end["type"] = "end";
    end["outcome"] = "finished";
    add(end, 1000);
    return measure_trial(history);
  }
};

constexpr auto kOk = ItemClass::kOk;

TEST(Outside, TheVictimsEndIsTheFirstEffect) {
  Planted trial;
  trial.published(0, 10, 70);
  trial.died(70, 27, nullptr);
  trial.born(71, 30);
  trial.published(1, 35, 72);
  trial.published(2, 50, 71);
  trial.published(3, 80, 71);
  const TrialResult result = trial.judged({kOk, kOk, kOk, kOk});
  EXPECT_EQ(*result.measures.at("first_effect").value, 2 * kMs);
  EXPECT_EQ(*result.measures.at("next_good").value, 10 * kMs);
  EXPECT_EQ(*result.measures.at("first_good").value, 25 * kMs) << "by the one born later";
  EXPECT_TRUE(result.measures.at("first_good").outside);
}

TEST(Outside, AnEndWithZeroOrOfAStrangerIsNone) {
  Planted trial;
  trial.died(70, 27, 0);
  trial.died(75, 27, nullptr);
  for (int i = 0; i < 4; ++i) trial.published(static_cast<std::uint64_t>(i), 20 * (i + 1), 72);
  const TrialResult result = trial.judged({kOk, kOk, kOk, kOk});
  EXPECT_FALSE(result.measures.at("first_effect").value);
  EXPECT_FALSE(result.measures.at("next_good").value);
}

TEST(Outside, ASilenceIsAnEffectWhenItHasBecomeTooLong) {
  Planted trial;
  trial.published(0, 10, 70);
  trial.published(1, 20, 70);
  trial.published(2, 80, 70);
  trial.published(3, 85, 70);
  const TrialResult result = trial.judged({kOk, kOk, kOk, kOk});
  EXPECT_EQ(*result.measures.at("first_effect").value, 25 * kMs) << "at 20 + 2 x 15 ms";
  EXPECT_EQ(*result.measures.at("next_good").value, 55 * kMs);
}

TEST(Outside, AWrongOutputIsAnEffect) {
  Planted trial;
  trial.published(0, 20, 70);
  trial.published(1, 28, 70);
  trial.published(2, 50, 70);
  trial.published(3, 70, 70);
  const TrialResult result = trial.judged({kOk, ItemClass::kCorrupt, kOk, kOk});
  EXPECT_EQ(*result.measures.at("first_effect").value, 3 * kMs);
  EXPECT_EQ(*result.measures.at("next_good").value, 25 * kMs);
}

TEST(Outside, WithoutExactBirthsNobodyIsYounger) {
  Planted trial("looks");
  trial.died(70, 27, nullptr);
  trial.born(71, 30);
  trial.published(0, 50, 71);
  const TrialResult result = trial.judged({kOk, ItemClass::kLost, ItemClass::kLost, kOk});
  EXPECT_FALSE(result.measures.at("first_good").value);
  EXPECT_FALSE(result.measures.at("first_good").censored);
}

TEST(Outside, QuietIsCountedFromTheEndOfTheMainProcess) {
  EXPECT_EQ(*Planted()
                 .judged({kOk, kOk, kOk, kOk}, {{"quiesced_ns", 140 * kMs}})
                 .measures.at("quiesced")
                 .value,
            50 * kMs);
  const Sample never =
      Planted()
          .judged({kOk, kOk, kOk, kOk}, {{"quiesced_ns", nullptr}, {"quiesced_reason", "went on"}})
          .measures.at("quiesced");
  EXPECT_TRUE(never.censored);
  EXPECT_EQ(never.reason, "went on");
  EXPECT_FALSE(Planted().judged({kOk, kOk, kOk, kOk}).measures.at("quiesced").value);
}

TEST(Outside, AStallIsKept) {
  const TrialResult result =
      Planted().judged({kOk, kOk, kOk, kOk}, {{"stall", {{"kind", "hang"}}}});
  EXPECT_EQ(result.stall, "hang");
}

}  // namespace
}  // namespace crashworthy

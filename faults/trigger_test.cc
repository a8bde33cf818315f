// Conditions on a counted clock: what is read, what is refused, when each comes true.
#include "faults/trigger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace crashworthy {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kLaunch = 1000 * kMs;

Trigger read(const std::string& text, TriggerKind kind = TriggerKind::kMoment) {
  auto trigger = parse_trigger(json::parse(text), "/when", kind, "hit");
  EXPECT_TRUE(trigger) << (trigger ? "" : trigger.error().message);
  return resolve(*trigger, kind, 7, 0);
}

std::string refusal(const std::string& text, TriggerKind kind = TriggerKind::kMoment) {
  auto trigger = parse_trigger(json::parse(text), "/when", kind, "hit");
  EXPECT_FALSE(trigger) << text;
  return trigger ? "" : trigger.error().message;
}

// A trial that was launched at kLaunch, `ms` later.
Moment at(std::int64_t ms) {
  Moment moment;
  moment.launched_ns = kLaunch;
  moment.ready_ns = kLaunch + 5 * kMs;
  moment.now_ns = kLaunch + ms * kMs;
  return moment;
}

TEST(Trigger, NothingIsDueBeforeTheLaunch) {
  TriggerWatch watch(read(R"({"after": "1ms"})"));
  Moment moment = at(50);
  moment.launched_ns = 0;
  EXPECT_FALSE(watch.due(moment));
  EXPECT_EQ(watch.next_ns(moment), INT64_MAX);
}

TEST(Trigger, AfterIsCountedFromTheLaunch) {
  TriggerWatch watch(read(R"({"after": "20ms"})"));
  EXPECT_FALSE(watch.due(at(19)));
  EXPECT_EQ(watch.next_ns(at(19)), kLaunch + 20 * kMs);
  EXPECT_TRUE(watch.due(at(20)));
  watch.fired(at(20).now_ns);
  EXPECT_TRUE(watch.spent());
  EXPECT_FALSE(watch.due(at(30)));
}

TEST(Trigger, WithoutConditionTheMiddleOfAFaultFreeRunIsDrawn) {
  const Trigger nothing = *parse_trigger(json::object(), "/when", TriggerKind::kMoment, "hit");
  for (std::uint64_t seed = 1; seed < 50; ++seed) {
    const Trigger drawn = resolve(nothing, TriggerKind::kMoment, seed, 1000 * kMs);
    EXPECT_GE(drawn.gate->value.low, 300 * kMs);
    EXPECT_LE(drawn.gate->value.low, 700 * kMs);
  }
  EXPECT_EQ(resolve(nothing, TriggerKind::kMoment, 1, 0).gate->value.low, 100 * kMs);
}

TEST(Trigger, ItemsAreThoseTaken) {
  TriggerWatch watch(read(R"({"item": 3})"));
  Moment moment = at(1);
  moment.items_taken = 2;
  EXPECT_FALSE(watch.due(moment));
  EXPECT_EQ(watch.next_item(), 3u);
  moment.items_taken = 3;
  EXPECT_TRUE(watch.due(moment));
}

TEST(Trigger, AllWaitsForAllAndAnyForOne) {
  TriggerWatch all(read(R"({"all": [{"after": "10ms"}, {"item": 2}]})"));
  TriggerWatch any(read(R"({"any": [{"after": "10ms"}, {"item": 2}]})"));
  Moment moment = at(1);
  EXPECT_FALSE(any.due(moment));
  moment = at(12);
  EXPECT_FALSE(all.due(moment));
  EXPECT_TRUE(any.due(moment));
  moment.items_taken = 2;
  EXPECT_TRUE(all.due(moment));
}

TEST(Trigger, ThenCountsEachFromTheOneBefore) {
  TriggerWatch watch(read(R"({"then": [{"item": 2}, {"after": "10ms"}, {"item": 3}]})"));
  Moment moment = at(50);
  moment.items_taken = 1;
  EXPECT_FALSE(watch.due(moment));
  moment = at(60);
  moment.items_taken = 2;
  EXPECT_FALSE(watch.due(moment)) << "10 ms from now on";
  EXPECT_EQ(watch.next_ns(moment), kLaunch + 70 * kMs);
  moment = at(70);
  moment.items_taken = 6;
  EXPECT_FALSE(watch.due(moment));
  EXPECT_EQ(watch.next_item(), 9u);
  moment.items_taken = 9;
  EXPECT_TRUE(watch.due(moment));
}

TEST(Trigger, EventsCarryADelay) {
  TriggerWatch watch(read(R"({"event": "first_output+5ms"})"));
  EXPECT_FALSE(watch.due(at(100)));
  Moment moment = at(103);
  moment.first_output_ns = at(100).now_ns;
  EXPECT_FALSE(watch.due(moment));
  EXPECT_EQ(watch.next_ns(moment), kLaunch + 105 * kMs);
  moment.now_ns = at(105).now_ns;
  EXPECT_TRUE(watch.due(moment));
}

TEST(Trigger, PhasesAreThoseOfTheTrial) {
  TriggerWatch startup(read(R"({"phase": "startup"})"));
  TriggerWatch steady(read(R"({"phase": "steady"})"));
  TriggerWatch delivering(read(R"({"phase": "delivering"})"));
  Moment moment = at(1);
  moment.ready_ns = 0;
  EXPECT_TRUE(startup.due(moment));
  EXPECT_FALSE(steady.due(moment));
  EXPECT_TRUE(steady.due(at(6)));
  EXPECT_FALSE(delivering.due(at(6)));
  moment = at(9);
  moment.first_output_ns = moment.now_ns;
  EXPECT_TRUE(delivering.due(moment));
}

TEST(Trigger, RepeatsAfterTheGap) {
  TriggerWatch watch(read(R"({"after": "10ms", "repeat": {"times": 3, "gap": "5ms"}})"));
  EXPECT_TRUE(watch.due(at(10)));
  watch.fired(at(10).now_ns);
  EXPECT_FALSE(watch.due(at(14)));
  EXPECT_EQ(watch.next_ns(at(14)), kLaunch + 15 * kMs);
  EXPECT_TRUE(watch.due(at(15)));
  watch.fired(at(15).now_ns);
  EXPECT_TRUE(watch.due(at(20)));
  watch.fired(at(20).now_ns);
  EXPECT_TRUE(watch.spent());
}

TEST(Trigger, RepeatsWhenRecovered) {
  TriggerWatch watch(read(R"({"after": "10ms", "repeat": {"times": 2, "gap": "recovered+2ms"}})"));
  EXPECT_TRUE(watch.due(at(10)));
  watch.fired(at(10).now_ns);
  Moment moment = at(20);
  moment.fired_ns = at(10).now_ns;
  moment.last_output_ns = at(9).now_ns;
  EXPECT_FALSE(watch.due(moment)) << "delivered before the fault";
  moment.last_output_ns = at(19).now_ns;
  EXPECT_FALSE(watch.due(moment));
  moment.now_ns = at(21).now_ns;
  EXPECT_TRUE(watch.due(moment));
}

TEST(Trigger, HitsAreDrawnFromTheirRangeAndOtherConditionsOpenThem) {
  for (std::uint64_t seed = 1; seed < 30; ++seed) {
    const Trigger trigger =
        resolve(*parse_trigger(json::parse(R"({"hit": [5, 7], "after": "3ms"})"), "/when",
                               TriggerKind::kCounted, "hit"),
                TriggerKind::kCounted, seed, 0);
    EXPECT_GE(trigger.count->low, 5);
    EXPECT_LE(trigger.count->low, 7);
    EXPECT_EQ(trigger.count->low, trigger.count->high);
    EXPECT_EQ(trigger.gate->value.low, 3 * kMs);
  }
  EXPECT_EQ(read("{}", TriggerKind::kCounted).count->low, 1);
}

TEST(Trigger, WhatIsWrittenIsReadAgain) {
  for (const char* text :
       {R"({"after": "20ms"})", R"({"item": 4})", R"({"phase": "steady"})",
        R"({"event": "recovered+2s"})", R"({"all": [{"after": "1s"}, {"any": [{"item": 2}]}]})",
        R"({"then": [{"item": 1}, {"after": "5us"}]})",
        R"({"after": "1s", "repeat": {"times": 4, "gap": "recovered+1ms"}})"}) {
    const json once = to_json(read(text), "hit");
    EXPECT_EQ(to_json(read(once.dump()), "hit"), once) << text;
  }
  const char* counted = R"({"hit": 9, "probability": 0.5, "repeat": {"times": 2, "every": 3}})";
  const json once = to_json(read(counted, TriggerKind::kCounted), "hit");
  EXPECT_EQ(to_json(read(once.dump(), TriggerKind::kCounted), "hit"), once);
}

TEST(Trigger, WhatMakesNoSenseIsRefusedWithItsPlace) {
  EXPECT_THAT(refusal(R"({"after": "1s", "item": 3})"), HasSubstr("two conditions at once"));
  EXPECT_THAT(refusal(R"({"event": "recoverd"})"), HasSubstr("/when/event"));
  EXPECT_THAT(refusal(R"({"event": "ready+soon"})"), HasSubstr("/when/event"));
  EXPECT_THAT(refusal(R"({"phase": "late"})"), HasSubstr("unknown phase"));
  EXPECT_THAT(refusal(R"({"all": []})"), HasSubstr("/when/all"));
  EXPECT_THAT(refusal(R"({"all": [{"after": "1s", "item": 2}]})"), HasSubstr("exactly one key"));
  EXPECT_THAT(refusal(R"({"then": [{"hit": 2}]})"), HasSubstr("/when/then/0/hit"));
  EXPECT_THAT(refusal(R"({"repeat": {"times": 3}})"), HasSubstr("needs a 'gap'"));
  EXPECT_THAT(refusal(R"({"hit": 3})"), HasSubstr("unknown field"));
  EXPECT_THAT(refusal(R"({"after": "1s"})", TriggerKind::kLaunch), HasSubstr("unknown field"));
  EXPECT_THAT(refusal(R"({"probability": 0})", TriggerKind::kCounted), HasSubstr("above 0"));
  EXPECT_THAT(refusal(R"({"probability": 2})", TriggerKind::kCounted), HasSubstr("at most 1"));
  std::string deep = R"({"after": "1s"})";
  for (int i = 0; i < 20; ++i) deep = R"({"all": [)" + deep + "]}";
  EXPECT_THAT(refusal(deep), HasSubstr("too deeply"));
}

}  // namespace
}  // namespace crashworthy

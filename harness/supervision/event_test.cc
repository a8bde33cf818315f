// Events as lines: of the lifecycle log, and of the events file.
#include "harness/supervision/event.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kTime = 1'767'323'045'678'901'234;  // 2026-01-02 03:04:05.678901234

TEST(Event, EachKindHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int kind = 0; kind <= static_cast<int>(EventKind::kOrder); ++kind)
    names.insert(event_name(static_cast<EventKind>(kind)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(EventKind::kOrder) + 1);
  EXPECT_EQ(event_name(EventKind::kState), "state");
  EXPECT_EQ(event_name(EventKind::kOrder), "order");
  EXPECT_EQ(event_name(EventKind::kIntensitySpent), "intensity_spent");
}

TEST(Event, TimesAreUtcWithMicroseconds) {
  EXPECT_EQ(log_time(kTime), "2026-01-02 03:04:05.678901");
  EXPECT_EQ(log_time(0), "1970-01-01 00:00:00.000000");
  EXPECT_EQ(log_time(999), "1970-01-01 00:00:00.000000");
  EXPECT_EQ(log_time(-1), "1969-12-31 23:59:59.999999");
  EXPECT_EQ(log_time(INT64_MAX), "2262-04-11 23:47:16.854775");
  EXPECT_EQ(log_time(INT64_MIN).substr(0, 4), "1677");
}

TEST(Event, ALogLineNamesTheTimeThePartThePidAndTheState) {
  Event event;
  event.path = "inner/worker";
  event.pid = 1234;
  event.state = LifeState::kRunning;
  EXPECT_EQ(log_line(event, kTime, "root"),
            "2026-01-02 03:04:05.678901\t[inner/worker]\tpid:01234\trunning");
  event.path.clear();
  event.pid = 0;
  event.state = LifeState::kInitial;
  EXPECT_EQ(log_line(event, kTime, "pipeline"),
            "2026-01-02 03:04:05.678901\t[pipeline]\tpid:00000\tinitial");
  event.pid = 4'194'304;  // The highest that Linux has.
  EXPECT_EQ(log_line(event, kTime, "x"), "2026-01-02 03:04:05.678901\t[x]\tpid:4194304\tinitial");
}

TEST(Event, AsJsonHasOnlyWhatApplies) {
  Event event;
  event.number = 7;
  event.cause = 5;
  event.causes = {5, 3};
  event.time_ns = 42;
  event.path = "a";
  event.incarnation = 2;
  event.pid = 99;
  event.state = LifeState::kTerminated;
  EXPECT_EQ(json::parse(event_json(event, kTime)), json({{"number", 7},
                                                         {"cause", 5},
                                                         {"causes", json::array({5, 3})},
                                                         {"time", "2026-01-02 03:04:05.678901"},
                                                         {"unix_ns", kTime},
                                                         {"time_ns", 42},
                                                         {"event", "state"},
                                                         {"path", "a"},
                                                         {"incarnation", 2},
                                                         {"pid", 99},
                                                         {"state", "terminated"}}));
  EXPECT_EQ(event_json(event, kTime).find('\n'), std::string::npos);
}

TEST(Event, AsJsonSaysHowAProcessEnded) {
  Event event;
  event.kind = EventKind::kEnded;
  event.status = WaitStatus::from_raw(3 << 8);
  json line = json::parse(event_json(event, kTime));
  EXPECT_EQ(line["exit_code"], 3);
  EXPECT_EQ(line["status"], "exited with 3");
  EXPECT_FALSE(line.contains("signal"));
  EXPECT_FALSE(line.contains("state"));
  event.status = WaitStatus::from_raw(SIGSEGV | 0x80);
  line = json::parse(event_json(event, kTime));
  EXPECT_EQ(line["signal"], SIGSEGV);
  EXPECT_EQ(line["core"], true);
  EXPECT_FALSE(line.contains("exit_code"));
}

TEST(Event, AsJsonHasBudgetAndText) {
  Event event;
  event.kind = EventKind::kRestart;
  event.budget_left = 0;
  event.text = "line\nand \xff";
  const json line = json::parse(event_json(event, kTime));
  EXPECT_EQ(line["budget_left"], 0);
  EXPECT_EQ(line["text"], "line\nand \xef\xbf\xbd") << "what is no UTF-8 is replaced";
  event.budget_left = -1;
  EXPECT_FALSE(json::parse(event_json(event, kTime)).contains("budget_left"));
}

}  // namespace
}  // namespace crashworthy

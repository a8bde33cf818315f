// Specifications of trees: defaults, words, and that everything that makes no sense is refused with
// its place.
#include "harness/supervision/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace crashworthy {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::StartsWith;

ChildSpec child(const std::string& id) {
  ChildSpec spec;
  spec.id = id;
  spec.command = {"sleep", "inf"};
  return spec;
}

ChildSpec nested(const std::string& id, SupervisorSpec supervisor) {
  ChildSpec spec;
  spec.id = id;
  spec.supervisor = std::make_shared<const SupervisorSpec>(std::move(supervisor));
  return spec;
}

SupervisorSpec supervisor(std::vector<ChildSpec> children) {
  SupervisorSpec spec;
  spec.children = std::move(children);
  return spec;
}

TEST(Spec, DefaultsAreThoseOfOtp) {
  const SupervisorSpec root;
  EXPECT_EQ(root.strategy, Strategy::kOneForOne);
  EXPECT_EQ(root.intensity, 1);
  EXPECT_EQ(root.period, 5s);
  EXPECT_EQ(root.auto_shutdown, AutoShutdown::kNever);
  const ChildSpec worker = child("a");
  EXPECT_EQ(worker.restart, RestartType::kPermanent);
  EXPECT_EQ(worker.child_type(), ChildType::kWorker);
  EXPECT_EQ(stop_name(worker.stop_policy()), "5s");
  EXPECT_FALSE(worker.significant);
  const ChildSpec inner = nested("s", {});
  EXPECT_EQ(inner.child_type(), ChildType::kSupervisor);
  EXPECT_EQ(stop_name(inner.stop_policy()), "infinite");
  ChildSpec foreign = child("f");
  foreign.type = ChildType::kSupervisor;
  EXPECT_EQ(stop_name(foreign.stop_policy()), "infinite") << "a command may be a supervisor too";
}

TEST(Spec, WordsGoBothWays) {
  for (const Strategy value :
       {Strategy::kOneForOne, Strategy::kOneForAll, Strategy::kRestForOne, Strategy::kDynamic})
    EXPECT_EQ(strategy_from_name(strategy_name(value)), value);
  for (const RestartType value :
       {RestartType::kPermanent, RestartType::kTransient, RestartType::kTemporary})
    EXPECT_EQ(restart_from_name(restart_name(value)), value);
  for (const ChildType value : {ChildType::kWorker, ChildType::kSupervisor})
    EXPECT_EQ(type_from_name(type_name(value)), value);
  for (const AutoShutdown value :
       {AutoShutdown::kNever, AutoShutdown::kAnySignificant, AutoShutdown::kAllSignificant})
    EXPECT_EQ(auto_shutdown_from_name(auto_shutdown_name(value)), value);
  EXPECT_EQ(strategy_name(Strategy::kRestForOne), "rest_for_one");
  EXPECT_EQ(restart_name(RestartType::kTemporary), "temporary");
  EXPECT_EQ(auto_shutdown_name(AutoShutdown::kAllSignificant), "all_significant");
  EXPECT_FALSE(strategy_from_name("one_for_two"));
  EXPECT_FALSE(restart_from_name(""));
  EXPECT_FALSE(type_from_name("Worker"));
  EXPECT_FALSE(auto_shutdown_from_name("sometimes"));
}

TEST(Spec, StopPoliciesAreNamedAsWritten) {
  using Kind = StopPolicy::Kind;
  EXPECT_EQ(stop_name({}), "5s");
  EXPECT_EQ(stop_name({Kind::kTime, 0s}), "0s");
  EXPECT_EQ(stop_name({Kind::kTime, 1500ms}), "1500ms");
  EXPECT_EQ(stop_name({Kind::kTime, 120s}), "2m");
  EXPECT_EQ(stop_name({Kind::kTime, 7ns}), "7ns");
  EXPECT_EQ(stop_name({Kind::kKill, 5s}), "kill");
  EXPECT_EQ(stop_name({Kind::kInfinite, 5s}), "infinite");
}

TEST(Spec, WhatMakesSenseIsAccepted) {
  EXPECT_TRUE(check_spec({})) << "a supervisor without children";
  SupervisorSpec inner = supervisor({child("a"), child("b")});
  inner.intensity = 0;
  SupervisorSpec root = supervisor({child("a"), nested("b", inner), child("ü ñ-1.x")});
  root.auto_shutdown = AutoShutdown::kAnySignificant;
  root.children[0].significant = true;
  root.children[0].restart = RestartType::kTransient;
  root.children[0].stop = StopPolicy{StopPolicy::Kind::kTime, 0s};
  root.children[0].command = {"sh", "-c", "two\nlines"};
  root.children[0].ready = Readiness{};
  root.children[0].heartbeat = Heartbeat{};
  root.children[0].environment = {{"A", ""}};
  root.children[2].ready = Readiness{std::nullopt, 1s};
  root.children[2].heartbeat = Heartbeat{};
  root.children[1].stop = StopPolicy{StopPolicy::Kind::kTime, 9s};
  auto checked = check_spec(root);
  EXPECT_TRUE(checked) << checked.error().message;
  SupervisorSpec dynamic = supervisor({child("template")});
  dynamic.strategy = Strategy::kDynamic;
  EXPECT_TRUE(check_spec(dynamic));
}

struct BadChild {
  const char* name;
  std::function<void(ChildSpec&)> spoil;
  const char* place;
  const char* says;
};

class BadChildSpec : public ::testing::TestWithParam<BadChild> {};

TEST_P(BadChildSpec, IsRefusedWithItsPlace) {
  ChildSpec spec = child("a");
  GetParam().spoil(spec);
  const auto alone = check_child(spec, AutoShutdown::kNever, "/x");
  ASSERT_FALSE(alone);
  EXPECT_EQ(alone.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(alone.error().message, StartsWith(std::string("/x") + GetParam().place + ": "));
  EXPECT_THAT(alone.error().message + " " + alone.error().hint, HasSubstr(GetParam().says));
  // And deep in a tree.
  const auto inside = check_spec(supervisor({child("first"), nested("s", supervisor({spec}))}));
  ASSERT_FALSE(inside);
  EXPECT_THAT(inside.error().message,
              StartsWith(std::string("/children/1/children/0") + GetParam().place + ": "));
}

const std::string kNul("a\0b", 3);

INSTANTIATE_TEST_SUITE_P(
    All, BadChildSpec,
    ::testing::Values(
        BadChild{"NoId", [](ChildSpec& c) { c.id.clear(); }, "/id", "empty"},
        BadChild{"SlashInId", [](ChildSpec& c) { c.id = "a/b"; }, "/id", "not \"a/b\""},
        BadChild{"TabInId", [](ChildSpec& c) { c.id = "a\tb"; }, "/id", "control characters"},
        BadChild{"NulInId", [](ChildSpec& c) { c.id = kNul; }, "/id", "\\u0000"},
        BadChild{"C1InId", [](ChildSpec& c) { c.id = "\xc2\x9b"; }, "/id", "control characters"},
        BadChild{"NoUtf8InId", [](ChildSpec& c) { c.id = "\xff"; }, "/id", "UTF-8"},
        BadChild{"LongId", [](ChildSpec& c) { c.id.assign(201, 'x'); }, "/id", "at most 200"},
        BadChild{"Nothing", [](ChildSpec& c) { c.command.clear(); }, "", "exactly one"},
        BadChild{"CommandAndFunction", [](ChildSpec& c) { c.function = "f"; }, "", "two of them"},
        BadChild{"CommandAndSupervisor",
                 [](ChildSpec& c) { c.supervisor = std::make_shared<SupervisorSpec>(); }, "",
                 "two of them"},
        BadChild{"EmptyProgram", [](ChildSpec& c) { c.command = {"", "x"}; }, "/command/0",
                 "name a program"},
        BadChild{"NulInWord", [](ChildSpec& c) { c.command.push_back(kNul); }, "/command/2",
                 "NUL"},
        BadChild{"ArgumentOfACommand", [](ChildSpec& c) { c.argument = "x"; }, "/argument",
                 "function"},
        BadChild{"NamelessVariable", [](ChildSpec& c) { c.environment[""] = "x"; }, "/env",
                 "not \"\""},
        BadChild{"EqualsInVariable", [](ChildSpec& c) { c.environment["A=B"] = "x"; }, "/env",
                 "A=B"},
        BadChild{"NulInVariable", [](ChildSpec& c) { c.environment["A"] = kNul; }, "/env/A",
                 "NUL"},
        BadChild{"NulInDirectory", [](ChildSpec& c) { c.directory = kNul; }, "/cwd", "NUL"},
        BadChild{"NegativeStop",
                 [](ChildSpec& c) { c.stop = StopPolicy{StopPolicy::Kind::kTime, -1s}; }, "/stop",
                 "not -1s"},
        BadChild{"EndlessStop",
                 [](ChildSpec& c) { c.stop = StopPolicy{StopPolicy::Kind::kTime, 100001h}; },
                 "/stop", "at most 100000h"},
        BadChild{"SignificantUnderNever", [](ChildSpec& c) { c.significant = true; },
                 "/significant", "never shuts down by itself"},
        BadChild{"ReadyWithoutTime",
                 [](ChildSpec& c) {
                   c.ready = Readiness{3, 0s};
                 },
                 "/ready/timeout", "longer than 0, not 0s"},
        BadChild{"ReadyOnStdout",
                 [](ChildSpec& c) {
                   c.ready = Readiness{1, 1s};
                 },
                 "/ready/fd", "not 1"},
        BadChild{"ReadyByMissingHeartbeat",
                 [](ChildSpec& c) {
                   c.ready = Readiness{std::nullopt, 1s};
                 },
                 "/ready", "needs a heartbeat"},
        BadChild{"DescriptorsThatClash",
                 [](ChildSpec& c) {
                   c.ready = Readiness{7, 1s};
                   c.heartbeat = Heartbeat{7, 1s, 1};
                 },
                 "/heartbeat/fd", "also that of"},
        BadChild{"GivenDescriptorThatClashes",
                 [](ChildSpec& c) {
                   c.descriptors = {{0, 3}};
                   c.ready = Readiness{};
                 },
                 "/ready/fd", "/descriptors/0"},
        BadChild{"ClosedDescriptor", [](ChildSpec& c) { c.descriptors = {{-1, 5}}; },
                 "/descriptors/0", "not -1"},
        BadChild{"HighDescriptor", [](ChildSpec& c) { c.descriptors = {{0, 1024}}; },
                 "/descriptors/0", "not 1024"},
        BadChild{"DescriptorAboveTheHighest", [](ChildSpec& c) { c.descriptors = {{0, 768}}; },
                 "/descriptors/0", "from 3 to 767, not 768"},
        BadChild{"HeartbeatWithoutInterval",
                 [](ChildSpec& c) {
                   c.heartbeat = Heartbeat{4, 0s, 1};
                 },
                 "/heartbeat/interval", "longer than 0, not 0s"},
        BadChild{"HeartbeatWithoutMisses",
                 [](ChildSpec& c) {
                   c.heartbeat = Heartbeat{4, 1s, 0};
                 },
                 "/heartbeat/misses", "not 0"},
        BadChild{"HeartbeatForEver",
                 [](ChildSpec& c) {
                   c.heartbeat = Heartbeat{4, 3600s, 2'000'000'000};
                 },
                 "/heartbeat", "at most 100000h"},
        BadChild{"NoDeadline", [](ChildSpec& c) { c.deadline = 0s; }, "/deadline", "longer than 0, not 0s"},
        BadChild{"NegativeBackoff", [](ChildSpec& c) { c.backoff.first = -1ms; }, "/backoff/first",
                 "not -1ms"},
        BadChild{"BackoffAboveItsMax",
                 [](ChildSpec& c) {
                   c.backoff = {2s, 1s, 0.5};
                 },
                 "/backoff/max", "at least 'first', 2s, not 1s"},
        BadChild{"BackoffWithoutMax",
                 [](ChildSpec& c) {
                   c.backoff = {0s, 0s, 0.5};
                 },
                 "/backoff/max", "longer than 0, not 0s"},
        BadChild{"JitterAboveOne", [](ChildSpec& c) { c.backoff.jitter = 1.5; }, "/backoff/jitter",
                 "not 1.5"},
        BadChild{"JitterNotANumber", [](ChildSpec& c) { c.backoff.jitter = std::nan(""); },
                 "/backoff/jitter", "from 0 to 1"},
        BadChild{"NegativeCrashLoop", [](ChildSpec& c) { c.crash_loop.count = -1; },
                 "/crash_loop/count", "not -1"},
        BadChild{"CrashLoopWithoutTime", [](ChildSpec& c) { c.crash_loop.within = 0s; },
                 "/crash_loop/within", "longer than 0, not 0s"},
        BadChild{"DeadlineOfASupervisor",
                 [](ChildSpec& c) {
                   c = nested("s", {});
                   c.deadline = 1s;
                 },
                 "/deadline", "no process"},
        BadChild{"VariablesOfASupervisor",
                 [](ChildSpec& c) {
                   c = nested("s", {});
                   c.environment["A"] = "b";
                 },
                 "/env", "no process"}),
    [](const ::testing::TestParamInfo<BadChild>& test) { return test.param.name; });

TEST(Spec, TheHighestDescriptorIsAllowed) {
  ChildSpec spec = child("a");
  spec.descriptors = {{0, kHighestChildDescriptor}};
  EXPECT_TRUE(check_child(spec, AutoShutdown::kNever));
}

TEST(Spec, ASignificantChildMustNotBePermanent) {
  ChildSpec spec = child("a");
  spec.significant = true;
  const auto checked = check_child(spec, AutoShutdown::kAnySignificant);
  ASSERT_FALSE(checked);
  EXPECT_THAT(checked.error().message,
              StartsWith("/significant: must be false, not true: a permanent child"));
  spec.restart = RestartType::kTemporary;
  EXPECT_TRUE(check_child(spec, AutoShutdown::kAllSignificant));
}

struct BadSupervisor {
  const char* name;
  std::function<void(SupervisorSpec&)> spoil;
  const char* place;
  const char* says;
};

class BadSupervisorSpec : public ::testing::TestWithParam<BadSupervisor> {};

TEST_P(BadSupervisorSpec, IsRefusedWithItsPlace) {
  SupervisorSpec spec = supervisor({child("a"), child("b")});
  GetParam().spoil(spec);
  const auto root = check_spec(spec);
  ASSERT_FALSE(root);
  EXPECT_EQ(root.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(root.error().message, StartsWith(std::string(GetParam().place) + ": "));
  EXPECT_THAT(root.error().message + " " + root.error().hint, HasSubstr(GetParam().says));
  const auto inside = check_spec(supervisor({nested("s", spec)}));
  ASSERT_FALSE(inside);
  EXPECT_THAT(inside.error().message,
              StartsWith(std::string("/children/0") + GetParam().place + ": "));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadSupervisorSpec,
    ::testing::Values(
        BadSupervisor{"NegativeIntensity", [](SupervisorSpec& s) { s.intensity = -1; },
                      "/intensity", "at least 0, not -1"},
        BadSupervisor{"PeriodZero", [](SupervisorSpec& s) { s.period = 0s; }, "/period",
                      "longer than 0, not 0s"},
        BadSupervisor{"PeriodNegative", [](SupervisorSpec& s) { s.period = -5s; }, "/period",
                      "not -5s"},
        BadSupervisor{"RepeatedId", [](SupervisorSpec& s) { s.children[1].id = "a"; },
                      "/children/1/id", "\"a\" is used twice"},
        BadSupervisor{"TwoTemplates", [](SupervisorSpec& s) { s.strategy = Strategy::kDynamic; },
                      "/children", "not 2"},
        BadSupervisor{"NoTemplate",
                      [](SupervisorSpec& s) {
                        s.strategy = Strategy::kDynamic;
                        s.children.clear();
                      },
                      "/children", "not 0"},
        BadSupervisor{"DynamicAutoShutdown",
                      [](SupervisorSpec& s) {
                        s.strategy = Strategy::kDynamic;
                        s.children.pop_back();
                        s.auto_shutdown = AutoShutdown::kAnySignificant;
                      },
                      "/auto_shutdown", "not \"any_significant\""},
        BadSupervisor{"TooMany",
                      [](SupervisorSpec& s) { s.children.resize(kMaxChildren + 1, child("x")); },
                      "/children", "at most 100000"}),
    [](const ::testing::TestParamInfo<BadSupervisor>& test) { return test.param.name; });

TEST(Spec, NestingHasALimit) {
  SupervisorSpec spec = supervisor({child("leaf")});
  for (int depth = 0; depth < kMaxSupervisorDepth; ++depth) spec = supervisor({nested("s", spec)});
  EXPECT_TRUE(check_spec(spec));
  const auto deeper = check_spec(supervisor({nested("s", spec)}));
  ASSERT_FALSE(deeper);
  EXPECT_THAT(deeper.error().message, HasSubstr("nest at most 32 deep"));
}

TEST(Spec, TheSameIdUnderAnotherSupervisorIsFine) {
  EXPECT_TRUE(check_spec(supervisor({child("a"), nested("s", supervisor({child("a")}))})));
}

}  // namespace
}  // namespace crashworthy

// Rows: children that say when they serve.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

constexpr Nanoseconds kShort = milliseconds(200);

// A boot of a (with readiness) and b, until a is asked to say that it serves.
constexpr const char* kUntilA = "root initial; a initial; a ready; a running";
constexpr const char* kThenB = "b initial; b ready; root ready; b running; root running";

std::vector<Behaviour> waiting_rows() {
  return {
      {.name = "NextChildStartsWhenTheOneBeforeServes",
       .sentence = "The child after one with readiness is started when that has said that it "
                   "serves.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").tells_ready(), worker("b")}),
       .script = {{conduct("a", ready_after(kShort)), ""},
                  {boot(), kUntilA},
                  children("", "a starting running #1, b stopped initial #0"),
                  {pass(kShort), seq({"a serves", kThenB})},
                  children("", "a running #1, b running #1")}},
      {.name = "OrderIsDoneWhenTheChildServes",
       .sentence = "An order that starts a child with readiness is answered when it serves.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").tells_ready()}),
       .script = {{boot(),
                   "root initial; a initial; a ready; root ready; a running; a serves; "
                   "root running"},
                  {conduct("a", ready_after(kShort)), ""},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {restart_child("a"), seq({"order restart a", born("a")})},
                  {pass(kShort), seq({"a serves", answer("restart a", "ok")})}}},
      {.name = "FirstHeartbeatMaySayThatAChildServes",
       .sentence = "Without a descriptor for readiness, the first heartbeat says that a child "
                   "serves; later ones say nothing more.",
       .compared = "beyond OTP",
       .tree =
           one_for_one({worker("a").ready_by_heartbeat().beats(milliseconds(250), 4), worker("b")}),
       .script = {{conduct("a", ready_after(kShort)), ""},
                  {boot(), kUntilA},
                  {pass(kShort), seq({"a serves", kThenB})},
                  {pass(seconds(1)), ""},
                  end_is("lives")}},
      {.name = "HeartbeatIsNoReadinessWhereADescriptorIs",
       .sentence = "Where a descriptor says that a child serves, its heartbeats do not.",
       .compared = "beyond OTP",
       .tree = one_for_one(
           {worker("a").tells_ready(seconds(30)).beats(milliseconds(50), 4), worker("b")}),
       .script = {{conduct("a", never_ready()), ""},
                  {boot(), kUntilA},
                  {conduct("a", Conduct()), ""},
                  {pass(milliseconds(50)), ""},
                  children("", "a starting running #1, b stopped initial #0")}},
  };
}

std::vector<Behaviour> failing_rows() {
  return {
      {.name = "ChildThatSaysNothingInTimeHasFailed",
       .sentence = "A child that does not say in time that it serves is killed, and has failed to "
                   "start.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b").tells_ready(kShort)}),
       .script = {{conduct("b", never_ready()), ""},
                  {boot(), seq({"root initial", born("a"),
                                "b initial; b ready; root ready; "
                                "b running"})},
                  {pass(kShort),
                   seq({"b start failed", killed("b"), stopped("a"), "root terminated"})},
                  end_is("start failed"),
                  end_says("'b'")}},
      {.name = "TimeToServeIsExact",
       .sentence = "A child may say that it serves until its time for that is up, and no later.",
       .compared = "beyond OTP",
       .simulated_only = "nanoseconds",
       .tree = one_for_one({worker("a").tells_ready(seconds(1))}, 1),
       .script = {{conduct("a", ready_after(seconds(1) - Nanoseconds(1))), ""},
                  {boot(), "root initial; a initial; a ready; root ready; a running"},
                  {pass(seconds(1) - Nanoseconds(1)), "a serves; root running"},
                  {conduct("a", ready_after(seconds(1) + Nanoseconds(1))), ""},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 0)})},
                  {pass(seconds(1) - Nanoseconds(1)), ""},
                  {pass(Nanoseconds(1)),
                   seq({"a start failed", killed("a"), "spent root", "root terminated"})}}},
      {.name = "ChildThatClosesItsReadinessHasFailed",
       .sentence = "A child that closes its descriptor without having said that it serves is "
                   "killed, and has failed to start.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").tells_ready()}),
       .script = {{conduct("a", closes_ready()), ""},
                  {boot(),
                   "root initial; a initial; a ready; root ready; a running; "
                   "a start failed; a ended SIGKILL; a terminated; root terminated"},
                  end_is("start failed")}},
      {.name = "ChildThatEndsBeforeItServesHasFailed",
       .sentence = "A child that ends before it serves has failed to start, also when it exits "
                   "with 0.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").tells_ready().transient()}),
       .script = {{conduct("a", exits_before_ready(0)), ""},
                  {boot(),
                   "root initial; a initial; a ready; root ready; a running; "
                   "a ended exit 0; a start failed; a terminated; root terminated"},
                  end_is("start failed"),
                  end_says("'a'")}},
      {.name = "RestartWithoutReadinessIsTriedAgain",
       .sentence = "A restart in which the child never serves is tried again, and each try counts.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").tells_ready(kShort)}, 3, seconds(60)),
       .script = {{boot(),
                   "root initial; a initial; a ready; root ready; a running; a serves; "
                   "root running"},
                  {conduct("a", never_ready()), ""},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 2)})},
                  {conduct("a", Conduct()), ""},
                  {pass(kShort),
                   seq({"a start failed", killed("a"), restarted("a", 1), "a serves"})},
                  children("", "a running #3"),
                  child_is("a", "a running #3, last end SIGKILL")}},
      {.name = "OrderFailsWhenTheChildNeverServes",
       .sentence = "An order that starts a child which never serves is refused as a failed start.",
       .compared = "beyond OTP",
       .tree = one_for_one({}),
       .script = {{boot(), booted({})},
                  {conduct("a", exits_before_ready(3)), ""},
                  {start_child("", worker("a").tells_ready()),
                   seq({"order start a", born("a"), "a ended exit 3; a start failed; a terminated",
                        answer("start a", "start_failed")})},
                  children("", "")}},
      {.name = "ShutdownInterruptsAStart",
       .sentence = "A tree that is shut down while a child is being started stops that one, those "
                   "before it, and starts no other.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b").tells_ready(), worker("c")}),
       .script = {{conduct("b", never_ready()), ""},
                  {boot(), seq({"root initial", born("a"), "b initial; b ready; b running"})},
                  {shut_down(), seq({"order shutdown root", stopped("b"), stopped("a"),
                                     "root disabled; root terminated"})},
                  end_is("asked")}},
  };
}

std::vector<Behaviour> hook_rows() {
  return {
      {.name = "HooksAreCalledAroundEachLife",
       .sentence = "The hooks of a child are called before each start, and after it has completed "
                   "or terminated.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a")}),
       .hooks = true,
       .script = {{boot(),
                   "root initial; a initial; hook prepare a; a ready; root ready; "
                   "a running; root running"},
                  {exits("a", 1),
                   "a ended exit 1; a terminated; hook teardown a; a restart left 1; a initial; "
                   "hook prepare a; a ready; a running"},
                  {stop_child("a"),
                   "order stop a; a ended SIGTERM; a completed; "
                   "hook shutdown a; answer stop a: ok"}}},
      {.name = "ChildWhosePreparationFailsIsNotStarted",
       .sentence = "When the hook before a start fails, the child is not started, and that is a "
                   "failed start.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b")}),
       .hooks = true,
       .script = {{prepares_fail("b", 1), ""},
                  {boot(),
                   "root initial; a initial; hook prepare a; a ready; a running; "
                   "b initial; hook prepare b; b start failed; b disabled; root disabled; "
                   "b terminated; hook teardown b; root ready; a ended SIGTERM; a completed; "
                   "hook shutdown a; root terminated"},
                  end_is("start failed"),
                  end_says("'b'"),
                  end_says("told to fail")}},
      {.name = "RestartWhosePreparationFailsIsTriedAgain",
       .sentence = "A restart whose hook fails is tried again, and each try counts.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a")}, 3),
       .hooks = true,
       .script = {{boot(),
                   "root initial; a initial; hook prepare a; a ready; root ready; "
                   "a running; root running"},
                  {prepares_fail("a", 1), ""},
                  {exits("a", 0),
                   "a ended exit 0; a completed; hook shutdown a; a restart left 2; a initial; "
                   "hook prepare a; a start failed; a disabled; a terminated; hook teardown a; "
                   "a restart left 1; a initial; hook prepare a; a ready; a running"},
                  children("", "a running #3")}},
      {.name = "HooksOfASupervisorFrameThoseOfItsChildren",
       .sentence = "The hooks of a nested supervisor are called before its children are started, "
                   "and after they have ended.",
       .compared = "beyond OTP",
       .tree = one_for_one({nested("in", one_for_one({worker("w")}))}),
       .hooks = true,
       .script = {{boot(),
                   "root initial; in initial; hook prepare in; in/w initial; "
                   "hook prepare in/w; in/w ready; in ready; root ready; in/w running; "
                   "in running; root running"},
                  {stop_child("in"),
                   "order stop in; in/w ended SIGTERM; in/w completed; hook shutdown in/w; "
                   "in completed; hook shutdown in; answer stop in: ok"}}},
  };
}

}  // namespace

std::vector<Behaviour> readiness_rows() {
  std::vector<Behaviour> all = waiting_rows();
  for (auto& row : failing_rows()) all.push_back(std::move(row));
  for (auto& row : hook_rows()) all.push_back(std::move(row));
  return all;
}

}  // namespace crashworthy::rows

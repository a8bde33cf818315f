// Rows: heartbeats, deadlines, crash loops.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

constexpr Nanoseconds kBeat = milliseconds(100);
constexpr const char* kBoot =
    "root initial; a initial; a ready; root ready; a running; root running";

std::string hung(const std::string& path) { return seq({path + " hangs", killed(path)}); }

std::vector<Behaviour> hang_rows() {
  return {
      {.name = "ChildThatStopsBeatingIsKilledAndRestarted",
       .sentence = "A child whose heartbeats stay out hangs: it is killed, and treated as crashed.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").beats(kBeat, 4).transient()}),
       .script = {{boot(), kBoot},
                  {pass(seconds(1)), ""},
                  {silent("a"), ""},
                  {pass(4 * kBeat), seq({hung("a"), restarted("a", 1)})},
                  child_is("a", "a running #2, last end SIGKILL"),
                  {pass(seconds(1)), ""}}},
      {.name = "HeartbeatsAreMissedExactly",
       .sentence = "A child hangs exactly when so many intervals have passed since its last "
                   "heartbeat.",
       .compared = "beyond OTP",
       .simulated_only = "nanoseconds",
       .tree = one_for_one({worker("a").beats(kBeat, 4)}),
       .script = {{boot(), kBoot},
                  {pass(3 * kBeat), ""},
                  {silent("a"), ""},
                  {pass(4 * kBeat - Nanoseconds(1)), ""},
                  {pass(Nanoseconds(1)), seq({hung("a"), restarted("a", 1)})}}},
      {.name = "OneMissedHeartbeatMayBeEnough",
       .sentence = "With one miss allowed, the first interval without a heartbeat is too long.",
       .compared = "beyond OTP",
       .simulated_only = "nanoseconds",
       .tree = one_for_one({worker("a").beats(kBeat, 1)}),
       .script = {{boot(), kBoot},
                  {pass(10 * kBeat), ""},
                  {silent("a"), ""},
                  {pass(kBeat), seq({hung("a"), restarted("a", 1)})}}},
      {.name = "ChildThatHangsAgainAndAgainUsesUpTheIntensity",
       .sentence = "Hangs count against the intensity like crashes.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").beats(kBeat, 2)}, 1),
       .script = {{boot(), kBoot},
                  {silent("a"), ""},
                  {pass(3 * kBeat), seq({hung("a"), restarted("a", 0)})},
                  {silent("a"), ""},
                  {pass(3 * kBeat), seq({hung("a"), "spent root", "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "ChildThatRunsLongerThanItsDeadlineIsKilled",
       .sentence = "A child that runs longer than its deadline hangs; its next incarnation has as "
                   "long again.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").ends_by(milliseconds(300)).transient()}),
       .script = {{boot(), kBoot},
                  {pass(milliseconds(150)), ""},
                  {pass(milliseconds(150)), seq({hung("a"), restarted("a", 1)})},
                  {exits("a", 0), "a ended exit 0; a completed"},
                  {pass(milliseconds(600)), ""},
                  children("", "a stopped completed #2")}},
      {.name = "DeadlineIsExact",
       .sentence = "A deadline is kept to the nanosecond.",
       .compared = "beyond OTP",
       .simulated_only = "nanoseconds",
       .tree = one_for_one({worker("a").ends_by(seconds(1))}),
       .script = {{boot(), kBoot},
                  {pass(seconds(1) - Nanoseconds(1)), ""},
                  {pass(Nanoseconds(1)), seq({hung("a"), restarted("a", 1)})},
                  {pass(seconds(1) - Nanoseconds(1)), ""},
                  {pass(Nanoseconds(1)), seq({hung("a"), restarted("a", 0)})}}},
      {.name = "TemporaryChildThatHangsIsForgotten",
       .sentence = "A temporary child that hangs is killed and forgotten.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").ends_by(milliseconds(200)).temporary()}),
       .script = {{boot(), kBoot}, {pass(milliseconds(200)), hung("a")}, children("", "")}},
      {.name = "SuspendedChildMissesNoHeartbeat",
       .sentence = "The heartbeats of a suspended child are not awaited; after it is resumed they "
                   "are again.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").beats(kBeat, 4)}),
       .script = {{boot(), kBoot},
                  {suspend("a"), order_done("suspend a", "a intermitted")},
                  {pass(seconds(1)), ""},
                  {resume("a"), order_done("resume a", "a running")},
                  {pass(seconds(1)), ""},
                  {silent("a"), ""},
                  {pass(5 * kBeat), seq({hung("a"), restarted("a", 1)})}}},
      {.name = "ChildThatIsBeingStoppedMissesNoHeartbeat",
       .sentence = "A child that was asked to end need not beat any more.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").beats(milliseconds(50), 2)}),
       .script = {{conduct("a", dies_after(milliseconds(300))), ""},
                  {boot(), kBoot},
                  {silent("a"), ""},
                  {stop_child("a"), "order stop a"},
                  {pass(milliseconds(300)), seq({stopped("a"), answer("stop a", "ok")})},
                  children("", "a stopped completed #1")}},
  };
}

Step crash(const std::string& path, int budget, const std::string& told = "") {
  return {exits(path, 1),
          seq({path + " ended exit 1", told, path + " terminated", restarted(path, budget)})};
}

std::vector<Behaviour> crash_loop_rows() {
  const auto looping = [] { return worker("a").loops_at(3, seconds(1)); };
  return {
      {.name = "CrashLoopIsToldOnce",
       .sentence = "When a child ends in the same way, soon after its start, three times in a row, "
                   "the tree says so once, in an event and in its status.",
       .compared = "beyond OTP",
       .tree = one_for_one({looping()}, 10),
       .script = {{boot(), kBoot},
                  crash("a", 9),
                  crash("a", 8),
                  child_is("a", "a running #3, last end exit 1"),
                  crash("a", 7, "a crash loop"),
                  child_is("a", "a running #4, last end exit 1, crash loop"),
                  crash("a", 6),
                  crash("a", 5),
                  child_is("a", "a running #6, last end exit 1, crash loop")}},
      {.name = "OtherEndBeginsTheCountOfACrashLoopAnew",
       .sentence = "An end of another kind begins the count of a crash loop anew.",
       .compared = "beyond OTP",
       .tree = one_for_one({looping()}, 10),
       .script = {{boot(), kBoot},
                  crash("a", 9),
                  crash("a", 8),
                  {exits("a", 2), seq({"a ended exit 2; a terminated", restarted("a", 7)})},
                  crash("a", 6),
                  crash("a", 5),
                  crash("a", 4, "a crash loop")}},
      {.name = "LongLifeBeginsTheCountOfACrashLoopAnew",
       .sentence = "An end long after the start begins the count of a crash loop anew.",
       .compared = "beyond OTP",
       .simulated_only = "nanoseconds",
       .tree = one_for_one({looping()}, 10),
       .script = {{boot(), kBoot},
                  crash("a", 9),
                  crash("a", 8),
                  {pass(seconds(1) + Nanoseconds(1)), ""},
                  crash("a", 7),
                  crash("a", 6),
                  crash("a", 5),
                  crash("a", 4, "a crash loop")}},
      {.name = "CrashLoopMayBeIgnored",
       .sentence = "With a count of 0 no crash loop is told of.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").loops_at(0, seconds(1))}, 10),
       .script = {{boot(), kBoot},
                  crash("a", 9),
                  crash("a", 8),
                  crash("a", 7),
                  crash("a", 6),
                  child_is("a", "a running #5, last end exit 1")}},
      {.name = "RestartOfWhatIsNoChildCountsToo",
       .sentence = "A restart of what is no child (a pool's spare) can be counted against the "
                   "intensity of a supervisor, and ends it when it is one too many.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b")}, 2),
       .script = {{boot(), booted({"a", "b"})},
                  {count_restart(""), "root restart left 1"},
                  {count_restart("a"), ""},
                  {count_restart("x"), ""},
                  budget_is("", 1),
                  {exits("b", 1), seq({crashed("b"), restarted("b", 0)})},
                  children("", "a running #1, b running #2"),
                  {count_restart(""),
                   seq({"spent root", stopped("b"), stopped("a"), "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "RestartOfWhatIsNoChildCountsBelow",
       .sentence = "So it is with a nested supervisor, which the one above it restarts.",
       .compared = "beyond OTP",
       .tree = one_for_one({nested("in", one_for_one({worker("w")}, 1))}),
       .script = {{boot(),
                   "root initial; in initial; in/w initial; in/w ready; in ready; "
                   "root ready; in/w running; in running; root running"},
                  {count_restart("in"), "in restart left 0"},
                  {count_restart("in"),
                   seq({"spent in", stopped("in/w"), "in terminated", left("in", 1),
                        "in initial; in/w initial; in/w ready; in ready; in/w running; "
                        "in running"})}}},
  };
}

}  // namespace

std::vector<Behaviour> watch_rows() {
  std::vector<Behaviour> all = hang_rows();
  for (auto& row : crash_loop_rows()) all.push_back(std::move(row));
  return all;
}

}  // namespace crashworthy::rows

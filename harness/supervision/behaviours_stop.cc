// Rows: how children are stopped, and how a tree is.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

constexpr Nanoseconds kShort = milliseconds(200);

std::vector<Behaviour> policy_rows() {
  return {
      {.name = "ShutdownStopsInReverseOrderOneAfterTheOther",
       .sentence = "A tree that is shut down asks its children in reverse order, each when the "
                   "one after it has ended.",
       .otp_cases = {"order_of_children", "sup_stop_infinity"},
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b"), worker("c")}),
       .script = {{conduct("b", dies_after(kShort)), ""},
                  {boot(), booted({"a", "b", "c"})},
                  {shut_down(), seq({"order shutdown root", stopped("c")})},
                  end_is("lives"),
                  children("", "a running #1, b stopping running #1, c stopped completed #1"),
                  {pass(kShort), seq({stopped("b"), stopped("a"), "root completed"})},
                  end_is("asked")}},
      {.name = "InfiniteStopWaits",
       .sentence = "Children and supervisors with an infinite stop are waited for.",
       .otp_cases = {"sup_stop_infinity"},
       .compared = "same",
       .tree = one_for_one(
           {nested("in", one_for_one({worker("w").waited_for()})), worker("b").waited_for()}),
       .script = {{conduct("b", dies_after(kShort)), ""},
                  {conduct("in/w", dies_after(kShort)), ""},
                  {boot(),
                   "root initial; in initial; in/w initial; in/w ready; in ready; "
                   "in/w running; in running; b initial; b ready; root ready; b running; "
                   "root running"},
                  {shut_down(), "order shutdown root"},
                  {pass(kShort), stopped("b")},
                  {pass(kShort), seq({stopped("in/w"), "in completed", "root completed"})},
                  end_is("asked")}},
      {.name = "InfiniteStopWaitsForAnHour",
       .sentence = "An infinite stop has no bound at all.",
       .otp_cases = {"sup_stop_infinity"},
       .compared = "same",
       .simulated_only = "takes an hour",
       .tree = one_for_one({worker("a").waited_for()}),
       .script = {{conduct("a", dies_after(hours(1))), ""},
                  {boot(), booted({"a"})},
                  {shut_down(), "order shutdown root"},
                  {pass(hours(1) - Nanoseconds(1)), ""},
                  {pass(Nanoseconds(1)), seq({stopped("a"), "root completed"})},
                  end_is("asked")}},
      {.name = "ChildThatIgnoresItsStopIsKilled",
       .sentence = "A child that has not ended when its time to stop is up is killed; those before "
                   "it are then asked.",
       .otp_cases = {"sup_stop_timeout"},
       .compared = "same",
       .tree = one_for_one({worker("a").stops_within(kShort), worker("b").stops_within(kShort)}),
       .script = {{conduct("b", ignores_stop()), ""},
                  {boot(), booted({"a", "b"})},
                  {shut_down(), "order shutdown root"},
                  {pass(kShort),
                   seq({"b stop timeout", killed("b"), stopped("a"), "root terminated"})},
                  end_is("asked")}},
      {.name = "TimeToStopIsExact",
       .sentence = "The time to stop begins when the child is asked, and is neither shorter nor "
                   "longer than said.",
       .otp_cases = {"sup_stop_timeout"},
       .compared = "same",
       .simulated_only = "nanoseconds",
       .tree =
           one_for_one({worker("a").stops_within(seconds(1)), worker("b").stops_within(seconds(1)),
                        worker("c").stops_within(seconds(1))}),
       .script = {{conduct("a", ignores_stop()), ""},
                  {conduct("b", dies_after(seconds(1) - Nanoseconds(1))), ""},
                  {conduct("c", dies_after(seconds(1) + Nanoseconds(1))), ""},
                  {boot(), booted({"a", "b", "c"})},
                  {shut_down(), "order shutdown root"},
                  {pass(seconds(1) - Nanoseconds(1)), ""},
                  {pass(Nanoseconds(1)), seq({"c stop timeout", killed("c")})},
                  {pass(seconds(1) - Nanoseconds(2)), ""},
                  {pass(Nanoseconds(1)), stopped("b")},
                  {pass(seconds(1) - Nanoseconds(1)), ""},
                  {pass(Nanoseconds(1)), seq({"a stop timeout", killed("a"), "root terminated"})}}},
      {.name = "TimeToStopOfNothingKillsWhoeverDoesNotEndAtOnce",
       .sentence = "With no time to stop, a child is asked, and killed if it does not end at once.",
       .otp_cases = {"child_specs"},
       .compared = "same",
       .simulated_only = "whether a real process ends at once is chance",
       .tree = one_for_one(
           {worker("a").stops_within(Nanoseconds(0)), worker("b").stops_within(Nanoseconds(0))}),
       .script = {{conduct("b", ignores_stop()), ""},
                  {boot(), booted({"a", "b"})},
                  {stop_child("b"), order_done("stop b", seq({"b stop timeout", killed("b")}))},
                  {stop_child("a"), order_done("stop a", stopped("a"))}}},
      {.name = "ChildIsKilledWhereThatIsItsStop",
       .sentence = "A child whose stop is `kill` is killed without being asked.",
       .otp_cases = {"sup_stop_brutal_kill"},
       .compared = "same",
       .tree = one_for_one({worker("a").stops_within(seconds(1)), worker("b").killed()}),
       .script = {{boot(), booted({"a", "b"})},
                  {shut_down(),
                   seq({"order shutdown root", killed("b"), stopped("a"), "root terminated"})},
                  end_is("asked")}},
      {.name = "StateSaysHowAStoppedChildEnded",
       .sentence = "A child that was asked has completed when it exited with 0 or 143 or died of "
                   "SIGTERM; otherwise it is terminated.",
       .compared = "same: OTP reports the same ends as shutdown_error",
       .tree = one_for_one({worker("a"), worker("b"), worker("c"), worker("d")}),
       .script = {{conduct("a", exits_with(0)), ""},
                  {conduct("b", exits_with(143)), ""},
                  {conduct("c", exits_with(3)), ""},
                  {boot(), booted({"a", "b", "c", "d"})},
                  {stop_child("a"), order_done("stop a", "a ended exit 0; a completed")},
                  {stop_child("b"), order_done("stop b", "b ended exit 143; b completed")},
                  {stop_child("c"), order_done("stop c", "c ended exit 3; c terminated")},
                  {stop_child("d"), order_done("stop d", "d ended SIGTERM; d completed")},
                  child_is("c", "c stopped terminated #1, last end exit 3"),
                  child_is("d", "d stopped completed #1, last end SIGTERM"),
                  {shut_down(), "order shutdown root; root terminated"},
                  end_is("asked")}},
      {.name = "ChildThatTakesNoHintCannotHangItsSupervisor",
       .sentence = "A child that left its supervisor's channels and ignores its stop holds orders "
                   "up for no longer than its time to stop.",
       .otp_cases = {"child_unlink"},
       .compared =
           "different: there is no link to cut; its whole process tree is asked, and killed",
       .tree = one_for_one({worker("a").stops_within(kShort), worker("b")}),
       .script = {{conduct("a", ignores_stop()), ""},
                  {boot(), booted({"a", "b"})},
                  {stop_child("a"), "order stop a"},
                  {restart_child("b"), ""},
                  {pass(kShort), seq({"a stop timeout", killed("a"), answer("stop a", "ok"),
                                      answer("restart b", "running")})}}},
  };
}

// Those that end by themselves while their supervisor stops the last one.
Behaviour race_row() {
  Children list = {worker("a").temporary()};
  std::vector<std::string> paths = {"a"};
  std::vector<Step> ends;
  const std::pair<std::string, RestartType> types[] = {{"m", RestartType::kTemporary},
                                                       {"t", RestartType::kTransient},
                                                       {"p", RestartType::kPermanent}};
  for (const auto& [prefix, how] : types) {
    for (int i = 0; i < 4; ++i) {
      const std::string id = prefix + std::to_string(i);
      list.push_back(worker(id).restarted(how));
      paths.push_back(id);
      const std::string end = i == 0   ? "exit 0"
                              : i == 1 ? "SIGTERM"
                              : i == 2 ? "exit 1"
                                       : "SIGKILL";
      const Action act = i == 0   ? exits(id, 0)
                         : i == 1 ? dies(id, SIGTERM)
                         : i == 2 ? exits(id, 1)
                                  : dies(id, SIGKILL);
      ends.push_back(
          {act, seq({id + " ended " + end, id + (i == 0 ? " completed" : " terminated")})});
    }
  }
  list.push_back(worker("z").stops_within(seconds(2)));
  paths.push_back("z");
  return {
      .name = "EndsDuringAShutdownAreNotRestarted",
      .sentence =
          "Children that end by themselves while their tree is being shut down keep "
          "their own ends, and none is restarted, whatever its type.",
      .otp_cases = {"sup_stop_race"},
      .compared = "same",
      .tree = one_for_one(std::move(list)),
      .script = steps({{{conduct("z", dies_after(seconds(1))), ""},
                        {boot(), booted(paths)},
                        {shut_down(), "order shutdown root"}},
                       ends,
                       {end_is("lives"),
                        {pass(seconds(1)), seq({stopped("z"), stopped("a"), "root terminated"})},
                        end_is("asked")}})};
}

Behaviour dynamic_brutal_row() {
  std::vector<Step> script = {{boot(), booted({})}};
  std::string ends;
  for (int i = 1; i <= 10; ++i) {
    const std::string id = "t-" + std::to_string(i);
    script.push_back({start_child("", Child("")), started(id)});
    ends = seq({ends, killed(id)});
  }
  script.push_back({shut_down(), seq({"order shutdown root", ends, "root terminated"}), true});
  script.push_back(end_is("asked"));
  return {.name = "DynamicSupervisorKillsAllAtOnce",
          .sentence =
              "A dynamic supervisor whose template's stop is `kill` kills all instances "
              "at once.",
          .otp_cases = {"sup_stop_brutal_kill_dynamic"},
          .compared = "same",
          .tree = dynamic(worker("t").temporary().killed()),
          .script = std::move(script)};
}

Behaviour dynamic_exit_row(const std::string& name, RestartType how) {
  return {
      .name = "Dynamic" + name + "InstancesKeepTheirOwnEndsAtAStop",
      .sentence = std::string(restart_name(how)) +
                  " instances that exit in ways of their own when asked are not restarted.",
      .otp_cases = {"sup_stop_non_shutdown_exit_dynamic"},
      .compared = "same",
      .tree = dynamic(worker("t").restarted(how)),
      .script = {{conduct("t-1", exits_with(0)), ""},
                 {conduct("t-3", exits_with(7)), ""},
                 {boot(), booted({})},
                 {start_child("", Child("")), started("t-1")},
                 {start_child("", Child("")), started("t-2")},
                 {start_child("", Child("")), started("t-3")},
                 {shut_down(),
                  seq({"order shutdown root", "t-1 ended exit 0", "t-1 completed", stopped("t-2"),
                       "t-3 ended exit 7", "t-3 terminated", "root terminated"}),
                  true},
                 end_is("asked")}};
}

std::vector<Behaviour> dynamic_stop_rows() {
  return {
      dynamic_brutal_row(),
      dynamic_exit_row("Permanent", RestartType::kPermanent),
      dynamic_exit_row("Transient", RestartType::kTransient),
      dynamic_exit_row("Temporary", RestartType::kTemporary),
      {.name = "DynamicSupervisorKillsTheInstanceThatIgnoresItsStop",
       .sentence = "Of the instances of a dynamic supervisor, those that obey end; the others are "
                   "killed when time is up.",
       .otp_cases = {"sup_stop_timeout_dynamic"},
       .compared = "same",
       .tree = dynamic(worker("t").temporary().stops_within(kShort)),
       .script = {{conduct("t-2", ignores_stop()), ""},
                  {boot(), booted({})},
                  {start_child("", Child("")), started("t-1")},
                  {start_child("", Child("")), started("t-2")},
                  {shut_down(), seq({"order shutdown root", stopped("t-1")})},
                  {pass(kShort), seq({"t-2 stop timeout", killed("t-2"), "root terminated"})},
                  end_is("asked")}},
      {.name = "DynamicSupervisorStopsAllWithinOneTime",
       .sentence = "The instances of a dynamic supervisor are asked all at once, and share one "
                   "time to stop.",
       .otp_cases = {"simple_one_for_one_shutdown"},
       .compared = "same",
       .tree = dynamic(worker("t").stops_within(milliseconds(400))),
       .script = {{conduct("t-1", dies_after(milliseconds(200))), ""},
                  {conduct("t-2", dies_after(milliseconds(200))), ""},
                  {conduct("t-3", dies_after(seconds(5))), ""},
                  {boot(), booted({})},
                  {start_child("", Child("")), started("t-1")},
                  {start_child("", Child("")), started("t-2")},
                  {start_child("", Child("")), started("t-3")},
                  {shut_down(), "order shutdown root"},
                  {pass(milliseconds(200)), seq({stopped("t-1"), stopped("t-2")}), true},
                  {pass(milliseconds(200)),
                   seq({"t-3 stop timeout", killed("t-3"), "root terminated"})},
                  end_is("asked")}},
  };
}

}  // namespace

std::vector<Behaviour> stop_rows() {
  std::vector<Behaviour> all = policy_rows();
  all.push_back(race_row());
  for (auto& row : dynamic_stop_rows()) all.push_back(std::move(row));
  return all;
}

}  // namespace crashworthy::rows

// Rows: which ends lead to a restart, and how many restarts there may be.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

constexpr const char* kByHand = "different: OTP's exit reason `shutdown` is the exit code 0 here";

std::vector<Behaviour> permanent_rows() {
  return {
      {.name = "PermanentChildThatExitsWith0IsRestarted",
       .sentence = "A permanent child that exits with 0 is restarted.",
       .otp_cases = {"permanent_normal"},
       .compared = "same",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 0), seq({"a ended exit 0", "a completed", restarted("a", 1)})},
                  children("", "a running #2"),
                  counts("", 1, 1, 0, 1),
                  child_is("a", "a running #2, last end exit 0"),
                  budget_is("", 1)}},
      {.name = "PermanentChildThatCrashesIsRestarted",
       .sentence = "A permanent child that exits with another code, or is killed, is restarted.",
       .otp_cases = {"permanent_abnormal"},
       .compared = "same",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 3), seq({"a ended exit 3", "a terminated", restarted("a", 1)})},
                  {dies("a", SIGSEGV), seq({"a ended SIGSEGV", "a terminated", restarted("a", 0)})},
                  children("", "a running #3"),
                  child_is("a", "a running #3, last end SIGSEGV"),
                  counts("", 1, 1, 0, 1)}},
      {.name = "PermanentChildThatIsTerminatedFromOutsideIsRestarted",
       .sentence = "A permanent child that somebody else ends with SIGTERM, or that exits with "
                   "143, is restarted.",
       .otp_cases = {"permanent_shutdown"},
       .compared = "same",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {dies("a", SIGTERM), seq({"a ended SIGTERM", "a terminated", restarted("a", 1)})},
                  {exits("a", 143), seq({"a ended exit 143", "a terminated", restarted("a", 0)})},
                  children("", "a running #3")}},
      {.name = "RestartLeavesOtherChildrenAlone",
       .sentence = "With one_for_one, only the child that ended is restarted; one restart more "
                   "than the intensity ends the supervisor.",
       .otp_cases = {"one_for_one"},
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b")}),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 1)})},
                  children("", "a running #2, b running #1"),
                  counts("", 2, 2, 0, 2),
                  {exits("b", 1), seq({crashed("b"), restarted("b", 0)})},
                  {exits("a", 1),
                   seq({crashed("a"), "spent root", stopped("b"), "root terminated"})},
                  end_is("intensity spent")}},
  };
}

std::vector<Behaviour> transient_rows() {
  return {
      {.name = "TransientChildThatExitsWith0StaysStopped",
       .sentence = "A transient child that exits with 0 is kept, stopped, and not restarted.",
       .otp_cases = {"transient_normal"},
       .compared = "same",
       .tree = one_for_one({worker("a").transient()}),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 0), "a ended exit 0; a completed"},
                  children("", "a stopped completed #1"),
                  counts("", 1, 0, 0, 1),
                  budget_is("", 2),
                  end_is("lives")}},
      {.name = "TransientChildThatExitedCanBeRestartedByOrder",
       .sentence = "A transient child that exited with 0 can be started again by order, as often "
                   "as one likes.",
       .otp_cases = {"transient_shutdown"},
       .compared =
           std::string(kByHand) + "; a death by a signal that the tree did not send is a crash",
       .tree = one_for_one({worker("a").transient()}),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 0), "a ended exit 0; a completed"},
                  {restart_child("a"), order_done("restart a", born("a"))},
                  {exits("a", 0), "a ended exit 0; a completed"},
                  children("", "a stopped completed #2"),
                  counts("", 1, 0, 0, 1),
                  {restart_child("a"), order_done("restart a", born("a"))},
                  {dies("a", SIGTERM),
                   seq({"a ended SIGTERM", "a terminated", restarted("a", 1)})}}},
      {.name = "TransientChildThatCrashesIsRestarted",
       .sentence = "A transient child that exits with another code, or is killed, is restarted.",
       .otp_cases = {"transient_abnormal"},
       .compared = "same",
       .tree = one_for_one({worker("a").transient()}),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 1)})},
                  {dies("a"), seq({killed("a"), restarted("a", 0)})},
                  children("", "a running #3"),
                  counts("", 1, 1, 0, 1)}},
  };
}

std::vector<Behaviour> temporary_rows() {
  return {
      {.name = "TemporaryChildThatExitsWith0IsForgotten",
       .sentence = "A temporary child that exits with 0 is forgotten.",
       .otp_cases = {"temporary_normal"},
       .compared = "same",
       .tree = one_for_one({worker("a").temporary()}),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 0), "a ended exit 0; a completed"},
                  children("", ""),
                  counts("", 0, 0, 0, 0),
                  end_is("lives")}},
      {.name = "TemporaryChildThatCrashesIsForgotten",
       .sentence = "A temporary child that crashes is forgotten, and costs no restart.",
       .otp_cases = {"temporary_abnormal"},
       .compared = "same",
       .tree = one_for_one({worker("a").temporary(), worker("b").temporary()}, 0),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("a", 1), crashed("a")},
                  {dies("b"), killed("b")},
                  children("", ""),
                  counts("", 0, 0, 0, 0),
                  end_is("lives")}},
      {.name = "TemporaryChildMayBeStartedAgainUnderItsId",
       .sentence = "The id of a temporary child that ended is free for another.",
       .otp_cases = {"temporary_shutdown"},
       .compared = "same",
       .tree = one_for_one({}),
       .script = {{boot(), booted({})},
                  {start_child("", worker("a").temporary()), started("a")},
                  {dies("a", SIGTERM), "a ended SIGTERM; a terminated"},
                  children("", ""),
                  {start_child("", worker("a").temporary()), started("a")},
                  children("", "a running #1"),
                  {exits("a", 143), "a ended exit 143; a terminated"},
                  counts("", 0, 0, 0, 0)}},
  };
}

std::vector<Behaviour> window_rows() {
  return {
      {.name = "RestartsOfLongAgoAreForgotten",
       .sentence = "A child may be restarted any number of times, as long as there are never too "
                   "many within one period.",
       .otp_cases = {"multiple_restarts"},
       .compared = "same",
       .tree = one_for_one({worker("a").killed()}, 1, milliseconds(100)),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 0)})},
                  {pass(milliseconds(250)), ""},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 0)})},
                  {pass(milliseconds(250)), ""},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 0)})},
                  {pass(milliseconds(250)), ""},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 0)})},
                  {stop_child("a"), order_done("stop a", killed("a"))},
                  {delete_child("a"), order_done("delete a")},
                  children("", "")}},
      {.name = "RestartOneNanosecondTooEarlyIsOneTooMany",
       .sentence = "A restart counts for exactly one period: until then, one too many ends the "
                   "supervisor.",
       .otp_cases = {"multiple_restarts"},
       .compared = "different: the window is (t - period, t] exactly; OTP counts whole seconds",
       .simulated_only = "nanoseconds",
       .tree = one_for_one({worker("a")}, 1, seconds(5)),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 0)})},
                  {pass(seconds(5) - Nanoseconds(1)), ""},
                  budget_is("", 0),
                  {exits("a", 1), seq({crashed("a"), "spent root", "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "RestartOnePeriodLaterIsAllowed",
       .sentence = "Exactly one period after a restart, it no longer counts.",
       .otp_cases = {"multiple_restarts"},
       .compared = "different: the window is (t - period, t] exactly; OTP counts whole seconds",
       .simulated_only = "nanoseconds",
       .tree = one_for_one({worker("a")}, 2, seconds(5)),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 1)})},
                  {pass(seconds(2)), ""},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 0)})},
                  {pass(seconds(3)), ""},
                  budget_is("", 1),
                  {exits("a", 1), seq({crashed("a"), restarted("a", 0)})},
                  {pass(seconds(2) - Nanoseconds(1)), ""},
                  budget_is("", 0),
                  {exits("a", 1), seq({crashed("a"), "spent root", "root terminated"})}}},
      {.name = "IntensityOf0AllowsNoRestart",
       .sentence = "With an intensity of 0, the first crash ends the supervisor.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b")}, 0),
       .script = {{boot(), booted({"a", "b"})},
                  budget_is("", 0),
                  {exits("b", 1),
                   seq({crashed("b"), "spent root", stopped("a"), "root terminated"})},
                  end_is("intensity spent"),
                  end_says("b")}},
      {.name = "OrdersCostNoRestart",
       .sentence = "Starts, stops and restarts by order do not count against the intensity.",
       .compared = "same",
       .tree = one_for_one({worker("a")}, 1),
       .script = {{boot(), booted({"a"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {restart_child("a"), order_done("restart a", born("a"))},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {restart_child("a"), order_done("restart a", born("a"))},
                  {start_child("", worker("b")), started("b")},
                  budget_is("", 1),
                  {exits("b", 1), seq({crashed("b"), restarted("b", 0)})},
                  children("", "a running #3, b running #2")}},
      {.name = "StartThatFailsInARestartIsTriedAgain",
       .sentence = "A restart whose start fails is tried again at once; each try counts.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b")}, 4),
       .script = {{boot(), booted({"a", "b"})},
                  {starts_fail("a", 2), ""},
                  {exits("a", 1), seq({crashed("a"), left("a", 3), fails("a"), left("a", 2),
                                       fails("a"), restarted("a", 1)})},
                  children("", "a running #4, b running #1"),
                  budget_is("", 1)}},
      {.name = "ChildThatWasGivenUpIsStopped",
       .sentence = "While a supervisor that gave up stops its other children, the one that it gave "
                   "up is shown as stopped.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b")}, 1),
       .script = {{conduct("b", dies_after(milliseconds(200))), ""},
                  {boot(), booted({"a", "b"})},
                  {starts_fail("a", 9), ""},
                  {exits("a", 1), seq({crashed("a"), left("a", 0), fails("a"), "spent root"})},
                  children("", "a stopped terminated #2, b stopping running #1"),
                  {restart_child("a"), ""},
                  {pass(milliseconds(200)),
                   seq({stopped("b"), answer("restart a", "ending"), "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "StartThatAlwaysFailsEndsItsSupervisor",
       .sentence = "A child that can no longer be started uses up the intensity: 4 tries for 4 "
                   "restarts, and its supervisor ends with all its children.",
       .otp_cases = {"one_for_one_escalation"},
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b")}, 4),
       .script = {{boot(), booted({"a", "b"})},
                  {starts_fail("a", 9), ""},
                  {exits("a", 1), seq({crashed("a"), left("a", 3), fails("a"), left("a", 2),
                                       fails("a"), left("a", 1), fails("a"), left("a", 0),
                                       fails("a"), "spent root", stopped("b"), "root terminated"})},
                  end_is("intensity spent")}},
  };
}

Behaviour three_levels_row() {
  auto inner = one_for_one({worker("w"), worker("x")}, 1);
  auto middle = one_for_one({worker("v"), nested("n", inner)}, 1);
  const std::string n_born =
      "m/n initial; m/n/w initial; m/n/w ready; m/n/w running; m/n/x initial; m/n/x ready; "
      "m/n ready; m/n/x running; m/n running";
  const std::string m_born =
      seq({"m initial", born("m/v"),
           "m/n initial; m/n/w initial; m/n/w ready; m/n/w running; m/n/x initial; m/n/x ready; "
           "m/n ready; m ready; m/n/x running; m/n running; m running"});
  const std::string boot_seen =
      seq({"root initial", born("u"), "m initial", born("m/v"),
           "m/n initial; m/n/w initial; m/n/w ready; m/n/w running; m/n/x initial; m/n/x ready; "
           "m/n ready; m ready; root ready; m/n/x running; m/n running; m running; root running"});
  const std::string n_spent =
      seq({crashed("m/n/w"), "spent m/n", stopped("m/n/x"), "m/n terminated"});
  const std::string m_spent = seq({n_spent, "spent m", stopped("m/v"), "m terminated"});
  const auto again = [](int left_of_w) {
    return seq({crashed("m/n/w"), restarted("m/n/w", left_of_w)});
  };
  return {
      .name = "CrashesEscalateThroughThreeLevels",
      .sentence =
          "A permanent supervisor that gave up is restarted by the one above it, "
          "with all its children; and what is spent there goes further up.",
      .otp_cases = {"tree"},
      .compared = "same",
      .tree = one_for_one({worker("u"), nested("m", middle)}, 1),
      .script = {{boot(), boot_seen},
                 {exits("m/n/w", 1), again(0)},
                 {exits("m/n/w", 1), seq({n_spent, left("m/n", 0), n_born})},
                 children("m", "v running #1, n running #2"),
                 {exits("m/n/w", 1), again(0)},
                 {exits("m/n/w", 1), seq({m_spent, left("m", 0), m_born})},
                 children("", "u running #1, m running #2"),
                 {exits("m/n/w", 1), again(0)},
                 {exits("m/n/w", 1), seq({n_spent, left("m/n", 0), n_born})},
                 {exits("m/n/w", 1), again(0)},
                 {exits("m/n/w", 1), seq({m_spent, "spent root", stopped("u"), "root terminated"})},
                 end_is("intensity spent")}};
}

std::vector<Behaviour> nested_rows() {
  const std::string in_born =
      "in initial; in/w initial; in/w ready; in ready; in/w running; "
      "in running";
  return {
      three_levels_row(),
      {.name = "TransientSupervisorThatGaveUpIsNotRestarted",
       .sentence = "A nested supervisor that gave up has shut down: where it is transient, it is "
                   "not restarted.",
       .compared = "same",
       .tree = one_for_one({nested("in", one_for_one({worker("w")}, 0)).transient()}),
       .script = {{boot(),
                   "root initial; in initial; in/w initial; in/w ready; in ready; "
                   "root ready; in/w running; in running; root running"},
                  {exits("in/w", 1), seq({crashed("in/w"), "spent in", "in terminated"})},
                  children("", "in stopped terminated #1"),
                  counts("", 1, 0, 1, 0),
                  end_is("lives"),
                  {restart_child("in"), order_done("restart in", in_born)},
                  children("", "in running #2"),
                  children("in", "w running #1")}},
      {.name = "TemporarySupervisorThatGaveUpIsForgotten",
       .sentence = "A temporary nested supervisor that gave up is forgotten.",
       .compared = "same",
       .tree = one_for_one({nested("in", one_for_one({worker("w")}, 0)).temporary()}),
       .script = {{boot(),
                   "root initial; in initial; in/w initial; in/w ready; in ready; "
                   "root ready; in/w running; in running; root running"},
                  {exits("in/w", 1), seq({crashed("in/w"), "spent in", "in terminated"})},
                  children("", ""),
                  end_is("lives")}},
      {.name = "NestedSupervisorIsRebuiltWithItsWorkers",
       .sentence = "A nested supervisor that is restarted, by its supervisor or by order, has new "
                   "workers, and never leaves the old ones behind.",
       .otp_cases = {"simple_global_supervisor"},
       .compared = "different: a nested supervisor is not a process of its own, so it cannot be "
                   "killed alone",
       .tree = one_for_all({nested("in", one_for_one({worker("w")}, 1))}, 3, seconds(60)),
       .script = {{boot(),
                   "root initial; in initial; in/w initial; in/w ready; in ready; "
                   "root ready; in/w running; in running; root running"},
                  {dies("in/w"), seq({killed("in/w"), restarted("in/w", 0)})},
                  {exits("in/w", 0), seq({"in/w ended exit 0; in/w completed", "spent in",
                                          "in terminated", left("in", 2), in_born})},
                  {exits("in/w", 0),
                   seq({"in/w ended exit 0; in/w completed", restarted("in/w", 0)})},
                  {stop_child("in"), order_done("stop in", seq({stopped("in/w"), "in completed"}))},
                  children("", "in stopped completed #2"),
                  children("in", "no supervisor"),
                  {restart_child("in"), order_done("restart in", in_born)},
                  children("in", "w running #1"),
                  {kill_all(),
                   seq({"order kill root", killed("in/w"), "in terminated", "root terminated"})},
                  end_is("asked")}},
      {.name = "NestedSupervisorThatCannotBeStartedAgainEscalates",
       .sentence = "When a nested supervisor is restarted and a child of it cannot be started, "
                   "each try counts for the supervisor above.",
       .compared = "same",
       .tree =
           one_for_one({worker("a"), nested("in", one_for_one({worker("v"), worker("w")}, 0))}, 2),
       .script = {{boot(), seq({"root initial", born("a"), "in initial", born("in/v"),
                                "in/w initial; in/w ready; in ready; root ready; in/w running; "
                                "in running; root running"})},
                  {starts_fail("in/w", 9), ""},
                  {exits("in/w", 1),
                   seq({crashed("in/w"), "spent in", stopped("in/v"), "in terminated",
                        left("in", 1), "in initial", born("in/v"),
                        "in/w initial; in/w ready; in ready; in/w start failed; in/w terminated",
                        stopped("in/v"), "in start failed; in terminated", left("in", 0),
                        "in initial", born("in/v"),
                        "in/w initial; in/w ready; in ready; in/w start failed; in/w terminated",
                        stopped("in/v"), "in start failed; in terminated", "spent root",
                        stopped("a"), "root terminated"})},
                  end_is("intensity spent")}},
  };
}

}  // namespace

std::vector<Behaviour> restart_rows() {
  std::vector<Behaviour> all = permanent_rows();
  for (auto& row : transient_rows()) all.push_back(std::move(row));
  for (auto& row : temporary_rows()) all.push_back(std::move(row));
  for (auto& row : window_rows()) all.push_back(std::move(row));
  for (auto& row : nested_rows()) all.push_back(std::move(row));
  return all;
}

}  // namespace crashworthy::rows

// Rows: one_for_all and rest_for_one, the restart of groups.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

std::vector<Behaviour> one_for_all_rows() {
  return {
      {.name = "OneForAllRestartsAll",
       .sentence = "With one_for_all, the end of one child stops all others in reverse order and "
                   "starts all again; this counts once.",
       .otp_cases = {"one_for_all"},
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b"), worker("c")}),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {exits("b", 1), seq({crashed("b"), left("b", 1), stopped("c"), stopped("a"),
                                       born("a"), born("b"), born("c")})},
                  children("", "a running #2, b running #2, c running #2"),
                  counts("", 3, 3, 0, 3),
                  {exits("a", 1), seq({crashed("a"), left("a", 0), stopped("c"), stopped("b"),
                                       born("a"), born("b"), born("c")})},
                  {exits("c", 1), seq({crashed("c"), "spent root", stopped("b"), stopped("a"),
                                       "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "OneForAllGivesUpWhenOneCannotBeStarted",
       .sentence = "With one_for_all, a child that can no longer be started uses up the "
                   "intensity, each time with all started before it stopped again.",
       .otp_cases = {"one_for_all_escalation"},
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b")}, 4),
       .script = {{boot(), booted({"a", "b"})},
                  {starts_fail("b", 9), ""},
                  {exits("a", 1),
                   seq({crashed("a"), left("a", 3), stopped("b"), born("a"),
                        fails("b"),   left("b", 2), stopped("a"), born("a"),
                        fails("b"),   left("b", 1), stopped("a"), born("a"),
                        fails("b"),   left("b", 0), stopped("a"), born("a"),
                        fails("b"),   "spent root", stopped("a"), "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "OneForAllStartsOverWhenAnotherChildFailsToStart",
       .sentence = "With one_for_all, when another child fails in a restart, those that have just "
                   "been started are stopped, and all are started once more.",
       .otp_cases = {"one_for_all_other_child_fails_restart"},
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b")}, 3),
       .script = {{boot(), booted({"a", "b"})},
                  {starts_fail("b", 1), ""},
                  {exits("a", 1),
                   seq({crashed("a"), left("a", 2), stopped("b"), born("a"), fails("b"),
                        left("b", 1), stopped("a"), born("a"), born("b")})},
                  children("", "a running #3, b running #3"),
                  end_is("lives")}},
      {.name = "GroupThatFailedLeavesOnlyOneRestarting",
       .sentence = "With one_for_all, after a start that failed only that child is restarting; "
                   "those after it are stopped, also the one that ended first, until the next try.",
       .compared = "same",
       .tree = one_for_all({worker("a").tells_ready(), worker("b")}, 5),
       .script = {{boot(),
                   "root initial; a initial; a ready; a running; a serves; b initial; "
                   "b ready; root ready; b running; root running"},
                  {conduct("a", exits_before_ready(1, milliseconds(200))), ""},
                  {exits("b", 1), seq({crashed("b"), left("b", 4), stopped("a"), born("a")})},
                  {restart_child("b"), ""},
                  {restart_child("a"), ""},
                  {conduct("a", Conduct()), ""},
                  {pass(milliseconds(200)),
                   seq({"a ended exit 1; a start failed; a terminated",
                        order_done("restart b", born("b")), answer("restart a", "restarting"),
                        left("a", 3), stopped("b"), born("a"), "a serves", born("b")})},
                  children("", "a running #3, b running #3")}},
      {.name = "OneForAllBringsBackWhatWasStopped",
       .sentence = "A restart of all starts also the children that had been stopped by order or "
                   "had completed.",
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b").transient(), worker("c")}),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {exits("b", 0), "b ended exit 0; b completed"},
                  children("", "a stopped completed #1, b stopped completed #1, c running #1"),
                  {exits("c", 1),
                   seq({crashed("c"), left("c", 1), born("a"), born("b"), born("c")})},
                  children("", "a running #2, b running #2, c running #2")}},
      {.name = "EndWithoutRestartLeavesTheGroupAlone",
       .sentence = "An end that leads to no restart touches no sibling, whatever the strategy.",
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b").transient(), worker("c").temporary()}, 0),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {exits("b", 0), "b ended exit 0; b completed"},
                  {exits("c", 1), crashed("c")},
                  children("", "a running #1, b stopped completed #1"),
                  budget_is("", 0)}},
      {.name = "SiblingThatEndsDuringAGroupRestartCountsOnce",
       .sentence = "A child that ends by itself while its group is being stopped is part of that "
                   "restart: it costs nothing more.",
       .compared = "same",
       .simulated_only = "two ends at one moment",
       .tree = one_for_all({worker("a"), worker("b"), worker("c")}, 1),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {together({exits("a", 1), exits("b", 2), exits("c", 3)}),
                   seq({crashed("a"), left("a", 0), "c ended exit 3; c terminated",
                        "b ended exit 2; b terminated", born("a"), born("b"), born("c")}),
                   true},
                  children("", "a running #2, b running #2, c running #2"),
                  end_is("lives")}},
      {.name = "EndWhileTheGroupIsBeingStoppedIsConsumed",
       .sentence = "A child that ends by itself while another of its group is being stopped is "
                   "started once, with the group.",
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b"), worker("c")}, 1),
       .script = {{conduct("c", dies_after(milliseconds(200))), ""},
                  {boot(), booted({"a", "b", "c"})},
                  {exits("a", 1), seq({crashed("a"), left("a", 0)})},
                  {exits("b", 1), crashed("b")},
                  {conduct("c", Conduct()), ""},
                  {pass(milliseconds(200)), seq({stopped("c"), born("a"), born("b"), born("c")})},
                  children("", "a running #2, b running #2, c running #2"),
                  end_is("lives")}},
      {.name = "EndOfOneJustStartedIsHandledAfterTheGroup",
       .sentence = "A child that ends again while the rest of its group is being started is "
                   "restarted once the group is up.",
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b").tells_ready()}, 3),
       .script = {{boot(),
                   "root initial; a initial; a ready; a running; b initial; b ready; "
                   "root ready; b running; b serves; root running"},
                  {conduct("b", ready_after(milliseconds(200))), ""},
                  {dies("b"), seq({killed("b"), left("b", 2), stopped("a"), born("a"), born("b")})},
                  {exits("a", 1), crashed("a")},
                  {conduct("b", Conduct()), ""},
                  {pass(milliseconds(200)),
                   seq({"b serves", left("a", 1), stopped("b"), born("a"), born("b"), "b serves"})},
                  children("", "a running #3, b running #3")}},
  };
}

std::vector<Behaviour> rest_for_one_rows() {
  return {
      {.name = "RestForOneRestartsThoseStartedAfter",
       .sentence = "With rest_for_one, the end of a child restarts it and those after it; those "
                   "before it are untouched.",
       .otp_cases = {"rest_for_one"},
       .compared = "same",
       .tree = rest_for_one({worker("a"), worker("b"), worker("c")}),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {exits("b", 1),
                   seq({crashed("b"), left("b", 1), stopped("c"), born("b"), born("c")})},
                  children("", "a running #1, b running #2, c running #2"),
                  counts("", 3, 3, 0, 3),
                  {exits("c", 1), seq({crashed("c"), restarted("c", 0)})},
                  {exits("b", 1), seq({crashed("b"), "spent root", stopped("c"), stopped("a"),
                                       "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "RestForOneKeepsTheOrderOfTheSpecification",
       .sentence = "Groups are stopped in reverse, and started in the order of the specification, "
                   "whatever the ids.",
       .otp_cases = {"order_of_children"},
       .compared = "same",
       .tree = rest_for_one({worker("d"), worker("b"), worker("e"), worker("a"), worker("c")}),
       .script = {{boot(), booted({"d", "b", "e", "a", "c"})},
                  {exits("e", 1), seq({crashed("e"), left("e", 1), stopped("c"), stopped("a"),
                                       born("e"), born("a"), born("c")})},
                  children("",
                           "d running #1, b running #1, e running #2, a running #2, "
                           "c running #2"),
                  {shut_down(), seq({"order shutdown root", stopped("c"), stopped("a"),
                                     stopped("e"), stopped("b"), stopped("d"), "root completed"})},
                  end_is("asked")}},
      {.name = "RestForOneGivesUpWhenOneCannotBeStarted",
       .sentence = "With rest_for_one, a later child that can no longer be started uses up the "
                   "intensity; the ones before it are not stopped for its tries.",
       .otp_cases = {"rest_for_one_escalation"},
       .compared = "same",
       .tree = rest_for_one({worker("a"), worker("b")}, 4),
       .script = {{boot(), booted({"a", "b"})},
                  {starts_fail("b", 9), ""},
                  {exits("a", 1),
                   seq({crashed("a"), left("a", 3), stopped("b"), born("a"), fails("b"),
                        left("b", 2), fails("b"), left("b", 1), fails("b"), left("b", 0),
                        fails("b"), "spent root", stopped("a"), "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "RestForOneTriesOnlyTheOneThatFailedAndThoseAfterIt",
       .sentence = "With rest_for_one, when a later child fails in a restart, those that have "
                   "already been started stay.",
       .otp_cases = {"rest_for_one_other_child_fails_restart"},
       .compared = "same",
       .tree = rest_for_one({worker("a"), worker("b"), worker("c")}, 3),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {starts_fail("b", 1), ""},
                  {exits("a", 1), seq({crashed("a"), left("a", 2), stopped("c"), stopped("b"),
                                       born("a"), fails("b"), left("b", 1), born("b"), born("c")})},
                  children("", "a running #2, b running #3, c running #2"),
                  end_is("lives")}},
      {.name = "RestForOneLeavesStoppedChildrenBeforeStopped",
       .sentence = "With rest_for_one, a stopped child after the one that ended comes back; one "
                   "before it does not.",
       .compared = "same",
       .tree = rest_for_one({worker("a"), worker("b"), worker("c")}),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {stop_child("c"), order_done("stop c", stopped("c"))},
                  {exits("b", 1), seq({crashed("b"), left("b", 1), born("b"), born("c")})},
                  children("", "a stopped completed #1, b running #2, c running #2")}},
      {.name = "TemporarySiblingOfARestForOneGroupIsForgotten",
       .sentence = "With rest_for_one, a temporary child after the one that ended is stopped and "
                   "forgotten.",
       .otp_cases = {"temporary_bystander"},
       .compared = "same",
       .tree = rest_for_one({worker("a"), worker("b").temporary()}),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("a", 0),
                   seq({"a ended exit 0; a completed", left("a", 1), stopped("b"), born("a")})},
                  children("", "a running #2"),
                  end_is("lives")}},
      {.name = "TemporarySiblingOfAOneForAllGroupIsForgotten",
       .sentence = "With one_for_all, a temporary child is stopped with the others and forgotten.",
       .otp_cases = {"temporary_bystander"},
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b").temporary()}),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("a", 0),
                   seq({"a ended exit 0; a completed", left("a", 1), stopped("b"), born("a")})},
                  children("", "a running #2"),
                  end_is("lives")}},
  };
}

Behaviour tree_row() {
  const std::string s1_born =
      "s1 initial; s1/c1 initial; s1/c1 ready; s1/c1 running; s1/c2 initial; s1/c2 ready; "
      "s1 ready; s1/c2 running; s1 running";
  const auto born_empty = [](const std::string& id) {
    return id + " initial; " + id + " ready; " + id + " running";
  };
  return {.name = "WholeTreeIsRebuilt",
          .sentence =
              "A supervisor that gave up takes its group with it: all are stopped and "
              "started anew, stopped ones come back, and children that were added are "
              "gone.",
          .otp_cases = {"tree"},
          .compared = "same",
          .tree = one_for_all(
              {nested("s1", one_for_one({worker("c1"), worker("c2")}, 4)),
               nested("s2", one_for_one({})), nested("s3", one_for_one({})).transient()},
              4),
          .script = {
              {boot(), seq({"root initial", s1_born, born_empty("s2"),
                            "s3 initial; s3 ready; root ready; s3 running; root running"})},
              {stop_child("s3"), order_done("stop s3", "s3 completed")},
              counts("", 3, 2, 3, 0),
              counts("s1", 2, 2, 0, 2),
              counts("s2", 0, 0, 0, 0),
              {start_child("s2", worker("c3")), started("s2/c3")},
              {start_child("s2", worker("c4")), started("s2/c4")},
              counts("s2", 2, 2, 0, 2),
              {exits("s2/c4", 1), seq({crashed("s2/c4"), restarted("s2/c4", 1)})},
              children("s2", "c3 running #1, c4 running #2"),
              children("s1", "c1 running #1, c2 running #1"),
              {starts_fail("s2/c3", 9), ""},
              {exits("s2/c3", 1), seq({crashed("s2/c3"), left("s2/c3", 0), fails("s2/c3"),
                                       "spent s2", stopped("s2/c4"), "s2 terminated", left("s2", 3),
                                       stopped("s1/c2"), stopped("s1/c1"), "s1 completed", s1_born,
                                       born_empty("s2"), born_empty("s3")})},
              children("", "s1 running #2, s2 running #2, s3 running #2"),
              counts("", 3, 3, 3, 0),
              children("s1", "c1 running #1, c2 running #1"),
              counts("s2", 0, 0, 0, 0),
              counts("s3", 0, 0, 0, 0)}};
}

}  // namespace

std::vector<Behaviour> group_rows() {
  std::vector<Behaviour> all = one_for_all_rows();
  for (auto& row : rest_for_one_rows()) all.push_back(std::move(row));
  all.push_back(tree_row());
  return all;
}

}  // namespace crashworthy::rows

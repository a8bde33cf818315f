// Rows: the end of a tree, from whatever it is doing; and what is said to have caused what.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

constexpr Nanoseconds kShort = milliseconds(200);

std::vector<Behaviour> kill_rows() {
  const std::string nested_boot =
      "root initial; a initial; a ready; a running; in initial; in/w initial; in/w ready; "
      "in ready; root ready; in/w running; in running; root running";
  return {
      {.name = "KillKillsAllAtOnce",
       .sentence = "kill() kills all processes of a tree at once, however they are to be stopped.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").waited_for(), nested("in", one_for_one({worker("w")}))}),
       .script = {{conduct("a", ignores_stop()), ""},
                  {conduct("in/w", ignores_stop()), ""},
                  {boot(), nested_boot},
                  {kill_all(),
                   seq({"order kill root", killed("a"), killed("in/w"), "in terminated",
                        "root terminated"}),
                   true},
                  end_is("asked")}},
      {.name = "KillGoesThroughAShutdown",
       .sentence = "kill() ends a shutdown that takes too long.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b").waited_for()}),
       .script = {{conduct("b", ignores_stop()), ""},
                  {boot(), booted({"a", "b"})},
                  {shut_down(), "order shutdown root"},
                  {kill_all(),
                   seq({"order kill root", killed("a"), killed("b"), "root terminated"}), true},
                  end_is("asked")}},
      {.name = "KillGoesThroughAStop",
       .sentence = "kill() ends a stop that goes on for ever; its order and those that wait are "
                   "answered.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").waited_for()}),
       .script = {{conduct("a", ignores_stop()), ""},
                  {boot(), booted({"a"})},
                  {stop_child("a"), "order stop a"},
                  {start_child("", worker("b")), ""},
                  {kill_all(), seq({"order kill root", killed("a"), answer("stop a", "ok"),
                                    answer("start b", "ending"), "root terminated"})},
                  end_is("asked")}},
      {.name = "KillInterruptsTheFirstStart",
       .sentence = "kill() ends a tree that is still being started.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b").tells_ready(), worker("c")}),
       .script = {{conduct("b", never_ready()), ""},
                  {boot(), seq({"root initial", born("a"), "b initial; b ready; b running"})},
                  {kill_all(),
                   seq({"order kill root", killed("a"), killed("b"),
                        "root disabled; root terminated"}),
                   true},
                  end_is("asked")}},
      {.name = "KillEndsABackOff",
       .sentence = "kill() does not wait for the back-off of a child.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").backs_off(hours(1), hours(1))}),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 1),
                   "a ended exit 1; a terminated; a restart left 1; a initial; "
                   "a disabled"},
                  {kill_all(), "order kill root; a terminated; root terminated"},
                  end_is("asked")}},
      {.name = "ShutdownKeepsTheTimeOfAStop",
       .sentence = "A child that is being stopped when its tree is shut down is not asked again, "
                   "and has no more time for it.",
       .compared = "same",
       .tree = one_for_one({worker("a").stops_within(kShort)}),
       .script = {{conduct("a", ignores_stop()), ""},
                  {boot(), booted({"a"})},
                  {stop_child("a"), "order stop a"},
                  {pass(kShort / 2), ""},
                  {shut_down(), "order shutdown root"},
                  {pass(kShort / 2),
                   seq({"a stop timeout", killed("a"), answer("stop a", "ok"), "root terminated"})},
                  end_is("asked")}},
      {.name = "SecondShutdownChangesNothing",
       .sentence = "A second shutdown() changes nothing.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").stops_within(kShort)}),
       .script = {{conduct("a", ignores_stop()), ""},
                  {boot(), booted({"a"})},
                  {shut_down(), "order shutdown root"},
                  {pass(kShort / 2), ""},
                  {shut_down(), "order shutdown root"},
                  {pass(kShort / 2), seq({"a stop timeout", killed("a"), "root terminated"})},
                  end_is("asked")}},
  };
}

std::vector<Behaviour> shutdown_rows() {
  return {
      {.name = "ShutdownGoesThroughAStop",
       .sentence = "A shutdown waits for the stop that is in progress, which is answered; orders "
                   "that wait are refused.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b"), worker("c")}),
       .script = {{conduct("b", dies_after(kShort)), ""},
                  {boot(), booted({"a", "b", "c"})},
                  {stop_child("b"), "order stop b"},
                  {stop_child("a"), ""},
                  {shut_down(), "order shutdown root"},
                  {pass(kShort), seq({stopped("b"), answer("stop b", "ok"), stopped("c"),
                                      stopped("a"), answer("stop a", "ending"), "root completed"})},
                  end_is("asked")}},
      {.name = "ShutdownGoesThroughTheStopOfATemporaryChild",
       .sentence = "The same where the child that is being stopped is forgotten by that.",
       .compared = "same",
       .tree = one_for_one({worker("a").temporary(), worker("b")}),
       .script = {{conduct("a", dies_after(kShort)), ""},
                  {boot(), booted({"a", "b"})},
                  {stop_child("a"), "order stop a"},
                  {shut_down(), "order shutdown root"},
                  {pass(kShort),
                   seq({stopped("a"), answer("stop a", "ok"), stopped("b"), "root completed"})},
                  end_is("asked")}},
      {.name = "ShutdownGoesThroughAGroupRestart",
       .sentence = "A shutdown in the middle of the restart of a group stops what runs, and starts "
                   "nothing more.",
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b"), worker("c")}),
       .script = {{conduct("b", dies_after(kShort)), ""},
                  {boot(), booted({"a", "b", "c"})},
                  {exits("a", 1), seq({crashed("a"), left("a", 1), stopped("c")})},
                  {shut_down(), "order shutdown root"},
                  {pass(kShort), seq({stopped("b"), "root terminated"})},
                  end_is("asked")}},
      {.name = "EndedTreeRefusesOrders",
       .sentence = "A tree that has ended refuses every order, and says nothing more.",
       .compared = "different: the answer is a refusal; OTP ends the caller",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {shut_down(), seq({"order shutdown root", stopped("a"), "root completed"})},
                  {stop_child("a"), answer("stop a", "ending")},
                  {restart_child("a"), answer("restart a", "ending")},
                  {delete_child("a"), answer("delete a", "ending")},
                  {start_child("", worker("b")), answer("start b", "ending")},
                  {suspend("a"), answer("suspend a", "ending")},
                  {resume("a"), answer("resume a", "ending")},
                  {shut_down(), ""},
                  {kill_all(), ""},
                  {pass(hours(1)), ""},
                  end_is("asked")}},
      {.name = "TreeWithoutChildrenLeftLivesOn",
       .sentence = "A supervisor lives on when its last child has ended.",
       .compared = "same",
       .tree = one_for_one({worker("a").temporary(), worker("b").transient()}),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("a", 0), "a ended exit 0; a completed"},
                  {exits("b", 0), "b ended exit 0; b completed"},
                  children("", "b stopped completed #1"),
                  end_is("lives"),
                  {shut_down(), "order shutdown root; root completed"}}},
  };
}

}  // namespace

std::vector<Behaviour> ending_rows() {
  std::vector<Behaviour> all = kill_rows();
  for (auto& row : shutdown_rows()) all.push_back(std::move(row));
  return all;
}

std::vector<Behaviour> cause_rows() {
  const std::string in_boot =
      "root initial; a initial; a ready; a running; in initial; in/w initial; in/w ready; "
      "in ready; root ready; in/w running; in running; root running";
  return {
      {.name = "CauseOfARestartIsTheEndOfItsChild",
       .sentence = "Every event of a restart leads back to the end that caused it.",
       .compared = "beyond OTP",
       .tree = one_for_all({worker("a"), worker("b")}),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("b", 1),
                   seq({crashed("b"), left("b", 1), stopped("a"), born("a"), born("b")})},
                  chain_is("a completed <- a ended SIGTERM <- b restart left 1 <- b terminated <- "
                           "b ended exit 1"),
                  chain_is("a running <- b restart left 1 <- b terminated <- b ended exit 1"),
                  chain_is("b running <- b restart left 1 <- b terminated <- b ended exit 1")}},
      {.name = "CauseOfARetryIsTheStartThatFailed",
       .sentence = "A retry leads back through the start that failed to the end of the child.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {starts_fail("a", 1), ""},
                  {exits("a", 1), seq({crashed("a"), left("a", 1), fails("a"), restarted("a", 0)})},
                  chain_is("a running <- a restart left 0 <- a terminated <- a start failed <- "
                           "a restart left 1 <- a terminated <- a ended exit 1")}},
      {.name = "CauseOfAnOrderedEndIsTheOrder",
       .sentence = "What an order does leads back to it.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").stops_within(kShort)}),
       .script = {{conduct("a", ignores_stop()), ""},
                  {boot(), booted({"a"})},
                  {stop_child("a"), "order stop a"},
                  {pass(kShort), seq({"a stop timeout", killed("a"), answer("stop a", "ok")})},
                  chain_is("a terminated <- a ended SIGKILL <- a stop timeout <- order stop a"),
                  {restart_child("a"), order_done("restart a", born("a"))},
                  chain_is("a running <- order restart a")}},
      {.name = "CauseGoesUpThroughTheLevels",
       .sentence = "What a supervisor that gave up leads to leads back to the crash below it.",
       .compared = "beyond OTP",
       .tree = one_for_all({worker("a"), nested("in", one_for_one({worker("w")}, 0))}, 1),
       .script = {{boot(), in_boot},
                  {exits("in/w", 1), seq({crashed("in/w"), "spent in; in terminated", left("in", 0),
                                          stopped("a"), born("a"),
                                          "in initial; in/w initial; in/w ready; in ready; "
                                          "in/w running; in running"})},
                  chain_is("a running <- in restart left 0 <- in terminated <- spent in <- "
                           "in/w terminated <- in/w ended exit 1"),
                  {exits("in/w", 1), seq({crashed("in/w"), "spent in; in terminated", "spent root",
                                          stopped("a"), "root terminated"})},
                  chain_is("a ended SIGTERM <- spent root <- in terminated <- spent in <- "
                           "in/w terminated <- in/w ended exit 1")}},
      {.name = "CauseOfAHangIsKept",
       .sentence = "A child that was killed because it hung leads back to that.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a").ends_by(kShort)}),
       .script = {{boot(), booted({"a"})},
                  {pass(kShort), seq({"a hangs", killed("a"), restarted("a", 1)})},
                  chain_is("a running <- a restart left 1 <- a terminated <- a ended SIGKILL <- "
                           "a hangs <- a running")}},
      {.name = "CauseOfAnAutomaticShutdownIsTheEndOfItsChild",
       .sentence = "An automatic shutdown leads back to the end of the significant child.",
       .compared = "beyond OTP",
       .tree =
           ends_with_any(one_for_one({worker("a"), worker("b").transient().make_significant()})),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("b", 0), seq({"b ended exit 0; b completed", "auto shutdown root",
                                       stopped("a"), "root completed"})},
                  chain_is("a completed <- a ended SIGTERM <- auto shutdown root <- b completed <- "
                           "b ended exit 0")}},
      {.name = "CauseOfARollBackIsTheStartThatFailed",
       .sentence = "The stops of a roll-back lead back to the start that failed.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b").tells_ready()}),
       .script = {{conduct("b", exits_before_ready(7)), ""},
                  {boot(), seq({"root initial", born("a"),
                                "b initial; b ready; root ready; "
                                "b running; b ended exit 7; b start failed; b terminated",
                                stopped("a"), "root terminated"})},
                  chain_is("a completed <- a ended SIGTERM <- b terminated <- b start failed <- "
                           "b ended exit 7")}},
  };
}

}  // namespace crashworthy::rows

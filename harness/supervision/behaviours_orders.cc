// Rows: orders and questions, in every state of a child.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

std::vector<Behaviour> administration_rows() {
  return {
      {.name = "OrdersToARunningChild",
       .sentence = "A running child cannot be started, restarted or deleted; it can be stopped, "
                   "and is dead when that is answered.",
       .otp_cases = {"child_adm"},
       .compared = "same",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  children("", "a running #1"),
                  counts("", 1, 1, 0, 1),
                  {start_child("", worker("a")), answer("start a", "running")},
                  {restart_child("a"), answer("restart a", "running")},
                  {delete_child("a"), answer("delete a", "running")},
                  spec_is("a", "permanent worker 5s"),
                  children("", "a running #1"),
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  children("", "a stopped completed #1"),
                  counts("", 1, 0, 0, 1),
                  budget_is("", 2)}},
      {.name = "OrdersToAStoppedChild",
       .sentence = "A stopped child can be stopped again, which changes nothing, restarted, or "
                   "deleted; its id is taken until then.",
       .otp_cases = {"child_adm"},
       .compared = "same",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {stop_child("a"), order_done("stop a")},
                  {start_child("", worker("a")), answer("start a", "already_present")},
                  spec_is("a", "permanent worker 5s"),
                  {restart_child("a"), order_done("restart a", born("a"))},
                  children("", "a running #2"),
                  counts("", 1, 1, 0, 1),
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {delete_child("a"), order_done("delete a")},
                  {restart_child("a"), answer("restart a", "not_found")},
                  spec_is("a", "none"),
                  children("", ""),
                  counts("", 0, 0, 0, 0),
                  {start_child("", worker("a")), started("a")},
                  children("", "a running #1")}},
      {.name = "OrdersToNobody",
       .sentence = "Orders to a child that is not there, below a child that is no supervisor, or "
                   "below a supervisor that does not live are refused.",
       .otp_cases = {"child_adm"},
       .compared = "different: an order to a supervisor that is gone is refused as not_found "
                   "instead of ending the caller",
       .tree = one_for_one({worker("a"), nested("in", one_for_one({worker("w")}))}),
       .script = {{boot(), seq({"root initial", born("a"),
                                "in initial; in/w initial; in/w ready; "
                                "in ready; root ready; in/w running; in running; root running"})},
                  {stop_child("x"), answer("stop x", "not_found")},
                  {restart_child("x"), answer("restart x", "not_found")},
                  {delete_child("x"), answer("delete x", "not_found")},
                  {suspend("x"), answer("suspend x", "not_found")},
                  {resume("x"), answer("resume x", "not_found")},
                  {stop_child("in/x"), answer("stop in/x", "not_found")},
                  {stop_child("a/x"), answer("stop a/x", "not_found")},
                  {stop_child("x/y/z"), answer("stop x/y/z", "not_found")},
                  {start_child("x", worker("b")), answer("start x/b", "not_found")},
                  {start_child("a", worker("b")), answer("start a/b", "not_found")},
                  {stop_child("in"), order_done("stop in", seq({stopped("in/w"), "in completed"}))},
                  {stop_child("in/w"), answer("stop in/w", "not_found")},
                  {start_child("in", worker("b")), answer("start in/b", "not_found")},
                  spec_is("in/w", "none"),
                  children("in", "no supervisor"),
                  children("", "a running #1, in stopped completed #1")}},
      {.name = "FaultyChildIsRefusedByItsSupervisor",
       .sentence = "A child with a specification that makes no sense is refused, and nothing "
                   "changes.",
       .otp_cases = {"child_specs", "child_specs_map"},
       .compared = "same",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {start_child("", Child("b")), answer("start b", "invalid")},
                  {start_child("", worker("b").stops_within(milliseconds(-10))),
                   answer("start b", "invalid")},
                  {start_child("", worker("b").transient().make_significant()),
                   answer("start b", "invalid")},
                  {start_child("", worker("b/c")), answer("start b/c", "invalid")},
                  {start_child("", worker("a").ends_by(Nanoseconds(0))),
                   answer("start a", "invalid")},
                  children("", "a running #1")}},
      {.name = "AddedChildIsRestartedLikeAnyOther",
       .sentence = "A child added by order goes through stop, restart and delete like one of the "
                   "specification, and is restarted when it crashes.",
       .otp_cases = {"extra_return"},
       .compared = "different: a start has no extra value to return; otherwise the same",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  counts("", 1, 0, 0, 1),
                  {restart_child("a"), order_done("restart a", born("a"))},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {stop_child("a"), order_done("stop a")},
                  {delete_child("a"), order_done("delete a")},
                  counts("", 0, 0, 0, 0),
                  {start_child("", worker("a")), started("a")},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 1)})},
                  children("", "a running #2"),
                  counts("", 1, 1, 0, 1)}},
      {.name = "ChildThatCannotBeAddedIsForgotten",
       .sentence = "A child whose start by order fails is not kept, not tried again, and costs no "
                   "restart.",
       .otp_cases = {"sup_start_child_returns_error"},
       .compared = "same",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {starts_fail("b", 1), ""},
                  {start_child("", worker("b")),
                   seq({"order start b", fails("b"), answer("start b", "start_failed")})},
                  children("", "a running #1"),
                  budget_is("", 2),
                  {start_child("", worker("b")), started("b")},
                  children("", "a running #1, b running #1")}},
      {.name = "ChildThatCannotBeRestartedByOrderStaysStopped",
       .sentence = "A stopped child whose restart by order fails stays stopped, and is not tried "
                   "again.",
       .otp_cases = {"sup_start_restart_child_returns_error"},
       .compared = "same",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {starts_fail("a", 1), ""},
                  {restart_child("a"),
                   seq({"order restart a", fails("a"), answer("restart a", "start_failed")})},
                  children("", "a stopped terminated #2"),
                  budget_is("", 2),
                  {restart_child("a"), order_done("restart a", born("a"))},
                  children("", "a running #3")}},
      {.name = "OrdersActOnNoSibling",
       .sentence = "Orders stop and start one child only, also with one_for_all and rest_for_one.",
       .compared = "same",
       .tree = one_for_all({worker("a"), worker("b")}, 0),
       .script = {{boot(), booted({"a", "b"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {restart_child("a"), order_done("restart a", born("a"))},
                  {starts_fail("c", 1), ""},
                  {start_child("", worker("c")),
                   seq({"order start c", fails("c"), answer("start c", "start_failed")})},
                  children("", "a running #2, b running #1")}},
  };
}

std::vector<Behaviour> list_rows() {
  return {
      {.name = "ListFollowsWhatIsThere",
       .sentence = "The list of children names each with its presence, stopped ones too, and those "
                   "that are deleted no longer.",
       .otp_cases = {"which_children"},
       .compared = "different: the list is in the order of starts; OTP's is the reverse",
       .tree = one_for_one({}),
       .script = {{boot(), booted({})},
                  children("", ""),
                  child_is("a", "none"),
                  {start_child("", worker("a")), started("a")},
                  children("", "a running #1"),
                  child_is("a", "a running #1"),
                  {start_child("", worker("b")), started("b")},
                  children("", "a running #1, b running #1"),
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  children("", "a stopped completed #1, b running #1"),
                  child_is("a", "a stopped completed #1, last end SIGTERM"),
                  {delete_child("a"), order_done("delete a")},
                  children("", "b running #1"),
                  child_is("a", "none"),
                  children("x", "no supervisor"),
                  children("b", "no supervisor")}},
      {.name = "RestartsKeepThePlaceInTheOrder",
       .sentence = "A child that is restarted keeps its place in the order; one that is deleted "
                   "and added again goes to the end.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b"), worker("c")}),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 1)})},
                  {stop_child("b"), order_done("stop b", stopped("b"))},
                  {restart_child("b"), order_done("restart b", born("b"))},
                  children("", "a running #2, b running #2, c running #1"),
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {delete_child("a"), order_done("delete a")},
                  {start_child("", worker("a")), started("a")},
                  children("", "b running #2, c running #1, a running #1"),
                  {shut_down(), seq({"order shutdown root", stopped("a"), stopped("c"),
                                     stopped("b"), "root completed"})}}},
      {.name = "CountsTellSupervisorsFromWorkers",
       .sentence = "A command may count as a supervisor; stopped children count by their type.",
       .compared = "same",
       .tree = one_for_one(
           {worker("a").counts_as_supervisor(), worker("b"), nested("in", one_for_one({}))}),
       .script = {{boot(), seq({"root initial", born("a"), born("b"),
                                "in initial; in ready; root ready; in running; root running"})},
                  counts("", 3, 3, 2, 1),
                  spec_is("a", "permanent supervisor infinite"),
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {stop_child("b"), order_done("stop b", stopped("b"))},
                  counts("", 3, 1, 2, 1)}},
      {.name = "BusyTreeAnswersQuestions",
       .sentence = "Questions are answered at once, whatever the supervisor is doing.",
       .compared = "different: OTP answers when it is not busy",
       .tree = one_for_one({worker("a"), worker("b").waited_for()}),
       .script = {{conduct("b", dies_after(milliseconds(200))), ""},
                  {boot(), booted({"a", "b"})},
                  {stop_child("b"), "order stop b"},
                  {restart_child("a"), ""},
                  children("", "a running #1, b stopping running #1"),
                  counts("", 2, 1, 0, 2),
                  {pass(milliseconds(200)),
                   seq({stopped("b"), answer("stop b", "ok"), answer("restart a", "running")})},
                  counts("", 2, 1, 0, 2)}},
  };
}

// What a second start of an id is answered after each kind of end.
std::vector<Step> ends_and_starts(RestartType how, bool restarts_0, bool keeps) {
  const auto a = [&] { return worker("a").restarted(how); };
  std::vector<Step> script = {{boot(), booted({})}, {start_child("", a()), started("a")}};
  const auto after = [&](const Action& end, const std::string& ended, bool restarts, int budget) {
    if (restarts) {
      script.push_back({end, seq({ended, restarted("a", budget)})});
      script.push_back({start_child("", a()), answer("start a", "running")});
    } else if (keeps) {
      script.push_back({end, ended});
      script.push_back({start_child("", a()), answer("start a", "already_present")});
      script.push_back({restart_child("a"), order_done("restart a", born("a"))});
    } else {
      script.push_back({end, ended});
      script.push_back({start_child("", a()), started("a")});
    }
  };
  after(dies("a"), killed("a"), keeps, 9);
  after(exits("a", 0), "a ended exit 0; a completed", restarts_0, 8);
  after(exits("a", 1), crashed("a"), keeps, restarts_0 ? 7 : 8);
  after(stop_child("a"), order_done("stop a", stopped("a")), false, 0);
  return script;
}

std::vector<Behaviour> second_start_rows() {
  std::vector<Behaviour> all;
  const auto add = [&](const std::string& name, const std::string& sentence, RestartType how,
                       bool restarts_0, bool keeps) {
    for (const auto& [strategy, word] : {std::pair{Strategy::kOneForOne, "OneForOne"},
                                         std::pair{Strategy::kOneForAll, "OneForAll"},
                                         std::pair{Strategy::kRestForOne, "RestForOne"}}) {
      all.push_back({.name = name + word,
                     .sentence = sentence + " (" + std::string(strategy_name(strategy)) + ").",
                     .otp_cases = {"do_not_save_child_specs_for_temporary_children"},
                     .compared = "same",
                     .tree = tree(strategy, {}, 10),
                     .script = ends_and_starts(how, restarts_0, keeps)});
    }
  };
  add("PermanentChildKeepsItsId",
      "A permanent child keeps its id through all ends; only after a stop may it be restarted",
      RestartType::kPermanent, true, true);
  add("TransientChildKeepsItsId",
      "A transient child keeps its id; after exit code 0 and after a stop it may be restarted",
      RestartType::kTransient, false, true);
  add("TemporaryChildFreesItsId", "The id of a temporary child is free after every end",
      RestartType::kTemporary, false, false);
  return all;
}

Behaviour many_children_row() {
  std::vector<Step> script = {{boot(), booted({})}};
  const int count = 100;
  for (int i = 0; i < count; ++i) {
    const std::string id = "c" + std::to_string(i);
    script.push_back({start_child("", worker(id)), started(id)});
  }
  script.push_back(counts("", count, count, 0, count));
  for (int i = 0; i < count; ++i) {
    const std::string id = "c" + std::to_string(i);
    script.push_back({stop_child(id), order_done("stop " + id, stopped(id))});
    script.push_back({delete_child(id), order_done("delete " + id)});
  }
  script.push_back(counts("", 0, 0, 0, 0));
  return {.name = "ManyChildrenComeAndGo",
          .sentence = "Children may be added and deleted in numbers.",
          .otp_cases = {"scale_start_stop_many_children"},
          .compared = "same: fewer; another test compares the costs of 300 and of 3 000",
          .simulated_only = "hundreds of processes",
          .tree = one_for_one({}),
          .script = std::move(script)};
}

std::vector<Behaviour> waiting_rows() {
  return {
      {.name = "OrdersAreTakenUpOneAfterTheOther",
       .sentence = "Orders wait for what their supervisor is doing, and are then taken up in the "
                   "order in which they came.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b"), worker("c")}),
       .script = {{conduct("a", dies_after(milliseconds(200))), ""},
                  {boot(), booted({"a", "b", "c"})},
                  {stop_child("a"), "order stop a"},
                  {delete_child("a"), ""},
                  {stop_child("b"), ""},
                  {restart_child("a"), ""},
                  {restart_child("b"), ""},
                  {pass(milliseconds(200)),
                   seq({stopped("a"), answer("stop a", "ok"), order_done("delete a"),
                        order_done("stop b", stopped("b")), answer("restart a", "not_found"),
                        order_done("restart b", born("b"))})},
                  children("", "b running #2, c running #1")}},
      {.name = "EndsAndOrdersAreHandledInTheOrderInWhichTheyCame",
       .sentence = "A child that ends while its supervisor is busy is restarted after the orders "
                   "that came before, and before those that came later.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b"), worker("c")}),
       .script = {{conduct("a", dies_after(milliseconds(200))), ""},
                  {boot(), booted({"a", "b", "c"})},
                  {stop_child("a"), "order stop a"},
                  {stop_child("c"), ""},
                  {exits("b", 1), crashed("b")},
                  {restart_child("b"), ""},
                  {pass(milliseconds(200)),
                   seq({stopped("a"), answer("stop a", "ok"), order_done("stop c", stopped("c")),
                        restarted("b", 1), answer("restart b", "running")})}}},
      {.name = "OrdersComeBeforeTheEndOfTheirChild",
       .sentence = "To its supervisor a child runs until that comes to handle its end: orders that "
                   "came before are refused as for a child that runs.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b")}),
       .script = {{conduct("a", dies_after(milliseconds(200))), ""},
                  {boot(), booted({"a", "b"})},
                  {stop_child("a"), "order stop a"},
                  {restart_child("b"), ""},
                  {delete_child("b"), ""},
                  {start_child("", worker("b")), ""},
                  {exits("b", 1), crashed("b")},
                  {pass(milliseconds(200)),
                   seq({stopped("a"), answer("stop a", "ok"), answer("restart b", "running"),
                        answer("delete b", "running"), answer("start b", "running"),
                        restarted("b", 1)})},
                  children("", "a stopped completed #1, b running #2")}},
      {.name = "StopOfOneThatHasJustEndedIsNoRestart",
       .sentence = "When a child that has ended is stopped before its supervisor came to restart "
                   "it, it stays stopped and costs nothing.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b")}),
       .script = {{conduct("a", dies_after(milliseconds(200))), ""},
                  {boot(), booted({"a", "b"})},
                  {stop_child("a"), "order stop a"},
                  {stop_child("b"), ""},
                  {exits("b", 1), crashed("b")},
                  {pass(milliseconds(200)),
                   seq({stopped("a"), answer("stop a", "ok"), order_done("stop b")})},
                  children("", "a stopped completed #1, b stopped terminated #1"),
                  budget_is("", 2)}},
      {.name = "BusySupervisorHoldsUpNobodyElse",
       .sentence = "What one supervisor waits for does not hold up another.",
       .compared = "same",
       .tree = one_for_one({nested("in", one_for_one({worker("w")})), worker("b")}),
       .script = {{conduct("in/w", dies_after(milliseconds(200))), ""},
                  {boot(),
                   "root initial; in initial; in/w initial; in/w ready; in ready; "
                   "in/w running; in running; b initial; b ready; root ready; b running; "
                   "root running"},
                  {stop_child("in/w"), "order stop in/w"},
                  {exits("b", 1), seq({crashed("b"), restarted("b", 1)})},
                  {stop_child("b"), order_done("stop b", stopped("b"))},
                  {pass(milliseconds(200)), seq({stopped("in/w"), answer("stop in/w", "ok")})}}},
      {.name = "StopOfASupervisorGoesThroughWhatItIsDoing",
       .sentence = "A nested supervisor that is busy is stopped as soon as what it waits for is "
                   "done; orders that wait for it are refused.",
       .compared = "same",
       .tree = one_for_one({nested("in", one_for_one({worker("v"), worker("w")}))}),
       .script = {{conduct("in/w", dies_after(milliseconds(200))), ""},
                  {boot(),
                   "root initial; in initial; in/v initial; in/v ready; in/v running; "
                   "in/w initial; in/w ready; in ready; root ready; in/w running; "
                   "in running; root running"},
                  {stop_child("in/w"), "order stop in/w"},
                  {restart_child("in/v"), ""},
                  {stop_child("in"), "order stop in"},
                  {pass(milliseconds(200)), seq({stopped("in/w"), answer("stop in/w", "ok"),
                                                 stopped("in/v"), answer("restart in/v", "ending"),
                                                 "in completed", answer("stop in", "ok")})}}},
  };
}

}  // namespace

std::vector<Behaviour> order_rows() {
  std::vector<Behaviour> all = administration_rows();
  for (auto& row : list_rows()) all.push_back(std::move(row));
  for (auto& row : second_start_rows()) all.push_back(std::move(row));
  all.push_back(many_children_row());
  for (auto& row : waiting_rows()) all.push_back(std::move(row));
  return all;
}

}  // namespace crashworthy::rows

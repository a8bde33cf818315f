// Rows: the wait before a restart.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

constexpr Nanoseconds kFirst = milliseconds(100);

std::string waits(const std::string& path, int budget) {
  return seq({left(path, budget), path + " initial", path + " disabled"});
}

std::string goes(const std::string& path) { return path + " ready; " + path + " running"; }

Behaviour doubling_row() {
  const Nanoseconds waits_for[] = {kFirst, 2 * kFirst, 4 * kFirst, 5 * kFirst, 5 * kFirst};
  std::vector<Step> script = {{boot(), booted({"a"})}};
  int budget = 20;
  for (const Nanoseconds wait : waits_for) {
    script.push_back({exits("a", 1), seq({crashed("a"), waits("a", --budget)})});
    script.push_back({pass(wait - Nanoseconds(1)), ""});
    script.push_back({pass(Nanoseconds(1)), goes("a")});
  }
  // Longer than `max`: it begins anew.
  script.push_back({pass(5 * kFirst + Nanoseconds(1)), ""});
  script.push_back({exits("a", 1), seq({crashed("a"), waits("a", --budget)})});
  script.push_back({pass(kFirst), goes("a")});
  return {.name = "BackOffDoublesUpToItsMaximum",
          .sentence =
              "The wait before a restart doubles with each crash up to its maximum, and "
              "begins anew once the child has run for longer than that.",
          .compared = "beyond OTP",
          .simulated_only = "nanoseconds",
          .tree = one_for_one({worker("a").backs_off(kFirst, 5 * kFirst)}, 20),
          .script = std::move(script)};
}

std::vector<Behaviour> waiting_rows() {
  const auto slow = [](const std::string& id) { return worker(id).backs_off(kFirst, seconds(30)); };
  return {
      {.name = "RestartWaitsForItsBackOff",
       .sentence = "A child with a back-off is restarted only after it; meanwhile it is disabled, "
                   "and its supervisor does other things.",
       .compared = "beyond OTP",
       .tree = one_for_one({slow("a"), worker("b")}, 5),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("a", 1), seq({crashed("a"), waits("a", 4)})},
                  children("", "a restarting disabled #2, b running #1"),
                  counts("", 2, 1, 0, 2),
                  {exits("b", 1), seq({crashed("b"), restarted("b", 3)})},
                  {stop_child("b"), order_done("stop b", stopped("b"))},
                  {pass(kFirst), goes("a")},
                  children("", "a running #2, b stopped completed #2")}},
      {.name = "OrdersToAChildThatWaitsForItsBackOff",
       .sentence = "A child that waits for its back-off cannot be started, restarted or deleted by "
                   "order; a stop ends the wait.",
       .compared = "beyond OTP",
       .tree = one_for_one({slow("a")}),
       .script = {{boot(), booted({"a"})},
                  {exits("a", 1), seq({crashed("a"), waits("a", 1)})},
                  {start_child("", worker("a")), answer("start a", "already_present")},
                  {restart_child("a"), answer("restart a", "restarting")},
                  {delete_child("a"), answer("delete a", "restarting")},
                  {suspend("a"), answer("suspend a", "invalid")},
                  spec_is("a", "permanent worker 5s"),
                  {stop_child("a"), order_done("stop a", "a terminated")},
                  children("", "a stopped terminated #2"),
                  {pass(seconds(1)), ""},
                  {restart_child("a"), order_done("restart a", born("a"))},
                  children("", "a running #3")}},
      {.name = "FirstStartHasNoBackOff",
       .sentence = "Only restarts wait: neither the first start nor one by order does.",
       .compared = "beyond OTP",
       .tree = one_for_one({slow("a")}),
       .script = {{boot(), booted({"a"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {restart_child("a"), order_done("restart a", born("a"))},
                  {start_child("", slow("b")), started("b")}}},
      {.name = "ShutdownEndsABackOff",
       .sentence = "A tree that is shut down does not wait for the back-off of a child.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("b"), worker("a").backs_off(hours(1), hours(1))}),
       .script = {{boot(), booted({"b", "a"})},
                  {exits("a", 1), seq({crashed("a"), waits("a", 1)})},
                  {shut_down(),
                   seq({"order shutdown root", "a terminated", stopped("b"), "root terminated"})},
                  end_is("asked")}},
      {.name = "GroupWaitsForTheBackOffOfTheOneThatEnded",
       .sentence = "In the restart of a group all are stopped at once; those after the child that "
                   "waits for its back-off wait with it.",
       .compared = "beyond OTP",
       .tree = rest_for_one({worker("a"), slow("b"), worker("c")}),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {exits("b", 1),
                   seq({crashed("b"), left("b", 1), stopped("c"), "b initial; b disabled"})},
                  children("", "a running #1, b restarting disabled #2, c stopped completed #1"),
                  {pass(kFirst), seq({goes("b"), born("c")})},
                  children("", "a running #1, b running #2, c running #2")}},
      {.name = "GroupStartedInVainEndsTheBackOffOfItsOthers",
       .sentence = "When the start of a group fails before the child that waited for its back-off "
                   "is reached, that wait is over, and the group is tried again.",
       .compared = "beyond OTP",
       .tree = one_for_all({worker("a"), slow("b")}, 5),
       .script = {{boot(), booted({"a", "b"})},
                  {starts_fail("a", 1), ""},
                  {exits("b", 1),
                   seq({crashed("b"), left("b", 4), stopped("a"), "b initial; b disabled"})},
                  children("", "a stopped completed #1, b restarting disabled #2"),
                  {pass(kFirst),
                   seq({fails("a"), "b terminated", left("a", 3), born("a"), born("b")})},
                  children("", "a running #3, b running #3")}},
      {.name = "GroupStartedInVainThatGivesUpClosesItsOthers",
       .sentence = "The same where the next try is one too many: the child that waited is closed "
                   "before its supervisor is.",
       .compared = "beyond OTP",
       .tree = one_for_all({worker("a"), slow("b")}, 1),
       .script = {{boot(), booted({"a", "b"})},
                  {starts_fail("a", 1), ""},
                  {exits("b", 1),
                   seq({crashed("b"), left("b", 0), stopped("a"), "b initial; b disabled"})},
                  {pass(kFirst), seq({fails("a"), "b terminated; spent root; root terminated"})},
                  end_is("intensity spent")}},
      {.name = "FailedStartWaitsForTheNextBackOff",
       .sentence = "A restart that fails waits for a back-off before its next try.",
       .compared = "beyond OTP",
       .tree = one_for_one({slow("a")}, 5),
       .script = {{boot(), booted({"a"})},
                  {starts_fail("a", 1), ""},
                  {exits("a", 1), seq({crashed("a"), waits("a", 4)})},
                  {pass(kFirst), seq({"a ready; a start failed; a terminated", waits("a", 3)})},
                  {pass(2 * kFirst), goes("a")},
                  children("", "a running #3")}},
      {.name = "NestedSupervisorMayHaveABackOff",
       .sentence = "A nested supervisor that gave up is restarted after its back-off.",
       .compared = "beyond OTP",
       .tree = one_for_one({nested("in", one_for_one({worker("w")}, 0)).backs_off(kFirst, kFirst)}),
       .script = {{boot(),
                   "root initial; in initial; in/w initial; in/w ready; in ready; "
                   "root ready; in/w running; in running; root running"},
                  {exits("in/w", 1),
                   seq({crashed("in/w"), "spent in; in terminated", waits("in", 1)})},
                  children("", "in restarting disabled #2"),
                  {pass(kFirst), "in/w initial; in/w ready; in ready; in/w running; in running"},
                  children("", "in running #2")}},
  };
}

}  // namespace

std::vector<Behaviour> backoff_rows() {
  std::vector<Behaviour> all = {doubling_row()};
  for (auto& row : waiting_rows()) all.push_back(std::move(row));
  return all;
}

}  // namespace crashworthy::rows

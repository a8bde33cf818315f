// Rows: restarts that go on failing, and stay answerable meanwhile.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

constexpr Nanoseconds kTry = milliseconds(200);

Child slow(const std::string& id) { return worker(id).killed().tells_ready(); }

// Each try takes kTry, and then fails.
Step begin_to_fail(const std::string& path) {
  return {conduct(path, exits_before_ready(1, kTry)), ""};
}

std::string tried(const std::string& path) {
  return path + " ended exit 1; " + path + " start failed; " + path + " terminated";
}

std::vector<Step> loop_of_one() {
  return {{boot(),
           "root initial; a initial; a ready; root ready; a running; a serves; "
           "root running"},
          begin_to_fail("a"),
          {exits("a", 1), seq({crashed("a"), restarted("a", 7)})},
          {start_child("", slow("a")), ""},
          {restart_child("a"), ""},
          {delete_child("a"), ""},
          children("", "a starting running #2"),
          {pass(kTry),
           seq({tried("a"), answer("start a", "already_present"), answer("restart a", "restarting"),
                answer("delete a", "restarting"), restarted("a", 6)})},
          spec_is("a", "permanent worker kill"),
          {stop_child("a"), ""},
          {pass(kTry), seq({tried("a"), order_done("stop a")})},
          children("", "a stopped terminated #3"),
          counts("", 1, 0, 0, 1),
          {pass(seconds(1)), ""},
          budget_is("", 6),
          {conduct("a", Conduct()), ""},
          {restart_child("a"), order_done("restart a", born("a") + "; a serves")},
          begin_to_fail("a"),
          {exits("a", 1), seq({crashed("a"), restarted("a", 5)})},
          {pass(kTry), seq({tried("a"), restarted("a", 4)})},
          {shut_down(), seq({"order shutdown root", killed("a"), "root terminated"})},
          end_is("asked")};
}

std::vector<Step> loop_of_rest() {
  const std::string b_serves = born("b") + "; b serves";
  return {{boot(), seq({"root initial", born("a"), "a serves", b_serves,
                        "c initial; c ready; root ready; c running; c serves; root running"})},
          begin_to_fail("b"),
          {exits("b", 1), seq({crashed("b"), left("b", 7), killed("c"), born("b")})},
          children("", "a running #1, b starting running #2, c stopped terminated #1"),
          {start_child("", slow("b")), ""},
          {restart_child("b"), ""},
          {delete_child("b"), ""},
          {pass(kTry),
           seq({tried("b"), answer("start b", "already_present"), answer("restart b", "restarting"),
                answer("delete b", "restarting"), restarted("b", 6)})},
          counts("", 3, 1, 0, 3),
          {stop_child("b"), ""},
          {pass(kTry), seq({tried("b"), order_done("stop b")})},
          children("", "a running #1, b stopped terminated #3, c stopped terminated #1"),
          counts("", 3, 1, 0, 3),
          {conduct("b", Conduct()), ""},
          {restart_child("b"), order_done("restart b", b_serves)},
          children("", "a running #1, b running #4, c stopped terminated #1"),
          begin_to_fail("b"),
          {exits("b", 1), seq({crashed("b"), restarted("b", 5)})},
          {pass(kTry), seq({tried("b"), restarted("b", 4)})},
          {shut_down(), seq({"order shutdown root", killed("b"), killed("a"), "root terminated"})},
          end_is("asked")};
}

std::vector<Step> loop_of_dynamic() {
  const std::string t1_serves = born("t-1") + "; t-1 serves";
  return {{boot(), booted({})},
          {start_child("", Child("")), order_done("start t-1", t1_serves)},
          begin_to_fail("t-1"),
          {exits("t-1", 1), seq({crashed("t-1"), restarted("t-1", 7)})},
          children("", "t-1 starting running #2"),
          {restart_child("t-1"), ""},
          {delete_child("t-1"), ""},
          {pass(kTry), seq({tried("t-1"), answer("restart t-1", "dynamic"),
                            answer("delete t-1", "dynamic"), restarted("t-1", 6)})},
          {stop_child("t-1"), ""},
          {pass(kTry), seq({tried("t-1"), order_done("stop t-1")})},
          children("", ""),
          counts("", 1, 0, 0, 0),
          {start_child("", Child("")), order_done("start t-2", born("t-2") + "; t-2 serves")},
          begin_to_fail("t-2"),
          {exits("t-2", 1), seq({crashed("t-2"), restarted("t-2", 5)})},
          {pass(kTry), seq({tried("t-2"), restarted("t-2", 4)})},
          {shut_down(), seq({"order shutdown root", killed("t-2"), "root terminated"})},
          end_is("asked")};
}

// A start that fails at once leaves no time to look; one that a supervisor is not told of yet does.
std::vector<Step> counts_of_restarting() {
  std::vector<Step> script = {{boot(), booted({})}, counts("", 1, 0, 0, 0)};
  for (int i = 1; i <= 3; ++i) {
    const std::string id = "t-" + std::to_string(i);
    script.push_back({start_child("", Child("")), order_done("start " + id, born(id))});
    script.push_back(counts("", 1, i, 0, i));
  }
  for (int i = 1; i <= 3; ++i) {
    const std::string id = "t-" + std::to_string(i);
    script.push_back(
        {exits(id, 1), seq({crashed(id), left(id, 20 - i), id + " initial", id + " disabled"})});
    script.push_back(counts("", 1, 3 - i, 0, 3));
  }
  script.push_back(children("",
                            "t-1 restarting disabled #2, t-2 restarting disabled #2, "
                            "t-3 restarting disabled #2"));
  script.push_back({pass(kTry),
                    "t-1 ready; t-1 running; t-2 ready; t-2 running; t-3 ready; "
                    "t-3 running"});
  script.push_back(counts("", 1, 3, 0, 3));
  script.push_back(
      {exits("t-1", 1), seq({crashed("t-1"), left("t-1", 16), "t-1 initial", "t-1 disabled"})});
  for (int i = 1; i <= 3; ++i) {
    const std::string id = "t-" + std::to_string(i);
    script.push_back(
        {stop_child(id), order_done("stop " + id, i == 1 ? "t-1 terminated" : killed(id))});
    script.push_back(counts("", 1, 3 - i, 0, 3 - i));
  }
  script.push_back({pass(seconds(1)), ""});
  return script;
}

}  // namespace

std::vector<Behaviour> restarting_rows() {
  return {
      {.name = "RestartLoopStaysAnswerable",
       .sentence = "While the restart of a child goes on failing, orders are taken up between two "
                   "tries: start, restart and delete are refused, a stop ends the loop, and so "
                   "does a shutdown.",
       .otp_cases = {"hanging_restart_loop"},
       .compared = "same",
       .tree = one_for_one({slow("a")}, 8, seconds(60)),
       .script = loop_of_one()},
      {.name = "RestartLoopOfARestForOneGroupStaysAnswerable",
       .sentence = "The same with rest_for_one: meanwhile those before run, and those after are "
                   "stopped.",
       .otp_cases = {"hanging_restart_loop_rest_for_one"},
       .compared = "same",
       .tree = rest_for_one({slow("a"), slow("b"), slow("c")}, 8, seconds(60)),
       .script = loop_of_rest()},
      {.name = "RestartLoopOfAnInstanceStaysAnswerable",
       .sentence = "The same for an instance of a dynamic supervisor: a stop forgets it.",
       .otp_cases = {"hanging_restart_loop_simple"},
       .compared = "different: the instance is named by its id instead of its old pid",
       .tree = dynamic(slow("t"), 8, seconds(60)),
       .script = loop_of_dynamic()},
      {.name = "RestartingInstancesAreCountedButNotActive",
       .sentence = "An instance that waits for its restart counts as a child, and not as active.",
       .otp_cases = {"count_restarting_children"},
       .compared = "same; waiting for the next try is shown by a back-off, which OTP has not",
       .tree = dynamic(worker("t").killed().backs_off(kTry, kTry), 20, seconds(60)),
       .script = counts_of_restarting()},
      {.name = "TwoRestartLoopsShareOneIntensity",
       .sentence = "Two children that can no longer be started try in turns, and share one "
                   "intensity.",
       .compared = "same",
       .simulated_only = "two tries that end at one moment",
       .tree = one_for_one({worker("a"), worker("b")}, 4),
       .script = {{boot(), booted({"a", "b"})},
                  {starts_fail("a", 9), ""},
                  {starts_fail("b", 9), ""},
                  {together({exits("a", 1), exits("b", 1)}),
                   seq({crashed("a"), left("a", 3), "a initial; a ready", crashed("b"),
                        "a start failed; a terminated", left("b", 2), fails("b"), left("a", 1),
                        fails("a"), left("b", 0), fails("b"), "spent root", "root terminated"})},
                  end_is("intensity spent")}},
  };
}

}  // namespace crashworthy::rows

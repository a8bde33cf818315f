// Rows: dynamic supervisors, OTP's simple_one_for_one.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

Step start_one(const std::string& id) {
  return {start_child("", Child("")), order_done("start " + id, born(id))};
}

std::string name_of(int number) { return "t-" + std::to_string(number); }

// 50 are started, then 50 more; then each is killed.
std::vector<Step> many_instances(bool supervisors) {
  std::vector<Step> script = {{boot(), booted({})}, counts("", 1, 0, 0, 0)};
  const auto count = [&](int number) {
    script.push_back(counts("", 1, number, supervisors ? number : 0, supervisors ? 0 : number));
  };
  for (int i = 1; i <= 100; ++i) {
    script.push_back(start_one(name_of(i)));
    if (i % 50 == 0) count(i);
  }
  count(100);
  for (int i = 1; i <= 100; ++i) {
    script.push_back({dies(name_of(i)), killed(name_of(i))});
  }
  script.push_back(counts("", 1, 0, 0, 0));
  script.push_back(end_is("lives"));
  return script;
}

std::vector<Step> stopped_instances() {
  std::vector<Step> script = {{boot(), booted({})}};
  for (int i = 1; i <= 100; ++i) script.push_back(start_one(name_of(i)));
  for (int i = 100; i >= 1; --i) {
    script.push_back(
        {stop_child(name_of(i)), order_done("stop " + name_of(i), stopped(name_of(i)))});
  }
  script.push_back(counts("", 1, 0, 0, 0));
  return script;
}

std::vector<Behaviour> instance_rows() {
  return {
      {.name = "OrdersToInstances",
       .sentence = "An instance that is stopped is forgotten, whatever its type; instances cannot "
                   "be restarted or deleted by order.",
       .otp_cases = {"child_adm_simple"},
       .compared = "different: an instance is named by an id instead of its pid, and an id that is "
                   "gone is not found, where OTP answers ok for a dead pid",
       .tree = dynamic(worker("t")),
       .script = {{boot(), booted({})},
                  children("", ""),
                  counts("", 1, 0, 0, 0),
                  start_one("t-1"),
                  children("", "t-1 running #1"),
                  counts("", 1, 1, 0, 1),
                  start_one("t-2"),
                  counts("", 1, 2, 0, 2),
                  {stop_child("t"), answer("stop t", "not_found")},
                  {stop_child("t-1"), order_done("stop t-1", stopped("t-1"))},
                  children("", "t-2 running #1"),
                  counts("", 1, 1, 0, 1),
                  {stop_child("t-1"), answer("stop t-1", "not_found")},
                  {restart_child("t-2"), answer("restart t-2", "dynamic")},
                  {delete_child("t-2"), answer("delete t-2", "dynamic")},
                  children("", "t-2 running #1"),
                  counts("", 1, 1, 0, 1)}},
      {.name = "InstancesAreListedByTheirIds",
       .sentence = "Each instance has a place in the list under an id of its own; one that was "
                   "stopped, or never was, has none.",
       .otp_cases = {"which_children_simple_one_for_one"},
       .compared = "different: instances have ids, OTP's have none",
       .tree = dynamic(worker("t")),
       .script = {{boot(), booted({})},
                  start_one("t-1"),
                  start_one("t-2"),
                  children("", "t-1 running #1, t-2 running #1"),
                  child_is("t-1", "t-1 running #1"),
                  {stop_child("t-1"), order_done("stop t-1", stopped("t-1"))},
                  child_is("t-1", "none"),
                  child_is("t", "none"),
                  child_is("t-9", "none"),
                  start_one("t-3"),
                  children("", "t-2 running #1, t-3 running #1")}},
      {.name = "InstanceMayHaveAnIdOfItsOwn",
       .sentence = "An instance may be given an id, which must be free.",
       .compared = "different: OTP's instances have no ids",
       .tree = dynamic(worker("t")),
       .script = {{boot(), booted({})},
                  start_one("t-1"),
                  {start_child("", Child("x")), order_done("start x", born("x"))},
                  {start_child("", Child("x")), answer("start x", "running")},
                  {start_child("", Child("t-1")), answer("start t-1", "running")},
                  {start_child("", Child("x/y")), answer("start x/y", "invalid")},
                  children("", "t-1 running #1, x running #1")}},
      {.name = "InstanceThatEndsIsReplacedAlone",
       .sentence = "A permanent instance that ends is started anew under its id; the others are "
                   "untouched; all share one intensity.",
       .otp_cases = {"simple_one_for_one"},
       .compared = "same",
       .tree = dynamic(worker("t")),
       .script = {{boot(), booted({})},
                  start_one("t-1"),
                  start_one("t-2"),
                  {exits("t-1", 1), seq({crashed("t-1"), restarted("t-1", 1)})},
                  children("", "t-1 running #2, t-2 running #1"),
                  counts("", 1, 2, 0, 2),
                  {exits("t-2", 1), seq({crashed("t-2"), restarted("t-2", 0)})},
                  {exits("t-1", 1),
                   seq({crashed("t-1"), "spent root", stopped("t-2"), "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "InstanceIsRestartedWithWhatItWasStartedWith",
       .sentence = "An instance is restarted with its own command line, and one end costs one "
                   "restart.",
       .otp_cases = {"simple_one_for_one_extra"},
       .compared = "different: a start has no extra value to return; otherwise the same",
       .tree = dynamic(worker("t"), 1),
       .script = {{boot(), booted({})},
                  start_one("t-1"),
                  start_one("t-2"),
                  {dies("t-2"), seq({killed("t-2"), restarted("t-2", 0)})},
                  children("", "t-1 running #1, t-2 running #2"),
                  counts("", 1, 2, 0, 2),
                  {exits("t-1", 1),
                   seq({crashed("t-1"), "spent root", stopped("t-2"), "root terminated"})}}},
      {.name = "InstanceThatCannotBeStartedAgainEndsItsSupervisor",
       .sentence = "An instance that can no longer be started uses up the intensity, and the "
                   "supervisor ends with all instances.",
       .otp_cases = {"simple_one_for_one_escalation"},
       .compared = "same",
       .tree = dynamic(worker("t"), 4),
       .script = {{boot(), booted({})},
                  start_one("t-1"),
                  start_one("t-2"),
                  {starts_fail("t-1", 9), ""},
                  {exits("t-1", 1),
                   seq({crashed("t-1"), left("t-1", 3), fails("t-1"), left("t-1", 2), fails("t-1"),
                        left("t-1", 1), fails("t-1"), left("t-1", 0), fails("t-1"), "spent root",
                        stopped("t-2"), "root terminated"})},
                  end_is("intensity spent")}},
      {.name = "InstanceThatCannotBeStartedIsForgotten",
       .sentence = "An instance whose first start fails is not kept, and not tried again.",
       .otp_cases = {"sup_start_child_returns_error_simple"},
       .compared = "same",
       .tree = dynamic(worker("t")),
       .script = {{boot(), booted({})},
                  {starts_fail("x", 1), ""},
                  {start_child("", Child("x")),
                   seq({"order start x", fails("x"), answer("start x", "start_failed")})},
                  children("", ""),
                  counts("", 1, 0, 0, 0),
                  budget_is("", 2)}},
      {.name = "TemporaryInstanceWithNothingToDoIsForgotten",
       .sentence = "A temporary instance that finds nothing to do and exits with 0 is forgotten.",
       .otp_cases = {"sup_start_ignore_temporary_child_start_child_simple"},
       .compared = "different: instead of `ignore`, a child that has nothing to do exits with 0",
       .tree = dynamic(worker("t").temporary()),
       .script = {{boot(), booted({})},
                  start_one("t-1"),
                  {exits("t-1", 0), "t-1 ended exit 0; t-1 completed"},
                  start_one("t-2"),
                  children("", "t-2 running #1"),
                  counts("", 1, 1, 0, 1)}},
      {.name = "TransientInstanceThatExitsWith0IsForgotten",
       .sentence = "A transient instance that exits with 0 is forgotten, and the supervisor can "
                   "be shut down afterwards.",
       .otp_cases = {"sup_start_ignore_permanent_child_start_child_simple"},
       .compared = "different: instead of `ignore`, a child that has nothing to do exits with 0",
       .tree = dynamic(worker("t").transient()),
       .script = {{boot(), booted({})},
                  start_one("t-1"),
                  {exits("t-1", 0), "t-1 ended exit 0; t-1 completed"},
                  start_one("t-2"),
                  children("", "t-2 running #1"),
                  counts("", 1, 1, 0, 1),
                  {shut_down(), seq({"order shutdown root", stopped("t-2"), "root completed"})},
                  end_is("asked")}},
      {.name = "RestartedInstanceWithNothingToDoIsForgotten",
       .sentence = "A transient instance that exits with 0 after it was restarted is forgotten "
                   "like one that never crashed.",
       .otp_cases = {"simple_one_for_one_restart_ignore"},
       .compared = "different: instead of `ignore`, a child that has nothing to do exits with 0",
       .tree = dynamic(worker("t").transient(), 10),
       .script = {{boot(), booted({})},
                  start_one("t-1"),
                  {dies("t-1"), seq({killed("t-1"), restarted("t-1", 9)})},
                  {dies("t-1"), seq({killed("t-1"), restarted("t-1", 8)})},
                  {exits("t-1", 0), "t-1 ended exit 0; t-1 completed"},
                  children("", ""),
                  {shut_down(), "order shutdown root; root completed"},
                  end_is("asked")}},
  };
}

}  // namespace

std::vector<Behaviour> dynamic_rows() {
  std::vector<Behaviour> all = instance_rows();
  all.push_back({.name = "ManyInstancesAreCounted",
                 .sentence = "Instances are counted as they come and go.",
                 .otp_cases = {"count_children"},
                 .compared = "same: fewer",
                 .simulated_only = "a hundred processes",
                 .tree = dynamic(worker("t").temporary()),
                 .script = many_instances(false)});
  all.push_back({.name = "ManyInstancesAreCountedAsSupervisors",
                 .sentence = "Instances of a template that is a supervisor are counted as such.",
                 .otp_cases = {"count_children_supervisor"},
                 .compared = "same: fewer",
                 .simulated_only = "a hundred processes",
                 .tree = dynamic(worker("t").temporary().counts_as_supervisor()),
                 .script = many_instances(true)});
  all.push_back({.name = "ManyInstancesAreStopped",
                 .sentence = "Instances are stopped one by one, in any order.",
                 .otp_cases = {"simple_one_for_one_scale_many_temporary_children"},
                 .compared = "same: fewer; another test compares the costs of 300 and of 3 000",
                 .simulated_only = "a hundred processes",
                 .tree = dynamic(worker("t").temporary()),
                 .script = stopped_instances()});
  all.push_back(
      {.name = "InstancesMayBeSupervisors",
       .sentence = "The template of a dynamic supervisor may be a whole tree.",
       .compared = "same",
       .tree = dynamic(nested("t", one_for_one({worker("w")}, 0))),
       .script = {
           {boot(), booted({})},
           {start_child("", Child("")),
            order_done("start t-1",
                       "t-1 initial; t-1/w initial; t-1/w ready; t-1 ready; "
                       "t-1/w running; t-1 running")},
           counts("", 1, 1, 1, 0),
           {exits("t-1/w", 1),
            seq({crashed("t-1/w"), "spent t-1; t-1 terminated", left("t-1", 1),
                 "t-1 initial; t-1/w initial; t-1/w ready; t-1 ready; t-1/w running; "
                 "t-1 running"})},
           {stop_child("t-1"), order_done("stop t-1", seq({stopped("t-1/w"), "t-1 completed"}))},
           counts("", 1, 0, 0, 0)}});
  return all;
}

}  // namespace crashworthy::rows

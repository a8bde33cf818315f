// Rows: children and supervisors that are suspended and resumed.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

std::vector<Behaviour> leaf_rows() {
  return {
      {.name = "ChildIsSuspendedAndResumed",
       .sentence = "A child can be suspended and resumed, once or more; others are untouched.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b")}),
       .script = {{boot(), booted({"a", "b"})},
                  {suspend("a"), order_done("suspend a", "a intermitted")},
                  {suspend("a"), order_done("suspend a")},
                  children("", "a running intermitted #1, b running #1"),
                  counts("", 2, 2, 0, 2),
                  {resume("a"), order_done("resume a", "a running")},
                  {resume("a"), order_done("resume a")},
                  children("", "a running #1, b running #1")}},
      {.name = "OnlyAChildThatRunsIsSuspended",
       .sentence = "A child that does not run cannot be suspended or resumed.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {suspend("a"), answer("suspend a", "invalid")},
                  {resume("a"), answer("resume a", "invalid")},
                  {suspend("x"), answer("suspend x", "not_found")}}},
      {.name = "SuspendedChildIsStoppedLikeAnyOther",
       .sentence = "A suspended child that is stopped is continued, so that it can obey.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b").killed()}),
       .script = {{boot(), booted({"a", "b"})},
                  {suspend("a"), order_done("suspend a", "a intermitted")},
                  {suspend("b"), order_done("suspend b", "b intermitted")},
                  {stop_child("a"), order_done("stop a", seq({"a running", stopped("a")}))},
                  {stop_child("b"), order_done("stop b", killed("b"))},
                  {restart_child("a"), order_done("restart a", born("a"))},
                  children("", "a running #2, b stopped terminated #1")}},
      {.name = "SuspendedChildThatIsKilledIsRestarted",
       .sentence = "A suspended child that somebody kills is restarted, and runs.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a")}),
       .script = {{boot(), booted({"a"})},
                  {suspend("a"), order_done("suspend a", "a intermitted")},
                  {dies("a"), seq({killed("a"), restarted("a", 1)})},
                  children("", "a running #2")}},
      {.name = "SuspendedChildIsPartOfItsGroup",
       .sentence = "The restart of a group stops its suspended children too.",
       .compared = "beyond OTP",
       .tree = one_for_all({worker("a"), worker("b")}),
       .script = {{boot(), booted({"a", "b"})},
                  {suspend("b"), order_done("suspend b", "b intermitted")},
                  {exits("a", 1), seq({crashed("a"), left("a", 1), "b running", stopped("b"),
                                       born("a"), born("b")})}}},
  };
}

std::vector<Behaviour> supervisor_rows() {
  const std::string in_boot =
      "root initial; a initial; a ready; a running; in initial; in/v initial; in/v ready; "
      "in/v running; in/w initial; in/w ready; in ready; root ready; in/w running; in running; "
      "root running";
  const auto made = [] {
    return one_for_one({worker("a"), nested("in", one_for_one({worker("v"), worker("w")}))});
  };
  return {
      {.name = "SupervisorIsSuspendedWithAllBelow",
       .sentence = "A supervisor is suspended with all its processes, and then is intermitted "
                   "itself; its siblings run on.",
       .compared = "beyond OTP",
       .tree = made(),
       .script = {{boot(), in_boot},
                  {suspend("in"),
                   order_done("suspend in", "in/v intermitted; in/w intermitted; in intermitted")},
                  children("in", "v running intermitted #1, w running intermitted #1"),
                  children("", "a running #1, in running intermitted #1"),
                  {exits("a", 1), seq({crashed("a"), restarted("a", 1)})},
                  {resume("in"), order_done("resume in", "in running; in/v running; in/w running")},
                  children("in", "v running #1, w running #1")}},
      {.name = "SuspendedTreeRestartsNothing",
       .sentence = "A suspended supervisor neither restarts anything nor takes up orders until it "
                   "is resumed; nothing is lost.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b")}),
       .script = {{boot(), booted({"a", "b"})},
                  {suspend(""), order_done("suspend root",
                                           "a intermitted; b intermitted; "
                                           "root intermitted")},
                  {dies("b"), killed("b")},
                  {stop_child("a"), ""},
                  {pass(seconds(1)), ""},
                  budget_is("", 2),
                  {resume(""),
                   seq({"order resume root; root running; a running; answer resume root: ok",
                        restarted("b", 1), order_done("stop a", stopped("a"))}),
                   true},
                  children("", "a stopped completed #1, b running #2")}},
      {.name = "ResumeIsAnsweredThoughItsSupervisorGivesUp",
       .sentence = "A resume is done, also when what waited for it ends the supervisor.",
       .compared = "beyond OTP",
       .tree = one_for_one({nested("in", one_for_one({worker("w")}, 0)).transient()}),
       .script = {{boot(),
                   "root initial; in initial; in/w initial; in/w ready; in ready; root ready; "
                   "in/w running; in running; root running"},
                  {suspend("in"), order_done("suspend in", "in/w intermitted; in intermitted")},
                  {dies("in/w"), killed("in/w")},
                  {resume("in"),
                   "order resume in; in running; spent in; in terminated; answer resume in: ok",
                   true},
                  children("", "in stopped terminated #1")}},
      {.name = "SuspendedSupervisorIsStopped",
       .sentence = "A suspended nested supervisor can be stopped by the one above it.",
       .compared = "beyond OTP",
       .tree = made(),
       .script = {{boot(), in_boot},
                  {suspend("in"),
                   order_done("suspend in", "in/v intermitted; in/w intermitted; in intermitted")},
                  {stop_child("in"),
                   order_done("stop in", seq({"in running; in/w running", stopped("in/w"),
                                              "in/v running", stopped("in/v"), "in completed"}))},
                  children("", "a running #1, in stopped completed #1")}},
      {.name = "ShutdownGoesThroughASuspendedTree",
       .sentence = "A suspended tree can be shut down.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b")}),
       .script = {{boot(), booted({"a", "b"})},
                  {suspend(""), order_done("suspend root",
                                           "a intermitted; b intermitted; "
                                           "root intermitted")},
                  {restart_child("a"), ""},
                  {shut_down(),
                   seq({"order shutdown root", "root running; b running", stopped("b"), "a running",
                        stopped("a"), answer("restart a", "ending"), "root completed"})},
                  end_is("asked")}},
      {.name = "SuspendedTreeIsKilled",
       .sentence = "A suspended tree can be killed.",
       .compared = "beyond OTP",
       .tree = one_for_one({worker("a"), worker("b")}),
       .script = {{boot(), booted({"a", "b"})},
                  {suspend(""), order_done("suspend root",
                                           "a intermitted; b intermitted; "
                                           "root intermitted")},
                  {kill_all(),
                   seq({"order kill root", killed("a"), killed("b"), "root terminated"}), true},
                  end_is("asked")}},
      {.name = "EmptySupervisorIsSuspended",
       .sentence = "A supervisor without running children is suspended at once.",
       .compared = "beyond OTP",
       .tree = one_for_one({}),
       .script = {{boot(), booted({})},
                  {suspend(""), order_done("suspend root", "root intermitted")},
                  {start_child("", worker("a")), ""},
                  {resume(""), seq({order_done("resume root", "root running"), started("a")}),
                   true}}},
  };
}

}  // namespace

std::vector<Behaviour> suspend_rows() {
  std::vector<Behaviour> all = leaf_rows();
  for (auto& row : supervisor_rows()) all.push_back(std::move(row));
  return all;
}

}  // namespace crashworthy::rows

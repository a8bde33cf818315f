// Rows: specifications, and the first start of a tree.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

SupervisorSpec of(ChildSpec child, AutoShutdown auto_shutdown = AutoShutdown::kNever) {
  SupervisorSpec made = one_for_one({std::move(child)});
  made.auto_shutdown = auto_shutdown;
  return made;
}

std::vector<Step> faulty_supervisors() {
  return {accepted(one_for_one({}, 0, Nanoseconds(1))), refused(one_for_one({}, -1), "/intensity"),
          refused(one_for_one({}, 1, Nanoseconds(0)), "/period"),
          refused(one_for_one({}, 1, Nanoseconds(-1)), "/period"),
          refused(one_for_one({nested("in", one_for_one({}, -1))}), "/children/0/intensity")};
}

std::vector<Step> faulty_children() {
  ChildSpec nothing = worker("a");
  nothing.function.clear();
  ChildSpec both = worker("a");
  both.command = {"true"};
  ChildSpec slash = worker("a/b");
  return {refused(of(worker("")), "/children/0/id"),
          refused(of(slash), "/children/0/id"),
          refused(of(nothing), "/children/0"),
          refused(of(both), "/children/0"),
          refused(of(worker("a").stops_within(milliseconds(-10))), "/children/0/stop"),
          refused(of(worker("a").tells_ready(Nanoseconds(0))), "/children/0/ready/timeout"),
          refused(of(worker("a").beats(Nanoseconds(0), 4)), "/children/0/heartbeat/interval"),
          refused(of(worker("a").ends_by(Nanoseconds(0))), "/children/0/deadline"),
          refused(one_for_one({worker("b"), worker("")}), "/children/1/id")};
}

// All restart types x ways to stop x types.
std::vector<Step> fine_children() {
  std::vector<Step> all;
  const StopPolicy policies[] = {{StopPolicy::Kind::kTime, Nanoseconds(0)},
                                 {StopPolicy::Kind::kTime, seconds(1)},
                                 {StopPolicy::Kind::kInfinite, {}},
                                 {StopPolicy::Kind::kKill, {}}};
  for (const auto how :
       {RestartType::kPermanent, RestartType::kTransient, RestartType::kTemporary}) {
    for (const StopPolicy& policy : policies) {
      for (const auto type : {ChildType::kWorker, ChildType::kSupervisor}) {
        ChildSpec child = worker("a").restarted(how);
        child.stop = policy;
        child.type = type;
        all.push_back(accepted(of(child)));
      }
    }
  }
  return all;
}

std::vector<Step> significant_combinations() {
  std::vector<Step> all;
  for (const auto how :
       {RestartType::kPermanent, RestartType::kTransient, RestartType::kTemporary}) {
    for (const auto ends :
         {AutoShutdown::kNever, AutoShutdown::kAnySignificant, AutoShutdown::kAllSignificant}) {
      const bool fine = ends != AutoShutdown::kNever && how != RestartType::kPermanent;
      all.push_back(refused(of(worker("a").restarted(how).make_significant(), ends),
                            fine ? "ok" : "/children/0/significant"));
      all.push_back(accepted(of(worker("a").restarted(how), ends)));
    }
  }
  return all;
}

std::vector<Behaviour> specification_rows() {
  return {
      {.name = "FaultySupervisorIsRefused",
       .sentence = "A supervisor whose strategy, intensity or period makes no sense is refused, "
                   "with its place, before anything is started.",
       .otp_cases = {"sup_flags", "sup_start_error_return", "sup_start_fail"},
       .compared = "same",
       .script = faulty_supervisors()},
      {.name = "FaultyChildIsRefused",
       .sentence = "A child without an id, without anything to run, or with times that make no "
                   "sense is refused, with its place.",
       .otp_cases = {"child_specs", "sup_start_map_faulty_specs"},
       .compared = "different: an unknown key of a tree file is refused; OTP ignores it",
       .script = faulty_children()},
      {.name = "TwoChildrenOfOneIdAreRefused",
       .sentence = "Two children of one supervisor have different ids; of two supervisors they "
                   "may have the same.",
       .otp_cases = {"child_specs"},
       .compared = "same",
       .script = {refused(one_for_one({worker("a"), worker("a")}), "/children/1/id"),
                  accepted(one_for_one({worker("a"), nested("in", one_for_one({worker("a")}))}))}},
      {.name = "AllWaysToRestartAndStopGoTogether",
       .sentence = "Every restart type goes with every way to stop, for workers and supervisors.",
       .otp_cases = {"child_specs", "child_specs_map"},
       .compared = "same",
       .script = fine_children()},
      {.name = "SignificantChildNeedsSomebodyWhoHeedsIt",
       .sentence = "A significant child is refused when it is permanent, or when its supervisor "
                   "never shuts down by itself.",
       .otp_cases = {"child_specs_map"},
       .compared = "same",
       .script = significant_combinations()},
      {.name = "DynamicSupervisorHasExactlyOneTemplate",
       .sentence = "A dynamic supervisor has exactly one template.",
       .otp_cases = {"child_specs"},
       .compared = "same",
       .script = {accepted(dynamic(worker("t"))),
                  refused(tree(Strategy::kDynamic, {}), "/children"),
                  refused(tree(Strategy::kDynamic, {worker("t"), worker("u")}), "/children")}},
      {.name = "DynamicSupervisorNeverShutsDownByItself",
       .sentence = "A dynamic supervisor with auto_shutdown is refused.",
       .otp_cases = {"significant_simple"},
       .compared = "same",
       .script = {accepted(dynamic(worker("t").temporary())),
                  refused(ends_with_any(dynamic(worker("t").temporary())), "/auto_shutdown"),
                  refused(ends_with_all(dynamic(worker("t").temporary())), "/auto_shutdown")}},
      {.name = "DefaultsAreThoseOfOtp",
       .sentence = "A child is a permanent worker with 5 s to stop; a nested supervisor is waited "
                   "for without bound.",
       .otp_cases = {"sup_start_map"},
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b").killed(), nested("in", one_for_one({}))}),
       .script = {spec_is("a", "permanent worker 5s"), spec_is("b", "permanent worker kill"),
                  spec_is("in", "permanent supervisor infinite"), spec_is("x", "none"),
                  spec_is("a/b", "none"), spec_is("x/y", "none")}},
      {.name = "InstancesHaveTheSpecificationOfTheirTemplate",
       .sentence = "The specification of an instance is that of its template.",
       .otp_cases = {"sup_start_map_simple"},
       .compared = "different: an instance is named by an id instead of its pid",
       .tree = dynamic(worker("t").temporary()),
       .script = {{boot(), booted({})},
                  {start_child("", Child("")), started("t-1")},
                  {start_child("", Child("")), started("t-2")},
                  spec_is("t-1", "temporary worker 5s"),
                  spec_is("t-2", "temporary worker 5s"),
                  spec_is("t-3", "none")}},
  };
}

std::vector<Behaviour> empty_rows() {
  return {
      {.name = "EmptyTreeLivesUntilItIsAsked",
       .sentence = "A supervisor without children lives until it is asked to end.",
       .otp_cases = {"sup_start_normal"},
       .compared = "same",
       .tree = one_for_one({}),
       .script = {{boot(), "root initial; root ready; root running"},
                  children("", ""),
                  counts("", 0, 0, 0, 0),
                  end_is("lives"),
                  {shut_down(), "order shutdown root; root completed"},
                  end_is("asked")}},
      {.name = "SupervisorWithNothingToDoIsNoFailure",
       .sentence = "A nested supervisor that has nothing to do runs, and fails nobody's start.",
       .otp_cases = {"sup_start_ignore_init"},
       .compared = "different: a start cannot answer `ignore`; whoever has nothing to do has no "
                   "children",
       .tree = one_for_one({nested("in", one_for_one({}))}),
       .script = {{boot(),
                   "root initial; in initial; in ready; root ready; in running; root running"},
                  children("", "in running #1"),
                  children("in", ""),
                  counts("", 1, 1, 1, 0),
                  {shut_down(), "order shutdown root; in completed; root completed"},
                  end_is("asked")}},
      {.name = "ChildWithNothingToDoStaysAsStopped",
       .sentence = "A transient child that finds nothing to do and exits with 0 is kept, stopped.",
       .otp_cases = {"sup_start_ignore_child"},
       .compared = "different: instead of `ignore`, a child that has nothing to do exits with 0",
       .tree = one_for_one({}),
       .script = {{boot(), booted({})},
                  {start_child("", worker("a").transient()), started("a")},
                  {exits("a", 0), "a ended exit 0; a completed"},
                  {start_child("", worker("b")), started("b")},
                  children("", "a stopped completed #1, b running #1"),
                  counts("", 2, 1, 0, 2)}},
      {.name = "TemporaryChildWithNothingToDoIsForgotten",
       .sentence = "A temporary child that finds nothing to do and exits with 0 is forgotten.",
       .otp_cases = {"sup_start_ignore_temporary_child",
                     "sup_start_ignore_temporary_child_start_child"},
       .compared = "different: instead of `ignore`, a child that has nothing to do exits with 0",
       .tree = one_for_one({worker("a").temporary(), worker("b").temporary()}),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("a", 0), "a ended exit 0; a completed"},
                  children("", "b running #1"),
                  counts("", 1, 1, 0, 1),
                  {start_child("", worker("c").temporary()), started("c")},
                  {exits("c", 0), "c ended exit 0; c completed"},
                  children("", "b running #1")}},
  };
}

std::vector<Behaviour> boot_rows() {
  return {
      {.name = "ChildrenStartInOrderOneAfterTheOther",
       .sentence = "Children are started in the order of the specification, each when the one "
                   "before it runs.",
       .otp_cases = {"order_of_children"},
       .compared = "same",
       .tree = one_for_one({worker("c"), worker("a"), worker("b")}),
       .script = {{boot(),
                   "root initial; c initial; c ready; c running; a initial; a ready; a running; "
                   "b initial; b ready; root ready; b running; root running"},
                  children("", "c running #1, a running #1, b running #1"),
                  counts("", 3, 3, 0, 3)}},
      {.name = "NestedSupervisorIsStartedBeforeTheNextChild",
       .sentence = "A nested supervisor is started with all its children before the next child.",
       .otp_cases = {"sup_stop_infinity"},
       .compared = "same",
       .tree = one_for_one({nested("s", one_for_one({worker("w")})), worker("b")}),
       .script = {{boot(),
                   "root initial; s initial; s/w initial; s/w ready; s ready; s/w running; "
                   "s running; b initial; b ready; root ready; b running; root running"},
                  children("", "s running #1, b running #1"),
                  children("s", "w running #1"),
                  counts("", 2, 2, 1, 1)}},
      {.name = "FirstStartThatFailsIsRolledBack",
       .sentence = "When a child cannot be started at first, those before it are stopped in "
                   "reverse order, those after it are never started, and the tree says which.",
       .otp_cases = {"faulty_application_shutdown"},
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b"), worker("c"), worker("d")}, 10),
       .script = {{starts_fail("c", 1), ""},
                  {boot(), seq({"root initial", born("a"), born("b"), fails("c"), stopped("b"),
                                stopped("a"), "root disabled", "root terminated"})},
                  end_is("start failed"),
                  end_says("'c'"),
                  end_says("told to fail")}},
      {.name = "FirstStartIsNeverTriedAgain",
       .sentence = "A first start that fails is not tried again, whatever the intensity.",
       .otp_cases = {"faulty_application_shutdown"},
       .compared = "same",
       .tree = one_for_one({worker("a")}, 10),
       .script = {{starts_fail("a", 1), ""},
                  {boot(), seq({"root initial", "a initial", "a ready", "root ready",
                                "a start failed", "a terminated", "root terminated"})},
                  end_is("start failed")}},
      {.name = "FailedStartOfNestedSupervisorKeepsItsCause",
       .sentence = "When a child of a nested supervisor cannot be started, all is rolled back, and "
                   "the tree says which child it was.",
       .otp_cases = {"faulty_application_shutdown"},
       .compared = "same",
       .tree = one_for_one({worker("a"), nested("in", one_for_one({worker("b"), worker("c")}))}),
       .script = {{starts_fail("in/c", 1), ""},
                  {boot(),
                   seq({"root initial", born("a"), "in initial", born("in/b"), "in/c initial",
                        "in/c ready", "in ready", "root ready", "in/c start failed",
                        "in/c terminated", stopped("in/b"), "in start failed", "in terminated",
                        stopped("a"), "root terminated"})},
                  end_is("start failed"),
                  end_says("'in'"),
                  end_says("'in/c'"),
                  end_says("told to fail")}},
      {.name = "EndDuringTheFirstStartIsHandledAfterIt",
       .sentence = "A child that ends while those after it are still being started is restarted "
                   "once all have been.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b").tells_ready()}),
       .script = {{conduct("b", ready_after(milliseconds(200))), ""},
                  {boot(), seq({"root initial", born("a"), "b initial", "b ready", "root ready",
                                "b running"})},
                  {exits("a", 1), crashed("a")},
                  {pass(milliseconds(200)), seq({"b serves", "root running", restarted("a", 1)})}}},
      {.name = "EndDuringARollBackIsNotRestarted",
       .sentence = "A child that ends during the first start is not restarted when that fails.",
       .compared = "same",
       .tree = one_for_one({worker("a"), worker("b").tells_ready()}),
       .script = {{conduct("b", exits_before_ready(1, milliseconds(200))), ""},
                  {boot(), seq({"root initial", born("a"), "b initial", "b ready", "root ready",
                                "b running"})},
                  {exits("a", 1), crashed("a")},
                  {pass(milliseconds(200)),
                   "b ended exit 1; b start failed; b terminated; "
                   "root terminated"},
                  end_is("start failed")}},
  };
}

}  // namespace

std::vector<Behaviour> start_rows() {
  std::vector<Behaviour> all = specification_rows();
  for (auto& row : empty_rows()) all.push_back(std::move(row));
  for (auto& row : boot_rows()) all.push_back(std::move(row));
  return all;
}

}  // namespace crashworthy::rows

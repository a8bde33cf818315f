// Rows: significant children, whose end shuts their supervisor down.
#include "harness/supervision/behaviour_rows.h"

namespace crashworthy::rows {
namespace {

std::string ended_0(const std::string& path) {
  return path + " ended exit 0; " + path + " completed";
}

SupervisorSpec ending(AutoShutdown auto_shutdown, SupervisorSpec made) {
  made.auto_shutdown = auto_shutdown;
  return made;
}

Behaviour nonsignificant_row(AutoShutdown auto_shutdown, const std::string& word, RestartType how) {
  const bool transient = how == RestartType::kTransient;
  const auto a = [&] { return worker("a").restarted(how); };
  std::vector<Step> script = {{boot(), booted({})}, {start_child("", a()), started("a")}};
  script.push_back({stop_child("a"), order_done("stop a", stopped("a"))});
  script.push_back(transient ? Step{restart_child("a"), order_done("restart a", born("a"))}
                             : Step{start_child("", a()), started("a")});
  int budget = 5;
  for (const auto& [action, seen] :
       {std::pair{dies("a"), killed("a")}, std::pair{exits("a", 1), crashed("a")}}) {
    script.push_back({action, transient ? seq({seen, restarted("a", --budget)}) : seen});
    if (!transient) script.push_back({start_child("", a()), started("a")});
  }
  script.push_back({exits("a", 0), ended_0("a")});
  script.push_back({pass(milliseconds(50)), ""});
  script.push_back(end_is("lives"));
  return {.name = std::string(transient ? "Transient" : "Temporary") +
                  "ChildWithoutSignificanceShutsNothingDownWith" + word,
          .sentence = "No end of a " + std::string(restart_name(how)) +
                      " child that is not significant shuts its supervisor down (auto_shutdown " +
                      std::string(auto_shutdown_name(auto_shutdown)) + ").",
          .otp_cases = {transient ? "nonsignificant_transient" : "nonsignificant_temporary"},
          .compared = "same",
          .tree = ending(auto_shutdown, one_for_one({}, 5)),
          .script = std::move(script)};
}

// The end of the significant child a shuts down a, b and c.
Behaviour any_row(const std::string& name, const std::string& sentence, const std::string& otp_case,
                  RestartType how, const Action& end, const std::string& ended) {
  return {.name = name,
          .sentence = sentence,
          .otp_cases = {otp_case},
          .compared = "same",
          .tree = ends_with_any(one_for_one(
              {worker("a").restarted(how).make_significant(),
               worker("b").restarted(how).make_significant(), worker("c").restarted(how)},
              5)),
          .script = {{boot(), booted({"a", "b", "c"})},
                     {end, seq({ended, "auto shutdown root", stopped("c"), stopped("b"),
                                ended.ends_with("completed") || how == RestartType::kTemporary
                                    ? "root completed"
                                    : "root terminated"})},
                     end_is("auto shutdown")}};
}

std::vector<Behaviour> temporary_rows() {
  const auto temporary = [](const std::string& id) {
    return worker(id).temporary().make_significant();
  };
  return {
      any_row("KilledSignificantTemporaryChildShutsDown",
              "The death of one significant temporary child shuts its supervisor down "
              "(any_significant).",
              "significant_temporary", RestartType::kTemporary, dies("a"), killed("a")),
      any_row("CrashedSignificantTemporaryChildShutsDown",
              "The crash of one significant temporary child shuts its supervisor down "
              "(any_significant).",
              "significant_temporary", RestartType::kTemporary, exits("a", 1), crashed("a")),
      any_row("CompletedSignificantTemporaryChildShutsDown",
              "The orderly end of one significant temporary child shuts its supervisor down "
              "(any_significant).",
              "significant_temporary", RestartType::kTemporary, exits("a", 0), ended_0("a")),
      {.name = "StopOfASignificantTemporaryChildShutsNothingDown",
       .sentence = "A significant child that is stopped by order shuts nothing down; a temporary "
                   "one that is started again goes to the end of the order.",
       .otp_cases = {"significant_temporary"},
       .compared = "same",
       .tree =
           ends_with_any(one_for_one({temporary("a"), temporary("b"), worker("c").temporary()}, 5)),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  end_is("lives"),
                  {start_child("", temporary("a")), started("a")},
                  children("", "b running #1, c running #1, a running #1"),
                  {dies("a"), seq({killed("a"), "auto shutdown root", stopped("c"), stopped("b"),
                                   "root completed"})},
                  end_is("auto shutdown")}},
      {.name = "LastSignificantTemporaryChildShutsDown",
       .sentence = "With all_significant, only the end of the last significant child shuts its "
                   "supervisor down.",
       .otp_cases = {"significant_temporary"},
       .compared = "same",
       .tree =
           ends_with_all(one_for_one({temporary("a"), temporary("b"), worker("c").temporary()}, 5)),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {exits("a", 0), ended_0("a")},
                  end_is("lives"),
                  {exits("b", 0),
                   seq({ended_0("b"), "auto shutdown root", stopped("c"), "root completed"})},
                  end_is("auto shutdown")}},
  };
}

std::vector<Behaviour> transient_rows() {
  const auto transient = [](const std::string& id) {
    return worker(id).transient().make_significant();
  };
  return {
      any_row("CompletedSignificantTransientChildShutsDown",
              "The orderly end of one significant transient child shuts its supervisor down "
              "(any_significant).",
              "significant_transient", RestartType::kTransient, exits("a", 0), ended_0("a")),
      {.name = "CrashedSignificantTransientChildIsRestarted",
       .sentence = "A significant transient child that crashes is restarted, and one that is "
                   "stopped by order shuts nothing down (any_significant).",
       .otp_cases = {"significant_transient"},
       .compared = "same",
       .tree =
           ends_with_any(one_for_one({transient("a"), transient("b"), worker("c").transient()}, 5)),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {restart_child("a"), order_done("restart a", born("a"))},
                  children("", "a running #2, b running #1, c running #1"),
                  {dies("a"), seq({killed("a"), restarted("a", 4)})},
                  {exits("a", 1), seq({crashed("a"), restarted("a", 3)})},
                  {exits("c", 0), ended_0("c")},
                  end_is("lives"),
                  {exits("b", 0),
                   seq({ended_0("b"), "auto shutdown root", stopped("a"), "root completed"})},
                  end_is("auto shutdown")}},
      {.name = "LastSignificantTransientChildShutsDown",
       .sentence = "With all_significant, only the end of the last significant transient child "
                   "shuts its supervisor down.",
       .otp_cases = {"significant_transient"},
       .compared = "same",
       .tree =
           ends_with_all(one_for_one({transient("a"), transient("b"), worker("c").transient()}, 5)),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {exits("a", 0), ended_0("a")},
                  end_is("lives"),
                  {exits("b", 0),
                   seq({ended_0("b"), "auto shutdown root", stopped("c"), "root completed"})},
                  end_is("auto shutdown")}},
      {.name = "StoppedSignificantChildCountsAsGone",
       .sentence = "With all_significant, a significant child that was stopped by order counts as "
                   "gone, but its stop shuts nothing down.",
       .compared = "same",
       .tree = ends_with_all(one_for_one({transient("a"), transient("b"), worker("c")}, 5)),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {stop_child("a"), order_done("stop a", stopped("a"))},
                  {exits("b", 0),
                   seq({ended_0("b"), "auto shutdown root", stopped("c"), "root completed"})},
                  end_is("auto shutdown")}},
      {.name = "StopOfTheLastSignificantChildShutsNothingDown",
       .sentence = "With all_significant, nothing happens when the last significant child is "
                   "stopped or deleted by order.",
       .compared = "same",
       .tree = ends_with_all(one_for_one({transient("a"), transient("b"), worker("c")}, 5)),
       .script = {{boot(), booted({"a", "b", "c"})},
                  {exits("a", 0), ended_0("a")},
                  {stop_child("b"), order_done("stop b", stopped("b"))},
                  {delete_child("b"), order_done("delete b")},
                  end_is("lives")}},
      {.name = "RestartingSignificantChildIsNotGone",
       .sentence = "With all_significant, a child that waits for its restart is not gone.",
       .compared = "same",
       .tree = ends_with_all(one_for_one(
           {transient("a").backs_off(milliseconds(200), milliseconds(200)), transient("b")}, 5)),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("a", 1), seq({crashed("a"), left("a", 4), "a initial; a disabled"})},
                  {exits("b", 0), ended_0("b")},
                  end_is("lives"),
                  {pass(milliseconds(200)), "a ready; a running"},
                  {exits("a", 0), seq({ended_0("a"), "auto shutdown root", "root completed"})}}},
  };
}

Behaviour bystander_row(Strategy strategy, const std::string& word, AutoShutdown auto_shutdown) {
  const std::string any = auto_shutdown == AutoShutdown::kAnySignificant ? "Any" : "All";
  std::string seen = seq({killed("b"), left("b", 4)});
  std::string list = "a running #1, b running #2, c running #1";
  if (strategy == Strategy::kOneForOne) {
    seen = seq({seen, born("b")});
  } else if (strategy == Strategy::kOneForAll) {
    seen = seq({seen, stopped("c"), stopped("a"), born("a"), born("b"), born("c")});
    list = "a running #2, b running #2, c running #2";
  } else {
    seen = seq({seen, stopped("c"), born("b"), born("c")});
    list = "a running #1, b running #2, c running #2";
  }
  return {.name = "SignificantSiblingsOfARestartShutNothingDownWith" + word + any,
          .sentence =
              "Significant children that a restart of their group stops shut nothing down "
              "(" +
              std::string(strategy_name(strategy)) + ", " +
              std::string(auto_shutdown_name(auto_shutdown)) + ").",
          .otp_cases = {"significant_bystander"},
          .compared = "same",
          .tree = ending(auto_shutdown,
                         tree(strategy,
                              {worker("a").transient().make_significant(), worker("b").transient(),
                               worker("c").transient().make_significant()},
                              5)),
          .script = {{boot(), booted({"a", "b", "c"})},
                     {dies("b"), seen},
                     {pass(milliseconds(50)), ""},
                     children("", list),
                     end_is("lives")}};
}

std::vector<Behaviour> escalation_rows() {
  const auto made = [](bool significant) {
    Child b = nested(
        "b", ends_with_any(one_for_one({worker("c").transient().make_significant(), worker("d")})));
    b.restart = RestartType::kTransient;
    b.significant = significant;
    return ends_with_any(one_for_one({worker("a"), b}));
  };
  const std::string boot_seen =
      seq({"root initial", born("a"), "b initial", born("b/c"),
           "b/d initial; b/d ready; b ready; root ready; b/d running; b running; root running"});
  const std::string b_ends =
      seq({ended_0("b/c"), "auto shutdown b", stopped("b/d"), "b completed"});
  return {
      {.name = "ShutdownOfASignificantSupervisorGoesUp",
       .sentence = "A significant nested supervisor that shuts itself down shuts the one above it "
                   "down.",
       .otp_cases = {"significant_escalation"},
       .compared = "same",
       .tree = made(true),
       .script = {{boot(), boot_seen},
                  {exits("b/c", 0),
                   seq({b_ends, "auto shutdown root", stopped("a"), "root completed"})},
                  end_is("auto shutdown")}},
      {.name = "ShutdownOfAnOrdinarySupervisorStaysWhereItIs",
       .sentence = "A transient nested supervisor that shuts itself down is not restarted, and "
                   "where it is not significant, the one above it lives on.",
       .otp_cases = {"significant_escalation"},
       .compared = "same",
       .tree = made(false),
       .script = {{boot(), boot_seen},
                  {exits("b/c", 0), b_ends},
                  {pass(milliseconds(50)), ""},
                  children("", "a running #1, b stopped completed #1"),
                  {shut_down(), seq({"order shutdown root", stopped("a"), "root completed"})},
                  end_is("asked")}},
      {.name = "PermanentSupervisorThatShutsItselfDownIsRestarted",
       .sentence = "A permanent nested supervisor that shuts itself down is restarted, which "
                   "counts.",
       .compared = "same",
       .tree = one_for_one(
           {nested("b", ends_with_any(one_for_one({worker("c").transient().make_significant()})))},
           1),
       .script = {{boot(),
                   "root initial; b initial; b/c initial; b/c ready; b ready; root ready; "
                   "b/c running; b running; root running"},
                  {exits("b/c", 0),
                   seq({ended_0("b/c"), "auto shutdown b; b completed", left("b", 0),
                        "b initial; b/c initial; b/c ready; b ready; b/c running; b running"})},
                  children("", "b running #2")}},
      {.name = "SignificantSupervisorThatGaveUpShutsDownTheOneAbove",
       .sentence = "A significant transient supervisor that gave up has shut down, and shuts the "
                   "one above it down.",
       .compared = "same",
       .tree = ends_with_any(
           one_for_one({worker("a"), nested("b", ends_with_any(one_for_one({worker("c")}, 0)))
                                         .transient()
                                         .make_significant()})),
       .script = {{boot(), seq({"root initial", born("a"),
                                "b initial; b/c initial; b/c ready; b ready; root ready; "
                                "b/c running; b running; root running"})},
                  {exits("b/c", 1), seq({crashed("b/c"), "spent b; b terminated",
                                         "auto shutdown root", stopped("a"), "root terminated"})},
                  end_is("auto shutdown")}},
      {.name = "LastSignificantChildThatItsGroupStopsShutsNothingDown",
       .sentence = "A temporary significant child that a restart of its group stops is forgotten "
                   "without a shutdown, though it was the last (all_significant).",
       .compared = "same",
       .tree =
           ends_with_all(one_for_all({worker("a"), worker("b").temporary().make_significant()}, 5)),
       .script = {{boot(), booted({"a", "b"})},
                  {exits("a", 1), seq({crashed("a"), left("a", 4), stopped("b"), born("a")})},
                  children("", "a running #2"),
                  end_is("lives")}},
  };
}

}  // namespace

std::vector<Behaviour> significant_rows() {
  std::vector<Behaviour> all;
  const std::pair<AutoShutdown, std::string> kinds[] = {{AutoShutdown::kNever, "Never"},
                                                        {AutoShutdown::kAnySignificant, "Any"},
                                                        {AutoShutdown::kAllSignificant, "All"}};
  for (const auto how : {RestartType::kTemporary, RestartType::kTransient}) {
    for (const auto& [auto_shutdown, word] : kinds) {
      all.push_back(nonsignificant_row(auto_shutdown, word, how));
    }
  }
  for (auto& row : temporary_rows()) all.push_back(std::move(row));
  for (auto& row : transient_rows()) all.push_back(std::move(row));
  for (const auto& [strategy, word] :
       {std::pair{Strategy::kOneForOne, "OneForOne"}, std::pair{Strategy::kOneForAll, "OneForAll"},
        std::pair{Strategy::kRestForOne, "RestForOne"}}) {
    all.push_back(bystander_row(strategy, word, AutoShutdown::kAnySignificant));
    all.push_back(bystander_row(strategy, word, AutoShutdown::kAllSignificant));
  }
  for (auto& row : escalation_rows()) all.push_back(std::move(row));
  return all;
}

}  // namespace crashworthy::rows

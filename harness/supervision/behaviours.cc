#include "harness/supervision/behaviours.h"

#include <iterator>
#include <utility>

#include "harness/supervision/behaviour_rows.h"

namespace crashworthy {
namespace {

std::string row_text(const Behaviour& row) {
  std::string cases;
  for (const std::string& name : row.otp_cases) cases += (cases.empty() ? "" : ", ") + name;
  std::string compared = row.compared;
  if (!row.simulated_only.empty()) compared += " (simulated time only: " + row.simulated_only + ")";
  return "| " + row.sentence + " | TreeBehaviour." + row.name + " | " +
         (cases.empty() ? "-" : cases) + " | " + compared + " |\n";
}

}  // namespace

const std::vector<Behaviour>& behaviours() {
  static const std::vector<Behaviour> kRows = [] {
    std::vector<Behaviour> all;
    for (const auto group :
         {rows::start_rows, rows::stop_rows, rows::restart_rows, rows::group_rows, rows::order_rows,
          rows::restarting_rows, rows::dynamic_rows, rows::significant_rows, rows::readiness_rows,
          rows::watch_rows, rows::backoff_rows, rows::suspend_rows, rows::ending_rows,
          rows::cause_rows}) {
      auto rows = group();
      std::move(rows.begin(), rows.end(), std::back_inserter(all));
    }
    return all;
  }();
  return kRows;
}

const std::vector<UnmeaningCase>& unmeaning_cases() {
  static const std::vector<UnmeaningCase> kCases = {
      {"simple_one_for_one_corruption", "What a process of the Erlang machine keeps on its heap."},
      {"external_start_no_progress_log", "The level at which OTP logs a start."},
      {"significant_upgrade_never_any",
       "Code change: a specification stays as it is while its tree lives."},
      {"significant_upgrade_any_never", "Code change."},
      {"significant_upgrade_never_all", "Code change."},
      {"significant_upgrade_all_never", "Code change."},
      {"significant_upgrade_any_all", "Code change."},
      {"significant_upgrade_all_any", "Code change."},
      {"significant_upgrade_child", "Code change."},
      {"get_callback_module", "There are no callback modules: a specification is data."},
      {"do_not_save_start_parameters_for_temporary_children",
       "What a supervisor of the Erlang machine keeps in its state."},
      {"code_change", "Code change."},
      {"code_change_map", "Code change."},
      {"code_change_simple", "Code change."},
      {"code_change_simple_map", "Code change."},
      {"format_log_1", "The layout of OTP's log."},
      {"format_log_2", "The layout of OTP's log."},
      {"already_started_outside_supervisor",
       "Names of processes that are registered with the Erlang machine."},
  };
  return kCases;
}

const std::vector<std::string>& otp_suite_cases() {
  static const std::vector<std::string> kCases = {
      "sup_start_normal",
      "sup_start_ignore_init",
      "sup_start_ignore_child",
      "sup_start_ignore_temporary_child",
      "sup_start_ignore_temporary_child_start_child",
      "sup_start_ignore_temporary_child_start_child_simple",
      "sup_start_ignore_permanent_child_start_child_simple",
      "sup_start_error_return",
      "sup_start_fail",
      "sup_start_child_returns_error",
      "sup_start_restart_child_returns_error",
      "sup_start_child_returns_error_simple",
      "sup_start_map",
      "sup_start_map_simple",
      "sup_start_map_faulty_specs",
      "sup_stop_infinity",
      "sup_stop_timeout",
      "sup_stop_timeout_dynamic",
      "sup_stop_brutal_kill",
      "sup_stop_brutal_kill_dynamic",
      "sup_stop_race",
      "sup_stop_non_shutdown_exit_dynamic",
      "child_adm",
      "child_adm_simple",
      "extra_return",
      "child_specs",
      "child_specs_map",
      "sup_flags",
      "multiple_restarts",
      "one_for_one",
      "one_for_one_escalation",
      "one_for_all",
      "one_for_all_escalation",
      "one_for_all_other_child_fails_restart",
      "simple_one_for_one",
      "simple_one_for_one_shutdown",
      "simple_one_for_one_extra",
      "simple_one_for_one_escalation",
      "simple_one_for_one_corruption",
      "simple_one_for_one_restart_ignore",
      "rest_for_one",
      "rest_for_one_escalation",
      "rest_for_one_other_child_fails_restart",
      "external_start_no_progress_log",
      "permanent_normal",
      "transient_normal",
      "temporary_normal",
      "permanent_shutdown",
      "transient_shutdown",
      "temporary_shutdown",
      "faulty_application_shutdown",
      "permanent_abnormal",
      "transient_abnormal",
      "temporary_abnormal",
      "child_unlink",
      "tree",
      "nonsignificant_temporary",
      "nonsignificant_transient",
      "significant_temporary",
      "significant_transient",
      "significant_simple",
      "significant_bystander",
      "significant_escalation",
      "significant_upgrade_never_any",
      "significant_upgrade_any_never",
      "significant_upgrade_never_all",
      "significant_upgrade_all_never",
      "significant_upgrade_any_all",
      "significant_upgrade_all_any",
      "significant_upgrade_child",
      "count_children",
      "count_children_supervisor",
      "count_restarting_children",
      "get_callback_module",
      "do_not_save_start_parameters_for_temporary_children",
      "do_not_save_child_specs_for_temporary_children",
      "simple_one_for_one_scale_many_temporary_children",
      "temporary_bystander",
      "simple_global_supervisor",
      "hanging_restart_loop",
      "hanging_restart_loop_rest_for_one",
      "hanging_restart_loop_simple",
      "code_change",
      "code_change_map",
      "code_change_simple",
      "code_change_simple_map",
      "order_of_children",
      "scale_start_stop_many_children",
      "format_log_1",
      "format_log_2",
      "already_started_outside_supervisor",
      "which_children",
      "which_children_simple_one_for_one",
  };
  return kCases;
}

std::string behaviours_markdown() {
  std::string text =
      "# What a supervision tree does\n\n"
      "Made from the table of behaviours in `harness/supervision`; run the test "
      "TreeBehaviours.DocumentIsMadeFromTheRows\nwith CRASHWORTHY_UPDATE_DOCS=1 to make it anew. "
      "Each row is a test, which compares the whole sequence of events\nand answers. The cases "
      "are those of supervisor_SUITE of Erlang/OTP's stdlib.\n\n"
      "| behaviour | test | cases of OTP | compared with OTP |\n|---|---|---|---|\n";
  for (const Behaviour& row : behaviours()) text += row_text(row);
  text +=
      "\n## Cases without a meaning here\n\n"
      "These cases of the suite are about the Erlang machine itself.\n\n"
      "| case of OTP | why it has no meaning for processes |\n|---|---|\n";
  for (const UnmeaningCase& one : unmeaning_cases()) {
    text += "| " + one.name + " | " + one.why + " |\n";
  }
  return text;
}

}  // namespace crashworthy

#include "results/report/sections.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "results/report/curves.h"
#include "results/report/format.h"
#include "results/report/plots.h"
#include "results/report/text.h"

namespace crashworthy::report {
namespace {

struct Mark {
  const char* cls;
  const char* text;
};

Mark mark_of(const ExpectationResult& line) {
  if (line.verdict == "true") return {"yes", "✓ holds"};
  if (line.verdict == "false") return {"no", "✗ broken"};
  return {"maybe", "? undecided"};
}

std::string gate_row(const Summary& summary, const GateLine& line) {
  std::string now = "not measured in this run";
  for (const CellSummary& cell : summary.cells) {
    const std::string prefix = cell.arm + "." + cell.fault + ".";
    if (!line.measure.starts_with(prefix)) continue;
    const std::string name = line.measure.substr(prefix.size());
    const MeasureSummary* found = find_measure(&cell, name);
    if (found == nullptr || !found->estimate) continue;
    const ShownValue shown = show_measure(name, *found, kTypographic);
    now = shown.value + " " + shown.interval + " in this run";
  }
  return fmt::format(
      "<tr><td class=\"mark\">gate</td><td><code>{}</code> within {} of a baseline</td>"
      "<td>{}; <code>crashworthy compare</code> judges it</td></tr>\n",
      html(line.measure), html(line.margin_text), html(now));
}

// Reasons that values are missing, each told once under the table.
class Footnotes {
 public:
  std::string mark(const std::string& reason) {
    if (reason.empty()) return {};
    auto found = std::find(reasons_.begin(), reasons_.end(), reason);
    const auto index = found - reasons_.begin() + 1;
    if (found == reasons_.end()) reasons_.push_back(reason);
    return fmt::format("<sup>{}</sup>", index);
  }
  std::string list() const {
    std::string out;
    for (std::size_t i = 0; i < reasons_.size(); ++i) {
      out += fmt::format("{}<sup>{}</sup> {}", i == 0 ? "" : " &nbsp; ", i + 1, html(reasons_[i]));
    }
    return out.empty() ? out : "<p class=\"note\">" + out + "</p>\n";
  }

 private:
  std::vector<std::string> reasons_;
};

std::string measure_text(const std::string& name, const MeasureSummary* found, Footnotes& notes) {
  if (found == nullptr) return "<span class=\"zero\">–</span>";
  if (!found->estimate) {
    return (found->censored ? "<b>never</b>" : "<span class=\"zero\">–</span>") +
           notes.mark(found->reason);
  }
  const ShownValue shown = show_measure(name, *found, kTypographic);
  std::string text =
      fmt::format("<b>{}</b> <small>{}</small>", html(shown.value), html(shown.interval));
  if (!found->low || !found->high) text += notes.mark(found->reason);
  return text;
}

std::string recovered_text(const CellSummary& cell) {
  const ShownShare share = show_recovered(cell, kTypographic);
  const int trials = trials_that_count(cell);
  const char* cls = trials == 0 ? "maybe" : cell.recovered == trials ? "yes" : "no";
  return fmt::format("<b class=\"{}\">{}</b> <small>{}</small>", cls, html(share.count),
                     html(share.bound));
}

std::string injections_text(const CellSummary& cell) {
  std::string text;
  for (const auto& [outcome, trials] : cell.injections) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", trials, html(words(outcome)));
  }
  return text;
}

// " (2 torn, 1 empty)", of those that are corrupt; nothing when none is either.
std::string corrupt_parts(const ItemCounts& items) {
  if (items.torn == 0 && items.empty == 0) return {};
  std::string text;
  if (items.torn != 0) text += count(items.torn) + " torn";
  if (items.empty != 0) text += (text.empty() ? "" : ", ") + count(items.empty) + " empty";
  return " (" + text + ")";
}

// "all 2,500 ok", or what else became of them.
std::string items_text(const CellSummary& cell) {
  const ItemCounts& items = cell.items;
  if (items.offered == 0) return "<span class=\"zero\">none offered</span>";
  std::string text;
  for (std::size_t i = 1; i < kItemClassCount; ++i) {
    if (items.classes[i] == 0) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count(items.classes[i]),
                        item_class_name(static_cast<ItemClass>(i)));
    if (static_cast<ItemClass>(i) == ItemClass::kCorrupt) text += corrupt_parts(items);
  }
  if (text.empty()) text = "all " + count(items.offered) + " ok";
  if (items.duplicated != 0) text += ", " + count(items.duplicated) + " duplicated";
  if (items.misplaced != 0) text += ", " + count(items.misplaced) + " misplaced";
  if (items.extra != 0) text += ", " + count(items.extra) + " extra";
  if (items.stale_temporary != 0) text += ", " + count(items.stale_temporary) + " stale temporary";
  return text;
}

// The rows of one fault in the table of arms x faults.
std::string fault_rows(const Summary& summary, const std::string& fault, Footnotes& notes) {
  std::vector<const CellSummary*> cells;
  for (const std::string& arm : arms_of(summary)) cells.push_back(summary.cell(arm, fault));
  const auto row = [&](const std::string& label, const auto& show) {
    std::string out = "<tr><th>" + label + "</th>";
    for (const CellSummary* cell : cells) {
      out += "<td>" + (cell == nullptr ? std::string("not run") : show(*cell)) + "</td>";
    }
    return out + "</tr>\n";
  };
  std::string out = fmt::format("<tbody><tr class=\"group\"><th colspan=\"{}\">{}</th></tr>\n",
                                cells.size() + 1, fault == "none" ? "no fault" : html(fault));
  const bool proved = std::all_of(cells.begin(), cells.end(), [](const CellSummary* cell) {
    return cell == nullptr || cell->confirmed == cell->trials;
  });
  if (fault != "none" && !proved) out += row("injections", injections_text);
  out += row("recovered", recovered_text) + row("items", items_text);
  const auto any_cell = [&](const auto& has) {
    return std::any_of(cells.begin(), cells.end(),
                       [&](const CellSummary* cell) { return cell != nullptr && has(*cell); });
  };
  if (any_cell([](const CellSummary& cell) { return !cell.stalls.empty(); }))
    out += row("did not end", [](const CellSummary& cell) { return html(stalls_text(cell)); });
  if (any_cell([](const CellSummary& cell) { return cell.rerun > 0; }))
    out += row("whole when run again", rerun_text);
  if (any_cell([](const CellSummary& cell) { return cell.late_publications > 0; }))
    out += row("outputs of orphans",
               [](const CellSummary& cell) { return count(cell.late_publications); });
  const std::vector<std::string> names =
      fault == "none"
          ? std::vector<std::string>{"throughput", "makespan", "protection_cost"}
          : std::vector<std::string>{"first_good",        "first_effect", "next_good", "outage_gap",
                                     "equivalent_outage", "throughput",   "makespan"};
  for (const std::string& name : names) {
    const bool any = std::any_of(cells.begin(), cells.end(), [&](const CellSummary* cell) {
      const MeasureSummary* found = find_measure(cell, name);
      return found != nullptr && (found->estimate || found->censored);
    });
    if (!any) continue;
    out += row(html(measure_label(name)), [&](const CellSummary& cell) {
      return measure_text(name, find_measure(&cell, name), notes);
    });
  }
  return out + "</tbody>\n";
}

std::string lost_text(const CellSummary* cell, const ArmCurves& arm) {
  if (arm.trials == 0) return {};
  if (arm.level > 0 && !arm.back) {
    const std::int64_t missing =
        cell == nullptr ? 0
                        : cell->items.of(ItemClass::kLost) + cell->items.of(ItemClass::kUnfinished);
    return fmt::format("<b>Does not return to its level.</b> {} of {} items without an outcome.",
                       count(missing), cell == nullptr ? "0" : count(cell->items.offered));
  }
  const MeasureSummary* outage = find_measure(cell, "equivalent_outage");
  if (outage == nullptr || !outage->estimate) return {};
  const ShownValue shown = show_measure("equivalent_outage", *outage, kTypographic);
  return fmt::format("Equivalent outage <b>{}</b> {}", html(shown.value), html(shown.interval));
}

}  // namespace

std::string verdict_section(const Summary& summary) {
  const char* verdict = run_verdict_name(summary.verdict);
  static constexpr const char* kSigns[] = {"✓", "✗", "?", "!"};
  std::string out =
      fmt::format("<section class=\"verdict {0}\">\n<div class=\"word\">{1} {2}</div>\n", verdict,
                  kSigns[static_cast<std::size_t>(summary.verdict)], upper(verdict));
  if (!summary.reasons.empty()) {
    out += "<ul>\n";
    for (const std::string& reason : summary.reasons) out += "<li>" + html(reason) + "</li>\n";
    out += "</ul>\n";
  }
  if (!summary.expectations.empty() || !summary.gate.empty()) {
    out += "<table class=\"checks\">\n";
    for (const ExpectationResult& line : summary.expectations) {
      const Mark mark = mark_of(line);
      out +=
          fmt::format("<tr><td class=\"mark {}\">{}</td><td><code>{}</code></td><td>{}</td></tr>\n",
                      mark.cls, mark.text, html(line.text), html(line.detail));
    }
    for (const GateLine& line : summary.gate) out += gate_row(summary, line);
    out += "</table>\n";
  }
  out += "</section>\n";
  if (!summary.sentence.empty()) out += "<p class=\"lead\">" + html(summary.sentence) + "</p>\n";
  for (const SkippedArm& skipped : summary.skipped_arms) {
    out += "<p class=\"warn\"><b>Arm skipped</b> " + html(skipped.arm) + ": " +
           html(skipped.reason) + "</p>\n";
  }
  for (const std::string& warning : summary.warnings) {
    out += "<p class=\"warn\"><b>Warning</b> " + html(warning) + "</p>\n";
  }
  return out;
}

std::string comparison_section(const Summary& summary) {
  if (summary.cells.empty()) return "<p class=\"note\">No cell of this run was completed.</p>\n";
  std::string out =
      "<h2>Arms and faults</h2>\n<div class=\"scroll\"><table "
      "class=\"data\">\n<thead><tr><th></th>";
  const std::vector<std::string> arms = arms_of(summary);
  for (std::size_t i = 0; i < arms.size(); ++i) {
    out += fmt::format("<th><span class=\"key {}\"><span>{}</span></span></th>", arm_class(i),
                       html(arms[i]));
  }
  out += "</tr></thead>\n";
  Footnotes notes;
  for (const std::string& fault : faults_of(summary)) out += fault_rows(summary, fault, notes);
  out +=
      "</table></div>\n<p class=\"note\">Medians over the trials with 95% intervals; recovered "
      "k/n with Wilson’s 95% bounds. “Never” stays in every statistic as later than anything "
      "seen.</p>\n";
  return out + notes.list();
}

std::string rate_section(const Run& run) {
  const std::vector<FaultCurves> faults = align_at_fault(run.summary, run.trials);
  if (faults.empty()) return {};
  std::string out =
      "<h2>Through the fault</h2>\n<p class=\"note\">Good items per second, all trials aligned at "
      "the moment the fault took effect (vertical line). Thin: each trial. Bold: their median. "
      "Dashed: the same arm without a fault. Hatched: the lost area, until the median is back at "
      "that level and holds it; else to the end, or to where the arm would have been done without "
      "a fault.</p>\n";
  double narrowest = 0;
  double widest = 0;
  bool all_drawn = true;
  for (const FaultCurves& fault : faults) {
    out += "<h3>" + html(fault.fault) + "</h3>\n<div class=\"panels\">\n";
    for (std::size_t i = 0; i < fault.arms.size(); ++i) {
      const ArmCurves& arm = fault.arms[i];
      const CellSummary* cell = run.summary.cell(arm.arm, fault.fault);
      out += "<figure>" + rate_panel(fault, i) + "<figcaption>" + lost_text(cell, arm) +
             "</figcaption></figure>\n";
      if (arm.trials == 0) continue;
      narrowest = narrowest == 0 ? arm.half_window_s : std::min(narrowest, arm.half_window_s);
      widest = std::max(widest, arm.half_window_s);
      all_drawn = all_drawn && arm.shown.size() == arm.trials;
    }
    out += "</div>\n";
  }
  std::string window = "±" + show_value(widest * 1e9, "ns", kTypographic);
  if (narrowest < 0.99 * widest) {
    window = "±" + show_value(narrowest * 1e9, "ns", kTypographic) + " to " + window;
  }
  out += fmt::format(
      "<p class=\"note\">Window: triangular, {} ({:g} items either way at the level, or an eighth "
      "of "
      "the axis if that is less); it never reaches across the fault. What is shorter than the "
      "window "
      "looks shallower here than it was; the outages in numbers are exact.",
      html(window), kWindowItems);
  if (!all_drawn) {
    out += fmt::format(" {} trials a panel are drawn thin, evenly chosen.", kShownTrials);
  }
  return out + "</p>\n";
}

std::string decomposition_section(const Summary& summary) {
  const std::string plot = decomposition_plot(summary);
  if (plot.empty()) return {};
  return "<h2>Where the recovery goes</h2>\n<p class=\"note\">From the fault to the first good "
         "output of the replacement: detect (the supervisor knows), initiate (a replacement is "
         "begun), repair (it accepts work), process (it finishes a good item). Medians of each "
         "part; they need not add up to the median of the whole, which stands beside the bar. Arms "
         "that never recover have no bar.</p>\n<figure class=\"scroll\">" +
         plot + "</figure>\n";
}

std::string time_section(const Summary& summary) {
  std::string panels;
  for (const std::string& fault : faults_of(summary)) {
    const std::string plot = recovered_by_time_plot(summary, fault);
    if (!plot.empty()) panels += "<figure>" + plot + "</figure>\n";
  }
  if (panels.empty()) return {};
  return "<h2>Back by when</h2>\n<p class=\"note\">Share of trials in which a replacement had "
         "delivered a good item by a time after the fault. The axis is logarithmic; trials that "
         "never got there count in the denominator.</p>\n<div class=\"panels\">\n" +
         panels + "</div>\n";
}

std::string price_section(const Summary& summary) {
  const std::string plot = price_plot(summary);
  if (plot.empty()) return {};
  const std::string reference = reference_arm(summary);
  return "<h2>The price</h2>\n<p class=\"note\">How much longer the same work takes without any "
         "fault, against " +
         (reference.empty() ? std::string("the baseline arm") : "<b>" + html(reference) + "</b>") +
         ": ratio of makespans, paired by block, with its 95% interval. An interval that crosses "
         "zero shows no difference, up to its ends.</p>\n<figure class=\"scroll\">" +
         plot + "</figure>\n";
}

}  // namespace crashworthy::report

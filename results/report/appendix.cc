// The record: ledger, method, how to repeat it, every trial.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "results/report/format.h"
#include "results/report/sections.h"
#include "results/report/text.h"

namespace crashworthy::report {
namespace {

// A count as a table cell; zeros step back, and what should be zero steps forward.
std::string count_cell(std::int64_t value, bool bad) {
  const char* cls = value == 0 ? "n zero" : bad ? "n hit" : "n";
  return fmt::format("<td class=\"{}\">{}</td>", cls, count(value));
}

std::string count_cells(const ItemCounts& items) {
  std::string out;
  for (std::size_t i = 0; i < kItemClassCount; ++i) out += count_cell(items.classes[i], i != 0);
  return out;
}

std::string beside_cells(const ItemCounts& items) {
  return count_cell(items.torn, true) + count_cell(items.empty, true) +
         count_cell(items.duplicated, true) + count_cell(items.misplaced, true) +
         count_cell(items.extra, true) + count_cell(items.stale_temporary, true) +
         count_cell(items.redone, false);
}

constexpr const char* kClassHeads =
    "<th class=\"n\">ok</th><th class=\"n\">corrupt</th><th class=\"n\">failed</th>"
    "<th class=\"n\">lost</th><th class=\"n\">unfinished</th>";
constexpr const char* kBesideHeads =
    "<th class=\"n\">torn</th><th class=\"n\">empty</th>"
    "<th class=\"n\">duplicated</th><th class=\"n\">misplaced</th><th class=\"n\">extra</th>"
    "<th class=\"n\">stale temporary</th><th class=\"n\">redone</th>";

std::string injection_text(const TrialResult& trial) {
  std::string text =
      trial.fault == "none" ? "–" : html(words(injection_outcome_name(trial.injection)));
  if (!trial.injection_reason.empty()) text += ": " + html(trial.injection_reason);
  return text;
}

std::string state_text(const TrialResult& trial) {
  if (trial.harness_error) return "<b class=\"maybe\">harness error</b>";
  if (!trial.complete) return "<b class=\"maybe\">cut off</b>";
  return trial.recovered ? "<span class=\"yes\">✓ yes</span>" : "<b class=\"no\">✗ no</b>";
}

std::string makespan_text(const TrialResult& trial) {
  const auto found = trial.measures.find("makespan");
  if (found == trial.measures.end()) return "–";
  if (found->second.value) return html(show_value(*found->second.value, "ns", kTypographic));
  return found->second.censored ? "never" : "–";
}

// Without the run's own directory before it.
std::string short_directory(const std::string& directory, const std::string& run) {
  const bool inside = !run.empty() && directory.starts_with(run + "/");
  return inside ? directory.substr(run.size() + 1) : directory;
}

std::string trial_row(const TrialResult& trial, const std::string& run) {
  return fmt::format(
      "<tr><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td>"
      "<td class=\"far\">{}</td><td>{}</td><td class=\"n\">{}</td>{}{}"
      "<td class=\"far\"><code>{}</code></td></tr>\n",
      trial.number, trial.block, html(trial.arm), html(trial.fault), injection_text(trial),
      state_text(trial), makespan_text(trial), count_cells(trial.items), beside_cells(trial.items),
      html(short_directory(trial.directory, run)));
}

using Definition = std::pair<const char*, const char*>;
constexpr std::array<Definition, 19> kDefinitions{{
    {"trial, block",
     "A trial is one run of one arm under one fault. A block runs every cell once, in random order "
     "with one seed; comparisons are paired by block."},
    {"confirmed",
     "The fault was proved to have taken effect. Only confirmed injections count in "
     "recovery figures."},
    {"recovered",
     "Every item that the fault-free golden run delivered was delivered in the end, with the right "
     "content. The bound is Wilson’s 95% interval of the share."},
    {"items",
     "offered = ok + corrupt + failed + lost + unfinished, exactly. Lost: no outcome "
     "although the arm ran to its end. Unfinished: no outcome because it ended early."},
    {"duplicated, misplaced",
     "Extra outputs with an item’s content; content under another item’s "
     "name. Beside the sum."},
    {"torn, empty", "Of the corrupt ones: the output stops before its end; it has no bytes."},
    {"extra, stale temporary",
     "Outputs that belong to no item; files left behind that look unfinished by their names. "
     "Beside the sum."},
    {"redone", "Units of work executed again, beyond the first execution of each."},
    {"detect, initiate, repair, process",
     "Fault took effect → supervisor knows → replacement begun → replacement accepts work → its "
     "first good item. Stamps from inside the arm; absent where it gives none."},
    {"first good work",
     "The sum of the four: from the fault to the first good item of the "
     "replacement. Where the arm tells nothing: to the first good output by a process that was "
     "born after the fault, seen from outside."},
    {"first effect",
     "From the fault to what is seen of it from outside: its victim or the main process ends "
     "badly, "
     "outputs stay away for twice the golden run's longest gap, or a wrong one comes."},
    {"next good output", "From the fault to the first good output after that effect."},
    {"did not end",
     "Hung: neither output nor processor time; stopped: the same, and a process is stopped; slow: "
     "it worked on when its time was up."},
    {"outage gap",
     "Longest time without a good output after the fault, less the median gap before "
     "it. Seen from outside."},
    {"equivalent outage", "Makespan less that of the same arm without a fault in the same block."},
    {"throughput", "Good items over the makespan."},
    {"never",
     "The trial ended before it happened. Such a value ranks behind every measured one; it "
     "is not dropped."},
    {"intervals",
     "Medians: exact order-statistic intervals of at least 95%. Ratios: "
     "Hodges–Lehmann over paired log ratios, with the interval that inverts "
     "Wilcoxon’s test."},
    {"clock error",
     "Median error of the recovery clock against a delay of known length that was "
     "planted in this run."},
}};

}  // namespace

std::string ledger_section(const Summary& summary) {
  if (summary.cells.empty()) return {};
  std::string out = fmt::format(
      "<h2>Ledger of items</h2>\n<p class=\"note\">What became of every item that was offered, "
      "over "
      "all trials of a cell. Delivery is judged from outputs read again, not from the subject’s "
      "claim.</p>\n<div class=\"scroll\"><table class=\"data\">\n<thead><tr><th>fault</th>"
      "<th>arm</th><th class=\"n\">trials</th><th class=\"n\">offered</th>{}<th "
      "class=\"n\">sum</th>"
      "{}</tr></thead>\n<tbody>\n",
      kClassHeads, kBesideHeads);
  for (const std::string& fault : faults_of(summary)) {
    std::string name = fault == "none" ? "no fault" : html(fault);
    for (const CellSummary& cell : summary.cells) {
      if (cell.fault != fault) continue;
      out += fmt::format(
          "<tr{}><td><b>{}</b></td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>{}"
          "<td class=\"n\">{}</td>{}</tr>\n",
          name.empty() ? "" : " class=\"first\"", name, html(cell.arm), cell.trials,
          count(cell.items.offered), count_cells(cell.items),
          cell.items.exact() ? "<span class=\"yes\">✓ exact</span>"
                             : "<b class=\"no\">✗ differs</b>",
          beside_cells(cell.items));
      name.clear();
    }
  }
  return out + "</tbody></table></div>\n";
}

std::string method_section(const Run& run) {
  std::string out = "<h2>Method</h2>\n<dl class=\"method\">\n";
  for (const auto& [term, meaning] : kDefinitions) {
    out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", term, meaning);
  }
  const std::string& fingerprint = run.summary.fingerprint;
  out += fmt::format(
      "<dt>machine</dt><dd>fingerprint <code>{}</code>; results of another "
      "fingerprint are not comparable</dd>\n",
      fingerprint.empty() ? "unknown" : html(fingerprint));
  if (!run.summary.plan_hash.empty()) {
    out += fmt::format(
        "<dt>plan</dt><dd><code>{}</code>: runs with the same value did the same "
        "cells with the same seeds</dd>\n",
        html(run.summary.plan_hash));
  }
  return out + "</dl>\n";
}

std::string repeat_section(const Run& run) {
  const std::string directory = shell_word(run.directory.string());
  const std::string experiment = shell_word((run.directory / "experiment.json").string());
  return fmt::format(
      "<h2>Repeat it</h2>\n<p class=\"note\">Compute this page again from the histories, or run "
      "the "
      "experiment again with the same chance (seed {}).</p>\n<pre>crashworthy report {}\n"
      "crashworthy run --seed {} {}</pre>\n",
      run.summary.seed, html(directory), run.summary.seed, html(experiment));
}

std::string trials_section(const Run& run) {
  if (run.trials.empty()) return {};
  std::string out = fmt::format(
      "<h2>Every trial</h2>\n<div class=\"scroll\"><table class=\"data trials\">\n<thead><tr>"
      "<th class=\"n\">no.</th><th class=\"n\">block</th><th>arm</th><th>fault</th>"
      "<th>injection</th><th>recovered</th><th class=\"n\">makespan</th>{}{}<th>directory</th></tr>"
      "</thead>\n<tbody>\n",
      kClassHeads, kBesideHeads);
  for (const TrialResult& trial : run.trials) out += trial_row(trial, run.directory.string());
  return out + "</tbody></table></div>\n";
}

}  // namespace crashworthy::report

#include "results/report/terminal.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>

#include "results/report/format.h"
#include "results/report/table.h"
#include "results/report/text.h"

namespace crashworthy {
namespace {

using namespace report;  // NOLINT(google-build-using-namespace): its own room

constexpr std::size_t kNameWidth = 24;  // Longer names of arms are cut in the tables.

class TerminalReport {
 public:
  TerminalReport(const Summary& summary, const TerminalStyle& style)
      : summary_(summary),
        style_(style),
        paint_(style.colour),
        width_(static_cast<std::size_t>(std::max(style.width, 40))) {}

  std::string run() {
    head();
    for (const std::string& fault : faults_of(summary_)) block(fault);
    legend();
    expectations();
    gate();
    closing();
    return std::move(out_);
  }

 private:
  using Show = std::function<std::string(const CellSummary&)>;

  void head() {
    out_ += paint_.bold(printable(summary_.experiment)) + "   run " + printable(summary_.run);
    if (summary_.disarmed) out_ += "   disarmed: no fault was injected";
    out_ += "\n";
    std::string line =
        fmt::format("host {}, seed {}, {} blocks x {} cells",
                    summary_.fingerprint.empty() ? "unknown" : printable(summary_.fingerprint),
                    summary_.seed, summary_.blocks, summary_.cells.size());
    if (summary_.clock_error_ns) {
      line += ", clock error " + show_value(*summary_.clock_error_ns, "ns", kPlain);
    }
    for (const std::string& part : wrap(line, width_)) out_ += part + "\n";
  }

  // One fault: a row a finding, a column an arm.
  void block(const std::string& fault) {
    Table table(fault == "none" ? "no fault" : shorten(fault, kNameWidth));
    std::vector<const CellSummary*> cells;
    for (const std::string& arm : arms_of(summary_)) {
      cells.push_back(summary_.cell(arm, fault));
      table.add_column(shorten(arm, kNameWidth));
    }
    if (fault != "none") injections(cells, table);
    add_row(table, "recovered", cells, [](const CellSummary& cell) {
      const ShownShare share = show_recovered(cell, kPlain);
      return fmt::format("{} ({})", share.count, share.bound);
    });
    items(cells, table);
    stalls(cells, table);
    if (fault == "none") {
      for (const char* name : {"throughput", "makespan", "protection_cost"}) {
        measure(table, name, name, cells);
      }
    } else {
      recovery(cells, table);
    }
    out_ += "\n" + table.print(width_, paint_);
  }

  void add_row(Table& table, const std::string& label, const std::vector<const CellSummary*>& cells,
               const Show& show) const {
    std::vector<std::string> row;
    for (const CellSummary* cell : cells) row.push_back(cell == nullptr ? "not run" : show(*cell));
    table.add_row(label, std::move(row));
  }

  // Only where something else than "confirmed" happened.
  void injections(const std::vector<const CellSummary*>& cells, Table& table) {
    std::map<std::string, int> others;
    for (const CellSummary* cell : cells) {
      if (cell == nullptr) continue;
      for (const auto& [outcome, trials] : cell->injections) {
        if (outcome != "confirmed" && trials > 0) others[outcome] += trials;
      }
    }
    if (others.empty()) return;
    add_row(table, "confirmed", cells, [](const CellSummary& cell) {
      return fmt::format("{} of {}", cell.confirmed, cell.trials);
    });
    for (const auto& [outcome, trials] : others) {
      const std::string& name = outcome;
      add_row(table, "  " + shorten(words(name), kNameWidth), cells, [&](const CellSummary& cell) {
        const auto found = cell.injections.find(name);
        return found == cell.injections.end() ? std::string("0") : std::to_string(found->second);
      });
    }
  }

  void items(const std::vector<const CellSummary*>& cells, Table& table) {
    add_row(table, "items", cells, [](const CellSummary& cell) {
      std::string text;
      for (const std::int64_t n : cell.items.classes) text += (text.empty() ? "" : "/") + count(n);
      return text + (cell.items.exact() ? "" : " of " + count(cell.items.offered) + "!");
    });
    const std::array<std::pair<const char*, std::int64_t ItemCounts::*>, 7> beside{
        {{"  torn", &ItemCounts::torn},
         {"  empty", &ItemCounts::empty},
         {"  duplicated", &ItemCounts::duplicated},
         {"  misplaced", &ItemCounts::misplaced},
         {"  extra", &ItemCounts::extra},
         {"  stale temporary", &ItemCounts::stale_temporary},
         {"  redone", &ItemCounts::redone}}};
    for (const auto& [label, field] : beside) {
      const auto counted = [field = field](const CellSummary* cell) {
        return cell != nullptr && cell->items.*field != 0;
      };
      if (std::none_of(cells.begin(), cells.end(), counted)) continue;
      add_row(table, label, cells,
              [field = field](const CellSummary& cell) { return count(cell.items.*field); });
    }
  }

  // Where a trial did not end in time, and why; and what came when its main process was dead.
  void stalls(const std::vector<const CellSummary*>& cells, Table& table) const {
    const auto any = [&](const auto& has) {
      return std::any_of(cells.begin(), cells.end(),
                         [&](const CellSummary* cell) { return cell != nullptr && has(*cell); });
    };
    if (any([](const CellSummary& cell) { return !cell.stalls.empty(); }))
      add_row(table, "did not end", cells,
              [](const CellSummary& cell) { return stalls_text(cell); });
    if (any([](const CellSummary& cell) { return cell.rerun > 0; }))
      add_row(table, "whole when run again", cells, rerun_text);
    if (any([](const CellSummary& cell) { return cell.late_publications > 0; })) {
      add_row(table, "outputs of orphans", cells,
              [](const CellSummary& cell) { return count(cell.late_publications); });
    }
  }

  void recovery(const std::vector<const CellSummary*>& cells, Table& table) {
    measure(table, "first good work", "first_good", cells);
    const std::array<std::pair<const char*, const char*>, 4> parts{{{"  = detect", "detect"},
                                                                    {"  + initiate", "initiate"},
                                                                    {"  + repair", "repair"},
                                                                    {"  + process", "process"}}};
    for (const auto& [label, name] : parts) {
      const bool any = std::any_of(cells.begin(), cells.end(), [name = name](const auto* cell) {
        const MeasureSummary* found = find_measure(cell, name);
        return found != nullptr && found->estimate;
      });
      if (!any) continue;
      add_row(table, label, cells, [name = name](const CellSummary& cell) {
        const MeasureSummary* found = find_measure(&cell, name);
        return found != nullptr && found->estimate
                   ? show_value(*found->estimate, found->unit, kPlain)
                   : std::string(kPlain.none);
      });
    }
    measure(table, "first effect", "first_effect", cells);
    measure(table, "next good output", "next_good", cells);
    measure(table, "outage gap", "outage_gap", cells);
    measure(table, "equivalent outage", "equivalent_outage", cells);
    measure(table, "throughput", "throughput", cells);
    measure(table, "makespan", "makespan", cells);
  }

  // A row for the measure `name`, unless no cell has it.
  void measure(Table& table, const std::string& label, const std::string& name,
               const std::vector<const CellSummary*>& cells) {
    const bool any = std::any_of(cells.begin(), cells.end(), [&](const CellSummary* cell) {
      const MeasureSummary* found = find_measure(cell, name);
      return found != nullptr && (found->estimate || found->censored);
    });
    if (!any) return;
    add_row(table, words(label), cells, [&](const CellSummary& cell) {
      const MeasureSummary* found = find_measure(&cell, name);
      return found == nullptr ? std::string(kPlain.none) : measure_text(name, *found);
    });
  }

  std::string measure_text(const std::string& name, const MeasureSummary& found) {
    std::string text = found.censored ? kPlain.infinity : kPlain.none;
    if (found.estimate) {
      const ShownValue shown = show_measure(name, found, kPlain);
      text = shown.value + (shown.interval.empty() ? "" : " " + shown.interval);
      if (name == "first_good" && found.outside > 0)
        text += " " + footnote("seen from outside: by a process born after the fault");
      if (found.low && found.high) return text;
    }
    return found.reason.empty() ? text : text + " " + footnote(found.reason);
  }

  // "(a)" for the first reason, the same mark again for the same reason.
  std::string footnote(const std::string& reason) {
    auto found = std::find(reasons_.begin(), reasons_.end(), reason);
    const auto index = static_cast<std::size_t>(found - reasons_.begin());
    if (found == reasons_.end()) reasons_.push_back(reason);
    return footnote_mark(index);
  }

  static std::string footnote_mark(std::size_t index) {
    constexpr std::size_t kLetters = 26;
    const char letter = static_cast<char>('a' + static_cast<int>(index % kLetters));
    return index < kLetters ? fmt::format("({})", letter)
                            : fmt::format("({}{})", letter, index / kLetters);
  }

  void legend() {
    out_ += "\n";
    if (!summary_.cells.empty()) {
      paragraph("items", "ok/corrupt/failed/lost/unfinished, over all trials of the cell");
      paragraph("values",
                "medians over the trials [95% interval]; recovered k/n with Wilson's 95% bounds");
    }
    const std::string reference = reference_arm(summary_);
    if (!reference.empty() && arms_of(summary_).size() > 1) {
      paragraph("cost", "makespan without a fault, paired by block, against " +
                            printable(reference) + "; +5% means 5% slower");
    }
    for (std::size_t i = 0; i < reasons_.size(); ++i) {
      paragraph(footnote_mark(i), printable(reasons_[i]));
    }
  }

  void expectations() {
    if (summary_.expectations.empty()) return;
    out_ += "\n";
    for (const ExpectationResult& line : summary_.expectations) {
      const std::string word = line.verdict == "true"    ? "holds"
                               : line.verdict == "false" ? "broken"
                                                         : "undecided";
      const Paint::Colour colour = line.verdict == "true"    ? Paint::kGreen
                                   : line.verdict == "false" ? Paint::kRed
                                                             : Paint::kYellow;
      std::string text = printable(line.text);
      if (!line.detail.empty()) text += "  (" + printable(line.detail) + ")";
      paragraph("Expect", text, pad(word, 11), colour);
    }
  }

  void gate() {
    for (const GateLine& line : summary_.gate) {
      paragraph("Gate", printable(line.measure) + " within " + printable(line.margin_text) +
                            " of a baseline (`crashworthy compare` judges it)");
    }
  }

  void closing() {
    out_ += "\n";
    const Paint::Colour colour = summary_.verdict == RunVerdict::kPass           ? Paint::kGreen
                                 : summary_.verdict == RunVerdict::kInconclusive ? Paint::kYellow
                                                                                 : Paint::kRed;
    std::string reasons;
    for (const std::string& reason : summary_.reasons) {
      reasons += (reasons.empty() ? "" : "; ") + printable(reason);
    }
    paragraph("Verdict", reasons,
              upper(run_verdict_name(summary_.verdict)) + (reasons.empty() ? "" : ": "), colour);
    if (!summary_.sentence.empty()) paragraph("Summary", printable(summary_.sentence));
    for (const SkippedArm& skipped : summary_.skipped_arms) {
      paragraph("Skipped", printable(skipped.arm) + ": " + printable(skipped.reason));
    }
    for (const std::string& warning : summary_.warnings) {
      paragraph("Warning", printable(warning), "", Paint::kYellow);
    }
  }

  void paragraph(const std::string& label, const std::string& text, const std::string& lead = {},
                 Paint::Colour colour = Paint::kNone) {
    out_ += print_paragraph({label, lead, text, colour}, width_, paint_);
  }

  const Summary& summary_;
  const TerminalStyle& style_;
  Paint paint_;
  std::size_t width_;
  std::string out_;
  std::vector<std::string> reasons_;
};

}  // namespace

std::string terminal_report(const Summary& summary, const TerminalStyle& style) {
  return TerminalReport(summary, style).run();
}

std::string quiet_report(const Summary& summary) {
  return fmt::format("{} {}: {} (run {}, seed {})\n", upper(run_verdict_name(summary.verdict)),
                     printable(summary.experiment),
                     summary.sentence.empty() ? "no finding" : printable(summary.sentence),
                     printable(summary.run), summary.seed);
}

}  // namespace crashworthy

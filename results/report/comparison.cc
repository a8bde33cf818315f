#include "results/report/comparison.h"

#include <fmt/format.h>

#include <algorithm>

#include "results/report/format.h"
#include "results/report/table.h"
#include "results/report/text.h"

namespace crashworthy {
namespace {

using namespace report;  // NOLINT(google-build-using-namespace): its own room

constexpr std::size_t kMostItemLines = 20;  // In a pull request.

std::string side(const GateComparison& line, const std::optional<double>& value,
                 const Script& script) {
  if (line.samples == 0) return script.none;
  if (!value) return script.infinity;
  if (line.measure == "protection_cost") return percent(*value - 1, script, true);
  return show_value(*value, line.unit, script);
}

// "+54.0% [+41.0%, +69.0%]".
std::string change(const GateComparison& line, const Script& script) {
  if (!line.ratio) return script.none;
  std::string text = percent(*line.ratio - 1, script, true);
  if (!line.low && !line.high) return text;
  const auto end = [&](const std::optional<double>& value) {
    return value ? percent(*value - 1, script, true) : std::string(script.infinity);
  };
  return text + " [" + end(line.low) + ", " + end(line.high) + "]";
}

std::string verdict_text(const GateComparison& line) {
  const std::string text = comparison_verdict_name(line.verdict);
  return line.verdict == ComparisonVerdict::kFail ? upper(text) : text;
}

// What an inconclusive line would have found, empty when unknown.
std::string detectable(const GateComparison& line) {
  if (!line.minimum_detectable_effect) return {};
  return fmt::format("differences of {} are found 4 times in 5",
                     percent(*line.minimum_detectable_effect, kPlain));
}

std::string margin(const GateComparison& line) {
  return (line.lower_is_better ? "+" : "-") + line.margin_text;
}

std::string pairing(const GateComparison& line) {
  if (line.samples == 0) return "-";
  std::string text = fmt::format("{} {}", line.samples, line.paired ? "pairs" : "unpaired");
  if (line.left_out > 0) text += fmt::format(", {} left out", line.left_out);
  return text;
}

std::string level_note(const Comparison& comparison) {
  return fmt::format(
      "each line at one-sided {:.0f}%, {} line{} not corrected for one another; intervals are 95%",
      kGateLevel * 100, comparison.gate.size(), comparison.gate.size() == 1 ? "" : "s");
}

std::string item_text(const ItemChange& change) {
  std::string text = fmt::format("{}: {} in the contender, {} in the baseline", change.what,
                                 count(change.contender), count(change.baseline));
  if (change.baseline_trials != change.contender_trials) {
    text += fmt::format(" ({} and {} trials)", change.contender_trials, change.baseline_trials);
  }
  return text;
}

Paint::Colour colour_of(ComparisonVerdict verdict) {
  switch (verdict) {
    case ComparisonVerdict::kPass:
      return Paint::kGreen;
    case ComparisonVerdict::kFail:
      return Paint::kRed;
    case ComparisonVerdict::kInconclusive:
      return Paint::kYellow;
  }
  return Paint::kNone;
}

std::string join(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : "; ") + printable(part);
  return out;
}

}  // namespace

std::string terminal_comparison(const Comparison& comparison, const TerminalStyle& style) {
  const Paint paint(style.colour);
  const auto width = static_cast<std::size_t>(std::max(style.width, 40));
  std::string out = paint.bold(printable(comparison.experiment)) + "   baseline " +
                    printable(comparison.baseline_run) + "   contender " +
                    printable(comparison.contender_run) + "\n\n";
  Table table("gate");
  for (const char* head : {"baseline", "contender", "change [95%]", "margin", "verdict"}) {
    table.add_column(head);
  }
  for (const GateComparison& line : comparison.gate) {
    table.add_row(shorten(line.path, 34),
                  {side(line, line.baseline, kPlain), side(line, line.contender, kPlain),
                   change(line, kPlain), printable(margin(line)), verdict_text(line)});
  }
  out += table.print(width, paint) + "\n";
  const auto add = [&](const Paragraph& paragraph) {
    out += print_paragraph(paragraph, width, paint);
  };
  for (const GateComparison& line : comparison.gate) {
    const std::string found = detectable(line);
    add({"Samples", "",
         printable(line.path) + ": " + pairing(line) + (found.empty() ? "" : "; " + found)});
  }
  add({"Level", "", level_note(comparison)});
  for (const ItemChange& item : comparison.items) {
    add({"Items", item.failure ? "WORSE: " : "note: ",
         printable(item.arm + "." + item.fault) + " " + item_text(item),
         item.failure ? Paint::kRed : Paint::kNone});
  }
  if (comparison.items.empty()) {
    add({"Items", "", fmt::format("no count got worse in {} cells", comparison.cells)});
  }
  add({"Verdict",
       upper(comparison_verdict_name(comparison.verdict)) +
           (comparison.reasons.empty() ? "" : ": "),
       join(comparison.reasons), colour_of(comparison.verdict)});
  for (const std::string& warning : comparison.warnings) {
    add({"Warning", "", printable(warning), Paint::kYellow});
  }
  return out;
}

std::string markdown_comparison(const Comparison& comparison) {
  const auto passed = std::count_if(
      comparison.gate.begin(), comparison.gate.end(),
      [](const GateComparison& line) { return line.verdict == ComparisonVerdict::kPass; });
  std::string out = fmt::format(
      "### Crash test {}: {} ({} of {} gate lines pass)\n\n", markdown_code(comparison.experiment),
      upper(comparison_verdict_name(comparison.verdict)), passed, comparison.gate.size());
  out += fmt::format("baseline {}, contender {}\n\n", markdown_code(comparison.baseline_run),
                     markdown_code(comparison.contender_run));
  out += "| gate | baseline | contender | change [95%] | margin | samples | verdict |\n";
  out += "|---|---:|---:|---:|---:|---|---|\n";
  for (const GateComparison& line : comparison.gate) {
    out += fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", markdown_code(line.path),
                       side(line, line.baseline, kTypographic),
                       side(line, line.contender, kTypographic), change(line, kTypographic),
                       markdown_code(margin(line)), pairing(line), verdict_text(line));
  }
  out += "\n";
  if (comparison.items.empty()) {
    out += fmt::format("Items: no count got worse in {} cells.\n", comparison.cells);
  }
  std::size_t shown = 0;
  for (const ItemChange& item : comparison.items) {
    if (++shown > kMostItemLines) {
      out += fmt::format("- and {} more\n", comparison.items.size() - kMostItemLines);
      break;
    }
    out += fmt::format("- {} {} {}\n", item.failure ? "**worse**" : "note:",
                       markdown_code(item.arm + "." + item.fault), item_text(item));
  }
  for (const GateComparison& line : comparison.gate) {
    if (line.verdict != ComparisonVerdict::kInconclusive) continue;
    const std::string found = detectable(line);
    out += fmt::format("- {} inconclusive: {}{}\n", markdown_code(line.path),
                       markdown_code(line.reason), found.empty() ? "" : "; " + found);
  }
  for (const std::string& warning : comparison.warnings) {
    out += "- warning: " + markdown_code(warning) + "\n";
  }
  return out + "\n<sub>" + level_note(comparison) + "</sub>\n";
}

}  // namespace crashworthy

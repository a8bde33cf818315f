// One synthetic run, and the same run with hostile text, checked in the terminal report, the page
// and the JSON together.
//
// To look at the page: CRASHWORTHY_KEEP_REPORT=/tmp/report.html report_test
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <string>

#include "harness/os/file.h"
#include "results/report/format.h"
#include "results/report/html.h"
#include "results/report/synthetic_run.h"
#include "results/report/terminal.h"
#include "results/report/text.h"

namespace crashworthy {
namespace {

using report::synthetic_run;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The line after the header of `block` that begins with `label`.
std::string row_of(const std::string& text, const std::string& block, const std::string& label) {
  bool inside = false;
  for (const std::string& line : lines_of(text)) {
    if (line.rfind(block + " ", 0) == 0) inside = true;
    if (inside && line.rfind(label, 0) == 0) return line;
    if (line.empty()) inside = false;
  }
  return "no such row";
}

// Every element is closed in order, and only the elements that we write occur.
::testing::AssertionResult well_formed(const std::string& page) {
  static const std::regex kTag(
      R"(<(/?)([a-z0-9]+)((?:\s+[a-zA-Z0-9-]+="[^"<>]*"|\s+[a-z]+)*)\s*(/?)>)");
  std::vector<std::string> open;
  std::size_t at = page.find("<html");
  while ((at = page.find('<', at)) != std::string::npos) {
    std::smatch match;
    const std::string rest = page.substr(at, 4000);
    if (!std::regex_search(rest, match, kTag, std::regex_constants::match_continuous)) {
      return ::testing::AssertionFailure() << "no element of ours: " << rest.substr(0, 120);
    }
    const std::string name = match[2];
    if (match[1].length() > 0) {
      if (open.empty() || open.back() != name) {
        return ::testing::AssertionFailure() << "</" << name << "> closes nothing";
      }
      open.pop_back();
    } else if (match[4].length() == 0 && name != "meta") {
      open.push_back(name);
    }
    at += static_cast<std::size_t>(match.length());
  }
  if (!open.empty()) return ::testing::AssertionFailure() << "open: " << open.back();
  return ::testing::AssertionSuccess();
}

TEST(Report, TerminalHtmlAndJsonTellTheSameRun) {
  const auto run = synthetic_run();
  const std::string terminal = terminal_report(run.summary, {});
  const std::string page = html_report(run);
  const nlohmann::json document = to_json(run.summary);
  if (const char* path = std::getenv("CRASHWORTHY_KEEP_REPORT")) {
    ASSERT_TRUE(write_file_atomically(path, page));
    std::puts(terminal.c_str());
  }
  EXPECT_THAT(row_of(terminal, "kill", "recovered"), HasSubstr("0/10 (<= 27.8%)"));
  EXPECT_THAT(row_of(terminal, "kill", "recovered"), HasSubstr("10/10 (>= 72.2%)"));
  EXPECT_THAT(page, HasSubstr("<b class=\"yes\">10/10</b> <small>≥ 72.2%</small>"));
  EXPECT_THAT(row_of(terminal, "kill", "first good output"), HasSubstr("never ("));
  EXPECT_THAT(page, HasSubstr("<b>never</b><sup>"));

  const CellSummary* cell = run.summary.cell("supervised", "kill");
  ASSERT_NE(cell, nullptr);
  const MeasureSummary& first_good = cell->measures.at("first_good");
  const auto plain = report::show_measure("first_good", first_good, report::kPlain);
  EXPECT_THAT(terminal, HasSubstr(plain.value + " " + plain.interval));
  EXPECT_THAT(page, HasSubstr("<b>" + plain.value + "</b> <small>" + plain.interval));
  for (const char* part : {"  = detect", "  + initiate", "  + repair", "  + process"}) {
    EXPECT_THAT(row_of(terminal, "kill", part), Not(HasSubstr("no such row"))) << part;
  }
  EXPECT_THAT(row_of(terminal, "no fault", "protection cost"), HasSubstr("%, "));
  EXPECT_THAT(row_of(terminal, "abort", "  not activated"), HasSubstr("1"));
  EXPECT_THAT(page, HasSubstr("not activated: the fault point was not reached"));
  EXPECT_EQ(document["verdict"], "inconclusive");
  EXPECT_THAT(terminal, HasSubstr("Verdict  INCONCLUSIVE: "));
  EXPECT_THAT(page, HasSubstr("? INCONCLUSIVE"));
  EXPECT_THAT(terminal, HasSubstr(run.summary.sentence.substr(0, 40)));
  EXPECT_THAT(page, HasSubstr(report::html(run.summary.sentence)));
}

TEST(Report, ThreeArmsFitIntoAHundredColumnsAndMoreArmsWrap) {
  auto run = synthetic_run();
  for (const std::string& line : lines_of(terminal_report(run.summary, {false, 100}))) {
    EXPECT_LE(report::display_width(line), 100u) << line;
  }
  const std::vector<CellSummary> cells = run.summary.cells;
  for (const char* suffix : {"_b", "_c"}) {
    for (CellSummary cell : cells) {
      cell.arm += suffix;
      run.summary.cells.push_back(cell);
    }
  }
  const std::string terminal = terminal_report(run.summary, {false, 100});
  for (const std::string& line : lines_of(terminal)) {
    EXPECT_LE(report::display_width(line), 100u) << line;
  }
  EXPECT_THAT(terminal, HasSubstr("supervised_c"));
}

TEST(Report, HostileTextIsInert) {
  const auto run = synthetic_run({42, 4, 1, true});
  const std::string page = html_report(run);
  EXPECT_TRUE(well_formed(page));
  for (const char* bad : {"<script", "<img", "\x1b", "\x07", "\xe2\x80\xae", "\xff", "\xc0\xaf"}) {
    EXPECT_THAT(page, Not(HasSubstr(bad)));
  }
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt;"));
  for (const bool colour : {false, true}) {
    std::string terminal = terminal_report(run.summary, {colour, 100});
    // Our own colours are the only escape sequences.
    terminal = std::regex_replace(terminal, std::regex("\x1b\\[(0|1|31|32|33)m"), "");
    EXPECT_TRUE(std::all_of(terminal.begin(), terminal.end(), [](char c) {
      return static_cast<unsigned char>(c) >= 0x20 || c == '\n';
    }));
    EXPECT_THAT(terminal, Not(HasSubstr("\xe2\x80\xae")));
  }
  EXPECT_EQ(lines_of(quiet_report(run.summary)).size(), 1u);
}

TEST(Report, ThePageFetchesAndRunsNothing) {
  const std::string page = html_report(synthetic_run());
  EXPECT_TRUE(well_formed(page));
  for (const char* bad :
       {"http://", "https://", "<script", "javascript:", "src=", "@import", "<link"}) {
    EXPECT_THAT(page, Not(HasSubstr(bad)));
  }
  EXPECT_THAT(page, HasSubstr("<title>trial "));
  EXPECT_THAT(page, HasSubstr("prefers-color-scheme:dark"));
  EXPECT_THAT(page, HasSubstr("crashworthy report runs/2f9c41d0\n"));
  EXPECT_THAT(page, HasSubstr("crashworthy run --seed 42 runs/2f9c41d0/experiment.json"));
}

TEST(Report, ColourAddsNothingButColour) {
  const Summary summary = synthetic_run().summary;
  const std::string plain = terminal_report(summary, {false, 100});
  std::string coloured = terminal_report(summary, {true, 100});
  EXPECT_NE(plain, coloured);
  EXPECT_EQ(plain, std::regex_replace(coloured, std::regex("\x1b\\[[0-9]+m"), ""));
}

TEST(Report, NothingWasRun) {
  const crashworthy::Run empty;
  EXPECT_TRUE(well_formed(html_report(empty)));
  EXPECT_THAT(html_report(empty), HasSubstr("No cell of this run was completed"));
  EXPECT_THAT(terminal_report(empty.summary, {}), HasSubstr("ERROR"));
}

TEST(Report, OneBlockHasNoIntervalsAndSaysSo) {
  const auto run = synthetic_run({7, 1, 1, false});
  EXPECT_TRUE(well_formed(html_report(run)));
  EXPECT_THAT(terminal_report(run.summary, {}), HasSubstr("95% with 1"));
}

TEST(Report, AnInexactLedgerStandsOut) {
  auto run = synthetic_run({42, 6, 1, false});
  run.summary.cells.front().items.offered += 1;
  EXPECT_THAT(html_report(run), HasSubstr("✗ differs"));
  EXPECT_THAT(terminal_report(run.summary, {}), HasSubstr(" of 1,801!"));
}

}  // namespace
}  // namespace crashworthy

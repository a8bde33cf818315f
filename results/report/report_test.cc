// One synthetic run, and the same run with hostile text, checked in the terminal report, the page
// and the JSON together.
//
// To look at the page: CRASHWORTHY_KEEP_REPORT=/tmp/report.html report_test
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
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

// Every `<` begins an element of ours with quoted attributes, and all are closed in order.
::testing::AssertionResult well_formed(const std::string& page) {
  static const std::set<std::string> kOurs{
      "html",  "head", "meta", "title",  "style",  "body",      "svg",     "defs",   "pattern",
      "path",  "line", "rect", "circle", "text",   "main",      "section", "header", "footer",
      "div",   "span", "p",    "b",      "small",  "sup",       "code",    "pre",    "h1",
      "h2",    "h3",   "ul",   "li",     "dl",     "dt",        "dd",      "table",  "thead",
      "tbody", "tr",   "th",   "td",     "figure", "figcaption"};
  std::vector<std::string> open;
  std::size_t at = page.find("<html");
  while ((at = page.find('<', at)) != std::string::npos) {
    const std::size_t end = page.find('>', at);
    if (end == std::string::npos) return ::testing::AssertionFailure() << "no end of an element";
    const std::string tag = page.substr(at + 1, end - at - 1);
    const bool closing = tag.starts_with('/');
    const std::string name =
        tag.substr(closing ? 1 : 0, tag.find_first_of(" /", 1) - (closing ? 1 : 0));
    const bool quoted = std::count(tag.begin(), tag.end(), '"') % 2 == 0;
    if (!kOurs.contains(name) || !quoted || tag.find('<') != std::string::npos) {
      return ::testing::AssertionFailure() << "no element of ours: <" << tag.substr(0, 120) << ">";
    }
    if (closing && (open.empty() || open.back() != name)) {
      return ::testing::AssertionFailure() << "</" << name << "> closes nothing";
    }
    if (closing) open.pop_back();
    if (!closing && !tag.ends_with('/') && name != "meta") open.push_back(name);
    at = end;
  }
  if (!open.empty()) return ::testing::AssertionFailure() << "open: " << open.back();
  return ::testing::AssertionSuccess();
}

std::string without_colours(std::string text) {
  for (const char* code : {"\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"}) {
    for (std::size_t at = 0; (at = text.find(code, at)) != std::string::npos;) {
      text.erase(at, std::strlen(code));
    }
  }
  return text;
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
  EXPECT_THAT(row_of(terminal, "kill", "first good work"), HasSubstr("never ("));
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
    // Our own colours are the only escape sequences.
    const std::string terminal = without_colours(terminal_report(run.summary, {colour, 100}));
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
  const std::string coloured = terminal_report(summary, {true, 100});
  EXPECT_NE(plain, coloured);
  EXPECT_EQ(plain, without_colours(coloured));
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

TEST(Report, SaysWhyTrialsWereEndedAndWhatCameAfterwards) {
  auto run = synthetic_run({42, 6, 1, false});
  const std::vector<std::string> labels{"did not end", "whole when run again",
                                        "outputs of orphans"};
  for (const std::string& label : labels) {
    EXPECT_THAT(html_report(run), Not(HasSubstr("<th>" + label)));
    EXPECT_THAT(terminal_report(run.summary, {}), Not(HasSubstr(label)));
  }
  crashworthy::CellSummary& cell = run.summary.cells.front();
  cell.stalls = {{"disk", 1}, {"hang", 2}};
  cell.rerun = 5;
  cell.rerun_whole = 3;
  cell.late_publications = 7;
  for (const std::string& text : labels) {
    EXPECT_THAT(html_report(run), HasSubstr("<th>" + text));
    EXPECT_THAT(terminal_report(run.summary, {}), HasSubstr(text));
  }
  for (const char* text : {"1 over its disk, 2 hung", "3/5"}) {
    EXPECT_THAT(html_report(run), HasSubstr(text));
    EXPECT_THAT(terminal_report(run.summary, {}), HasSubstr(text));
  }
}

TEST(Report, AnInexactLedgerStandsOut) {
  auto run = synthetic_run({42, 6, 1, false});
  run.summary.cells.front().items.offered += 1;
  EXPECT_THAT(html_report(run), HasSubstr("✗ differs"));
  EXPECT_THAT(terminal_report(run.summary, {}), HasSubstr(" of 1,801!"));
}

}  // namespace
}  // namespace crashworthy

// What hostile text becomes, and how numbers are written.
#include "results/report/text.h"

#include <gtest/gtest.h>

#include "results/report/format.h"
#include "results/report/svg.h"

namespace crashworthy::report {
namespace {

TEST(Text, PrintableKeepsTextAndWritesOutTheRest) {
  EXPECT_EQ(printable("Größe 大 😀"), "Größe 大 😀");
  EXPECT_EQ(printable("a\nb\tc\x1b[31m\x7f"), "a\\nb\\tc\\x1b[31m\\x7f");
  EXPECT_EQ(printable("x\xe2\x80\xaey"), "x\\u{202e}y");
  EXPECT_EQ(printable("\xff\xc0\xaf"), "\\xff\\xc0\\xaf");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(printable("\xf0\x9f\x98"), "\\xf0\\x9f\\x98") << "cut off";
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
}

TEST(Text, EachPlaceHasItsEscapes) {
  EXPECT_EQ(html("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
  EXPECT_EQ(markdown_code("a|b`c`@d"), "`a\\|b'c'@d`");
  EXPECT_EQ(markdown_code(""), "-");
  EXPECT_EQ(shell_word("runs/2f9c"), "runs/2f9c");
  EXPECT_EQ(shell_word("a b'c; rm *"), "'a b'\\''c; rm *'");
  EXPECT_EQ(shell_word(""), "''");
}

TEST(Text, WidthsAreThoseOfATerminal) {
  EXPECT_EQ(display_width("µs"), 2u);
  EXPECT_EQ(display_width("大"), 2u);
  EXPECT_EQ(shorten("supervised", 8), "superv..");
  EXPECT_EQ(shorten("大大大大", 5), "大..");
  EXPECT_EQ(pad("a", 3), "a  ");
  EXPECT_EQ(wrap("one two three", 7), (std::vector<std::string>{"one two", "three"}));
  EXPECT_EQ(wrap("", 7), std::vector<std::string>{""});
}

TEST(Format, ValuesShareOneScaleWithTheirInterval) {
  const auto shown = show_value(46.04e6, 44.0e6, 48.1e6, "ns", kPlain);
  EXPECT_EQ(shown.value, "46.0 ms");
  EXPECT_EQ(shown.interval, "[44.0, 48.1]");
  EXPECT_EQ(show_value(46e6, 44e6, std::nullopt, "ns", kPlain).interval, "[44.0, never]");
  EXPECT_EQ(show_value(130, "ns", kPlain), "130 ns");
  EXPECT_EQ(show_value(1.5e3, "ns", kTypographic), "1.50 µs");
  EXPECT_EQ(show_value(0, "ns", kPlain), "0 ms");
  EXPECT_EQ(show_value(-2.5e6, "ns", kTypographic), "−2.50 ms");
  EXPECT_EQ(show_value(257.13, "items/s", kPlain), "257/s");
  EXPECT_EQ(show_value(3, "count", kPlain), "3");
  EXPECT_EQ(show_change(-0.0091, -0.018, 0.0012, kPlain).value, "-0.9%");
  EXPECT_EQ(show_change(-0.0091, -0.018, 0.0012, kPlain).interval, "[-1.8%, +0.1%]");
  EXPECT_EQ(count(1234567), "1,234,567");
  EXPECT_EQ(count(-123), "-123");
  EXPECT_EQ(count(100), "100");
}

TEST(Format, ASharePrintsItsBoundAsASentence) {
  CellSummary cell;
  cell.fault = "kill";
  cell.trials = cell.confirmed = 10;
  cell.recovered = 7;
  cell.recovered_low = 0.397;
  cell.recovered_high = 0.892;
  EXPECT_EQ(show_recovered(cell, kPlain).bound, "39.7% to 89.2%");
  cell.confirmed = 0;
  EXPECT_EQ(show_recovered(cell, kPlain).bound, "no confirmed fault");
}

TEST(Svg, TicksAreRound) {
  EXPECT_EQ(round_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(round_ticks(-1, 2, 3), (std::vector<double>{-1, 0, 1, 2}));
  EXPECT_TRUE(round_ticks(1, 1, 5).empty());
  EXPECT_EQ(decade_ticks(1e3, 1e6).size(), 4u);
  EXPECT_TRUE(decade_ticks(0, 1).empty());
}

}  // namespace
}  // namespace crashworthy::report

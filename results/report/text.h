// Text that came from files or subjects, made harmless for a terminal, a page and a pull request.
//
// Names of arms, faults and directories, reasons and stderr may hold anything. No function here
// fails; each returns text that is safe where its name says.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace crashworthy::report {

// Valid UTF-8 of one line without control characters. What is not printable, or would change how
// the rest is read (escape sequences, bidirectional marks, zero-width signs), is written out:
// "\x1b", "\n", "\u{202e}".
std::string printable(std::string_view text);

// printable(), with & < > " ' as entities: for element content and quoted attributes alike.
std::string html(std::string_view text);

// printable() in a Markdown code span that also holds inside a table cell; no mention, link or
// mark-up in it takes effect.
std::string markdown_code(std::string_view text);

// printable(), quoted where a shell would read it as anything but one word.
std::string shell_word(std::string_view text);

// How many columns printable text takes on a terminal.
std::size_t display_width(std::string_view text);
// `text` with blanks behind it up to `width` columns.
std::string pad(std::string text, std::size_t width);
// At most `width` (at least 2) columns of printable text; ".." ends what was cut.
std::string shorten(std::string_view text, std::size_t width);
// Breaks printable text at blanks into lines of at most `width` columns where words allow it; at
// least one line.
std::vector<std::string> wrap(std::string_view text, std::size_t width);

}  // namespace crashworthy::report

// PDF: the trailer that says where its table of contents lies, then the text of its pages and how
// they look, by poppler's programs.
#include <charconv>

#include "harness/experiment/content_ladder.h"

namespace crashworthy::content {
namespace {

constexpr std::size_t kTrailer = 1024;  // Readers look for the trailer in so many last bytes.

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

Rung check_pdf_end(std::string_view bytes) {
  const std::string_view tail = bytes.substr(bytes.size() > kTrailer ? bytes.size() - kTrailer : 0);
  if (tail.rfind("%%EOF") == std::string_view::npos) return Rung::torn("no %%EOF at its end");
  const std::size_t start = tail.rfind("startxref");
  if (start == std::string_view::npos) return Rung::torn("no startxref at its end");
  std::size_t at = start + 9;
  while (at < tail.size() && (tail[at] == ' ' || tail[at] == '\r' || tail[at] == '\n')) ++at;
  std::uint64_t place = 0;
  const auto parsed = std::from_chars(tail.data() + at, tail.data() + tail.size(), place);
  if (parsed.ec != std::errc() || place >= bytes.size())
    return Rung::damaged("its startxref points nowhere");
  // A table, or the object of a compressed one: "12 0 obj".
  const std::string_view table = bytes.substr(static_cast<std::size_t>(place));
  if (!table.starts_with("xref") && !is_digit(table[0]))
    return Rung::damaged("no table where its startxref points");
  return {};
}

Rung climb_pdf(std::string_view bytes, const std::filesystem::path& path) {
  if (Rung end = check_pdf_end(bytes); !end.whole()) return end;
  const ToolRun text = run_tool({"pdftotext", "-layout", path.string(), "-"});
  if (text.missing)
    return Rung::undecoded(
        "compared by its bytes: pdftotext (Debian package poppler-utils) is not installed");
  if (!text.succeeded || !text.errors.empty())
    return Rung::damaged("pdftotext: " + (text.errors.empty() ? "failed" : text.errors));
  const ToolRun look = run_tool({"pdftoppm", "-r", "50", path.string()});
  if (!look.succeeded || !look.errors.empty())
    return Rung::damaged("pdftoppm: " + (look.errors.empty() ? "failed" : look.errors));
  return {ContentState::kWhole,
          "pages:" + std::to_string(text.form_feeds) + ":" + text.output_hash + look.output_hash,
          {}};
}

}  // namespace crashworthy::content

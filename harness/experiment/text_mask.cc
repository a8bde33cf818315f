#include "harness/experiment/text_mask.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace crashworthy {
namespace {

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    lines.push_back(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
  return lines;
}

bool is_alnum(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Names that a date has beside its numbers.
bool is_date_name(std::string_view word) {
  constexpr std::array<std::string_view, 42> kNames{
      "jan",      "feb",      "mar",    "apr",     "may",       "jun",       "jul",
      "aug",      "sep",      "oct",    "nov",     "dec",       "january",   "february",
      "march",    "april",    "june",   "july",    "august",    "september", "october",
      "november", "december", "mon",    "tue",     "wed",       "thu",       "fri",
      "sat",      "sun",      "monday", "tuesday", "wednesday", "thursday",  "friday",
      "saturday", "sunday",   "am",     "pm",      "utc",       "gmt",       "cet"};
  std::string lower(word);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kNames.begin(), kNames.end(), lower) != kNames.end();
}

bool ends_path(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0 || c == '"' || c == '\'' || c == ')' ||
         c == ',' || c == ';' || c == '<' || c == '>';
}

std::string mask(std::string_view line) {
  std::string masked;
  for (std::size_t at = 0; at < line.size();) {
    const char c = line[at];
    const bool starts_word = at == 0 || !is_alnum(line[at - 1]);
    std::size_t end = at + 1;
    if (c == '/' && starts_word && end < line.size() && !ends_path(line[end])) {
      while (end < line.size() && !ends_path(line[end])) ++end;
      masked += '#';
    } else if (is_alnum(c)) {
      while (end < line.size() && is_alnum(line[end])) ++end;
      const std::string_view word = line.substr(at, end - at);
      const bool changes = std::any_of(word.begin(), word.end(), is_digit) || is_date_name(word);
      masked += changes ? "#" : std::string(word);
    } else if (c != ' ' || !masked.ends_with(' ')) {  // A day of one digit is padded.
      masked += c;
    }
    at = end;
  }
  return masked;
}

}  // namespace

std::optional<std::vector<std::size_t>> changing_lines(std::string_view a, std::string_view b) {
  const std::vector<std::string_view> left = lines_of(a);
  const std::vector<std::string_view> right = lines_of(b);
  if (left.size() != right.size()) return std::nullopt;
  std::vector<std::size_t> changing;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i] == right[i]) continue;
    if (mask(left[i]) != mask(right[i])) return std::nullopt;
    changing.push_back(i);
  }
  return changing;
}

std::string mask_lines(std::string_view text, const std::vector<std::size_t>& lines) {
  std::string masked;
  std::size_t number = 0;
  for (const std::string_view line : lines_of(text)) {
    const bool changes = std::binary_search(lines.begin(), lines.end(), number++);
    masked += changes ? mask(line) : std::string(line);
  }
  return masked;
}

std::size_t first_different_line(std::string_view a, std::string_view b) {
  const auto [here, there] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return 1 + static_cast<std::size_t>(std::count(a.begin(), here, '\n'));
}

}  // namespace crashworthy

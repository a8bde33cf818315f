#include "results/report/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace crashworthy::report {
namespace {

struct CodePoint {
  std::uint32_t value = 0;
  std::size_t bytes = 0;  // 0: the first byte begins no valid sequence.
};

// Strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
CodePoint decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return {};
  std::uint32_t value = first & (0xFFu >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    value = (value << 6) | (byte(i) & 0x3Fu);
  }
  static constexpr std::array<std::uint32_t, 5> kLeast{0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kLeast[length] || surrogate || value > 0x10FFFF) return {};
  return {value, length};
}

bool in(std::uint32_t value, std::uint32_t first, std::uint32_t last) {
  return value >= first && value <= last;
}

// C0 and C1 controls, and what changes the order or hides: marks of direction, zero-width signs,
// line separators, tags, private use and non-characters.
bool is_unprintable(std::uint32_t value) {
  return value < 0x20 || in(value, 0x7F, 0x9F) || value == 0xAD || value == 0x61C ||
         in(value, 0x200B, 0x200F) || in(value, 0x2028, 0x202E) || in(value, 0x2060, 0x206F) ||
         value == 0xFEFF || in(value, 0xFFF0, 0xFFFB) || in(value, 0xE000, 0xF8FF) ||
         (value & 0xFFFE) == 0xFFFE || value >= 0xE0000;
}

std::string written_out(std::uint32_t value) {
  if (value == '\n') return "\\n";
  if (value == '\t') return "\\t";
  if (value == '\r') return "\\r";
  return value < 0x100 ? fmt::format("\\x{:02x}", value) : fmt::format("\\u{{{:x}}}", value);
}

std::size_t width_of(std::uint32_t value) {
  if (in(value, 0x300, 0x36F) || in(value, 0xFE00, 0xFE0F)) return 0;
  const bool wide = in(value, 0x1100, 0x115F) || in(value, 0x2E80, 0xA4CF) ||
                    in(value, 0xAC00, 0xD7A3) || in(value, 0xF900, 0xFAFF) ||
                    in(value, 0xFE30, 0xFE6F) || in(value, 0xFF00, 0xFF60) ||
                    in(value, 0xFFE0, 0xFFE6) || in(value, 0x1F300, 0x1F64F) ||
                    in(value, 0x1F900, 0x1F9FF) || in(value, 0x20000, 0x3FFFD);
  return wide ? 2 : 1;
}

std::string replace_each(std::string_view text,
                         std::initializer_list<std::pair<char, std::string_view>> rules) {
  std::string out;
  for (const char c : text) {
    const auto rule =
        std::find_if(rules.begin(), rules.end(), [c](const auto& r) { return r.first == c; });
    if (rule == rules.end()) {
      out += c;
    } else {
      out += rule->second;
    }
  }
  return out;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const CodePoint point = decode(text);
    if (point.bytes == 0) {
      out += written_out(static_cast<unsigned char>(text.front()));
      text.remove_prefix(1);
      continue;
    }
    if (is_unprintable(point.value)) {
      out += written_out(point.value);
    } else {
      out += text.substr(0, point.bytes);
    }
    text.remove_prefix(point.bytes);
  }
  return out;
}

std::string html(std::string_view text) {
  return replace_each(
      printable(text),
      {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&quot;"}, {'\'', "&#39;"}});
}

std::string markdown_code(std::string_view text) {
  const std::string safe = replace_each(printable(text), {{'`', "'"}, {'|', "\\|"}});
  return safe.empty() ? "-" : "`" + safe + "`";
}

std::string shell_word(std::string_view text) {
  const std::string word = printable(text);
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-./:=,+@%").find(c) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
  return "'" + replace_each(word, {{'\'', "'\\''"}}) + "'";
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    const CodePoint point = decode(text);
    width += point.bytes == 0 ? 1 : width_of(point.value);
    text.remove_prefix(std::max<std::size_t>(point.bytes, 1));
  }
  return width;
}

std::string pad(std::string text, std::size_t width) {
  const std::size_t taken = display_width(text);
  if (taken < width) text.append(width - taken, ' ');
  return text;
}

std::string shorten(std::string_view text, std::size_t width) {
  const std::string safe = printable(text);
  if (display_width(safe) <= width) return safe;
  std::string out;
  std::size_t taken = 0;
  std::string_view rest = safe;
  while (!rest.empty()) {
    const CodePoint point = decode(rest);
    taken += width_of(point.value);
    if (taken + 2 > width) break;
    out += rest.substr(0, point.bytes);
    rest.remove_prefix(point.bytes);
  }
  return out + "..";
}

std::vector<std::string> wrap(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  std::string line;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    at = end + 1;
    if (word.empty()) continue;
    if (!line.empty() && display_width(line) + 1 + display_width(word) > width) {
      lines.push_back(std::exchange(line, {}));
    }
    if (!line.empty()) line += ' ';
    line += word;
  }
  lines.push_back(line);
  return lines;
}

}  // namespace crashworthy::report

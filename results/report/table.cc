#include "results/report/table.h"

#include <algorithm>

#include "harness/os/check.h"
#include "results/report/text.h"

namespace crashworthy::report {
namespace {

constexpr std::size_t kGap = 3;          // Blanks between columns.
constexpr std::size_t kLabelWidth = 11;  // Of a paragraph, with the margin before it.
constexpr std::size_t kLeastTextRoom = 20;

std::string without_trailing_blanks(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

}  // namespace

std::string Paint::wrap(const char* code, const std::string& text) const {
  if (!enabled_ || text.empty()) return text;
  return std::string("\x1b[") + code + "m" + text + "\x1b[0m";
}

std::string Paint::colour(const std::string& text, Colour colour) const {
  switch (colour) {
    case kNone:
      return text;
    case kGreen:
      return wrap("32", text);
    case kYellow:
      return wrap("33", text);
    case kRed:
      return wrap("31", text);
  }
  return text;
}

void Table::add_row(std::string label, std::vector<std::string> values) {
  CRASHWORTHY_CHECK(values.size() == heads_.size(), values.size(), heads_.size());
  rows_.push_back({std::move(label), std::move(values)});
}

std::size_t Table::column_width(std::size_t column) const {
  std::size_t width = display_width(heads_[column]);
  for (const Row& row : rows_) width = std::max(width, display_width(row.values[column]));
  return width;
}

std::string Table::print_columns(std::size_t first, std::size_t last,
                                 const std::vector<std::size_t>& widths, const Paint& paint) const {
  std::size_t label_width = display_width(corner_);
  for (const Row& row : rows_) label_width = std::max(label_width, display_width(row.label));
  std::string head = pad(corner_, label_width);
  for (std::size_t i = first; i < last; ++i) {
    head += std::string(kGap, ' ') + pad(heads_[i], widths[i]);
  }
  std::string out = paint.bold(without_trailing_blanks(head)) + "\n";
  for (const Row& row : rows_) {
    std::string line = pad(row.label, label_width);
    for (std::size_t i = first; i < last; ++i) {
      line += std::string(kGap, ' ') + pad(row.values[i], widths[i]);
    }
    out += without_trailing_blanks(line) + "\n";
  }
  return out;
}

std::string Table::print(std::size_t width, const Paint& paint) const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < heads_.size(); ++i) widths.push_back(column_width(i));
  std::size_t label_width = display_width(corner_);
  for (const Row& row : rows_) label_width = std::max(label_width, display_width(row.label));
  std::string out;
  for (std::size_t first = 0; first < heads_.size();) {
    std::size_t last = first;
    std::size_t taken = label_width;
    while (last < heads_.size() && (last == first || taken + kGap + widths[last] <= width)) {
      taken += kGap + widths[last++];
    }
    out += (first == 0 ? "" : "\n") + print_columns(first, last, widths, paint);
    first = last;
  }
  return out;
}

std::string print_paragraph(const Paragraph& paragraph, std::size_t width, const Paint& paint) {
  const std::size_t label = std::max(display_width(paragraph.label) + 4, kLabelWidth);
  const std::size_t indent = label + display_width(paragraph.lead);
  const std::size_t room = std::max(width, indent + kLeastTextRoom) - indent;
  std::string out;
  for (const std::string& line : wrap(paragraph.text, room)) {
    if (out.empty()) {
      const bool lead = !paragraph.lead.empty();
      const std::string name =
          paint.colour(paragraph.label, lead ? Paint::kNone : paragraph.colour);
      out = "  " + name + std::string(label - 2 - display_width(paragraph.label), ' ') +
            paint.colour(paragraph.lead, paragraph.colour) + line + "\n";
    } else {
      out += std::string(indent, ' ') + line + "\n";
    }
  }
  return out;
}

}  // namespace crashworthy::report

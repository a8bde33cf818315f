// Tables and paragraphs on a terminal; column widths come from the content.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace crashworthy::report {

// Writes colours, or nothing where there is no colour. What is coloured never says more than its
// words do.
class Paint {
 public:
  enum Colour { kNone, kGreen, kYellow, kRed };

  explicit Paint(bool enabled) : enabled_(enabled) {}
  std::string bold(const std::string& text) const { return wrap("1", text); }
  std::string colour(const std::string& text, Colour colour) const;

 private:
  std::string wrap(const char* code, const std::string& text) const;
  bool enabled_;
};

// A column of labels and columns of values. All texts are printable already.
class Table {
 public:
  explicit Table(std::string corner) : corner_(std::move(corner)) {}
  void add_column(std::string head) { heads_.push_back(std::move(head)); }
  // One value a column.
  void add_row(std::string label, std::vector<std::string> values);

  // Columns that do not fit into `width` follow in further tables, each with the labels; one column
  // is printed however wide it is.
  std::string print(std::size_t width, const Paint& paint) const;

 private:
  struct Row {
    std::string label;
    std::vector<std::string> values;
  };
  std::size_t column_width(std::size_t column) const;
  std::string print_columns(std::size_t first, std::size_t last,
                            const std::vector<std::size_t>& widths, const Paint& paint) const;

  std::string corner_;
  std::vector<std::string> heads_;
  std::vector<Row> rows_;
};

struct Paragraph {
  std::string label;  // "Verdict"
  std::string lead;   // "FAIL: ", coloured; what follows is aligned behind it.
  std::string text;
  Paint::Colour colour = Paint::kNone;
};
// "  Label    text", wrapped to `width`, continued under itself; ends in a newline.
std::string print_paragraph(const Paragraph& paragraph, std::size_t width, const Paint& paint);

}  // namespace crashworthy::report

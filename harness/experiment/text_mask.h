// Text that changes from run to run for no fault's reason: dates, times, process numbers, names of
// temporary files.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace crashworthy {

// The lines, counted from 0, in which `a` and `b` differ, if they differ there in nothing but words
// that mask_lines() masks. Empty optional: they differ otherwise, or have not as many lines.
std::optional<std::vector<std::size_t>> changing_lines(std::string_view a, std::string_view b);

// The same text with `#` in the place of each word with a digit, name of a day, a month or a time
// zone, and absolute path in these lines.
std::string mask_lines(std::string_view text, const std::vector<std::size_t>& lines);

// The first line, counted from 1, in which they differ.
std::size_t first_different_line(std::string_view a, std::string_view b);

}  // namespace crashworthy

// System calls by the names that people write, and where their arguments name a file.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

// Numbers of arguments; -1: none.
struct FileArgument {
  int descriptor = -1;  // Of the file itself, or of the directory that `path` starts from.
  int path = -1;
};

struct SystemCall {
  const char* name;
  int number;
  std::array<FileArgument, 2> files{};  // Those that are used come first.

  // Of the first one that is no directory for a path; -1: none.
  int descriptor_argument() const { return files[0].path < 0 ? files[0].descriptor : -1; }
  bool names_file() const { return files[0].descriptor >= 0 || files[0].path >= 0; }
};

// Those of this architecture that the table has.
std::span<const SystemCall> system_calls();

// Reads "write" or "write,pwrite64"; kUsage for what is no call of the table.
Result<std::vector<const SystemCall*>> parse_calls(std::string_view names);

}  // namespace crashworthy

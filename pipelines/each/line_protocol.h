// What is said between us and a worker that speaks lines (docs/worker-protocol.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy::each {

inline constexpr std::size_t kMaxLine = 4096;  // Of a worker, without its end.

// Every byte but letters, digits and -._~/ as %XX.
std::string encode_path(std::string_view path);

// "item ID ATTEMPT INPUT OUTPUT\n".
std::string item_line(std::uint64_t item, std::uint32_t attempt, const std::string& input,
                      const std::string& output);

struct Answer {
  enum class Kind { kReady, kStarted, kDone, kFailed, kHeartbeat } kind = Kind::kReady;
  std::uint64_t item = 0;
  std::string message;  // Of kFailed.
};

// A line of a worker, without its end. kCorrupt for what is none of the five.
Result<Answer> parse_answer(std::string_view line);

// Cuts what comes out of a pipe into lines.
class LineReader {
 public:
  enum class State { kOpen, kEnd, kTooLong };
  // Appends the lines that are whole by now. Never blocks; `fd` must not. After kEnd and kTooLong
  // it reads no more.
  State read(int fd, std::vector<std::string>& lines);

 private:
  std::string rest_;
};

}  // namespace crashworthy::each

#include "pipelines/each/line_protocol.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

namespace crashworthy::each {
namespace {

constexpr std::size_t kReadAtOnce = std::size_t{64} * 1024;

bool is_plain(unsigned char c) {
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return letter || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~' ||
         c == '/';
}

// What is quoted of a line that makes no sense.
std::string quote(std::string_view line) {
  constexpr std::size_t kMost = 80;
  std::string text(line.substr(0, kMost));
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c >= 0x7F; }, '?');
  return "'" + text + (line.size() > kMost ? "...'" : "'");
}

bool parse_number(std::string_view text, std::uint64_t& number) {
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  return !text.empty() && read.ec == std::errc() && read.ptr == text.data() + text.size();
}

}  // namespace

std::string encode_path(std::string_view path) {
  constexpr const char* kDigits = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_plain(byte)) {
      encoded += c;
    } else {
      encoded += '%';
      encoded += kDigits[byte >> 4];
      encoded += kDigits[byte & 15];
    }
  }
  return encoded;
}

std::string item_line(std::uint64_t item, std::uint32_t attempt, const std::string& input,
                      const std::string& output) {
  return "item " + std::to_string(item) + " " + std::to_string(attempt) + " " + encode_path(input) +
         " " + encode_path(output) + "\n";
}

Result<Answer> parse_answer(std::string_view line) {
  using Kind = Answer::Kind;
  if (line == "ready") return Answer{Kind::kReady, 0, {}};
  if (line == "heartbeat") return Answer{Kind::kHeartbeat, 0, {}};
  const std::size_t space = line.find(' ');
  const std::string_view word = line.substr(0, space);
  std::string_view rest = space == std::string_view::npos ? "" : line.substr(space + 1);
  Answer answer;
  if (word == "started" || word == "done") {
    answer.kind = word == "done" ? Kind::kDone : Kind::kStarted;
  } else if (word == "failed") {
    answer.kind = Kind::kFailed;
    const std::size_t end = rest.find(' ');
    if (end != std::string_view::npos) {
      answer.message = std::string(rest.substr(end + 1));
      rest = rest.substr(0, end);
    }
  } else {
    return corrupt_error("a line that makes no sense: " + quote(line));
  }
  if (!parse_number(rest, answer.item))
    return corrupt_error("a line without the number of an item: " + quote(line));
  return answer;
}

LineReader::State LineReader::read(int fd, std::vector<std::string>& lines) {
  std::array<char, kReadAtOnce> buffer;
  const ssize_t count = ::read(fd, buffer.data(), buffer.size());
  if (count == 0) return State::kEnd;
  if (count < 0) return errno == EAGAIN || errno == EINTR ? State::kOpen : State::kEnd;
  rest_.append(buffer.data(), static_cast<std::size_t>(count));
  std::size_t begin = 0;
  for (std::size_t end; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    if (end - begin > kMaxLine) return State::kTooLong;
    lines.push_back(rest_.substr(begin, end - begin));
  }
  rest_.erase(0, begin);
  return rest_.size() > kMaxLine ? State::kTooLong : State::kOpen;
}

}  // namespace crashworthy::each

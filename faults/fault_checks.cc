#include "faults/fault_checks.h"

#include <algorithm>
#include <array>
#include <csignal>

#include "faults/short_transfer.h"
#include "faults/system_calls.h"
#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

bool is_one_of(const std::string& word, std::span<const char* const> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](const char* candidate) { return word == candidate; });
}

std::string list_of(std::span<const char* const> words) {
  std::string text;
  for (const char* word : words) text += (text.empty() ? "" : ", ") + std::string(word);
  return text;
}

// A text that may be one of a few words only.
Result<void> check_word(const FaultSpec& fault, const std::string& key,
                        std::span<const char* const> words, const std::string& pointer) {
  if (!fault.has(key) || is_one_of(fault.text(key), words)) return {};
  return field_error(pointer + "/set/" + key, "unknown " + key + " '" + fault.text(key) + "'",
                     "it is one of: " + list_of(words));
}

std::string shortenable_calls() {
  std::string text;
  for (const SystemCall& call : system_calls()) {
    if (ShortTransfer::can_do(call.number))
      text += (text.empty() ? "" : ", ") + std::string(call.name);
  }
  return text;
}

Result<void> check_calls(const FaultSpec& fault, const std::string& pointer) {
  if (fault.row().mechanism != std::string("notify")) return {};
  auto calls = parse_calls(fault.text("call"));
  if (!calls) return calls.error();
  for (const SystemCall* call : *calls) {
    const std::string name = call->name;
    if (fault.has("path") && !call->names_file()) {
      return field_error(pointer + "/set/path",
                         "'" + name + "' names no file that a path could match",
                         "leave out 'path', or that call");
    }
    if (fault.fault == "io.short" && !ShortTransfer::can_do(call->number)) {
      return field_error(pointer + "/set/call",
                         "'" + name + "' transfers nothing that can be shortened",
                         "these can be: " + shortenable_calls());
    }
  }
  return {};
}

Result<void> check_stream(const FaultSpec& fault, const std::string& pointer) {
  constexpr std::array<const char*, 3> kStreams{"stdin", "stdout", "stderr"};
  constexpr std::array<const char*, 2> kDirections{"forth", "back"};
  if (fault.row().mechanism != std::string("relay")) return {};
  if (fault.has("stream") == fault.has("socket") || fault.has("socket") != fault.has("upstream")) {
    return field_error(pointer + "/set",
                       "'" + fault.fault + "' needs either 'stream' or 'socket' and 'upstream'",
                       "on the command line: --set stream=stdout");
  }
  if (auto known = check_word(fault, "stream", kStreams, pointer); !known) return known;
  return check_word(fault, "direction", kDirections, pointer);
}

// A process that is stopped to be looked at forgets these when it is let go on.
Result<void> check_holding(const FaultSpec& fault, const std::string& pointer) {
  if (!fault.victim.holding_item || !fault.has("signal")) return {};
  const std::int64_t signal = fault.number("signal");
  if (signal != SIGTSTP && signal != SIGTTIN && signal != SIGTTOU) return {};
  return field_error(pointer + "/victim/holding_item",
                     "whoever holds an item is stopped to be sure of it, and " +
                         fault.text("signal") + " is lost when it goes on",
                     "use SIGSTOP, or leave out holding_item");
}

}  // namespace

Result<void> check_bounds(const FaultKey& key, std::int64_t number, const std::string& as_written) {
  if (number >= key.least && number <= key.most) return {};
  const bool duration = key.type == KeyType::kDuration;
  if (duration && number < key.least)
    return usage_error("must be longer than 0, not " + as_written);
  const std::string unit = key.type == KeyType::kSize ? " bytes" : "";
  const std::string least = std::to_string(key.least) + unit;
  if (key.most == INT64_MAX)
    return usage_error("must be at least " + least + ", not " + as_written);
  return usage_error("must be from " + std::to_string(key.least) + " to " +
                     std::to_string(key.most) + unit + ", not " + as_written);
}

Result<void> check_fault(const FaultSpec& fault, const std::string& pointer) {
  constexpr std::array<const char*, 2> kExceptions{"program", "std"};
  if (auto right = check_calls(fault, pointer); !right) return right;
  if (auto right = check_stream(fault, pointer); !right) return right;
  if (auto right = check_word(fault, "exception", kExceptions, pointer); !right) return right;
  return check_holding(fault, pointer);
}

}  // namespace crashworthy

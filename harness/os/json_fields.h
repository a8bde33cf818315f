// Reading JSON that people write: every message names the place (JSON pointer), what is wrong and
// what to write instead.
#pragma once

#include <functional>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

inline constexpr int kMaxJsonDepth = 96;

// Parses `text`; what is no JSON, or nested deeper than kMaxJsonDepth, is a kUsage error with the
// place.
Result<nlohmann::json> parse_json(const std::string& text);

// A value as messages quote it: short, and safe to print.
std::string quoted(const nlohmann::json& value);

// "did you mean 'x'?" for the closest of `known` (edit distance at most 1/3 of its length), else
// the list of all.
std::string suggest(const std::string& word, const std::vector<std::string>& known);

// Fails unless `value` is an object whose keys are all in `known`; `pointer` is where it lies.
Result<void> require_object(const nlohmann::json& value, const std::string& pointer,
                            const std::vector<std::string>& known);

// An error at a place: "/arms/0/workers: must be a whole number of at least 1, not -2".
Error field_error(const std::string& pointer, const std::string& what, std::string hint = {});

// The field as a whole number in [low, high], `fallback` when it is absent.
Result<std::int64_t> read_integer(const nlohmann::json& object, const std::string& pointer,
                                  const char* key, std::int64_t fallback, std::int64_t low,
                                  std::int64_t high);
Result<std::string> read_string(const nlohmann::json& object, const std::string& pointer,
                                const char* key, const std::string& fallback);
// A duration such as "5s", as it was written.
enum class ZeroDuration { kAllowed, kRefused };
Result<std::string> read_duration(const nlohmann::json& object, const std::string& pointer,
                                  const char* key, const std::string& fallback,
                                  ZeroDuration zero = ZeroDuration::kAllowed);
Result<bool> read_bool(const nlohmann::json& object, const std::string& pointer, const char* key,
                       bool fallback);

}  // namespace crashworthy

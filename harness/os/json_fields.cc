#include "harness/os/json_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/os/clock.h"

namespace crashworthy {
namespace {

using nlohmann::json;

std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

Result<json> parse_json(const std::string& text) {
  bool deep = false;
  const auto watch = [&](int depth, json::parse_event_t, json&) {
    deep = deep || depth > kMaxJsonDepth;
    return !deep;
  };
  try {
    json document = json::parse(text, watch);
    if (deep) return usage_error("nested deeper than " + std::to_string(kMaxJsonDepth) + " levels");
    return document;
  } catch (const json::exception& failure) {
    return usage_error(failure.what());
  }
}

std::string quoted(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  return text.size() <= 80 ? text : text.substr(0, 77) + "...";
}

std::string suggest(const std::string& word, const std::vector<std::string>& known) {
  const std::string* best = nullptr;
  std::size_t least = word.size() + 1;
  std::string all;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < least && distance <= std::max<std::size_t>(1, candidate.size() / 3)) {
      least = distance;
      best = &candidate;
    }
    all += (all.empty() ? "" : ", ") + candidate;
  }
  if (best != nullptr) return "did you mean '" + *best + "'?";
  return "known: " + all;
}

Error field_error(const std::string& pointer, const std::string& what, std::string hint) {
  return usage_error((pointer.empty() ? "/" : pointer) + ": " + what, std::move(hint));
}

Result<void> require_object(const json& value, const std::string& pointer,
                            const std::vector<std::string>& known) {
  if (!value.is_object())
    return field_error(pointer, "must be an object, not " + std::string(value.type_name()));
  for (const auto& [key, unused] : value.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return field_error(pointer + "/" + key, "unknown field", suggest(key, known));
    }
  }
  return {};
}

Result<std::int64_t> read_integer(const json& object, const std::string& pointer, const char* key,
                                  std::int64_t fallback, std::int64_t low, std::int64_t high) {
  const auto found = object.find(key);
  if (found == object.end()) return fallback;
  const bool whole = found->is_number_integer() &&
                     (!found->is_number_unsigned() || found->get<std::uint64_t>() <= INT64_MAX);
  if (whole) {
    const auto value = found->get<std::int64_t>();
    if (value >= low && value <= high) return value;
  }
  return field_error(pointer + "/" + key, "must be a whole number from " + std::to_string(low) +
                                              " to " + std::to_string(high) + ", not " +
                                              quoted(*found));
}

Result<std::string> read_string(const json& object, const std::string& pointer, const char* key,
                                const std::string& fallback) {
  const auto found = object.find(key);
  if (found == object.end()) return fallback;
  if (found->is_string()) return found->get<std::string>();
  return field_error(pointer + "/" + key, "must be a string, not " + quoted(*found));
}

Result<std::string> read_duration(const json& object, const std::string& pointer, const char* key,
                                  const std::string& fallback, ZeroDuration zero) {
  auto text = read_string(object, pointer, key, fallback);
  if (!text) return text;
  const std::string here = pointer + "/" + key;
  const auto time = parse_duration(*text);
  if (!time) return field_error(here, time.error().message, time.error().hint);
  if (time->count() == 0 && zero == ZeroDuration::kRefused)
    return field_error(here, "must be longer than 0");
  return text;
}

Result<bool> read_bool(const json& object, const std::string& pointer, const char* key,
                       bool fallback) {
  const auto found = object.find(key);
  if (found == object.end()) return fallback;
  if (found->is_boolean()) return found->get<bool>();
  return field_error(pointer + "/" + key, "must be true or false, not " + quoted(*found));
}

}  // namespace crashworthy

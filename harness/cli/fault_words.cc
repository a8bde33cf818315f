#include "harness/cli/fault_words.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <tuple>

namespace crashworthy {

using nlohmann::json;

Result<json> key_values(const std::vector<std::string>& words, const char* option,
                        const char* hint) {
  json object = json::object();
  for (const std::string& word : words) {
    const std::size_t at = word.find('=');
    if (at == std::string::npos || at == 0) {
      return usage_error(fmt::format("{} '{}' is not KEY=VALUE", option, word), hint);
    }
    const std::string key = word.substr(0, at);
    const std::string value = word.substr(at + 1);
    if (object.contains(key)) return usage_error(fmt::format("{} names '{}' twice", option, key));
    json parsed = json::parse(value, nullptr, false);
    const std::size_t comma = value.find(',');
    if (!parsed.is_discarded()) {
      object[key] = parsed;
    } else if (value.starts_with('[') && value.ends_with(']') && comma != std::string::npos) {
      object[key] = {value.substr(1, comma - 1),
                     value.substr(comma + 1, value.size() - comma - 2)};  // [50ms,90ms]
    } else {
      object[key] = value;
    }
  }
  return object;
}

Result<json> fault_document(const std::string& fault, const std::vector<std::string>& victim,
                            const std::vector<std::string>& when,
                            const std::vector<std::string>& set) {
  json document{{"fault", fault}, {"name", fault}};
  const std::tuple<const char*, const char*, const std::vector<std::string>*> parts[] = {
      {"victim", "--victim", &victim}, {"when", "--when", &when}, {"set", "--set", &set}};
  for (const auto& [key, option, words] : parts) {
    if (words->empty()) continue;
    auto object = key_values(*words, option, "see: crashworthy faults NAME");
    if (!object) return object.error();
    document[key] = *object;
  }
  return document;
}

}  // namespace crashworthy

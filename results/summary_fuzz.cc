// Any JSON as a summary or as an expectation: refused or read, never a crash; what was read is
// written and read again the same.
#include <nlohmann/json.hpp>

#include "results/expectation.h"
#include "results/summary.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (const auto expectation = crashworthy::parse_expectation(text))
    (void)expectation->path.is_count();
  const nlohmann::json document = nlohmann::json::parse(text, nullptr, false);
  if (document.is_discarded()) return 0;
  const auto summary = crashworthy::summary_from_json(document);
  if (summary)
    CRASHWORTHY_CHECK(crashworthy::summary_from_json(crashworthy::to_json(*summary)).ok());
  return 0;
}

// Any JSON as an experiment: refused with a message, or read; never a crash.
#include <nlohmann/json.hpp>

#include "harness/experiment/experiment.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const nlohmann::json document = nlohmann::json::parse(data, data + size, nullptr, false);
  if (document.is_discarded()) return 0;
  const auto experiment = crashworthy::parse_experiment(document, "/somewhere");
  if (!experiment) CRASHWORTHY_CHECK(!experiment.error().message.empty());
  return 0;
}

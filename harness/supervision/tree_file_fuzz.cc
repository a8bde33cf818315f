// Any JSON as a tree file: refused with a message, or read; never a crash.
#include <nlohmann/json.hpp>

#include "harness/supervision/tree_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const nlohmann::json document = nlohmann::json::parse(data, data + size, nullptr, false);
  if (document.is_discarded()) return 0;
  const auto file = crashworthy::parse_tree(document, "/somewhere");
  if (!file) {
    CRASHWORTHY_CHECK(!file.error().message.empty());
    return 0;
  }
  const auto checked = crashworthy::check_spec(file->root);
  CRASHWORTHY_CHECK(checked.ok(), checked.ok() ? "" : checked.error().message);
  return 0;
}

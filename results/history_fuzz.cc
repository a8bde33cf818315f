// Any bytes as an items.bin: only whole blocks with the right checksum come out, and nothing
// breaks.
#include "results/history.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<crashworthy::ItemRecord> records;
  crashworthy::read_item_blocks(std::string_view(reinterpret_cast<const char*>(data), size),
                                records);
  CRASHWORTHY_CHECK(records.size() * sizeof(crashworthy::ItemRecord) <= size, records.size(), size);
  return 0;
}

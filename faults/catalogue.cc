#include "faults/catalogue.h"

#include "faults/catalogue_rows.h"

namespace crashworthy {

std::span<const FaultRow> fault_catalogue() {
  static const std::vector<FaultRow> rows = [] {
    std::vector<FaultRow> all;
    for (const auto& family :
         {process_rows(), native_rows(), resource_rows(), io_rows(), input_rows(), ipc_rows()}) {
      all.insert(all.end(), family.begin(), family.end());
    }
    return all;
  }();
  return rows;
}

const FaultRow* find_fault(std::string_view name) {
  for (const FaultRow& row : fault_catalogue()) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

std::vector<std::string> fault_names() {
  std::vector<std::string> names;
  for (const FaultRow& row : fault_catalogue()) names.emplace_back(row.name);
  return names;
}

}  // namespace crashworthy

// Where functions lie in ELF files, by libelf.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace crashworthy {

// False in a build without libelf: nothing is ever found.
bool symbols_supported();

struct SymbolPlace {
  std::uint64_t offset = 0;  // In the file.
  bool indirect = false;     // Not the function but what chooses it at load time (IFUNC).
};

// The functions of that name which the file defines, local ones too, each place once. A name with
// "::" is compared with the C++ names, without their parameters. Empty for what is no ELF file.
std::vector<SymbolPlace> find_symbol(const std::string& file, const std::string& name);

}  // namespace crashworthy

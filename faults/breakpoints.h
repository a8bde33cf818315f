// Breakpoints on a function in one address space, wherever the files that have it are mapped.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "faults/elf_symbols.h"
#include "faults/tracee.h"

namespace crashworthy {

// The symbols that are looked for in every file, each file read once.
class SymbolIndex {
 public:
  explicit SymbolIndex(std::string symbol) : symbol_(std::move(symbol)) {}

  struct Places {
    std::vector<SymbolPlace> symbol;
    std::vector<SymbolPlace> linker;  // Which the dynamic linker passes whenever it has mapped.
  };
  // Of the file at `path` as `pid` sees it.
  const Places& of(pid_t pid, const std::string& path);

 private:
  std::string symbol_;
  std::map<std::string, Places> files_;  // By device, inode and size.
  const Places none_;
};

struct Breakpoint {
  std::uint8_t original = 0;
  bool counts = false;  // Else it is the dynamic linker's.
  std::string file;
};

class Breakpoints {
 public:
  // Looks at what is mapped now and sets those that are missing. `tid` is stopped. Returns what
  // could not be, or empty.
  std::string update(pid_t tid, SymbolIndex& index);
  // Takes all out. `tid` is a stopped thread of the address space.
  void remove_all(pid_t tid);
  // Null when there is none at the address.
  const Breakpoint* at(std::uint64_t address) const;
  // Those that have the function.
  std::vector<std::string> files() const;
  // For one step over it.
  void lift(pid_t tid, std::uint64_t address) const;
  void put_back(pid_t tid, std::uint64_t address) const;

 private:
  std::map<std::uint64_t, Breakpoint> set_;
};

// Does what the instruction under a breakpoint does, for those that functions often begin with, so
// that nobody else has to be stopped for it. False for all others.
bool emulate_instruction(pid_t tid, std::uint8_t original, Registers* registers);

}  // namespace crashworthy

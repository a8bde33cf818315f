#include "faults/breakpoints.h"

#include <sys/stat.h>

#include <array>
#include <cstring>
#include <iterator>

namespace crashworthy {
namespace {

constexpr std::uint8_t kTrap = 0xcc;
// The name that debuggers rely on (SVR4); glibc and musl have it.
constexpr const char* kLinkerSymbol = "_dl_debug_state";

bool write_byte(pid_t tid, std::uint64_t address, std::uint8_t byte) {
  return poke(tid, address, std::span(&byte, 1));
}

}  // namespace

const SymbolIndex::Places& SymbolIndex::of(pid_t pid, const std::string& path) {
  const std::string file = "/proc/" + std::to_string(pid) + "/root" + path;
  struct stat status {};
  if (::stat(file.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return none_;
  const std::string key = std::to_string(status.st_dev) + " " + std::to_string(status.st_ino) +
                          " " + std::to_string(status.st_size);
  const auto found = files_.find(key);
  if (found != files_.end()) return found->second;
  return files_[key] = {find_symbol(file, symbol_), find_symbol(file, kLinkerSymbol)};
}

std::string Breakpoints::update(pid_t tid, SymbolIndex& index) {
  std::string trouble;
  std::map<std::uint64_t, Breakpoint> wanted;
  for (const Mapping& mapping : mappings_of(tid)) {
    if (!mapping.executable || !mapping.path.starts_with('/')) continue;
    const SymbolIndex::Places& places = index.of(tid, mapping.path);
    const auto want = [&](const SymbolPlace& place, bool counts) {
      if (place.offset < mapping.offset) return;
      const std::uint64_t address = mapping.start + (place.offset - mapping.offset);
      if (address >= mapping.end) return;
      if (place.indirect) {
        trouble = "in '" + mapping.path +
                  "' it is an indirect function (IFUNC), one of several that is chosen at load "
                  "time: it cannot be given a breakpoint; name a function that calls it";
        return;
      }
      wanted[address] = {0, counts, mapping.path};
    };
    for (const SymbolPlace& place : places.linker) want(place, false);
    for (const SymbolPlace& place : places.symbol) want(place, true);
  }
  for (auto& [address, breakpoint] : wanted) {
    // A library that was unloaded and loaded again has lost its own.
    std::uint8_t found = 0;
    if (!read_memory(tid, address, &found, 1)) continue;
    const auto old = set_.find(address);
    breakpoint.original = old != set_.end() && found == kTrap ? old->second.original : found;
    if (found != kTrap && !write_byte(tid, address, kTrap))
      trouble = "a breakpoint in '" + breakpoint.file + "' could not be set";
  }
  set_ = std::move(wanted);
  return trouble;
}

void Breakpoints::remove_all(pid_t tid) {
  for (const auto& [address, breakpoint] : set_) {
    std::uint8_t found = 0;
    if (read_memory(tid, address, &found, 1) && found == kTrap)
      write_byte(tid, address, breakpoint.original);
  }
}

const Breakpoint* Breakpoints::at(std::uint64_t address) const {
  const auto found = set_.find(address);
  return found == set_.end() ? nullptr : &found->second;
}

std::vector<std::string> Breakpoints::files() const {
  std::vector<std::string> files;
  for (const auto& [address, breakpoint] : set_) {
    if (breakpoint.counts) files.push_back(breakpoint.file);
  }
  return files;
}

void Breakpoints::lift(pid_t tid, std::uint64_t address) const {
  write_byte(tid, address, set_.at(address).original);
}

void Breakpoints::put_back(pid_t tid, std::uint64_t address) const {
  write_byte(tid, address, kTrap);
}

bool emulate_instruction(pid_t tid, std::uint8_t original, Registers* registers) {
  using Register = unsigned long long Registers::*;
  constexpr std::array<Register, 16> kPushed{
      &Registers::rax, &Registers::rcx, &Registers::rdx, &Registers::rbx,
      &Registers::rsp, &Registers::rbp, &Registers::rsi, &Registers::rdi,
      &Registers::r8,  &Registers::r9,  &Registers::r10, &Registers::r11,
      &Registers::r12, &Registers::r13, &Registers::r14, &Registers::r15};
  std::uint8_t rest[3] = {};
  if (!read_memory(tid, registers->rip + 1, rest, sizeof rest)) return false;
  if (original == 0xf3 && rest[0] == 0x0f && rest[1] == 0x1e && rest[2] == 0xfa) {  // endbr64
    registers->rip += 4;
    return true;
  }
  if (original == 0xc3) {  // ret
    std::uint64_t to = 0;
    if (!read_memory(tid, registers->rsp, &to, sizeof to)) return false;
    registers->rip = to;
    registers->rsp += sizeof to;
    return true;
  }
  const bool extended = original == 0x41;
  const std::uint8_t code = extended ? rest[0] : original;
  if (code < 0x50 || code > 0x57) return false;
  const std::size_t number = (extended ? 8u : 0u) + (code - 0x50u);
  const std::uint64_t value = registers->*kPushed[number];
  std::uint8_t bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  // Where the stack has no page yet it has to grow, which the processor is left to.
  std::uint64_t before = 0;
  if (!read_memory(tid, registers->rsp - sizeof value, &before, sizeof before) ||
      !poke(tid, registers->rsp - sizeof value, bytes))
    return false;
  registers->rsp -= sizeof value;
  registers->rip += extended ? 2 : 1;
  return true;
}

}  // namespace crashworthy

#include "faults/elf_symbols.h"

#if defined(CRASHWORTHY_WITH_LIBELF)
#include <cxxabi.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "harness/os/unique_fd.h"
#endif

namespace crashworthy {

#if !defined(CRASHWORTHY_WITH_LIBELF)

bool symbols_supported() { return false; }
std::vector<SymbolPlace> find_symbol(const std::string&, const std::string&) { return {}; }

#else

namespace {

struct EndElf {
  void operator()(Elf* elf) const { elf_end(elf); }
};

// "cv::resize(cv::_InputArray const&, ...)" is called cv::resize.
bool demangles_to(const char* symbol, const std::string& name) {
  if (std::strncmp(symbol, "_Z", 2) != 0) return false;
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(symbol, nullptr, nullptr, &status), std::free);
  if (status != 0) return false;
  const std::string full(text.get());
  return full.starts_with(name) && (full.size() == name.size() || full[name.size()] == '(');
}

bool is_called(const char* symbol, const std::string& name, bool cxx) {
  if (cxx) return demangles_to(symbol, name);
  // Full symbol tables write versions after the name.
  const std::size_t length = std::strcspn(symbol, "@");
  return length == name.size() && std::memcmp(symbol, name.data(), length) == 0;
}

// The place in the file of an address of its program; empty when no segment has it.
bool place_of(Elf* elf, std::uint64_t address, std::uint64_t* offset) {
  std::size_t count = 0;
  if (elf_getphdrnum(elf, &count) != 0) return false;
  for (std::size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf, static_cast<int>(i), &segment) == nullptr) continue;
    if (segment.p_type != PT_LOAD || address < segment.p_vaddr ||
        address >= segment.p_vaddr + segment.p_filesz)
      continue;
    *offset = address - segment.p_vaddr + segment.p_offset;
    return true;
  }
  return false;
}

void search_table(Elf* elf, Elf_Scn* section, const GElf_Shdr& header, const std::string& name,
                  std::vector<SymbolPlace>* places) {
  Elf_Data* data = elf_getdata(section, nullptr);
  if (data == nullptr || header.sh_entsize == 0) return;
  const bool cxx = name.find("::") != std::string::npos;
  const auto count = static_cast<int>(header.sh_size / header.sh_entsize);
  for (int i = 0; i < count; ++i) {
    GElf_Sym symbol;
    if (gelf_getsym(data, i, &symbol) == nullptr) return;
    const unsigned char type = GELF_ST_TYPE(symbol.st_info);
    if (symbol.st_shndx == SHN_UNDEF || (type != STT_FUNC && type != STT_GNU_IFUNC)) continue;
    const char* text = elf_strptr(elf, header.sh_link, symbol.st_name);
    if (text == nullptr || !is_called(text, name, cxx)) continue;
    SymbolPlace place;
    place.indirect = type == STT_GNU_IFUNC;
    if (!place_of(elf, symbol.st_value, &place.offset)) continue;
    const bool known = std::any_of(places->begin(), places->end(), [&](const SymbolPlace& other) {
      return other.offset == place.offset;
    });
    if (!known) places->push_back(place);
  }
}

}  // namespace

bool symbols_supported() { return true; }

std::vector<SymbolPlace> find_symbol(const std::string& file, const std::string& name) {
  std::vector<SymbolPlace> places;
  if (elf_version(EV_CURRENT) == EV_NONE) return places;
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return places;
  const std::unique_ptr<Elf, EndElf> elf(elf_begin(fd.get(), ELF_C_READ_MMAP, nullptr));
  if (elf == nullptr || elf_kind(elf.get()) != ELF_K_ELF) return places;
  for (Elf_Scn* section = elf_nextscn(elf.get(), nullptr); section != nullptr;
       section = elf_nextscn(elf.get(), section)) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr) continue;
    if (header.sh_type != SHT_SYMTAB && header.sh_type != SHT_DYNSYM) continue;
    search_table(elf.get(), section, header, name, &places);
  }
  return places;
}

#endif

}  // namespace crashworthy

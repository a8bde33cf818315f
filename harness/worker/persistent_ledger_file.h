// The file of a PersistentLedger: its header, its records, how it is created, opened and read.
// Private to this directory; persistent_ledger.h describes the format.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/worker/persistent_ledger.h"

namespace crashworthy::ledger_file {

struct RecordHeader {
  static constexpr std::array<char, 4> kMarker{'\xC7', 'C', 'W', 'R'};

  std::array<char, 4> marker = kMarker;
  std::uint32_t part = 0;
  std::uint64_t item = 0;
  std::int32_t outcome = 0;
  std::uint32_t size = 0;
  std::uint32_t bytes_crc = 0;
  std::uint32_t crc = 0;
};
static_assert(sizeof(RecordHeader) == 32);

// The header of `record` at `offset` of the file.
RecordHeader make_record_header(const PersistentLedger::Record& record, std::uint64_t salt,
                                std::uint64_t offset);

struct Opened {
  UniqueFd fd;
  bool created = false;
};

// Opens or creates the file and locks it.
Result<Opened> open_and_lock(const std::string& path, const PersistentLedger::Options& options);

// What the header of a ledger says.
struct Start {
  std::uint64_t salt = 0;
  std::uint64_t size = 0;  // Of the header itself: there the records begin.
};
Result<Start> read_header(int fd, const std::string& identity);

// Reads the records of a ledger through a window of the file.
class Reader {
 public:
  enum class Found { kRecord, kEnd, kBad };

  Reader(int fd, std::uint64_t salt, std::uint64_t begin, std::uint64_t end)
      : fd_(fd), salt_(salt), offset_(begin), end_(end) {}

  // Where the next record begins.
  std::uint64_t offset() const { return offset_; }

  // kBad: at offset() is something else than a whole record; offset() stays.
  Result<Found> next(PersistentLedger::Record& record);

  // Where, behind offset(), the first header of a record of this ledger is; end when there is none.
  Result<std::uint64_t> find_header();

 private:
  // The `size` bytes at `offset`, which must not pass the end; valid until the next call.
  Result<std::string_view> view(std::uint64_t offset, std::size_t size);
  bool is_header(const char* bytes, std::uint64_t offset, RecordHeader& header) const;

  int fd_;
  std::uint64_t salt_, offset_, end_;
  std::string window_;
  std::uint64_t window_begin_ = 0;
};

}  // namespace crashworthy::ledger_file

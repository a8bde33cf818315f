// What the tests of the persistent ledger share: a directory, a second reader and writer of the
// format (written from the description in persistent_ledger.h alone), and the checker.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/crc32c.h"
#include "harness/os/file.h"
#include "harness/worker/persistent_ledger.h"

namespace crashworthy::test {

using Key = PersistentLedger::Key;
using Options = PersistentLedger::Options;
using Sync = PersistentLedger::Sync;

// `full` with CRASHWORTHY_LONG, else `usual`.
inline int count_of(int usual, int full) {
  return std::getenv("CRASHWORTHY_LONG") != nullptr ? full : usual;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name =
        (std::filesystem::temp_directory_path() / "crashworthy-ledger-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// No syncs and no waiting, which most tests do not need.
inline Options quick(const std::string& identity = "test") {
  Options options;
  options.sync = Sync::kNone;
  options.identity = identity;
  options.lock_patience = {};
  return options;
}

inline Options with(Sync sync) {
  Options options = quick();
  options.sync = sync;
  return options;
}

// A record with bytes of its own.
struct Stored {
  Key key;
  std::int32_t outcome = 0;
  std::string bytes;
  friend bool operator==(const Stored&, const Stored&) = default;
};

inline std::vector<Stored> records_of(const PersistentLedger& ledger) {
  std::vector<Stored> all;
  const auto read = ledger.for_each([&](const PersistentLedger::Record& record) -> Result<void> {
    all.push_back({record.key, record.outcome, std::string(record.bytes)});
    return {};
  });
  if (!read) ADD_FAILURE() << read.error().message;
  return all;
}

inline void commit_all(PersistentLedger& ledger, const std::vector<Stored>& records) {
  for (const Stored& record : records) {
    const auto done = ledger.commit(record.key, record.outcome, record.bytes);
    if (!done) ADD_FAILURE() << done.error().message;
  }
}

inline std::string content_of(const std::filesystem::path& path) {
  auto content = read_file(path);
  return content ? *content : "unreadable: " + content.error().message;
}

inline void put(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

// --- The format, a second time. ---

template <typename T>
std::string le(T value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) {
    bytes += static_cast<char>(static_cast<std::make_unsigned_t<T>>(value) >> (8 * i) & 0xFF);
  }
  return bytes;
}

inline std::string crc_of(std::string_view bytes) { return le(crc32c(bytes.data(), bytes.size())); }

inline std::string raw_header(std::uint32_t version, std::uint64_t salt,
                              const std::string& identity) {
  const std::string start =
      "\x89"
      "CWLEDG\n" +
      le(version);
  const std::string rest = le(salt) + le(static_cast<std::uint32_t>(identity.size()));
  return start + crc_of(start) + rest + crc_of(rest + identity) + identity;
}

inline std::string raw_record(const Stored& record, std::uint64_t salt, std::uint64_t offset) {
  const std::string fields =
      "\xC7"
      "CWR" +
      le(record.key.part) + le(record.key.item) + le(record.outcome) +
      le(static_cast<std::uint32_t>(record.bytes.size())) + crc_of(record.bytes);
  return fields + crc_of(le(salt) + le(offset) + fields) + record.bytes;
}

inline std::string raw_ledger(const std::vector<Stored>& records, std::uint64_t salt = 42,
                              const std::string& identity = "test") {
  std::string file = raw_header(1, salt, identity);
  for (const Stored& record : records) file += raw_record(record, salt, file.size());
  return file;
}

// The records of a file that begins as a ledger, up to the first byte that is no whole record.
inline std::vector<Stored> raw_read(std::string_view file) {
  const auto number = [&](std::size_t offset, std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) {
      value = value << 8 | static_cast<unsigned char>(file[offset + i]);
    }
    return value;
  };
  std::vector<Stored> all;
  if (file.size() < 32) return all;
  const std::uint64_t salt = number(16, 8);
  std::size_t offset = 32 + number(24, 4);
  while (offset + 32 <= file.size() && offset + 32 + number(offset + 20, 4) <= file.size()) {
    Stored record{{number(offset + 8, 8), static_cast<std::uint32_t>(number(offset + 4, 4))},
                  static_cast<std::int32_t>(number(offset + 16, 4)),
                  std::string(file.substr(offset + 32, number(offset + 20, 4)))};
    const std::string whole = raw_record(record, salt, offset);
    if (file.substr(offset, whole.size()) != whole) break;
    offset += whole.size();
    all.push_back(std::move(record));
  }
  return all;
}

// --- The checker. ---

// What a run that commits items 0, 1, ... puts into each.
inline Stored expected(std::uint64_t item) {
  // Empty, small, and over the borders of pages, where the kernel may stop a killed writer.
  const std::size_t size = item % 3 == 0 ? item % 100 : item * 7919 % 40'000;
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(item + i * i);
  return {{item, static_cast<std::uint32_t>(item % 4)},
          static_cast<std::int32_t>(item % 7) - 3,
          std::move(bytes)};
}

// What is wrong with a ledger's records, given how many of the items 0, 1, ... were acknowledged:
// one line each, empty when nothing is. One more item may have been in flight.
inline std::vector<std::string> problems(const std::vector<Stored>& records,
                                         std::uint64_t acknowledged) {
  std::vector<std::string> found;
  std::map<std::uint64_t, int> times;
  for (const Stored& record : records) {
    const std::string name = "item " + std::to_string(record.key.item);
    if (++times[record.key.item] > 1) found.push_back(name + " is doubled");
    if (record != expected(record.key.item)) found.push_back(name + " is wrong");
    if (record.key.item > acknowledged) found.push_back(name + " is too early");
  }
  for (std::uint64_t item = 0; item < acknowledged; ++item) {
    if (times.count(item) == 0) found.push_back("item " + std::to_string(item) + " is lost");
  }
  return found;
}

}  // namespace crashworthy::test

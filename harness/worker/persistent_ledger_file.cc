#include "harness/worker/persistent_ledger_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "harness/os/clock.h"
#include "harness/os/crc32c.h"
#include "harness/os/file.h"

namespace crashworthy::ledger_file {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is little-endian");

constexpr std::array<char, 8> kMagic{'\x89', 'C', 'W', 'L', 'E', 'D', 'G', '\n'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kChunk = std::size_t{256} << 10;  // Read at once.
constexpr int kMaxOpenAttempts = 16;
constexpr auto kLockInterval = std::chrono::milliseconds(5);

struct FileHeader {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t start_crc = 0;
  std::uint64_t salt = 0;
  std::uint32_t identity_size = 0;
  std::uint32_t crc = 0;
};
static_assert(sizeof(FileHeader) == 32);

std::uint32_t checksum(std::string_view bytes) { return crc32c(bytes.data(), bytes.size()); }

std::uint32_t start_checksum(const FileHeader& header) {
  return crc32c(&header, offsetof(FileHeader, start_crc));
}

std::uint32_t header_checksum(const FileHeader& header, std::string_view identity) {
  const std::size_t size = offsetof(FileHeader, crc) - offsetof(FileHeader, salt);
  std::string covered(reinterpret_cast<const char*>(&header.salt), size);
  return checksum(covered.append(identity));
}

std::uint32_t record_checksum(const RecordHeader& header, std::uint64_t salt,
                              std::uint64_t offset) {
  std::array<char, 2 * sizeof(std::uint64_t) + offsetof(RecordHeader, crc)> covered;
  std::memcpy(covered.data(), &salt, sizeof salt);
  std::memcpy(covered.data() + sizeof salt, &offset, sizeof offset);
  std::memcpy(covered.data() + 2 * sizeof salt, &header, offsetof(RecordHeader, crc));
  return crc32c(covered.data(), covered.size());
}

// --- Opening. ---

// An empty UniqueFd when there is no such file.
Result<UniqueFd> open_existing(const std::string& path) {
  const auto look = [&](const struct stat& info) -> Result<void> {
    if (S_ISREG(info.st_mode)) return {};
    return usage_error(std::string(S_ISDIR(info.st_mode) ? "a directory" : "no regular file") +
                           " cannot be a ledger",
                       "give the path of a file, which need not exist yet");
  };
  struct stat info {};
  // Looked at before, since opening a device or a FIFO may already do something to it.
  if (::stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return UniqueFd();
    return system_error("inspect", errno);
  }
  if (auto seen = look(info); !seen) return seen.error();
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.valid()) {
    if (errno == ENOENT) return UniqueFd();
    return system_error("open for reading and writing", errno);
  }
  if (::fstat(fd.get(), &info) != 0) return system_error("inspect", errno);
  if (auto seen = look(info); !seen) return seen.error();
  return fd;
}

// The lock belongs to the open file: it goes with the last descriptor, so even SIGKILL releases it.
Result<void> lock(int fd, std::chrono::nanoseconds patience) {
  const std::int64_t until = now_ns() + patience.count();
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return system_error("lock", errno);
    if (now_ns() >= until) {
      return usage_error("another run has it",
                         "wait for that run, or end it; fuser(1) on the file names its processes");
    }
    std::this_thread::sleep_for(kLockInterval);
  }
  return {};
}

// False when `path` has got another file, or none, since `fd` was opened.
bool is_still_at(int fd, const std::string& path) {
  struct stat opened {};
  struct stat named {};
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

// Gives the file its name unless that is taken (EEXIST). rename(2) would replace another run's
// ledger.
bool publish(const std::string& temporary, const std::string& path) {
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0) {
    return true;
  }
  if (errno != EINVAL) return false;  // Else a file system without it, such as NFS.
  return ::link(temporary.c_str(), path.c_str()) == 0 && ::unlink(temporary.c_str()) == 0;
}

Result<void> sync_directory(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const UniqueFd fd(
      ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return system_error("open its directory", errno);
  // EINVAL: the file system has nothing to sync there.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return system_error("sync its directory", errno);
  return {};
}

Result<std::string> new_header(const std::string& identity) {
  FileHeader header;
  // No part of any experiment's chance: two ledgers must differ, though all else be the same.
  if (::getrandom(&header.salt, sizeof header.salt, 0) != sizeof header.salt) {
    return system_error("get random bytes", errno);
  }
  header.identity_size = static_cast<std::uint32_t>(identity.size());
  header.start_crc = start_checksum(header);
  header.crc = header_checksum(header, identity);
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + identity;
}

// A new ledger without records, locked; an empty UniqueFd when `path` exists by now.
Result<UniqueFd> create(const std::string& path, const PersistentLedger::Options& options) {
  const auto header = new_header(options.identity);
  if (!header) return header.error();
  std::string temporary = path + ".XXXXXX";
  UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid()) {
    Error error = system_error("create a file in its directory", errno);
    error.hint = "the directory must exist and be writable";
    return error;
  }
  const auto fail = [&](Error error) {
    ::unlink(temporary.c_str());
    return error;
  };
  // Locked before it has its name, so that nobody else gets between.
  if (auto locked = lock(fd.get(), {}); !locked) return fail(locked.error());
  if (auto written = write_all(fd.get(), *header); !written) return fail(written.error());
  if (::fsync(fd.get()) != 0) return fail(system_error("sync", errno));
  if (!publish(temporary, path)) {
    if (errno != EEXIST) return fail(system_error("create", errno));
    ::unlink(temporary.c_str());
    return UniqueFd();
  }
  if (auto synced = sync_directory(path); !synced) return synced.error();
  return fd;
}

// --- The header. ---

Error damaged_header(const char* how) {
  Error error = corrupt_error(how);
  error.hint = "put a copy of it back, or remove it to begin anew";
  return error;
}

// Whose ledger it is, in an error: what can be printed of the identity.
std::string printable(std::string_view identity) {
  constexpr std::size_t kShown = 80;
  std::string shown(identity.substr(0, kShown));
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char c) { return c < ' ' || c > '~'; }, '?');
  return "'" + shown + "'" + (identity.size() > kShown ? "..." : "");
}

// `start` is the file's beginning, of the greatest size that a header may have.
Result<Start> check_header(std::string_view start, const std::string& identity) {
  const std::string_view magic(kMagic.data(), kMagic.size());
  if (start.empty() || start.substr(0, magic.size()) != magic.substr(0, start.size())) {
    return usage_error(start.empty() ? "it is empty, which a ledger never is"
                                     : "it is something else than a ledger",
                       "remove it to begin anew, or give another path");
  }
  FileHeader header;
  std::memcpy(&header, start.data(), std::min(start.size(), sizeof header));
  if (start.size() < offsetof(FileHeader, salt))
    return damaged_header("it is cut off within its header");
  if (header.start_crc != start_checksum(header)) return damaged_header("its header is damaged");
  if (header.version != kVersion) {
    return usage_error("its format has version " + std::to_string(header.version) +
                           "; this program knows version " + std::to_string(kVersion),
                       "go on with the program that made it, or give another path");
  }
  if (start.size() < sizeof header) return damaged_header("it is cut off within its header");
  // Before the checksum is right the size may be anything: substr takes at most what there is.
  const std::string_view found = start.substr(sizeof header, header.identity_size);
  if (header.crc != header_checksum(header, found)) return damaged_header("its header is damaged");
  if (found != identity) {
    return usage_error(
        "it belongs to another run: " + printable(found) + " rather than " + printable(identity),
        "repeat what that run was given, or give another path");
  }
  return Start{header.salt, sizeof header + found.size()};
}

}  // namespace

// Again when another process creates or removes the file meanwhile.
Result<Opened> open_and_lock(const std::string& path, const PersistentLedger::Options& options) {
  for (int attempt = 0; attempt < kMaxOpenAttempts; ++attempt) {
    auto existing = open_existing(path);
    if (!existing) return existing.error();
    if (existing->valid()) {
      if (auto locked = lock(existing->get(), options.lock_patience); !locked) {
        return locked.error();
      }
      if (is_still_at(existing->get(), path)) return Opened{std::move(*existing), false};
    } else {
      auto fresh = create(path, options);
      if (!fresh) return fresh.error();
      if (fresh->valid()) return Opened{std::move(*fresh), true};
    }
  }
  return usage_error("it comes and goes while it is opened",
                     "if it is a symbolic link, it must lead to a file");
}

Result<Start> read_header(int fd, const std::string& identity) {
  std::string start(sizeof(FileHeader) + PersistentLedger::kMaxIdentity, '\0');
  const ssize_t count = ::pread(fd, start.data(), start.size(), 0);
  if (count < 0) return system_error("read", errno);
  start.resize(static_cast<std::size_t>(count));
  return check_header(start, identity);
}

// --- Records. ---

RecordHeader make_record_header(const PersistentLedger::Record& record, std::uint64_t salt,
                                std::uint64_t offset) {
  RecordHeader header;
  header.item = record.key.item;
  header.part = record.key.part;
  header.outcome = record.outcome;
  header.size = static_cast<std::uint32_t>(record.bytes.size());
  header.bytes_crc = checksum(record.bytes);
  header.crc = record_checksum(header, salt, offset);
  return header;
}

Result<std::string_view> Reader::view(std::uint64_t offset, std::size_t size) {
  if (offset < window_begin_ || offset + size > window_begin_ + window_.size()) {
    window_.resize(std::min<std::uint64_t>(std::max(size, kChunk), end_ - offset));
    window_begin_ = offset;
    std::size_t done = 0;
    while (done < window_.size()) {
      const ssize_t count = ::pread(fd_, window_.data() + done, window_.size() - done,
                                    static_cast<off_t>(offset + done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return system_error("read", errno);
      if (count == 0) return corrupt_error("somebody else has made it shorter");
      done += static_cast<std::size_t>(count);
    }
  }
  return std::string_view(window_).substr(offset - window_begin_, size);
}

bool Reader::is_header(const char* bytes, std::uint64_t offset, RecordHeader& header) const {
  std::memcpy(&header, bytes, sizeof header);
  return header.marker == RecordHeader::kMarker && header.size <= PersistentLedger::kMaxBytes &&
         header.crc == record_checksum(header, salt_, offset);
}

Result<Reader::Found> Reader::next(PersistentLedger::Record& record) {
  if (offset_ == end_) return Found::kEnd;
  RecordHeader header;
  if (end_ - offset_ < sizeof header) return Found::kBad;
  const auto start = view(offset_, sizeof header);
  if (!start) return start.error();
  if (!is_header(start->data(), offset_, header)) return Found::kBad;
  const std::uint64_t behind = offset_ + sizeof header + header.size;
  if (behind > end_) return Found::kBad;
  const auto bytes = view(offset_ + sizeof header, header.size);
  if (!bytes) return bytes.error();
  if (checksum(*bytes) != header.bytes_crc) return Found::kBad;
  record = {{header.item, header.part}, header.outcome, *bytes};
  offset_ = behind;
  return Found::kRecord;
}

Result<std::uint64_t> Reader::find_header() {
  RecordHeader header;
  std::uint64_t from = offset_ + 1;
  while (from + sizeof header <= end_) {
    const std::size_t size = std::min<std::uint64_t>(kChunk, end_ - from);
    const auto here = view(from, size);
    if (!here) return here.error();
    const std::string_view marker(RecordHeader::kMarker.data(), RecordHeader::kMarker.size());
    std::size_t at = here->find(marker);
    for (; at != std::string_view::npos && at + sizeof header <= size;
         at = here->find(marker, at + 1)) {
      if (is_header(here->data() + at, from + at, header)) return from + at;
    }
    from += size - (sizeof header - 1);  // A header may lie across the border.
  }
  return end_;
}

}  // namespace crashworthy::ledger_file

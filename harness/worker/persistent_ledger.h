// PersistentLedger: which items have been committed, with their results, in a file that only grows.
// Whatever kills the processes, and whenever, the next run opens the file and goes on: nothing that
// was committed is lost, and nothing is committed twice.
//
// The file, little-endian, without padding:
//
//   header    8  magic "\x89" "CWLEDG\n"
//             4  version, 1
//             4  CRC-32C of these 12 bytes; so far the same in every version
//             8  salt, random for each file
//             4  size of the identity
//             4  CRC-32C of salt, size of the identity, identity
//             n  identity
//   records   4  marker "\xC7" "CWR"
//             4  part
//             8  item
//             4  outcome
//             4  size of the bytes
//             4  CRC-32C of the bytes
//             4  CRC-32C of salt, offset of this record in the file (8), the 28 bytes above
//             n  bytes
//
// Salt and offset make a record valid in its own place only: neither bytes that look like a record
// nor what a file system shows of a deleted ledger after a power cut can be taken for one.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// One thread of the process that opened it uses a PersistentLedger. The destructor closes the file
// and syncs nothing.
class PersistentLedger {
 public:
  static constexpr std::size_t kMaxIdentity = 4096;
  static constexpr std::size_t kMaxBytes = std::size_t{64} << 20;  // Of one record.

  struct Key {
    std::uint64_t item = 0;
    std::uint32_t part = 0;
    friend bool operator==(const Key&, const Key&) = default;
  };

  struct Record {
    Key key;
    std::int32_t outcome = 0;
    std::string_view bytes;  // Valid during the visit.
  };

  // What a commit survives. All of them survive the death of every process.
  enum class Sync {
    kNone,   // Nothing more.
    kBatch,  // A power cut costs at most the last batch.
    kEach    // A power cut as well.
  };

  struct Options {
    Sync sync = Sync::kBatch;
    // kBatch: the commit that fills the batch syncs it, and so does the first one `batch_time`
    // after the batch's first. Between commits see sync_due_ns().
    std::uint32_t batch_commits = 256;
    std::chrono::nanoseconds batch_time = std::chrono::milliseconds(100);
    // What the run is, such as a hash of its inputs; at most kMaxIdentity bytes.
    std::string identity;
    // How long to wait for a lock that is held: what a killed run has forked may outlive it by a
    // moment and hold its lock until then.
    std::chrono::nanoseconds lock_patience = std::chrono::seconds(1);
    std::int64_t (*clock)() = now_ns;  // For the batches.
  };

  // Opens the ledger `path`, or creates it (mode 0600, whole or not at all; a death meanwhile may
  // leave `path`.XXXXXX, which nobody reads). It stays locked against other processes, and other
  // PersistentLedgers of this one, until this object and all inherited copies of its descriptor
  // are gone. A record that is cut off at the end, as by a crash, is removed: cut_bytes() tells.
  //
  // Fails, with no record touched, with
  // - kUsage: somebody else has it; it was made for another identity, by a newer version, or is
  //   something else than a ledger;
  // - kCorrupt: it is damaged before its last record, or within its header; the hint says how to
  //   keep what is before the damage. After a power cut this may also be the disk's having written
  //   the records that were not synced in another order;
  // - kSystem: a system call failed; `sys_errno` has ENOENT, EACCES, EROFS, ENOSPC, ...
  static Result<PersistentLedger> open(const std::filesystem::path& path, const Options& options);

  bool committed(const Key& key) const { return keys_.contains(key); }
  std::size_t size() const { return keys_.size(); }

  // Appends the record by one write. Committing a committed key is a bug (the program stops).
  //
  // On failure (disk full, for one) nothing is committed, what was committed before stays, and the
  // file ends behind its last record, so that the commit may be tried again. Not so when a sync, or
  // the removal of half a record, fails, or when somebody has removed the file or changed its size:
  // nobody knows then what the disk holds, every later commit fails alike, and only the next open()
  // tells whether this record is there.
  Result<void> commit(const Key& key, std::int32_t outcome, std::string_view bytes = {});

  // Waits until all that is committed is on the disk, whatever the Sync. Fails as commit() does.
  Result<void> flush();

  // kBatch: when (in the clock's time) flush() should be called if no commit comes before; empty
  // when there is nothing to sync.
  std::optional<std::int64_t> sync_due_ns() const;

  // Reads the records again from the file, in the order of their commits, and checks them again.
  // Holds one at a time in memory. Ends early with the error that `visit` returns.
  using Visitor = std::function<Result<void>(const Record&)>;
  Result<void> for_each(const Visitor& visit) const;

  bool created() const { return created_; }               // open() found no file.
  std::uint64_t cut_bytes() const { return cut_bytes_; }  // open() removed so many at the end.
  std::size_t memory() const { return keys_.memory(); }   // Bytes that hold the keys.

  // In a forked child: closes the descriptor, so that the lock ends with the parent. The object is
  // of no further use.
  void forget();

  // Whether the process `pid` has the file open: one that inherited it has the lock, too. False for
  // a process that we may not look at.
  bool is_open_in(pid_t pid) const;

 private:
  // A flat hash set, 16 to 24 bytes a key.
  class KeySet {
   public:
    bool contains(const Key& key) const;
    void insert(const Key& key);  // Which it does not contain.
    std::size_t size() const { return size_; }
    std::size_t memory() const { return slots_.capacity() * sizeof(Slot); }

   private:
    struct Slot {  // A Key without its padding.
      std::uint32_t low, high, part;
      friend bool operator==(const Slot&, const Slot&) = default;
    };
    static constexpr Slot kEmpty{0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF};
    static Slot slot_of(const Key& key);
    std::size_t place_of(const Slot& slot) const;
    void grow();

    std::vector<Slot> slots_;
    std::size_t size_ = 0;
    bool has_empty_ = false;  // The key that looks as kEmpty is contained.
  };

  PersistentLedger(UniqueFd fd, std::string path, const Options& options);
  Result<void> load();
  Result<void> load_records(std::uint64_t file_size);
  Result<void> append(const Key& key, std::int32_t outcome, std::string_view bytes);
  Result<void> sync_if_due();
  Result<void> inspect();
  Result<void> sync();
  void remove_tail();

  UniqueFd fd_;
  std::string path_;
  Options options_;
  pid_t owner_;
  KeySet keys_;
  std::uint64_t salt_ = 0;
  std::uint64_t begin_ = 0;     // Of the records.
  std::uint64_t end_ = 0;       // Of the last whole record.
  std::uint64_t unsynced_ = 0;  // Commits.
  std::int64_t batch_began_ns_ = 0;
  std::optional<Error> failure_;  // Set once: nothing is committed any more.
  bool created_ = false;
  std::uint64_t cut_bytes_ = 0;
};

}  // namespace crashworthy

#include "harness/worker/persistent_ledger.h"

#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "harness/worker/persistent_ledger_file.h"

namespace crashworthy {

using ledger_file::Reader;
using ledger_file::RecordHeader;

// --- The set of keys. ---

PersistentLedger::KeySet::Slot PersistentLedger::KeySet::slot_of(const Key& key) {
  return {static_cast<std::uint32_t>(key.item), static_cast<std::uint32_t>(key.item >> 32),
          key.part};
}

// Where `slot` is, or the empty place where it would go. There is always an empty one.
std::size_t PersistentLedger::KeySet::place_of(const Slot& slot) const {
  std::uint64_t hash = slot.low | std::uint64_t{slot.high} << 32;
  hash = (hash ^ hash >> 30) * 0xBF58476D1CE4E5B9u + slot.part;  // SplitMix64's mixing.
  hash = (hash ^ hash >> 27) * 0x94D049BB133111EBu;
  hash ^= hash >> 31;
  // The share hash / 2^32 of the places, which need not be a power of two.
  std::size_t place = (hash >> 32) * slots_.size() >> 32;
  while (slots_[place] != slot && slots_[place] != kEmpty) {
    if (++place == slots_.size()) place = 0;
  }
  return place;
}

bool PersistentLedger::KeySet::contains(const Key& key) const {
  const Slot slot = slot_of(key);
  if (slot == kEmpty) return has_empty_;
  return !slots_.empty() && slots_[place_of(slot)] == slot;
}

void PersistentLedger::KeySet::insert(const Key& key) {
  const Slot slot = slot_of(key);
  if (slot == kEmpty) {
    has_empty_ = true;
  } else {
    if ((size_ + 1) * 4 > slots_.size() * 3) grow();
    slots_[place_of(slot)] = slot;
  }
  ++size_;
}

// By half, and at most three quarters are used: 12 bytes a place become 16 to 24 a key.
void PersistentLedger::KeySet::grow() {
  constexpr std::size_t kFirst = 64;
  const std::size_t size = std::max(kFirst, slots_.size() + slots_.size() / 2);
  CRASHWORTHY_CHECK(size < std::size_t{1} << 32, size);
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(size, kEmpty));
  for (const Slot& slot : old) {
    if (slot != kEmpty) slots_[place_of(slot)] = slot;
  }
}

// --- The ledger. ---

PersistentLedger::PersistentLedger(UniqueFd fd, std::string path, const Options& options)
    : fd_(std::move(fd)), path_(std::move(path)), options_(options), owner_(::getpid()) {}

Result<PersistentLedger> PersistentLedger::open(const std::filesystem::path& path,
                                                const Options& options) {
  const std::string context = "open ledger '" + path.string() + "'";
  if (options.identity.size() > kMaxIdentity) {
    return usage_error(
        context + ": the identity is longer than " + std::to_string(kMaxIdentity) + " bytes",
        "give a hash of it");
  }
  auto opened = ledger_file::open_and_lock(path.string(), options);
  if (!opened) return opened.error().with_context(context);
  PersistentLedger ledger(std::move(opened->fd), path.string(), options);
  ledger.created_ = opened->created;
  if (auto loaded = ledger.load(); !loaded) return loaded.error().with_context(context);
  return ledger;
}

Result<void> PersistentLedger::load() {
  struct stat info {};
  if (::fstat(fd_.get(), &info) != 0) return system_error("inspect", errno);
  const auto file_size = static_cast<std::uint64_t>(info.st_size);
  const auto header = ledger_file::read_header(fd_.get(), options_.identity);
  if (!header) return header.error();
  salt_ = header->salt;
  begin_ = end_ = header->size;
  if (auto loaded = load_records(file_size); !loaded) return loaded;
  if (end_ < file_size) {
    if (::ftruncate(fd_.get(), static_cast<off_t>(end_)) != 0) {
      return system_error("remove the record that is cut off", errno);
    }
    cut_bytes_ = file_size - end_;
  }
  // What the last run left unsynced counts as committed from now on.
  if (options_.sync != Sync::kNone) return sync();
  return {};
}

// Takes in all whole records, and makes sure that what follows is no more than half a record.
Result<void> PersistentLedger::load_records(std::uint64_t file_size) {
  const auto damaged = [&](const std::string& what) {
    Error error = corrupt_error("it is damaged at byte " + std::to_string(end_) + ": " + what);
    error.hint = "to keep the " + std::to_string(size()) +
                 " records before that and do the others again: truncate -s " +
                 std::to_string(end_) + " '" + path_ + "'";
    return error;
  };
  Reader reader(fd_.get(), salt_, begin_, file_size);
  while (true) {
    Record record;
    const auto found = reader.next(record);
    if (!found) return found.error();
    if (*found != Reader::Found::kRecord) break;
    if (committed(record.key)) {
      return damaged("item " + std::to_string(record.key.item) + " part " +
                     std::to_string(record.key.part) + " is there a second time");
    }
    keys_.insert(record.key);
    end_ = reader.offset();
  }
  if (end_ == file_size) return {};
  const auto next = reader.find_header();
  if (!next) return next.error();
  if (*next != file_size) {
    return damaged("no whole record is there, but one begins at byte " + std::to_string(*next));
  }
  if (file_size - end_ > sizeof(RecordHeader) + kMaxBytes) {
    return damaged("what is there is more than half a record");
  }
  return {};
}

Result<void> PersistentLedger::commit(const Key& key, std::int32_t outcome,
                                      std::string_view bytes) {
  CRASHWORTHY_CHECK(!committed(key), key.item, key.part);
  // A forked child has the same file, but not what others append to it.
  CRASHWORTHY_CHECK(fd_.valid() && ::getpid() == owner_, owner_);
  const auto context = [&] {
    return "commit item " + std::to_string(key.item) + " part " + std::to_string(key.part) +
           " to ledger '" + path_ + "'";
  };
  if (failure_) return failure_->with_context(context());
  if (bytes.size() > kMaxBytes) {
    return usage_error(context() + ": " + std::to_string(bytes.size()) + " bytes are more than " +
                           std::to_string(kMaxBytes),
                       "write them to a file of their own, and commit its name");
  }
  if (auto same = inspect(); !same) return same.error().with_context(context());
  const std::uint64_t before = end_;
  auto done = append(key, outcome, bytes);
  if (done) done = sync_if_due();
  if (!done) {
    end_ = before;
    remove_tail();
    return done.error().with_context(context());
  }
  keys_.insert(key);
  return {};
}

Result<void> PersistentLedger::append(const Key& key, std::int32_t outcome,
                                      std::string_view bytes) {
  RecordHeader header = ledger_file::make_record_header({key, outcome, bytes}, salt_, end_);
  std::array<iovec, 2> rest{
      {{&header, sizeof header}, {const_cast<char*>(bytes.data()), bytes.size()}}};
  // One write, unless the kernel takes a part of it only: then the next says why, or takes the
  // rest.
  while (rest[0].iov_len + rest[1].iov_len > 0) {
    const ssize_t count = ::pwritev(fd_.get(), rest.data(), rest.size(), static_cast<off_t>(end_));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return system_error("append", count < 0 ? errno : EIO);
    end_ += static_cast<std::size_t>(count);
    std::size_t written = static_cast<std::size_t>(count);
    for (iovec& part : rest) {
      const std::size_t here = std::min(written, part.iov_len);
      part.iov_base = static_cast<char*>(part.iov_base) + here;
      part.iov_len -= here;
      written -= here;
    }
  }
  return {};
}

// After a record was appended.
Result<void> PersistentLedger::sync_if_due() {
  if (options_.sync == Sync::kNone) return {};
  if (options_.sync == Sync::kEach) return sync();
  const std::int64_t now = options_.clock();
  if (unsynced_ == 0) batch_began_ns_ = now;
  ++unsynced_;
  if (unsynced_ < options_.batch_commits && now < *sync_due_ns()) return {};
  return sync();
}

// Whether the file still is what we have made of it. Nobody else has it, but names can be removed,
// and files cut, without asking.
Result<void> PersistentLedger::inspect() {
  struct stat info {};
  if (::fstat(fd_.get(), &info) != 0) {
    failure_ = system_error("inspect", errno);
  } else if (info.st_nlink == 0) {
    failure_ = Error{ErrorKind::kGone, 0, "somebody else has removed it", {}};
  } else if (static_cast<std::uint64_t>(info.st_size) != end_) {
    failure_ = corrupt_error("somebody else has changed its size");
  } else {
    return {};
  }
  return *failure_;
}

Result<void> PersistentLedger::sync() {
  if (auto same = inspect(); !same) return same;
  if (::fdatasync(fd_.get()) != 0) {
    // The kernel may drop what it could not write and report success the next time: no second try.
    failure_ = system_error("sync", errno);
    return *failure_;
  }
  unsynced_ = 0;
  return {};
}

// Removes what a failed commit left behind the last record. Nothing, if the file ends before that.
void PersistentLedger::remove_tail() {
  struct stat info {};
  if (::fstat(fd_.get(), &info) == 0 && static_cast<std::uint64_t>(info.st_size) <= end_) return;
  if (::ftruncate(fd_.get(), static_cast<off_t>(end_)) != 0 && !failure_) {
    failure_ = system_error("remove half a record", errno);
  }
}

Result<void> PersistentLedger::flush() {
  const std::string context = "flush ledger '" + path_ + "'";
  if (failure_) return failure_->with_context(context);
  if (auto synced = sync(); !synced) return synced.error().with_context(context);
  return {};
}

std::optional<std::int64_t> PersistentLedger::sync_due_ns() const {
  if (options_.sync != Sync::kBatch || unsynced_ == 0) return std::nullopt;
  return batch_began_ns_ + options_.batch_time.count();
}

Result<void> PersistentLedger::for_each(const Visitor& visit) const {
  const std::string context = "read ledger '" + path_ + "'";
  Reader reader(fd_.get(), salt_, begin_, end_);
  while (true) {
    Record record;
    const std::uint64_t offset = reader.offset();
    const auto found = reader.next(record);
    if (!found) return found.error().with_context(context);
    if (*found == Reader::Found::kEnd) return {};
    if (*found == Reader::Found::kBad) {
      return corrupt_error(context + ": it has been damaged at byte " + std::to_string(offset) +
                           " since it was opened");
    }
    if (auto visited = visit(record); !visited) return visited;
  }
}

void PersistentLedger::forget() {
  fd_.reset();
  keys_ = {};
}

bool PersistentLedger::is_open_in(pid_t pid) const {
  struct stat ours {
  }, theirs{};
  if (::fstat(fd_.get(), &ours) != 0) return false;
  std::error_code unseen;
  const std::filesystem::path all = "/proc/" + std::to_string(pid) + "/fd";
  for (std::filesystem::directory_iterator each(all, unseen), end; each != end;
       each.increment(unseen)) {
    if (::stat(each->path().c_str(), &theirs) == 0 && theirs.st_dev == ours.st_dev &&
        theirs.st_ino == ours.st_ino) {
      return true;
    }
  }
  return false;
}

}  // namespace crashworthy

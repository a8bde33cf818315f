// The persistent ledger under system calls that fail or do half of what they should, on full and
// read-only disks, and when its file is replaced while it is opened.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <utility>

#include "harness/os/wait_status.h"
#include "harness/worker/persistent_ledger.h"
#include "harness/worker/persistent_ledger_test_util.h"

namespace crashworthy::test {
namespace {

// What the system calls of this program do, and how often they were made.
struct Kernel {
  std::size_t space = SIZE_MAX;      // So many bytes are written, then ENOSPC.
  std::size_t at_a_time = SIZE_MAX;  // No write takes more.
  int interrupts = 0;                // So many writes fail with EINTR first.
  int sync_errno = 0;
  int truncate_errno = 0;
  bool has_noreplace = true;
  std::function<void()> at_lock;  // Runs once, before the file is locked.
  int writes = 0;
  int syncs = 0;
  int truncates = 0;
};
Kernel kernel;

ssize_t write_some(int fd, const iovec* parts, int count, off_t offset) {
  std::string all;
  for (int i = 0; i < count; ++i) {
    all.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
  }
  const std::size_t size = std::min({all.size(), kernel.at_a_time, kernel.space});
  if (size == 0 && !all.empty()) {
    errno = ENOSPC;
    return -1;
  }
  if (kernel.space != SIZE_MAX) kernel.space -= size;
  return ::syscall(SYS_pwrite64, fd, all.data(), size, offset);
}

int fails_with(int number) {
  errno = number;
  return -1;
}

}  // namespace
}  // namespace crashworthy::test

// In place of libc's, for this whole program.
using crashworthy::test::fails_with;
using crashworthy::test::kernel;
extern "C" ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  ++kernel.writes;
  if (kernel.interrupts > 0) {
    --kernel.interrupts;
    return fails_with(EINTR);
  }
  const bool usual = kernel.space == SIZE_MAX && kernel.at_a_time == SIZE_MAX;
  if (!usual) return crashworthy::test::write_some(fd, parts, count, offset);
  return ::syscall(SYS_pwritev, fd, parts, count, offset, 0);
}
extern "C" int fdatasync(int fd) {
  ++kernel.syncs;
  if (kernel.sync_errno != 0) return fails_with(kernel.sync_errno);
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}
extern "C" int ftruncate(int fd, off_t size) noexcept {
  ++kernel.truncates;
  if (kernel.truncate_errno != 0) return fails_with(kernel.truncate_errno);
  return static_cast<int>(::syscall(SYS_ftruncate, fd, size));
}
extern "C" int flock(int fd, int operation) noexcept {
  if (const auto first = std::exchange(kernel.at_lock, nullptr)) first();
  return static_cast<int>(::syscall(SYS_flock, fd, operation));
}
extern "C" int renameat2(int from_dir, const char* from, int to_dir, const char* to,
                         unsigned flags) noexcept {
  if (!kernel.has_noreplace) return fails_with(EINVAL);
  return static_cast<int>(::syscall(SYS_renameat2, from_dir, from, to_dir, to, flags));
}

namespace crashworthy::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

std::int64_t fake_time = 0;
std::int64_t fake_clock() { return fake_time; }

const std::vector<Stored> kTwo{{{1, 0}, 0, "the first one"}, {{2, 0}, 0, ""}};
const Stored kThird{{3, 1}, 7, "the third one"};

class LedgerFault : public ::testing::Test {
 protected:
  LedgerFault() { kernel = {}; }
  ~LedgerFault() override { kernel = {}; }

  // A ledger with kTwo.
  PersistentLedger make(const Options& options) {
    auto ledger = PersistentLedger::open(path_, options);
    EXPECT_TRUE(ledger) << ledger.error().message;
    commit_all(*ledger, kTwo);
    return std::move(*ledger);
  }
  Result<void> commit_third(PersistentLedger& ledger) {
    return ledger.commit(kThird.key, kThird.outcome, kThird.bytes);
  }
  void expect_file_has_two() {
    EXPECT_EQ(raw_read(content_of(path_)), kTwo);
    EXPECT_EQ(content_of(path_).size(), whole_);
  }
  // Closes it; then the file has kTwo and kThird.
  void expect_three_after(PersistentLedger ledger) {
    { const PersistentLedger closed = std::move(ledger); }
    auto again = PersistentLedger::open(path_, quick());
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(again->cut_bytes(), 0u);
    EXPECT_EQ(records_of(*again), (std::vector<Stored>{kTwo[0], kTwo[1], kThird}));
  }

  TemporaryDirectory directory_;
  fs::path path_ = directory_ / "ledger";
  const std::size_t whole_ = raw_ledger(kTwo).size();
  const std::size_t third_ = 32 + kThird.bytes.size();
};

// --- System calls. ---

TEST_F(LedgerFault, ACommitIsOneWrite) {
  auto ledger = make(quick());
  EXPECT_EQ(kernel.writes, 2);
  EXPECT_EQ(kernel.truncates, 0);
}

TEST_F(LedgerFault, EachSyncsEachCommit) {
  auto ledger = make(with(Sync::kEach));
  EXPECT_EQ(kernel.syncs, 1 + 2);  // One by open().
  EXPECT_EQ(ledger.sync_due_ns(), std::nullopt);
}

TEST_F(LedgerFault, NoneSyncsNothingUnlessAsked) {
  auto ledger = make(quick());
  EXPECT_EQ(kernel.syncs, 0);
  EXPECT_EQ(ledger.sync_due_ns(), std::nullopt);
  EXPECT_TRUE(ledger.flush());
  EXPECT_EQ(kernel.syncs, 1);
}

TEST_F(LedgerFault, BatchSyncsByNumberByTimeAndWhenAsked) {
  Options options = with(Sync::kBatch);
  options.batch_commits = 3;
  options.batch_time = 100ns;
  options.clock = fake_clock;
  fake_time = 1'000;
  auto ledger = PersistentLedger::open(path_, options);
  ASSERT_TRUE(ledger);
  kernel.syncs = 0;
  std::uint64_t item = 0;
  const auto syncs_after_commit_at = [&](std::int64_t time) {
    fake_time = time;
    EXPECT_TRUE(ledger->commit({item++, 0}, 0));
    return std::exchange(kernel.syncs, 0);
  };
  EXPECT_EQ(ledger->sync_due_ns(), std::nullopt);
  EXPECT_EQ(syncs_after_commit_at(1'000), 0);
  EXPECT_EQ(syncs_after_commit_at(1'099), 0);
  EXPECT_EQ(ledger->sync_due_ns(), 1'100);
  EXPECT_EQ(syncs_after_commit_at(1'099), 1);  // The third.
  EXPECT_EQ(ledger->sync_due_ns(), std::nullopt);
  EXPECT_EQ(syncs_after_commit_at(2'000), 0);
  EXPECT_EQ(syncs_after_commit_at(2'100), 1);  // Its time.
  EXPECT_EQ(syncs_after_commit_at(2'100), 0);
  EXPECT_TRUE(ledger->flush());
  EXPECT_EQ(std::exchange(kernel.syncs, 0), 1);
  EXPECT_EQ(ledger->sync_due_ns(), std::nullopt);
  EXPECT_EQ(syncs_after_commit_at(2'150), 0);
  EXPECT_EQ(ledger->sync_due_ns(), 2'250);
}

TEST_F(LedgerFault, AWriteInPiecesIsContinued) {
  auto ledger = make(quick());
  kernel.at_a_time = 7;
  kernel.interrupts = 2;
  kernel.writes = 0;
  EXPECT_TRUE(commit_third(ledger));
  EXPECT_EQ(kernel.writes, 2 + static_cast<int>(third_ + 6) / 7);
  EXPECT_EQ(kernel.truncates, 0);
  expect_three_after(std::move(ledger));
}

// What others do to the file while it is open is noticed, for good, before anything more counts.
TEST_F(LedgerFault, AFileThatIsRemovedOrCutIsNoticed) {
  const std::vector<std::pair<std::string, std::function<void()>>> deeds{
      {"removed it", [&] { fs::remove(path_); }},
      {"removed it",
       [&] {
         std::ofstream(directory_ / "other") << "x";
         fs::rename(directory_ / "other", path_);
       }},
      {"changed its size", [&] { fs::resize_file(path_, 10); }},
      {"changed its size", [&] { fs::resize_file(path_, 0); }}};
  for (const bool flushes : {false, true}) {
    for (const auto& [message, deed] : deeds) {
      fs::remove(path_);
      auto ledger = make(quick());
      deed();
      const std::uint64_t left = fs::exists(path_) ? fs::file_size(path_) : 0;
      const auto done = flushes ? ledger.flush() : commit_third(ledger);
      ASSERT_FALSE(done) << message;
      EXPECT_THAT(done.error().message, HasSubstr(message));
      EXPECT_FALSE(commit_third(ledger));
      EXPECT_EQ(fs::exists(path_) ? fs::file_size(path_) : 0, left) << "was written to";
    }
  }
}

TEST_F(LedgerFault, AFullDiskCostsThatCommitOnly) {
  auto ledger = make(with(Sync::kEach));
  for (std::size_t space = 0; space < third_; ++space) {
    SCOPED_TRACE(space);
    kernel.space = space;
    const auto done = commit_third(ledger);
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().sys_errno, ENOSPC);
    EXPECT_THAT(done.error().message, HasSubstr("commit item 3 part 1 to ledger '"));
    EXPECT_FALSE(ledger.committed(kThird.key));
    EXPECT_EQ(records_of(ledger), kTwo);
    expect_file_has_two();
  }
  kernel.space = third_;
  EXPECT_TRUE(commit_third(ledger));
  expect_three_after(std::move(ledger));
}

TEST_F(LedgerFault, WhenHalfARecordCannotBeRemovedNothingIsPutBehindIt) {
  auto ledger = make(quick());
  kernel.space = 20;
  kernel.truncate_errno = EIO;
  EXPECT_FALSE(commit_third(ledger));
  kernel = {};
  const auto again = commit_third(ledger);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().sys_errno, EIO);
  EXPECT_FALSE(ledger.flush());
  EXPECT_EQ(records_of(ledger), kTwo);
  EXPECT_EQ(content_of(path_).size(), whole_ + 20);
  { const PersistentLedger closed = std::move(ledger); }
  auto next = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(next);
  EXPECT_EQ(next->cut_bytes(), 20u);
  EXPECT_EQ(records_of(*next), kTwo);
}

TEST_F(LedgerFault, AfterAFailedSyncNothingIsCommittedAnyMore) {
  for (const Sync sync : {Sync::kEach, Sync::kBatch}) {
    fs::remove(path_);
    Options options = with(sync);
    options.batch_commits = 3;
    auto ledger = make(options);
    kernel.sync_errno = EIO;
    const auto done = commit_third(ledger);
    kernel.sync_errno = 0;
    ASSERT_FALSE(done);
    EXPECT_EQ(done.error().sys_errno, EIO);
    EXPECT_FALSE(ledger.committed(kThird.key));
    expect_file_has_two();
    const int syncs = kernel.syncs;
    EXPECT_FALSE(commit_third(ledger));
    EXPECT_EQ(ledger.flush().error().sys_errno, EIO);
    EXPECT_EQ(kernel.syncs, syncs);  // A second try might succeed and mean nothing.
    expect_file_has_two();
    EXPECT_EQ(records_of(ledger), kTwo);
  }
}

TEST_F(LedgerFault, AFailedSyncOrTruncationIsAnErrorOfOpenToo) {
  make(quick());
  kernel.sync_errno = EIO;
  EXPECT_EQ(PersistentLedger::open(path_, with(Sync::kEach)).error().sys_errno, EIO);
  kernel = {};
  fs::resize_file(path_, whole_ + 1);
  kernel.truncate_errno = EIO;
  EXPECT_EQ(PersistentLedger::open(path_, quick()).error().sys_errno, EIO);
  EXPECT_EQ(fs::file_size(path_), whole_ + 1);
}

TEST_F(LedgerFault, IsCreatedWhereTheFileSystemCannotRenameWithoutReplacing) {
  kernel.has_noreplace = false;
  { auto ledger = make(quick()); }
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 1);
  EXPECT_EQ(records_of(*PersistentLedger::open(path_, quick())), kTwo);
}

TEST_F(LedgerFault, WhatIsRemovedOrReplacedBeforeItIsLockedIsOpenedAnew) {
  make(quick());
  const std::string two = content_of(path_);
  kernel.at_lock = [&] { fs::remove(path_); };
  {
    auto ledger = PersistentLedger::open(path_, quick());
    ASSERT_TRUE(ledger) << ledger.error().message;
    EXPECT_TRUE(ledger->created());
  }
  kernel.at_lock = [&] {
    put(directory_ / "copy", two);
    fs::rename(directory_ / "copy", path_);
  };
  {
    auto ledger = PersistentLedger::open(path_, quick());
    ASSERT_TRUE(ledger) << ledger.error().message;
    EXPECT_TRUE(commit_third(*ledger));
  }
  EXPECT_EQ(raw_read(content_of(path_)).size(), 3u);
  // Another run creates it while this one does: that one's stays.
  for (const bool has_noreplace : {true, false}) {
    fs::remove(path_);
    kernel.has_noreplace = has_noreplace;
    kernel.at_lock = [&] { put(path_, two); };
    auto ledger = PersistentLedger::open(path_, quick());
    ASSERT_TRUE(ledger) << ledger.error().message;
    EXPECT_FALSE(ledger->created());
    EXPECT_EQ(records_of(*ledger), kTwo);
    EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 1);
  }
}

// --- Real limits of the kernel. ---

class IgnoredSignal {
 public:
  explicit IgnoredSignal(int number) : number_(number), before_(std::signal(number, SIG_IGN)) {}
  IgnoredSignal(const IgnoredSignal&) = delete;
  IgnoredSignal& operator=(const IgnoredSignal&) = delete;
  ~IgnoredSignal() { std::signal(number_, before_); }

 private:
  int number_;
  void (*before_)(int);
};

TEST_F(LedgerFault, TheLimitOfFileSizeIsAFullDisk) {
  const IgnoredSignal ignored(SIGXFSZ);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto ledger = make(quick());
  for (std::size_t limit = whole_; limit <= whole_ + third_; ++limit) {
    SCOPED_TRACE(limit);
    const rlimit lowered{limit, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &lowered), 0);
    const auto done = commit_third(ledger);  // Nothing else: the limit is also of our stdout.
    ::setrlimit(RLIMIT_FSIZE, &before);
    if (limit == whole_ + third_) {
      EXPECT_TRUE(done);
    } else {
      ASSERT_FALSE(done);
      EXPECT_EQ(done.error().sys_errno, EFBIG);
      expect_file_has_two();
    }
  }
  expect_three_after(std::move(ledger));
}

// Runs `body` in a child with mounts of its own, on a tmpfs of 64 KiB at `directory`. Returns what
// it returned: what went wrong, or nothing; "skip: ..." where that is not allowed.
std::string on_small_tmpfs(const fs::path& directory, const std::function<std::string()>& body) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "pipe2 failed";
  UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    std::string text = "skip: mounting is not allowed here";
    if (::unshare(CLONE_NEWNS) == 0 &&
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount("none", directory.c_str(), "tmpfs", 0, "size=64k") == 0) {
      text = body();
    }
    _exit(write_all(in.get(), text) ? 0 : 1);
  }
  in.reset();
  std::string text;
  char part[256];
  ssize_t count = 0;
  while ((count = ::read(out.get(), part, sizeof part)) > 0) {
    text.append(part, static_cast<std::size_t>(count));
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WaitStatus::from_raw(status).success()) {
    return "the child " + WaitStatus::from_raw(status).describe();
  }
  return text;
}

// Fills the disk up, makes room, goes on.
std::string fill_and_go_on(const fs::path& directory) {
  const fs::path path = directory / "ledger";
  put(directory / "other", std::string(16'384, 'x'));
  auto ledger = PersistentLedger::open(path, with(Sync::kEach));
  if (!ledger) return ledger.error().message;
  std::vector<Stored> stored;
  for (const char* phase : {"full", "full again"}) {
    Result<void> done;
    while (done && stored.size() < 1'000) {
      Stored next{{stored.size(), 0}, 0, std::string(1'000, 'y')};
      done = ledger->commit(next.key, next.outcome, next.bytes);
      if (done) stored.push_back(std::move(next));
    }
    if (done || done.error().sys_errno != ENOSPC) return std::string("not ") + phase;
    if (raw_read(content_of(path)) != stored) return std::string("wrong when ") + phase;
    if (fs::file_size(path) != raw_ledger(stored).size()) return "something behind the last record";
    fs::remove(directory / "other");
  }
  if (stored.size() < 50) return "little more than without the room made";
  return "";
}

TEST_F(LedgerFault, AFullFileSystemCostsThatCommitOnly) {
  const std::string said =
      on_small_tmpfs(directory_.path(), [&] { return fill_and_go_on(directory_.path()); });
  if (said.starts_with("skip")) GTEST_SKIP() << said;
  EXPECT_EQ(said, "");
}

TEST_F(LedgerFault, AFullFileSystemLeavesNoHalfHeader) {
  const std::string said = on_small_tmpfs(directory_.path(), [&]() -> std::string {
    std::ofstream(directory_ / "other") << std::string(100'000, 'x');
    const auto ledger = PersistentLedger::open(path_, quick());
    if (ledger || ledger.error().sys_errno != ENOSPC) return "not full";
    return std::distance(fs::directory_iterator(directory_.path()), {}) == 1 ? "" : "litter";
  });
  if (said.starts_with("skip")) GTEST_SKIP() << said;
  EXPECT_EQ(said, "");
}

TEST_F(LedgerFault, AReadOnlyFileSystemIsAnErrorThatNamesIt) {
  const std::string said = on_small_tmpfs(directory_.path(), [&]() -> std::string {
    { make(quick()); }
    const std::string before = content_of(path_);
    if (::mount("none", directory_.path().c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
      return "skip: remounting is not allowed here";
    }
    for (const char* name : {"ledger", "new"}) {
      const auto ledger = PersistentLedger::open(directory_ / name, quick());
      if (ledger || ledger.error().sys_errno != EROFS) return std::string("no error for ") + name;
    }
    return content_of(path_) == before ? "" : "changed";
  });
  if (said.starts_with("skip")) GTEST_SKIP() << said;
  EXPECT_EQ(said, "");
}

TEST_F(LedgerFault, WithoutPermissionThereIsAnErrorThatNamesIt) {
  make(quick());
  ASSERT_EQ(::chmod(path_.c_str(), 0400), 0);
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0555), 0);
  constexpr uid_t kNobody = 65534;
  const bool root = ::geteuid() == 0;
  if (root && ::seteuid(kNobody) != 0) GTEST_SKIP() << "seteuid is not allowed here";
  const auto existing = PersistentLedger::open(path_, quick());
  const auto fresh = PersistentLedger::open(directory_ / "new", quick());
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  ::chmod(directory_.path().c_str(), 0700);
  ASSERT_FALSE(existing);
  EXPECT_EQ(existing.error().sys_errno, EACCES);
  ASSERT_FALSE(fresh);
  EXPECT_EQ(fresh.error().sys_errno, EACCES);
  EXPECT_EQ(raw_read(content_of(path_)), kTwo);
}

}  // namespace
}  // namespace crashworthy::test

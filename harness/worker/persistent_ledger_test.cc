// The persistent ledger gives back exactly what was committed: after a crash at each byte of the
// file; never a wrong record, whichever bit is flipped; and it leaves alone what is no ledger.
// persistent_ledger_fault_test.cc has what the system does to it, persistent_ledger_process_test.cc
// death and other processes.
#include "harness/worker/persistent_ledger.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <set>

#include "harness/os/random.h"
#include "harness/worker/persistent_ledger_test_util.h"

namespace crashworthy::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kBig = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint32_t kBigPart = std::numeric_limits<std::uint32_t>::max();

// With and without bytes; one whose bytes are a record of another ledger.
std::vector<Stored> a_few() {
  return {{{7, 0}, 0, "seven"},
          {{7, 1}, -1, ""},
          {{0, 0},
           2,
           std::string("\0\xC7"
                       "CWR\n",
                       6)},
          {{kBig, kBigPart}, std::numeric_limits<std::int32_t>::min(), ""},
          {{kBig, 0}, 3, raw_record({{1, 1}, 1, "not this one"}, 1, 100)},
          {{8, 0}, 4, "the last one"}};
}

class LedgerFile : public ::testing::Test {
 protected:
  // A file with the records of a_few().
  std::string make_file() {
    auto ledger = PersistentLedger::open(path_, quick());
    EXPECT_TRUE(ledger);
    commit_all(*ledger, a_few());
    return content_of(path_);
  }

  // Refused with these words, and not one byte touched.
  void expect_refused(const Options& options, ErrorKind kind, const std::string& message,
                      const std::string& hint) {
    const std::string before = content_of(path_);
    const auto ledger = PersistentLedger::open(path_, options);
    ASSERT_FALSE(ledger) << message;
    EXPECT_EQ(ledger.error().kind, kind) << ledger.error().message;
    EXPECT_THAT(ledger.error().message,
                AllOf(HasSubstr("open ledger '" + path_.string() + "'"), HasSubstr(message)));
    EXPECT_THAT(ledger.error().hint, HasSubstr(hint));
    EXPECT_EQ(content_of(path_), before);
    EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}),
              fs::exists(fs::symlink_status(path_)) ? 1 : 0);
  }

  TemporaryDirectory directory_;
  fs::path path_ = directory_ / "ledger";
};

TEST_F(LedgerFile, GivesBackWhatWasCommittedInItsOrder) {
  {
    auto ledger = PersistentLedger::open(path_, quick());
    ASSERT_TRUE(ledger);
    EXPECT_TRUE(ledger->created());
    EXPECT_EQ(ledger->size(), 0u);
    EXPECT_FALSE(ledger->committed({kBig, kBigPart}));
    commit_all(*ledger, a_few());
    EXPECT_EQ(records_of(*ledger), a_few());
  }
  auto ledger = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(ledger);
  EXPECT_FALSE(ledger->created());
  EXPECT_EQ(ledger->cut_bytes(), 0u);
  EXPECT_EQ(ledger->size(), a_few().size());
  for (const Stored& record : a_few()) EXPECT_TRUE(ledger->committed(record.key));
  for (const Key& key : {Key{7, 2}, Key{0, 1}, Key{8, 1}, Key{kBig, 1}, Key{kBig - 1, kBigPart}}) {
    EXPECT_FALSE(ledger->committed(key)) << key.item << ' ' << key.part;
  }
  EXPECT_EQ(records_of(*ledger), a_few());
}

TEST_F(LedgerFile, HasTheFormatThatIsDescribed) {
  const std::string file = make_file();
  EXPECT_EQ(raw_read(file), a_few());
  std::uint64_t salt = 0;
  std::memcpy(&salt, file.data() + 16, sizeof salt);
  EXPECT_EQ(raw_ledger(a_few(), salt), file);
}

TEST_F(LedgerFile, IsPrivateAndNotInheritedByOtherPrograms) {
  const mode_t before = ::umask(0);
  auto ledger = PersistentLedger::open(path_, quick());
  ::umask(before);
  ASSERT_TRUE(ledger);
  EXPECT_EQ(fs::status(path_).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  int found = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (fs::read_symlink(entry, gone) != fs::canonical(path_)) continue;
    ++found;
    EXPECT_EQ(::fcntl(std::stoi(entry.path().filename()), F_GETFD), FD_CLOEXEC);
  }
  EXPECT_EQ(found, 1);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 1);
}

TEST_F(LedgerFile, CommittingTwiceIsABug) {
  auto ledger = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(ledger);
  ASSERT_TRUE(ledger->commit({7, 1}, 0));
  EXPECT_DEATH((void)ledger->commit({7, 1}, 0), "committed.key. is false: 7 1");
  // The child of a fork would overwrite what its parent appends.
  EXPECT_DEATH((void)ledger->commit({7, 2}, 0), "owner_");
}

TEST_F(LedgerFile, RecordsOfAllSizesGoThroughTheReadersWindow) {
  std::vector<Stored> records;
  for (const int size : {0, 1, 262'144 - 32, 262'144, 262'145, 1'000'000, 3, 0}) {
    records.push_back(
        {{records.size(), 0}, size, std::string(static_cast<std::size_t>(size), 'x')});
  }
  for (int i = 0; i < 20'000; ++i) {
    records.push_back({{records.size(), 0}, i, std::string(static_cast<std::size_t>(i) % 64, 'y')});
  }
  auto ledger = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(ledger);
  commit_all(*ledger, records);
  EXPECT_EQ(records_of(*ledger), records);
  *ledger = std::move(*PersistentLedger::open(directory_ / "other", quick()));
  EXPECT_EQ(records_of(*PersistentLedger::open(path_, quick())), records);
}

TEST_F(LedgerFile, RefusesBytesThatAreTooMany) {
  auto ledger = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(ledger);
  const auto done = ledger->commit({1, 0}, 0, std::string(PersistentLedger::kMaxBytes + 1, 'x'));
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kUsage);
  EXPECT_FALSE(ledger->committed({1, 0}));
  const std::string most(PersistentLedger::kMaxBytes, 'x');
  EXPECT_TRUE(ledger->commit({1, 0}, 0, most));
  ASSERT_EQ(records_of(*ledger).size(), 1u);
  EXPECT_TRUE(records_of(*ledger)[0].bytes == most);
}

TEST_F(LedgerFile, HoldsAMillionKeysInTwentyFourBytesEach) {
  const auto keys = static_cast<std::uint64_t>(count_of(100'000, 1'000'000));
  const auto key = [](std::uint64_t i) {
    return Key{i * 4096 / 3, static_cast<std::uint32_t>(i % 3)};
  };
  for (const bool again : {false, true}) {
    auto ledger = PersistentLedger::open(path_, quick());
    ASSERT_TRUE(ledger);
    for (std::uint64_t i = 0; !again && i < keys; ++i) ASSERT_TRUE(ledger->commit(key(i), 0));
    ASSERT_EQ(ledger->size(), keys);
    EXPECT_LE(ledger->memory(), 24 * keys + 100);
    for (std::uint64_t i = 0; i < keys; ++i) {
      ASSERT_TRUE(ledger->committed(key(i)));
      ASSERT_FALSE(ledger->committed({key(i).item, 3}));
    }
  }
}

TEST_F(LedgerFile, AVisitorMayStop) {
  make_file();
  auto ledger = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(ledger);
  int visits = 0;
  const auto read = ledger->for_each([&](const PersistentLedger::Record&) -> Result<void> {
    if (++visits == 2) return usage_error("enough");
    return {};
  });
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message, "enough");
  EXPECT_EQ(visits, 2);
}

TEST_F(LedgerFile, DamageSinceItWasOpenedIsSeenWhenReading) {
  std::string file = make_file();
  auto ledger = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(ledger);
  const auto read = [&] {
    return ledger->for_each([](const PersistentLedger::Record&) -> Result<void> { return {}; });
  };
  EXPECT_TRUE(read());
  file.back() ^= 1;
  put(path_, file);
  EXPECT_EQ(read().error().kind, ErrorKind::kCorrupt);
  file.back() ^= 1;
  put(path_, file);
  EXPECT_TRUE(read());
  ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(file.size()) - 1), 0);
  EXPECT_EQ(read().error().kind, ErrorKind::kCorrupt);
}

// --- A crash at each byte, a flip of each bit. ---

// Where each record of a_few() ends; first where the header does.
std::vector<std::size_t> ends_of(const std::string& file) {
  std::vector<std::size_t> ends{raw_header(1, 0, "test").size()};
  for (const Stored& record : a_few()) ends.push_back(ends.back() + 32 + record.bytes.size());
  EXPECT_EQ(ends.back(), file.size());
  return ends;
}

TEST_F(LedgerFile, ACrashAtEachByteLeavesTheWholeRecordsAndOneGoesOn) {
  const std::string file = make_file();
  const auto ends = ends_of(file);
  const std::vector<Stored> more{{{100, 0}, 5, "after the crash"}, {{101, 0}, 6, ""}};
  for (std::size_t length = ends[0]; length <= file.size(); ++length) {
    SCOPED_TRACE(length);
    put(path_, file.substr(0, length));
    const auto whole = std::upper_bound(ends.begin(), ends.end(), length) - ends.begin() - 1;
    std::vector<Stored> records = a_few();
    records.resize(static_cast<std::size_t>(whole));
    {
      auto ledger = PersistentLedger::open(path_, quick());
      ASSERT_TRUE(ledger) << ledger.error().message;
      EXPECT_EQ(ledger->cut_bytes(), length - ends[static_cast<std::size_t>(whole)]);
      EXPECT_EQ(records_of(*ledger), records);
      commit_all(*ledger, more);
    }
    records.insert(records.end(), more.begin(), more.end());
    auto ledger = PersistentLedger::open(path_, quick());
    ASSERT_TRUE(ledger) << ledger.error().message;
    EXPECT_EQ(ledger->cut_bytes(), 0u);
    ASSERT_EQ(records_of(*ledger), records);
    ASSERT_EQ(raw_read(content_of(path_)), records);
  }
}

// The header is there whole or not at all, so no crash cuts it: somebody else did.
TEST_F(LedgerFile, AFileCutWithinItsHeaderIsNotTakenForANewOne) {
  const std::string file = make_file();
  for (std::size_t length = 1; length < ends_of(file)[0]; ++length) {
    SCOPED_TRACE(length);
    put(path_, file.substr(0, length));
    expect_refused(quick(), ErrorKind::kCorrupt, "header", "copy");
  }
  put(path_, "");
  expect_refused(quick(), ErrorKind::kUsage, "empty", "remove it");
}

TEST_F(LedgerFile, AFlippedBitNeverYieldsAWrongRecord) {
  const std::string file = make_file();
  const auto ends = ends_of(file);
  const std::size_t last = ends[ends.size() - 2];
  std::vector<Stored> but_last = a_few();
  but_last.pop_back();
  for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
    SCOPED_TRACE(bit);
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
    put(path_, flipped);
    if (bit / 8 < 8) {
      expect_refused(quick(), ErrorKind::kUsage, "something else", "another path");
    } else if (bit / 8 < ends[0]) {
      expect_refused(quick(), ErrorKind::kCorrupt, "header is damaged", "copy");
    } else if (bit / 8 < last) {
      const auto next = std::upper_bound(ends.begin(), ends.end(), bit / 8);
      expect_refused(quick(), ErrorKind::kCorrupt, "at byte " + std::to_string(*(next - 1)),
                     "truncate -s " + std::to_string(*(next - 1)) + " '" + path_.string() + "'");
    } else {
      auto ledger = PersistentLedger::open(path_, quick());
      ASSERT_TRUE(ledger) << ledger.error().message;
      EXPECT_EQ(ledger->cut_bytes(), file.size() - last);
      EXPECT_EQ(records_of(*ledger), but_last);
      EXPECT_EQ(content_of(path_), file.substr(0, last));
    }
    if (HasFailure()) return;
  }
}

// What disks and people do to files: zeroed ranges, ranges moved, doubled, removed, overwritten.
std::string mangle(std::string file, Random& random) {
  const auto at = [&] { return static_cast<std::size_t>(random.below(file.size())); };
  for (std::uint64_t edits = 1 + random.below(3); edits > 0 && !file.empty(); --edits) {
    const std::size_t from = at();
    const std::string range = file.substr(from, 1 + random.below(80));
    switch (random.below(5)) {
      case 0:
        file.replace(from, range.size(), range.size(), '\0');
        break;
      case 1:
        file.insert(at(), range);
        break;
      case 2:
        file.erase(from, range.size());
        break;
      case 3:
        file.append(random.below(100), static_cast<char>(random.next()));
        break;
      default:
        file[from] = static_cast<char>(random.next());
    }
  }
  return file;
}

TEST_F(LedgerFile, AMangledFileNeverYieldsAWrongRecord) {
  const std::string file = make_file();
  int opened = 0;
  const int cases = count_of(3'000, 100'000);
  for (int i = 0; i < cases; ++i) {
    SCOPED_TRACE(i);
    Random random(derive_seed(1, "mangle", static_cast<std::uint64_t>(i)));
    const std::string mangled = mangle(file, random);
    put(path_, mangled);
    auto ledger = PersistentLedger::open(path_, quick());
    if (!ledger) {
      ASSERT_EQ(content_of(path_), mangled);
      continue;
    }
    ++opened;
    const std::vector<Stored> records = records_of(*ledger);
    ASSERT_LE(records.size(), a_few().size());
    ASSERT_TRUE(std::equal(records.begin(), records.end(), a_few().begin()));
  }
  EXPECT_GT(opened, cases / 10);  // Else this shows little.
  EXPECT_LT(opened, cases * 9 / 10);
}

// Zeros behind the last record: what a power cut leaves of an append on some file systems.
TEST_F(LedgerFile, ZerosAtTheEndAreCutOff) {
  const std::string file = make_file();
  put(path_, file + std::string(5'000, '\0'));
  auto ledger = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(ledger) << ledger.error().message;
  EXPECT_EQ(ledger->cut_bytes(), 5'000u);
  EXPECT_EQ(content_of(path_), file);
}

TEST_F(LedgerFile, AnEndThatIsLongerThanAnyRecordIsNotCutOff) {
  make_file();
  const auto size = static_cast<off_t>(fs::file_size(path_) + 32 + PersistentLedger::kMaxBytes);
  ASSERT_EQ(::truncate(path_.c_str(), size + 1), 0);
  const auto refused = PersistentLedger::open(path_, quick());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kCorrupt);
  EXPECT_EQ(fs::file_size(path_), static_cast<std::uintmax_t>(size) + 1);
  ASSERT_EQ(::truncate(path_.c_str(), size), 0);
  EXPECT_TRUE(PersistentLedger::open(path_, quick()));
}

// A record behind the damage is found although it lies across the border of the reader's window.
TEST_F(LedgerFile, TheRecordBehindTheDamageIsFoundWhereverItLies) {
  const std::size_t begin = raw_header(1, 42, "test").size();
  for (std::size_t size = 262'144 - 70; size < 262'144 + 40; ++size) {
    std::string file = raw_ledger({{{1, 0}, 0, std::string(size, '\xC7')}, {{2, 0}, 0, "x"}});
    file[begin] = 'x';
    put(path_, file);
    const auto refused = PersistentLedger::open(path_, quick());
    ASSERT_FALSE(refused) << size;
    EXPECT_THAT(refused.error().message, HasSubstr("byte " + std::to_string(begin + 32 + size)));
  }
}

// --- What is refused. ---

TEST_F(LedgerFile, RefusesTheLedgerOfAnotherRun) {
  {
    ASSERT_TRUE(PersistentLedger::open(path_, quick("inputs \x01"
                                                    "3fa8")));
  }
  expect_refused(quick("inputs 77"), ErrorKind::kUsage, "'inputs ?3fa8' rather than 'inputs 77'",
                 "another path");
  expect_refused(quick(""), ErrorKind::kUsage, "another run", "another path");
  EXPECT_TRUE(PersistentLedger::open(path_, quick("inputs \x01"
                                                  "3fa8")));
}

TEST_F(LedgerFile, TakesAnIdentityOfAnySizeUpToItsMaximum) {
  const std::string most(PersistentLedger::kMaxIdentity, 'i');
  expect_refused(quick(most + "i"), ErrorKind::kUsage, "longer than 4096 bytes", "hash");
  for (const std::string& identity : {std::string(), most}) {
    fs::remove(path_);
    for (const bool again : {false, true}) {
      auto ledger = PersistentLedger::open(path_, quick(identity));
      ASSERT_TRUE(ledger) << ledger.error().message;
      ASSERT_TRUE(ledger->commit({1, again}, 0, "bytes"));
      EXPECT_EQ(records_of(*ledger).size(), again ? 2u : 1u);
    }
  }
}

TEST_F(LedgerFile, RefusesANewerVersion) {
  put(path_, raw_header(2, 42, "test").substr(0, 16) + "whatever comes then");
  expect_refused(quick(), ErrorKind::kUsage, "version 2; this program knows version 1",
                 "the program that made it");
}

TEST_F(LedgerFile, LeavesAloneWhatIsNoLedger) {
  for (const char* content :
       {"h", "hello, this is a letter", "\x89PNG\r\n\x1A\nand so on and on"}) {
    put(path_, content);
    expect_refused(quick(), ErrorKind::kUsage, "something else", "another path");
  }
  fs::remove(path_);
  fs::create_directory(path_);
  expect_refused(quick(), ErrorKind::kUsage, "a directory", "path of a file");
  fs::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  expect_refused(quick(), ErrorKind::kUsage, "no regular file", "path of a file");
  fs::remove(path_);
  fs::create_symlink("/dev/zero", path_);
  auto refused = PersistentLedger::open(path_, quick());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("no regular file"));
  fs::remove(path_);
  fs::create_symlink("nothing", path_);
  expect_refused(quick(), ErrorKind::kUsage, "comes and goes", "symbolic link");
}

TEST_F(LedgerFile, FollowsASymbolicLink) {
  make_file();
  fs::create_symlink("ledger", directory_ / "link");
  EXPECT_EQ(records_of(*PersistentLedger::open(directory_ / "link", quick())), a_few());
}

TEST_F(LedgerFile, NeedsADirectoryInWhichItMayWrite) {
  const auto refused = PersistentLedger::open(directory_ / "no" / "ledger", quick());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().sys_errno, ENOENT);
  EXPECT_THAT(refused.error().hint, HasSubstr("directory must exist"));
}

TEST_F(LedgerFile, IsAlsoCreatedByAPathWithoutADirectory) {
  const fs::path before = fs::current_path();
  fs::current_path(directory_.path());
  EXPECT_TRUE(PersistentLedger::open("ledger", quick()));
  fs::current_path(before);
  EXPECT_TRUE(fs::exists(path_));
}

// --- The checker of the tests with SIGKILL sees what it is there for. ---

TEST_F(LedgerFile, TheCheckerPassesWhatIsRight) {
  const std::vector<Stored> records{expected(0), expected(1), expected(2)};
  EXPECT_THAT(problems(raw_read(raw_ledger(records)), 3), IsEmpty());
  EXPECT_THAT(problems(raw_read(raw_ledger(records)), 2), IsEmpty());  // The last was in flight.
}

TEST_F(LedgerFile, TheCheckerSeesALostRecord) {
  put(path_, raw_ledger({expected(0), expected(2)}));
  auto ledger = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(ledger);  // Of a record that was never there a ledger cannot know.
  EXPECT_THAT(problems(records_of(*ledger), 3), ElementsAre("item 1 is lost"));
}

TEST_F(LedgerFile, TheCheckerSeesADoubledRecordAndSoDoesOpen) {
  const std::string file = raw_ledger({expected(0), expected(1), expected(0)});
  EXPECT_THAT(problems(raw_read(file), 2), ElementsAre("item 0 is doubled"));
  put(path_, file);
  expect_refused(quick(), ErrorKind::kCorrupt, "item 0 part 0 is there a second time",
                 "to keep the 2 records");
}

TEST_F(LedgerFile, TheCheckerSeesAWrongRecord) {
  Stored wrong = expected(1);
  wrong.bytes.back() ^= 1;
  EXPECT_THAT(problems({expected(0), wrong}, 2), ElementsAre("item 1 is wrong"));
  EXPECT_THAT(problems({expected(0), expected(1), expected(2)}, 1),
              ElementsAre("item 2 is too early"));
}

}  // namespace
}  // namespace crashworthy::test

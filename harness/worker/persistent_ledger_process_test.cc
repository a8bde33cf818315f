// The persistent ledger and other processes: one has it at a time; and whenever that one is killed,
// nothing it had acknowledged is lost or doubled.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <functional>
#include <memory>
#include <new>
#include <thread>

#include "harness/os/random.h"
#include "harness/os/shared_memory.h"
#include "harness/os/wait_status.h"
#include "harness/worker/persistent_ledger.h"
#include "harness/worker/persistent_ledger_test_util.h"

namespace crashworthy::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class LedgerProcess : public ::testing::Test {
 protected:
  TemporaryDirectory directory_;
  fs::path path_ = directory_ / "ledger";
};

// A forked child that runs `body` and then stays until it is killed. The destructor kills and
// reaps it.
class Child {
 public:
  explicit Child(const std::function<void()>& body) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // Also when this test aborts.
    body();
    while (true) ::pause();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { kill(); }

  WaitStatus kill() {
    int status = 0;
    if (pid_ <= 0) return {};
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    return WaitStatus::from_raw(status);
  }

 private:
  pid_t pid_;
};

struct Pipe {
  Pipe() {
    int both[2];
    EXPECT_EQ(::pipe2(both, O_CLOEXEC), 0);
    out.reset(both[0]);
    in.reset(both[1]);
  }
  void tell() { ::syscall(SYS_write, in.get(), "x", 1); }
  // Until somebody tells, or all writers are gone; at most 10 s.
  bool hear() {
    char byte = 0;
    pollfd waiting{out.get(), POLLIN, 0};
    return ::poll(&waiting, 1, 10'000) == 1 && ::read(out.get(), &byte, 1) == 1;
  }
  UniqueFd out, in;
};

void expect_busy(const Result<PersistentLedger>& refused) {
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(refused.error().message, HasSubstr("another run has it"));
  EXPECT_THAT(refused.error().hint, HasSubstr("fuser"));
}

TEST_F(LedgerProcess, OneProcessHasItUntilItEnds) {
  Pipe opened;
  Child child([&] {
    const auto ledger = PersistentLedger::open(path_, quick());
    if (ledger) opened.tell();
    ::pause();
  });
  ASSERT_TRUE(opened.hear());
  expect_busy(PersistentLedger::open(path_, quick()));
  EXPECT_EQ(child.kill().signal(), SIGKILL);
  auto ledger = PersistentLedger::open(path_, quick());
  ASSERT_TRUE(ledger);
  expect_busy(PersistentLedger::open(path_, quick()));  // Nor twice in one process.
}

// A pool's worker that outlives its killed coordinator: it has the coordinator's lock.
TEST_F(LedgerProcess, WhatAKilledRunHasForkedHoldsItsLockAndOneWaitsForIt) {
  Pipe forked, end;
  Child child([&] {
    const auto ledger = PersistentLedger::open(path_, quick());
    end.in.reset();
    if (::fork() == 0) {
      forked.tell();
      end.hear();
      _exit(0);
    }
    ::pause();
  });
  ASSERT_TRUE(forked.hear());
  child.kill();
  expect_busy(PersistentLedger::open(path_, quick()));
  std::thread later([&] {
    std::this_thread::sleep_for(50ms);
    end.in.reset();
  });
  Options patient = quick();
  patient.lock_patience = 10s;
  const auto ledger = PersistentLedger::open(path_, patient);
  later.join();
  EXPECT_TRUE(ledger) << ledger.error().message;
}

TEST_F(LedgerProcess, AForkedChildMayForgetIt) {
  Pipe forked, end;
  Child child([&] {
    auto ledger = PersistentLedger::open(path_, quick());
    end.in.reset();
    if (::fork() == 0) {
      ledger->forget();
      forked.tell();
      end.hear();
      _exit(0);
    }
    ::pause();
  });
  ASSERT_TRUE(forked.hear());
  expect_busy(PersistentLedger::open(path_, quick()));  // The parent still has it.
  child.kill();
  EXPECT_TRUE(PersistentLedger::open(path_, quick()));
}

// Many that create and open it at once: one has it, and nobody replaces it.
TEST_F(LedgerProcess, OfManyThatCreateItAtOnceOneHasIt) {
  for (int round = 0; round < count_of(20, 500); ++round) {
    fs::remove(path_);
    Pipe go, verdicts;
    std::vector<std::unique_ptr<Child>> children;
    children.reserve(4);
    for (int i = 0; i < 4; ++i) {
      children.push_back(std::make_unique<Child>([&] {
        go.in.reset();
        go.hear();
        const auto ledger = PersistentLedger::open(path_, quick());
        const bool busy = !ledger && ledger.error().kind == ErrorKind::kUsage;
        ::syscall(SYS_write, verdicts.in.get(), ledger ? "1" : busy ? "0" : "e", 1);
        ::pause();
      }));
    }
    go.in.reset();
    std::string said;
    char byte = 0;
    while (said.size() < 4 && ::read(verdicts.out.get(), &byte, 1) == 1) said += byte;
    std::sort(said.begin(), said.end());
    ASSERT_EQ(said, "0001");
    ASSERT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 1);
  }
}

// --- SIGKILL. ---

// Commits items from where the ledger is, and acknowledges each in shared memory, until killed.
void commit_until_killed(const fs::path& path, const Options& options, Pipe& opened,
                         std::atomic<std::uint64_t>& acknowledged) {
  auto ledger = PersistentLedger::open(path, options);
  if (!ledger) _exit(1);
  opened.tell();
  while (true) {
    const std::uint64_t item = ledger->size();
    const Stored record = expected(item);
    if (ledger->committed(record.key)) _exit(2);
    if (!ledger->commit(record.key, record.outcome, record.bytes)) _exit(3);
    acknowledged.store(item + 1);
  }
}

TEST_F(LedgerProcess, NothingAcknowledgedIsLostOrDoubledWheneverItIsKilled) {
  auto memory = SharedMemory::create("acknowledged", sizeof(std::uint64_t));
  ASSERT_TRUE(memory);
  auto& acknowledged = *new (memory->data()) std::atomic<std::uint64_t>(0);
  // Records of one file: each life reads them all before it commits any.
  constexpr std::size_t kEnough = 100;
  Random random(derive_seed(1, "kill"));
  int torn = 0;
  std::size_t commits = 0;
  const int lives = count_of(60, 2'000);
  for (int life = 0; life < lives; ++life) {
    SCOPED_TRACE(life);
    // Mostly without syncs: then it dies within a write, else mostly within a sync.
    Options options =
        with(std::array{Sync::kNone, Sync::kNone, Sync::kBatch, Sync::kEach}[random.below(4)]);
    options.batch_commits = 16;
    Pipe opened;
    Child child([&] { commit_until_killed(path_, options, opened, acknowledged); });
    // Half of them die anywhere, the others only once they commit, however slow this machine is.
    if (life % 2 == 0) {
      ASSERT_TRUE(opened.hear());
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(10'000)));
    ASSERT_EQ(child.kill().signal(), SIGKILL);
    if (!fs::exists(path_)) continue;
    const std::uint64_t known = acknowledged.load();
    ASSERT_THAT(problems(raw_read(content_of(path_)), known), IsEmpty());
    auto ledger = PersistentLedger::open(path_, options);
    ASSERT_TRUE(ledger) << ledger.error().message;
    ASSERT_THAT(problems(records_of(*ledger), known), IsEmpty());
    torn += ledger->cut_bytes() > 0 ? 1 : 0;
    acknowledged = ledger->size();  // What was in flight may have become whole.
    if (ledger->size() < kEnough && life + 1 < lives) continue;
    commits += ledger->size();
    fs::remove(path_);
    acknowledged = 0;
  }
  EXPECT_GT(commits, static_cast<std::size_t>(lives) / 4);  // Else this shows little.
  std::printf("%d lives, %zu commits, %d torn records\n", lives, commits, torn);
}

TEST_F(LedgerProcess, IsThereWholeOrNotAtAllWheneverItsCreationIsKilled) {
  Random random(derive_seed(1, "creation"));
  int there = 0;
  const int lives = count_of(40, 2'000);
  for (int life = 0; life < lives; ++life) {
    const fs::path path = directory_ / std::to_string(life);
    Child child([&] { (void)PersistentLedger::open(path, quick()); });
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(2'000)));
    child.kill();
    there += fs::exists(path) ? 1 : 0;
    auto ledger = PersistentLedger::open(path, quick());
    ASSERT_TRUE(ledger) << ledger.error().message;
    EXPECT_EQ(ledger->cut_bytes(), 0u);
    EXPECT_EQ(ledger->size(), 0u);
  }
  std::printf("%d of %d were there\n", there, lives);
}

}  // namespace
}  // namespace crashworthy::test

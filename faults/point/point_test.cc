// A point does exactly what it is armed for, on exactly the armed hit, counted over processes, and
// leaves proof; unarmed it does nothing.
#define CRASHWORTHY_FAULT_POINTS
#include "faults/point/point.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace crashworthy::point {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

struct SharedTable {
  int fd = -1;
  Table* memory = nullptr;

  SharedTable() {
    fd = ::memfd_create("points", 0);  // Inherited: the test starts itself again with it.
    if (::ftruncate(fd, sizeof(Table)) != 0) std::abort();
    memory = static_cast<Table*>(
        ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    memory->magic = Table::kMagic;
  }
  ~SharedTable() {
    ::munmap(memory, sizeof(Table));
    ::close(fd);
  }
  Entry& arm(const char* name, Action action, std::uint64_t first, std::uint64_t every = 0,
             std::uint64_t times = 1) {
    Entry& entry = memory->entries[memory->count];
    std::strncpy(entry.name, name, kNameSize - 1);
    entry.action = action;
    entry.item = kNoItem;
    entry.schedule.first = first;
    entry.schedule.every = every;
    entry.schedule.times = times;
    entry.schedule.open = 1;
    ++memory->count;
    return entry;
  }
  const Firing& firing(std::size_t index = 0) const { return memory->firings[index]; }
};

// Runs this program again as the subject `name` below, which passes its point `hits` times; returns
// the raw wait status.
int run_subject(const SharedTable& shared, int hits, const char* name = "PassesThePoint") {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("CRASHWORTHY_POINTS", std::to_string(shared.fd).c_str(), 1);
    ::setenv("POINT_TEST_HITS", std::to_string(hits).c_str(), 1);
    const std::string filter = std::string("--gtest_filter=PointSubject.") + name;
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::execl("/proc/self/exe", "point_test", filter.c_str(), "--gtest_brief=1",
            "--gtest_catch_exceptions=0", nullptr);
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

// ---- Not tests of their own: the bodies of the subjects that the tests below start. ----

int hits_to_pass() {
  const char* hits = std::getenv("POINT_TEST_HITS");
  return hits == nullptr ? 0 : std::atoi(hits);
}

TEST(PointSubject, PassesThePoint) {
  for (int i = 0; i < hits_to_pass(); ++i) CRASHWORTHY_FAULT_POINT("test.point");
}

TEST(PointSubject, PassesThePointInAThread) {
  if (hits_to_pass() == 0) return;
  std::thread([] { CRASHWORTHY_FAULT_POINT("test.point"); }).join();
}

TEST(PointSubject, PassesWithItems) {
  for (int i = 0; i < hits_to_pass(); ++i) CRASHWORTHY_FAULT_POINT_ITEM("test.item", i % 3);
}

TEST(PointSubject, OffersABuffer) {
  std::vector<unsigned char> buffer(100, 0x55);
  for (int i = 0; i < hits_to_pass(); ++i)
    CRASHWORTHY_FAULT_BUFFER("test.buffer", buffer.data(), buffer.size());
  int changed = 0;
  for (const unsigned char byte : buffer) changed += __builtin_popcount(byte ^ 0x55u);
  if (hits_to_pass() > 0) ::_exit(changed);
}

TEST(PointSubject, CatchesWhatIsThrown) {
  for (int i = 0; i < hits_to_pass(); ++i) {
    try {
      CRASHWORTHY_FAULT_POINT("test.point");
    } catch (const std::runtime_error&) {
      ::setenv("POINT_TEST_CAUGHT", "1", 1);
    }
  }
  if (hits_to_pass() > 0) ::_exit(std::getenv("POINT_TEST_CAUGHT") != nullptr ? 7 : 0);
}

struct OwnError : std::logic_error {
  using std::logic_error::logic_error;
};

TEST(PointSubject, ThrowsItsOwnKind) {
  if (hits_to_pass() == 0) return;
  CRASHWORTHY_FAULT_THROWER(OwnError("injected"));
  try {
    CRASHWORTHY_FAULT_POINT("test.point");
  } catch (const OwnError& error) {
    ::_exit(std::string(error.what()) == "injected" ? 8 : 1);
  }
}

TEST(PointSubject, HasAHandlerOfItsOwn) {
  if (hits_to_pass() == 0) return;
  ::signal(SIGSEGV, [](int) { ::_exit(9); });
  CRASHWORTHY_FAULT_POINT("test.point");
}

// ---- Counting ----

TEST(Point, AbortsOnTheArmedHitOverProcessesAndProvesIt) {
  SharedTable shared;
  const Entry& entry = shared.arm("test.point", Action::kAbort, 5);
  EXPECT_EQ(run_subject(shared, 3), 0);
  const int status = run_subject(shared, 3);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGABRT);
  EXPECT_EQ(entry.schedule.hits, 5u);
  ASSERT_EQ(shared.memory->firing_count, 1u);
  const Firing& firing = shared.firing();
  EXPECT_EQ(firing.hit, 5u);
  EXPECT_EQ(firing.signal, SIGABRT);
  EXPECT_EQ(firing.signal_code, SI_TKILL);
  EXPECT_EQ(firing.signal_sender, firing.pid);
  EXPECT_GT(firing.time_ns, 0);
  EXPECT_EQ(run_subject(shared, 3), 0) << "it fires once";
}

TEST(Point, RepeatsAsOftenAsAsked) {
  SharedTable shared;
  shared.arm("test.point", Action::kAbort, 2, 3, 2);  // Hits 2 and 5.
  std::vector<bool> died;
  for (int run = 0; run < 4; ++run) died.push_back(WIFSIGNALED(run_subject(shared, 2)));
  EXPECT_EQ(died, (std::vector<bool>{true, false, true, false}));
  EXPECT_EQ(shared.memory->firing_count, 2u);
}

TEST(Point, DisarmedOrUnknownDoesNothing) {
  SharedTable shared;
  const Entry& counted = shared.arm("test.point", Action::kCount, 1);
  shared.arm("test.other", Action::kAbort, 1);
  EXPECT_EQ(run_subject(shared, 4), 0);
  EXPECT_EQ(counted.schedule.hits, 4u);
  EXPECT_EQ(shared.memory->firing_count, 0u);
}

TEST(Point, CountsOnlyWhileItIsOpen) {
  SharedTable shared;
  Entry& entry = shared.arm("test.point", Action::kAbort, 1);
  entry.schedule.open = 0;
  EXPECT_EQ(run_subject(shared, 3), 0);
  EXPECT_EQ(entry.schedule.hits, 0u);
  entry.schedule.open = 1;
  EXPECT_TRUE(WIFSIGNALED(run_subject(shared, 1)));
}

TEST(Point, TwoFaultsOfOnePointCountForThemselves) {
  SharedTable shared;
  const Entry& slow = shared.arm("test.point", Action::kSlow, 2);
  const Entry& exit = shared.arm("test.point", Action::kExitEarly, 4);
  shared.memory->entries[1].value = 33;
  const int status = run_subject(shared, 5);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 33);
  EXPECT_EQ(slow.schedule.fired, 1u);
  EXPECT_EQ(exit.schedule.hits, 4u);
  EXPECT_EQ(shared.firing(1).entry, 1u);
}

TEST(Schedule, ChanceIsTheSeedsAndAsOftenAsItSays) {
  const auto fired = [](std::uint64_t seed, std::uint64_t times) {
    Schedule schedule{};
    schedule.open = 1;
    schedule.first = schedule.every = 1;
    schedule.times = times;
    schedule.chance = std::uint64_t{1} << 62;  // One in four.
    schedule.seed = seed;
    std::vector<std::uint64_t> hits;
    for (int i = 0; i < 4000; ++i) {
      const std::uint64_t hit = schedule.count();
      if (schedule.fires(hit)) hits.push_back(hit);
    }
    return hits;
  };
  EXPECT_EQ(fired(1, 5000), fired(1, 5000));
  EXPECT_NE(fired(1, 5000), fired(2, 5000));
  EXPECT_NEAR(static_cast<double>(fired(1, 5000).size()), 1000, 120);
  EXPECT_EQ(fired(1, 3).size(), 3u);
}

// ---- What is done ----

struct Crash {
  const char* name;
  Action action;
  int signal;
  int code;
};
void PrintTo(const Crash& crash, std::ostream* out) { *out << crash.name; }

class Crashes : public ::testing::TestWithParam<Crash> {};

TEST_P(Crashes, AreGenuineInTheMainThreadAndInOthers) {
  const Crash& crash = GetParam();
  if (kSanitized &&
      (crash.action == Action::kHeapCorrupt || crash.action == Action::kStackOverflow))
    GTEST_SKIP() << "the sanitizer has a heap and a stack of its own";
  for (const char* subject : {"PassesThePoint", "PassesThePointInAThread"}) {
    SharedTable shared;
    shared.arm("test.point", crash.action, 1);
    const int status = run_subject(shared, 1, subject);
    ASSERT_TRUE(WIFSIGNALED(status)) << subject << " " << status;
    EXPECT_EQ(WTERMSIG(status), crash.signal);
    const Firing& firing = shared.firing();
    EXPECT_EQ(firing.signal, crash.signal) << subject;
    // A thread has a guard page below its stack.
    const bool guard = crash.action == Action::kStackOverflow && firing.tid != firing.pid;
    EXPECT_EQ(firing.signal_code, guard ? SEGV_ACCERR : crash.code) << subject;
    EXPECT_EQ(firing.left_ns, 0);
    if (crash.code == SI_TKILL) {
      EXPECT_EQ(firing.signal_sender, firing.pid);
    }
    if (crash.action == Action::kSegv || crash.action == Action::kBus) {
      EXPECT_EQ(firing.signal_address, firing.address);
    }
    if (crash.action == Action::kStackOverflow) {
      EXPECT_LT(firing.signal_address, firing.address);
      EXPECT_GT(firing.signal_address + 16'384, firing.address);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Actions, Crashes,
    ::testing::Values(Crash{"abort", Action::kAbort, SIGABRT, SI_TKILL},
                      Crash{"segv", Action::kSegv, SIGSEGV, SEGV_MAPERR},
                      Crash{"bus", Action::kBus, SIGBUS, BUS_ADRERR},
                      Crash{"fpe", Action::kFpe, SIGFPE, FPE_INTDIV},
                      Crash{"ill", Action::kIll, SIGILL, ILL_ILLOPN},
                      Crash{"stack_overflow", Action::kStackOverflow, SIGSEGV, SEGV_MAPERR},
                      Crash{"heap_corrupt", Action::kHeapCorrupt, SIGABRT, SI_TKILL},
                      Crash{"throw", Action::kThrow, SIGABRT, SI_TKILL}));

TEST(Point, ACrashIsTheProgramsOwnToHandle) {
  SharedTable shared;
  shared.arm("test.point", Action::kSegv, 1);
  const int status = run_subject(shared, 1, "HasAHandlerOfItsOwn");
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 9);
  EXPECT_EQ(shared.firing().signal, SIGSEGV);
}

TEST(Point, KnowsThatItsExceptionWasCaught) {
  SharedTable shared;
  shared.arm("test.point", Action::kThrow, 2);
  int status = run_subject(shared, 1, "CatchesWhatIsThrown");
  EXPECT_EQ(WEXITSTATUS(status), 0);
  status = run_subject(shared, 3, "CatchesWhatIsThrown");
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_STREQ(shared.firing().thrown, "std::runtime_error");
  EXPECT_GE(shared.firing().left_ns, shared.firing().time_ns);
  EXPECT_GE(shared.firing().caught_ns, shared.firing().left_ns);
  EXPECT_EQ(shared.firing().signal, 0);
}

TEST(Point, ThrowsWhatTheProgramHasRegistered) {
  SharedTable shared;
  shared.arm("test.point", Action::kThrow, 1);
  const int status = run_subject(shared, 1, "ThrowsItsOwnKind");
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 8);
  EXPECT_NE(std::string(shared.firing().thrown).find("OwnError"), std::string::npos);
  EXPECT_GT(shared.firing().left_ns, 0);
  EXPECT_EQ(shared.firing().caught_ns, 0) << "it was still being handled at the end";
}

TEST(Point, FlipsOneBitOfABufferByTheSeed) {
  std::vector<std::uint64_t> places;
  for (const std::uint64_t seed : {1, 1, 2}) {
    SharedTable shared;
    shared.arm("test.buffer", Action::kBitflip, 2).schedule.seed = seed;
    const int status = run_subject(shared, 3, "OffersABuffer");
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 1) << "bits that have changed";
    const Firing& firing = shared.firing();
    EXPECT_EQ(firing.before, 0x55);
    EXPECT_EQ(firing.after, 0x55 ^ (1 << firing.bit));
    EXPECT_LT(firing.offset, 100u);
    places.push_back(firing.offset * 8 + firing.bit);
  }
  EXPECT_EQ(places[0], places[1]);
  EXPECT_NE(places[0], places[2]);
}

TEST(Point, FlipsNothingWhereThereIsNoBuffer) {
  SharedTable shared;
  shared.arm("test.point", Action::kBitflip, 1);
  EXPECT_EQ(run_subject(shared, 1), 0);
  EXPECT_EQ(shared.firing().failed, EINVAL);
}

TEST(Point, APoisonedItemEndsEachAttempt) {
  SharedTable shared;
  Entry& entry = shared.arm("test.item", Action::kPoison, 1);
  entry.item = 2;
  EXPECT_EQ(run_subject(shared, 2, "PassesWithItems"), 0) << "items 0 and 1";
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const int status = run_subject(shared, 3, "PassesWithItems");
    EXPECT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(shared.memory->firing_count, static_cast<std::uint32_t>(attempt));
  }
  EXPECT_EQ(shared.firing().item, 2u);
}

TEST(Point, PoisonIsWhatPassesOnTheChosenHit) {
  SharedTable shared;
  const Entry& entry = shared.arm("test.item", Action::kPoison, 5);
  EXPECT_EQ(run_subject(shared, 4, "PassesWithItems"), 0);
  EXPECT_TRUE(WIFSIGNALED(run_subject(shared, 1, "PassesWithItems")));
  EXPECT_EQ(entry.item, 0u);
  EXPECT_TRUE(WIFSIGNALED(run_subject(shared, 1, "PassesWithItems")));
}

TEST(Point, SlowGoesOnAfterItsDelay) {
  SharedTable shared;
  shared.arm("test.point", Action::kSlow, 1).value = 30'000'000;
  EXPECT_EQ(run_subject(shared, 2), 0);
  EXPECT_GE(shared.firing().left_ns - shared.firing().time_ns, 30'000'000);
}

}  // namespace
}  // namespace crashworthy::point

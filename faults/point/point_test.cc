// A point fires on exactly the armed hit, counted over processes, and leaves proof; unarmed it does
// nothing.
#define CRASHWORTHY_FAULT_POINTS
#include "faults/point/point.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace crashworthy::point {
namespace {

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
    entry.first = first;
    entry.every = every;
    entry.times = times;
    ++memory->count;
    return entry;
  }
};

// Runs this program again as a subject that passes the point "test.point" `hits` times; returns the
// raw wait status.
int run_subject(const SharedTable& shared, int hits) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::setenv("CRASHWORTHY_POINTS", std::to_string(shared.fd).c_str(), 1);
    ::setenv("POINT_TEST_HITS", std::to_string(hits).c_str(), 1);
    ::execl("/proc/self/exe", "point_test", "--gtest_filter=PointSubject.*", "--gtest_brief=1",
            nullptr);
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

// Not a test of its own: the body of the subject that the tests below start.
TEST(PointSubject, PassesThePoint) {
  const char* hits = std::getenv("POINT_TEST_HITS");
  for (int i = 0; hits != nullptr && i < std::atoi(hits); ++i)
    CRASHWORTHY_FAULT_POINT("test.point");
}

TEST(Point, AbortsOnTheArmedHitOverProcessesAndProvesIt) {
  SharedTable shared;
  const Entry& entry = shared.arm("test.point", Action::kAbort, 5);
  EXPECT_EQ(run_subject(shared, 3), 0);
  const int status = run_subject(shared, 3);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGABRT);
  EXPECT_EQ(entry.hits, 5u);
  ASSERT_EQ(shared.memory->firing_count, 1u);
  const Firing& firing = shared.memory->firings[0];
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
  EXPECT_EQ(counted.hits, 4u);
  EXPECT_EQ(shared.memory->firing_count, 0u);
}

}  // namespace
}  // namespace crashworthy::point

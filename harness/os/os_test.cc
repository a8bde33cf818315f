// The seam to Linux: units, wait statuses, atomic files, checksums, shared memory that outlives its
// writer.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "harness/os/clock.h"
#include "harness/os/crc32c.h"
#include "harness/os/file.h"
#include "harness/os/local_url.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"
#include "harness/os/random.h"
#include "harness/os/scheduling.h"
#include "harness/os/shared_memory.h"
#include "harness/os/wait_status.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(Duration, ReadsUnitsAndRefusesTheRest) {
  EXPECT_EQ(parse_duration("250ms")->count(), 250'000'000);
  EXPECT_EQ(parse_duration("1.5 s")->count(), 1'500'000'000);
  EXPECT_EQ(parse_duration("0s")->count(), 0);
  for (const char* bad : {"", "5", "-1s", "5 parsecs", "ms", "nan s", "1e300h", "1s2"}) {
    EXPECT_FALSE(parse_duration(bad)) << bad;
  }
  EXPECT_THAT(parse_duration("-1s").error().message, HasSubstr("negative"));
}

TEST(Size, ReadsBinaryUnits) {
  EXPECT_EQ(*parse_size("4096"), 4096u);
  EXPECT_EQ(*parse_size("64K"), 65536u);
  EXPECT_EQ(*parse_size("1.5M"), 3u << 19);
  EXPECT_FALSE(parse_size("-1"));
  EXPECT_FALSE(parse_size("5 stones"));
}

TEST(FormatDuration, HasThreeSignificantDigits) {
  EXPECT_EQ(format_duration(1'234'567), "1.23 ms");
  EXPECT_EQ(format_duration(45'600), "45.6 us");
  EXPECT_EQ(format_duration(2.5e9), "2.50 s");
  EXPECT_EQ(format_duration(0), "0.00 ns");
}

WaitStatus status_of_child(int (*body)()) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  auto pidfd = open_pidfd(child);
  EXPECT_TRUE(pidfd);
  EXPECT_TRUE(wait_for_end(pidfd->get(), 10'000));
  return reap(pidfd->get())->value();
}

TEST(WaitStatus, TellsAnExitFromASignal) {
  const WaitStatus exit6 = status_of_child([] { return 6; });
  EXPECT_TRUE(exit6.exited());
  EXPECT_EQ(exit6.exit_code(), 6);
  EXPECT_EQ(exit6.describe(), "exited with 6");
  const WaitStatus aborted = status_of_child([]() -> int {
    ::signal(SIGABRT, SIG_DFL);
    std::abort();
  });
  EXPECT_TRUE(aborted.signalled());
  EXPECT_EQ(aborted.signal(), SIGABRT);
  EXPECT_THAT(aborted.describe(), HasSubstr("killed by SIGABRT"));
}

TEST(Pidfd, KernelKeepsTheStatusOfAReapedProcess) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(42);
  auto pidfd = open_pidfd(child);
  ASSERT_TRUE(pidfd);
  ASSERT_TRUE(wait_for_end(pidfd->get(), 10'000));
  ASSERT_EQ(reap(pidfd->get())->value().exit_code(), 42);
  const auto status = exit_status_from_kernel(pidfd->get());
  if (!status) GTEST_SKIP() << "this kernel does not keep exit statuses in pidfds (before 6.15)";
  EXPECT_EQ(status->exit_code(), 42);
}

TEST(Pidfd, ASignalToAReapedProcessIsGone) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  auto pidfd = open_pidfd(child);
  ASSERT_TRUE(pidfd);
  ASSERT_TRUE(wait_for_end(pidfd->get(), 10'000));
  ASSERT_TRUE(reap(pidfd->get()));
  EXPECT_EQ(send_signal(pidfd->get(), SIGKILL).error().kind, ErrorKind::kGone);
}

TEST(SharedMemory, OutlivesItsWriter) {
  auto memory = SharedMemory::create("test", 4096);
  ASSERT_TRUE(memory);
  const pid_t child = ::fork();
  if (child == 0) {
    memory->data()[7] = std::byte{42};
    ::kill(::getpid(), SIGKILL);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(memory->data()[7], std::byte{42});
}

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "crashworthy-os-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(directory_); }
  fs::path directory_;
};

TEST_F(Files, AtomicWriteReplacesAndLeavesNoTemporary) {
  ASSERT_TRUE(write_file_atomically(directory_ / "a", "one"));
  ASSERT_TRUE(write_file_atomically(directory_ / "a", "two"));
  EXPECT_EQ(*read_file(directory_ / "a"), "two");
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_), fs::directory_iterator()), 1);
}

TEST_F(Files, FailedAtomicWriteKeepsTheOldContent) {
  const auto written = write_file_atomically(directory_ / "no" / "a", "one");
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message, HasSubstr("No such file"));
}

TEST_F(Files, AFullDiskIsAnError) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const auto written = write_all(full.get(), "x");
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().sys_errno, ENOSPC);
}

TEST(Crc32c, HasTheCastagnoliCheckValue) { EXPECT_EQ(crc32c("123456789", 9), 0xe3069283u); }

TEST(Random, IsTheSameEverywhereAndUniform) {
  EXPECT_EQ(Random(0).next(),
            0xE220A8397B1DCDAFu);  // SplitMix64's published first value of seed 0.
  Random random(1);
  std::vector<int> counts(3);
  for (int i = 0; i < 30'000; ++i) ++counts[random.below(3)];
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);
  EXPECT_NE(derive_seed(1, "a"), derive_seed(1, "b"));
  EXPECT_NE(derive_seed(1, "a", 0), derive_seed(1, "a", 1));
}

TEST(Proc, TellsOfAProcessFromItsStartToItsEnd) {
  const pid_t child = ::fork();
  if (child == 0) {
    while (true) ::pause();
  }
  ::kill(child, SIGSTOP);
  ASSERT_TRUE(wait_until_stopped(child, 5000));
  EXPECT_TRUE(is_stopped_by_signal(child));
  EXPECT_EQ(thread_states(child), "T");
  const auto stat = read_stat(child);
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->parent, ::getpid());
  EXPECT_EQ(stat->threads, 1u);
  EXPECT_EQ(stat->start_time, start_time_of(child));
  EXPECT_EQ(stat->name, status_field(child, "Name"));
  EXPECT_EQ(status_field(child, "PPid"), std::to_string(::getpid()));
  EXPECT_EQ(status_field(child, "NoSuchField"), "");
  ::kill(child, SIGKILL);
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_EQ(read_stat(child)->state, 'Z');
  EXPECT_FALSE(is_stopped_by_signal(child)) << "who has ended is not stopped";
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(read_stat(child));
  EXPECT_EQ(status_field(child, "Name"), "");
}

// A thread that asks for short turns keeps its nice value, and gives them up again.
TEST(Scheduling, AShortTimeSliceIsAskedForAndGivenBack) {
  if (::sched_getscheduler(0) != SCHED_OTHER)
    GTEST_SKIP() << "runs under another scheduling policy";
  std::thread([] {
    const int before = ::getpriority(PRIO_PROCESS, 0);
    ASSERT_EQ(::setpriority(PRIO_PROCESS, 0, before + 3), 0);
    const bool granted = request_time_slice(kShortestTimeSlice);
    EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), before + 3);
    EXPECT_EQ(request_time_slice({}), true);
    EXPECT_EQ(::getpriority(PRIO_PROCESS, 0), before + 3);
    if (!granted) GTEST_SKIP() << "this kernel grants no time slices (Linux 6.12)";
    sched_param realtime{1};
    if (::sched_setscheduler(0, SCHED_FIFO, &realtime) == 0) {
      EXPECT_FALSE(request_time_slice(kShortestTimeSlice));
    }
  }).join();
}

TEST(LocalUrls, AreOfThisMachineAlone) {
  const auto url = parse_local_url("http://localhost:80/a?b=1");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->host, "127.0.0.1");
  EXPECT_EQ(url->target, "/a?b=1");
  EXPECT_EQ(parse_local_url("http://[::1]:8080")->target, "/");
  for (const char* bad : {"https://127.0.0.1:1/", "http://127.0.0.1/", "http://127.0.0.1:0/",
                          "http://127.0.0.1:66000/", "http://example.org:80/", "http://:80/", "",
                          "http://127.0.0.1:80x/", "http://127.0.0.1:80/a b"}) {
    EXPECT_FALSE(parse_local_url(bad)) << bad;
  }
}

}  // namespace
}  // namespace crashworthy

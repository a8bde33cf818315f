// The pool at the limits of the machine: processes, descriptors, memory, an old kernel. It goes on
// with what it has or says what it lacks, and recovers when there is room again.
#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <csignal>
#include <cstddef>
#include <cstdio>

#include "harness/os/wait_status.h"
#include "harness/worker/frame.h"
#include "harness/worker/pool_stress_test_util.h"

namespace crashworthy {
namespace {

using namespace test;
using ::testing::HasSubstr;

JobOutput echo(const Job& given, const JobContext&) { return {done_text(given), {}, {}}; }

// Runs `body` in a child, whose exit code is the number of the check that failed, or 0.
int in_a_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(60);
    ::_exit(body());
  }
  int raw = -1;
  ::waitpid(child, &raw, 0);
  const WaitStatus status = WaitStatus::from_raw(raw);
  return status.exited() ? status.exit_code() : 1000 + status.signal();
}

// True when all of `count` jobs come back right.
bool all_come_back(Pool& pool, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) pool.submit(job(i));
  Results results;
  if (finish(pool, results) || results.size() != count) return false;
  return std::all_of(results.begin(), results.end(), [](const auto& entry) {
    return entry.second.output.bytes == done_text(entry.second.job);
  });
}

bool tells(const Error& error, const char* message, const char* hint) {
  return error.message.find(message) != std::string::npos &&
         error.hint.find(hint) != std::string::npos;
}

int occupied(const Pool& pool) {
  const auto workers = pool.workers();
  return static_cast<int>(workers.size()) -
         static_cast<int>(std::count(workers.begin(), workers.end(), 0));
}

// How many processes uid `uid` has now.
std::size_t processes_of(uid_t uid) {
  std::size_t count = 0;
  for (const auto& [pid, line] : all_processes()) {
    struct stat info {};
    if (::stat(("/proc/" + std::to_string(pid)).c_str(), &info) == 0 && info.st_uid == uid) ++count;
  }
  return count;
}

constexpr uid_t kNobody = 65534;

TEST(PoolLimits, WithoutRoomForProcessesItGoesOnAndRecovers) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become a user of its own";
  EXPECT_EQ(
      in_a_child([] {
        const std::size_t before = processes_of(kNobody);
        if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) return 1;
        PoolOptions options;
        options.workers = 3;
        options.spares = 1;
        options.intensity = kUnlimited;
        auto pool = make_worker_pool(options, echo, Probe());
        if (!pool || !all_come_back(**pool, 100)) return 2;
        // One process of ours, two zygotes, four workers: no more of them.
        const rlimit full{static_cast<rlim_t>(before + 2), static_cast<rlim_t>(before + 100)};
        for (const pid_t zygote : (*pool)->zygotes())
          ::prlimit(zygote, RLIMIT_NPROC, &full, nullptr);
        ::setrlimit(RLIMIT_NPROC, &full);
        const auto workers = (*pool)->workers();
        ::kill(workers[0], SIGKILL);
        ::kill(workers[1], SIGKILL);
        const std::int64_t noticed = now_ns() + 5'000'000'000;
        while ((*pool)->statistics().worker_deaths < 2 && now_ns() < noticed) {
          if (!(*pool)->wait(5ms)) return 3;
        }
        if (!all_come_back(**pool, 100)) return 4;
        if (occupied(**pool) != 2) return 5;  // One that was left, and the spare.
        const rlimit free{static_cast<rlim_t>(before + 100), static_cast<rlim_t>(before + 100)};
        for (const pid_t zygote : (*pool)->zygotes())
          ::prlimit(zygote, RLIMIT_NPROC, &free, nullptr);
        ::setrlimit(RLIMIT_NPROC, &free);
        if (!settle(**pool, 1)) return 6;
        if (!all_come_back(**pool, 100)) return 7;
        // The last one, and no other can be forked: a clear end.
        return 0;
      }),
      0);
}

TEST(PoolLimits, WithoutAnyProcessItSaysSo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become a user of its own";
  EXPECT_EQ(in_a_child([] {
              if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) return 1;
              PoolOptions options;
              options.workers = 1;
              options.spares = 0;
              auto pool = make_worker_pool(options, echo, Probe());
              if (!pool) return 2;
              const rlimit none{1, 1};
              for (const pid_t zygote : (*pool)->zygotes())
                ::prlimit(zygote, RLIMIT_NPROC, &none, nullptr);
              (*pool)->submit(job(0));
              ::kill((*pool)->workers()[0], SIGKILL);
              Results results;
              const auto error = finish(**pool, results);
              // It may have been done before it was killed.
              if (!error && results.size() != 1) return 3;
              if (!error) return (*pool)->wait(2000ms) ? 4 : 0;
              if (!tells(*error, "fork a worker", "ulimit -u")) return 5;
              ::setrlimit(RLIMIT_NPROC, &none);
              auto other = make_worker_pool(options, echo, Probe());
              if (other) return 6;
              return tells(other.error(), "fork", "ulimit -u") ? 0 : 7;
            }),
            0);
}

TEST(PoolLimits, WithFewDescriptorsItNeverHangs) {
  for (int more = 0; more < 14; ++more) {
    EXPECT_EQ(
        in_a_child([more] {
          rlimit limit{static_cast<rlim_t>(open_descriptors()) + static_cast<rlim_t>(more), 0};
          limit.rlim_max = 1000;
          ::setrlimit(RLIMIT_NOFILE, &limit);
          PoolOptions options;
          options.workers = 2;
          options.spares = 1;
          options.intensity = kUnlimited;
          auto pool = make_worker_pool(options, echo, Probe());
          if (!pool) return tells(pool.error(), "", "ulimit -n") ? 0 : 1;
          if (!all_come_back(**pool, 50)) return 2;
          ::kill((*pool)->workers()[0], SIGKILL);
          if (!all_come_back(**pool, 50)) return 3;
          limit.rlim_cur = 1000;
          ::setrlimit(RLIMIT_NOFILE, &limit);
          return settle(**pool, 1) ? 0 : 4;
        }),
        0)
        << more << " descriptors more";
  }
}

// In the middle of its life: no descriptor is left when workers and a zygote die.
TEST(PoolLimits, WithoutDescriptorsForNewProcessesItGoesOnAndRecovers) {
  EXPECT_EQ(in_a_child([] {
              PoolOptions options;
              options.workers = 3;
              options.spares = 1;
              options.intensity = kUnlimited;
              auto pool = make_worker_pool(options, echo, Probe());
              if (!pool || !all_come_back(**pool, 50)) return 1;
              const rlimit none{3, 1000};
              ::setrlimit(RLIMIT_NOFILE, &none);
              ::kill((*pool)->workers()[0], SIGKILL);
              if (!all_come_back(**pool, 50)) return 2;
              ::kill((*pool)->zygotes()[1], SIGKILL);
              if (!all_come_back(**pool, 50)) return 3;
              const rlimit plenty{1000, 1000};
              ::setrlimit(RLIMIT_NOFILE, &plenty);
              if (!settle(**pool, 1)) return 4;
              return all_come_back(**pool, 50) ? 0 : 5;
            }),
            0);
}

TEST(PoolLimits, RoomThatNoMachineHasIsRefused) {
  for (const std::size_t bytes :
       {~std::size_t{0}, ~std::size_t{0} / 2, ~std::size_t{0} / 20, (std::size_t{1} << 40) + 1}) {
    PoolOptions options;
    options.output_bytes = bytes;
    const auto pool = make_worker_pool(options, echo, Probe());
    ASSERT_FALSE(pool) << bytes;
    EXPECT_FALSE(FrameArena::create(20, bytes - 1).ok() && bytes > std::size_t{1} << 41);
  }
  // Beyond the address space, within the bound.
  PoolOptions options;
  options.output_bytes = std::size_t{1} << 40;
  options.workers = 256;
  const auto pool = make_worker_pool(options, echo, Probe());
  ASSERT_FALSE(pool);
  EXPECT_THAT(pool.error().message, HasSubstr("521 regions of 1048576 MiB"));
  EXPECT_THAT(pool.error().message, HasSubstr("shared memory"));
  EXPECT_THAT(pool.error().hint, HasSubstr("PoolOptions::output_bytes and frame_bytes"));
  EXPECT_THAT(pool.error().hint, HasSubstr("ulimit -v"));
  EXPECT_TRUE(childless());
}

bool without_futex_waitv() {
  std::array<sock_filter, 4> filter{
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 449, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST(PoolLimits, AnOldKernelWorksByProofOfDeath) {
  EXPECT_EQ(in_a_child([] {
              if (!without_futex_waitv()) return 77;
              no_core_files();
              PoolOptions options;
              options.workers = 3;
              options.spares = 2;
              options.intensity = kUnlimited;
              auto pool = make_worker_pool(
                  options,
                  [](const Job& given, const JobContext& context) {
                    if (given.item % 9 == 4 && context.attempt == 1) {
                      ::raise(given.item % 2 == 0 ? SIGSEGV : SIGKILL);
                    }
                    return echo(given, context);
                  },
                  Probe());
              if (!pool) return 1;
              if ((*pool)->takes_over()) return 2;
              if (!all_come_back(**pool, 200)) return 3;
              if (!settle(**pool, 2)) return 4;
              const PoolStatistics statistics = (*pool)->statistics();
              return statistics.suspicions == 0 && statistics.take_overs == 0 &&
                             statistics.worker_deaths == 22
                         ? 0
                         : 5;
            }),
            0);
}

}  // namespace
}  // namespace crashworthy

// The witness against real programs: it sees exactly the call that fails, in threads and children
// too, changes nothing for the program, and leaves nobody traced.
#include "faults/errno_witness.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "faults/program_test_util.h"

namespace crashworthy {
namespace {

int tracer_of(pid_t pid) {
  const auto status = read_file("/proc/" + std::to_string(pid) + "/status");
  const std::size_t at = status ? status->find("TracerPid:") : std::string::npos;
  return at == std::string::npos ? -1 : std::atoi(status->c_str() + at + 10);
}

void limit(pid_t pid, int resource, rlim_t value) {
  rlimit now{};
  ::prlimit(pid, static_cast<__rlimit_resource>(resource), nullptr, &now);
  now.rlim_cur = value;
  ASSERT_EQ(::prlimit(pid, static_cast<__rlimit_resource>(resource), &now, nullptr), 0);
}

// Attached to, and the reason why not.
#define ATTACH_OR_SKIP(name, pid, ...)                            \
  auto name##_result = ErrnoWitness::attach(pid, {__VA_ARGS__});  \
  if (!name##_result && name##_result.error().sys_errno == EPERM) \
    GTEST_SKIP() << name##_result.error().message;                \
  ASSERT_TRUE(name##_result) << name##_result.error().message;    \
  auto name = *std::move(name##_result)

TEST(ErrnoWitness, SeesTheOpenThatFindsNoDescriptor) {
  ProgramSubject program(victim_doing({"open"}));
  ATTACH_OR_SKIP(witness, program.pid(), {EMFILE, ENFILE});
  const std::int64_t before = now_ns();
  limit(program.pid(), RLIMIT_NOFILE, 3);
  EXPECT_EQ(program.end().ends[0].status.exit_code(), EMFILE) << "the program goes on as ever";
  pollfd event{witness->descriptor(), POLLIN, 0};
  ASSERT_EQ(::poll(&event, 1, 5'000), 1);
  const auto failure = witness->seen();
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->error, EMFILE);
  EXPECT_TRUE(failure->call == SYS_openat || failure->call == SYS_open) << failure->call;
  EXPECT_EQ(failure->pid, program.pid());
  EXPECT_GE(failure->time_ns, before);
}

TEST(ErrnoWitness, SeesABreakThatCannotGrow) {
  if (kSanitizedBuild) GTEST_SKIP() << "a sanitizer cannot live under an address-space limit";
  ProgramSubject program(victim_doing({"break"}));
  ATTACH_OR_SKIP(witness, program.pid(), {ENOMEM}, {SYS_brk, SYS_mmap});
  limit(program.pid(), RLIMIT_AS, 1 << 20);
  EXPECT_EQ(program.end().ends[0].status.exit_code(), ENOMEM);
  ASSERT_TRUE(witness->seen());
  EXPECT_EQ(witness->seen()->call, SYS_brk);
}

TEST(ErrnoWitness, SeesOnlyWhatItWasToldTo) {
  ProgramSubject program(victim_doing({"open"}));
  ATTACH_OR_SKIP(witness, program.pid(), {ENOSPC});
  limit(program.pid(), RLIMIT_NOFILE, 3);
  EXPECT_EQ(program.end().ends[0].status.exit_code(), EMFILE);
  EXPECT_FALSE(witness->seen());
}

TEST(ErrnoWitness, FollowsChildrenAndSeesThreads) {
  const char* code =
      "import os, threading, time\n"
      "def work():\n"
      "  while True:\n"
      "    time.sleep(0.01)\n"
      "    if os.fork() == 0:\n"
      "      try: os.mkdir('/proc/nothing'); os._exit(0)\n"
      "      except OSError as error: os._exit(error.errno)\n"
      "    os.wait()\n"
      "threading.Thread(target=work).start()\n"
      "print('ready', flush=True)\n"
      "time.sleep(1000)\n";
  ProgramSubject program({"python3", "-c", code});
  ATTACH_OR_SKIP(witness, program.pid(), {ENOENT}, {SYS_mkdir, SYS_mkdirat}, true);
  ASSERT_TRUE(eventually([&] { return witness->seen().has_value(); }));
  EXPECT_NE(witness->seen()->pid, program.pid());
  EXPECT_TRUE(eventually([&] { return tracer_of(program.pid()) == 0; }))
      << "it lets go by itself when it has seen it";
}

TEST(ErrnoWitness, LeavesARunningProgramAndAStoppedOneAsTheyWere) {
  ProgramSubject program(victim_doing({"spin", "4"}));
  {
    ATTACH_OR_SKIP(witness, program.pid(), {EMFILE});
    EXPECT_GT(tracer_of(program.pid()), 0);
    witness->stop();
    EXPECT_EQ(tracer_of(program.pid()), 0);
    EXPECT_TRUE(eventually([&] { return state_of(program.pid()) == 'R'; }));
  }
  ::kill(program.pid(), SIGSTOP);
  ASSERT_TRUE(wait_until_stopped(program.pid(), 5'000));
  {
    ATTACH_OR_SKIP(witness, program.pid(), {EMFILE});
    ::usleep(20'000);
  }
  EXPECT_TRUE(eventually([&] { return state_of(program.pid()) == 'T'; }));
  ::kill(program.pid(), SIGCONT);
  EXPECT_TRUE(eventually([&] { return state_of(program.pid()) == 'R'; }));
}

TEST(ErrnoWitness, LetsSignalsThrough) {
  ProgramSubject program(victim_doing({"term", "exit"}));
  ATTACH_OR_SKIP(witness, program.pid(), {EMFILE});
  ::kill(program.pid(), SIGTERM);
  EXPECT_EQ(program.end().ends[0].status.exit_code(), 5);
}

TEST(ErrnoWitness, RefusesWhatIsGoneOrTracedByOthers) {
  ProgramSubject program(victim_doing({"wait"}));
  ATTACH_OR_SKIP(witness, program.pid(), {EMFILE});
  EXPECT_FALSE(ErrnoWitness::attach(program.pid(), {{EMFILE}, {}}));
  ::kill(program.pid(), SIGKILL);
  program.end();
  const auto gone = ErrnoWitness::attach(program.pid(), {{EMFILE}, {}});
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().kind, ErrorKind::kGone);
}

}  // namespace
}  // namespace crashworthy

// Genuine native faults by tracing, on real processes: each has exactly its effect (siginfo, wait
// status, what the thread does), and nothing is confirmed, or left behind, where it has none.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "faults/elf_symbols.h"
#include "faults/injection_set.h"
#include "faults/injection_test_util.h"
#include "faults/tracer.h"
#include "harness/os/file.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

using ::testing::HasSubstr;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

std::atomic<unsigned> busy{0};

const std::string kVictim = std::string(CRASHWORTHY_VICTIM_DIR) + "/trace_test_victim";
const std::string kStaticVictim = kVictim + "_static";
const std::string kPlugin = std::string(CRASHWORTHY_VICTIM_DIR) + "/libtrace_test_plugin.so";

class Trace : public ::testing::Test {
 protected:
  void SetUp() override {
    ring_ = *ProbeRing::create(1 << 10);
    const pid_t child = ::fork();
    if (child == 0) {
      while (true) ::pause();
    }
    const bool allowed = Tracer::hold(child).ok();
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    if (!allowed) GTEST_SKIP() << "tracing is forbidden here";
  }
  std::unique_ptr<Injection> plan(const std::string& text, bool disarmed = false) {
    const FaultSpec fault = fault_of(text);
    auto injection = Injection::plan(
        {fault, resolve(fault.trigger, fault.trigger_kind(), 1, 0), 1, disarmed, log_.sink()});
    EXPECT_TRUE(injection->arm(launch_));
    return injection;
  }
  // Strikes the subject at once and gives the end of it.
  InjectionEvidence strike(const std::string& text, FakeSubject& subject) {
    auto injection = plan(text);
    subject.wait_for(ProbeEvent::kTaken, 1);
    injection->look(subject, subject.moment());
    EXPECT_TRUE(injection->fired()) << log_.steps.back().dump();
    InjectionEvidence evidence = subject.end();
    injection->finish(evidence);
    return evidence;
  }
  void expect_death(const std::string& fault, int signal, int code) {
    FakeSubject subject(*ring_, work_for_ever);
    const auto evidence =
        strike(R"({"fault": ")" + fault + R"(", "when": {"after": "1ns"}})", subject);
    EXPECT_TRUE(evidence.ends[0].status.signalled() && evidence.ends[0].status.signal() == signal)
        << evidence.ends[0].status.describe();
    EXPECT_EQ(log_.result()["outcome"], "confirmed") << log_.result().dump();
    const json info = log_.step("evidence")["siginfo"];
    EXPECT_EQ(info["signal"], signal);
    EXPECT_EQ(info["code"], code);
    if (code <= 0) {
      EXPECT_EQ(info["sender"], subject.pid());
    }
    EXPECT_EQ(log_.step("evidence")["thread"], "main");
  }
  static int work_for_ever(const Probe& probe) {
    probe.emit(ProbeEvent::kTaken, {0, 1}, 4);
    while (true) busy.fetch_add(1);
  }
  LaunchPlan launch_;
  std::optional<ProbeRing> ring_;
  Log log_;
};

TEST_F(Trace, SegvIsARealOne) { expect_death("native.segv", SIGSEGV, SEGV_MAPERR); }
TEST_F(Trace, AbortIsTheVictimsOwn) {
  expect_death("native.abort", SIGABRT, SI_TKILL);
  EXPECT_THAT(log_.step("evidence")["how"].get<std::string>(), HasSubstr("called abort() of "));
}
TEST_F(Trace, FpeIsADivisionByZero) { expect_death("native.fpe", SIGFPE, FPE_INTDIV); }
TEST_F(Trace, IllIsAnUndefinedInstruction) { expect_death("native.ill", SIGILL, ILL_ILLOPN); }
TEST_F(Trace, BusIsATruncatedFile) { expect_death("native.bus", SIGBUS, BUS_ADRERR); }
TEST_F(Trace, StackOverflowEndsAtTheGuard) {
  expect_death("native.stack_overflow", SIGSEGV, SEGV_MAPERR);
}
TEST_F(Trace, HeapCorruptIsNoticedByTheAllocator) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer's own allocator reports it otherwise";
  expect_death("native.heap_corrupt", SIGABRT, SI_TKILL);
}

TEST_F(Trace, ExitEarlyHasItsCode) {
  FakeSubject subject(*ring_, work_for_ever);
  const auto evidence = strike(
      R"({"fault": "process.exit_early", "when": {"after": "1ns"}, "set": {"code": 7}})", subject);
  EXPECT_TRUE(evidence.ends[0].status.exited());
  EXPECT_EQ(evidence.ends[0].status.exit_code(), 7);
  EXPECT_EQ(log_.result()["outcome"], "confirmed") << log_.result().dump();
}

TEST_F(Trace, AVictimThatSleepsInTheKernelIsStruckToo) {
  FakeSubject subject(*ring_, [](const Probe& probe) -> int {
    probe.emit(ProbeEvent::kTaken, {0, 1}, 4);
    while (true) ::pause();
  });
  const auto evidence = strike(R"({"fault": "native.segv", "when": {"after": "1ns"}})", subject);
  EXPECT_EQ(evidence.ends[0].status.signal(), SIGSEGV);
  EXPECT_EQ(log_.result()["outcome"], "confirmed");
}

TEST_F(Trace, AHandlerOfTheVictimIsSaid) {
  FakeSubject subject(*ring_, [](const Probe& probe) -> int {
    ::signal(SIGFPE, [](int) { ::_exit(33); });
    return work_for_ever(probe);
  });
  const auto evidence = strike(R"({"fault": "native.fpe", "when": {"after": "1ns"}})", subject);
  EXPECT_EQ(evidence.ends[0].status.exit_code(), 33);
  EXPECT_EQ(log_.result()["outcome"], "confirmed");
  EXPECT_THAT(log_.result()["reason"].get<std::string>(), HasSubstr("handled the signal"));
}

// Sleeps 300 ms in many calls, counts them in `value`, and sees whether anything else changed.
int sleep_and_count(const Probe& probe) {
  probe.emit(ProbeEvent::kTaken, {0, 1}, 4);
  const std::int64_t begin = now_ns();
  const timespec pause{0, 300'000'000};
  const int slept = ::nanosleep(&pause, nullptr);
  if (slept != 0) return 1;  // It was not to notice.
  volatile double sum = 0;
  for (int i = 1; i <= 1000; ++i) sum = sum + 1.0 / i;
  if (sum < 7.48547 || sum > 7.48548) return 2;
  return now_ns() - begin < 1'500'000'000 ? 3 : 0;
}

TEST_F(Trace, SlowTakesItsTimeAndLeavesNoTrace) {
  FakeSubject subject(*ring_, sleep_and_count);
  auto injection =
      plan(R"({"fault": "native.slow", "when": {"after": "1ns"}, "set": {"delay": "1500ms"}})");
  subject.wait_for(ProbeEvent::kTaken, 1);
  injection->look(subject, subject.moment());
  ASSERT_TRUE(injection->fired());
  const auto evidence = subject.end();
  EXPECT_EQ(evidence.ends[0].status.exit_code(), 0) << evidence.ends[0].status.describe();
  injection->finish(evidence);
  EXPECT_EQ(log_.result()["outcome"], "confirmed") << log_.result().dump();
  EXPECT_EQ(log_.step("evidence")["registers_restored"], true);
}

TEST_F(Trace, SlowIsUndoneWhenTheTrialEndsBeforeIt) {
  FakeSubject subject(*ring_, sleep_and_count);
  auto injection =
      plan(R"({"fault": "native.slow", "when": {"after": "1ns"}, "set": {"delay": "60s"}})");
  subject.wait_for(ProbeEvent::kTaken, 1);
  injection->look(subject, subject.moment());
  injection.reset();
  EXPECT_EQ(status_field(subject.pid(), "TracerPid"), "0");
  EXPECT_EQ(subject.end().ends[0].status.exit_code(), 3) << "on time, and unharmed";
}

TEST_F(Trace, AKilledSleeperDoesNotWaitForItsDelay) {
  FakeSubject subject(*ring_, sleep_and_count);
  auto injection =
      plan(R"({"fault": "native.slow", "when": {"after": "1ns"}, "set": {"delay": "60s"}})");
  subject.wait_for(ProbeEvent::kTaken, 1);
  injection->look(subject, subject.moment());
  ::kill(subject.pid(), SIGKILL);
  pollfd ended{injection->descriptors().at(0), POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 5000), 1);
  injection->finish({});
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
}

std::uint64_t cpu_time_ns(pid_t pid) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/schedstat");
  return text ? std::strtoull(text->c_str(), nullptr, 10) : 0;
}

TEST_F(Trace, SpinBurnsTheProcessor) {
  FakeSubject subject(*ring_, [](const Probe& probe) -> int {
    probe.emit(ProbeEvent::kTaken, {0, 1}, 4);
    while (true) ::pause();
  });
  auto injection = plan(R"({"fault": "native.spin", "when": {"after": "1ns"}})");
  subject.wait_for(ProbeEvent::kTaken, 1);
  injection->look(subject, subject.moment());
  pollfd seen{injection->descriptors().at(0), POLLIN, 0};
  ::poll(&seen, 1, 5000);
  const std::uint64_t before = cpu_time_ns(subject.pid());
  ::usleep(200'000);
  EXPECT_GT(cpu_time_ns(subject.pid()), before + 10'000'000) << "it paused before";
  injection->finish({});
  EXPECT_EQ(log_.result()["outcome"], "confirmed") << log_.result().dump();
  EXPECT_EQ(status_field(subject.pid(), "TracerPid"), "0");
}

TEST_F(Trace, DeadlockStandsInTheKernel) {
  FakeSubject subject(*ring_, work_for_ever);
  auto injection = plan(R"({"fault": "native.deadlock", "when": {"after": "1ns"}})");
  subject.wait_for(ProbeEvent::kTaken, 1);
  injection->look(subject, subject.moment());
  injection->finish({});
  EXPECT_EQ(log_.result()["outcome"], "confirmed") << log_.result().dump();
  // Let go, it goes back into its call, and uses no processor time from then on.
  for (int i = 0; i < 1000 && !status_field(subject.pid(), "State").starts_with("S"); ++i)
    ::usleep(1000);
  const std::uint64_t before = cpu_time_ns(subject.pid());
  ::usleep(50'000);
  EXPECT_TRUE(status_field(subject.pid(), "State").starts_with("S"));
  EXPECT_EQ(cpu_time_ns(subject.pid()), before);
  EXPECT_EQ(status_field(subject.pid(), "TracerPid"), "0");
}

TEST_F(Trace, BitflipChangesOneBitAndHealsIt) {
  FakeSubject subject(*ring_, work_for_ever);
  auto injection = plan(R"({"fault": "native.bitflip", "when": {"after": "1ns"}})");
  subject.wait_for(ProbeEvent::kTaken, 1);
  injection->look(subject, subject.moment());
  ASSERT_TRUE(injection->fired());
  InjectionEvidence nothing;
  injection->finish(nothing);
  EXPECT_EQ(log_.result()["outcome"], "confirmed") << log_.result().dump();
  const json bit = log_.step("evidence")["bit"];
  EXPECT_EQ(__builtin_popcount(bit["before"].get<unsigned>() ^ bit["after"].get<unsigned>()), 1);
  EXPECT_EQ(log_.step("heal")["done"], "the bit is as it was");
  std::uint8_t now = 0;
  ASSERT_TRUE(read_memory(subject.pid(), bit["address"].get<std::uint64_t>(), &now, 1));
  EXPECT_EQ(now, bit["before"]);
}

TEST_F(Trace, BitflipHoldsUntilItIsHealed) {
  FakeSubject subject(*ring_, work_for_ever);
  subject.wait_for(ProbeEvent::kTaken, 1);
  const auto bit = flip_bit(subject.pid(), 5);
  ASSERT_TRUE(bit);
  std::uint8_t now = 0;
  ASSERT_TRUE(read_memory(subject.pid(), bit->address, &now, 1));
  EXPECT_EQ(now, bit->before ^ bit->mask);
  EXPECT_TRUE(unflip_bit(subject.pid(), *bit));
  EXPECT_FALSE(unflip_bit(subject.pid(), *bit)) << "it is no longer what we made it";
}

TEST_F(Trace, OneThreadOfManyIsStruckAndTheWholeProcessDies) {
  FakeSubject subject(*ring_, [](const Probe& probe) -> int {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([] {
        while (true) busy.fetch_add(1);
      });
    }
    probe.emit(ProbeEvent::kTaken, {0, 1}, 4);
    for (std::thread& thread : threads) thread.join();
    return 0;
  });
  const auto evidence = strike(R"({"fault": "native.ill", "when": {"after": "1ns"}})", subject);
  EXPECT_EQ(evidence.ends[0].status.signal(), SIGILL);
  EXPECT_EQ(log_.result()["outcome"], "confirmed");
}

TEST_F(Trace, AVictimWithATracerIsSkippedWithItsReason) {
  FakeSubject subject(*ring_, work_for_ever);
  subject.wait_for(ProbeEvent::kTaken, 1);
  auto other = Tracer::hold(subject.pid());
  ASSERT_TRUE(other);
  auto injection = plan(R"({"fault": "native.segv", "when": {"after": "1ns"}})");
  injection->look(subject, subject.moment());
  injection->finish({});
  EXPECT_EQ(log_.result()["outcome"], "skipped");
  EXPECT_THAT(log_.result()["reason"].get<std::string>(), HasSubstr("traced by process"));
}

TEST_F(Trace, DisarmedNothingHappens) {
  FakeSubject subject(*ring_, sleep_and_count);
  auto injection = plan(R"({"fault": "native.segv", "when": {"after": "1ns"}})", true);
  subject.wait_for(ProbeEvent::kTaken, 1);
  injection->look(subject, subject.moment());
  const auto evidence = subject.end();
  EXPECT_EQ(evidence.ends[0].status.exit_code(), 3);
  injection->finish(evidence);
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
}

TEST_F(Trace, TooLateIsNotActivated) {
  auto injection = plan(R"({"fault": "native.segv", "when": {"after": "1ns"}})");
  FakeSubject subject(*ring_, [](const Probe&) -> int { return 5; });
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(subject.pid()), &info, WEXITED | WNOWAIT);
  injection->look(subject, subject.moment());
  const auto evidence = subject.end();
  EXPECT_EQ(evidence.ends[0].status.exit_code(), 5);
  injection->finish(evidence);
  EXPECT_EQ(log_.result()["outcome"], "not_activated");
}

// A program that is held before its exec, as the launcher does it. Its parent is a process of its
// own: what that sees of the program is what a supervisor would see.
class HeldProgram : public SubjectView {
 public:
  HeldProgram(const LaunchPlan& plan, const std::vector<std::string>& argv) {
    int gate[2];
    int told[2];
    EXPECT_EQ(::pipe2(gate, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(told, O_CLOEXEC), 0);
    parent_ = ::fork();
    if (parent_ == 0) ::_exit(be_parent(gate[0], told[1], argv));
    ::close(gate[0]);
    ::close(told[1]);
    told_.reset(told[0]);
    EXPECT_EQ(::read(told_.get(), &pid_, sizeof pid_), static_cast<ssize_t>(sizeof pid_));
    pidfd_ = *open_pidfd(pid_);
    for (const auto& hook : plan.before_exec) EXPECT_TRUE(hook(pid_));
    EXPECT_EQ(::write(gate[1], "", 1), 1);
    ::close(gate[1]);
  }
  ~HeldProgram() override {
    (void)send_signal(pidfd_.get(), SIGKILL);
    ::waitpid(parent_, nullptr, 0);
  }
  InjectionEvidence end() {
    int status = -1;
    pollfd told{told_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&told, 1, 60'000), 1) << "it hangs";
    if (told.revents != 0) (void)!::read(told_.get(), &status, sizeof status);
    status_ = WaitStatus::from_raw(status);
    return {{{pid_, status_, now_ns()}}, {}};
  }
  WaitStatus status_;

  void refresh() override {}
  const WorkerTracker& workers() const override { return tracker_; }
  bool supervised() const override { return false; }
  bool isolated() const override { return false; }
  std::int32_t main_pid() const override { return pid_; }
  std::int32_t supervisor_pid() const override { return pid_; }
  Result<UniqueFd> open(std::int32_t pid) const override { return open_pidfd(pid); }
  std::vector<pid_t> host_pids() const override { return {pid_}; }
  Moment moment() const override {
    Moment moment;
    moment.now_ns = now_ns();
    moment.launched_ns = moment.ready_ns = launched_ns_;
    return moment;
  }

 private:
  static int be_parent(int gate, int told, const std::vector<std::string>& argv) {
    const pid_t child = ::fork();
    if (child == 0) {
      char byte = 0;
      if (::read(gate, &byte, 1) != 1) ::_exit(126);
      std::vector<char*> words;
      for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
      words.push_back(nullptr);
      ::execvp(words[0], words.data());
      ::_exit(127);
    }
    (void)!::write(told, &child, sizeof child);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    (void)!::write(told, &status, sizeof status);
    return 0;
  }

  const std::int64_t launched_ns_ = now_ns();
  pid_t parent_ = -1;
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd told_;
  WorkerTracker tracker_;
};

class TraceSymbol : public Trace {
 protected:
  void SetUp() override {
    if (!symbols_supported()) GTEST_SKIP() << "built without libelf";
    Trace::SetUp();
  }
  // The whole life of an injection into a program; returns its result.
  json run(const std::string& text, const std::vector<std::string>& argv, bool disarmed = false) {
    launch_ = {};
    log_ = {};
    auto injection = plan(text, disarmed);
    HeldProgram program(launch_, argv);
    injection->look(program, program.moment());
    const auto evidence = program.end();
    injection->look(program, program.moment());
    status_ = program.status_;
    injection->finish(evidence);
    return log_.result();
  }
  static std::string fault(const std::string& name, int hit) {
    return R"({"fault": ")" + name + R"(", "when": {"hit": )" + std::to_string(hit) + "}}";
  }
  WaitStatus status_;
};

TEST_F(TraceSymbol, FiresOnExactlyTheChosenHit) {
  for (const std::string& program : {kVictim, kStaticVictim}) {
    SCOPED_TRACE(program);
    const json result = run(fault("native.abort@trace_test_pass", 777), {program, "plain", "777"});
    EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
    EXPECT_EQ(log_.step("fired")["hit"], 777);
    EXPECT_TRUE(status_.signalled());
    EXPECT_EQ(status_.raw() & 0x7f, SIGABRT);
  }
}

TEST_F(TraceSymbol, OnePassTooFewIsNotActivated) {
  for (const std::string& program : {kVictim, kStaticVictim}) {
    SCOPED_TRACE(program);
    const json result = run(fault("native.abort@trace_test_pass", 778), {program, "plain", "777"});
    EXPECT_EQ(result["outcome"], "not_activated");
    EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 777 times"));
    EXPECT_TRUE(status_.success()) << status_.describe();
  }
}

TEST_F(TraceSymbol, EveryFaultStrikesAtASymbol) {
  const std::vector<std::pair<std::string, int>> deaths{
      {"native.segv", SIGSEGV},         {"native.fpe", SIGFPE},
      {"native.ill", SIGILL},           {"native.bus", SIGBUS},
      {"native.heap_corrupt", SIGABRT}, {"native.stack_overflow", SIGSEGV}};
  for (const std::string& program : {kVictim, kStaticVictim}) {
    for (const auto& [name, signal] : deaths) {
      SCOPED_TRACE(program + " " + name);
      const json result = run(fault(name + "@trace_test_pass", 2), {program, "plain", "9"});
      EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
      EXPECT_EQ(status_.raw() & 0x7f, signal) << status_.describe();
    }
  }
}

TEST_F(TraceSymbol, RecursionCountsEachCall) {
  EXPECT_EQ(run(fault("native.segv@trace_test_deep", 101), {kVictim, "deep", "100"})["outcome"],
            "confirmed");
  const json result = run(fault("native.segv@trace_test_deep", 102), {kVictim, "deep", "100"});
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 101 times"));
  EXPECT_TRUE(status_.success());
}

TEST_F(TraceSymbol, ThreadsMissNoHitAndAddNone) {
  const json result =
      run(fault("native.segv@trace_test_pass", 100'000), {kVictim, "threads", "4", "250"});
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 1000 times"));
  EXPECT_TRUE(status_.success()) << status_.describe();
}

TEST_F(TraceSymbol, ThreadsAreStruckOnTheHit) {
  const json result =
      run(fault("native.segv@trace_test_pass", 1000), {kVictim, "threads", "4", "250"});
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(status_.raw() & 0x7f, SIGSEGV);
}

TEST_F(TraceSymbol, ChildrenAreCountedToo) {
  const json result =
      run(fault("native.abort@trace_test_pass", 1000), {kVictim, "fork", "4", "20"});
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 80 times"));
  EXPECT_TRUE(status_.success()) << status_.describe();
}

// Nobody but the tracer can see how it ends: its parent has reaped it before anybody looks.
TEST_F(TraceSymbol, AChildThatItsParentReapsAtOnceIsProved) {
  for (const auto& [name, signal] :
       {std::pair{"native.abort", SIGABRT}, {"native.segv", SIGSEGV}}) {
    const json result =
        run(fault(std::string(name) + "@trace_test_pass", 30), {kVictim, "fork", "4", "20"});
    EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
    EXPECT_EQ(log_.step("evidence")["status"], WaitStatus::from_raw(signal).describe());
    EXPECT_GT(result["victim"]["child"], 1);
    EXPECT_EQ(result["victim"]["command"], "trace_test_vict") << "as far as the kernel keeps it";
    EXPECT_EQ(status_.exit_code(), 1) << "one child went wrong";
  }
  const json left = run(R"({"fault": "process.exit_early@trace_test_pass",
                            "when": {"hit": 30}, "set": {"code": 9}})",
                        {kVictim, "fork", "4", "20"});
  EXPECT_EQ(left["outcome"], "confirmed") << left.dump();
}

TEST_F(TraceSymbol, AnIndirectFunctionIsSaidToBeOne) {
  for (const std::string& program : {kVictim, kStaticVictim}) {
    const json result = run(fault("native.abort@strlen", 1), {program, "plain", "3"});
    EXPECT_EQ(result["outcome"], "not_activated");
    EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("indirect function"));
    EXPECT_TRUE(status_.success());
  }
}

TEST_F(TraceSymbol, AProgramThatTracesOthersIsRefused) {
  launch_.argv = {"/usr/bin/strace", "true"};
  const FaultSpec spec = fault_of(fault("native.abort@trace_test_pass", 1));
  const auto armed = Injection::plan({spec, spec.trigger, 1, false, log_.sink()})->arm(launch_);
  ASSERT_FALSE(armed);
  EXPECT_THAT(armed.error().hint, HasSubstr("without strace"));
}

TEST_F(TraceSymbol, SpawnedProgramsAreCountedToo) {
  const json result = run(fault("native.abort@trace_test_pass", 1000), {kVictim, "spawn", "5"});
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 10 times"));
  EXPECT_TRUE(status_.success()) << status_.describe();
}

TEST_F(TraceSymbol, AnotherProgramAfterExecIsCounted) {
  for (const std::string& next : {kVictim, kStaticVictim}) {
    const json result = run(fault("native.abort@trace_test_pass", 4), {kVictim, "exec", next, "4"});
    EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
    EXPECT_EQ(status_.raw() & 0x7f, SIGABRT);
  }
}

TEST_F(TraceSymbol, ALibraryLoadedLateIsCounted) {
  const json result =
      run(fault("native.abort@trace_test_late", 14), {kVictim, "late", kPlugin, "7"});
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_THAT(log_.step("fired")["file"].get<std::string>(), HasSubstr("libtrace_test_plugin"));
  const json fewer =
      run(fault("native.abort@trace_test_late", 15), {kVictim, "late", kPlugin, "7"});
  EXPECT_THAT(fewer["reason"].get<std::string>(), HasSubstr("passed 14 times"))
      << "unloaded and loaded again";
  EXPECT_TRUE(status_.success());
}

TEST_F(TraceSymbol, SignalsPassThrough) {
  const json result =
      run(fault("native.abort@trace_test_pass", 100'000), {kVictim, "signals", "500"});
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 500 times"));
  EXPECT_TRUE(status_.success()) << status_.describe();
}

TEST_F(TraceSymbol, AStoppedChildIsSeenStoppedAndContinues) {
  const json result = run(fault("native.abort@trace_test_pass", 1000), {kVictim, "stop", "3"});
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 3 times"));
  EXPECT_TRUE(status_.success()) << status_.describe();
}

TEST_F(TraceSymbol, SlowLetsItGoOnUnharmedAndRepeats) {
  const std::int64_t begin = now_ns();
  const json result = run(R"({"fault": "native.slow@trace_test_pass", "set": {"delay": "100ms"},
                              "when": {"hit": 2, "repeat": {"times": 3, "every": 5}}})",
                          {kVictim, "threads", "3", "20"});
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(result["reason"], "3 of 3 fired");
  EXPECT_TRUE(status_.success()) << status_.describe();
  EXPECT_GE(now_ns() - begin, 100'000'000);
}

TEST_F(TraceSymbol, ExitEarlyAndBitflipAtASymbol) {
  const json left = run(R"({"fault": "process.exit_early@trace_test_pass",
                            "when": {"hit": 3}, "set": {"code": 9}})",
                        {kVictim, "plain", "9"});
  EXPECT_EQ(left["outcome"], "confirmed") << left.dump();
  EXPECT_EQ(status_.exit_code(), 9);
  const json bit = run(fault("native.bitflip@trace_test_pass", 3), {kVictim, "plain", "9"});
  EXPECT_EQ(bit["outcome"], "confirmed") << bit.dump();
}

TEST_F(TraceSymbol, AWrongSymbolIsNotActivatedAndSaid) {
  const json result = run(fault("native.abort@no_such_function", 1), {kVictim, "plain", "3"});
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("no_such_function"));
  EXPECT_TRUE(status_.success());
}

TEST_F(TraceSymbol, DisarmedItOnlyCounts) {
  const json result = run(fault("native.abort@trace_test_pass", 1), {kVictim, "plain", "3"}, true);
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_TRUE(status_.success());
}

TEST_F(TraceSymbol, WithAGateOnlyLaterHitsCount) {
  const json result = run(R"({"fault": "native.abort@trace_test_pass",
                              "when": {"hit": 1, "after": "1h"}})",
                          {kVictim, "plain", "5"});
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_THAT(result["reason"].get<std::string>(), HasSubstr("passed 0 times"));
}

TEST_F(TraceSymbol, TheEndOfTheInjectionLetsTheProgramGoOn) {
  auto injection = plan(fault("native.abort@trace_test_pass", 1'000'000));
  HeldProgram program(launch_, {kVictim, "threads", "3", "3000"});
  ::usleep(100'000);
  injection.reset();
  EXPECT_EQ(program.end().ends[0].status.raw(), 0);
}

}  // namespace
}  // namespace crashworthy

// The faults that strike whole processes, against real programs, static and not: armed each has
// exactly its effect and proves it; disarmed, too late, or where nobody fits nothing is confirmed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "faults/injection.h"
#include "faults/program_test_util.h"

namespace crashworthy {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string> kPython{"python3", "-c",
                                       "import time\nprint('ready', flush=True)\ntime.sleep(1000)"};

class ProcessFaults : public ::testing::Test {
 protected:
  void plan(const std::string& text, bool disarmed = false) {
    const FaultSpec fault = fault_of(text);
    injection_ = Injection::plan(
        {fault, resolve(fault.trigger, fault.trigger_kind(), 1, 0), 1, disarmed, log_.sink()});
    EXPECT_TRUE(injection_->arm(launch_));
  }
  void look(ProgramSubject& subject) { injection_->look(subject, subject.moment()); }
  // What is left of a fault when the subject has ended by itself.
  json finish(const InjectionEvidence& evidence = {}) {
    injection_->finish(evidence);
    return log_.result();
  }
  std::string reason() { return log_.result()["reason"]; }

  LaunchPlan launch_;
  Log log_;
  std::unique_ptr<Injection> injection_;
};

std::string now_with(const std::string& fault, const std::string& more = "") {
  return R"({"fault": ")" + fault + R"(", "when": {"after": "1ns"})" + more + "}";
}

// ---- kill, with pick and repeat ----

TEST_F(ProcessFaults, KillStrikesAllOfThemAtOnce) {
  plan(now_with("process.kill", R"(, "victim": {"command": "crashworthy-vic*", "pick": "all"})"));
  // What it leaves is ours to reap: only then the kernel tells how it ended.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ProgramSubject subject(victim_doing({"grow", "0"}));
  ProgramSubject other(victim_doing({"wait"}));
  look(subject);
  const InjectionEvidence evidence = subject.end();
  for (int i = 0; i < 100 && ::waitpid(-1, nullptr, WNOHANG) >= 0; ++i) ::usleep(1000);
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  EXPECT_EQ(finish(evidence)["outcome"], "confirmed") << log_.result().dump();
  EXPECT_GE(log_.result()["victims"].size(), 1u);
  EXPECT_NE(state_of(other.pid()), 'Z') << "nobody outside of the subject";
}

TEST_F(ProcessFaults, KillRepeatsAfterItsGap) {
  plan(
      R"({"fault": "process.kill", "victim": {"role": "any", "pick": "newest", "child": 2},
          "when": {"after": "1ns", "repeat": {"times": 3, "gap": "30ms"}}})");
  ProgramSubject subject(victim_doing({"restart"}));
  ASSERT_TRUE(subject.work_until(*injection_, [&] { return log_.count("fired") == 3; }));
  subject.work_until(
      *injection_, [] { return false; }, 100);
  EXPECT_NE(subject.main_pid(), 0);
  EXPECT_EQ(finish()["victims"].size(), 3u) << log_.result().dump();
}

// ---- signal ----

TEST_F(ProcessFaults, ASignalThatKillsIsSeenInTheStatus) {
  for (const auto& argv : {victim_doing({"wait"}), kPython}) {
    plan(now_with("process.signal", R"(, "set": {"signal": "SIGSEGV"})"));
    ProgramSubject subject(argv);
    look(subject);
    const InjectionEvidence evidence = subject.work_until_end(*injection_);
    EXPECT_EQ(evidence.ends[0].status.signal(), SIGSEGV);
    EXPECT_EQ(finish(evidence)["outcome"], "confirmed") << log_.result().dump();
  }
}

// What comes of a SIGTERM that the victim treats so.
struct Treatment {
  const char* how;
  const char* outcome;
};

TEST_F(ProcessFaults, ASignalThatIsCaughtIgnoredOrBlockedIsNotTakenForADeath) {
  for (const auto& [how, outcome] :
       {Treatment{"catch", "confirmed"}, Treatment{"ignore", "not_activated"},
        Treatment{"block", "indeterminate"}}) {
    plan(now_with("process.signal", R"(, "set": {"signal": "SIGTERM"})"));
    ProgramSubject subject(victim_doing({"term", how}));
    look(subject);
    subject.work_until(*injection_, [&] { return !log_.step("evidence").is_null(); });
    EXPECT_EQ(finish()["outcome"], outcome) << how << log_.result().dump();
    EXPECT_TRUE(comes_to(subject.pid(), 'S')) << how;
  }
}

TEST_F(ProcessFaults, AStoppingSignalIsProvedAndHealed) {
  plan(now_with("process.signal", R"(, "set": {"signal": "SIGSTOP"})"));
  ProgramSubject subject(victim_doing({"wait"}));
  look(subject);
  subject.work_until(*injection_, [&] { return !log_.step("evidence").is_null(); });
  EXPECT_EQ(state_of(subject.pid()), 'T');
  EXPECT_EQ(finish()["outcome"], "confirmed") << log_.result().dump();
  EXPECT_TRUE(comes_to(subject.pid(), 'S'));
}

TEST_F(ProcessFaults, ASignalNeedsAName) {
  const auto fault = parse_fault(json::parse(R"({"fault": "process.signal"})"), "/faults/0");
  ASSERT_FALSE(fault);
  EXPECT_THAT(fault.error().message, HasSubstr("needs 'signal'"));
}

// ---- term ----

TEST_F(ProcessFaults, TermLetsAHandlerEndItWithinTheGrace) {
  plan(now_with("process.term"));
  ProgramSubject subject(victim_doing({"term", "exit"}));
  look(subject);
  EXPECT_EQ(finish(subject.work_until_end(*injection_))["outcome"], "confirmed");
  EXPECT_EQ(log_.step("evidence")["grace_used_up"], false);
}

TEST_F(ProcessFaults, TermKillsWhoeverStaysAfterTheGrace) {
  for (const char* how : {"ignore", "block", "catch"}) {
    log_.steps.clear();
    plan(now_with("process.term", R"(, "set": {"grace": "50ms"})"));
    ProgramSubject subject(victim_doing({"term", how}));
    const std::int64_t start = now_ns();
    look(subject);
    const InjectionEvidence evidence = subject.work_until_end(*injection_);
    EXPECT_EQ(evidence.ends[0].status.signal(), SIGKILL) << how;
    EXPECT_GE(evidence.ends[0].time_ns - start, 50'000'000);
    EXPECT_EQ(finish(evidence)["outcome"], "confirmed") << log_.result().dump();
    EXPECT_EQ(log_.step("evidence")["grace_used_up"], true);
  }
}

TEST_F(ProcessFaults, TermOfOneThatEndsByItselfIsNotConfirmed) {
  plan(now_with("process.term"));
  ProgramSubject subject(victim_doing({"exit", "3"}));
  siginfo_t info{};
  ::waitid(P_PID, static_cast<id_t>(subject.pid()), &info, WEXITED | WNOWAIT);
  look(subject);
  EXPECT_EQ(finish(subject.end())["outcome"], "not_activated");
}

// ---- hang ----

TEST_F(ProcessFaults, HangStopsEveryThreadAndGoesOnAfterItsDuration) {
  plan(now_with("process.hang", R"(, "set": {"duration": "50ms"})"));
  ProgramSubject subject(victim_doing({"spin", "3"}));
  look(subject);
  ASSERT_TRUE(subject.work_until(*injection_, [&] { return !log_.step("fired").is_null(); }));
  EXPECT_EQ(state_of(subject.pid()), 'T');
  ASSERT_TRUE(subject.work_until(*injection_, [&] { return !log_.step("hang_over").is_null(); }));
  EXPECT_GE(log_.step("hang_over")["time_ns"].get<std::int64_t>() -
                log_.step("fired")["stopped_ns"].get<std::int64_t>(),
            50'000'000);
  EXPECT_TRUE(comes_to(subject.pid(), 'R'));
  EXPECT_EQ(finish()["outcome"], "confirmed");
}

TEST_F(ProcessFaults, HangLastsToTheEndAndIsHealedThen) {
  plan(now_with("process.hang"));
  ProgramSubject subject(kPython);
  look(subject);
  ASSERT_TRUE(subject.work_until(*injection_, [&] { return !log_.step("fired").is_null(); }));
  EXPECT_EQ(state_of(subject.pid()), 'T');
  EXPECT_EQ(finish()["outcome"], "confirmed");
  EXPECT_TRUE(comes_to(subject.pid(), 'S'));
}

TEST_F(ProcessFaults, AHangThatNobodyFinishesIsHealedToo) {
  plan(now_with("process.hang"));
  ProgramSubject subject(victim_doing({"wait"}));
  look(subject);
  EXPECT_TRUE(comes_to(subject.pid(), 'T'));
  injection_.reset();
  EXPECT_TRUE(comes_to(subject.pid(), 'S'));
}

// ---- kill_tree ----

TEST_F(ProcessFaults, KillTreeLeavesNobodyAlthoughTheyGoOnForking) {
  plan(now_with("process.kill_tree"));
  ProgramSubject subject(victim_doing({"grow", "3"}));
  ASSERT_TRUE(eventually([&] { return tree_of(subject.pid()).size() >= 15; }));
  look(subject);
  EXPECT_TRUE(tree_of(subject.pid()).empty());
  EXPECT_EQ(finish(subject.end())["outcome"], "confirmed") << log_.result().dump();
  EXPECT_GE(log_.step("fired")["processes"], 15);
  EXPECT_EQ(log_.step("fire")["victim"]["role"], "main");
}

TEST_F(ProcessFaults, KillTreeOfAPartLeavesTheRest) {
  plan(now_with("process.kill_tree", R"(, "victim": {"child": 2})"));
  ProgramSubject subject(victim_doing({"grow", "2"}));
  ASSERT_TRUE(eventually([&] { return tree_of(subject.pid()).size() >= 7; }));
  look(subject);
  EXPECT_FALSE(has_ended(open_pidfd(subject.pid())->get()));
  EXPECT_GE(log_.step("fired")["processes"], 1);
  EXPECT_EQ(log_.steps.back()["left"], 0) << log_.steps.back().dump();
  injection_->finish({});
}

// ---- kill_supervisor ----

TEST_F(ProcessFaults, KillSupervisorTellsWhatBecomesOfItsChildren) {
  plan(now_with("process.kill_supervisor"));
  ProgramSubject subject(victim_doing({"restart"}));
  subject.supervised_ = true;
  ASSERT_TRUE(eventually([&] { return tree_of(subject.pid()).size() == 2; }));
  const pid_t child = tree_of(subject.pid())[1];
  look(subject);
  ASSERT_TRUE(subject.work_until(*injection_, [&] { return !log_.step("children").is_null(); }));
  const json fates = log_.step("children")["children"];
  ASSERT_EQ(fates.size(), 1u);
  EXPECT_EQ(fates[0]["host_pid"], child);
  EXPECT_EQ(fates[0]["fate"], "alive");
  EXPECT_EQ(fates[0]["adopted"], true);
  ::kill(child, SIGKILL);
  EXPECT_EQ(finish(subject.end())["outcome"], "confirmed");
}

TEST_F(ProcessFaults, KillSupervisorIsSkippedWhereThereIsNone) {
  plan(now_with("process.kill_supervisor"));
  ProgramSubject subject(victim_doing({"wait"}));
  look(subject);
  EXPECT_EQ(finish()["outcome"], "skipped");
  EXPECT_TRUE(comes_to(subject.pid(), 'S'));
}

// ---- crashloop ----

TEST_F(ProcessFaults, CrashloopKillsEachThatTakesThePlaceAndStops) {
  plan(now_with("process.crashloop", R"(, "victim": {"child": 2})"));
  ProgramSubject subject(victim_doing({"restart"}));
  ASSERT_TRUE(subject.work_until(*injection_, [&] { return log_.count("fired") == 3; }));
  subject.work_until(
      *injection_, [] { return false; }, 100);
  EXPECT_TRUE(eventually([&] { return tree_of(subject.pid()).size() == 2; })) << "a fourth lives";
  EXPECT_EQ(log_.count("fired"), 3u);
  EXPECT_EQ(finish()["victims"].size(), 3u);
  EXPECT_EQ(log_.result()["outcome"], kernel_tells_of_ends() ? "confirmed" : "indeterminate");
}

TEST_F(ProcessFaults, CrashloopOfWhatNobodyRestartsIsNotConfirmed) {
  plan(now_with("process.crashloop"));
  ProgramSubject subject(victim_doing({"wait"}));
  look(subject);
  EXPECT_EQ(finish(subject.work_until_end(*injection_))["outcome"], "not_activated");
  EXPECT_THAT(reason(), HasSubstr("1 of 3"));
}

// ---- slow_start, fail_start ----

// The planned command line as a program, whose descriptors are those of the plan.
InjectionEvidence run_planned(const LaunchPlan& launch) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    for (const auto& [ours, number] : launch.descriptors) ::dup2(ours, number);
    std::vector<char*> words;
    for (const std::string& word : launch.argv) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    ::execvp(words[0], words.data());
    ::_exit(126);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return {{{pid, WaitStatus::from_raw(status), now_ns()}}, {}};
}

class StartFaults : public ProcessFaults {
 protected:
  void launched() {
    FakeSubject subject(ring_, [](const Probe&) { return 0; });
    injection_->launched(subject);
  }
  ProbeRing ring_ = *ProbeRing::create(1 << 10);
};

TEST_F(StartFaults, SlowStartSleepsAndThenBecomesTheCommand) {
  for (const auto& argv :
       {victim_doing({"exit", "7"}), std::vector<std::string>{"python3", "-c", "exit(7)"}}) {
    launch_ = LaunchPlan{};
    launch_.argv = argv;
    plan(R"({"fault": "process.slow_start", "set": {"delay": "100ms"}})");
    launched();
    const std::int64_t start = now_ns();
    const InjectionEvidence evidence = run_planned(launch_);
    EXPECT_GE(evidence.ends[0].time_ns - start, 100'000'000);
    EXPECT_EQ(evidence.ends[0].status.exit_code(), 7);
    EXPECT_EQ(finish(evidence)["outcome"], "confirmed") << log_.result().dump();
    EXPECT_TRUE(injection_->fired());
  }
}

TEST_F(StartFaults, FailStartRefusesTheFirstStartsAndNoMore) {
  launch_.argv = victim_doing({"exit", "7"});
  plan(R"({"fault": "process.fail_start", "set": {"code": 9, "times": 2}})");
  launched();
  InjectionEvidence evidence;
  std::vector<int> codes;
  for (int i = 0; i < 4; ++i) {
    evidence.ends.push_back(run_planned(launch_).ends[0]);
    codes.push_back(evidence.ends.back().status.exit_code());
  }
  EXPECT_EQ(codes, (std::vector{9, 9, 7, 7}));
  EXPECT_EQ(finish(evidence)["outcome"], "confirmed");
  EXPECT_EQ(reason(), "2 of 2 starts refused");
}

TEST_F(StartFaults, DisarmedTheCommandStartsAsEver) {
  for (const char* fault : {R"({"fault": "process.slow_start", "set": {"delay": "10s"}})",
                            R"({"fault": "process.fail_start"})"}) {
    launch_ = LaunchPlan{};
    launch_.argv = victim_doing({"exit", "7"});
    plan(fault, true);
    launched();
    const std::int64_t start = now_ns();
    const InjectionEvidence evidence = run_planned(launch_);
    EXPECT_LT(now_ns() - start, 5'000'000'000);
    EXPECT_EQ(evidence.ends[0].status.exit_code(), 7);
    EXPECT_EQ(finish(evidence)["outcome"], "not_activated");
    EXPECT_FALSE(injection_->fired());
  }
}

TEST_F(StartFaults, AStartThatNeverComesOrCannotBeIsNotConfirmed) {
  launch_.argv = {"/no/such/program"};
  plan(R"({"fault": "process.slow_start", "set": {"delay": "1ms"}})");
  launched();
  EXPECT_EQ(finish()["outcome"], "not_activated");
  launch_ = LaunchPlan{};
  launch_.argv = {"/no/such/program"};
  plan(R"({"fault": "process.slow_start", "set": {"delay": "1ms"}})");
  launched();
  const InjectionEvidence evidence = run_planned(launch_);
  EXPECT_EQ(evidence.ends[0].status.exit_code(), 127);
  EXPECT_EQ(finish(evidence)["outcome"], "indeterminate");
}

// ---- Whatever it is: disarmed, or nobody there ----

const std::vector<std::string>& moment_faults() {
  static const std::vector<std::string> all{
      now_with("process.kill"),
      now_with("process.signal", R"(, "set": {"signal": "SIGSTOP"})"),
      now_with("process.term", R"(, "set": {"grace": "1ns"})"),
      now_with("process.hang"),
      now_with("process.kill_tree"),
      now_with("process.kill_supervisor"),
      now_with("process.crashloop")};
  return all;
}

TEST_F(ProcessFaults, DisarmedNothingIsDone) {
  for (const std::string& fault : moment_faults()) {
    plan(fault, true);
    ProgramSubject subject(victim_doing({"wait"}));
    subject.supervised_ = true;
    for (int i = 0; i < 5; ++i) look(subject);
    EXPECT_TRUE(comes_to(subject.pid(), 'S')) << fault;
    EXPECT_EQ(finish()["outcome"], "not_activated") << fault;
    EXPECT_EQ(reason(), "disarmed");
  }
}

TEST_F(ProcessFaults, OneThatHasEndedIsNobodysVictim) {
  for (const std::string& fault : moment_faults()) {
    plan(fault);
    ProgramSubject subject(victim_doing({"exit", "7"}));
    subject.supervised_ = true;
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(subject.pid()), &info, WEXITED | WNOWAIT);
    for (int i = 0; i < 3; ++i) look(subject);
    EXPECT_EQ(finish(subject.end())["outcome"], "not_activated") << fault;
  }
}

}  // namespace
}  // namespace crashworthy

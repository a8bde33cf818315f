// The faults that take something from a process, against real programs, static and not: the victim
// itself sees the error, the harness proves it, and afterwards everything is as before.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>

#include "faults/control_group.h"
#include "faults/injection.h"
#include "faults/program_test_util.h"

namespace crashworthy {
namespace {

using ::testing::HasSubstr;

class ResourceFaults : public ::testing::Test {
 protected:
  void plan(const std::string& fault, const std::string& settings = "{}", bool disarmed = false) {
    log_.steps.clear();
    const FaultSpec spec = fault_of(R"({"fault": ")" + fault +
                                    R"(", "when": {"after": "1ns"}, "set": )" + settings + "}");
    injection_ = Injection::plan(
        {spec, resolve(spec.trigger, spec.trigger_kind(), 1, 0), 1, disarmed, log_.sink()});
    LaunchPlan launch;
    EXPECT_TRUE(injection_->arm(launch));
  }
  void look(ProgramSubject& subject) { injection_->look(subject, subject.moment()); }
  json finish(const InjectionEvidence& evidence = {}) {
    injection_->finish(evidence);
    return log_.result();
  }
  std::string outcome() { return log_.result()["outcome"]; }
  std::string reason() { return log_.result()["reason"]; }

  // Where the fault itself says that the machine does not allow it, and why; "": it went on.
  std::string refusal(const std::string& word) {
    if (log_.result()["outcome"] != "skipped" && log_.result()["outcome"] != "indeterminate")
      return "";
    return reason().find(word) == std::string::npos ? "" : reason();
  }

  // The cgroup that it said it would make; "": none.
  std::string group() {
    const json step = log_.step("resources");
    EXPECT_TRUE(step.is_null() || step["synced"]) << "on disk before it is made";
    return step.is_null() ? "" : step["resources"][0]["path"].get<std::string>();
  }

  Log log_;
  std::unique_ptr<Injection> injection_;
};

// Until it fails: a file is opened, a process started.
std::vector<std::string> python_until_it_fails(const std::string& what) {
  return {"python3", "-c",
          "import os, time\n"
          "kept = []\n"
          "print('ready', flush=True)\n"
          "while True:\n"
          "  time.sleep(0.002)\n"
          "  try:\n    " +
              what + "\n  except OSError as error: os._exit(error.errno)\n"};
}

struct Felt {
  const char* fault;
  std::vector<std::string> program;
  int error;
};

TEST_F(ResourceFaults, ALimitIsFeltByTheVictimAndSeenByTheWitness) {
  const std::vector<Felt> cases{
      {"resource.fd_limit", victim_doing({"open"}), EMFILE},
      {"resource.fd_limit", python_until_it_fails("kept.append(open('/dev/null'))"), EMFILE},
      {"resource.mem_cap", victim_doing({"map"}), ENOMEM},
      {"resource.mem_cap", victim_doing({"break"}), ENOMEM},
      {"resource.process_limit", victim_doing({"fork"}), EAGAIN},
      {"resource.process_limit",
       python_until_it_fails(
           "pid = os.fork()\n    if pid == 0: os._exit(0)\n    os.waitpid(pid, 0)"),
       EAGAIN}};
  for (const Felt& felt : cases) {
    if (kSanitizedBuild && std::string(felt.fault) == "resource.mem_cap") continue;
    plan(felt.fault);
    ProgramSubject subject(felt.program);
    look(subject);
    if (!injection_->fired()) {
      EXPECT_EQ(finish(), log_.result());
      EXPECT_EQ(outcome(), "skipped") << felt.fault << log_.result().dump();
      EXPECT_THAT(reason(), HasSubstr("root")) << "only root is refused, and only processes";
      continue;
    }
    const InjectionEvidence evidence = subject.work_until_end(*injection_);
    EXPECT_EQ(evidence.ends[0].status.exit_code(), felt.error) << felt.fault;
    finish(evidence);
    if (refusal("trace") != "") GTEST_SKIP() << reason();
    EXPECT_EQ(outcome(), "confirmed") << felt.fault << log_.result().dump();
    EXPECT_EQ(log_.step("evidence")["host_pid"], subject.pid());
    EXPECT_FALSE(std::filesystem::exists(group())) << group();
  }
}

TEST_F(ResourceFaults, ALimitThatNobodyFeelsIsNotActivatedAndHealed) {
  const std::vector<std::pair<const char*, __rlimit_resource>> limits{
      {"resource.fd_limit", RLIMIT_NOFILE},
      {"resource.mem_cap", RLIMIT_AS},
      {"resource.process_limit", RLIMIT_NPROC}};
  for (const auto& [fault, number] : limits) {
    plan(fault);
    ProgramSubject subject(victim_doing({"wait"}));
    rlimit before{};
    ::prlimit(subject.pid(), number, nullptr, &before);
    look(subject);
    rlimit during{};
    ::prlimit(subject.pid(), number, nullptr, &during);
    if (group().empty() && injection_->fired()) {
      EXPECT_LT(during.rlim_cur, before.rlim_cur);
    }
    finish();
    if (refusal("root") != "" || refusal("trace") != "") continue;
    EXPECT_EQ(outcome(), "not_activated") << fault;
    rlimit after{};
    ::prlimit(subject.pid(), number, nullptr, &after);
    EXPECT_EQ(after.rlim_cur, before.rlim_cur) << fault;
    EXPECT_TRUE(comes_to(subject.pid(), 'S'));
    EXPECT_FALSE(std::filesystem::exists(group())) << group();
  }
}

TEST_F(ResourceFaults, AGivenLimitLeavesRoom) {
  plan("resource.fd_limit", R"({"limit": 20})");
  ProgramSubject subject(victim_doing({"open"}));
  look(subject);
  EXPECT_EQ(log_.step("fire")["value"], 20);
  const InjectionEvidence evidence = subject.work_until_end(*injection_);
  EXPECT_EQ(evidence.ends[0].status.exit_code(), EMFILE);
  finish(evidence);
}

// ---- oom_kill ----

TEST_F(ResourceFaults, TheOomKillerStrikesInACgroupThatIsGoneAfterwards) {
  const std::vector<std::string> python{
      "python3", "-c",
      "import time\nprint('ready', flush=True)\nkept = []\n"
      "while True:\n  kept.append(bytearray(1 << 16))\n  time.sleep(0.001)\n"};
  for (const auto& argv : {victim_doing({"touch"}), python}) {
    plan("resource.oom_kill");
    ProgramSubject subject(argv);
    look(subject);
    if (!injection_->fired()) {
      finish();
      ASSERT_EQ(outcome(), "skipped") << log_.result().dump();
      EXPECT_NE(reason(), "");
      GTEST_SKIP() << reason();
    }
    EXPECT_TRUE(std::filesystem::exists(group()));
    const InjectionEvidence evidence = subject.work_until_end(*injection_);
    EXPECT_EQ(evidence.ends[0].status.signal(), SIGKILL);
    EXPECT_EQ(finish(evidence)["outcome"], "confirmed") << log_.result().dump();
    EXPECT_EQ(log_.step("evidence")["oom_kills"], 1);
    EXPECT_FALSE(std::filesystem::exists(group())) << group();
  }
}

TEST_F(ResourceFaults, ALimitThatTheVictimNeverReachesKillsNobody) {
  plan("resource.oom_kill", R"({"limit": "512M"})");
  ProgramSubject subject(victim_doing({"wait"}));
  look(subject);
  finish();
  if (outcome() == "skipped") GTEST_SKIP() << reason();
  EXPECT_EQ(outcome(), "not_activated");
  EXPECT_TRUE(comes_to(subject.pid(), 'S')) << "it lives on, and outside of the cgroup";
  EXPECT_FALSE(std::filesystem::exists(group()));
}

TEST_F(ResourceFaults, ASigkillBySomebodyElseIsNoOomKill) {
  plan("resource.oom_kill", R"({"limit": "512M"})");
  ProgramSubject subject(victim_doing({"wait"}));
  look(subject);
  ::kill(subject.pid(), SIGKILL);
  finish(subject.work_until_end(*injection_));
  if (outcome() == "skipped") GTEST_SKIP() << reason();
  EXPECT_EQ(outcome(), "not_activated");
}

// ---- The guardian of a cgroup ----

TEST(ControlGroups, AreRemovedAlthoughTheirOwnerIsKilled) {
  const auto place = ControlGroup::place_for(::getpid(), "pids");
  if (!place) GTEST_SKIP() << place.error().message;
  const pid_t owner = ::fork();
  if (owner == 0) {
    auto group = ControlGroup::create(*place);
    if (!group) ::_exit(1);
    while (true) ::pause();
  }
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(*place); }));
  ::usleep(50'000);
  ::kill(owner, SIGKILL);
  ::waitpid(owner, nullptr, 0);
  EXPECT_TRUE(eventually([&] { return !std::filesystem::exists(*place); })) << place->string();
}

TEST(ControlGroups, GiveTheirProcessesBack) {
  const auto place = ControlGroup::place_for(::getpid(), "pids");
  if (!place) GTEST_SKIP() << place.error().message;
  ProgramSubject subject(victim_doing({"wait"}));
  const std::string file = "/proc/" + std::to_string(subject.pid()) + "/cgroup";
  const std::string before = *read_file(file);
  auto group = ControlGroup::create(*place);
  ASSERT_TRUE(group) << group.error().message;
  ASSERT_TRUE(group->add(subject.pid()));
  EXPECT_NE(*read_file(file), before);
  EXPECT_TRUE(group->remove());
  EXPECT_EQ(*read_file(file), before);
  EXPECT_FALSE(std::filesystem::exists(*place));
}

TEST(ControlGroups, CountGroupsBelowThem) {
  const auto place = ControlGroup::place_for(::getpid(), "pids");
  if (!place) GTEST_SKIP() << place.error().message;
  ProgramSubject subject(victim_doing({"wait"}));
  auto group = ControlGroup::create(*place);
  ASSERT_TRUE(group) << group.error().message;
  const std::filesystem::path below = *place / "below";
  ASSERT_TRUE(std::filesystem::create_directory(below));
  std::ofstream(below / "cgroup.procs") << subject.pid() << std::flush;
  EXPECT_EQ(group->number("cgroup.procs"), std::nullopt);
  EXPECT_EQ(group->total("cgroup.procs"), subject.pid());
  std::ofstream(*place / "cgroup.procs") << subject.pid() << std::flush;
  std::filesystem::remove(below);
  EXPECT_TRUE(group->remove());
}

// ---- cpu_steal ----

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  for (const pid_t pid : tree_of(parent)) {
    if (pid != parent && parent_of(pid) == parent) children.push_back(pid);
  }
  return children;
}

TEST_F(ResourceFaults, StealersSpinForTheirTimeAndAreGoneThen) {
  ProgramSubject subject(victim_doing({"wait"}));
  plan("resource.cpu_steal", R"({"workers": 2, "duration": "200ms"})");
  look(subject);
  EXPECT_EQ(children_of(::getpid()).size(), 3u);
  EXPECT_TRUE(subject.work_until(*injection_, [] { return children_of(::getpid()).size() == 1; }));
  EXPECT_EQ(finish()["outcome"], "confirmed") << log_.result().dump();
  EXPECT_EQ(log_.step("evidence")["cpu_ns"].size(), 2u);
}

TEST_F(ResourceFaults, StealersEndWithTheHarness) {
  const pid_t harness = ::fork();
  if (harness == 0) {
    plan("resource.cpu_steal", R"({"workers": 2})");
    ProgramSubject subject(victim_doing({"wait"}));
    look(subject);
    while (true) ::pause();
  }
  ASSERT_TRUE(eventually([&] { return children_of(harness).size() == 3; }));
  std::vector<UniqueFd> spinners;
  for (const pid_t pid : children_of(harness)) spinners.push_back(*open_pidfd(pid));
  ::kill(harness, SIGKILL);
  ::waitpid(harness, nullptr, 0);
  for (const UniqueFd& spinner : spinners) EXPECT_TRUE(wait_for_end(spinner.get(), 5'000));
}

// ---- cpu_quota ----

TEST_F(ResourceFaults, AQuotaLetsTheVictimRunForItsShareOnly) {
  for (const char* threads : {"1", "3"}) {
    plan("resource.cpu_quota", R"({"share": 30, "duration": "500ms"})");
    ProgramSubject subject(victim_doing({"spin", threads}));
    look(subject);
    subject.work_until(
        *injection_, [] { return false; }, 700);
    finish();
    EXPECT_THAT(outcome(), ::testing::AnyOf("confirmed", "indeterminate")) << log_.result().dump();
    if (outcome() == "indeterminate") std::printf("%s\n", log_.step("evidence").dump().c_str());
    EXPECT_GT(log_.step("evidence")["held_back"], 0);
    EXPECT_TRUE(comes_to(subject.pid(), 'R')) << "and goes on afterwards";
  }
}

TEST_F(ResourceFaults, AQuotaOfWhoeverSleepsIsNotActivated) {
  plan("resource.cpu_quota", R"({"share": 50})");
  ProgramSubject subject(victim_doing({"wait"}));
  look(subject);
  subject.work_until(
      *injection_, [] { return false; }, 200);
  EXPECT_EQ(finish()["outcome"], "not_activated") << log_.step("evidence").dump();
  EXPECT_TRUE(comes_to(subject.pid(), 'S'));
}

// ---- Whatever it is: disarmed, or nobody there ----

const std::vector<std::pair<std::string, std::string>> kAll{
    {"resource.mem_cap", "{}"},       {"resource.fd_limit", "{}"},
    {"resource.process_limit", "{}"}, {"resource.oom_kill", "{}"},
    {"resource.cpu_steal", "{}"},     {"resource.cpu_quota", R"({"share": 5})"}};

TEST_F(ResourceFaults, DisarmedNothingIsDone) {
  for (const auto& [fault, settings] : kAll) {
    plan(fault, settings, true);
    ProgramSubject subject(victim_doing({"spin", "1"}));
    for (int i = 0; i < 3; ++i) look(subject);
    EXPECT_EQ(children_of(::getpid()).size(), 1u);
    EXPECT_TRUE(comes_to(subject.pid(), 'R'));
    EXPECT_EQ(group(), "");
    EXPECT_EQ(finish()["outcome"], "not_activated") << fault;
  }
}

TEST_F(ResourceFaults, OneThatHasEndedIsNobodysVictim) {
  for (const auto& [fault, settings] : kAll) {
    if (fault == "resource.cpu_steal") continue;  // Strikes the machine, not a process.
    plan(fault, settings);
    ProgramSubject subject(victim_doing({"exit", "7"}));
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(subject.pid()), &info, WEXITED | WNOWAIT);
    for (int i = 0; i < 3; ++i) look(subject);
    EXPECT_EQ(finish(subject.end())["outcome"], "not_activated") << fault;
  }
}

}  // namespace
}  // namespace crashworthy

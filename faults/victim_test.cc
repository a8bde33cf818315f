// Whom a rule finds in a real tree of processes.
#include "faults/victim.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <set>

#include "faults/injection_test_util.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

int wait_for_ever(const Probe&) {
  ::prctl(PR_SET_NAME, "victim-main");
  while (true) ::pause();
}

// A main process and three others, of which the second has another name.
class Tree : public FakeSubject {
 public:
  explicit Tree(ProbeRing& ring) : FakeSubject(ring, wait_for_ever) {
    for (int i = 0; i < 3; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::prctl(PR_SET_NAME, i == 1 ? "victim-odd" : "victim-even");
        while (true) ::pause();
      }
      others_.push_back(pid);
      const std::string comm = "/proc/" + std::to_string(pid) + "/comm";
      while (read_file(comm)->find("victim-") != 0) ::usleep(100);
    }
    while (read_file("/proc/" + std::to_string(pid()) + "/comm")->find("victim-") != 0)
      ::usleep(100);
  }
  ~Tree() override {
    for (const pid_t pid : others_) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
  std::vector<pid_t> host_pids() const override {
    std::vector<pid_t> pids{pid()};
    pids.insert(pids.end(), others_.begin(), others_.end());
    return pids;
  }
  const std::vector<pid_t>& others() const { return others_; }

 private:
  std::vector<pid_t> others_;
};

class Victims : public ::testing::Test {
 protected:
  std::vector<pid_t> chosen(const std::string& rule, std::uint64_t seed = 1) {
    const FaultSpec fault = fault_of(R"({"fault": "process.kill", "victim": )" + rule + "}");
    Random random(seed);
    std::vector<pid_t> pids;
    for (const Victim& victim : choose_victims(tree_, fault.victim, random))
      pids.push_back(victim.host_pid);
    return pids;
  }
  ProbeRing ring_ = *ProbeRing::create(64);
  Tree tree_{ring_};
};

TEST_F(Victims, ByCommand) {
  EXPECT_THAT(chosen(R"({"command": "victim-odd"})"), ElementsAre(tree_.others()[1]));
  EXPECT_THAT(chosen(R"({"command": "victim-e*", "pick": "all"})"),
              UnorderedElementsAre(tree_.others()[0], tree_.others()[2]));
  EXPECT_THAT(chosen(R"({"command": "nobody"})"), IsEmpty());
}

TEST_F(Victims, ByBirth) {
  EXPECT_THAT(chosen(R"({"child": 1})"), ElementsAre(tree_.pid()));
  EXPECT_THAT(chosen(R"({"child": 3})"), ElementsAre(tree_.others()[1]));
  EXPECT_THAT(chosen(R"({"child": 5})"), IsEmpty());
  EXPECT_THAT(chosen(R"({"role": "any", "pick": "newest"})"), ElementsAre(tree_.others()[2]));
  EXPECT_THAT(chosen(R"({"role": "any", "pick": "oldest"})"), ElementsAre(tree_.pid()));
}

TEST_F(Victims, AsManyAsAreAskedForOrNone) {
  EXPECT_THAT(chosen(R"({"role": "any", "pick": 3})"), SizeIs(3));
  EXPECT_THAT(chosen(R"({"role": "any", "pick": 5})"), IsEmpty());
  EXPECT_THAT(chosen(R"({"role": "any", "pick": "all"})"), SizeIs(4));
}

TEST_F(Victims, ByChanceOfTheSeedAlone) {
  std::set<pid_t> seen;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const auto once = chosen(R"({"role": "any"})", seed);
    EXPECT_EQ(once, chosen(R"({"role": "any"})", seed));
    seen.insert(once.front());
  }
  EXPECT_EQ(seen.size(), 4u);
}

TEST_F(Victims, TheMainProcessWhereNoWorkerIsKnown) {
  EXPECT_THAT(chosen(R"({"role": "worker"})"), ElementsAre(tree_.pid()));
  EXPECT_THAT(chosen(R"({"worker": 0})"), IsEmpty()) << "a place that nobody has told of";
}

TEST_F(Victims, WorkersByPlaceAndLife) {
  const Probe probe = ring_.probe();
  probe.emit_for(tree_.others()[0], ProbeEvent::kWorkerReady, {0, 1});
  probe.emit_for(tree_.others()[1], ProbeEvent::kWorkerReady, {1, 2});
  tree_.refresh();
  EXPECT_THAT(chosen(R"({"worker": 1})"), ElementsAre(tree_.others()[1]));
  EXPECT_THAT(chosen(R"({"worker": 1, "incarnation": 2})"), ElementsAre(tree_.others()[1]));
  EXPECT_THAT(chosen(R"({"worker": 1, "incarnation": 1})"), IsEmpty());
  EXPECT_THAT(chosen(R"({"holding_item": true})"), IsEmpty());
  probe.emit_for(tree_.others()[0], ProbeEvent::kStarted, {0, 1}, 4, 0, 1);
  tree_.refresh();
  EXPECT_THAT(chosen(R"({"holding_item": true})"), ElementsAre(tree_.others()[0]));
}

}  // namespace
}  // namespace crashworthy

// What a row of the table of behaviours cannot show: answers that come too late, chance, what is
// told of a child, and that costs grow no faster than trees.
#include "harness/supervision/tree_logic.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "harness/supervision/behaviour_rows.h"
#include "harness/supervision/fake_backend.h"

namespace crashworthy {
namespace {

using namespace rows;

void boot_world(World& world) {
  world.act(boot());
  world.transcript().take();
}

TEST(TreeLogic, AnswersOfFormerProcessesAreIgnored) {
  World world(one_for_one({worker("a").tells_ready().beats(milliseconds(250), 4), worker("b")}));
  boot_world(world);
  world.act(exits("a", 1));
  world.transcript().take();
  const auto before = world.logic().find("a");
  const ProcessKey old = world.backend().keys().front();
  ASSERT_EQ(old.incarnation, 1U);
  TreeLogic& logic = world.logic();
  const std::int64_t now = world.now();
  logic.on_started(old, 4711, now);
  logic.on_start_failed(old, "too late", now);
  logic.on_ready(old, now);
  logic.on_ready_closed(old, now);
  logic.on_heartbeat(old, now);
  logic.on_suspended(old, now);
  logic.on_resumed(old, now);
  logic.on_ended(old, signal_status(SIGKILL), now);
  for (const ProcessKey unknown : {ProcessKey{999, 1}, ProcessKey{old.child, 7}}) {
    logic.on_started(unknown, 4711, now);
    logic.on_ready(unknown, now);
    logic.on_ended(unknown, exit_status(1), now);
  }
  world.advance(milliseconds(100));
  EXPECT_EQ(world.transcript().take(), "");
  EXPECT_EQ(logic.find("a")->incarnation, before->incarnation);
  EXPECT_EQ(logic.find("a")->pid, before->pid);
  EXPECT_EQ(logic.find("a")->presence, Presence::kRunning);
}

TEST(TreeLogic, AnswersAfterTheEndOfTheTreeAreIgnored) {
  World world(one_for_one({worker("a")}));
  boot_world(world);
  world.act(shut_down());
  world.transcript().take();
  const ProcessKey old = world.backend().keys().front();
  world.logic().on_ended(old, exit_status(1), world.now());
  world.logic().on_time(world.now() + 1);
  EXPECT_EQ(world.transcript().take(), "");
  EXPECT_EQ(world.logic().next_deadline(), std::nullopt);
}

TEST(TreeLogic, TellsOfAChildWhatIsKnown) {
  World world(one_for_one({nested("in", one_for_one({worker("w").stops_within(seconds(2))}))}));
  EXPECT_FALSE(world.logic().booted());
  EXPECT_EQ(world.logic().ended(), std::nullopt);
  boot_world(world);
  EXPECT_TRUE(world.logic().booted());
  world.act(conduct("in/w", dies_after(seconds(1))));
  world.advance(seconds(3));
  world.act(exits("in/w", 5));
  const auto child = world.logic().find("in/w");
  ASSERT_TRUE(child.has_value());
  EXPECT_EQ(child->id, "w");
  EXPECT_EQ(child->path, "in/w");
  EXPECT_EQ(child->type, ChildType::kWorker);
  EXPECT_EQ(child->incarnation, 2U);
  EXPECT_EQ(child->pid, 1002);
  EXPECT_EQ(child->started_ns, world.now());
  EXPECT_EQ(child->due_ns, 0);
  ASSERT_TRUE(child->last_end.has_value());
  EXPECT_EQ(child->last_end->exit_code(), 5);
  world.act(stop_child("in/w"));
  EXPECT_EQ(world.logic().find("in/w")->presence, Presence::kStopping);
  EXPECT_EQ(world.logic().find("in/w")->due_ns, world.now() + 2'000'000'000);
  EXPECT_EQ(world.logic().next_deadline(), world.now() + 2'000'000'000);
  world.advance(seconds(1));
  EXPECT_EQ(world.logic().find("in/w")->pid, 0);
  EXPECT_EQ(world.logic().find("in")->pid, 0) << "a nested supervisor is no process";
}

TEST(TreeLogic, TellsOfTheWholeTree) {
  World world(ends_with_any(rest_for_one(
      {worker("a"), nested("in", one_for_all({worker("w")}, 3, seconds(7)))}, 4, seconds(9))));
  boot_world(world);
  world.act(exits("in/w", 1));
  const SupervisorInfo info = world.logic().info(world.now());
  EXPECT_EQ(info.path, "");
  EXPECT_EQ(info.strategy, Strategy::kRestForOne);
  EXPECT_EQ(info.intensity, 4);
  EXPECT_EQ(info.period, Nanoseconds(seconds(9)));
  EXPECT_EQ(info.auto_shutdown, AutoShutdown::kAnySignificant);
  EXPECT_EQ(info.state, LifeState::kRunning);
  EXPECT_EQ(info.budget_left, 4);
  ASSERT_EQ(info.children.size(), 2U);
  EXPECT_TRUE(info.children[0].below.empty());
  ASSERT_EQ(info.children[1].below.size(), 1U);
  const SupervisorInfo& below = info.children[1].below[0];
  EXPECT_EQ(below.path, "in");
  EXPECT_EQ(below.strategy, Strategy::kOneForAll);
  EXPECT_EQ(below.budget_left, 2);
  ASSERT_EQ(below.children.size(), 1U);
  EXPECT_EQ(below.children[0].child.path, "in/w");
  EXPECT_EQ(below.children[0].child.incarnation, 2U);
}

TEST(TreeLogic, RefusalsAndEndsHaveNames) {
  std::set<std::string> names;
  for (const Refusal refusal :
       {Refusal::kNotFound, Refusal::kRunning, Refusal::kRestarting, Refusal::kAlreadyPresent,
        Refusal::kDynamic, Refusal::kStartFailed, Refusal::kInvalid, Refusal::kEnding}) {
    EXPECT_TRUE(names.insert(std::string(refusal_name(refusal))).second);
  }
  for (const TreeEnd end :
       {TreeEnd::kAsked, TreeEnd::kAutoShutdown, TreeEnd::kIntensitySpent, TreeEnd::kStartFailed}) {
    EXPECT_TRUE(names.insert("end " + std::string(tree_end_name(end))).second);
  }
  for (const Presence presence : {Presence::kStopped, Presence::kStarting, Presence::kRunning,
                                  Presence::kStopping, Presence::kRestarting}) {
    EXPECT_TRUE(names.insert("presence " + std::string(presence_name(presence))).second);
  }
  EXPECT_FALSE(names.contains(""));
}

TEST(TreeLogic, RefusalSaysWhyForPeople) {
  World world(one_for_one({worker("a")}));
  boot_world(world);
  std::vector<Answer> answers;
  const auto keep = [&](const Answer& answer) { answers.push_back(answer); };
  world.logic().restart_child("a", world.now(), keep);
  world.logic().stop_child("x", world.now(), keep);
  world.logic().start_child("", Child("b"), world.now(), keep);
  ASSERT_EQ(answers.size(), 3U);
  for (const Answer& answer : answers) {
    EXPECT_FALSE(answer.ok());
    EXPECT_NE(answer.text, "");
  }
}

TEST(TreeLogic, ReplyMayGiveOrders) {
  World world(one_for_one({worker("a")}));
  boot_world(world);
  world.logic().stop_child("a", world.now(), [&](const Answer& answer) {
    ASSERT_TRUE(answer.ok());
    EXPECT_EQ(answer.child.presence, Presence::kStopped);
    world.logic().delete_child("a", world.now(), world.transcript().reply("delete", "a"));
    world.logic().start_child("", worker("a"), world.now(), world.transcript().reply("start", "a"));
  });
  world.advance({});
  EXPECT_EQ(world.transcript().take(),
            seq({"order stop a", stopped("a"), order_done("delete a"), started("a")}));
  EXPECT_TRUE(world.complaints().empty());
}

TEST(TreeLogic, ReplyMayShutTheTreeDown) {
  World world(one_for_one({worker("a"), worker("b")}));
  boot_world(world);
  world.logic().stop_child("a", world.now(),
                           [&](const Answer&) { world.logic().shutdown(world.now()); });
  world.advance({});
  EXPECT_EQ(world.logic().ended(), TreeEnd::kAsked);
  EXPECT_TRUE(world.complaints().empty());
}

TEST(TreeLogic, NameOfAnInstanceIsAlwaysFree) {
  World world(dynamic(worker("t")));
  boot_world(world);
  for (const char* id : {"t-2", "t-4", "", "", "", ""}) world.act(start_child("", Child(id)));
  const auto children = world.logic().which_children("");
  ASSERT_TRUE(children.has_value());
  std::set<std::string> ids;
  for (const ChildInfo& child : *children) ids.insert(child.id);
  EXPECT_EQ(ids.size(), 6U) << world.transcript().take();
}

TEST(TreeLogic, InstanceHasTheCommandOfItsTemplateAndItsOwn) {
  Child base("t");
  base.command = {"serve", "--quiet"};
  World world(dynamic(base));
  boot_world(world);
  Child one("");
  one.command = {"--port", "7"};
  one.restart = RestartType::kTemporary;  // Ignored, as all but the command and the id.
  world.act(start_child("", one));
  const auto spec = world.logic().get_child_spec("t-1");
  ASSERT_TRUE(spec.has_value());
  EXPECT_EQ(spec->command, (std::vector<std::string>{"serve", "--quiet", "--port", "7"}));
  EXPECT_EQ(spec->restart, RestartType::kPermanent);
}

// A backend that answers nothing: the test does, when it likes.
class MuteBackend : public Backend {
 public:
  void start(ProcessKey key, const std::string& path, const ChildSpec&) override {
    calls.push_back("start " + path);
    last = key;
  }
  void stop(ProcessKey) override { calls.emplace_back("stop"); }
  void kill(ProcessKey) override { calls.emplace_back("kill"); }
  void suspend(ProcessKey) override { calls.emplace_back("suspend"); }
  void resume(ProcessKey) override { calls.emplace_back("resume"); }
  void forget(std::uint64_t) override { calls.emplace_back("forget"); }

  std::vector<std::string> calls;
  ProcessKey last;  // That was started.
};

struct MuteWorld {
  explicit MuteWorld(SupervisorSpec tree) : logic(std::move(tree), backend, seen.sink(), 0) {
    logic.start(1);
  }
  std::vector<std::string> calls() { return std::exchange(backend.calls, {}); }

  MuteBackend backend;
  Transcript seen;
  TreeLogic logic;
};

using Calls = std::vector<std::string>;

TEST(TreeLogic, ReadinessBeforeTheStartIsToldIsKept) {
  MuteWorld world(one_for_one({worker("a").tells_ready()}));
  world.logic.on_ready(world.backend.last, 2);
  EXPECT_EQ(world.seen.take(), "root initial; a initial; a ready; root ready");
  world.logic.on_started(world.backend.last, 7, 3);
  EXPECT_EQ(world.seen.take(), "a running; a serves; root running");
}

TEST(TreeLogic, ChildThatEndsBeforeItsStartIsToldHasFailedToStart) {
  MuteWorld world(one_for_one({worker("a"), worker("b")}));
  world.logic.on_ended(world.backend.last, exit_status(1), 2);
  EXPECT_EQ(world.seen.take(),
            "root initial; a initial; a ready; a ended exit 1; a start failed; a terminated; "
            "root disabled; root terminated");
  EXPECT_EQ(world.logic.ended(), TreeEnd::kStartFailed);
}

TEST(TreeLogic, SuspendReachesAChildWhoseStartIsNotToldYet) {
  MuteWorld world(one_for_one({worker("a")}));
  world.logic.on_started(world.backend.last, 7, 2);
  world.logic.on_ended(world.backend.last, exit_status(1), 2);
  world.logic.suspend("", 2, world.seen.reply("suspend", ""));
  EXPECT_EQ(world.calls(), (Calls{"start a", "start a"}));
  EXPECT_EQ(world.seen.unanswered(), 1);
  world.logic.on_started(world.backend.last, 8, 3);
  EXPECT_EQ(world.calls(), Calls{"suspend"});
  world.logic.on_suspended(world.backend.last, 4);
  EXPECT_EQ(world.logic.find("a")->state, LifeState::kIntermitted);
  EXPECT_EQ(world.logic.info(5).state, LifeState::kIntermitted);
  world.logic.resume("", 5, world.seen.reply("resume", ""));
  EXPECT_EQ(world.calls(), Calls{"resume"});
  world.logic.on_resumed(world.backend.last, 6);
  EXPECT_EQ(world.logic.info(6).state, LifeState::kRunning);
  EXPECT_EQ(world.seen.unanswered(), 0);
  EXPECT_EQ(world.seen.complaints(), Calls{});
}

TEST(TreeLogic, SuspendReachesASupervisorThatIsBeingRestarted) {
  MuteWorld world(one_for_one({nested("in", one_for_one({worker("w")}, 0))}));
  world.logic.on_started(world.backend.last, 7, 2);
  world.logic.on_ended(world.backend.last, exit_status(1), 2);
  world.logic.suspend("", 2, world.seen.reply("suspend", ""));
  world.logic.on_started(world.backend.last, 8, 3);
  world.logic.on_suspended(world.backend.last, 4);
  EXPECT_EQ(world.logic.find("in/w")->state, LifeState::kIntermitted);
  EXPECT_EQ(world.logic.find("in")->presence, Presence::kStarting) << "goes on when resumed";
  EXPECT_EQ(world.seen.unanswered(), 0);
  world.logic.resume("", 5, world.seen.reply("resume", ""));
  world.logic.on_resumed(world.backend.last, 6);
  EXPECT_EQ(world.logic.find("in")->presence, Presence::kRunning);
  EXPECT_EQ(world.logic.find("in")->state, LifeState::kRunning);
  EXPECT_EQ(world.seen.unanswered(), 0);
  EXPECT_EQ(world.seen.complaints(), Calls{});
}

TEST(TreeLogic, StartThatIsToldDuringAShutdownIsNoStart) {
  MuteWorld world(one_for_one({worker("a").tells_ready(seconds(1)).ends_by(seconds(2))}));
  world.logic.shutdown(2);
  EXPECT_EQ(world.calls(), (Calls{"start a", "stop"}));
  world.seen.take();
  world.logic.on_started(world.backend.last, 7, 3);
  EXPECT_EQ(world.logic.next_deadline(), 2 + 5'000'000'000) << "only the time to stop counts";
  world.logic.on_ended(world.backend.last, signal_status(SIGTERM), 4);
  EXPECT_EQ(world.logic.ended(), TreeEnd::kAsked);
  EXPECT_EQ(world.seen.take().find("start failed"), std::string::npos);
  EXPECT_EQ(world.seen.complaints(), Calls{});
}

TEST(TreeLogic, StartThatFailsDuringAShutdownEndsIt) {
  MuteWorld world(one_for_one({worker("a")}));
  world.logic.shutdown(2);
  world.seen.take();
  world.logic.on_start_failed(world.backend.last, "no such program", 3);
  EXPECT_EQ(world.logic.ended(), TreeEnd::kAsked);
  EXPECT_EQ(world.seen.take(), "a terminated; root terminated");
}

TEST(TreeLogic, ChildThatExitsWith0AfterItHungHasCrashed) {
  MuteWorld world(one_for_one({worker("a").transient().ends_by(Nanoseconds(10))}));
  world.logic.on_started(world.backend.last, 7, 2);
  world.seen.take();
  world.logic.on_time(12);
  EXPECT_EQ(world.calls(), (Calls{"start a", "kill"}));
  world.logic.on_ended(world.backend.last, exit_status(0), 13);
  EXPECT_EQ(world.seen.take(),
            "a hangs; a ended exit 0; a terminated; a restart left 1; a initial; a ready");
}

TEST(TreeLogic, NothingIsAskedOfAChildTwice) {
  MuteWorld world(one_for_one({worker("a").stops_within(Nanoseconds(10))}));
  world.logic.on_started(world.backend.last, 7, 2);
  world.calls();
  world.logic.stop_child("a", 3, world.seen.reply("stop", "a"));
  world.logic.shutdown(4);
  EXPECT_EQ(world.calls(), Calls{"stop"});
  world.logic.on_time(13);
  world.logic.kill(14);
  EXPECT_EQ(world.calls().front(), "kill");
  world.logic.on_ended(world.backend.last, signal_status(SIGKILL), 15);
  EXPECT_EQ(world.logic.ended(), TreeEnd::kAsked);
}

// The wait of the first restart of `a` in a world with this seed.
std::int64_t first_wait(std::uint64_t seed, double jitter) {
  World world(one_for_one({worker("a").backs_off(seconds(1), seconds(1), jitter)}), false, seed);
  boot_world(world);
  world.act(exits("a", 1));
  return world.logic().next_deadline().value_or(0) - world.now();
}

TEST(TreeLogic, JitterShortensAWaitByAtMostItsPart) {
  std::set<std::int64_t> waits;
  std::int64_t least = 1'000'000'000;
  std::int64_t most = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const std::int64_t wait = first_wait(seed, 0.5);
    EXPECT_EQ(wait, first_wait(seed, 0.5)) << "the same seed, the same wait";
    waits.insert(wait);
    least = std::min(least, wait);
    most = std::max(most, wait);
  }
  EXPECT_GE(least, 500'000'000);
  EXPECT_LE(most, 1'000'000'000);
  EXPECT_LT(least, 510'000'000) << "the whole part is used";
  EXPECT_GT(most, 990'000'000);
  EXPECT_GT(waits.size(), 390U);
  EXPECT_EQ(first_wait(3, 0), 1'000'000'000);
}

// OTP's suite has a hundred thousand. What grew with the square of their number would take minutes
// here and run into the time-out of this program; no clock is read.
TEST(TreeLogic, ManyChildrenComeAndGo) {
  constexpr int kMany = 20'000;
  for (const bool instances : {false, true}) {
    World world(instances ? dynamic(worker("t").temporary()) : one_for_one({}));
    boot_world(world);
    for (int i = 1; i <= kMany; ++i) {
      world.act(start_child("", instances ? Child("") : worker("c-" + std::to_string(i))));
    }
    EXPECT_EQ(world.logic().count_children("")->active, kMany);
    for (int i = 1; i <= kMany; ++i) {
      const std::string id = (instances ? "t-" : "c-") + std::to_string(i);
      world.act(stop_child(id));
      if (!instances) world.act(delete_child(id));
    }
    EXPECT_EQ(world.logic().which_children("")->size(), 0U);
  }
}

}  // namespace
}  // namespace crashworthy

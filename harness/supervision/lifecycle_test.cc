// The life of a part, and of a whole: every pair of states, every transition from every state, and
// wholes of all combinations of parts, each against a statement of the rule written anew here.
#include "harness/supervision/lifecycle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/random.h"

namespace crashworthy {
namespace {

using enum LifeState;
using enum Transition;

constexpr LifeState kAllStates[] = {kInitial,  kReady,       kRunning,   kCompleted,
                                    kDisabled, kIntermitted, kTerminated};
constexpr Transition kAllTransitions[] = {kActivate, kDisable, kEnable, kStart,
                                          kComplete, kSuspend, kResume, kTerminate};

struct Edge {
  LifeState from;
  Transition transition;
  LifeState to;
};

// All that is allowed; everything else is refused.
constexpr Edge kEdges[] = {
    {kInitial, kActivate, kReady},
    {kInitial, kDisable, kDisabled},
    {kDisabled, kEnable, kReady},
    {kReady, kStart, kRunning},
    {kRunning, kComplete, kCompleted},
    {kRunning, kSuspend, kIntermitted},
    {kIntermitted, kResume, kRunning},
    {kRunning, kTerminate, kTerminated},
    {kReady, kTerminate, kTerminated},
    {kDisabled, kTerminate, kTerminated},
    {kIntermitted, kTerminate, kTerminated},
};

std::string text(LifeState from, LifeState to) {
  return std::string(life_state_name(from)) + " -> " + std::string(life_state_name(to));
}

TEST(Lifecycle, StatesAndTransitionsHaveTheirNames) {
  const std::map<LifeState, std::string> names = {
      {kInitial, "initial"},      {kReady, "ready"},       {kRunning, "running"},
      {kCompleted, "completed"},  {kDisabled, "disabled"}, {kIntermitted, "intermitted"},
      {kTerminated, "terminated"}};
  ASSERT_EQ(names.size(), kLifeStates);
  for (const auto& [state, name] : names) {
    EXPECT_EQ(life_state_name(state), name);
    EXPECT_EQ(life_state_from_name(name), state);
  }
  for (const char* wrong : {"", "Running", "running ", "run", "finished"}) {
    EXPECT_EQ(life_state_from_name(wrong), std::nullopt) << wrong;
  }
  std::set<std::string> seen;
  for (const Transition transition : kAllTransitions) {
    seen.insert(std::string(transition_name(transition)));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"activate", "disable", "enable", "start", "complete",
                                         "suspend", "resume", "terminate"}));
}

TEST(Lifecycle, AllPairsOfStatesHaveExactlyTheAllowedTransitions) {
  int allowed = 0;
  for (const LifeState from : kAllStates) {
    for (const LifeState to : kAllStates) {
      const auto* edge =
          std::ranges::find_if(kEdges, [&](const Edge& e) { return e.from == from && e.to == to; });
      const auto found = transition_between(from, to);
      if (edge == std::end(kEdges)) {
        EXPECT_EQ(found, std::nullopt) << text(from, to);
      } else {
        EXPECT_EQ(found, edge->transition) << text(from, to);
        ++allowed;
      }
    }
  }
  EXPECT_EQ(allowed, 11);
}

TEST(Lifecycle, EachTransitionIsAppliedOrRefusedInEachState) {
  int applied = 0;
  for (const LifeState from : kAllStates) {
    for (const Transition transition : kAllTransitions) {
      const auto* edge = std::ranges::find_if(
          kEdges, [&](const Edge& e) { return e.from == from && e.transition == transition; });
      const auto to = apply(from, transition);
      if (edge == std::end(kEdges)) {
        EXPECT_EQ(to, std::nullopt) << life_state_name(from) << transition_name(transition);
      } else {
        EXPECT_EQ(to, edge->to) << life_state_name(from) << transition_name(transition);
        ++applied;
      }
    }
  }
  EXPECT_EQ(applied, 11);
}

TEST(Lifecycle, ClosedIsNeverLeftAndBootedIsAllButTheBeginning) {
  for (const LifeState state : kAllStates) {
    EXPECT_EQ(is_closed(state), state == kCompleted || state == kTerminated);
    EXPECT_EQ(is_booted(state), state != kInitial && state != kDisabled);
    if (!is_closed(state)) continue;
    for (const Transition transition : kAllTransitions) {
      EXPECT_EQ(apply(state, transition), std::nullopt);
    }
  }
}

// The rule, as a question to each state: is the whole in it?
LifeState whole_by_statement(const std::vector<LifeState>& parts) {
  const auto any = [&](LifeState state) { return std::ranges::count(parts, state) > 0; };
  const auto closed =
      std::ranges::count(parts, kCompleted) + std::ranges::count(parts, kTerminated);
  const auto size = static_cast<std::ptrdiff_t>(parts.size());
  if (closed == size) return any(kTerminated) ? kTerminated : kCompleted;
  for (const LifeState behind : {kInitial, kDisabled, kReady}) {
    if (any(behind)) return behind;
  }
  return closed + std::ranges::count(parts, kIntermitted) == size ? kIntermitted : kRunning;
}

TEST(Lifecycle, WholeOfOneOrTwoPartsFollowsTheRule) {
  for (const LifeState one : kAllStates) {
    const std::vector<LifeState> alone = {one};
    EXPECT_EQ(state_of_whole(alone), one) << "a whole of one part is what that is";
    for (const LifeState two : kAllStates) {
      const std::vector<LifeState> both = {one, two};
      const std::vector<LifeState> swapped = {two, one};
      EXPECT_EQ(state_of_whole(both), whole_by_statement(both)) << text(one, two);
      EXPECT_EQ(state_of_whole(both), state_of_whole(swapped)) << text(one, two);
    }
  }
}

TEST(Lifecycle, WholeOfManyPartsFollowsTheRule) {
  Random random(1);
  for (int round = 0; round < 5000; ++round) {
    std::vector<LifeState> parts(3 + random.below(5));
    for (LifeState& part : parts) part = kAllStates[random.below(kLifeStates)];
    const LifeState whole = state_of_whole(parts);
    ASSERT_EQ(whole, whole_by_statement(parts));
    const bool all_closed = std::ranges::all_of(parts, is_closed);
    EXPECT_EQ(is_closed(whole), all_closed);
    const bool all_booted = std::ranges::all_of(parts, is_booted);
    EXPECT_EQ(is_booted(whole), all_booted);
  }
}

// A few wholes by hand, so that the statement above is not the only witness.
TEST(Lifecycle, WholesOfExamples) {
  const std::vector<std::pair<std::vector<LifeState>, LifeState>> examples = {
      {{kRunning, kRunning, kTerminated}, kRunning},
      {{kRunning, kRunning, kInitial}, kInitial},
      {{kDisabled, kReady, kRunning}, kDisabled},
      {{kIntermitted, kRunning}, kRunning},
      {{kIntermitted, kCompleted, kTerminated}, kIntermitted},
      {{kCompleted, kCompleted}, kCompleted},
      {{kCompleted, kTerminated}, kTerminated}};
  for (const auto& [parts, whole] : examples) EXPECT_EQ(state_of_whole(parts), whole);
}

// Rows: from; columns in the order of kAllStates: to. "-" is no way, or no need of one.
const std::map<LifeState, std::vector<std::string>> kWays = {
    {kInitial,
     {"-", "activate", "activate start", "activate start complete", "disable",
      "activate start suspend", "disable terminate"}},
    {kReady, {"-", "-", "start", "start complete", "-", "start suspend", "terminate"}},
    {kRunning, {"-", "-", "-", "complete", "-", "suspend", "terminate"}},
    {kCompleted, {"-", "-", "-", "-", "-", "-", "-"}},
    {kDisabled,
     {"-", "enable", "enable start", "enable start complete", "-", "enable start suspend",
      "terminate"}},
    {kIntermitted, {"-", "-", "resume", "resume complete", "-", "-", "terminate"}},
    {kTerminated, {"-", "-", "-", "-", "-", "-", "-"}},
};

TEST(Lifecycle, WayLeadsFromEachStateToEachThatCanBeReached) {
  for (const LifeState from : kAllStates) {
    for (std::size_t column = 0; column < kLifeStates; ++column) {
      const LifeState to = kAllStates[column];
      std::string found;
      LifeState state = from;
      for (const Transition transition : way(from, to)) {
        found += (found.empty() ? "" : " ") + std::string(transition_name(transition));
        const auto next = apply(state, transition);
        ASSERT_TRUE(next.has_value()) << text(from, to) << ": " << found;
        state = *next;
      }
      EXPECT_EQ(found.empty() ? "-" : found, kWays.at(from)[column]) << text(from, to);
      EXPECT_EQ(state, found.empty() ? from : to);
    }
  }
}

}  // namespace
}  // namespace crashworthy

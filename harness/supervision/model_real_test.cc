// The duel of model_test.cc over real processes: random trees, random things that happen to them,
// and after each step the tree that the model says, or its end.
//
// CRASHWORTHY_SEED=n replays the run that a failure names; CRASHWORTHY_LONG makes twenty times as
// many steps.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "harness/os/clock.h"
#include "harness/os/random.h"
#include "harness/process/process_test_support.h"
#include "harness/supervision/behaviour_rows.h"
#include "harness/supervision/model.h"
#include "harness/supervision/model_moves.h"
#include "harness/supervision/real_world.h"

namespace crashworthy {
namespace {

using namespace rows;

constexpr int kStepsOfARun = 25;

// What the tree did depends on its processes, not on the clock: no restart leaves a window.
SupervisorSpec without_windows(SupervisorSpec tree) {
  tree.period = hours(1);
  for (ChildSpec& child : tree.children) {
    if (!child.supervisor) continue;
    child.supervisor = std::make_shared<SupervisorSpec>(without_windows(*child.supervisor));
  }
  return tree;
}

Action without_windows(Action action) {
  if (action.child.supervisor) {
    action.child.supervisor =
        std::make_shared<SupervisorSpec>(without_windows(*action.child.supervisor));
  }
  return action;
}

class RealDuel {
 public:
  RealDuel(std::uint64_t seed, const std::filesystem::path& directory)
      : random_(seed),
        trees_(&random_),
        actions_(&random_, &trees_),
        spec_(without_windows(trees_.tree(0))),
        world_(spec_, false, directory),
        model_(spec_, {}) {}

  // How they differ; empty when they do not.
  std::string go() {
    story_ = spec_text(spec_) + "\n";
    std::string found = step(boot());
    for (int i = 0; i < kStepsOfARun && found.empty() && !model_.ended(); ++i) {
      const Action action = without_windows(actions_.next(model_));
      if (action.kind == Action::Kind::kAdvance) continue;
      const bool fails = action.kind == Action::Kind::kStartsFail;
      if (fails && !world_.can_fail_starts(action.path)) continue;
      found = step(action);
    }
    if (found.empty() && !model_.ended()) found = step(kill_all());
    return found;
  }
  int steps() const { return steps_; }

 private:
  std::string step(const Action& action) {
    ++steps_;
    story_ += action_text(action) + "\n";
    model_.act(action, now_ns());
    auto in_model = model_.take_answers();
    std::ranges::sort(in_model);
    const TreeLogic& logic = world_.tree().logic();
    const auto agrees = [&] {
      return logic.ended() == model_.ended() && text_of(logic, now_ns()) == model_.text(now_ns());
    };
    const std::string seen = world_.act_until(action, agrees);
    auto in_logic = answers_in(seen);
    std::ranges::sort(in_logic);
    std::string problem;
    if (!agrees()) problem = "the trees differ, or one has ended";
    if (in_logic != in_model) problem = "answers differ";
    if (problem.empty()) problem = complaints();
    if (problem.empty()) return "";
    return problem + "\n" + story_ + "seen: " + seen +
           "\nanswers of the model: " + ::testing::PrintToString(in_model) + "\nlogic:\n" +
           text_of(logic, now_ns()) + "model:\n" + model_.text(now_ns());
  }

  std::string complaints() const {
    const auto complaints = world_.complaints();
    return complaints.empty() ? "" : "complaint: " + complaints.front();
  }

  Random random_;
  TreeMaker trees_;
  ActionMaker actions_;
  SupervisorSpec spec_;
  RealWorld world_;
  Model model_;
  std::string story_;
  int steps_ = 0;
};

int wanted_steps() {
  if (std::getenv("CRASHWORTHY_SEED") != nullptr) return 1;
  return std::getenv("CRASHWORTHY_LONG") != nullptr ? 2'000 : 100;
}

class RealModel : public ProcessTest {};

TEST_F(RealModel, AgreesWithATreeOverRealProcesses) {
  const char* given = std::getenv("CRASHWORTHY_SEED");
  const std::uint64_t first =
      given != nullptr ? std::strtoull(given, nullptr, 10) : static_cast<std::uint64_t>(now_ns());
  int steps = 0;
  std::uint64_t seed = first;
  for (; steps < wanted_steps(); ++seed) {
    const auto directory = directory_ / std::to_string(seed);
    std::filesystem::create_directories(directory);
    std::string found;
    {
      RealDuel duel(seed, directory);
      found = duel.go();
      steps += duel.steps();
    }
    ASSERT_TRUE(found.empty()) << found << "replay with CRASHWORTHY_SEED=" << seed;
    ASSERT_TRUE(marked().empty()) << "seed " << seed;
  }
  std::printf("%d steps in %d trees, from seed %llu\n", steps, static_cast<int>(seed - first),
              static_cast<unsigned long long>(first));
}

}  // namespace
}  // namespace crashworthy

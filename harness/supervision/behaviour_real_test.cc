// Runs the table of behaviours over real processes: the same rows, the same expectations. Each row
// is a test of its own, RealTreeBehaviour.NAME.
#include <gtest/gtest.h>

#include <string>

#include "harness/process/process_test_support.h"
#include "harness/supervision/behaviours.h"
#include "harness/supervision/function.h"
#include "harness/supervision/real_world.h"
#include "harness/supervision/transcript.h"

namespace crashworthy {
namespace {

using namespace std::chrono_literals;

constexpr const char* kSimulatedFailure = "told to fail";
constexpr const char* kRealFailure = "unable to enter its directory";

// One event a line: a difference is then easily seen.
std::string lines(std::string text) {
  for (std::size_t at = 0; (at = text.find("; ", at)) != std::string::npos;) {
    text.replace(at, 2, "\n");
  }
  return text;
}

bool is_question(const Action& action) { return action.kind >= Action::Kind::kExpectChildren; }

void run_step(const Step& step, RealWorld* world) {
  if (is_question(step.action)) {
    Action question = step.action;
    // Real starts fail for a reason of their own; hooks fail as they are told.
    if (question.text == kSimulatedFailure && world->ask(question) != question.text) {
      question.text = kRealFailure;
    }
    EXPECT_EQ(world->ask(question), question.text);
    return;
  }
  const std::string seen = world->act(step);
  EXPECT_EQ(lines(seen), lines(RealWorld::comparable(step, step.seen)));
}

// Whatever the row: nothing is left running, every order is answered, no event is out of line.
void end_and_check(RealWorld* world) {
  world->tree().kill();
  const auto ended = world->tree().run_until_end(20s);
  EXPECT_TRUE(ended) << "kill() does not end the tree";
  EXPECT_EQ(world->transcript().unanswered(), 0);
  for (const std::string& complaint : world->complaints()) ADD_FAILURE() << complaint;
}

class RealTreeBehaviour : public ProcessTest {
 public:
  explicit RealTreeBehaviour(const Behaviour& row) : row_(row) {}
  void TestBody() override {
    if (!row_.simulated_only.empty()) GTEST_SKIP() << "simulated only: " << row_.simulated_only;
    RealWorld world(row_.tree, row_.hooks, directory_);
    bool booted = false;
    for (std::size_t i = 0; i < row_.script.size() && !HasFailure(); ++i) {
      SCOPED_TRACE("step " + std::to_string(i));
      booted = booted || row_.script[i].action.kind == Action::Kind::kBoot;
      run_step(row_.script[i], &world);
    }
    if (booted && !HasFailure()) end_and_check(&world);
  }

 private:
  const Behaviour& row_;
};

void register_rows() {
  for (const Behaviour& row : behaviours()) {
    ::testing::RegisterTest("RealTreeBehaviour", row.name.c_str(), nullptr, nullptr, __FILE__,
                            __LINE__,
                            [&row]() -> RealTreeBehaviour* { return new RealTreeBehaviour(row); });
  }
}

}  // namespace
}  // namespace crashworthy

int main(int argc, char** argv) {
  using namespace crashworthy;
  register_function(std::string(kChildFunction), behave);
  if (const auto code = run_child_function()) return *code;
  ::testing::InitGoogleTest(&argc, argv);
  register_rows();
  return RUN_ALL_TESTS();
}

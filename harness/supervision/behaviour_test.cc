// Runs the table of behaviours over simulated processes, and looks at the table itself. Each row is
// a test of its own: TreeBehaviour.NAME.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "harness/os/file.h"
#include "harness/supervision/behaviours.h"
#include "harness/supervision/fake_backend.h"
#include "harness/supervision/transcript.h"

namespace crashworthy {
namespace {

// One event a line: a difference is then easily seen.
std::string lines(std::string text) {
  for (std::size_t at = 0; (at = text.find("; ", at)) != std::string::npos;) {
    text.replace(at, 2, "\n");
  }
  return text;
}

std::string expected(const Step& step) {
  return step.any_order ? sorted_lines(step.seen) : step.seen;
}

std::string seen(const Step& step, World& world) {
  const std::string text = world.transcript().take();
  return step.any_order ? sorted_lines(text) : text;
}

void run_step(const Step& step, World& world) {
  if (World::is_question(step.action)) {
    const std::string text = step.action.text;
    EXPECT_EQ(world.ask(step.action), text);
    EXPECT_EQ(step.seen, "") << "nothing is seen of a question: mend the row";
  } else {
    world.act(step.action);
    EXPECT_EQ(lines(seen(step, world)), lines(expected(step)));
  }
}

// Whatever the row: nothing is left running, every order is answered, no event is out of line.
void end_and_check(World& world) {
  if (!world.logic().ended()) world.logic().kill(world.now());
  world.advance(std::chrono::hours(2));
  EXPECT_TRUE(world.logic().ended().has_value()) << "kill() does not end the tree";
  EXPECT_EQ(world.logic().next_deadline(), std::nullopt);
  EXPECT_EQ(world.backend().living(), 0);
  EXPECT_EQ(world.transcript().unanswered(), 0);
  for (const std::string& complaint : world.complaints()) ADD_FAILURE() << complaint;
}

class TreeBehaviour : public ::testing::Test {
 public:
  explicit TreeBehaviour(const Behaviour& row) : row_(row) {}
  void TestBody() override {
    const auto checked = check_spec(row_.tree);
    ASSERT_TRUE(checked.ok()) << checked.error().message << ": mend the row";
    World world(row_.tree, row_.hooks);
    bool booted = false;
    for (std::size_t i = 0; i < row_.script.size() && !HasFailure(); ++i) {
      SCOPED_TRACE("step " + std::to_string(i));
      booted = booted || row_.script[i].action.kind == Action::Kind::kBoot;
      run_step(row_.script[i], world);
    }
    if (booted && !HasFailure()) end_and_check(world);
  }

 private:
  const Behaviour& row_;
};

const bool kRegistered = [] {
  for (const Behaviour& row : behaviours()) {
    ::testing::RegisterTest("TreeBehaviour", row.name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                            [&row]() -> TreeBehaviour* { return new TreeBehaviour(row); });
  }
  return true;
}();

TEST(TreeBehaviours, NamesAreUniqueAndSayWhatHolds) {
  ASSERT_TRUE(kRegistered);
  std::set<std::string> names;
  std::set<std::string> sentences;
  for (const Behaviour& row : behaviours()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_TRUE(sentences.insert(row.sentence).second) << row.sentence;
    EXPECT_TRUE(std::ranges::all_of(row.name, [](unsigned char c) { return std::isalnum(c); }))
        << row.name;
    EXPECT_TRUE(row.sentence.ends_with('.')) << row.name;
    EXPECT_TRUE(row.compared.starts_with("same") || row.compared.starts_with("different: ") ||
                row.compared == "beyond OTP")
        << row.name << ": " << row.compared;
    EXPECT_FALSE(row.script.empty()) << row.name;
    if (row.compared == "beyond OTP") {
      EXPECT_TRUE(row.otp_cases.empty()) << row.name;
    }
  }
}

TEST(TreeBehaviours, EveryCaseOfOtpsSuiteIsInExactlyOneTable) {
  std::map<std::string, std::set<std::string>> tables;
  for (const Behaviour& row : behaviours()) {
    const std::set<std::string> cases(row.otp_cases.begin(), row.otp_cases.end());
    EXPECT_EQ(cases.size(), row.otp_cases.size()) << row.name << " names a case twice";
    for (const std::string& name : cases) tables[name].insert("behaviours");
  }
  for (const UnmeaningCase& one : unmeaning_cases()) {
    EXPECT_TRUE(tables[one.name].insert("without meaning").second) << one.name << " comes twice";
    EXPECT_FALSE(one.why.empty()) << one.name;
  }
  const std::set<std::string> all(otp_suite_cases().begin(), otp_suite_cases().end());
  EXPECT_EQ(otp_suite_cases().size(), 93U);
  EXPECT_EQ(all.size(), 93U);
  for (const std::string& name : all) {
    EXPECT_EQ(tables[name].size(), 1U) << name << " must be in one table";
  }
  for (const auto& [name, in] : tables) EXPECT_TRUE(all.contains(name)) << name << " is no case";
}

TEST(TreeBehaviours, DocumentIsMadeFromTheRows) {
  const std::string path = std::string(CRASHWORTHY_SOURCE_DIR) + "/docs/supervision-behaviours.md";
  const std::string made = behaviours_markdown();
  if (std::getenv("CRASHWORTHY_UPDATE_DOCS") != nullptr) {
    ASSERT_TRUE(write_file_atomically(path, made).ok());
  }
  const auto found = read_file(path);
  ASSERT_TRUE(found.ok()) << found.error().message;
  EXPECT_TRUE(*found == made)
      << path << " is not what the rows say: run this test with CRASHWORTHY_UPDATE_DOCS=1";
}

// The table that is written by hand names tests of other programs: they are there.
TEST(TreeBehaviours, TestsThatTheDocumentNamesAreThere) {
  const std::filesystem::path root(CRASHWORTHY_SOURCE_DIR);
  std::string sources;
  for (const char* room : {"harness/process", "harness/supervision", "harness/cli"}) {
    for (const auto& entry : std::filesystem::directory_iterator(root / room)) {
      if (entry.path().string().ends_with("_test.cc")) sources += read_file(entry.path()).value();
    }
  }
  const std::string text = read_file(root / "docs/supervision.md").value();
  const std::regex named("\\| `(\\w+)\\.(\\w+)` \\|");
  int count = 0;
  for (std::sregex_iterator at(text.begin(), text.end(), named), end; at != end; ++at, ++count) {
    const std::string test = "(" + at->str(1) + ", " + at->str(2) + ")";
    EXPECT_NE(sources.find(test), std::string::npos) << "no test " << test;
  }
  EXPECT_GT(count, 20) << "the table has gone";
}

}  // namespace
}  // namespace crashworthy

// Every fault of the catalogue on programs that know nothing of it, as root and as nobody: what
// comes of it is what the table outcomes.json says, and docs/faults.md shows both.
#include <fnmatch.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "faults/catalogue.h"
#include "harness/cli/outcome_test_util.h"
#include "harness/os/file.h"

namespace crashworthy::testing {
namespace {

struct Case {
  std::size_t row = 0;
  const char* program = "";
  bool unprivileged = false;
};

// All of them in the long run; else a quarter, others for each program and user.
std::vector<Case> cases() {
  std::vector<Case> chosen;
  for (std::size_t row = 0; row < table().size(); ++row) {
    for (std::size_t i = 0; i < std::size(kPrograms); ++i) {
      for (const bool unprivileged : {false, true}) {
        const bool turn = (row + i + (unprivileged ? 2 : 0)) % 4 == 0;
        if ((is_long() || turn) && table()[row].value(kPrograms[i], kUnreachable) != kUnreachable)
          chosen.push_back({row, kPrograms[i], unprivileged});
      }
    }
  }
  return chosen;
}

// What a disarmed fault would do to the machine itself, it may not do here.
std::vector<Case> disarmed_cases() {
  std::vector<Case> chosen;
  for (const Case& tried : cases()) {
    const bool quick = std::string(tried.program) == "plain_static";
    if ((is_long() || quick) && !table()[tried.row].contains("out")) chosen.push_back(tried);
  }
  return chosen;
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  std::string name = table()[info.param.row].value("fault", "") + "_" + info.param.program +
                     (info.param.unprivileged ? "_nobody" : "_root");
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return std::to_string(info.param.row) + "_" + name;
}

// "confirmed, killed by SIGKILL", of the command's last line.
std::string told(const std::string& err) {
  const std::string text = err.substr(0, err.find_last_not_of('\n') + 1);
  const json said = json::parse(text.substr(text.rfind('\n') + 1), nullptr, false);
  if (!said.is_object() || said.value("injections", json::array()).empty()) return err;
  return said["injections"][0].value("outcome", "") + ", " + said.value("ended", "");
}

class Outcomes : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& tried = GetParam();
    if (tried.unprivileged && ::getuid() != 0) GTEST_SKIP() << "only root can become somebody else";
    make_inputs(directory_.path());
  }
  Finished inject(const Case& tried, bool disarm) {
    const json& row = table()[tried.row];
    std::vector<std::string> words{crashworthy_program(),
                                   "inject",
                                   row.value("fault", ""),
                                   "--seed",
                                   "5",
                                   "--json",
                                   "--out",
                                   disarm ? "disarmed" : "record"};
    for (const std::string& word : words_of(row, tried.program)) words.push_back(word);
    if (disarm) words.emplace_back("--disarm");
    words.emplace_back("--");
    for (const std::string& word : command_of(tried.program, row.value("out", "out")))
      words.push_back(word);
    return run_program(words, directory_.path(), 60,
                       tried.unprivileged ? std::optional<uid_t>(kNobody) : std::nullopt);
  }
  TemporaryDirectory directory_;
};

TEST_P(Outcomes, AreThoseOfTheTable) {
  const Case& tried = GetParam();
  const json& row = table()[tried.row];
  std::string expected = row.value(tried.program, "");
  if (tried.unprivileged) expected = row.value("unprivileged", expected);
  const Finished run = inject(tried, false);
  const std::string found = told(run.err);
  EXPECT_EQ(::fnmatch(expected.c_str(), found.c_str(), 0), 0)
      << "expected " << expected << "\nfound    " << found << "\n"
      << run.err;
  EXPECT_EQ(run.exit_code, expected.starts_with("confirmed") ? 0 : 3);
}

class DisarmedOutcomes : public Outcomes {};

TEST_P(DisarmedOutcomes, NothingIsConfirmed) {
  const Finished run = inject(GetParam(), true);
  EXPECT_THAT(told(run.err), ::testing::AnyOf(::testing::StartsWith("not_activated, exited with 0"),
                                              ::testing::StartsWith("skipped, exited with 0")))
      << run.err;
  EXPECT_EQ(run.exit_code, 3);
}

INSTANTIATE_TEST_SUITE_P(Table, Outcomes, ::testing::ValuesIn(cases()), name_of);
INSTANTIATE_TEST_SUITE_P(Table, DisarmedOutcomes, ::testing::ValuesIn(disarmed_cases()), name_of);

TEST(OutcomeTable, HasEveryFault) {
  std::set<std::string> known;
  std::set<std::string> confirmed;
  for (const json& row : table()) {
    const std::string fault = row.value("fault", "").substr(0, row.value("fault", "").find('@'));
    known.insert(fault);
    for (const char* program : kPrograms) {
      if (row.value(program, "").starts_with("confirmed")) confirmed.insert(fault);
    }
  }
  for (const FaultRow& row : fault_catalogue()) EXPECT_TRUE(known.contains(row.name)) << row.name;
  // What needs a directory of the trial's own, or a supervisor, is confirmed by other tests.
  for (const char* elsewhere :
       {"process.kill_supervisor", "input.missing", "input.duplicate", "input.late"})
    confirmed.insert(elsewhere);
  for (const FaultRow& row : fault_catalogue())
    EXPECT_TRUE(confirmed.contains(row.name)) << row.name << " is confirmed on no program";
}

// ---- docs/faults.md ----

std::string document() {
  std::string text = run_program({crashworthy_program(), "faults", "--markdown"}, ".").out;
  text +=
      "\n## What comes of them\n\n"
      "Each fault on four programs that know nothing of it: `plain_static` (C, static), "
      "`plain_opencv` (C++ and OpenCV), `plain.py` (Python), and `tiles --supervision "
      "one_for_one`, "
      "whose workers are the victims. A test runs every line, as root and as an unprivileged user, "
      "and once more disarmed, when nothing may be confirmed. `-`: the fault needs what the "
      "program does not have. `*`: the end depends on where it strikes.\n\n"
      "| fault | with | plain_static | plain_opencv | plain.py | tiles "
      "|\n|---|---|---|---|---|---|\n";
  for (const json& row : table()) {
    std::string words = row.value("words", "");
    const std::size_t after = words.find("{after}");
    if (after != std::string::npos) words.replace(after, 7, "200ms");
    if (words.starts_with(' ')) words.erase(0, 1);
    text += "| `" + row.value("fault", "") + "` | " + (words.empty() ? "" : "`" + words + "`");
    for (const char* program : kPrograms) text += " | " + row.value(program, kUnreachable);
    text += " |\n";
    if (row.contains("unprivileged"))
      text += "| the same, unprivileged | | " + row.value("unprivileged", "") + " | | | |\n";
  }
  return text;
}

TEST(OutcomeTable, IsInTheDocument) {
  const std::string path = std::string(CRASHWORTHY_SOURCE_DIR) + "/docs/faults.md";
  if (::getenv("CRASHWORTHY_WRITE_DOCS") != nullptr) std::ofstream(path) << document();
  const auto written = read_file(path);
  ASSERT_TRUE(written);
  EXPECT_EQ(*written, document()) << "write it anew: CRASHWORTHY_WRITE_DOCS=1 outcome_test "
                                     "--gtest_filter=OutcomeTable.*";
}

}  // namespace
}  // namespace crashworthy::testing

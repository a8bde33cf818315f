// compare, end to end on real runs: a run against itself passes, a planted slowdown of 25 % fails,
// another machine is refused.
//
// The slowdown is judged from measured times, so it runs in the long suite only, and not under
// sanitizers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "harness/cli/program_test_util.h"
#include "harness/os/file.h"

namespace crashworthy::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

class Compare : public ::testing::Test {
 protected:
  Finished crashworthy(std::vector<std::string> words) {
    words.insert(words.begin(), crashworthy_program());
    return run_program(words, directory_.path(), 300);
  }
  // Runs the supervised arm without a fault, slowed down by `slow`, and returns its directory.
  std::string run(const std::string& name, const std::string& slow, int blocks) {
    json experiment = json::parse(R"({"experiment": "speed",
      "subject": {"pipeline": "tiles", "input": {"generate": {"count": 24, "seed": 3}}},
      "arms": [{"name": "supervised", "supervision": {}, "workers": 2}],
      "gate": [{"measure": "supervised.none.throughput", "margin": "5%"}]})");
    experiment["subject"]["slow"] = slow;
    std::ofstream(directory_.path() / (name + ".json")) << experiment.dump();
    const Finished finished = crashworthy({"run", "--quiet", "--seed", "1", "--blocks",
                                           std::to_string(blocks), "--out", name, name + ".json"});
    EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
    return name;
  }
  TemporaryDirectory directory_;
};

TEST_F(Compare, ARunWithItselfPassesAndAnotherMachineIsRefused) {
  const std::string base = run("base", "0%", 6);
  const Finished same = crashworthy({"compare", base, base});
  EXPECT_EQ(same.exit_code, 0) << same.out << same.err;
  json summary = json::parse(*read_file(directory_.path() / base / "summary.json"));
  summary["fingerprint"] = "0000000000000000";
  std::ofstream(directory_.path() / "other.json") << summary.dump();
  const Finished other = crashworthy({"compare", base, "other.json"});
  EXPECT_EQ(other.exit_code, 4);
  EXPECT_THAT(other.err, HasSubstr("fingerprint"));
  EXPECT_THAT(crashworthy({"compare", "--json", base, base}).out,
              HasSubstr("\"verdict\": \"pass\""));
  EXPECT_THAT(crashworthy({"compare", "--markdown", base, base}).out, HasSubstr("|"));
}

TEST_F(Compare, APlantedSlowdownFails) {
  if (std::getenv("CRASHWORTHY_LONG") == nullptr)
    GTEST_SKIP() << "judged from measured times: only with CRASHWORTHY_LONG";
  if (kSanitized) GTEST_SKIP() << "times under a sanitizer mean nothing";
  const std::string base = run("base", "0%", 20);
  const std::string slow = run("slow", "25%", 20);
  const Finished compared = crashworthy({"compare", base, slow});
  std::printf("%s", compared.out.c_str());
  EXPECT_EQ(compared.exit_code, 1) << compared.out << compared.err;
}

}  // namespace
}  // namespace crashworthy::testing

// The peers as arms: those that are installed do the whole batch, and make of a killed worker what
// benchmarks/peers/README.md says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "harness/cli/program_test_util.h"
#include "harness/os/file.h"

namespace crashworthy::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr int kItems = 6;
constexpr int kMissing = 77;
constexpr int kBoundS = 500;

const fs::path kPeers = fs::path(CRASHWORTHY_SOURCE_DIR) / "benchmarks" / "peers";

class Arms : public ::testing::Test {
 protected:
  // The committed experiment with fewer items and one fault.
  json shortened() const {
    json experiment = json::parse(*read_file(kPeers.parent_path() / "experiments" / "peers.json"));
    experiment["faults"] = json::array({experiment["faults"][0]});
    experiment["faults"][0]["when"] = {{"event", "first_output"}};
    experiment["timeout"] = "45s";
    experiment["subject"]["directory"] = directory_.path().string();
    return experiment;
  }

  // Runs it once; the arms lie where the tree has them, the list is shorter.
  Finished run(const json& experiment) {
    const std::string path = std::string(CRASHWORTHY_PROGRAM_DIR) + ":/usr/local/bin:/usr/bin:/bin";
    ::setenv("PATH", path.c_str(), 1);
    fs::create_directory_symlink(kPeers / "arms", directory_.path() / "arms");
    std::istringstream whole(*read_file(kPeers / "photographs.list"));
    std::ofstream list(directory_.path() / "photographs.list");
    std::string line;
    for (int i = 0; i < kItems && std::getline(whole, line); ++i) list << line << "\n";
    list.close();
    std::ofstream(directory_.path() / "e.json") << experiment.dump();
    return run_program({crashworthy_program(), "run", "--quiet", "--blocks", "1", "--seed", "5",
                        "--out", "r", "e.json"},
                       directory_.path(), kBoundS);
  }

  TemporaryDirectory directory_;
};

TEST_F(Arms, EachDoesTheBatchAndOnlySomeGiveBackWhatAKilledWorkerHad) {
  const json experiment = shortened();
  const Finished finished = run(experiment);
  if (finished.exit_code == kMissing) GTEST_SKIP() << finished.err;
  if (!fs::exists(directory_.path() / "r" / "summary.json") &&
      finished.err.find("is no photograph") != std::string::npos)
    GTEST_SKIP() << "opencv-doc is not installed";
  const json summary = json::parse(*read_file(directory_.path() / "r" / "summary.json"));
  std::map<std::string, bool> gives_back{
      {"bare", false},      {"crashworthy", true}, {"restart", true},     {"runit", true},
      {"s6", true},         {"otp", true},         {"supervisord", true}, {"parallel", true},
      {"executor", false},  {"pool", false},       {"celery", false},     {"dask", true},
      {"celery_late", true}};
  for (const json& cell : summary["cells"]) {
    const std::string arm = cell["arm"];
    if (!gives_back.contains(arm)) continue;
    SCOPED_TRACE(arm + "." + cell["fault"].get<std::string>());
    if (cell["fault"] == "none") {
      EXPECT_EQ(cell["items"]["ok"], kItems) << finished.out << finished.err;
      EXPECT_FALSE(cell["measures"]["makespan"]["estimate"].is_null()) << "it did not end with 0";
      continue;
    }
    EXPECT_EQ(cell["confirmed"], 1);
    EXPECT_EQ(cell["recovered"], gives_back.at(arm) ? 1 : 0) << cell["items"];
  }
  const auto arms_run = experiment["arms"].size() - summary["skipped_arms"].size();
  EXPECT_EQ(summary["cells"].size(), arms_run * 2);
  for (const json& skipped : summary["skipped_arms"])
    EXPECT_THAT(skipped["reason"].get<std::string>(), HasSubstr("package"));
  EXPECT_TRUE(processes_naming(directory_.path().string()).empty()) << "left behind";

  // The published table is made of such a run.
  const auto table = [&] {
    return run_program({"/usr/bin/python3", "-B", (kPeers / "peers_table.py").string(),
                        "--crashworthy", crashworthy_program(), "r"},
                       directory_.path());
  };
  const Finished first = table();
  EXPECT_EQ(first.exit_code, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("| bare | 0 of 1 [0%, 79%] |"));
  EXPECT_EQ(first.out, table().out) << "the same histories give the same text";
}

}  // namespace
}  // namespace crashworthy::testing

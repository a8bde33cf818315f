// `crashworthy run --service`: a service that is killed while it is asked at a fixed rate. Bare it
// stays away; restarted it comes back, and what is asked meanwhile has no answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "harness/cli/program_test_util.h"
#include "harness/os/file.h"
#include "harness/os/unique_fd.h"

namespace crashworthy::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr int kRequests = 60;
constexpr uid_t kNobody = 65534;

std::string free_port() {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  return std::to_string(ntohs(address.sin_port));
}

class Service : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (::access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "needs the package python3";
    if (GetParam() && ::getuid() != 0) GTEST_SKIP() << "only root can be another user";
    if (GetParam()) uid_ = kNobody;
    fs::create_directories(directory_.path() / "in");
    for (const char* name : {"a", "b"})
      std::ofstream(directory_.path() / "in" / name) << "content of " << name;
    fs::permissions(directory_.path() / "in", fs::perms::all);
  }
  Finished run(const std::vector<std::string>& options) {
    const std::string port = free_port();
    std::vector<std::string> words{
        crashworthy_program(), "run", "--quiet", "--blocks", "2", "--out", "r", "--inputs", "in/*"};
    for (const std::string& pair :
         {"ready=http://127.0.0.1:" + port + "/in/a", std::string("targets=/in/a,/in/b"),
          std::string("rate=30"), "requests=" + std::to_string(kRequests)}) {
      words.insert(words.end(), {"--service", pair});
    }
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(),
                 {"--", "/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", port});
    return run_program(words, directory_.path(), 200, uid_);
  }
  json cell(const std::string& arm, const std::string& fault) {
    const auto text = read_file(directory_.path() / "r" / "summary.json");
    if (!text) return json::object();
    const json summary = json::parse(*text);
    for (const json& found : summary["cells"]) {
      if (found["arm"] == arm && found["fault"] == fault) return found;
    }
    return json::object();
  }

  TemporaryDirectory directory_;
  std::optional<uid_t> uid_;
};

TEST_P(Service, ComesBackOnlyWhereSomebodyRestartsIt) {
  const Finished finished = run({"--supervise", "--fault", "process.kill", "--when", "item=20"});
  EXPECT_EQ(finished.exit_code, 0) << finished.out << finished.err;
  for (const char* arm : {"bare", "restart"}) {
    EXPECT_EQ(cell(arm, "none")["items"]["ok"], 2 * kRequests) << arm;
    EXPECT_EQ(cell(arm, "process.kill")["confirmed"], 2) << arm;
    EXPECT_EQ(cell(arm, "process.kill")["items"]["offered"], 2 * kRequests) << arm;
    EXPECT_EQ(cell(arm, "process.kill")["items"]["corrupt"], 0) << arm;
  }
  const auto ok = [&](const char* arm) {
    return cell(arm, "process.kill")["items"]["ok"].get<std::int64_t>();
  };
  EXPECT_LE(ok("bare"), 2 * 20) << "nobody answers after the kill";
  EXPECT_GT(ok("bare"), 0);
  EXPECT_GT(ok("restart"), 2 * 20) << "it answers again";
  EXPECT_TRUE(processes_naming(directory_.path().string()).empty());
}

TEST_P(Service, WithoutItsFaultItAnswersAll) {
  const Finished finished = run({"--disarm", "--fault", "process.kill", "--when", "item=20"});
  EXPECT_EQ(finished.exit_code, 3) << finished.out << finished.err;
  EXPECT_EQ(cell("bare", "process.kill")["items"]["ok"], 2 * kRequests);
  EXPECT_EQ(cell("bare", "process.kill")["injections"]["not_activated"], 2);
}

INSTANTIATE_TEST_SUITE_P(Users, Service, ::testing::Values(false, true),
                         [](const auto& each) { return each.param ? "Nobody" : "Ourselves"; });

TEST(ServiceOptions, AreCheckedBeforeAnythingRuns) {
  const TemporaryDirectory directory;
  const auto refused = [&](const std::vector<std::string>& services) {
    std::vector<std::string> words{crashworthy_program(), "run"};
    for (const std::string& service : services) words.insert(words.end(), {"--service", service});
    words.insert(words.end(), {"--", "/bin/true"});
    const Finished finished = run_program(words, directory.path());
    EXPECT_EQ(finished.exit_code, 64) << finished.err;
    return finished.err;
  };
  EXPECT_THAT(refused({"ready"}), HasSubstr("is not KEY=VALUE"));
  EXPECT_THAT(refused({"ready=http://example.org:80/"}), HasSubstr("not on this machine"));
  const std::string ready = "ready=http://127.0.0.1:1/";
  EXPECT_THAT(refused({ready, "rate=fast"}), HasSubstr("/subject/service/rate"));
  EXPECT_THAT(refused({ready, "requests=0"}), HasSubstr("/subject/service/requests"));
  EXPECT_THAT(refused({ready, "targets=a"}), HasSubstr("/subject/service/targets"));
  EXPECT_THAT(refused({ready, "end=SEGV"}), HasSubstr("/subject/service/end"));
  EXPECT_THAT(refused({ready, "color=red"}), HasSubstr("color"));
}

}  // namespace
}  // namespace crashworthy::testing

// The client of services, against a real server on loopback: what it counts, and that it waits for
// nobody.
#include "pipelines/visit/client.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "pipelines/each/child.h"

namespace crashworthy::visit {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

int free_port() {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  return ntohs(address.sin_port);
}

class Visit : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "needs the package python3";
    std::string pattern = (fs::temp_directory_path() / "crashworthy-visit-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    std::ofstream(root_ / "a.txt") << "hello";
    plan_.server = {"127.0.0.1", std::to_string(free_port()), "/a.txt"};
    plan_.request_timeout = 2s;
  }
  void TearDown() override {
    stop();
    std::error_code ignored;
    if (!root_.empty()) fs::remove_all(root_, ignored);
  }
  void start() {
    auto child = each::start_child({"python3", "-m", "http.server", "--bind", "127.0.0.1",
                                    "--directory", root_.string(), plan_.server.port},
                                   false);
    ASSERT_TRUE(child) << child.error().message;
    server_ = *std::move(child);
  }
  void stop() {
    if (!server_) return;
    each::kill_group(*server_);
    ::waitpid(server_->pid, nullptr, 0);
    server_.reset();
  }
  std::vector<each::Item> requests(std::size_t count, const std::string& target) const {
    std::vector<each::Item> made;
    for (std::size_t i = 0; i < count; ++i)
      made.push_back({target, (root_ / ("answer" + std::to_string(i))).string()});
    return made;
  }

  fs::path root_;
  Plan plan_;
  std::optional<each::Child> server_;
};

TEST_F(Visit, AnswersAreWrittenAndErrorsAreCounted) {
  EXPECT_FALSE(is_taken(plan_.server));
  start();
  ASSERT_TRUE(wait_until_ready(plan_, server_->pidfd.get()));
  plan_.rate = 100;
  auto all = requests(10, "/a.txt");
  all[3].input = "/missing";
  const auto counts = send_requests(plan_, all, Probe());
  ASSERT_TRUE(counts) << counts.error().message;
  EXPECT_EQ(counts->answered, 9u);
  EXPECT_EQ(counts->refused, 1u);
  EXPECT_EQ(counts->unanswered, 0u);
  EXPECT_EQ(*read_file(all[0].output), "hello");
  EXPECT_TRUE(is_taken(plan_.server));
  EXPECT_FALSE(fs::exists(all[3].output));
}

// The server dies in the middle: the plan goes on, and what comes later is not answered.
TEST_F(Visit, ADeadServerDelaysNothing) {
  start();
  ASSERT_TRUE(wait_until_ready(plan_, server_->pidfd.get()));
  plan_.rate = 50;
  std::thread killer([this] {
    std::this_thread::sleep_for(500ms);
    each::kill_group(*server_);
  });
  const std::int64_t begin = now_ns();
  const auto counts = send_requests(plan_, requests(50, "/a.txt"), Probe());
  killer.join();
  ASSERT_TRUE(counts);
  EXPECT_GE(counts->answered, 1u);
  EXPECT_GE(counts->unanswered, 1u);
  EXPECT_EQ(counts->answered + counts->unanswered, 50u);
  EXPECT_GE(now_ns() - begin, 980'000'000) << "the last one starts after 49 / 50 s";
}

TEST_F(Visit, AServiceThatIsNeverReadyIsAnError) {
  plan_.ready_timeout = 200ms;
  const auto nobody = wait_until_ready(plan_, -1);
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().kind, ErrorKind::kTimeout);
  start();
  plan_.ready_timeout = 10s;
  plan_.server.target = "/missing";
  std::thread killer([this] {
    std::this_thread::sleep_for(300ms);
    each::kill_group(*server_);
  });
  const auto ended = wait_until_ready(plan_, server_->pidfd.get());
  killer.join();
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::kGone);
}

}  // namespace
}  // namespace crashworthy::visit

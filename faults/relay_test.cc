// The relay in streams of real programs, and before a socket: unarmed it is a plain pipe; struck,
// exactly what was wanted happens to the bytes, and what meets no byte is not confirmed.
#include "faults/relay.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "faults/injection_test_util.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

struct Ends {
  UniqueFd reading;
  UniqueFd writing;
};

Ends make_pipe() {
  std::array<int, 2> ends{-1, -1};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::string read_all(int fd) {
  std::string text;
  std::string buffer(1 << 16, '\0');
  for (ssize_t count = 0; (count = ::read(fd, buffer.data(), buffer.size())) > 0;)
    text.append(buffer, 0, static_cast<std::size_t>(count));
  return text;
}

// A shell as the subject. Its streams pass an injection, and are the test's on the other side.
class Streams : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "relay-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
    launch_.directory = root_;
    in_ = make_pipe();
    out_ = make_pipe();
    launch_.descriptors = {{in_.reading.get(), 0}, {out_.writing.get(), 1}};
  }
  void TearDown() override {
    if (pid_ > 0) {
      ::kill(-pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    injection_.reset();
    fs::remove_all(root_);
  }

  void plan(const std::string& fault, bool disarmed = false) {
    const FaultSpec spec = fault_of(fault);
    injection_ = Injection::plan(
        {spec, resolve(spec.trigger, spec.trigger_kind(), 1, 0), 1, disarmed, log_.sink()});
    const auto armed = injection_->arm(launch_);
    EXPECT_TRUE(armed) << armed.error().message;
  }
  void start(const std::string& script) {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setpgid(0, 0);
      for (const auto& [ours, number] : launch_.descriptors) ::dup2(ours, number);
      ::execlp("sh", "sh", "-c", script.c_str(), static_cast<char*>(nullptr));
      ::_exit(126);
    }
    in_.reading.reset();
    out_.writing.reset();
    injection_->launched(subject_);
    look();
  }
  void look() { injection_->look(subject_, subject_.moment()); }
  // Ends everything and gives the result.
  json finish() {
    int status = 0;
    if (pid_ > 0) ::waitpid(std::exchange(pid_, -1), &status, 0);
    status_ = WaitStatus::from_raw(status);
    // Whoever reads the output must not keep the relay waiting.
    std::thread reader([this] { output_ += read_all(out_.reading.get()); });
    in_.writing.reset();
    injection_->finish({});
    reader.join();
    return log_.result();
  }

  // Only its moment is asked for.
  class NoSubject : public SubjectView {
   public:
    void refresh() override {}
    const WorkerTracker& workers() const override { return tracker_; }
    bool supervised() const override { return false; }
    bool isolated() const override { return false; }
    std::int32_t main_pid() const override { return 0; }
    std::int32_t supervisor_pid() const override { return 0; }
    Result<UniqueFd> open(std::int32_t) const override {
      return Error{ErrorKind::kGone, 0, "", ""};
    }
    std::vector<pid_t> host_pids() const override { return {}; }
    Moment moment() const override {
      Moment moment;
      moment.now_ns = now_ns();
      moment.launched_ns = launched_ns_;
      return moment;
    }

   private:
    WorkerTracker tracker_;
    const std::int64_t launched_ns_ = now_ns();
  };

  fs::path root_;
  LaunchPlan launch_;
  Ends in_;
  Ends out_;
  NoSubject subject_;
  std::unique_ptr<Injection> injection_;
  Log log_;
  pid_t pid_ = -1;
  WaitStatus status_;
  std::string output_;
};

TEST_F(Streams, UnarmedNothingIsLostOrChanged) {
  plan(R"({"fault": "ipc.corrupt", "set": {"stream": "stdin", "after_bytes": 7}})", true);
  start("exec cat");
  constexpr std::size_t kSize = 100 << 20;
  std::thread writer([this] {
    Random random(1);
    std::string block(1 << 16, '\0');
    for (std::size_t done = 0; done < kSize; done += block.size()) {
      for (std::size_t i = 0; i < block.size(); i += 8) {
        const std::uint64_t value = random.next();
        std::memcpy(block.data() + i, &value, sizeof value);
      }
      ASSERT_TRUE(write_all(in_.writing.get(), block));
    }
    in_.writing.reset();
  });
  Random random(1);
  std::string got(1 << 16, '\0');
  std::size_t size = 0;
  std::size_t wrong = 0;
  std::uint64_t value = 0;
  for (ssize_t count = 0; (count = ::read(out_.reading.get(), got.data(), got.size())) > 0;) {
    for (ssize_t i = 0; i < count; ++i, ++size) {
      if (size % 8 == 0) value = random.next();
      wrong += got[static_cast<std::size_t>(i)] != static_cast<char>(value >> (8 * (size % 8)));
    }
  }
  writer.join();
  EXPECT_EQ(size, kSize);
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(finish()["outcome"], "not_activated");
  EXPECT_EQ(status_.describe(), WaitStatus::from_raw(0).describe());
}

TEST_F(Streams, TheLastWordsComeThroughAtTheEnd) {
  plan(R"({"fault": "ipc.drop", "set": {"stream": "stdout", "after_bytes": 1000000}})");
  start("for i in 1 2 3; do echo $i; done; kill -9 $$");
  const json result = finish();
  EXPECT_EQ(result["outcome"], "not_activated") << result.dump();
  EXPECT_EQ(output_, "1\n2\n3\n");
  EXPECT_EQ(status_.signal(), SIGKILL);
}

TEST_F(Streams, AReaderThatGoesEndsTheWriterAsInAPipe) {
  plan(R"({"fault": "ipc.drop", "set": {"stream": "stdout"}, "when": {"after": "1h"}})");
  start("exec yes");
  std::string some(100, '\0');
  EXPECT_GT(::read(out_.reading.get(), some.data(), some.size()), 0);
  out_.reading.reset();
  finish();
  EXPECT_TRUE(status_.signalled());
  EXPECT_EQ(status_.signal(), SIGPIPE);
}

TEST_F(Streams, ASubjectThatStopsReadingEndsItsWriterAsInAPipe) {
  plan(R"({"fault": "ipc.drop", "set": {"stream": "stdin"}, "when": {"after": "1h"}})");
  start("head -c 3; exec 0<&-; sleep 2");
  const std::string block(1 << 16, 'x');
  // By SIGPIPE in another program.
  ::signal(SIGPIPE, SIG_IGN);
  Result<void> written;
  for (int i = 0; i < 100 && written; ++i) written = write_all(in_.writing.get(), block);
  EXPECT_FALSE(written);
  EXPECT_EQ(written.error().sys_errno, EPIPE);
  ::signal(SIGPIPE, SIG_DFL);
  finish();
  EXPECT_EQ(output_, "xxx");
}

TEST_F(Streams, CloseEndsStdinAtItsByte) {
  plan(R"({"fault": "ipc.close", "set": {"stream": "stdin", "after_bytes": 5}})");
  start("cat; echo end");
  ASSERT_TRUE(write_all(in_.writing.get(), "123456789"));
  const json result = finish();
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(output_, "12345end\n");
  EXPECT_EQ(log_.step("evidence")["bytes_cut"], 4);
}

TEST_F(Streams, ACloseWithNothingBehindItIsNotActivated) {
  plan(R"({"fault": "ipc.close", "set": {"stream": "stdin", "after_bytes": 5}})");
  start("cat; echo end");
  ASSERT_TRUE(write_all(in_.writing.get(), "12345"));
  EXPECT_EQ(finish()["outcome"], "not_activated");
  EXPECT_EQ(output_, "12345end\n");
}

TEST_F(Streams, CloseMakesTheWriterFail) {
  plan(R"({"fault": "ipc.close", "set": {"stream": "stdout", "after_bytes": 1000}})");
  start("exec yes");
  const json result = finish();
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(output_.size(), 1000u);
  EXPECT_EQ(status_.signal(), SIGPIPE);
}

TEST_F(Streams, CorruptFlipsExactlyTheBitsThatItTells) {
  plan(R"({"fault": "ipc.corrupt", "set": {"stream": "stdin", "after_bytes": 10, "bits": 3}})");
  start("exec cat");
  const std::string sent(100, 'a');
  ASSERT_TRUE(write_all(in_.writing.get(), sent));
  in_.writing.reset();
  const json result = finish();
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  ASSERT_EQ(output_.size(), 100u);
  for (std::size_t i = 0; i < output_.size(); ++i) {
    EXPECT_EQ(__builtin_popcount(static_cast<unsigned char>(output_[i] ^ 'a')),
              i >= 10 && i < 13 ? 1 : 0)
        << i;
  }
  const json evidence = log_.step("evidence");
  EXPECT_EQ(evidence["changed"][0]["offset"], 10);
  EXPECT_EQ(evidence["changed"][0]["after"], static_cast<unsigned char>(output_[10]));
  EXPECT_NE(evidence["digest_in"], evidence["digest_out"]);
}

TEST_F(Streams, WhatTheSubjectDoesNotReadIsNotConfirmed) {
  plan(R"({"fault": "ipc.corrupt", "set": {"stream": "stdin", "after_bytes": 10}})");
  start("dd bs=5 count=1 of=/dev/null 2> /dev/null; sleep 0.5");
  ASSERT_TRUE(write_all(in_.writing.get(), std::string(5, 'a')));
  ::usleep(200'000);
  ASSERT_TRUE(write_all(in_.writing.get(), std::string(50, 'a')));
  EXPECT_EQ(finish()["outcome"], "indeterminate");
}

TEST_F(Streams, DropLosesSoManyBytes) {
  plan(R"({"fault": "ipc.drop", "set": {"stream": "stdout", "after_bytes": 4, "bytes": "6"}})");
  start("printf 0123456789; sleep 0.1; printf abcdef");
  const json result = finish();
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(output_, "0123abcdef");
  EXPECT_EQ(log_.step("evidence")["bytes_in"], 16);
  EXPECT_EQ(log_.step("evidence")["bytes_out"], 10);
}

TEST_F(Streams, StallHoldsAndLetsGo) {
  plan(R"({"fault": "ipc.stall", "set": {"stream": "stdout", "duration": "300ms"},
           "when": {"after": "1ns"}})");
  start("while read line; do echo $line; done");
  EXPECT_TRUE(injection_->fired());
  const std::int64_t from = now_ns();
  ASSERT_TRUE(write_all(in_.writing.get(), "word\n"));
  std::string word(5, '\0');
  EXPECT_EQ(::read(out_.reading.get(), word.data(), word.size()), 5);
  EXPECT_GE(now_ns() - from, 250'000'000);
  in_.writing.reset();
  const json result = finish();
  EXPECT_EQ(result["outcome"], "confirmed") << result.dump();
  EXPECT_EQ(log_.step("evidence")["bytes_held"], 5);
}

TEST_F(Streams, AStallOfSilenceIsNotActivatedAndNothingIsLost) {
  plan(R"({"fault": "ipc.stall", "set": {"stream": "stdout"}, "when": {"after": "1h"}})");
  start("echo before; sleep 0.2");
  const json result = finish();
  EXPECT_EQ(result["outcome"], "not_activated");
  EXPECT_EQ(output_, "before\n");
}

TEST_F(Streams, AStreamThatNobodyPassesIsSkipped) {
  launch_.descriptors.clear();
  plan(R"({"fault": "ipc.drop", "set": {"stream": "stderr"}})");
  injection_->finish({});
  EXPECT_EQ(log_.result()["outcome"], "skipped");
}

// ---- Before a socket ----

UniqueFd unix_socket(const fs::path& path, bool listens) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (listens) {
    EXPECT_EQ(::bind(fd.get(), generic, sizeof address), 0);
    EXPECT_EQ(::listen(fd.get(), 5), 0);
  } else if (::connect(fd.get(), generic, sizeof address) != 0) {
    fd.reset();
  }
  return fd;
}

class Sockets : public Streams {
 protected:
  void SetUp() override {
    Streams::SetUp();
    server_ = unix_socket(root_ / "real", true);
  }
  void TearDown() override {
    Streams::TearDown();
    EXPECT_FALSE(fs::exists(root_ / "relayed"));
  }
  void connect() {
    look();
    client_ = unix_socket(root_ / "relayed", false);
    ASSERT_TRUE(client_.valid());
    peer_.reset(::accept4(server_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(peer_.valid());
  }
  json over() {
    client_.reset();
    peer_.reset();
    injection_->finish({});
    EXPECT_FALSE(fs::exists(root_ / "relayed"));
    return log_.result();
  }
  UniqueFd server_;
  UniqueFd client_;
  UniqueFd peer_;
};

TEST_F(Sockets, PassesBothWaysAndHalfCloses) {
  plan(R"({"fault": "ipc.drop", "set": {"socket": "relayed", "upstream": "real"},
           "when": {"after": "1h"}})");
  struct stat info {};
  ASSERT_EQ(::lstat((root_ / "relayed").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0600u);
  EXPECT_TRUE(log_.step("create")["synced"]);
  connect();
  ASSERT_TRUE(write_all(client_.get(), "question"));
  ::shutdown(client_.get(), SHUT_WR);
  EXPECT_EQ(read_all(peer_.get()), "question");
  ASSERT_TRUE(write_all(peer_.get(), "answer"));
  peer_.reset();
  EXPECT_EQ(read_all(client_.get()), "answer");
  EXPECT_EQ(over()["outcome"], "not_activated");
}

TEST_F(Sockets, StrikesTheDirectionThatItIsTold) {
  plan(R"({"fault": "ipc.corrupt", "set": {"socket": "relayed", "upstream": "real",
           "direction": "back", "after_bytes": 2}})");
  connect();
  ASSERT_TRUE(write_all(client_.get(), "aaaa"));
  ASSERT_TRUE(write_all(peer_.get(), "aaaa"));
  ::shutdown(client_.get(), SHUT_WR);
  ::shutdown(peer_.get(), SHUT_WR);
  EXPECT_EQ(read_all(peer_.get()), "aaaa");
  const std::string back = read_all(client_.get());
  EXPECT_EQ(back.substr(0, 2), "aa");
  EXPECT_EQ(__builtin_popcount(static_cast<unsigned char>(back.at(2) ^ 'a')), 1);
  EXPECT_EQ(over()["outcome"], "confirmed");
}

TEST_F(Sockets, AClosedConnectionCanBeMadeAgain) {
  plan(R"({"fault": "ipc.close", "set": {"socket": "relayed", "upstream": "real",
           "after_bytes": 3}})");
  connect();
  ASSERT_TRUE(write_all(client_.get(), "abcdef"));
  EXPECT_EQ(read_all(peer_.get()), "abc");
  connect();
  ASSERT_TRUE(write_all(client_.get(), "again"));
  ::shutdown(client_.get(), SHUT_WR);
  EXPECT_EQ(read_all(peer_.get()), "again");
  EXPECT_EQ(over()["outcome"], "confirmed");
}

TEST_F(Sockets, RefusesAPathThatIsTaken) {
  ASSERT_TRUE(write_file_atomically(root_ / "taken", "precious"));
  plan(R"({"fault": "ipc.drop", "set": {"socket": "taken", "upstream": "real"}})");
  EXPECT_EQ(over()["outcome"], "skipped");
  EXPECT_EQ(*read_file(root_ / "taken"), "precious");
}

TEST_F(Sockets, TheSocketsFileDoesNotOutliveAKilledHarness) {
  const pid_t harness = ::fork();
  if (harness == 0) {
    plan(R"({"fault": "ipc.drop", "set": {"socket": "relayed", "upstream": "real"}})");
    ::raise(SIGKILL);
  }
  int status = 0;
  ::waitpid(harness, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  for (int i = 0; i < 5'000 && fs::exists(root_ / "relayed"); ++i) ::usleep(1'000);
  EXPECT_FALSE(fs::exists(root_ / "relayed"));
}

TEST_F(Sockets, NobodyUpstreamIsARefusal) {
  plan(R"({"fault": "ipc.drop", "set": {"socket": "relayed", "upstream": "nowhere"}})");
  client_ = unix_socket(root_ / "relayed", false);
  EXPECT_EQ(read_all(client_.get()), "");
  EXPECT_EQ(over()["outcome"], "not_activated");
  EXPECT_EQ(log_.step("evidence"), nullptr) << "its moment never came";
}

}  // namespace
}  // namespace crashworthy

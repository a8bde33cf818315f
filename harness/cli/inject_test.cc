// inject, replay and recover on real commands: what passes through untouched, what is said, what is
// recorded, and what is left when anybody is killed.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "faults/resource.h"
#include "harness/cli/program_test_util.h"
#include "harness/experiment/recover.h"
#include "harness/experiment/replay.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "results/history.h"

namespace crashworthy::testing {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr uid_t kNobody = 65534;
constexpr std::int64_t kSecond = 1'000'000'000;

class Inject : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam() && ::getuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  }
  std::optional<uid_t> uid() const {
    return GetParam() ? std::optional<uid_t>(kNobody) : std::nullopt;
  }
  Finished crashworthy(std::vector<std::string> words) {
    words.insert(words.begin(), crashworthy_program());
    return run_program(words, directory_.path(), 60, uid());
  }
  // The same from a shell, for redirections.
  Finished shell(const std::string& script) {
    return run_program({"/bin/sh", "-c", "c=" + crashworthy_program() + "; " + script},
                       directory_.path(), 60, uid());
  }
  pid_t start(std::vector<std::string> words) {
    words.insert(words.begin(), crashworthy_program());
    return start_program(words, directory_.path(), uid());
  }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(directory_.path() / name) << text;
  }
  std::string text(const std::string& name) {
    auto content = read_file(directory_.path() / name);
    return content ? *content : std::string();
  }
  TrialHistory history(const std::string& record) {
    auto read = read_history(directory_.path() / record);
    EXPECT_TRUE(read) << record;
    return *std::move(read);
  }
  // Waits until `step` is in the history of `record`.
  bool wait_for(const std::string& record, const std::string& word) {
    const std::int64_t deadline = now_ns() + 30 * kSecond;
    while (text(record + "/history.jsonl").find(word) == std::string::npos) {
      if (now_ns() > deadline) return false;
      std::this_thread::sleep_for(1ms);
    }
    return true;
  }
  TemporaryDirectory directory_;
};

// The one line of JSON that --json writes after the command's own words.
json last_line(const std::string& err) {
  std::string text = err;
  while (text.ends_with('\n')) text.pop_back();
  return json::parse(text.substr(text.rfind('\n') + 1), nullptr, false);
}

std::string survivors(const std::vector<ProcessId>& before, const std::string& naming) {
  const std::int64_t deadline = now_ns() + 5 * kSecond;
  std::string left;
  do {
    left.clear();
    for (const ProcessId& process : before) {
      if (is_alive(process)) left += process.command + "\n";
    }
    for (const ProcessId& process : processes_naming(naming)) left += process.command + "\n";
    if (!left.empty()) std::this_thread::sleep_for(10ms);
  } while (!left.empty() && now_ns() < deadline);
  return left;
}

TEST_P(Inject, AKillIsConfirmedAndSaysSo) {
  const Finished run = crashworthy({"inject", "process.kill", "--out", "r", "--", "sleep", "20"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.out, "");
  EXPECT_THAT(run.err, HasSubstr("crashworthy: process.kill: confirmed; proof: status killed by "
                                 "SIGKILL; victim: worker"));
  EXPECT_THAT(run.err, HasSubstr("'sleep' was killed by SIGKILL after"));
  EXPECT_THAT(run.err, HasSubstr("record in " + (directory_.path() / "r").string()));
  EXPECT_FALSE(fs::exists(directory_.path() / "r" / "scratch"));
  const TrialHistory read = history("r");
  EXPECT_EQ(read.events.back()["type"], "end");
  EXPECT_EQ(read.events.back()["outcome"], "finished");
  EXPECT_EQ(fs::status(directory_.path() / "r").permissions(), fs::perms::owner_all)
      << "the user's environment is nobody else's business";
}

TEST_P(Inject, StreamsPassThroughByteByByte) {
  std::string bytes;
  for (int i = 0; i < 1 << 20; ++i) bytes += static_cast<char>(i * 31 + i / 256);
  write("bytes", bytes);
  const Finished run = shell(
      "exec 7<bytes; $c inject process.kill --quiet --when after=1h --out r -- "
      "sh -c 'cat; cat <&7 >&2; exit 7' <bytes >copy 2>copy2");
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_EQ(text("copy"), bytes) << "stdin to stdout";
  EXPECT_EQ(text("copy2"), bytes) << "a descriptor of the user's to stderr";
}

TEST_P(Inject, TheCommandIsWhereTheUserIsAndSeesTheSame) {
  const Finished run = shell(
      "export MINE=here CRASHWORTHY_PROBE=1,2; ulimit -n 512; $c inject process.kill --quiet "
      "--when after=1h --out r -- sh -c 'pwd; echo $MINE; ulimit -n; echo $0 \"$1\"' zero 'a  b'");
  EXPECT_EQ(run.out, directory_.path().string() + "\nhere\n512\nzero a  b\n");
  EXPECT_EQ(run.err, "");
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), {}), 3)
      << "out, err and the record that was asked for, nothing else";
}

TEST_P(Inject, TooFewDescriptorsAreSaidAtTheStart) {
  const Finished run =
      shell("ulimit -n 64; $c inject process.kill --when after=1h --out r -- true");
  EXPECT_EQ(run.exit_code, 64) << run.err;
  EXPECT_THAT(run.err, HasSubstr("64 open files"));
  EXPECT_THAT(run.err, HasSubstr("raise it first: ulimit -n 256"));
  EXPECT_FALSE(fs::exists(directory_.path() / "r"));
}

TEST_P(Inject, ExitCodesAndTheCommandsOwnCode) {
  const Finished run = shell(
      "HOME=$PWD/home; unset XDG_STATE_HOME; export HOME; $c inject "
      "process.kill --when after=1h --json -- sh -c 'echo out; exit 9'");
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_EQ(run.out, "out\n");
  const json said = last_line(run.err);
  ASSERT_TRUE(said.is_object()) << run.err;
  EXPECT_EQ(said["exit_code"], 9);
  EXPECT_EQ(said["ended"], "exited with 9");
  EXPECT_EQ(said["confirmed"], false);
  EXPECT_EQ(said["injections"][0]["outcome"], "not_activated");
  const std::string record = said["record"];
  EXPECT_THAT(record, HasSubstr("/home/.local/state/crashworthy/inject/"));
  EXPECT_TRUE(fs::exists(fs::path(record) / "history.jsonl"));
  const Finished disarmed =
      crashworthy({"inject", "process.kill", "--disarm", "--out", "d", "--", "sleep", "0.3"});
  EXPECT_EQ(disarmed.exit_code, 3);
  EXPECT_THAT(disarmed.err, HasSubstr("not_activated; disarmed; 'sleep' exited with 0"));
}

TEST_P(Inject, ATimeoutEndsTheCommand) {
  const std::int64_t before = now_ns();
  const Finished run = crashworthy({"inject", "process.kill", "--when", "after=1h", "--timeout",
                                    "200ms", "--out", "r", "--", "sleep", "60"});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_THAT(run.err, HasSubstr("did not end in time"));
  EXPECT_LT(now_ns() - before, 30 * kSecond);
}

TEST_P(Inject, BadCallsGetOneClearErrorAndLeaveNothing) {
  write("faults.json", R"([{"fault": "process.kill", "when": {"aftr": "1s"}}])");
  write("empty.json", "[]");
  fs::create_directories(directory_.path() / "full" / "x");
  fs::create_directories(directory_.path() / "shut");
  fs::permissions(directory_.path() / "shut", fs::perms::none);
  struct Call {
    std::vector<std::string> words;
    const char* says;
  };
  std::vector<Call> calls{
      {{"inject"}, "no fault"},
      {{"inject", "process.kill"}, "no command"},
      {{"inject", "process.kill", "--"}, "no command"},
      {{"inject", "process.kil", "--", "true"}, "did you mean 'process.kill'?"},
      {{"inject", "process.kill@x", "--", "true"}, "takes no point"},
      {{"inject", "native.poison", "--", "true"}, "needs a point"},
      {{"inject", "process.kill", "--when", "after", "--", "true"}, "not KEY=VALUE"},
      {{"inject", "process.kill", "--victim", "rolle=main", "--", "true"}, "role"},
      {{"inject", "process.kill", "--set", "x=1", "--", "true"}, "x"},
      {{"inject", "process.kill", "--timeout", "5", "--", "true"}, "--timeout"},
      {{"inject", "process.kill", "--out", "full", "--", "true"}, "not empty"},
      {{"inject", "process.kill", "--out", "/proc/nowhere/x", "--", "true"}, "--out"},
      {{"inject", "process.kill", "--out", "n", "--", "./nowhere"}, "No such file"},
      {{"inject", "process.kill", "--out", "n", "--", "full"}, "full"},
      {{"inject", "--faults", "none.json", "--", "true"}, "none.json"},
      {{"inject", "--faults", "empty.json", "--", "true"}, "list of faults"},
      {{"inject", "--faults", "faults.json", "--", "true"}, "aftr"},
      {{"inject", "process.kill", "--faults", "faults.json", "--", "true"}, "both"},
      {{"inject", "process.kill", "--seed", "-1", "--", "true"}, "0 to 18446744073709551615"},
      {{"inject", "process.kill", "--seed", "99999999999999999999", "--", "true"}, "--seed"},
      {{"inject", "process.kill", "--out", "", "--", "true"}, "--out"},
      {{"replay", "full", "--out", ""}, "--out"},
      {{"inject", "process.kill", "--victim", "pick=\"2\"", "--", "true"}, "quotation marks: 2"},
      {{"inject", "process.hang", "--set", "duration=0s", "--", "true"}, "longer than 0"},
      {{"inject", "io.short", "--set", "call=openat", "--out", "n", "--", "true"}, "pwritev2"},
      {{"inject", "resource.disk_full", "--out", "n", "--", "true"}, "set path=DIRECTORY"},
      {{"inject", "resource.disk_full", "--set", "path=gone", "--out", "n", "--", "true"},
       "no directory"},
      {{"inject", "input.empty", "--set", "path=gone*", "--out", "n", "--", "true"}, "gone*"},
      {{"replay", "full"}, "no recorded trial"},
      {{"recover", "full"}, "no history"},
      {{"recover", "nowhere"}, "no history"},
  };
  if (GetParam())
    calls.push_back({{"inject", "process.kill", "--out", "shut/r", "--", "true"}, "--out"});
  for (const Call& call : calls) {
    const Finished finished = crashworthy(call.words);
    const std::string words = json(call.words).dump();
    EXPECT_EQ(finished.exit_code, 64) << words << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(call.says)) << words;
    EXPECT_THAT(finished.err, HasSubstr("crashworthy: error: ")) << words;
    EXPECT_EQ(finished.out, "") << words;
  }
  EXPECT_FALSE(fs::exists(directory_.path() / "n")) << "what never began leaves no record";
  fs::permissions(directory_.path() / "shut", fs::perms::owner_all);
}

// Nobody has changed mogrify, and it loads libjpeg only when it meets the first picture.
TEST_P(Inject, AbortsAProgramInsideALibraryThatItLoadsLate) {
  const fs::path pictures = "/usr/share/doc/opencv-doc/examples";
  if (!fs::exists("/usr/bin/mogrify") || !fs::exists(pictures))
    GTEST_SKIP() << "needs imagemagick and opencv-doc";
  std::vector<std::string> words{"inject",  "native.abort@jpeg_read_header",
                                 "--when",  "hit=3",
                                 "--out",   "r",
                                 "--",      "mogrify",
                                 "-resize", "50%"};
  for (const auto& entry : fs::recursive_directory_iterator(pictures)) {
    if (entry.path().extension() != ".jpg" || words.size() == 15) continue;
    const fs::path copy = directory_.path() / entry.path().filename();
    if (!fs::copy_file(entry.path(), copy, fs::copy_options::skip_existing)) continue;
    fs::permissions(copy, fs::perms::all);
    words.push_back(copy.filename());
  }
  ASSERT_EQ(words.size(), 15u);
  const Finished run = crashworthy(words);
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("'mogrify' was killed by SIGABRT"));
  const Finished again = crashworthy({"replay", "r", "--out", "again"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  // Whom it struck is compared: a planted difference is seen.
  const auto first = recorded_trial(history("r"));
  auto other = recorded_trial(history("again"));
  ASSERT_TRUE(first && other);
  EXPECT_EQ(differences(*first, *other), std::vector<std::string>());
  other->results[0]["victims"][0]["command"] = "another";
  EXPECT_THAT(differences(*first, *other), ::testing::ElementsAre(HasSubstr("1 'another' now")));
}

TEST_P(Inject, AConfirmationSaysItsProof) {
  struct Proof {
    std::vector<std::string> words;
    const char* says;
  };
  for (const Proof& proof : std::vector<Proof>{
           {{"process.hang", "--set", "duration=100ms"}, "threads_stopped 1"},
           {{"resource.cpu_steal", "--set", "duration=200ms"}, "each_had_at_least_ms"},
           {{"process.slow_start", "--set", "delay=50ms"}, "did delayed it"}}) {
    std::vector<std::string> words{"inject"};
    words.insert(words.end(), proof.words.begin(), proof.words.end());
    for (const char* word : {"--out", "", "--", "sleep", "1"}) words.emplace_back(word);
    words[words.size() - 4] = "r-" + proof.words.front();
    const Finished run = crashworthy(words);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    EXPECT_THAT(run.err, HasSubstr("confirmed; proof: ")) << run.err;
    EXPECT_THAT(run.err, HasSubstr(proof.says)) << run.err;
  }
}

// ---- When we are stopped ----

TEST_P(Inject, AnInterruptEndsTheTreeAndIsRecorded) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    const std::string record = "r" + std::to_string(signal);
    const pid_t pid = start({"inject", "process.kill", "--when", "after=1h", "--out", record, "--",
                             "sh", "-c", "sleep 77 & sleep 78"});
    ASSERT_TRUE(wait_for(record, "\"steady\""));
    const std::vector<ProcessId> before = descendants_of(pid);
    ::kill(pid, signal);
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << status;
    EXPECT_EQ(survivors(before, (directory_.path() / record).string()), "");
    const TrialHistory read = history(record);
    EXPECT_EQ(read.events.back()["outcome"], "interrupted");
    EXPECT_FALSE(fs::exists(directory_.path() / record / "scratch"));
  }
}

TEST_P(Inject, ASigkillLeavesNothingAndRecoverFindsNothingTwice) {
  const pid_t pid = start({"inject", "resource.mem_cap", "--when", "after=300ms", "--victim",
                           "role=main", "--out", "r", "--", "sh", "-c", "sleep 77 & sleep 78"});
  ASSERT_TRUE(wait_for("r", "\"fired\""));
  const std::vector<ProcessId> before = descendants_of(pid);
  EXPECT_GE(before.size(), 2u);
  const Finished early = crashworthy({"recover", "r"});
  EXPECT_EQ(early.exit_code, 64) << early.out << early.err;
  EXPECT_THAT(early.err, HasSubstr("still runs: process " + std::to_string(pid)));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  EXPECT_EQ(survivors(before, (directory_.path() / "r").string()), "");
  for (int i = 0; i < 2; ++i) {
    const Finished recovered = crashworthy({"recover", "r"});
    EXPECT_EQ(recovered.exit_code, 0) << recovered.err;
    EXPECT_THAT(recovered.out, HasSubstr("nothing was left"));
  }
  const Finished again = crashworthy({"recover", "--json", "r"});
  EXPECT_EQ(json::parse(again.out)["clean"], true);
}

// At a terminal: the command reads what is typed, and Ctrl-C ends both.
class Terminal {
 public:
  explicit Terminal(std::vector<std::string> words) {
    words.insert(words.begin(), crashworthy_program());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    pid_ = ::forkpty(&fd_, nullptr, nullptr, nullptr);
    if (pid_ != 0) return;
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Terminal() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::close(fd_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  void type(const std::string& text) const { (void)!::write(fd_, text.data(), text.size()); }
  // Reads until `word` has come.
  bool shows(const std::string& word) {
    const std::int64_t deadline = now_ns() + 30 * kSecond;
    while (shown_.find(word) == std::string::npos && now_ns() < deadline) {
      pollfd poll_fd{fd_, POLLIN, 0};
      std::array<char, 1024> text{};
      if (::poll(&poll_fd, 1, 100) <= 0) continue;
      const ssize_t count = ::read(fd_, text.data(), text.size());
      if (count <= 0) break;
      shown_.append(text.data(), static_cast<std::size_t>(count));
    }
    return shown_.find(word) != std::string::npos;
  }
  int end() {
    int status = 0;
    auto pidfd = open_pidfd(pid_);
    EXPECT_TRUE(pidfd && wait_for_end(pidfd->get(), 30'000));
    ::waitpid(pid_, &status, WNOHANG);
    return status;
  }
  const std::string& shown() const { return shown_; }

 private:
  int fd_ = -1;
  pid_t pid_ = -1;
  std::string shown_;
};

TEST(InjectAtATerminal, TheCommandReadsWhatIsTyped) {
  TemporaryDirectory directory;
  const std::string out = (directory.path() / "r").string();
  Terminal terminal({"inject", "process.kill", "--when", "after=1h", "--out", out, "--", "sh", "-c",
                     "echo ready; read x; echo got-$x"});
  ASSERT_TRUE(terminal.shows("ready")) << terminal.shown();
  terminal.type("\x1a");  // Ctrl-Z: nothing happens.
  terminal.type("hello\n");
  EXPECT_TRUE(terminal.shows("got-hello")) << terminal.shown();
  EXPECT_TRUE(terminal.shows("record in")) << terminal.shown();
  const int status = terminal.end();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 3) << status;
}

TEST(InjectAtATerminal, CtrlCEndsBoth) {
  TemporaryDirectory directory;
  const std::string out = (directory.path() / "r").string();
  Terminal terminal({"inject", "process.kill", "--when", "after=1h", "--out", out, "--", "sh", "-c",
                     "trap '' INT; echo ready; sleep 77"});
  ASSERT_TRUE(terminal.shows("ready")) << terminal.shown();
  terminal.type("\x03");
  EXPECT_TRUE(terminal.shows("record in")) << terminal.shown();
  const int status = terminal.end();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) << status;
  EXPECT_EQ(survivors({}, out), "");
}

// ---- Recovery, on what a history tells of ----

// A history as a harness leaves it that is gone.
void write_history(const fs::path& record, const std::vector<Resource>& resources,
                   json harness = harness_identity()) {
  auto writer = HistoryWriter::create(record);
  ASSERT_TRUE(writer);
  if (harness.value("pid", json()) == json(::getpid())) {  // It has ended: its number is another's.
    harness["start_time"] = harness["start_time"].get<std::uint64_t>() - 1;
  }
  ASSERT_TRUE(writer->write({{"type", "trial"}, {"time_ns", 1}, {"harness", harness}}));
  json list = json::array();
  for (const Resource& resource : resources) list.push_back(to_json(resource));
  ASSERT_TRUE(writer->write(
      {{"type", "injection"}, {"time_ns", 2}, {"step", "resources"}, {"resources", list}}));
}

std::vector<Leftover> states(const fs::path& record) {
  auto findings = recover(record);
  EXPECT_TRUE(findings) << findings.error().message;
  std::vector<Leftover> found;
  for (const Finding& finding : *findings) found.push_back(finding.state);
  return found;
}

TEST(Recover, RemovesWhatIsOursAndOnlyThat) {
  TemporaryDirectory directory;
  const fs::path file = directory.path() / "crashworthy-file";
  const fs::path tree = directory.path() / "crashworthy-tree";
  const fs::path replaced = directory.path() / "crashworthy-replaced";
  const fs::path link = directory.path() / "crashworthy-link";
  const fs::path precious = directory.path() / "precious";
  const fs::path socket_path = directory.path() / "crashworthy-socket";
  std::ofstream(file) << "x";
  fs::create_directories(tree / "a" / "b");
  std::ofstream(tree / "a" / "b" / "c") << "x";
  fs::create_directories(precious);
  std::ofstream(precious / "file") << "x";
  std::ofstream(replaced) << "x";
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(socket_path.string().size(), sizeof address.sun_path);
  std::strcpy(address.sun_path, socket_path.c_str());
  ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);

  Resource foreign = Resource::at(Resource::Kind::kFile, file);
  foreign.path = precious / "file";  // As a damaged or hostile history might say.
  foreign.inode = inode_at(foreign.path);
  Resource other = Resource::at(Resource::Kind::kFile, replaced);
  other.inode->number += 1;
  fs::create_directory_symlink(precious, link);
  Resource linked = Resource::at(Resource::Kind::kDirectory, link);
  write_history(directory.path() / "r",
                {foreign, other, linked, Resource::at(Resource::Kind::kFile, file),
                 Resource::at(Resource::Kind::kDirectory, tree),
                 Resource::at(Resource::Kind::kSocket, socket_path),
                 Resource::at(Resource::Kind::kFile, directory.path() / "crashworthy-never")});
  using enum Leftover;
  EXPECT_EQ(states(directory.path() / "r"),
            (std::vector{kGone, kUndone, kUndone, kUndone, kForeign, kForeign, kForeign}));
  EXPECT_EQ(states(directory.path() / "r"),
            (std::vector{kGone, kGone, kGone, kGone, kForeign, kForeign, kForeign}));
  EXPECT_FALSE(fs::exists(file) || fs::exists(tree) || fs::exists(socket_path));
  EXPECT_TRUE(fs::exists(precious / "file") && fs::exists(replaced) && fs::is_symlink(link));
}

TEST(Recover, UndoesWhatWasDoneToProcessesThatAreStillTheSame) {
  TemporaryDirectory directory;
  const auto sleeper = [] {
    const pid_t pid = ::fork();
    if (pid == 0) {
      while (true) ::pause();
    }
    return pid;
  };
  const pid_t stopped = sleeper();
  const pid_t helper = sleeper();
  const pid_t limited = sleeper();
  const pid_t other = sleeper();
  ::kill(stopped, SIGSTOP);
  ASSERT_TRUE(wait_until_stopped(stopped, 5000));
  const Resource limit = Resource::limit(limited, RLIMIT_NOFILE);
  const rlimit low{7, limit.before.rlim_max};
  ASSERT_EQ(::prlimit(limited, RLIMIT_NOFILE, &low, nullptr), 0);
  Resource reused = Resource::process(other, true);
  reused.start_time += 1;
  const fs::path record = directory.path() / "r";
  write_history(
      record, {Resource::process(stopped, false), Resource::process(helper, true), limit, reused});
  using enum Leftover;
  EXPECT_EQ(states(record), (std::vector{kForeign, kUndone, kUndone, kUndone}));
  EXPECT_EQ(states(record), (std::vector{kForeign, kGone, kGone, kGone}));
  rlimit now{};
  ::prlimit(limited, RLIMIT_NOFILE, nullptr, &now);
  EXPECT_EQ(now.rlim_cur, limit.before.rlim_cur);
  EXPECT_FALSE(wait_until_stopped(stopped, 50));
  int status = 0;
  EXPECT_EQ(::waitpid(helper, &status, 0), helper);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(::waitpid(other, &status, WNOHANG), 0) << "another process has that number: it lives";
  for (const pid_t pid : {stopped, limited, other}) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
}

TEST(Recover, RefusesWhereItCannotKnow) {
  TemporaryDirectory directory;
  const pid_t child = ::fork();
  if (child == 0) {
    while (true) ::pause();
  }
  json alive = harness_identity();
  alive["pid"] = child;
  alive["start_time"] = start_time_of(child).value();
  write_history(directory.path() / "alive", {}, alive);
  json elsewhere = harness_identity();
  elsewhere["pid_namespace"] = "pid:[1]";
  write_history(directory.path() / "elsewhere", {}, elsewhere);
  json other_boot = alive;
  other_boot["boot"] = "another";
  write_history(directory.path() / "boot", {Resource::process(child, true)}, other_boot);
  const auto refused = recover(directory.path() / "alive");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("still runs"));
  const auto unknown = recover(directory.path() / "elsewhere");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("another pid namespace"));
  EXPECT_TRUE(states(directory.path() / "boot").empty()) << "no process of another boot is left";
  write_history(directory.path() / "strange", {},
                json{{"pid", "x"}, {"boot", 7}, {"start_time", 1}});
  EXPECT_FALSE(recover(directory.path() / "strange"));
  if (::getuid() == 0) {
    write_history(directory.path() / "other", {});
    ASSERT_EQ(::chown((directory.path() / "other" / "history.jsonl").c_str(), kNobody, kNobody), 0);
    const auto other = recover(directory.path() / "other");
    ASSERT_FALSE(other);
    EXPECT_THAT(other.error().message, HasSubstr("belongs to user 65534"));
  }
  EXPECT_EQ(::waitpid(child, nullptr, WNOHANG), 0);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

// ---- Replay ----

constexpr const char* kFive = R"([
  {"name": "first", "fault": "process.kill", "victim": {"role": "any", "command": "sleep"},
   "when": {"after": "150ms"}},
  {"name": "second", "fault": "process.kill", "victim": {"role": "any", "command": "sleep"},
   "when": {"after": ["150ms", "300ms"]}},
  {"name": "third", "fault": "process.kill", "victim": {"child": 3}, "when": {"after": "350ms"}},
  {"name": "fourth", "fault": "process.kill", "victim": {"role": "any", "command": "sleep"},
   "when": {"event": "fired+250ms"}},
  {"name": "fifth", "fault": "process.kill", "victim": {"role": "main"},
   "when": {"then": [{"event": "fired"}, {"after": "900ms"}]}}])";
constexpr const char* kEightSleepers =
    "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait; wait; sleep 60";

std::vector<json> results_in(const TrialHistory& history) {
  std::vector<json> results;
  for (const json& event : history.events) {
    if (event["type"] == "injection_result") results.push_back(event);
  }
  return results;
}

TEST_P(Inject, FiveFaultsAreReplayedIntoTheSameVictims) {
  write("five.json", kFive);
  const Finished run = crashworthy({"inject", "--faults", "five.json", "--seed", "4", "--out", "r",
                                    "--", "sh", "-c", kEightSleepers});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const std::vector<json> first = results_in(history("r"));
  ASSERT_EQ(first.size(), 5u);
  for (int i = 0; i < 2; ++i) {
    const std::string out = "again" + std::to_string(i);
    const Finished again = crashworthy({"replay", "r", "--out", out});
    EXPECT_EQ(again.exit_code, 0) << again.err;
    EXPECT_THAT(again.err, HasSubstr("same triggers, victims, order and outcomes"));
    const std::vector<json> second = results_in(history(out));
    ASSERT_EQ(second.size(), 5u);
    for (std::size_t n = 0; n < 5; ++n) {
      EXPECT_EQ(first[n]["outcome"], "confirmed") << first[n];
      EXPECT_EQ(first[n]["victim"].value("child", 0), second[n]["victim"].value("child", 0));
    }
  }
}

TEST_P(Inject, AReplayThatGoesAnotherWaySaysSo) {
  write("go", "x");
  const Finished run =
      crashworthy({"inject", "process.kill", "--victim", "command=sleep", "--when", "after=200ms",
                   "--out", "r", "--", "sh", "-c", "test -f go && sleep 60; true"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  fs::remove(directory_.path() / "go");
  const Finished again = crashworthy({"replay", "r", "--out", "again"});
  EXPECT_EQ(again.exit_code, 3) << again.err;
  EXPECT_THAT(again.err, HasSubstr("outcome: confirmed before, not_activated now"));
  EXPECT_THAT(again.err, HasSubstr("order: process.kill before, nothing now"));
}

// The trial of a run, in its own directory, with workers: two kills, the second of a life that only
// the first has begun.
TEST_P(Inject, ATrialOfARunIsReplayed) {
  write("e.json", R"({"experiment": "e",
    "subject": {"pipeline": "tiles", "input": {"generate": {"count": 24, "seed": 3}}},
    "arms": [{"name": "supervised", "supervision": {}, "workers": 2}],
    "faults": [{"name": "five", "faults": [
      {"name": "a", "fault": "process.kill", "victim": {"holding_item": true}, "when": {"item": 3}},
      {"name": "b", "fault": "process.kill", "victim": {"worker": 0}, "when": {"item": [5, 7]}},
      {"name": "c", "fault": "process.kill", "when": {"item": [9, 11]}},
      {"name": "d", "fault": "process.kill", "victim": {"incarnation": 2}, "when": {"item": 14}},
      {"name": "e", "fault": "process.kill", "victim": {"worker": 1}, "when": {"item": 18}}]}],
    "blocks": 1})");
  const Finished run = crashworthy({"run", "--quiet", "--seed", "5", "--out", "run", "e.json"});
  ASSERT_EQ(run.exit_code, 0) << run.out << run.err;
  const json plan = json::parse(text("run/plan.json"));
  int number = 0;
  int twin = 0;
  for (const json& trial : plan["trials"])
    (trial["fault"] == "five" ? number : twin) = trial["trial"];
  const Finished again =
      crashworthy({"replay", "run", "--trial", std::to_string(number), "--out", "again"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_FALSE(fs::exists(directory_.path() / "again" / "scratch"));
  const auto first = recorded_trial(history("run/trials/000" + std::to_string(number)));
  const auto second = recorded_trial(history("again"));
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->faults.size(), 5u);
  EXPECT_EQ(differences(*first, *second), std::vector<std::string>());
  for (const json& result : second->results) EXPECT_EQ(result["outcome"], "confirmed") << result;
  // A planted difference is seen.
  auto other = *second;
  other.results[1]["victims"][0]["incarnation"] = 17;
  std::swap(other.results[3]["victims"][0]["struck_ns"],
            other.results[4]["victims"][0]["struck_ns"]);
  other.triggers[2].gate->value = {1, 1};
  const std::vector<std::string> differ = differences(*first, other);
  EXPECT_EQ(differ.size(), 3u) << ::testing::PrintToString(differ);
  EXPECT_EQ(crashworthy({"replay", "run", "--trial", std::to_string(twin)}).exit_code, 64);
  EXPECT_EQ(crashworthy({"replay", "run", "--trial", "99"}).exit_code, 64);
  EXPECT_EQ(crashworthy({"replay", "run"}).exit_code, 64);
}

INSTANTIATE_TEST_SUITE_P(AsRootAndNot, Inject, ::testing::Bool(), [](const auto& test) {
  return test.param ? std::string("Nobody") : std::string("AsWeAre");
});

}  // namespace
}  // namespace crashworthy::testing

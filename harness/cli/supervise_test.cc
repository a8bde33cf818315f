// supervise and ctl as a user meets them: the log and the events of real trees, orders through the
// socket, signals, bad input, and children, clients and disks that misbehave.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>
#include <thread>

#include "harness/cli/program_test_util.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/unique_fd.h"

namespace crashworthy::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kSlower = 10;
#else
constexpr int kSlower = 1;
#endif

std::string text_of(const fs::path& file) {
  auto text = read_file(file);
  return text ? *text : std::string();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool eventually(const std::function<bool()>& holds, std::chrono::seconds bound = 10s) {
  const auto end = std::chrono::steady_clock::now() + bound * kSlower;
  while (std::chrono::steady_clock::now() < end) {
    if (holds()) return true;
    std::this_thread::sleep_for(10ms);
  }
  return holds();
}

json worker(const std::string& id, std::vector<std::string> command, json more = json::object()) {
  json child{{"id", id}, {"command", std::move(command)}};
  child.update(more);
  return child;
}
json shell(const std::string& id, const std::string& script, json more = json::object()) {
  return worker(id, {"sh", "-c", script}, std::move(more));
}
json sleeper(const std::string& id, json more = json::object()) {
  return worker(id, {"sleep", "inf"}, std::move(more));
}
json tree_of(json children, json more = json::object()) {
  json tree{{"children", std::move(children)}};
  tree.update(more);
  return tree;
}

class Supervise : public ::testing::Test {
 protected:
  // supervise runs in one directory and ctl in another: each leaves its output there.
  Supervise() {
    fs::create_directories(run());
    fs::create_directories(directory_.path() / "ctl");
  }
  ~Supervise() override {
    if (pid_ != 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    EXPECT_TRUE(nothing_is_left());
  }

  fs::path run() const { return directory_.path() / "run"; }
  fs::path socket() const { return run() / "s"; }
  std::string err() const { return text_of(run() / "err"); }
  std::string out() const { return text_of(run() / "out"); }

  void write_tree(const json& tree) { std::ofstream(run() / "tree.json") << tree.dump(1); }
  std::vector<std::string> words(std::vector<std::string> more) {
    std::vector<std::string> all{crashworthy_program(), "supervise", "tree.json"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  // Runs a tree that ends by itself.
  Finished supervise(const json& tree, std::vector<std::string> more = {}) {
    write_tree(tree);
    return run_program(words(std::move(more)), run(), 60);
  }
  // Starts one with a socket, and waits until its root runs.
  void start(const json& tree, std::vector<std::string> more = {}) {
    write_tree(tree);
    more.insert(more.end(), {"--socket", "s"});
    fs::remove(run() / "err");  // Of an earlier one.
    pid_ = start_program(words(std::move(more)), run());
    ASSERT_TRUE(eventually([&] {
      return err().find("]\tpid:00000\trunning") != std::string::npos ||
             status()["state"] == "running";
    })) << err();
  }
  // How it ended, after `signal`, if that is not 0.
  int end(int signal) {
    if (signal != 0) ::kill(pid_, signal);
    auto pidfd = open_pidfd(pid_);
    const bool ended = pidfd && wait_for_end(pidfd->get(), 20'000 * kSlower);
    EXPECT_TRUE(ended) << "supervise does not end";
    if (!ended) ::kill(pid_, SIGKILL);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // The same, after a first signal: one that comes within 100 ms of it counts as the same request.
  int end_again(int signal) {
    std::this_thread::sleep_for(150ms);
    return end(signal);
  }

  Finished ctl(std::vector<std::string> more) {
    more.insert(more.begin(), {crashworthy_program(), "ctl", "../run/s"});
    return run_program(more, directory_.path() / "ctl", 60);
  }
  // The tree, as ctl tells it; an empty object when it does not answer.
  json status() {
    const Finished told = ctl({"tree", "--json"});
    const json answer = json::parse(told.out, nullptr, false);
    return answer.is_object() ? answer.value("tree", json::object()) : json::object();
  }
  json child(const std::string& path) {
    const Finished told = ctl({"status", "--json", path});
    const json answer = json::parse(told.out, nullptr, false);
    return answer.is_object() ? answer.value("child", json::object()) : json::object();
  }
  pid_t pid_of_child(const std::string& path) { return child(path).value("pid", 0); }

  bool nothing_is_left() {
    return eventually([&] { return processes_naming(directory_.path().string()).empty(); });
  }

  TemporaryDirectory directory_;
  pid_t pid_ = 0;
};

// A connection of our own, for what ctl would never send.
class Connection {
 public:
  explicit Connection(const fs::path& socket) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket.native().copy(address.sun_path, sizeof address.sun_path - 1);
    const timeval patience{5 * kSlower, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
    connected_ = ::connect(fd_.get(), generic, sizeof address) == 0;
  }
  bool connected() const { return connected_; }
  void send(const std::string& text) {
    for (std::size_t sent = 0; sent < text.size();) {
      const ssize_t count = ::send(fd_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;  // The other side has had enough.
      sent += static_cast<std::size_t>(count);
    }
  }
  void end_of_requests() { ::shutdown(fd_.get(), SHUT_WR); }
  // One line; empty at the end, and when nothing comes.
  std::string line() {
    std::string text;
    for (char c = 0; ::recv(fd_.get(), &c, 1, 0) == 1 && c != '\n';) text += c;
    return text;
  }
  json ask(const std::string& text) {
    send(text + "\n");
    return json::parse(line(), nullptr, false);
  }

 private:
  UniqueFd fd_;
  bool connected_ = false;
};

// --- The lifecycle, its log and its events ------------------------------------------------------

TEST_F(Supervise, TheDemonstrationTreeRunsAndEndsByItself) {
  const std::string file = std::string(CRASHWORTHY_SOURCE_DIR) + "/benchmarks/trees/demo.json";
  const Finished checked =
      run_program({crashworthy_program(), "supervise", "--check", file}, run());
  EXPECT_EQ(checked.exit_code, 0);
  EXPECT_EQ(checked.out, "ok\n");
  const Finished demo = run_program({crashworthy_program(), "supervise", file}, run());
  EXPECT_EQ(demo.exit_code, 0) << demo.err;
  EXPECT_EQ(demo.out, "the job is done\n") << "stdout is the children's";
  const std::regex line(R"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}\t\[[^\]\t]+\]\tpid:\d{5,}\t)"
                        "(initial|ready|running|completed|disabled|intermitted|terminated)");
  for (const std::string& text : lines_of(demo.err))
    EXPECT_TRUE(std::regex_match(text, line)) << text;
  EXPECT_THAT(demo.err, HasSubstr("[workers/crashing]"));
  EXPECT_THAT(demo.err, HasSubstr("\tdisabled\n")) << "a back-off";
  EXPECT_THAT(lines_of(demo.err).back(), HasSubstr("[demo]"));
}

// What the log says of each part, without times and pids.
std::vector<std::string> states_in(const std::string& log) {
  std::vector<std::string> states;
  for (const std::string& line : lines_of(log)) {
    const std::size_t name = line.find("\t[") + 1;
    if (name == 0) continue;  // A child's, or an error.
    states.push_back(line.substr(name, line.find(']') + 1 - name) +
                     line.substr(line.rfind('\t') + 1));
  }
  return states;
}

TEST_F(Supervise, TheLogHasEveryStateInOrder) {
  const Finished finished = supervise(
      tree_of({sleeper("a"),
               {{"id", "s"}, {"children", {sleeper("w")}}},
               shell("job", "sleep 0.1", {{"restart", "transient"}, {"significant", true}})},
              {{"auto_shutdown", "any_significant"}}));
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_THAT(states_in(finished.err),
              ElementsAre("[root]initial", "[a]initial", "[a]ready", "[a]running", "[s]initial",
                          "[s/w]initial", "[s/w]ready", "[s]ready", "[s/w]running", "[s]running",
                          "[job]initial", "[job]ready", "[root]ready", "[job]running",
                          "[root]running", "[job]completed", "[s/w]completed", "[s]completed",
                          "[a]completed", "[root]completed"));
}

TEST_F(Supervise, TheLogMayGoToAFileOrNowhere) {
  const json tree =
      tree_of({shell("job", "sleep 0.1", {{"restart", "temporary"}, {"significant", true}})},
              {{"auto_shutdown", "all_significant"}, {"id", "named"}});
  Finished finished = supervise(tree, {"--log", "log"});
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.err, "");
  EXPECT_EQ(states_in(text_of(run() / "log")).front(), "[named]initial");
  finished = supervise(tree, {"--quiet"});
  EXPECT_EQ(finished.exit_code, 0);
  EXPECT_EQ(finished.err, "");
}

void collect_states(const json& supervisor, std::map<std::string, std::string>& states) {
  states[supervisor["path"]] = supervisor["state"];
  for (const json& child : supervisor["children"]) {
    states[child["path"]] = child["state"];
    if (child.contains("supervisor")) collect_states(child["supervisor"], states);
  }
}

TEST_F(Supervise, TheEventsTellTheSameAsTheTree) {
  start(tree_of({sleeper("a"),
                 sleeper("b"),
                 sleeper("killed"),
                 shell("flap", "exit 3", {{"backoff", {{"first", "50ms"}, {"max", "60s"}}}}),
                 {{"id", "s"}, {"children", {sleeper("w"), sleeper("v")}}}},
                {{"intensity", 100}}),
        {"--events", "events"});
  ASSERT_TRUE(eventually([&] { return child("flap").value("crash_loop", false); }));
  EXPECT_EQ(ctl({"stop", "flap"}).exit_code, 0);
  EXPECT_EQ(ctl({"stop", "b"}).exit_code, 0);
  EXPECT_EQ(ctl({"suspend", "s"}).exit_code, 0);
  const pid_t victim = pid_of_child("killed");
  ASSERT_GT(victim, 0);
  ::kill(victim, SIGKILL);
  ASSERT_TRUE(eventually([&] {
    const json now = child("killed");
    return now["incarnation"] == 2 && now["state"] == "running";
  }));
  std::map<std::string, std::string> told;
  collect_states(status(), told);
  EXPECT_EQ(told["b"], "completed");
  EXPECT_EQ(told["s/w"], "intermitted");
  std::map<std::string, std::string> replayed;
  std::uint64_t number = 0;
  bool crash_loop = false;
  bool killed = false;
  for (const std::string& line : lines_of(text_of(run() / "events"))) {
    const json event = json::parse(line, nullptr, false);
    ASSERT_TRUE(event.is_object()) << line;
    EXPECT_EQ(event["number"], ++number) << "none is missing";
    EXPECT_LT(event["cause"].get<std::uint64_t>(), number) << "a cause comes before its effect";
    if (event["event"] == "state") replayed[event["path"]] = event["state"];
    crash_loop = crash_loop || event["event"] == "crash_loop";
    killed = killed ||
             (event["event"] == "ended" && event["pid"] == victim && event["signal"] == SIGKILL);
  }
  EXPECT_EQ(replayed, told);
  EXPECT_TRUE(crash_loop);
  EXPECT_TRUE(killed);
  EXPECT_EQ(end(SIGTERM), 0);
}

// --- How it ends --------------------------------------------------------------------------------

TEST_F(Supervise, EachOfFourSignalsEndsEverythingInOrder) {
  for (const int signal : {SIGTERM, SIGINT, SIGQUIT, SIGHUP}) {
    start(tree_of({sleeper("first"), sleeper("second")}));
    EXPECT_EQ(end(signal), 0) << signal;
    const auto states = states_in(err());
    EXPECT_THAT(std::vector<std::string>(states.end() - 3, states.end()),
                ElementsAre("[second]completed", "[first]completed", "[root]completed"));
    EXPECT_FALSE(fs::exists(socket()));
    EXPECT_TRUE(nothing_is_left());
  }
}

TEST_F(Supervise, ASecondSignalKills) {
  start(tree_of({shell("stubborn", "trap '' TERM; echo set >&2; while :; do sleep 1; done",
                       {{"stop", "infinite"}})}));
  ASSERT_TRUE(eventually([&] { return err().find("set\n") != std::string::npos; }));
  ::kill(pid_, SIGTERM);
  EXPECT_TRUE(eventually([&] { return child("stubborn")["presence"] == "stopping"; }))
      << "ctl answers while the tree ends";
  EXPECT_EQ(end_again(SIGINT), 0);
  EXPECT_THAT(states_in(err()), ::testing::Contains("[stubborn]terminated"));
}

// timeout(1) signals its child and then its process group, which is the child once more.
TEST_F(Supervise, SignalsThatComeTogetherAreOneRequest) {
  start(tree_of({sleeper("a")}));
  ::kill(pid_, SIGTERM);
  EXPECT_EQ(end(SIGINT), 0);
  EXPECT_THAT(states_in(err()), ::testing::Contains("[a]completed"));
}

TEST_F(Supervise, AnIgnoredHangUpStaysIgnored) {
  write_tree(tree_of({sleeper("a")}));
  pid_ = start_program({"/usr/bin/env", "--ignore-signal=HUP", crashworthy_program(), "supervise",
                        "tree.json", "--socket", "s"},
                       run());
  ASSERT_TRUE(eventually([&] { return status()["state"] == "running"; }));
  ::kill(pid_, SIGHUP);
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(status()["state"], "running") << "started with nohup, say";
  EXPECT_EQ(end(SIGTERM), 0);
}

TEST_F(Supervise, SigkillLeavesNothing) {
  start(tree_of({sleeper("a"),
                 shell("daemon", "setsid sleep inf & setsid sleep inf & exec sleep inf"),
                 shell("deaf", "trap '' TERM HUP INT; while :; do sleep 1; done"),
                 {{"id", "s"}, {"children", {sleeper("w")}}}}));
  EXPECT_GE(descendants_of(pid_).size(), 6u);
  EXPECT_EQ(end(SIGKILL), -SIGKILL);
  EXPECT_TRUE(nothing_is_left());
  EXPECT_TRUE(fs::exists(socket())) << "it had no time to remove it";
}

TEST_F(Supervise, GivingUpIsOneLineAndExitCodeOne) {
  const Finished finished =
      supervise(tree_of({sleeper("a"), shell("flap", "sleep 0.05; exit 3")}, {{"intensity", 2}}),
                {"--quiet"});
  EXPECT_EQ(finished.exit_code, 1);
  ASSERT_EQ(lines_of(finished.err).size(), 1u) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("crashworthy: error: the tree 'root' gave up: "));
  EXPECT_THAT(finished.err, HasSubstr("flap"));
}

TEST_F(Supervise, AFirstStartThatFailsIsRolledBack) {
  const Finished finished =
      supervise(tree_of({sleeper("a"), shell("dud", "exit 7", {{"ready", json::object()}})}));
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_THAT(lines_of(finished.err).back(),
              HasSubstr("crashworthy: error: the tree 'root' could not be started: "));
  EXPECT_THAT(lines_of(finished.err).back(), HasSubstr("dud"));
  EXPECT_THAT(states_in(finished.err), ::testing::Contains("[a]completed"));
  EXPECT_TRUE(nothing_is_left());
}

TEST_F(Supervise, BadCallsGetOneClearErrorAndStartNothing) {
  write_tree(tree_of({sleeper("a")}));
  std::ofstream(run() / "broken.json") << "{";
  std::ofstream(run() / "bad.json")
      << tree_of({shell("a", "touch started"), worker("b", {"no-such-program"})});
  std::ofstream(run() / "field.json") << R"({"children": [], "intensty": 3})";
  struct {
    std::vector<std::string> words;
    const char* says;
  } const calls[] = {
      {{}, "tree"},
      {{"nowhere.json"}, "No such file"},
      {{"broken.json"}, "broken.json: not JSON"},
      {{"field.json"}, "did you mean 'intensity'?"},
      {{"bad.json"}, "bad.json: /children/1/command: unable to start 'no-such-program'"},
      {{"--check", "bad.json"}, "no such program in PATH"},
      {{"tree.json", "--socket", "tree.json"}, "is there already, and is no socket"},
      {{"tree.json", "--socket", std::string(200, 'x')}, "1 to 107 bytes"},
      {{"tree.json", "--socket", "nowhere/s"}, "No such file or directory"},
      {{"tree.json", "--events", "nowhere/e"}, "No such file or directory"},
      {{"tree.json", "--log", "."}, "Is a directory"},
      {{"tree.json", "--seed", "x"}, "--seed"}};
  for (const auto& call : calls) {
    std::vector<std::string> all{crashworthy_program(), "supervise"};
    all.insert(all.end(), call.words.begin(), call.words.end());
    const Finished finished = run_program(all, run());
    EXPECT_EQ(finished.exit_code, 64) << json(call.words).dump() << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(call.says));
    EXPECT_THAT(finished.err, HasSubstr("crashworthy: error: "));
    EXPECT_EQ(finished.out, "");
  }
  EXPECT_FALSE(fs::exists(run() / "started"));
}

// --- ctl ----------------------------------------------------------------------------------------

TEST_F(Supervise, CtlDoesWhatItIsTold) {
  start(tree_of({sleeper("store"),
                 {{"id", "inner"}, {"children", {sleeper("worker"), sleeper("a")}}},
                 sleeper("a"),
                 sleeper("fleeting", {{"restart", "temporary"}})},
                {{"id", "shop"}}));
  const pid_t first = pid_of_child("store");
  Finished told = ctl({"stop", "store"});
  EXPECT_EQ(told.exit_code, 0) << told.err;
  EXPECT_THAT(told.out, HasSubstr("stopped store: completed"));
  EXPECT_EQ(::kill(first, 0), -1) << "it answers when it is done";
  EXPECT_EQ(ctl({"stop", "store"}).exit_code, 0) << "as with OTP, twice is no error";
  EXPECT_EQ(ctl({"restart", "store"}).exit_code, 0) << "a stopped one is started";
  const pid_t second = pid_of_child("store");
  EXPECT_EQ(ctl({"restart", "store"}).exit_code, 0) << "one that runs is stopped first";
  const pid_t third = pid_of_child("store");
  EXPECT_GT(second, 0);
  EXPECT_GT(third, 0);
  EXPECT_NE(second, third);
  EXPECT_EQ(child("store")["incarnation"], 3);
  EXPECT_EQ(ctl({"suspend", "worker"}).exit_code, 0) << "a bare id that is unique";
  EXPECT_EQ(child("inner/worker")["state"], "intermitted");
  EXPECT_EQ(ctl({"resume", "inner/worker"}).exit_code, 0);
  EXPECT_EQ(child("inner/worker")["state"], "running");
  EXPECT_EQ(ctl({"suspend", "shop"}).exit_code, 0) << "the whole tree, by its name";
  EXPECT_EQ(status()["state"], "intermitted");
  EXPECT_EQ(ctl({"resume", "/"}).exit_code, 0);
  EXPECT_EQ(status()["state"], "running");
  EXPECT_EQ(ctl({"restart", "inner"}).exit_code, 0) << "a supervisor is a child too";
  EXPECT_EQ(child("inner")["incarnation"], 2);
  EXPECT_EQ(ctl({"status", "a"}).exit_code, 0) << "a path wins over an id deeper down";
  told = ctl({"stop", "fleeting"});
  EXPECT_EQ(told.exit_code, 0);
  EXPECT_THAT(told.out, HasSubstr("forgotten"));
  told = ctl({"status"});
  EXPECT_THAT(told.out, HasSubstr("shop: running, 3 of 3 running, 1 of 1 restarts left in 5s\n"));
  EXPECT_THAT(told.out, HasSubstr("inner: running, 2 of 2 running"));
  EXPECT_EQ(end(SIGTERM), 0);
}

TEST_F(Supervise, CtlShowsTheTree) {
  start(tree_of({shell("flap", "exit 3", {{"backoff", {{"first", "30s"}, {"max", "30s"}}}}),
                 {{"id", "inner"}, {"children", {sleeper("w")}}},
                 sleeper("last")},
                {{"intensity", 5}}));
  ASSERT_TRUE(eventually([&] { return child("flap")["presence"] == "restarting"; }));
  const std::string tree =
      run_program({"/usr/bin/env", "LC_ALL=C", crashworthy_program(), "ctl", "../run/s", "tree"},
                  directory_.path() / "ctl")
          .out;
  const auto lines = lines_of(tree);
  ASSERT_EQ(lines.size(), 6u) << tree;
  EXPECT_THAT(lines[0], ::testing::MatchesRegex("ID +STATE +PID +UPTIME +RESTARTS +LAST END"));
  EXPECT_THAT(lines[1], ::testing::MatchesRegex("root +[a-z]+ +[0-9]+ +[0-9.]+ m?s +4/5 left +-"));
  EXPECT_THAT(lines[2], ::testing::MatchesRegex("\\|- flap +disabled +- +- +#2 +exited with 3 +"
                                                "next try in [0-9.]+ s"));
  EXPECT_THAT(lines[3], ::testing::MatchesRegex("\\|- inner +running +- .*#1, 1/1 left +-"));
  EXPECT_THAT(lines[4], ::testing::MatchesRegex("\\|  `- w +running +[0-9]+ .*#1 +-"));
  EXPECT_THAT(lines[5], ::testing::MatchesRegex("`- last +running +[0-9]+ .*"));
  EXPECT_THAT(tree, Not(HasSubstr("\033"))) << "colour is for terminals";
  const Finished boxes = run_program(
      {"/usr/bin/env", "LC_ALL=C.UTF-8", crashworthy_program(), "ctl", "../run/s", "tree"},
      directory_.path() / "ctl");
  EXPECT_THAT(boxes.out, HasSubstr("├─ flap"));
  EXPECT_THAT(boxes.out, HasSubstr("│  └─ w"));
  EXPECT_EQ(end(SIGTERM), 0);
}

TEST_F(Supervise, CtlSaysWhyNot) {
  start(tree_of({sleeper("store"),
                 {{"id", "x"}, {"children", {sleeper("twin")}}},
                 {{"id", "y"}, {"children", {sleeper("twin")}}},
                 {{"id", "crowd"}, {"strategy", "dynamic"}, {"children", {sleeper("one")}}},
                 sleeper("fleeting", {{"restart", "temporary"}})}));
  struct {
    std::vector<std::string> words;
    int exit_code;
    const char* says;
  } const calls[] = {{{"stop", "nobody"}, 1, "there is no child \"nobody\" (not_found)"},
                     {{"stop", "stor"}, 1, "did you mean 'store'?"},
                     {{"stop", "twin"}, 1, "name one by its path: x/twin, y/twin"},
                     {{"status", "twin"}, 1, "(ambiguous)"},
                     {{"status", "x/store"}, 1, "(not_found)"},
                     {{"stop", "root"}, 1, "send SIGTERM to pid"},
                     {{"restart", "fleeting"}, 1, "is temporary"},
                     {{"stop", "crowd/one"}, 1, "not_found"},
                     {{"resume", "nobody"}, 1, "not_found"},
                     {{"sto", "store"}, 64, "did you mean 'stop'?"},
                     {{"stop"}, 64, "needs the id"},
                     {{"tree", "store"}, 64, "takes no id"},
                     {{"tree", "--timeout", "5"}, 64, "not a duration"},
                     {{"tree", "--timeout", "-1s"}, 64, "negative"},
                     {{}, 64, "command"}};
  for (const auto& call : calls) {
    const Finished told = ctl(call.words);
    const std::string all = json(call.words).dump();
    EXPECT_EQ(told.exit_code, call.exit_code) << all << told.out << told.err;
    EXPECT_THAT(told.err, HasSubstr(call.says)) << all;
    EXPECT_THAT(told.err, HasSubstr("crashworthy: error: ")) << all;
    EXPECT_EQ(told.out, "") << all;
  }
  EXPECT_EQ(child("fleeting")["state"], "running") << "a refused restart stops nothing";
  const Finished refused = ctl({"stop", "nobody", "--json"});
  EXPECT_EQ(json::parse(refused.out)["reason"], "not_found");
  EXPECT_EQ(end(SIGTERM), 0);
  const Finished gone = ctl({"tree"});
  EXPECT_EQ(gone.exit_code, 5);
  EXPECT_THAT(gone.err, HasSubstr("crashworthy supervise TREE.json --socket"));
}

// Below a suspended supervisor an order would wait, as nobody who asks for it expects.
TEST_F(Supervise, CtlRefusesOrdersBelowWhatIsSuspended) {
  start(tree_of({{{"id", "in"}, {"children", {sleeper("x")}}}, sleeper("beside")}));
  ASSERT_EQ(ctl({"suspend", "in"}).exit_code, 0);
  for (const char* order : {"stop", "restart"}) {
    const Finished refused = ctl({order, "in/x"});
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_THAT(refused.err, HasSubstr("(suspended)"));
    EXPECT_THAT(refused.err, HasSubstr("resume in"));
  }
  EXPECT_EQ(ctl({"restart", "beside"}).exit_code, 0) << "others are not concerned";
  ASSERT_EQ(ctl({"resume", "in"}).exit_code, 0);
  EXPECT_EQ(ctl({"restart", "in/x"}).exit_code, 0);
  EXPECT_EQ(child("in/x")["incarnation"], 2);
  EXPECT_EQ(end(SIGTERM), 0);
}

TEST_F(Supervise, CtlDoesNotWaitForEver) {
  start(tree_of({shell("deaf", "trap '' TERM; echo set >&2; while :; do sleep 1; done",
                       {{"stop", "infinite"}})}));
  ASSERT_TRUE(eventually([&] { return err().find("set\n") != std::string::npos; }));
  const Finished told = ctl({"stop", "deaf", "--timeout", "200ms"});
  EXPECT_EQ(told.exit_code, 5);
  EXPECT_THAT(told.err, HasSubstr("may still be carried out"));
  EXPECT_EQ(child("deaf")["presence"], "stopping") << "others are served meanwhile";
  ::kill(pid_, SIGTERM);
  EXPECT_EQ(end_again(SIGINT), 0);
}

// --- The socket ---------------------------------------------------------------------------------

TEST_F(Supervise, TheSocketIsItsOwnersAlone) {
  const mode_t mask = ::umask(0);
  start(tree_of({sleeper("a")}));
  ::umask(mask);
  struct stat info {};
  ASSERT_EQ(::lstat(socket().c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(end(SIGTERM), 0);
  EXPECT_FALSE(fs::exists(socket()));
}

TEST_F(Supervise, ADeadSocketIsReplacedAndALiveOneIsNot) {
  start(tree_of({sleeper("a")}));
  EXPECT_EQ(end(SIGKILL), -SIGKILL);
  ASSERT_TRUE(fs::exists(socket()));
  const Finished dead = ctl({"tree"});
  EXPECT_EQ(dead.exit_code, 5);
  EXPECT_THAT(dead.err, HasSubstr("its tree has ended"));
  start(tree_of({sleeper("a")}));
  EXPECT_EQ(status()["state"], "running");
  const Finished second =
      run_program({crashworthy_program(), "supervise", "../run/tree.json", "--socket", "../run/s"},
                  directory_.path() / "ctl");
  EXPECT_EQ(second.exit_code, 64);
  EXPECT_THAT(second.err, HasSubstr("somebody listens"));
  EXPECT_EQ(status()["state"], "running") << "the first goes on";
  EXPECT_EQ(end(SIGTERM), 0);
}

TEST_F(Supervise, OnlyItsOwnSocketIsRemoved) {
  start(tree_of({sleeper("a")}));
  fs::remove(socket());
  std::ofstream(socket()) << "somebody else's";
  EXPECT_EQ(end(SIGTERM), 0);
  EXPECT_EQ(text_of(socket()), "somebody else's");
}

TEST_F(Supervise, RequestsThatAreNoneGetAnAnswer) {
  start(tree_of({sleeper("a")}));
  for (const auto& [request, says] : std::vector<std::pair<std::string, std::string>>{
           {"hello", "parse error"},
           {"{}", "unknown command"},
           {"[]", "must be an object"},
           {"null", "must be an object"},
           {R"({"command": "tre"})", "did you mean 'tree'?"},
           {R"({"command": 7})", "must be a string"},
           {R"({"command": "stop", "id": ["a"]})", "must be a string"},
           {R"({"command": "stop", "id": "a", "force": true})", "unknown field"},
           {R"({"command": "stop", "id": "a\u0000b"})", "there is no child"},
           {std::string(4000, '[') + std::string(4000, ']'), "nested deeper"},
           {"\xff\xfe", "parse error"}}) {
    Connection connection(socket());
    ASSERT_TRUE(connection.connected());
    const json answer = connection.ask(request);
    ASSERT_TRUE(answer.is_object()) << request;
    EXPECT_EQ(answer["ok"], false);
    EXPECT_THAT(answer["error"].get<std::string>() + answer.value("hint", ""), HasSubstr(says));
    EXPECT_EQ(connection.ask(R"({"command": "status", "id": "a"})")["child"]["state"], "running")
        << "the connection goes on";
  }
  Connection several(socket());
  several.send("\n\n{\"command\": \"status\"}\n{\"command\": \"status\", \"id\": \"a\"}");
  several.end_of_requests();
  EXPECT_EQ(json::parse(several.line())["tree"]["name"], "root");
  EXPECT_EQ(json::parse(several.line())["child"]["id"], "a") << "also without a line end";
  EXPECT_EQ(several.line(), "");
  EXPECT_EQ(end(SIGTERM), 0);
}

TEST_F(Supervise, ARequestWithoutEndIsRefused) {
  start(tree_of({sleeper("a")}));
  Connection connection(socket());
  connection.send(std::string(1 << 20, 'x'));
  EXPECT_THAT(connection.line(), HasSubstr("at most 16384 bytes"));
  EXPECT_EQ(connection.line(), "") << "and closed";
  EXPECT_EQ(end(SIGTERM), 0);
}

TEST_F(Supervise, FortyClientsThatSayNothingKeepNobodyOut) {
  start(tree_of({sleeper("a")}));
  std::vector<std::unique_ptr<Connection>> idle;
  for (int i = 0; i < 40; ++i) {
    idle.push_back(std::make_unique<Connection>(socket()));
    ASSERT_TRUE(idle.back()->connected());
    idle.back()->send(i % 2 == 0 ? "{\"comm" : "");
  }
  const std::int64_t begin = now_ns();
  EXPECT_EQ(ctl({"tree"}).exit_code, 0);
  EXPECT_LT(now_ns() - begin, kSlower * 2'000'000'000LL);
  EXPECT_LE(descendants_of(pid_).size(), 3u);
  idle.clear();
  // Forty at once who do ask are all answered.
  std::vector<std::unique_ptr<Connection>> clients;
  for (int i = 0; i < 40; ++i) {
    clients.push_back(std::make_unique<Connection>(socket()));
    clients.back()->send("{\"command\": \"tree\"}\n");
  }
  int answered = 0;
  for (const auto& client : clients) answered += client->line().starts_with("{\"ok\":true") ? 1 : 0;
  EXPECT_EQ(answered, 40);
  EXPECT_EQ(end(SIGTERM), 0);
}

TEST_F(Supervise, AClientThatReadsNothingBlocksNobody) {
  json children = json::array();
  for (int i = 0; i < 60; ++i)
    children.push_back(
        {{"id", std::string(150, 'x') + std::to_string(i)}, {"children", json::array()}});
  children.push_back(sleeper("a"));
  start(tree_of(children));
  Connection deaf(socket());
  std::string requests;
  for (int i = 0; i < 400; ++i) requests += "{\"command\": \"tree\"}\n";
  deaf.send(requests);
  const std::int64_t begin = now_ns();
  EXPECT_EQ(ctl({"status", "a"}).exit_code, 0);
  EXPECT_LT(now_ns() - begin, kSlower * 1'000'000'000LL);
  EXPECT_EQ(end(SIGTERM), 0);
}

// --- Children and surroundings that misbehave ----------------------------------------------------

TEST_F(Supervise, CtlAnswersWhateverChildrenDo) {
  const json often{{"backoff", {{"first", "20ms"}, {"max", "50ms"}}}};
  json dies = often;
  dies["ready"] = json::object();
  start(tree_of(
      {shell("flood", "head -c 20000000 /dev/zero | tr '\\0' 'x'; exec sleep inf"),
       shell("deaf", "trap '' TERM HUP INT; while :; do sleep 1; done", {{"stop", "300ms"}}),
       shell("daemon", "setsid sleep inf & exec sleep inf"),
       shell("born-dead", "test -e a && exit 1; touch a; echo >&3; exec sleep 0.1", dies),
       shell("silent",
             "test -e b && exec 3>&-; touch b; echo >&3 || exec sleep inf; exec sleep 0.1", dies),
       shell("chatty", "while :; do echo >&4; done", {{"heartbeat", {{"interval", "1s"}}}})},
      {{"intensity", 1'000'000}}));
  for (int i = 0; i < 10; ++i) {
    const std::int64_t begin = now_ns();
    const Finished told = ctl({"tree"});
    EXPECT_EQ(told.exit_code, 0) << told.err;
    EXPECT_LT(now_ns() - begin, kSlower * 1'000'000'000LL);
    std::this_thread::sleep_for(100ms);
  }
  EXPECT_GT(child("born-dead").value("incarnation", 0), 2);
  EXPECT_GT(child("silent").value("incarnation", 0), 2);
  EXPECT_EQ(ctl({"restart", "deaf"}).exit_code, 0);
  EXPECT_EQ(ctl({"stop", "daemon"}).exit_code, 0);
  EXPECT_EQ(end(SIGTERM), 0);
  EXPECT_TRUE(nothing_is_left());
}

// The guard is a child of supervise, which also reaps strangers: neither takes the other's.
TEST_F(Supervise, AChildWhoseGuardIsKilledIsRestarted) {
  start(tree_of({sleeper("a"), sleeper("b")}, {{"intensity", 100}}));
  const std::string list =
      "/proc/" + std::to_string(pid_) + "/task/" + std::to_string(pid_) + "/children";
  for (std::uint32_t round = 2; round <= 6; ++round) {
    std::istringstream pids(text_of(list));
    pid_t guard = 0;
    pids >> guard;
    ASSERT_GT(guard, 0);
    const std::uint32_t before = child("a")["incarnation"].get<std::uint32_t>() +
                                 child("b")["incarnation"].get<std::uint32_t>();
    ::kill(guard, SIGKILL);
    EXPECT_TRUE(eventually([&] {
      return child("a").value("incarnation", 0u) + child("b").value("incarnation", 0u) ==
                 before + 1 &&
             child("a")["state"] == "running" && child("b")["state"] == "running";
    }));
  }
  EXPECT_TRUE(eventually([&] {
    std::istringstream pids(text_of(list));
    int count = 0;
    for (pid_t pid = 0; pids >> pid;) ++count;
    return count == 2;
  })) << "no zombies: "
      << text_of(list);
  EXPECT_EQ(end(SIGTERM), 0);
}

// supervise itself is stopped for longer than its child may be silent: nobody but us was late.
// Both guards at once, killed by the child itself: what it leaves becomes our child, and is killed.
TEST_F(Supervise, WhatIsLeftOfAChildWhoseGuardsAreKilledIsKilled) {
  start(tree_of(
      {sleeper("beside"), shell("a",
                                "sleep 1000 & echo $! > left; g=$(cut -d' ' -f5 /proc/$PPID/stat); "
                                "sleep 0.3; kill -9 -$g; sleep 1000",
                                {{"restart", "temporary"}})}));
  const fs::path left = run() / "left";
  ASSERT_TRUE(eventually([&] { return fs::exists(left) && !text_of(left).empty(); }));
  const std::string pid = std::to_string(std::stoi(text_of(left)));
  EXPECT_TRUE(eventually([&] { return !fs::exists("/proc/" + pid); })) << pid;
  EXPECT_EQ(child("beside")["state"], "running");
  EXPECT_EQ(end(SIGTERM), 0);
}

TEST_F(Supervise, AChildIsNotBlamedForOurOwnPause) {
  start(tree_of({shell("beating", "while sleep 0.02; do echo >&4; done",
                       {{"heartbeat", {{"interval", "250ms"}, {"misses", 2}}},
                        {"ready", {{"heartbeat", true}}}})}),
        {"--events", "events"});
  for (int i = 0; i < 3; ++i) {
    ::kill(pid_, SIGSTOP);
    std::this_thread::sleep_for(700ms);
    ::kill(pid_, SIGCONT);
    EXPECT_EQ(child("beating")["incarnation"], 1);
  }
  EXPECT_EQ(end(SIGTERM), 0);
  EXPECT_THAT(text_of(run() / "events"), Not(HasSubstr("hang")));
}

TEST_F(Supervise, ClosedStandardDescriptorsBecomeNoFilesOfOurs) {
  write_tree(tree_of({shell("job", "echo to stdout; echo to stderr >&2; ls /proc/self/fd > fds",
                            {{"restart", "temporary"}, {"significant", true}})},
                     {{"auto_shutdown", "any_significant"}}));
  const Finished finished = run_program(
      {"/bin/sh", "-c",
       "exec " + crashworthy_program() + " supervise tree.json --events events <&- >&- 2>&-"},
      run());
  EXPECT_EQ(finished.exit_code, 0);
  for (const std::string& line : lines_of(text_of(run() / "events")))
    EXPECT_TRUE(json::parse(line, nullptr, false).is_object()) << line;
  EXPECT_EQ(text_of(run() / "fds"), "0\n1\n2\n3\n") << "3 is that of ls";
}

TEST_F(Supervise, AFullDiskIsToldOnceAndTheTreeGoesOn) {
  start(tree_of({sleeper("a")}), {"--events", "/dev/full", "--log", "/dev/full"});
  EXPECT_EQ(ctl({"restart", "a"}).exit_code, 0);
  EXPECT_EQ(ctl({"restart", "a"}).exit_code, 0);
  EXPECT_EQ(end(SIGTERM), 0);
  const std::string told = err();
  std::size_t times = 0;
  for (std::size_t at = 0; (at = told.find("No space left on device", at)) != std::string::npos;
       ++at)
    ++times;
  EXPECT_EQ(times, 2u) << "once for each file\n" << told;
  EXPECT_THAT(told, HasSubstr("some of its lines are missing"));
}

// User and system time of a process so far.
std::chrono::milliseconds processor_time(pid_t pid) {
  const std::string stat = text_of("/proc/" + std::to_string(pid) + "/stat");
  std::istringstream fields(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));
  std::string skipped;
  for (int field = 3; field <= 13; ++field) fields >> skipped;
  long user = 0;
  long system = 0;
  fields >> user >> system;
  return std::chrono::milliseconds((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
}

// A full disk is always writable for poll(2).
TEST_F(Supervise, AFullDiskCostsNoTime) {
  start(tree_of({sleeper("a")}), {"--events", "/dev/full"});
  EXPECT_EQ(ctl({"restart", "a"}).exit_code, 0);
  const auto before = processor_time(pid_);
  std::this_thread::sleep_for(1500ms);
  EXPECT_LT(processor_time(pid_) - before, 100ms * kSlower);
  EXPECT_EQ(end(SIGTERM), 0);
}

// Nor is it news to poll(2) that a terminal is gone.
TEST_F(Supervise, ATerminalThatIsGoneCostsNoTime) {
  UniqueFd terminal(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!terminal.valid() || ::grantpt(terminal.get()) != 0 || ::unlockpt(terminal.get()) != 0)
    GTEST_SKIP() << "no pseudo-terminals here";
  start(tree_of({sleeper("a")}), {"--log", ::ptsname(terminal.get())});
  terminal.reset();
  EXPECT_EQ(ctl({"restart", "a"}).exit_code, 0);
  const auto before = processor_time(pid_);
  std::this_thread::sleep_for(1s);
  EXPECT_LT(processor_time(pid_) - before, 100ms * kSlower);
  EXPECT_EQ(end(SIGTERM), 0);
  EXPECT_THAT(err(), HasSubstr("Input/output error\n  the tree goes on; these lines are lost"));
}

// Whose stderr the test holds.
class SuperviseInto : public Supervise {
 protected:
  void start_into(const json& tree, UniqueFd writer) {
    write_tree(tree);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(writer.get(), STDERR_FILENO);
      if (::chdir(run().c_str()) == 0)
        ::execl(crashworthy_program().c_str(), "crashworthy", "supervise", "tree.json", "--socket",
                "s", nullptr);
      ::_exit(127);
    }
    writer.reset();
    ASSERT_TRUE(eventually([&] { return status()["state"] == "running"; }));
  }

  // Children fill what supervise writes to, also in the moment between its poll and its write.
  void flood(const UniqueFd& reader, UniqueFd writer) {
    const json more{{"stop", "kill"}};
    start_into(tree_of({sleeper("a", more), shell("b", "exec yes >&2", more),
                        shell("c", "exec yes >&2", more)}),
               std::move(writer));
    std::string page(4096, '\0');
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(ctl({"restart", "a", "--timeout", "10s"}).exit_code, 0) << i;
      for (int reads = 0; reads < 50; ++reads)
        ASSERT_GT(::read(reader.get(), page.data(), page.size()), 0);
    }
    EXPECT_EQ(end(SIGTERM), 0);
  }
};

// Nobody reads its stderr, and the pipe is full: the log waits, the tree does not.
TEST_F(SuperviseInto, AFullPipeStopsNothing) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  ASSERT_EQ(::fcntl(writer.get(), F_SETPIPE_SZ, 4096), 4096);
  start_into(tree_of({sleeper("a", {{"stop", "kill"}})}), std::move(writer));
  for (int i = 0; i < 30; ++i) ASSERT_EQ(ctl({"restart", "a"}).exit_code, 0) << i;
  EXPECT_EQ(end(SIGTERM), 0);
  std::string log(1 << 16, '\0');
  log.resize(
      static_cast<std::size_t>(std::max<ssize_t>(0, ::read(reader.get(), log.data(), log.size()))));
  EXPECT_THAT(log, HasSubstr("[root]\tpid:00000\tinitial\n"));
}

TEST_F(SuperviseInto, ChildrenThatFloodThePipeStopNothing) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  ASSERT_EQ(::fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
  flood(reader, UniqueFd(ends[1]));
}

TEST_F(SuperviseInto, ChildrenThatFloodTheSocketStopNothing) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd reader(ends[0]);
  flood(reader, UniqueFd(ends[1]));
}

// A terminal that is nearly full is writable for poll(2), and yet would be waited for.
TEST_F(SuperviseInto, ATerminalThatNobodyReadsStopsNothing) {
  const UniqueFd terminal(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!terminal.valid() || ::grantpt(terminal.get()) != 0 || ::unlockpt(terminal.get()) != 0)
    GTEST_SKIP() << "no pseudo-terminals here";
  const char* const name = ::ptsname(terminal.get());
  const UniqueFd filler(::open(name, O_WRONLY | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  ASSERT_TRUE(filler.valid());
  for (int i = 0; i < (1 << 20) && ::write(filler.get(), "x", 1) == 1; ++i) {
  }
  std::string some(300, '\0');
  ASSERT_GT(::read(terminal.get(), some.data(), some.size()), 0);
  start_into(tree_of({sleeper("a", {{"stop", "kill"}})}),
             UniqueFd(::open(name, O_WRONLY | O_NOCTTY | O_CLOEXEC)));
  for (int i = 0; i < 60; ++i)
    ASSERT_EQ(ctl({"restart", "a", "--timeout", "10s"}).exit_code, 0) << i;
  EXPECT_EQ(end(SIGTERM), 0);
}

// In a pid namespace of its own, where every orphan becomes its child.
TEST_F(Supervise, IsFitToBeTheFirstProcess) {
  write_tree(tree_of({shell("a", "echo hello; exec sleep inf")}));
  const Finished possible =
      run_program({"/usr/bin/unshare", "-pf", "--mount-proc", "true"}, directory_.path());
  if (possible.exit_code != 0) GTEST_SKIP() << "no pid namespace here: " << possible.err;
  const pid_t outer =
      start_program({"/usr/bin/unshare", "-pf", "--mount-proc", "--kill-child",
                     crashworthy_program(), "supervise", "tree.json", "--socket", "s"},
                    run());
  pid_ = outer;
  ASSERT_TRUE(eventually([&] { return status()["state"] == "running"; })) << err();
  EXPECT_EQ(status()["pid"], 1);
  pid_t inner = 0;
  for (const ProcessId& process : descendants_of(outer)) {
    if (process.command.find("supervise") != std::string::npos) inner = process.pid;
  }
  ASSERT_GT(inner, 0);
  // Ten orphans that end soon.
  const Finished entered =
      run_program({"/usr/bin/nsenter", "-p", "-m", "-t", std::to_string(inner), "/bin/sh", "-c",
                   "for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.1 &); done"},
                  directory_.path());
  EXPECT_EQ(entered.exit_code, 0) << entered.err;
  const std::string children =
      "/proc/" + std::to_string(inner) + "/task/" + std::to_string(inner) + "/children";
  EXPECT_TRUE(eventually([&] {
    std::istringstream pids(text_of(children).empty() ? "" : text_of(children));
    int count = 0;
    for (int pid = 0; pids >> pid;) ++count;
    return count == 1;  // The shim of 'a'.
  })) << text_of(children);
  ::kill(inner, SIGTERM);
  EXPECT_EQ(end(0), 0);
  EXPECT_EQ(out(), "hello\n");
}

}  // namespace
}  // namespace crashworthy::testing

// The tree file: what is accepted, and that every wrong one is refused with its place and what to
// write instead.
#include "harness/supervision/tree_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "harness/os/unique_fd.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

json valid() {
  return json::parse(R"({
    "id": "pipeline", "strategy": "rest_for_one", "intensity": 3, "period": "10s",
    "auto_shutdown": "any_significant",
    "children": [
      {"id": "store", "command": ["sleep", "inf"], "restart": "permanent", "stop": "500ms",
       "type": "worker", "env": {"COLOUR": "red", "EMPTY": ""}, "cwd": "data",
       "ready": {"fd": 5, "timeout": "2s"}, "heartbeat": {"fd": 6, "interval": "100ms", "misses": 2},
       "deadline": "1h", "backoff": {"first": "50ms", "max": "1s", "jitter": 0},
       "crash_loop": {"count": 5, "within": "2s"}},
      {"id": "inner", "strategy": "one_for_all", "children": [
         {"id": "a", "command": ["true"], "stop": "kill"},
         {"id": "b", "command": ["true"], "stop": "infinite", "restart": "temporary"}],
       "restart": "transient", "significant": true, "stop": "20s"},
      {"id": "crowd", "strategy": "dynamic", "children": [{"id": "one", "command": ["sleep"]}]}
    ]})");
}

TEST(TreeFile, ReadsEveryField) {
  auto file = parse_tree(valid(), "/somewhere");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->name, "pipeline");
  const SupervisorSpec& root = file->root;
  EXPECT_EQ(root.strategy, Strategy::kRestForOne);
  EXPECT_EQ(root.intensity, 3);
  EXPECT_EQ(root.period, 10s);
  EXPECT_EQ(root.auto_shutdown, AutoShutdown::kAnySignificant);
  ASSERT_EQ(root.children.size(), 3u);
  const ChildSpec& store = root.children[0];
  EXPECT_THAT(store.command, ElementsAre("sleep", "inf"));
  EXPECT_EQ(stop_name(store.stop_policy()), "500ms");
  EXPECT_EQ(store.type, ChildType::kWorker);
  EXPECT_EQ(store.environment.at("COLOUR"), "red");
  EXPECT_EQ(store.directory, "/somewhere/data");
  EXPECT_EQ(store.ready->descriptor, 5);
  EXPECT_EQ(store.ready->timeout, 2s);
  EXPECT_EQ(store.heartbeat->descriptor, 6);
  EXPECT_EQ(store.heartbeat->interval, 100ms);
  EXPECT_EQ(store.heartbeat->misses, 2);
  EXPECT_EQ(store.deadline, 1h);
  EXPECT_EQ(store.backoff.first, 50ms);
  EXPECT_EQ(store.backoff.max, 1s);
  EXPECT_EQ(store.backoff.jitter, 0);
  EXPECT_EQ(store.crash_loop.count, 5);
  EXPECT_EQ(store.crash_loop.within, 2s);
  const ChildSpec& inner = root.children[1];
  EXPECT_EQ(inner.restart, RestartType::kTransient);
  EXPECT_TRUE(inner.significant);
  EXPECT_EQ(stop_name(inner.stop_policy()), "20s");
  ASSERT_NE(inner.supervisor, nullptr);
  EXPECT_EQ(inner.supervisor->strategy, Strategy::kOneForAll);
  EXPECT_EQ(inner.supervisor->children[1].restart, RestartType::kTemporary);
  EXPECT_EQ(stop_name(inner.supervisor->children[0].stop_policy()), "kill");
  EXPECT_EQ(root.children[2].supervisor->strategy, Strategy::kDynamic);
}

TEST(TreeFile, WhatIsLeftOutIsAsInOtp) {
  auto file = parse_tree(json::parse(R"({"children": [{"id": "a", "command": ["x"]}]})"), "/");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->name, "root");
  EXPECT_EQ(file->root.intensity, 1);
  EXPECT_EQ(file->root.period, 5s);
  const ChildSpec& child = file->root.children[0];
  EXPECT_EQ(child.restart, RestartType::kPermanent);
  EXPECT_EQ(stop_name(child.stop_policy()), "5s");
  EXPECT_FALSE(child.ready || child.heartbeat || child.deadline);
  EXPECT_EQ(child.backoff.first, 0s);
  EXPECT_EQ(child.crash_loop.count, 3);
  EXPECT_TRUE(child.directory.empty());
  EXPECT_TRUE(parse_tree(json::parse(R"({"children": []})"), "/")) << "it may have no children";
}

TEST(TreeFile, ReadinessIsADescriptorOrTheFirstHeartbeat) {
  json document = valid();
  document["children"][0]["ready"] = json::object();
  EXPECT_EQ(parse_tree(document, "/")->root.children[0].ready->descriptor, 3);
  document["children"][0]["ready"] = {{"heartbeat", true}, {"timeout", "1s"}};
  EXPECT_EQ(parse_tree(document, "/")->root.children[0].ready->descriptor, std::nullopt);
}

TEST(TreeFile, InheritedDescriptorsKeepTheirNumbers) {
  const UniqueFd open(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 20));
  json document = valid();
  document["children"][0]["inherit"] = {open.get()};
  auto file = parse_tree(document, "/");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_THAT(file->root.children[0].descriptors, ElementsAre(std::pair(open.get(), open.get())));
  document["children"][0]["ready"]["fd"] = open.get();
  EXPECT_THAT(parse_tree(document, "/").error().message, StartsWith("/children/0/ready/fd: "));
}

struct BadCase {
  const char* change;  // A JSON pointer set to a value, "pointer=value"; "" is the whole document.
  const char* place;   // What the message begins with.
  const char* says;    // What it, or its hint, contains.
};

class BadTree : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadTree, IsRefusedWithItsPlace) {
  json document = valid();
  const std::string change = GetParam().change;
  const std::size_t at = change.find('=');
  document[json::json_pointer(change.substr(0, at))] = json::parse(change.substr(at + 1));
  auto file = parse_tree(document, "/somewhere");
  ASSERT_FALSE(file) << document.dump(1);
  EXPECT_EQ(file.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(file.error().message, StartsWith(GetParam().place));
  EXPECT_THAT(file.error().message + " " + file.error().hint, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadTree,
    ::testing::Values(
        BadCase{"=[]", "/:", "must be an object, not array"}, BadCase{"=null", "/:", "null"},
        BadCase{"={}", "/:", "needs 'children'"},
        BadCase{"/childen=[]", "/childen:", "did you mean 'children'?"},
        BadCase{"/children={}", "/children:", "must be an array of children, not {}"},
        BadCase{"/children=null", "/children:", "not null"},
        BadCase{"/children/0=\"sleep inf\"", "/children/0:", "must be an object, not string"},
        BadCase{"/id=\"a/b\"", "/id:", "not \"a/b\""}, BadCase{"/id=7", "/id:", "not 7"},
        BadCase{"/id=\"store\"", "/children/0/id:", "name of the whole tree"},
        BadCase{"/strategy=\"one_for_al\"", "/strategy:", "did you mean 'one_for_all'?"},
        BadCase{"/strategy=\"x\"", "/strategy:", "unknown strategy \"x\""},
        BadCase{"/strategy=1", "/strategy:", "must be a string, not 1"},
        BadCase{"/strategy=\"dynamic\"", "/children:", "exactly one child, its template, not 3"},
        BadCase{"/children/2/children=[]", "/children/2/children:", "its template, not 0"},
        BadCase{"/children/2/auto_shutdown=\"all_significant\"",
                "/children/2/auto_shutdown:", "not \"all_significant\""},
        BadCase{"/intensity=-1", "/intensity:", "not -1"},
        BadCase{"/intensity=2.5", "/intensity:", "whole number"},
        BadCase{"/intensity=\"3\"", "/intensity:", "not \"3\""},
        BadCase{"/intensity=18446744073709551615", "/intensity:", "not 18446744073709551615"},
        BadCase{"/period=\"0s\"", "/period:", "longer than 0"},
        BadCase{"/period=5", "/period:", "a duration such as \"5s\", not 5"},
        BadCase{"/period=\"-5s\"", "/period:", "negative"},
        BadCase{"/period=\"5 parsecs\"", "/period:", "not \"5 parsecs\""},
        BadCase{"/period=\"1e300h\"", "/period:", "too long"},
        BadCase{"/period=\"200000h\"", "/period:", "at most 100000h"},
        BadCase{"/period=\"nans\"", "/period:", "not a duration"},
        BadCase{"/auto_shutdown=\"any\"", "/auto_shutdown:", "any_significant"},
        BadCase{"/auto_shutdown=\"never\"", "/children/1/significant:", "never shuts down"},
        BadCase{"/children/1/restart=\"permanent\"", "/children/1/significant:", "permanent"},
        BadCase{"/children/1/significant=\"yes\"", "/children/1/significant:", "true or false"},
        BadCase{"/children/1/id=\"store\"", "/children/1/id:", "\"store\" is used twice"},
        BadCase{"/children/1/children/1/id=\"a\"", "/children/1/children/1/id:", "used twice"},
        BadCase{"/children/1/children/1/id=\"\"", "/children/1/children/1/id:", "empty"},
        BadCase{"/children/0/id=\"a\\u0000b\"", "/children/0/id:", "\\u0000"},
        BadCase{"/children/0/id=\"a\\nb\"", "/children/0/id:", "control characters"},
        BadCase{"/children/0/id=\"a\\u001b[2J\"", "/children/0/id:", "\\u001b"},
        BadCase{"/children/0/id=[\"a\"]", "/children/0/id:", "must be a string"},
        BadCase{"/children/0={\"command\": [\"x\"]}", "/children/0:", "needs an 'id'"},
        BadCase{"/children/0={\"id\": \"x\"}", "/children/0:", "needs a 'command'"},
        BadCase{"/children/0={\"id\": \"x\", \"strategy\": \"one_for_one\"}",
                "/children/0:", "needs 'children'"},
        BadCase{"/children/1/command=[\"x\"]", "/children/1:", "not both"},
        BadCase{"/children/0/command=\"sleep inf\"", "/children/0/command:", "array of words"},
        BadCase{"/children/0/command=[]", "/children/0/command:", "array of words"},
        BadCase{"/children/0/command=[\"\"]", "/children/0/command/0:", "name a program"},
        BadCase{"/children/0/command=[\"x\", 5]", "/children/0/command/1:", "not 5"},
        BadCase{"/children/0/command=[\"x\", \"a\\u0000\"]", "/children/0/command/1:", "NUL"},
        BadCase{"/children/0/comand=[\"x\"]", "/children/0/comand:", "did you mean 'command'?"},
        BadCase{"/children/0/intensity=5", "/children/0/intensity:", "unknown field"},
        BadCase{"/children/1/env={}", "/children/1/env:", "unknown field"},
        BadCase{"/children/0/restart=\"always\"", "/children/0/restart:", "unknown restart"},
        BadCase{"/children/0/restart=\"permanet\"", "/children/0/restart:", "'permanent'?"},
        BadCase{"/children/0/type=\"workr\"", "/children/0/type:", "did you mean 'worker'?"},
        BadCase{"/children/0/stop=\"soon\"", "/children/0/stop:", "not \"soon\""},
        BadCase{"/children/0/stop=5", "/children/0/stop:", "\"infinite\", not 5"},
        BadCase{"/children/0/stop=\"-1s\"", "/children/0/stop:", "not \"-1s\""},
        BadCase{"/children/0/env=[\"A=1\"]", "/children/0/env:", "object of strings"},
        BadCase{"/children/0/env={\"A\": 1}", "/children/0/env/A:", "must be a string, not 1"},
        BadCase{"/children/0/env={\"A=B\": \"\"}", "/children/0/env:", "not \"A=B\""},
        BadCase{"/children/0/env={\"A\": \"\\u0000\"}", "/children/0/env/A:", "NUL"},
        BadCase{"/children/0/cwd=3", "/children/0/cwd:", "must be a string"},
        BadCase{"/children/0/cwd=\"\"", "/children/0/cwd:", "must name a directory"},
        BadCase{"/children/0/cwd=\"a\\u0000\"", "/children/0/cwd:", "NUL"},
        BadCase{"/children/0/ready=true", "/children/0/ready:", "must be an object"},
        BadCase{"/children/0/ready={\"fd\": 2}", "/children/0/ready/fd:", "not 2"},
        BadCase{"/children/0/ready={\"fd\": 6}", "/children/0/heartbeat/fd:", "also that of"},
        BadCase{"/children/0/ready={\"fd\": 5, \"heartbeat\": true}",
                "/children/0/ready:", "not both"},
        BadCase{"/children/0/ready={\"timeout\": \"0s\"}", "/children/0/ready/timeout:", "longer"},
        BadCase{"/children/1/children/0/ready={\"heartbeat\": true}",
                "/children/1/children/0/ready:", "needs a heartbeat"},
        BadCase{"/children/0/heartbeat={\"interval\": \"0ms\"}",
                "/children/0/heartbeat/interval:", "longer than 0"},
        BadCase{"/children/0/heartbeat={\"misses\": 0}", "/children/0/heartbeat/misses:", "not 0"},
        BadCase{"/children/0/heartbeat={\"intervall\": \"1s\"}",
                "/children/0/heartbeat/intervall:", "did you mean 'interval'?"},
        BadCase{"/children/0/inherit=7", "/children/0/inherit:", "array of descriptor numbers"},
        BadCase{"/children/0/inherit=[1]", "/children/0/inherit/0:", "not 1"},
        BadCase{"/children/0/inherit=[7, -3]", "/children/0/inherit/", "descriptor"},
        BadCase{"/children/0/inherit=[767]", "/children/0/inherit/0:", "not open here"},
        BadCase{"/children/0/inherit=[768]", "/children/0/inherit/0:", "from 3 to 767, not 768"},
        BadCase{"/children/0/ready={\"fd\": 768}", "/children/0/ready/fd:", "not 768"},
        BadCase{"/children/1/inherit=[]", "/children/1/inherit:", "unknown field"},
        BadCase{"/children/0/deadline=\"0s\"", "/children/0/deadline:", "longer than 0"},
        BadCase{"/children/0/deadline=null", "/children/0/deadline:", "not null"},
        BadCase{"/children/0/backoff=\"1s\"", "/children/0/backoff:", "must be an object"},
        BadCase{"/children/0/backoff/jitter=\"half\"",
                "/children/0/backoff/jitter:", "from 0 to 1, not \"half\""},
        BadCase{"/children/0/backoff/jitter=1.5", "/children/0/backoff/jitter:", "not 1.5"},
        BadCase{"/children/0/backoff/first=\"2s\"", "/children/0/backoff/max:", "at least 'first'"},
        BadCase{"/children/0/crash_loop={\"count\": -1}", "/children/0/crash_loop/count:", "-1"},
        BadCase{"/children/0/crash_loop={\"within\": \"0s\"}",
                "/children/0/crash_loop/within:", "longer than 0"}));

TEST(TreeFile, NestingHasALimitBeforeOurStackHas) {
  json document{{"id", "s"}, {"children", json::array()}};
  for (int depth = 0; depth < kMaxSupervisorDepth; ++depth)
    document = {{"id", "s" + std::to_string(depth)}, {"children", {document}}};
  EXPECT_TRUE(parse_tree(document, "/"));
  for (int depth = 0; depth < 10'000; ++depth)
    document = {{"id", "t"}, {"children", json::array({std::move(document)})}};
  const auto file = parse_tree(document, "/");
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("nest at most 32 deep"));
}

class TreeFileOnDisk : public ::testing::Test {
 protected:
  TreeFileOnDisk() {
    std::string pattern = (fs::temp_directory_path() / "crashworthy-tree-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  ~TreeFileOnDisk() override { fs::remove_all(directory_); }
  fs::path write(const std::string& text) {
    const fs::path path = directory_ / "tree.json";
    std::ofstream(path) << text;
    return path;
  }
  fs::path with_child(const json& fields) {
    json child{{"id", "a"}};
    child.update(fields);
    return write(json{{"children", {child}}}.dump());
  }
  void expect_refused(const fs::path& path, const std::string& begin, const std::string& says) {
    const auto file = read_tree_file(path);
    ASSERT_FALSE(file) << says;
    EXPECT_EQ(file.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(file.error().message, StartsWith(begin));
    EXPECT_THAT(file.error().message + " " + file.error().hint, HasSubstr(says));
  }
  fs::path directory_;
};

TEST_F(TreeFileOnDisk, IsReadWithItsPrograms) {
  EXPECT_TRUE(read_tree_file(with_child({{"command", {"sleep", "1"}}})));
  EXPECT_TRUE(read_tree_file(with_child({{"command", {"/bin/sh"}}})));
  std::ofstream(directory_ / "mine") << "#!/bin/sh\n";
  fs::permissions(directory_ / "mine", fs::perms::owner_all);
  EXPECT_TRUE(read_tree_file(with_child({{"command", {"./mine"}}, {"cwd", "."}})));
  EXPECT_TRUE(
      read_tree_file(with_child({{"command", {"mine"}}, {"env", {{"PATH", directory_.string()}}}})))
      << "PATH is the child's";
}

TEST_F(TreeFileOnDisk, WhatIsNotThereIsRefusedWithItsName) {
  const std::string file = (directory_ / "tree.json").string();
  expect_refused(directory_ / "nowhere.json", "open '", "No such file");
  expect_refused(directory_, "read '", "directory");
  expect_refused("/dev/zero", "'/dev/zero'", "regular file");
  expect_refused(write("{"), file + ": not JSON: ", "line 1");
  expect_refused(write(""), file + ": not JSON: ", "parse error");
  expect_refused(write(std::string(100'000, '[') + std::string(100'000, ']')),
                 file + ": not JSON: ", "nested deeper");
  expect_refused(write("{}"), file + ": /: ", "needs 'children'");
  const std::string command = file + ": /children/0/command: ";
  expect_refused(with_child({{"command", {"no-such-program"}}}), command,
                 "no such program in PATH");
  expect_refused(with_child({{"command", {"./nowhere"}}}), command, "No such file");
  expect_refused(with_child({{"command", {"/"}}}), command, "is a directory");
  expect_refused(with_child({{"command", {file}}}), command, "not executable");
  expect_refused(with_child({{"command", {"sleep"}}, {"env", {{"PATH", "/nowhere"}}}}), command,
                 "no such program in PATH");
  expect_refused(with_child({{"command", {"sleep"}}, {"cwd", "nowhere"}}),
                 file + ": /children/0/cwd: ", "No such file");
  expect_refused(with_child({{"command", {"sleep"}}, {"cwd", "tree.json"}}),
                 file + ": /children/0/cwd: ", "is no directory");
  expect_refused(
      write(
          R"({"children": [{"id": "s", "children": [{"id": "a", "command": ["no-such-program"]}]}]})"),
      file + ": /children/0/children/0/command: ", "no-such-program");
}

}  // namespace
}  // namespace crashworthy

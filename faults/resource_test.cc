// What a history tells of things outside of the subject's tree, read again; and what is no such
// thing.
#include "faults/resource.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "faults/injection_test_util.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

TEST(Resources, AreReadAsTheyWereWritten) {
  const fs::path path =
      fs::temp_directory_path() / ("crashworthy-resource-" + std::to_string(::getpid()));
  EXPECT_FALSE(Resource::at(Resource::Kind::kFile, path).inode);
  std::ofstream(path) << "x";
  const Resource file = Resource::at(Resource::Kind::kFile, path);
  fs::remove(path);
  ASSERT_TRUE(file.inode);
  const Resource limit = Resource::limit(::getpid(), RLIMIT_AS);
  for (const Resource& resource :
       {file, limit, Resource::process(::getpid(), true), Resource::process(::getpid(), false),
        Resource::at(Resource::Kind::kCgroup, "/sys/crashworthy-1")}) {
    const auto read = resource_from_json(to_json(resource));
    ASSERT_TRUE(read) << to_json(resource);
    EXPECT_EQ(to_json(*read), to_json(resource));
    EXPECT_EQ(read->inode, resource.inode);
    EXPECT_EQ(read->start_time, resource.start_time);
    EXPECT_EQ(read->kill, resource.kill);
    EXPECT_EQ(read->before.rlim_cur, resource.before.rlim_cur);
  }
  EXPECT_EQ(limit.start_time, start_time_of(::getpid()));
}

TEST(Resources, OthersAreRefused) {
  for (const char* text : {"1", "{}", R"({"kind": "moon", "path": "/crashworthy-x"})",
                           R"({"kind": "file"})", R"({"kind": "process"})",
                           R"({"kind": "process", "pid": -1})", R"({"kind": "file", "path": 7})",
                           R"({"kind": "file", "path": "/crashworthy-x", "inode": 3})",
                           R"({"kind": "limit", "pid": "1"})"}) {
    EXPECT_FALSE(resource_from_json(json::parse(text))) << text;
  }
}

class Announcing : public Injection {
 public:
  using Injection::Injection;

 protected:
  Result<void> prepare(LaunchPlan&) override {
    announce({Resource::at(Resource::Kind::kCgroup, "/sys/crashworthy-1")});
    return {};
  }
  Outcome confirm(const InjectionEvidence&) override { return indeterminate(""); }
};

TEST(Resources, AreOnTheDiskWhenTheyAreAnnounced) {
  Log log;
  const FaultSpec fault = fault_of(R"({"fault": "process.kill"})");
  Announcing injection({fault, fault.trigger, 1, false, log.sink()});
  LaunchPlan launch;
  ASSERT_TRUE(injection.arm(launch));
  const json step = log.step("resources");
  ASSERT_TRUE(step.is_object());
  EXPECT_EQ(step["synced"], true);
  EXPECT_EQ(step["resources"][0]["path"], "/sys/crashworthy-1");
}

}  // namespace
}  // namespace crashworthy

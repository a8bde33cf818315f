// A scratch directory ends with its owner, and nothing outside of it is ever touched.
#include "harness/process/scratch_guard.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "harness/os/file.h"
#include "harness/process/process_test_support.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Scratch : public ProcessTest {
 protected:
  fs::path place() const { return directory_ / "deep" / "scratch"; }
  // Files, directories without permissions, and links that lead out.
  void fill() const {
    fs::create_directories(place() / "a" / "b" / "c");
    std::ofstream(place() / "a" / "b" / "c" / "file") << "x";
    fs::create_directory_symlink(outside(), place() / "a" / "link");
    fs::create_symlink(outside() / "precious", place() / "a" / "b" / "link");
    ::chmod((place() / "a" / "b" / "c").c_str(), 0);
    ::chmod((place() / "a").c_str(), 0500);
  }
  fs::path outside() const { return directory_ / "outside"; }
  void SetUp() override {
    ProcessTest::SetUp();
    fs::create_directories(outside());
    std::ofstream(outside() / "precious") << "kept";
  }
  void TearDown() override {
    EXPECT_EQ(*read_file(outside() / "precious"), "kept");
    EXPECT_EQ(fs::status(outside()).permissions() & fs::perms::owner_all, fs::perms::owner_all);
    ProcessTest::TearDown();
  }
};

TEST_F(Scratch, RemoveTakesAllOfItAndEndsTheGuard) {
  auto guard = ScratchGuard::create(place());
  ASSERT_TRUE(guard);
  EXPECT_EQ(guard->path(), place());
  EXPECT_TRUE(eventually([this] { return marked().size() == 1; }));
  fill();
  const auto removed = guard->remove();
  EXPECT_TRUE(removed) << removed.error().message;
  EXPECT_FALSE(fs::exists(place()));
  EXPECT_THAT(marked(), IsEmpty());
  EXPECT_TRUE(guard->remove());
}

TEST_F(Scratch, TheDestructorRemovesIt) {
  { ASSERT_TRUE(ScratchGuard::create(place())); }
  EXPECT_FALSE(fs::exists(place()));
  EXPECT_THAT(marked(), IsEmpty());
}

TEST_F(Scratch, IsRemovedWhenItsOwnerIsKilled) {
  Harness harness([this] {
    static std::optional<Result<ScratchGuard>> guard;
    guard = ScratchGuard::create(place());
    if (!*guard) return false;
    fill();
    return true;
  });
  ASSERT_TRUE(harness.ready());
  ASSERT_TRUE(fs::exists(place()));
  harness.end();
  EXPECT_TRUE(eventually([this] { return !fs::exists(place()); }, 2s));
}

// The owner dies together with a subject that writes into the directory all the time.
TEST_F(Scratch, IsRemovedAlthoughADyingSubjectStillWritesThere) {
  Harness harness([this] {
    static std::optional<Result<ScratchGuard>> guard;
    static std::optional<Result<Subject>> subject;
    guard = ScratchGuard::create(place());
    LaunchSpec spec = shell("i=0; while true; do i=$((i+1)); mkdir -p d$i; : >d$i/f; done");
    spec.directory = place();
    subject = Subject::launch(spec);
    return *guard && *subject && eventually([this] { return fs::exists(place() / "d9" / "f"); });
  });
  ASSERT_TRUE(harness.ready());
  harness.end();
  EXPECT_TRUE(eventually([this] { return !fs::exists(place()); }, 5s));
}

TEST_F(Scratch, DepthBeyondTheDescriptorsIsRemoved) {
  auto guard = ScratchGuard::create(place());
  ASSERT_TRUE(guard);
  UniqueFd at(::open(place().c_str(), O_RDONLY | O_CLOEXEC));
  for (int i = 0; i < 1200; ++i) {
    ASSERT_EQ(::mkdirat(at.get(), "d", 0700), 0);
    at.reset(::openat(at.get(), "d", O_RDONLY | O_CLOEXEC));
  }
  at.reset();
  EXPECT_TRUE(guard->remove());
  EXPECT_FALSE(fs::exists(place()));
}

TEST_F(Scratch, AnotherMountInsideIsNotEmptied) {
  auto guard = ScratchGuard::create(place());
  ASSERT_TRUE(guard);
  fs::create_directories(place() / "mounted");
  if (::mount(outside().c_str(), (place() / "mounted").c_str(), nullptr, MS_BIND, nullptr) != 0) {
    GTEST_SKIP() << "mounting is refused here";
  }
  EXPECT_FALSE(guard->remove());
  EXPECT_EQ(*read_file(outside() / "precious"), "kept");
  EXPECT_EQ(::umount((place() / "mounted").c_str()), 0);
}

TEST_F(Scratch, WhatIsNotOursToRemoveIsRefused) {
  for (const char* root : {"/", "//", "/tmp/..", ""}) {
    const auto guard = ScratchGuard::create(root);
    ASSERT_FALSE(guard) << root;
    EXPECT_EQ(guard.error().kind, ErrorKind::kUsage) << guard.error().message;
  }
  auto guard = ScratchGuard::create(outside());
  ASSERT_FALSE(guard);
  EXPECT_THAT(guard.error().message, HasSubstr("not empty"));
  fs::create_directories(directory_ / "empty");
  fs::create_directory_symlink(directory_ / "empty", directory_ / "link");
  EXPECT_EQ(ScratchGuard::create(directory_ / "link").error().kind, ErrorKind::kUsage);
  EXPECT_EQ(ScratchGuard::create(outside() / "precious").error().kind, ErrorKind::kUsage);
  EXPECT_TRUE(ScratchGuard::create(directory_ / "empty"));  // And removes it.
  EXPECT_FALSE(fs::exists(directory_ / "empty"));
}

}  // namespace
}  // namespace crashworthy

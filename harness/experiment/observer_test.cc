// The observer against planted sequences of real file operations: each is counted exactly, with its
// writer where fanotify tells, both when it looks after each step and when all of it has waited in
// the kernel's queue.
#include "harness/experiment/observer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "harness/experiment/output_log.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Way {
  WriterSource source;
  bool at_once;  // It looks after each step.
};

class Observation : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "crashworthy-observer-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    auto observer = OutputObserver::create(root_, GetParam().source);
    if (!observer && observer.error().kind == ErrorKind::kMissing)
      GTEST_SKIP() << observer.error().message;
    ASSERT_TRUE(observer) << observer.error().message;
    observer_.emplace(*std::move(observer));
  }
  void TearDown() override {
    if (!root_.empty()) fs::remove_all(root_);
  }

  // A process of its own does it, and has ended when this returns.
  pid_t by_another(const std::function<void()>& work) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      work();
      ::_exit(0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    look();
    return pid;
  }
  void look() {
    if (GetParam().at_once) observer_->read(events_);
  }
  void put(const std::string& name, const std::string& text, int flags = O_TRUNC) const {
    const int fd = ::open((root_ / name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    if (fd < 0 || ::write(fd, text.data(), text.size()) < 0) ::_exit(1);
    ::close(fd);
  }
  // All that happened to `name`, by names of changes; "opened" left out where not asked for.
  std::vector<std::string> changes_of(const std::string& name) const {
    std::vector<std::string> changes;
    for (const OutputEvent& event : events_) {
      if (event.name == name && event.change != OutputChange::kOpened)
        changes.emplace_back(output_change_name(event.change));
    }
    return changes;
  }
  void finish() {
    observer_->read(events_);
    observer_->add_writers(events_);
    EXPECT_FALSE(observer_->overflowed());
    std::int64_t last = 0;
    for (const OutputEvent& event : events_) {
      EXPECT_GE(event.time_ns, last);
      last = event.time_ns;
    }
  }
  std::vector<pid_t> writers_of(const std::string& name) const {
    std::vector<pid_t> pids;
    for (const auto& [at, one] : publications_among(events_)) {
      if (one.name == name) pids.push_back(one.host_pid);
    }
    return pids;
  }
  // The pids where they can be known, else nobody's.
  std::vector<pid_t> known(std::vector<pid_t> pids) const {
    if (GetParam().source == WriterSource::kNone) std::fill(pids.begin(), pids.end(), 0);
    return pids;
  }

  fs::path root_;
  std::optional<OutputObserver> observer_;
  std::vector<OutputEvent> events_;
};

TEST_P(Observation, SaysWhatItSeesBy) {
  const bool fanotify = GetParam().source == WriterSource::kFanotify;
  EXPECT_STREQ(observer_->source(), fanotify ? "fanotify" : "inotify");
  EXPECT_EQ(observer_->reason().empty(), fanotify);
  finish();
  EXPECT_THAT(events_, IsEmpty());
}

TEST_P(Observation, TornThenCompleted) {
  const pid_t first = by_another([&] { put("a", "half"); });
  const pid_t second = by_another([&] { put("a", " done", O_APPEND); });
  finish();
  EXPECT_THAT(changes_of("a"), ElementsAre("created", "closed", "closed"));
  EXPECT_EQ(writers_of("a"), known({first, second}));
}

TEST_P(Observation, ClosedTwiceByOneProcess) {
  const pid_t pid = by_another([&] {
    put("a", "");
    put("a", "all of it");
  });
  finish();
  EXPECT_THAT(changes_of("a"), ElementsAre("created", "closed", "closed"));
  EXPECT_EQ(writers_of("a"), known({pid, pid}));
}

TEST_P(Observation, RenamedOver) {
  const pid_t first = by_another([&] { put("a", "old"); });
  const pid_t second = by_another([&] {
    put("a.tmp", "new");
    fs::rename(root_ / "a.tmp", root_ / "a");
  });
  finish();
  EXPECT_THAT(changes_of("a"), ElementsAre("created", "closed", "moved_in"));
  EXPECT_THAT(changes_of("a.tmp"), ElementsAre("created", "closed", "moved_out"));
  EXPECT_EQ(writers_of("a"), known({first, second}));
}

TEST_P(Observation, DeletedAndMadeAnew) {
  const pid_t pid = by_another([&] {
    put("a", "x");
    fs::remove(root_ / "a");
    put("a", "y");
    put("gone", "z");
    fs::remove(root_ / "gone");
  });
  finish();
  EXPECT_THAT(changes_of("a"), ElementsAre("created", "closed", "deleted", "created", "closed"));
  EXPECT_THAT(changes_of("gone"), ElementsAre("created", "closed", "deleted"));
  EXPECT_EQ(writers_of("a"), known({pid, pid}));
}

TEST_P(Observation, ClosedWhenItWasDeletedIsNoPublication) {
  by_another([&] {
    const int fd = ::open((root_ / "a").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    fs::remove(root_ / "a");
    ::close(fd);
  });
  finish();
  EXPECT_THAT(writers_of("a"), IsEmpty());
}

TEST_P(Observation, LinkedIntoPlace) {
  const pid_t pid = by_another([&] {
    put("a.tmp", "x");
    fs::create_hard_link(root_ / "a.tmp", root_ / "a");
    fs::remove(root_ / "a.tmp");
  });
  finish();
  EXPECT_THAT(changes_of("a"), ElementsAre("created"));
  EXPECT_EQ(writers_of("a"), known({pid}));
}

TEST_P(Observation, OpenedAndNotYetClosedIsNoPublication) {
  const UniqueFd held(::open((root_ / "a").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  ASSERT_TRUE(held.valid());
  finish();
  EXPECT_THAT(changes_of("a"), ElementsAre("created"));
  EXPECT_THAT(writers_of("a"), IsEmpty());
}

TEST_P(Observation, ANewDirectoryWithFilesAtOnce) {
  by_another([&] {
    fs::create_directories(root_ / "sub" / "deep");
    put("sub/deep/early", "y");
  });
  observer_->read(events_);
  const pid_t pid = by_another([&] { put("sub/deep/later", "z"); });
  finish();
  // How often a file was closed before anybody looked is not known: it was found.
  EXPECT_THAT(changes_of("sub/deep/early"), ElementsAre("found"));
  EXPECT_THAT(changes_of("sub/deep/later"), ElementsAre("created", "closed"));
  EXPECT_EQ(writers_of("sub/deep/early"), (std::vector<pid_t>{0}));
  EXPECT_EQ(writers_of("sub/deep/later"), known({pid}));
}

TEST_P(Observation, ADirectoryRenamedIntoPlaceBringsItsFiles) {
  by_another([&] {
    fs::create_directories(root_ / "tmp");
    put("tmp/a", "y");
  });
  look();
  by_another([&] { fs::rename(root_ / "tmp", root_ / "final"); });
  finish();
  const auto changes = changes_of("final/a");
  ASSERT_FALSE(changes.empty());
  EXPECT_EQ(changes.back(), "found");
}

INSTANTIATE_TEST_SUITE_P(
    Ways, Observation,
    ::testing::Values(Way{WriterSource::kFanotify, true}, Way{WriterSource::kFanotify, false},
                      Way{WriterSource::kNone, true}, Way{WriterSource::kNone, false}),
    [](const auto& test) {
      return std::string(test.param.source == WriterSource::kNone ? "Inotify" : "Fanotify") +
             (test.param.at_once ? "AtOnce" : "Late");
    });

// Why the events are counted by inotify: what one process does to one name becomes one record.
TEST(OutputWriters, JoinsWhatWaits) {
  auto writers = OutputWriters::create();
  if (!writers) GTEST_SKIP() << writers.error().message;
  std::string root = (fs::temp_directory_path() / "crashworthy-writers-XXXXXX").string();
  ASSERT_TRUE(::mkdtemp(root.data()));
  ASSERT_TRUE(writers->watch(root, "at/"));
  for (int i = 0; i < 3; ++i) {
    std::ofstream(root + "/a") << "x";
    fs::remove(root + "/a");
  }
  std::vector<OutputWriters::Record> records;
  writers->read(records);
  fs::remove_all(root);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].name, "at/a");
  EXPECT_EQ(records[0].host_pid, ::getpid());
}

// Without the rights, it says so, and what was demanded is refused.
TEST(ObservationRights, FanotifyIsDemandedOrFallenBackFrom) {
  const fs::path root = fs::temp_directory_path();
  const bool allowed = OutputWriters::create().ok();
  const auto demanded = OutputObserver::create(root, WriterSource::kFanotify);
  EXPECT_EQ(demanded.ok(), allowed);
  if (!allowed) {
    EXPECT_EQ(demanded.error().kind, ErrorKind::kMissing);
  }
  ::setenv("CRASHWORTHY_OBSERVER", "inotify", 1);
  const auto asked = OutputObserver::create(root);
  ::setenv("CRASHWORTHY_OBSERVER", "eyes", 1);
  const auto wrong = OutputObserver::create(root);
  ::unsetenv("CRASHWORTHY_OBSERVER");
  ASSERT_TRUE(asked);
  EXPECT_STREQ(asked->source(), "inotify");
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().kind, ErrorKind::kUsage);
}

// The log: what enters the history.
TEST(OutputLog, KeepsOrderCountsLateOnesAndTheLongestGap) {
  OutputLog log;
  const auto add = [&](OutputChange change, const char* name, std::int64_t time_ns) {
    log.add({change, name, time_ns, 0});
  };
  add(OutputChange::kCreated, "a", 10);
  add(OutputChange::kOpened, "a", 10);
  add(OutputChange::kClosed, "a", 20);
  add(OutputChange::kDeleted, "a", 30);
  add(OutputChange::kCreated, "a", 30);
  add(OutputChange::kOpened, "a", 30);
  add(OutputChange::kClosed, "a", 50);
  add(OutputChange::kClosed, "stray", 120);
  auto watch = ProcessWatch::create(ProcessSource::kLooks);
  ASSERT_TRUE(watch);
  const std::map<std::string, std::size_t> items{{"a", 3}};
  std::vector<ItemEvent> kinds;
  for (const ItemRecord& record : log.item_records(items, *watch)) {
    EXPECT_EQ(record.item, 3u);
    kinds.push_back(record.kind());
  }
  EXPECT_THAT(
      kinds, ElementsAre(ItemEvent::kOutputCreated, ItemEvent::kOutputOpened, ItemEvent::kPublished,
                         ItemEvent::kOutputRemoved, ItemEvent::kOutputCreated,
                         ItemEvent::kOutputOpened, ItemEvent::kPublished));
  EXPECT_EQ(log.other_lines(items, *watch).size(), 1u);
  EXPECT_EQ(log.published_after(50), 1);
  EXPECT_EQ(log.published_after(120), 0);
  EXPECT_EQ(log.longest_gap(0, 130), 70);
  EXPECT_EQ(log.longest_gap(0, 300), 180);
}

}  // namespace
}  // namespace crashworthy

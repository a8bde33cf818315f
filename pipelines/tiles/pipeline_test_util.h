// What the tests of the program `tiles` share: a run of it under observation, and what it left.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "faults/point/point.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/wait_status.h"
#include "harness/probe/probe.h"
#include "pipelines/tiles/generate.h"
#include "pipelines/tiles/test_images.h"

namespace crashworthy::tiles {

namespace fs = std::filesystem;

inline constexpr std::int64_t kPatienceNs = 60'000'000'000;  // Until a test gives up.

// A sanitizer takes memory of its own, and ends a process that has none before OpenCV can report
// it.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

inline std::string tiles_program() { return find_helper("tiles").value().string(); }

// The table of fault points, for a subject to inherit.
struct PointTable {
  UniqueFd fd;
  point::Table* memory = nullptr;

  PointTable() : fd(::memfd_create("points", MFD_CLOEXEC)) {
    if (::ftruncate(fd.get(), sizeof(point::Table)) != 0) std::abort();
    memory = static_cast<point::Table*>(
        ::mmap(nullptr, sizeof(point::Table), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    memory->magic = point::Table::kMagic;
  }
  PointTable(const PointTable&) = delete;
  PointTable& operator=(const PointTable&) = delete;
  ~PointTable() { ::munmap(static_cast<void*>(memory), sizeof(point::Table)); }

  point::Entry& abort_at(const char* name, std::uint64_t first, std::uint64_t every = 0,
                         std::uint64_t times = 1) {
    return arm(name, point::Action::kAbort, first, every, times);
  }
  point::Entry& arm(const char* name, point::Action action, std::uint64_t first = 1,
                    std::uint64_t every = 0, std::uint64_t times = 1) {
    point::Entry& entry = memory->entries[memory->count];
    std::strncpy(entry.name, name, point::kNameSize - 1);
    entry.action = action;
    entry.item = point::kNoItem;
    entry.schedule.first = first;
    entry.schedule.every = every;
    entry.schedule.times = times;
    entry.schedule.open = 1;
    ++memory->count;
    return entry;
  }
};

// A process of the program (or of a command around it) with a probe; ends with this object.
class TilesRun {
 public:
  explicit TilesRun(std::vector<std::string> arguments, const PointTable* points = nullptr,
                    bool backtrace = false)
      : TilesRun(Command{}, with_program(std::move(arguments)), points, backtrace) {}
  struct Command {};
  TilesRun(Command, std::vector<std::string> words, const PointTable* points = nullptr,
           bool backtrace = false) {
    start(words, points, backtrace);
  }
  TilesRun(const TilesRun&) = delete;
  TilesRun& operator=(const TilesRun&) = delete;
  ~TilesRun() {
    if (status_) return;
    ::kill(pid_, SIGKILL);
    wait();
  }

  pid_t pid() const { return pid_; }

  WaitStatus wait() {
    if (status_) return *status_;
    if (!wait_for_end(pidfd_.get(), static_cast<int>(kPatienceNs / 1'000'000))) {
      ADD_FAILURE() << "the program did not end\n" << errors();
      ::kill(pid_, SIGKILL);
    }
    int raw = 0;
    ::waitpid(pid_, &raw, 0);
    status_ = WaitStatus::from_raw(raw);
    return *status_;
  }
  // Its exit code; a death by a signal fails the test.
  int exit_code() {
    const WaitStatus status = wait();
    EXPECT_TRUE(status.exited()) << status.describe() << "\n" << errors();
    return status.exited() ? status.exit_code() : -1;
  }
  bool running() { return !status_ && !has_ended(pidfd_.get()); }

  std::string output() const { return read_file(streams_ / "out").value(); }
  std::string errors() const { return read_file(streams_ / "err").value(); }

  const std::vector<ProbeRecord>& records() {
    ring_.drain(records_, status_.has_value());
    return records_;
  }
  std::vector<ProbeRecord> all(ProbeEvent event) {
    std::vector<ProbeRecord> found;
    for (const ProbeRecord& record : records()) {
      if (record.event == static_cast<std::uint16_t>(event)) found.push_back(record);
    }
    return found;
  }
  // The first record that fits, waited for while the program runs; empty when none came.
  std::optional<ProbeRecord> await(const std::function<bool(const ProbeRecord&)>& fits) {
    std::size_t seen = 0;
    for (const std::int64_t until = now_ns() + kPatienceNs; now_ns() < until;) {
      const bool last = !running();
      for (records(); seen < records_.size(); ++seen) {
        if (fits(records_[seen])) return records_[seen];
      }
      if (last) return std::nullopt;
      ::usleep(200);
    }
    return std::nullopt;
  }

 private:
  static std::vector<std::string> with_program(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), tiles_program());
    return arguments;
  }

  void start(const std::vector<std::string>& words, const PointTable* points, bool backtrace) {
    std::vector<std::string> variables{ProbeRing::environment(ring_.ring_fd(), ring_.event_fd()),
                                       "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"};
    if (points != nullptr)
      variables.push_back("CRASHWORTHY_POINTS=" + std::to_string(points->fd.get()));
    if (backtrace) variables.push_back("CRASHWORTHY_POINT_BACKTRACE=1");
    for (const char* name : {"ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "LD_LIBRARY_PATH"}) {
      const char* value = std::getenv(name);
      if (value == nullptr) continue;
      variables.push_back(std::string(name) + "=" + value);
      // GDAL, which comes with OpenCV, takes its locks in two orders when it starts.
      if (std::string_view(name) == "TSAN_OPTIONS") variables.back() += ":detect_deadlocks=0";
    }
    const UniqueFd out(::open((streams_ / "out").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const UniqueFd err(::open((streams_ / "err").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    std::vector<char*> argv = pointers(words);
    std::vector<char*> environment = pointers(variables);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(out.get(), STDOUT_FILENO);
      ::dup2(err.get(), STDERR_FILENO);
      ::fcntl(ring_.ring_fd(), F_SETFD, 0);
      ::fcntl(ring_.event_fd(), F_SETFD, 0);
      if (points != nullptr) ::fcntl(points->fd.get(), F_SETFD, 0);
      ::execvpe(argv[0], argv.data(), environment.data());
      ::_exit(127);
    }
    pidfd_ = open_pidfd(pid_).value();
  }

  static std::vector<char*> pointers(const std::vector<std::string>& words) {
    std::vector<char*> result;
    for (const std::string& word : words) result.push_back(const_cast<char*>(word.c_str()));
    result.push_back(nullptr);
    return result;
  }

  TemporaryDirectory streams_;
  ProbeRing ring_ = ProbeRing::create().value();
  std::vector<ProbeRecord> records_;
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<WaitStatus> status_;
};

inline bool is(const ProbeRecord& record, ProbeEvent event) {
  return record.event == static_cast<std::uint16_t>(event);
}

using Files = std::map<std::string, std::string>;

// All files of a directory with their content, hidden ones too.
inline Files files_of(const fs::path& directory) {
  Files files;
  for (const auto& entry : fs::directory_iterator(directory))
    files[entry.path().filename().string()] = read_file(entry.path()).value();
  return files;
}

// Names only, for messages that people can read.
inline std::set<std::string> names(const Files& files) {
  std::set<std::string> result;
  for (const auto& [name, content] : files) result.insert(name);
  return result;
}

// Made-up inputs, and what an undisturbed run makes of them.
class Tiles : public ::testing::Test {
 protected:
  void make_inputs(int count, std::uint64_t seed = 1) {
    ASSERT_TRUE(generate_set(inputs(), count, seed));
  }
  fs::path inputs() const { return directory_ / "in"; }
  std::vector<fs::path> sorted_inputs() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(inputs())) found.push_back(entry.path());
    std::sort(found.begin(), found.end());
    return found;
  }
  fs::path fresh_output() { return directory_ / ("out-" + std::to_string(++outputs_)); }

  // The command line for all inputs.
  std::vector<std::string> words(const fs::path& output, const std::string& supervision,
                                 std::vector<std::string> more = {}) const {
    std::vector<std::string> all{inputs().string(), "--output", output.string(), "--supervision",
                                 supervision};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  Files golden(std::vector<std::string> more = {}) {
    const fs::path output = fresh_output();
    TilesRun run(words(output, "none", std::move(more)));
    EXPECT_EQ(run.exit_code(), 0) << run.errors();
    return files_of(output);
  }

  // Every file of `found` is as in `golden`; tells how many are missing.
  static std::size_t missing(const Files& golden, const Files& found) {
    for (const auto& [name, content] : found) {
      const auto right = golden.find(name);
      EXPECT_TRUE(right != golden.end()) << name << " is left over";
      EXPECT_TRUE(right != golden.end() && right->second == content) << name << " is torn";
    }
    return golden.size() - found.size();
  }

  TemporaryDirectory directory_;

 private:
  int outputs_ = 0;
};

}  // namespace crashworthy::tiles

#include "harness/process/process_test_support.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <random>
#include <thread>

#include "harness/os/file.h"
#include "harness/os/random.h"
#include "harness/process/process_tree.h"

namespace crashworthy {
namespace fs = std::filesystem;
using namespace std::chrono_literals;

namespace {
constexpr const char* kMark = "CRASHWORTHY_TEST_MARK";
}

void ProcessTest::SetUp() {
  std::random_device device;
  mark_ = std::to_string(Random((std::uint64_t{device()} << 32) | device()).next());
  ::setenv(kMark, mark_.c_str(), 1);  // So crashworthy-init is marked too.
  std::string pattern = (fs::temp_directory_path() / "crashworthy-process-XXXXXX").string();
  directory_ = ::mkdtemp(pattern.data());
}

void ProcessTest::TearDown() {
  EXPECT_TRUE(nothing_left_within(2s));
  ::unsetenv(kMark);
  std::error_code failure;
  fs::remove_all(directory_, failure);
}

LaunchSpec ProcessTest::shell(const std::string& script) const {
  LaunchSpec spec;
  spec.argv = {"sh", "-c", script};
  spec.environment = {"PATH=/usr/local/bin:/usr/bin:/bin", std::string(kMark) + "=" + mark_};
  spec.directory = directory_;
  return spec;
}

std::string ProcessTest::output_of(const std::string& script, LaunchSpec spec) {
  spec.stdout_file = directory_ / "output";
  fs::remove(spec.stdout_file);
  auto subject = Subject::launch(spec);
  EXPECT_TRUE(subject) << (subject ? "" : subject.error().message);
  if (!subject) return {};
  EXPECT_TRUE(main_report(&*subject).status.success()) << script;
  return read_file(spec.stdout_file).value();
}

std::vector<pid_t> ProcessTest::marked() const {
  std::vector<pid_t> found;
  const std::string wanted = std::string(kMark) + "=" + mark_;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0 || pid == ::getpid()) continue;
    const auto environment = read_file(entry.path() / "environ");
    if (!environment || environment->find(wanted) == std::string::npos) continue;
    const auto state = read_process_state(pid);
    if (state && state->live) found.push_back(pid);
  }
  return found;
}

::testing::AssertionResult ProcessTest::nothing_left_within(std::chrono::milliseconds bound) const {
  if (eventually([this] { return marked().empty(); }, bound)) return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure() << "still there:";
  for (const pid_t pid : marked()) {
    auto command = read_file("/proc/" + std::to_string(pid) + "/cmdline");
    auto status = read_file("/proc/" + std::to_string(pid) + "/stat");
    failure << "\n  " << pid << " " << (command ? command->c_str() : "?") << " "
            << (status ? status->substr(0, 60) : "?");
    ::kill(pid, SIGKILL);
  }
  return failure;
}

bool eventually(const std::function<bool()>& holds, std::chrono::milliseconds bound) {
  const auto deadline = std::chrono::steady_clock::now() + bound;
  while (!holds()) {
    if (std::chrono::steady_clock::now() >= deadline) return holds();
    std::this_thread::sleep_for(5ms);
  }
  return true;
}

std::vector<Report> all_reports(Subject* subject) {
  std::vector<Report> all;
  while (true) {
    pollfd poll_fd{subject->report_fd(), POLLIN, 0};
    if (::poll(&poll_fd, 1, 10'000) <= 0) {
      ADD_FAILURE() << "the subject does not end";
      all.push_back({});
      return all;
    }
    const auto reports = subject->read_reports();
    if (!reports) {
      ADD_FAILURE() << reports.error().message;
      all.push_back({});
      return all;
    }
    all.insert(all.end(), reports->begin(), reports->end());
    if (!all.empty() && (all.back().kind == Report::Kind::kChildless ||
                         all.back().kind == Report::Kind::kGuardLost)) {
      return all;
    }
  }
}

Report main_report(Subject* subject) {
  for (const Report& report : all_reports(subject)) {
    if (report.kind == Report::Kind::kMainEnded) return report;
  }
  ADD_FAILURE() << "no report of the main process";
  return {};
}

Harness::Harness(const std::function<bool()>& body) {
  int pipe[2];
  if (::pipe(pipe) != 0) return;
  pid_ = ::fork();
  if (pid_ == 0) {
    const char answer = body() ? 'y' : 'n';
    (void)!::write(pipe[1], &answer, 1);
    while (true) ::pause();
  }
  ::close(pipe[1]);
  char answer = 'n';
  ready_ = ::read(pipe[0], &answer, 1) == 1 && answer == 'y';
  ::close(pipe[0]);
}

void Harness::end() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace crashworthy

#include "harness/process/shim_test_support.h"

#include <poll.h>

#include <algorithm>
#include <cstdlib>

#include "harness/os/file.h"
#include "harness/process/process_tree.h"

namespace crashworthy {
namespace fs = std::filesystem;

int restarts(int usual, int full) {
  return std::getenv("CRASHWORTHY_LONG") != nullptr ? full : usual;
}

ShimEvent Told::next() {
  while (waiting_.empty()) {
    pollfd poll_fd{shim_->event_fd(), POLLIN, 0};
    if (lost_ || ::poll(&poll_fd, 1, 10'000) <= 0) {
      ADD_FAILURE() << (lost_ ? "the shim is lost already" : "the shim says nothing");
      return {};
    }
    auto events = shim_->read_events();
    if (!events) {
      ADD_FAILURE() << events.error().message;
      return {};
    }
    for (ShimEvent& event : *events) waiting_.push_back(std::move(event));
  }
  ShimEvent event = std::move(waiting_.front());
  waiting_.erase(waiting_.begin());
  lost_ = event.kind == ShimEvent::Kind::kLost;
  return event;
}

ShimEvent Told::next(ShimEvent::Kind kind) {
  ShimEvent event = next();
  EXPECT_EQ(event.kind, kind) << event.error.message << event.status.describe();
  return event;
}

bool Told::nothing_for(std::chrono::milliseconds time) {
  pollfd poll_fd{shim_->event_fd(), POLLIN, 0};
  return waiting_.empty() && ::poll(&poll_fd, 1, static_cast<int>(time.count())) == 0;
}

WaitStatus Told::end() {
  const ShimEvent ended = next(ShimEvent::Kind::kEnded);
  next(ShimEvent::Kind::kEmpty);
  return ended.status;
}

ShimSpec ShimTest::command(std::vector<std::string> argv) const {
  ShimSpec spec;
  spec.argv = std::move(argv);
  spec.environment = shell("").environment;
  spec.directory = directory_;
  return spec;
}

std::uintmax_t ShimTest::size_of(const std::string& name) const {
  std::error_code failure;
  const std::uintmax_t size = fs::file_size(file(name), failure);
  return failure ? 0 : size;
}

std::vector<pid_t> ShimTest::tree() const {
  std::vector<pid_t> pids;
  for (const pid_t pid : marked()) {
    const auto command = read_file("/proc/" + std::to_string(pid) + "/cmdline");
    const auto end = command ? command->find('\0') : 0;
    if (command && !command->substr(0, end).ends_with("crashworthy-init")) pids.push_back(pid);
  }
  return pids;
}

bool ShimTest::tree_is_whole() const {
  return eventually([this] {
    const auto pids = tree();
    return pids.size() == kTreeSize && std::all_of(pids.begin(), pids.end(), [](pid_t pid) {
             const auto command = read_file("/proc/" + std::to_string(pid) + "/cmdline");
             return command && command->rfind("sleep", 0) == 0;
           });
  });
}

long ShimTest::open_descriptors(pid_t pid) {
  return std::distance(fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd"),
                       fs::directory_iterator());
}

long ShimTest::zombies_below(pid_t parent) {
  long count = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const auto state = read_process_state(std::atoi(entry.path().filename().c_str()));
    if (state && state->parent == parent && !state->live) ++count;
  }
  return count;
}

}  // namespace crashworthy

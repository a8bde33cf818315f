#include "harness/supervision/tree_test_support.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"

namespace crashworthy {

int times(int quick, int with_long) {
  return std::getenv("CRASHWORTHY_LONG") == nullptr ? quick : with_long;
}

std::string short_text(const Event& event) {
  std::string text = event.path.empty() ? "(root)" : event.path;
  if (event.kind == EventKind::kState) {
    return text + " " + std::string(life_state_name(event.state));
  }
  if (event.kind == EventKind::kReady) return text + " says ready";
  text += " " + std::string(event_name(event.kind));
  if (event.status) text += ": " + event.status->describe();
  if (event.kind == EventKind::kOrder) text += ": " + event.text;
  return text;
}

ChildSpec command_child(const std::string& id, std::vector<std::string> command) {
  ChildSpec child;
  child.id = id;
  child.command = std::move(command);
  return child;
}

ChildSpec shell_child(const std::string& id, const std::string& script) {
  return command_child(id, {"sh", "-c", script});
}

ChildSpec function_child(const std::string& id, const std::string& function,
                         const std::string& argument) {
  ChildSpec child;
  child.id = id;
  child.function = function;
  child.argument = argument;
  return child;
}

SupervisorSpec supervisor_of(std::vector<ChildSpec> children) {
  SupervisorSpec spec;
  spec.intensity = 1'000'000;
  spec.children = std::move(children);
  return spec;
}

ChildPipe::ChildPipe() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::pipe2(fds, O_CLOEXEC), 0);
  read_end.reset(fds[0]);
  write_end.reset(fds[1]);
  EXPECT_EQ(::fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
}

void ChildPipe::drain(std::string* text) const {
  char buffer[65536];
  ssize_t count = 0;
  while ((count = ::read(read_end.get(), buffer, sizeof buffer)) > 0) {
    text->append(buffer, static_cast<std::size_t>(count));
  }
}

TreeOptions TreeTest::options() {
  TreeOptions options;
  options.sink = [this](const Event& event) { events_.push_back(event); };
  return options;
}

std::optional<SupervisionTree> TreeTest::boot(SupervisorSpec spec) {
  auto tree = SupervisionTree::start(std::move(spec), options());
  EXPECT_TRUE(tree) << tree.error().message;
  if (!tree) return std::nullopt;
  return *std::move(tree);
}

bool TreeTest::run_until(SupervisionTree* tree, const std::function<bool()>& holds,
                         std::chrono::nanoseconds bound) {
  const std::int64_t deadline = now_ns() + bound.count();
  while (!holds()) {
    const std::int64_t left = deadline - now_ns();
    if (left <= 0 || tree->logic().ended()) return holds();
    // What a test waits for beside the tree has no event of its own here: look again soon.
    const auto ran = tree->run(std::min(Nanoseconds(left), Nanoseconds(5'000'000)));
    EXPECT_TRUE(ran) << ran.error().message;
    if (!ran) return false;
  }
  return true;
}

void TreeTest::end(SupervisionTree* tree) {
  tree->shutdown();
  const auto ended = tree->run_until_end(std::chrono::seconds(30));
  ASSERT_TRUE(ended) << ended.error().message;
  EXPECT_EQ(*ended, TreeEnd::kAsked);
}

std::vector<std::string> TreeTest::trace(std::uint64_t from) const {
  std::vector<std::string> texts;
  for (const Event& event : events_) {
    if (event.number >= from) texts.push_back(short_text(event));
  }
  return texts;
}

std::vector<Event> TreeTest::events_of(EventKind kind, const std::string& path) const {
  std::vector<Event> found;
  for (const Event& event : events_) {
    if (event.kind == kind && (path == "*" || event.path == path)) found.push_back(event);
  }
  return found;
}

pid_t TreeTest::pid_of(const SupervisionTree& tree, const std::string& path) const {
  const auto info = tree.logic().find(path);
  EXPECT_TRUE(info && info->pid > 0) << path;
  return info ? info->pid : 0;
}

std::vector<pid_t> TreeTest::workers() const {
  std::vector<pid_t> found;
  for (const pid_t pid : marked()) {
    const auto name = read_file("/proc/" + std::to_string(pid) + "/comm");
    if (name && !name->starts_with("crashworthy-ini")) found.push_back(pid);
  }
  return found;
}

void kill_process(pid_t pid, int signal) {
  ASSERT_GT(pid, 1);
  auto pidfd = open_pidfd(pid);
  ASSERT_TRUE(pidfd) << pidfd.error().message;
  ASSERT_TRUE(send_signal(pidfd->get(), signal));
}

}  // namespace crashworthy

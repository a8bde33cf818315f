// Helpers of the tests over real processes: a tree whose events are kept, and what is left of it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "harness/process/process_test_support.h"
#include "harness/supervision/tree.h"

namespace crashworthy {

// 20 restarts where the quick tests do, 1 000 with CRASHWORTHY_LONG.
int times(int quick, int with_long);

// "a running", "a ended: killed by SIGKILL", "a restart", "(root) intensity_spent".
std::string short_text(const Event& event);

ChildSpec command_child(const std::string& id, std::vector<std::string> command);
ChildSpec shell_child(const std::string& id, const std::string& script);
// One of those in tree_test_main.cc.
ChildSpec function_child(const std::string& id, const std::string& function,
                         const std::string& argument = "");
// As many restarts as a test may need.
SupervisorSpec supervisor_of(std::vector<ChildSpec> children);

// A pipe of which a child gets the write end as its descriptor `number`.
struct ChildPipe {
  ChildPipe();
  void give_to(ChildSpec* child, int number) const {
    child->descriptors.emplace_back(write_end.get(), number);
  }
  UniqueFd read_end;  // Non-blocking.
  UniqueFd write_end;
  // All that is in it now, added to `text`.
  void drain(std::string* text) const;
};

class TreeTest : public ProcessTest {
 protected:
  // Options that keep each event in events_.
  TreeOptions options();
  // Started, or the test has failed.
  std::optional<SupervisionTree> boot(SupervisorSpec spec);
  // Runs the tree until `holds`; false after `bound`.
  bool run_until(SupervisionTree* tree, const std::function<bool()>& holds,
                 std::chrono::nanoseconds bound = std::chrono::seconds(20));
  // Asks the tree to end, and waits.
  void end(SupervisionTree* tree);

  // The events as short texts; those `from` a number on; and those of one kind.
  std::vector<std::string> trace(std::uint64_t from = 0) const;
  std::vector<Event> events_of(EventKind kind, const std::string& path = "*") const;
  std::uint64_t next_number() const { return events_.empty() ? 1 : events_.back().number + 1; }
  pid_t pid_of(const SupervisionTree& tree, const std::string& path) const;

  // Live marked processes, without those of shims.
  std::vector<pid_t> workers() const;

  std::vector<Event> events_;
};

// SIGKILL, by pidfd.
void kill_process(pid_t pid, int signal = 9);

}  // namespace crashworthy

#include "harness/process/process_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

constexpr pid_t kNoPid = 0;

std::string proc_path(pid_t pid, const char* file) {
  return "/proc/" + std::to_string(pid) + "/" + file;
}

// Every number of `text`, up to its end or to the end of the line.
std::vector<pid_t> read_numbers(std::string_view text) {
  std::vector<pid_t> numbers;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at != end) {
    pid_t number = 0;
    const auto [rest, failure] = std::from_chars(at, end, number);
    if (failure == std::errc()) numbers.push_back(number);
    at = failure == std::errc() ? rest : at + 1;
    if (at != end && *at == '\n') break;
  }
  return numbers;
}

std::vector<pid_t> numbers_after(const std::string& text, std::string_view key) {
  const std::size_t at = text.find(key);
  if (at == std::string::npos) return {};
  return read_numbers(std::string_view(text).substr(at + key.size()));
}

// /proc/PID/task/TID/children needs CONFIG_PROC_CHILDREN.
bool kernel_lists_children() {
  static const bool lists = ::access("/proc/thread-self/children", R_OK) == 0;
  return lists;
}

std::vector<pid_t> listed_children(pid_t pid) {
  std::vector<pid_t> children;
  const std::string tasks = proc_path(pid, "task");
  for (const pid_t task : numbers_in(tasks)) {
    const auto text = read_file(tasks + "/" + std::to_string(task) + "/children");
    if (!text) continue;
    for (const pid_t child : read_numbers(*text)) children.push_back(child);
  }
  return children;
}

using Children = std::unordered_multimap<pid_t, pid_t>;

Children children_of_everybody() {
  Children children;
  for (const pid_t pid : numbers_in("/proc")) {
    if (const auto state = read_process_state(pid)) children.emplace(state->parent, pid);
  }
  return children;
}

std::vector<pid_t> children_of(pid_t pid, const Children& everybody) {
  if (kernel_lists_children()) return listed_children(pid);
  std::vector<pid_t> children;
  const auto [first, last] = everybody.equal_range(pid);
  for (auto at = first; at != last; ++at) children.push_back(at->second);
  return children;
}

}  // namespace

std::optional<ProcessState> read_process_state(pid_t pid) {
  const auto stat = read_stat(pid);
  if (!stat) return std::nullopt;
  // A leader that has ended stays a zombie while other threads of it run.
  const bool ended = stat->state == 'X' || (stat->state == 'Z' && stat->threads <= 1);
  return ProcessState{stat->parent, !ended};
}

std::vector<TreeProcess> descendants_of(pid_t root) {
  const Children everybody = kernel_lists_children() ? Children() : children_of_everybody();
  std::vector<TreeProcess> found;
  std::size_t next = 0;
  for (pid_t at = root; at != kNoPid;) {
    for (const pid_t child : children_of(at, everybody)) {
      const auto state = read_process_state(child);
      if (!state || !state->live || found.size() >= kMaxTreeProcesses) continue;
      found.push_back({child, at});
    }
    at = next < found.size() ? found[next++].pid : kNoPid;
  }
  return found;
}

std::vector<pid_t> namespace_pids(pid_t pid) {
  const auto text = read_file(proc_path(pid, "status"));
  return text ? numbers_after(*text, "\nNSpid:") : std::vector<pid_t>();
}

std::optional<pid_t> pid_of_pidfd(int pidfd) {
  const auto text = read_file("/proc/self/fdinfo/" + std::to_string(pidfd));
  if (!text) return std::nullopt;
  const auto numbers = numbers_after(*text, "\nPid:");
  if (numbers.empty() || numbers[0] <= 0) return std::nullopt;
  return numbers[0];
}

bool all_threads_stopped(pid_t pid) {
  return thread_states(pid).find_first_not_of("Tt") == std::string::npos;
}

void signal_process(const TreeProcess& process, pid_t root, std::initializer_list<int> signals) {
  const auto pidfd = open_pidfd(process.pid);
  if (!pidfd) return;
  // The pidfd is of the process that we saw only if that still has the parent that we saw, or has
  // become an orphan of ours.
  const auto state = read_process_state(process.pid);
  if (!state || (state->parent != process.parent && state->parent != root)) return;
  for (const int signal : signals) (void)send_signal(pidfd->get(), signal);
}

void signal_descendants(pid_t root, std::initializer_list<int> signals) {
  for (const TreeProcess& process : descendants_of(root)) signal_process(process, root, signals);
}

}  // namespace crashworthy

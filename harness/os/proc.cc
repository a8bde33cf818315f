#include "harness/os/proc.h"

#include <dirent.h>

#include <cstdlib>
#include <memory>
#include <sstream>

#include "harness/os/file.h"

namespace crashworthy {
namespace {

std::string directory_of(pid_t pid) { return "/proc/" + std::to_string(pid); }

}  // namespace

std::vector<pid_t> numbers_in(const std::string& directory) {
  std::vector<pid_t> numbers;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), ::closedir);
  if (!stream) return numbers;
  while (const dirent* entry = ::readdir(stream.get())) {
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
      numbers.push_back(std::atoi(entry->d_name));
  }
  return numbers;
}

std::string status_field(pid_t pid, const std::string& name) {
  const auto status = read_file(directory_of(pid) + "/status");
  if (!status) return {};
  const std::string text = "\n" + *status;  // The first line is one, too.
  const std::string key = "\n" + name + ":";
  const std::size_t at = text.find(key);
  if (at == std::string::npos) return {};
  const std::size_t from = text.find_first_not_of(" \t", at + key.size());
  if (from == std::string::npos || text[from] == '\n') return {};
  return text.substr(from, text.find('\n', from) - from);
}

std::optional<ProcessStat> read_stat(pid_t pid, pid_t task) {
  const std::string thread = task == 0 ? "" : "/task/" + std::to_string(task);
  const auto text = read_file(directory_of(pid) + thread + "/stat");
  if (!text) return std::nullopt;
  const std::size_t open = text->find('(');
  const std::size_t close = text->rfind(')');  // A name may hold anything, parentheses too.
  if (open == std::string::npos || close == std::string::npos || close < open) return std::nullopt;
  ProcessStat stat;
  stat.name = text->substr(open + 1, close - open - 1);
  // State, parent, 9 numbers, user and system ticks, 4 numbers, threads, 1, start time.
  std::istringstream fields(text->substr(close + 1));
  std::int64_t other = 0, user = 0, system = 0;
  fields >> stat.state >> stat.parent;
  for (int i = 0; i < 9; ++i) fields >> other;
  fields >> user >> system;
  for (int i = 0; i < 4; ++i) fields >> other;
  if (!(fields >> stat.threads >> other >> stat.start_time)) return std::nullopt;
  stat.cpu_ticks = user + system;
  return stat;
}

std::string thread_states(pid_t pid) {
  std::string states;
  for (const pid_t task : numbers_in(directory_of(pid) + "/task")) {
    const auto stat = read_stat(pid, task);
    if (stat && stat->state != 'Z' && stat->state != 'X') states += stat->state;
  }
  return states;
}

bool is_stopped_by_signal(pid_t pid) {
  const std::string states = thread_states(pid);
  return !states.empty() && states.find_first_not_of('T') == std::string::npos;
}

}  // namespace crashworthy

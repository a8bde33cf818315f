#include "harness/cli/program_test_util.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "harness/os/file.h"
#include "harness/os/pidfd.h"

namespace crashworthy::testing {
namespace {

namespace fs = std::filesystem;

std::string read_or_empty(const fs::path& path) {
  auto text = read_file(path);
  return text ? *text : std::string();
}

[[noreturn]] void exec_program(const std::vector<std::string>& argv, const fs::path& directory,
                               std::optional<uid_t> uid) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // A test that dies leaves nothing.
  if (uid && (::setgid(*uid) != 0 || ::setuid(*uid) != 0)) ::_exit(126);
  if (::chdir(directory.c_str()) != 0) ::_exit(125);
  const int out = ::open("out", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const int err = ::open("err", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execv(words[0], words.data());
  ::_exit(127);
}

// Fields of /proc/PID/stat after the command: state, ppid, ..., start time.
struct Stat {
  char state = '?';
  pid_t parent = 0;
  std::string start_time;
};
std::optional<Stat> read_stat(pid_t pid) {
  const std::string text = read_or_empty("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t at = text.rfind(')');
  if (at == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(at + 1));
  Stat stat;
  fields >> stat.state >> stat.parent;
  for (int field = 5; field <= 22 && fields >> stat.start_time; ++field) {
  }
  return stat;
}

std::vector<pid_t> all_pids() {
  std::vector<pid_t> pids;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator("/proc", failure)) {
    const int pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0) pids.push_back(pid);
  }
  return pids;
}

ProcessId identify(pid_t pid, const Stat& stat) {
  std::string command = read_or_empty("/proc/" + std::to_string(pid) + "/cmdline");
  std::replace(command.begin(), command.end(), '\0', ' ');
  return {pid, stat.start_time, command};
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (fs::temp_directory_path() / "crashworthy-test-XXXXXX").string();
  path_ = ::mkdtemp(pattern.data());
  fs::permissions(path_, fs::perms::all);
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string crashworthy_program() { return std::string(CRASHWORTHY_PROGRAM_DIR) + "/crashworthy"; }

pid_t start_program(const std::vector<std::string>& argv, const fs::path& directory,
                    std::optional<uid_t> uid) {
  const pid_t pid = ::fork();
  if (pid == 0) exec_program(argv, directory, uid);
  return pid;
}

Finished run_program(const std::vector<std::string>& argv, const fs::path& directory, int seconds,
                     std::optional<uid_t> uid) {
  const pid_t pid = start_program(argv, directory, uid);
  auto pidfd = open_pidfd(pid);
  if (!pidfd || !wait_for_end(pidfd->get(), seconds * 1000)) ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_or_empty(directory / "out"),
          read_or_empty(directory / "err")};
}

std::vector<ProcessId> descendants_of(pid_t root) {
  std::map<pid_t, std::vector<std::pair<pid_t, Stat>>> children;
  for (const pid_t pid : all_pids()) {
    if (const auto stat = read_stat(pid)) children[stat->parent].emplace_back(pid, *stat);
  }
  std::vector<ProcessId> found;
  std::vector<pid_t> open{root};
  while (!open.empty()) {
    const pid_t parent = open.back();
    open.pop_back();
    for (const auto& [pid, stat] : children[parent]) {
      open.push_back(pid);
      if (stat.state != 'Z') found.push_back(identify(pid, stat));
    }
  }
  return found;
}

bool is_alive(const ProcessId& process) {
  const auto stat = read_stat(process.pid);
  return stat && stat->state != 'Z' && stat->start_time == process.start_time;
}

std::vector<ProcessId> processes_naming(const std::string& text) {
  std::vector<ProcessId> found;
  for (const pid_t pid : all_pids()) {
    const auto stat = read_stat(pid);
    if (!stat || stat->state == 'Z' || pid == ::getpid()) continue;
    const std::string directory = "/proc/" + std::to_string(pid);
    std::error_code failure;
    const bool names =
        read_or_empty(directory + "/cmdline").find(text) != std::string::npos ||
        read_or_empty(directory + "/environ").find(text) != std::string::npos ||
        fs::read_symlink(directory + "/cwd", failure).string().find(text) != std::string::npos;
    if (names) found.push_back(identify(pid, *stat));
  }
  return found;
}

}  // namespace crashworthy::testing

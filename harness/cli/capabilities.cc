#include "harness/cli/capabilities.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "harness/experiment/observer.h"
#include "harness/experiment/process_watch.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/cgroup.h"
#include "harness/process/launcher.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kBound(5);

Capability by_errno(const char* what, int number, std::string detail = {}) {
  return {what, number == 0, number == 0 ? std::move(detail) : std::strerror(number)};
}

// Starts `true` as `spec` says otherwise; empty when it ran to its end.
std::string try_launch(LaunchSpec spec, std::string* reason = nullptr) {
  spec.argv = {"true"};
  spec.environment = {"PATH=/usr/bin:/bin"};
  auto subject = Subject::launch(spec);
  if (!subject) return subject.error().message;
  if (reason != nullptr) *reason = subject->containment_reason();
  return subject->wait_until_gone(kBound) ? "" : "it does not end";
}

// A child that waits until it is killed, which the destructor does.
class Sleeper {
 public:
  Sleeper() : pid_(::fork()) {
    if (pid_ != 0) return;
    while (true) ::pause();
  }
  ~Sleeper() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

Capability try_pidfd() {
  const Sleeper child;
  auto pidfd = open_pidfd(child.pid());
  if (!pidfd) return {"pidfd", false, pidfd.error().message};
  const auto sent = send_signal(pidfd->get(), SIGKILL);
  const bool ended = sent && wait_for_end(pidfd->get(), 5000);
  return {"pidfd", ended, sent ? "" : sent.error().message};
}

std::string yama_scope() {
  auto scope = read_file("/proc/sys/kernel/yama/ptrace_scope");
  if (!scope) return "no Yama";
  while (scope->ends_with('\n')) scope->pop_back();
  return "Yama ptrace_scope " + *scope;
}

Capability try_ptrace() {
  const Sleeper child;
  int number = 0;
  if (::ptrace(PTRACE_SEIZE, child.pid(), nullptr, nullptr) != 0 ||
      ::ptrace(PTRACE_INTERRUPT, child.pid(), nullptr, nullptr) != 0) {
    number = errno;
  }
  int status = 0;
  if (number == 0 && (::waitpid(child.pid(), &status, 0) < 0 || !WIFSTOPPED(status))) number = EIO;
  Capability found = by_errno("ptrace of a descendant", number);
  found.detail += (found.detail.empty() ? "" : "; ") + yama_scope();
  return found;
}

Capability try_notification() {
  LaunchSpec spec;
  bool listening = false;
  spec.notified_calls = {SYS_sethostname};  // Which `true` does not make.
  spec.on_listener = [&](const UniqueFd& listener) { listening = listener.valid(); };
  const std::string failure = try_launch(spec);
  return {"seccomp user notification", failure.empty() && listening, failure};
}

Capability try_mounts() {
  std::string pattern = (fs::temp_directory_path() / "crashworthy-doctor-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr)
    return by_errno("user, mount and pid namespaces", errno);
  LaunchSpec spec;
  spec.containment = Containment::kPidNamespace;
  spec.mounts = {{"tmpfs", pattern, "size=65536"}};
  const std::string failure = try_launch(spec);
  ::rmdir(pattern.c_str());
  return {"user, mount and pid namespaces", failure.empty(), failure};
}

Capability try_limit() {
  const Sleeper child;
  rlimit wanted{16, 16};
  rlimit found{};
  const int number = ::prlimit(child.pid(), RLIMIT_NOFILE, &wanted, nullptr) == 0 &&
                             ::prlimit(child.pid(), RLIMIT_NOFILE, nullptr, &found) == 0
                         ? 0
                         : errno;
  Capability limit = by_errno("prlimit on a live process", number);
  limit.works = limit.works && found.rlim_cur == wanted.rlim_cur;
  return limit;
}

// Our own directory in the version 1 hierarchy that has `controller`; empty: there is none.
fs::path version_1_directory(const std::string& controller) {
  const auto has = [&](const std::string& list) {
    return ("," + list + ",").find("," + controller + ",") != std::string::npos;
  };
  std::string own;
  const auto cgroups = read_file("/proc/self/cgroup");
  std::istringstream lines(cgroups ? *cgroups : std::string());
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (second != std::string::npos && has(line.substr(first + 1, second - first - 1)))
      own = line.substr(second + 1);
  }
  if (own.empty()) return {};
  const auto mounts = read_file("/proc/self/mountinfo");
  std::istringstream places(mounts ? *mounts : std::string());
  for (std::string line; std::getline(places, line);) {
    const std::size_t type = line.find(" - cgroup ");
    if (type == std::string::npos || !has(line.substr(line.rfind(' ') + 1))) continue;
    std::istringstream words(line);
    std::string skipped;
    std::string root;
    std::string point;
    words >> skipped >> skipped >> skipped >> root >> point;
    if (root != "/" && own.starts_with(root)) own = own.substr(root.size());
    return fs::path(point + "/" + own);
  }
  return {};
}

// Makes a cgroup in `parent` and looks for `file` in it. 0, or what went wrong.
int try_cgroup(const fs::path& parent, const char* file) {
  const fs::path made = parent / ("crashworthy-doctor-" + std::to_string(::getpid()));
  if (::mkdir(made.c_str(), 0755) != 0) return errno;
  const int number = ::access((made / file).c_str(), W_OK) == 0 ? 0 : errno;
  ::rmdir(made.c_str());
  return number;
}

Capability try_controller(const std::string& controller, const char* old_file,
                          const char* new_file) {
  Capability found{"cgroup " + controller, false, {}};
  auto own = own_cgroup();
  const int number = own ? try_cgroup(*own, new_file) : ENOENT;
  if (number == 0) return {found.what, true, "version 2"};
  const std::string why = !own               ? own.error().message
                          : number == ENOENT ? "version 2 here has no such controller"
                                             : std::string("version 2: ") + std::strerror(number);
  const fs::path old = version_1_directory(controller);
  if (old.empty()) return {found.what, false, why + "; version 1: no such hierarchy"};
  const int old_number = try_cgroup(old, old_file);
  if (old_number == 0) return {found.what, true, "version 1; " + why};
  return {found.what, false, why + "; version 1: " + std::strerror(old_number)};
}

Capability try_inotify() {
  const UniqueFd fd(::inotify_init1(IN_CLOEXEC));
  const bool works = fd.valid() && ::inotify_add_watch(fd.get(), fs::temp_directory_path().c_str(),
                                                       IN_CLOSE_WRITE) >= 0;
  return by_errno("inotify", works ? 0 : errno);
}

// A child of ours writes a file: fanotify is of use when it names that child.
Capability try_fanotify() {
  std::string pattern = (fs::temp_directory_path() / "crashworthy-doctor-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) return by_errno("fanotify", errno);
  std::error_code ignored;
  auto observer = OutputObserver::create(pattern, WriterSource::kFanotify);
  Capability found{"fanotify", false, "who writes outputs is known"};
  if (observer) {
    const pid_t child = ::fork();
    if (child == 0) {
      const int file = ::open((pattern + "/output").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      ::_exit(file >= 0 && ::close(file) == 0 ? 0 : 1);
    }
    ::waitpid(child, nullptr, 0);
    std::vector<OutputEvent> events;
    observer->read(events);
    observer->add_writers(events);
    const auto published = publications_among(events);
    found.works = published.size() == 1 && published[0].second.host_pid == child;
    if (!found.works) found.detail = "it does not name the writer of a file";
  } else {
    found.detail = observer.error().message + ": inotify is used, and writers are not known";
  }
  fs::remove_all(pattern, ignored);
  return found;
}

Capability try_connector() {
  auto watch = ProcessWatch::create(ProcessSource::kConnector);
  return {"proc connector", watch.ok(),
          watch ? "births and ends of all processes are known"
                : watch.error().message + ": the tree is looked at every 100 ms"};
}

Capability try_preload() {
  auto library = find_helper("libcrashworthy-alloc.so");
  return {"preload library", library.ok(), library ? library->string() : library.error().message};
}

// Points are in the program's own code: what can be tried here is the memory that arms them.
Capability try_points() {
  const UniqueFd fd(static_cast<int>(::syscall(SYS_memfd_create, "crashworthy-points", 1u)));
  return by_errno("fault points (shared memory)", fd.valid() ? 0 : errno,
                  "for programs that were built with them");
}

}  // namespace

std::vector<Capability> containment_levels() {
  std::vector<Capability> levels;
  for (const Containment level : kContainments) {
    LaunchSpec spec;
    spec.containment = level;
    const std::string failure = try_launch(spec);
    levels.push_back(
        {std::string("containment ") + containment_name(level), failure.empty(), failure});
  }
  return levels;
}

std::vector<Capability> fault_mechanisms() {
  return {try_pidfd(),
          try_ptrace(),
          try_notification(),
          try_mounts(),
          try_limit(),
          try_controller("memory", "memory.limit_in_bytes", "memory.max"),
          try_controller("cpu", "cpu.cfs_quota_us", "cpu.max"),
          try_controller("pids", "pids.max", "pids.max"),
          try_controller("freezer", "freezer.state", "cgroup.freeze"),
          try_inotify(),
          try_fanotify(),
          try_connector(),
          try_preload(),
          try_points()};
}

}  // namespace crashworthy

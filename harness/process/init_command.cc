// Everything that happens between fork and exec of the command: async-signal-safe calls only.
// Before the fork: the reading of the command, so that nothing is allocated after it.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "harness/process/init.h"

namespace crashworthy {
namespace {

Error bad_spec() { return corrupt_error("the specification of the command makes no sense"); }

Result<std::string> read_memory_file(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return system_error("inspect the specification", errno);
  std::string bytes(static_cast<std::size_t>(info.st_size), '\0');
  const ssize_t count = ::pread(fd, bytes.data(), bytes.size(), 0);
  if (count != info.st_size) return bad_spec();
  return bytes;
}

// Takes the next NUL-terminated string of `bytes`; null at the end.
char* take_string(std::string* bytes, std::size_t* at) {
  const std::size_t end = bytes->find('\0', *at);
  if (end == std::string::npos) return nullptr;
  char* text = bytes->data() + *at;
  *at = end + 1;
  return text;
}

template <typename Pointer>
bool take_strings(std::string* bytes, std::size_t* at, std::uint32_t count,
                  std::vector<Pointer>* strings) {
  for (std::uint32_t i = 0; i < count; ++i) {
    char* text = take_string(bytes, at);
    if (text == nullptr) return false;
    strings->push_back(text);
  }
  return true;
}

bool take_descriptors(const SpecHeader& header, std::size_t* at, Command* command) {
  if (header.descriptors > (command->bytes.size() - *at) / sizeof(std::int32_t)) return false;
  for (std::uint32_t i = 0; i < header.descriptors; ++i) {
    std::int32_t number = 0;
    std::memcpy(&number, command->bytes.data() + *at, sizeof number);
    *at += sizeof number;
    command->descriptors.push_back({kFirstSubjectFd + static_cast<int>(i), number});
  }
  return true;
}

bool take_numbers(std::uint32_t count, std::size_t* at, Command* command) {
  if (count > (command->bytes.size() - *at) / sizeof(std::int32_t)) return false;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::int32_t number = 0;
    std::memcpy(&number, command->bytes.data() + *at, sizeof number);
    *at += sizeof number;
    command->notified.push_back(number);
  }
  return true;
}

}  // namespace

Result<Command> read_command(int spec) {
  auto bytes = read_memory_file(spec);
  if (!bytes) return bytes.error();
  SpecHeader header;
  if (bytes->size() < sizeof header) return bad_spec();
  std::memcpy(&header, bytes->data(), sizeof header);
  if (header.magic != kProtocolMagic || header.arguments == 0) return bad_spec();
  Command command;
  command.harness = header.harness_pid;
  if (header.forced_containment >= 0) {
    command.forced = static_cast<Containment>(header.forced_containment);
  }
  if (header.limits_core != 0) command.core_limit = header.core_limit;
  command.bytes = *std::move(bytes);
  std::size_t at = sizeof header;
  if (!take_descriptors(header, &at, &command) || !take_numbers(header.notified, &at, &command)) {
    return bad_spec();
  }
  std::vector<const char*> directories;
  if (!take_strings(&command.bytes, &at, header.directories, &directories) ||
      !take_strings(&command.bytes, &at, header.candidates, &command.candidates) ||
      !take_strings(&command.bytes, &at, header.arguments, &command.argv) ||
      !take_strings(&command.bytes, &at, header.variables, &command.environment)) {
    return bad_spec();
  }
  std::vector<const char*> mounts;
  if (!take_strings(&command.bytes, &at, 3 * header.mounts, &mounts)) return bad_spec();
  for (std::size_t i = 0; i + 2 < mounts.size(); i += 3) {
    command.mounts.push_back({mounts[i], mounts[i + 1], mounts[i + 2]});
  }
  if (header.held != 0) command.gate = kFirstSubjectFd + static_cast<int>(header.descriptors);
  if (!directories.empty()) command.directory = directories[0];
  command.argv.push_back(nullptr);
  command.environment.push_back(nullptr);
  return command;
}

// ---- From here on: only what signal-safety(7) allows. ----
namespace {

[[noreturn]] void fail(int failure, Stage stage, int error) {
  const ExecFailure what{stage, error};
  (void)own_call(SYS_write, failure, &what, sizeof what);
  own_call(SYS_exit_group, 127, 0, 0);
  ::_exit(127);
}

void reset_signals() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &action, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Every source, `failure` and `control` move above the highest wanted number first, so that no dup2
// closes what a later one needs. Returns the moved `failure`, or -1 with errno.
int place_descriptors(Command::Descriptor* descriptors, std::size_t count, int failure,
                      int* control) {
  int above = kFirstSubjectFd;
  for (std::size_t i = 0; i < count; ++i) above = std::max(above, descriptors[i].number + 1);
  const int moved = ::fcntl(failure, F_DUPFD_CLOEXEC, above);
  if (moved < 0) return -1;
  *control = ::fcntl(*control, F_DUPFD_CLOEXEC, above);
  for (std::size_t i = 0; i < count; ++i) {
    descriptors[i].source = ::fcntl(descriptors[i].source, F_DUPFD_CLOEXEC, above);
    if (descriptors[i].source < 0) return -1;
  }
#if defined(SYS_close_range)
  // All of ours are close-on-exec already; this covers what a library may have opened.
  constexpr unsigned kCloseOnExec = 1u << 2;
  ::syscall(SYS_close_range, 3u, ~0u, kCloseOnExec);
#endif
  for (std::size_t i = 0; i < count; ++i) {
    if (::dup2(descriptors[i].source, descriptors[i].number) < 0) return -1;
  }
  return moved;
}

}  // namespace

int mount_all(const Command& command) {
  for (const Command::Mount& mount : command.mounts) {
    const bool bind = std::strcmp(mount.source, "tmpfs") != 0;
    const int done =
        bind ? ::mount(mount.source, mount.target, nullptr, MS_BIND, nullptr)
             : ::mount("tmpfs", mount.target, "tmpfs", MS_NOSUID | MS_NODEV, mount.options);
    if (done != 0) return errno;
  }
  return 0;
}

namespace {

// Waits at the gate; false when whoever holds it lets go without a word.
bool wait_at(int gate) {
  char byte = 0;
  ssize_t count = 0;
  do {
    count = ::read(gate, &byte, 1);
  } while (count < 0 && errno == EINTR);
  return count == 1;
}

// Tries each file as a shell does: one that may not be executed is remembered, and the search goes
// on. Returns the errno to report.
int execute_first(const Command& command) {
  int error = ENOENT;
  for (const char* file : command.candidates) {
    own_call(SYS_execve, file, command.argv.data(), command.environment.data());
    if (errno == EACCES) {
      error = EACCES;
    } else if (errno != ENOENT && errno != ENOTDIR) {
      return errno;
    }
  }
  return error;
}

[[noreturn]] void become_command(const Command& command,
                                 std::vector<Command::Descriptor>* descriptors, int failure,
                                 int join, pid_t reaper) {
  if (::setsid() < 0) fail(failure, Stage::kSession, errno);
  if (command.is_shim) {
    // Somebody may kill both processes of the shim at once: then nobody is left to do it.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != reaper) ::_exit(127);
  }
  if (join >= 0 && ::write(join, "0", 1) != 1) fail(failure, Stage::kJoinCgroup, errno);
  // What the harness prepares meanwhile may need a process that has not moved on.
  if (command.gate >= 0 && !wait_at(command.gate)) fail(failure, Stage::kProtocol, ECANCELED);
  if (command.core_limit) {
    const rlimit core{*command.core_limit, *command.core_limit};
    if (::setrlimit(RLIMIT_CORE, &core) != 0) fail(failure, Stage::kCoreLimit, errno);
  }
  if (command.directory != nullptr && ::chdir(command.directory) != 0) {
    fail(failure, Stage::kDirectory, errno);
  }
  int control = kControlFd;
  const int moved = place_descriptors(descriptors->data(), descriptors->size(), failure, &control);
  if (moved < 0) fail(failure, Stage::kDescriptors, errno);
  reset_signals();
  if (!command.notified.empty()) {
    if (const int error = install_filter(command.notified, control); error != 0) {
      fail(moved, Stage::kFilter, error);
    }
  }
  fail(moved, Stage::kExecute, execute_first(command));
}

}  // namespace

Result<pid_t> start_command(const Command& command, std::vector<Command::Descriptor> descriptors,
                            int failure, int join) {
  const pid_t self = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) become_command(command, &descriptors, failure, join, self);
  if (pid < 0) return system_error("fork", errno);
  return pid;
}

}  // namespace crashworthy

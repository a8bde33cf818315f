#include "harness/process/start_init.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/process/program_path.h"
#include "harness/process/spawn.h"

namespace crashworthy {
namespace {

constexpr std::chrono::seconds kLaunchBound{10};

Result<void> check_text(const std::string& text, const char* what) {
  if (text.find('\0') == std::string::npos) return {};
  return usage_error(std::string(what) + " '" + text.c_str() + "...' has a NUL byte in it");
}

void append_strings(std::string* bytes, const std::vector<std::string>& strings) {
  for (const std::string& text : strings) bytes->append(text.c_str(), text.size() + 1);
}

Result<UniqueFd> write_spec(const LaunchSpec& spec, const std::vector<std::string>& candidates,
                            std::optional<Containment> forced) {
  SpecHeader header;
  header.harness_pid = ::getpid();
  header.forced_containment = forced ? static_cast<int>(*forced) : -1;
  header.descriptors = static_cast<std::uint32_t>(spec.descriptors.size());
  header.directories = spec.directory.empty() ? 0 : 1;
  header.candidates = static_cast<std::uint32_t>(candidates.size());
  header.arguments = static_cast<std::uint32_t>(spec.argv.size());
  header.variables = static_cast<std::uint32_t>(spec.environment.size());
  header.limits_core = spec.core_limit ? 1 : 0;
  header.held = spec.before_exec ? 1 : 0;
  header.mounts = static_cast<std::uint32_t>(spec.mounts.size());
  header.notified = static_cast<std::uint32_t>(spec.notified_calls.size());
  header.core_limit = spec.core_limit.value_or(0);
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  for (const auto& [ours, number] : spec.descriptors) {
    bytes.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  for (const std::int32_t call : spec.notified_calls) {
    bytes.append(reinterpret_cast<const char*>(&call), sizeof call);
  }
  if (header.directories == 1) append_strings(&bytes, {spec.directory.native()});
  append_strings(&bytes, candidates);
  append_strings(&bytes, spec.argv);
  append_strings(&bytes, spec.environment);
  for (const LaunchSpec::Mount& mount : spec.mounts) {
    append_strings(&bytes, {mount.source, mount.target.native(), mount.options});
  }
  UniqueFd memory(::memfd_create("crashworthy-spec", MFD_CLOEXEC));
  if (!memory.valid()) return system_error("create a memory file", errno);
  if (auto written = write_all(memory.get(), bytes); !written) return written.error();
  return memory;
}

// Where the subject's `number` (1 or 2) goes.
Result<UniqueFd> open_output(const LaunchSpec& spec, const std::filesystem::path& file,
                             int number) {
  if (spec.passthrough_output && file.empty()) {
    UniqueFd ours(::fcntl(number, F_DUPFD_CLOEXEC, 3));
    if (ours.valid()) return ours;
  }
  const std::filesystem::path path = file.empty() ? "/dev/null" : file;
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd.valid()) return system_error("open '" + path.string() + "' for the subject", errno);
  return fd;
}

// The descriptors for crashworthy-init, and our ends.
struct Wiring {
  UniqueFd in, out, error, lifeline;
  SocketPair control;
  UniqueFd our_lifeline;
  UniqueFd gate;  // Where the command waits for a byte before its exec.
  UniqueFd our_gate;
};

Result<void> wire_output(const LaunchSpec& spec, Wiring* wiring) {
  wiring->in.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!wiring->in.valid()) return system_error("open '/dev/null'", errno);
  auto out = open_output(spec, spec.stdout_file, STDOUT_FILENO);
  if (!out) return out.error();
  wiring->out = *std::move(out);
  auto error = open_output(spec, spec.stderr_file, STDERR_FILENO);
  if (!error) return error.error();
  wiring->error = *std::move(error);
  return {};
}

Result<void> wire_control(Wiring* wiring) {
  auto sockets = make_control_sockets();
  if (!sockets) return sockets.error();
  wiring->control = *std::move(sockets);
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) return system_error("create the lifeline", errno);
  wiring->lifeline.reset(pipe[0]);
  wiring->our_lifeline.reset(pipe[1]);
  if (::pipe2(pipe, O_CLOEXEC) != 0) return system_error("create the gate", errno);
  wiring->gate.reset(pipe[0]);
  wiring->our_gate.reset(pipe[1]);
  return {};
}

}  // namespace

Result<void> check_descriptors(const std::vector<std::pair<int, int>>& descriptors, int lowest,
                               std::size_t most) {
  if (descriptors.size() > most) {
    return usage_error("too many descriptors for the command: " +
                       std::to_string(descriptors.size()));
  }
  std::set<int> numbers;
  for (const auto& [ours, number] : descriptors) {
    if (number < lowest || !numbers.insert(number).second) {
      const std::string bound = lowest == 0 ? "negative" : "less than " + std::to_string(lowest);
      return usage_error("descriptor number " + std::to_string(number) + " of the command is " +
                         bound + " or given twice");
    }
    if (::fcntl(ours, F_GETFD) < 0) {
      return usage_error("descriptor " + std::to_string(ours) + " for the command is not open");
    }
  }
  return {};
}

Result<void> check_command(const LaunchSpec& spec) {
  if (spec.argv.empty()) return usage_error("no command to start");
  for (const std::string& argument : spec.argv) {
    if (auto ok = check_text(argument, "argument"); !ok) return ok;
  }
  for (const std::string& variable : spec.environment) {
    if (auto ok = check_text(variable, "environment variable"); !ok) return ok;
  }
  if (spec.notified_calls.size() > kMaxNotifiedCalls) {
    return usage_error("more than " + std::to_string(kMaxNotifiedCalls) +
                       " system calls are to be reported");
  }
  if (!spec.notified_calls.empty() && !spec.on_listener) {
    return usage_error("system calls are to be reported, but to nobody");
  }
  return check_text(spec.directory.native(), "directory");
}

Result<StartedInit> start_init(const char* mode, const LaunchSpec& spec,
                               const std::vector<std::string>& candidates,
                               std::optional<Containment> forced) {
  const auto program = find_helper("crashworthy-init");
  if (!program) return program.error();
  Wiring wiring;
  if (auto wired = wire_output(spec, &wiring); !wired) return wired.error();
  if (auto wired = wire_control(&wiring); !wired) return wired.error();
  auto written = write_spec(spec, candidates, forced);
  if (!written) return written.error();
  std::vector<int> descriptors{wiring.in.get(),       wiring.out.get(),
                               wiring.error.get(),    wiring.control.theirs.get(),
                               wiring.lifeline.get(), written->get()};
  for (const auto& [ours, number] : spec.descriptors) descriptors.push_back(ours);
  if (spec.before_exec) descriptors.push_back(wiring.gate.get());
  auto spawned = spawn_helper(*program, {mode, spec.argv[0]}, descriptors);
  if (!spawned) return spawned.error();
  return StartedInit{spawned->pid, std::move(spawned->pidfd), std::move(wiring.control.ours),
                     std::move(wiring.our_lifeline), std::move(wiring.our_gate)};
}

Result<Received> await_answer(int control) {
  const std::int64_t deadline = now_ns() + Nanoseconds(kLaunchBound).count();
  while (true) {
    auto received = receive_message(control);
    if (!received) return received.error();
    if (*received) return std::move(**received);
    const std::int64_t left = deadline - now_ns();
    if (left <= 0) return Error{ErrorKind::kTimeout, 0, "crashworthy-init does not answer", {}};
    pollfd poll_fd{control, POLLIN, 0};
    ::poll(&poll_fd, 1, static_cast<int>(left / 1'000'000 + 1));
  }
}

Error explain_failure(const LaunchSpec& spec, const std::vector<std::string>& candidates,
                      const Message& message) {
  const std::string what = "unable to start '" + spec.argv[0] + "': ";
  switch (message.stage) {
    case Stage::kExecute:
      return explain_unexecutable(spec.argv[0], candidates, spec.directory, message.error);
    case Stage::kDirectory: {
      Error error = usage_error(what + "unable to enter its directory '" + spec.directory.string() +
                                "': " + std::strerror(message.error));
      error.sys_errno = message.error;
      return error;
    }
    case Stage::kContainment:
      return Error{ErrorKind::kMissing, 0, what + "it cannot be contained: " + message.reason,
                   "where a level is forced (CRASHWORTHY_CONTAINMENT), let crashworthy choose"};
    case Stage::kCoreLimit:
      return system_error(
          what + "set the core file limit to " + std::to_string(spec.core_limit.value_or(0)),
          message.error);
    case Stage::kDescriptors:
      return system_error(what + "give it its descriptors", message.error);
    case Stage::kJoinCgroup:
      return system_error(what + "put it into its cgroup", message.error);
    case Stage::kFork:
      return system_error(what + "fork", message.error);
    case Stage::kMount:
      return system_error(what + "mount what it is to see", message.error);
    case Stage::kFilter:
      return system_error(what + "install its system call filter", message.error);
    case Stage::kSession:
    case Stage::kProtocol:
      break;
  }
  return system_error(what + "prepare its process", message.error);
}

}  // namespace crashworthy

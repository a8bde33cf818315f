#include "faults/tracee.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <mutex>
#include <sstream>

#include "faults/elf_symbols.h"
#include "harness/os/check.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kNever = INT64_MAX;
// A timer's signal that comes just before the wait would be lost: it is repeated.
constexpr std::int64_t kWakeAgainNs = 2'000'000;
constexpr int kMaxInjectedStops = 100;
constexpr int kSyscallStop = SIGTRAP | 0x80;  // PTRACE_O_TRACESYSGOOD

int wake_signal() { return SIGRTMIN + 7; }

thread_local timer_t wake_timer{};
thread_local bool has_wake_timer = false;

timespec time_of(std::int64_t time_ns) {
  return {time_ns / 1'000'000'000, time_ns % 1'000'000'000};
}

// Of the file in the process's own view of the file system.
std::string path_in(pid_t pid, const std::string& path) {
  return "/proc/" + std::to_string(pid) + "/root" + path;
}

// A preloaded or linked allocator comes before that of the C library, and the dynamic linker's own
// comes last.
int rank_of(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  if (name.starts_with("ld-") || name.starts_with("ld.so")) return 2;
  return name.starts_with("libc.so") || name.starts_with("libc-") ? 1 : 0;
}

}  // namespace

std::vector<Mapping> mappings_of(pid_t pid) {
  std::vector<Mapping> mappings;
  const auto text = read_file("/proc/" + std::to_string(pid) + "/maps");
  if (!text) return mappings;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    Mapping mapping;
    char rights[5] = {};
    int path_at = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %4s %lx %*s %*s %n", &mapping.start, &mapping.end,
                    rights, &mapping.offset, &path_at) < 4)
      continue;
    mapping.readable = rights[0] == 'r';
    mapping.writable = rights[1] == 'w';
    mapping.executable = rights[2] == 'x';
    mapping.shared = rights[3] == 's';
    if (path_at > 0) mapping.path = line.substr(static_cast<std::size_t>(path_at));
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

std::optional<std::uint64_t> function_address(pid_t pid, const std::string& name,
                                              std::string* file) {
  std::vector<Mapping> mappings = mappings_of(pid);
  std::stable_sort(mappings.begin(), mappings.end(), [](const Mapping& a, const Mapping& b) {
    return rank_of(a.path) < rank_of(b.path);
  });
  for (const Mapping& mapping : mappings) {
    if (!mapping.executable || !mapping.path.starts_with('/')) continue;
    for (const SymbolPlace& place : find_symbol(path_in(pid, mapping.path), name)) {
      if (place.indirect || place.offset < mapping.offset) continue;
      const std::uint64_t address = mapping.start + (place.offset - mapping.offset);
      if (address >= mapping.end) continue;
      *file = mapping.path;
      return address;
    }
  }
  return std::nullopt;
}

bool get_registers(pid_t tid, Registers* registers) {
  return ::ptrace(PTRACE_GETREGS, tid, nullptr, registers) == 0;
}

bool set_registers(pid_t tid, const Registers& registers) {
  return ::ptrace(PTRACE_SETREGS, tid, nullptr, &registers) == 0;
}

bool poke(pid_t tid, std::uint64_t address, std::span<const std::uint8_t> bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const std::uint64_t at = (address + done) & ~std::uint64_t{7};
    errno = 0;
    long word = ::ptrace(PTRACE_PEEKTEXT, tid, at, nullptr);
    if (errno != 0) return false;
    const std::size_t first = address + done - at;
    const std::size_t count = std::min(bytes.size() - done, sizeof word - first);
    std::memcpy(reinterpret_cast<char*>(&word) + first, bytes.data() + done, count);
    if (::ptrace(PTRACE_POKETEXT, tid, at, word) != 0) return false;
    done += count;
  }
  return true;
}

bool read_memory(pid_t pid, std::uint64_t address, void* into, std::size_t size) {
  const iovec ours{into, size};
  const iovec theirs{reinterpret_cast<void*>(address), size};
  return ::process_vm_readv(pid, &ours, 1, &theirs, 1, 0) == static_cast<ssize_t>(size);
}

bool get_mask(pid_t tid, SignalMask* mask) {
  return ::ptrace(static_cast<__ptrace_request>(PTRACE_GETSIGMASK), tid, sizeof *mask, mask) == 0;
}

bool set_mask(pid_t tid, SignalMask mask) {
  return ::ptrace(static_cast<__ptrace_request>(PTRACE_SETSIGMASK), tid, sizeof mask, &mask) == 0;
}

Waker::Waker() : thread_(::gettid()) {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};  // Without SA_RESTART: the wait returns.
    ::sigaction(wake_signal(), &action, nullptr);
  });
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, wake_signal());
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = wake_signal();
  event._sigev_un._tid = thread_;
  has_wake_timer = ::timer_create(CLOCK_MONOTONIC, &event, &wake_timer) == 0;
}

Waker::~Waker() {
  if (has_wake_timer) ::timer_delete(wake_timer);
  has_wake_timer = false;
}

void Waker::wake() const { ::syscall(SYS_tgkill, ::getpid(), thread_, wake_signal()); }

Stop wait_for_stop(pid_t tid, std::int64_t until_ns) {
  const bool timed = until_ns != kNever && has_wake_timer;
  if (timed) {
    const itimerspec at{time_of(kWakeAgainNs), time_of(std::max<std::int64_t>(until_ns, 1))};
    ::timer_settime(wake_timer, TIMER_ABSTIME, &at, nullptr);
  }
  Stop stop;
  // Only what this thread traces: neither children of others nor their tracees.
  stop.tid = ::waitpid(tid, &stop.status, __WALL | __WNOTHREAD);
  if (stop.tid < 0) {
    stop.none_left = errno == ECHILD;
    stop.tid = 0;
  }
  if (timed) {
    const itimerspec off{};
    ::timer_settime(wake_timer, 0, &off, nullptr);
  }
  return stop;
}

std::optional<std::int64_t> inject_call(pid_t tid, std::uint64_t syscall_instruction, long number,
                                        std::array<std::uint64_t, 6> arguments) {
  Registers registers{};
  if (!get_registers(tid, &registers)) return std::nullopt;
  registers.rip = syscall_instruction;
  registers.rax = static_cast<std::uint64_t>(number);
  registers.orig_rax = ~0ull;  // No interrupted call that the kernel would restart.
  registers.rdi = arguments[0];
  registers.rsi = arguments[1];
  registers.rdx = arguments[2];
  registers.r10 = arguments[3];
  registers.r8 = arguments[4];
  registers.r9 = arguments[5];
  if (!set_registers(tid, registers)) return std::nullopt;
  int syscall_stops = 0;
  for (int i = 0; i < kMaxInjectedStops && syscall_stops < 2; ++i) {
    if (::ptrace(PTRACE_SYSCALL, tid, nullptr, nullptr) != 0) return std::nullopt;
    Stop stop;
    do {
      stop = wait_for_stop(tid, kNever);
    } while (stop.tid == 0 && !stop.none_left);
    if (stop.tid == 0 || !WIFSTOPPED(stop.status)) return std::nullopt;
    if (WSTOPSIG(stop.status) == kSyscallStop) ++syscall_stops;
  }
  if (syscall_stops < 2 || !get_registers(tid, &registers)) return std::nullopt;
  return static_cast<std::int64_t>(registers.rax);
}

std::uint64_t find_syscall_instruction(pid_t pid) {
  constexpr std::array<char, 2> kInstruction{0x0f, 0x05};
  constexpr std::uint64_t kMost = 16 << 20;
  std::vector<Mapping> mappings = mappings_of(pid);
  // The kernel's own page first: every program has it.
  std::stable_partition(mappings.begin(), mappings.end(),
                        [](const Mapping& mapping) { return mapping.path == "[vdso]"; });
  std::vector<char> bytes;
  for (const Mapping& mapping : mappings) {
    if (!mapping.executable || mapping.path == "[vsyscall]") continue;
    bytes.resize(std::min(mapping.end - mapping.start, kMost));
    if (!read_memory(pid, mapping.start, bytes.data(), bytes.size())) continue;
    const auto found =
        std::search(bytes.begin(), bytes.end(), kInstruction.begin(), kInstruction.end());
    if (found != bytes.end())
      return mapping.start + static_cast<std::uint64_t>(found - bytes.begin());
  }
  return 0;
}

}  // namespace crashworthy

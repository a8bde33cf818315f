#include "faults/point/action.h"

#include <cxxabi.h>
#include <execinfo.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <stdexcept>

namespace crashworthy::point {
namespace {

// The accesses below are meant to fail, by themselves and not by the report of a sanitizer.
#define CRASHWORTHY_RAW_ \
  [[gnu::noinline, gnu::no_sanitize_address, gnu::no_sanitize_thread, gnu::no_sanitize_undefined]]

constexpr std::size_t kSignalStack = 64 * 1024;
constexpr std::size_t kStackFrame = 1024;
constexpr int kMostFrames = 1 << 20;  // Where the stack has no limit, the memory shall have one.
constexpr std::uintptr_t kUnmapped = 16;

// ---- The victim's view of its own signal ----

thread_local Firing* current = nullptr;
std::atomic<Firing*> last_throw{nullptr};  // An exception may end in another thread.
struct sigaction before[NSIG];

bool is_open(const Firing* firing) {
  return firing != nullptr && firing->pid == ::getpid() && firing->caught_ns.load() == 0;
}

// Notes the siginfo, and lets the signal do what it would have done without us: what the processor
// raises happens again on return, what was sent is sent again.
void record_signal(int signal, siginfo_t* info, void*) {
  Firing* firing = is_open(current) ? current : last_throw.load();
  if (is_open(firing) && firing->signal == 0) {
    firing->signal_code = info->si_code;
    if (info->si_code <= 0) {
      firing->signal_sender = info->si_pid;
    } else {
      firing->signal_address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    }
    firing->signal = signal;
  }
  ::sigaction(signal, &before[signal], nullptr);
  if (info->si_code <= 0) ::raise(signal);
}

// An overflow leaves no stack for the handler.
void provide_signal_stack() {
  stack_t stack{};
  if (::sigaltstack(nullptr, &stack) != 0 || (stack.ss_flags & SS_DISABLE) == 0) return;
  void* memory = ::mmap(nullptr, kSignalStack, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return;
  stack = {};
  stack.ss_sp = memory;
  stack.ss_size = kSignalStack;
  ::sigaltstack(&stack, nullptr);
}

void watch_signal(int signal, Firing& firing) {
  current = &firing;
  provide_signal_stack();
  struct sigaction ours {};
  ours.sa_sigaction = record_signal;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  struct sigaction found {};
  ::sigaction(signal, &ours, &found);
  if (found.sa_sigaction != record_signal) before[signal] = found;
}

// ---- Saying so before doing it ----

// Only where the number is still an eventfd: the program may have closed it and opened a file.
void tell(int event_fd) {
  if (event_fd <= 0) return;
  char path[32], target[32] = {};
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", event_fd);
  if (::readlink(path, target, sizeof target - 1) < 0) return;
  if (std::strcmp(target, "anon_inode:[eventfd]") != 0) return;
  const std::uint64_t one = 1;
  // It can only be full, and then its reader has enough to read.
  [[maybe_unused]] const ssize_t written = ::write(event_fd, &one, sizeof one);
}

void announce(Firing& firing, int event_fd) {
  if (std::getenv("CRASHWORTHY_POINT_BACKTRACE") != nullptr) {
    void* frames[64];
    ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), STDERR_FILENO);
  }
  firing.time_ns.store(monotonic_ns(), std::memory_order_release);
  tell(event_fd);
}

// ---- The actions ----

CRASHWORTHY_RAW_ void write_to(std::uintptr_t address) {
  asm volatile("" : "+r"(address));
  *reinterpret_cast<volatile char*>(address) = 1;
}

// A page of a file that has none; 0: there is none to be had, and errno says why.
std::uintptr_t page_beyond_a_file() {
  const int file = ::memfd_create("crashworthy-bus", MFD_CLOEXEC);
  if (file < 0) return 0;
  void* memory = ::mmap(nullptr, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)),
                        PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  const int reason = errno;
  ::close(file);
  errno = reason;
  return memory == MAP_FAILED ? 0 : reinterpret_cast<std::uintptr_t>(memory);
}

CRASHWORTHY_RAW_ int divide(int number, int divisor) {
  asm volatile("" : "+r"(number), "+r"(divisor));
  return number / divisor;
}

CRASHWORTHY_RAW_ int recurse(Firing& firing, int depth) {
  volatile char frame[kStackFrame];
  frame[0] = static_cast<char>(depth);
  // Nobody here reads it, and there is no orderly end after which somebody could.
  const_cast<volatile std::uint64_t&>(firing.address) = reinterpret_cast<std::uintptr_t>(&frame[0]);
  const int deeper = depth < kMostFrames ? recurse(firing, depth + 1) : 0;
  return deeper + frame[0];  // After the call, so that this frame stays.
}

// The first free() puts the block where the second looks.
CRASHWORTHY_RAW_ void free_twice() {
  void* block = std::malloc(24);
  void* again = block;
  asm volatile("" : "+r"(again));
  std::free(block);
  std::free(again);
}

[[noreturn]] void lock_for_ever() {
  pthread_mutexattr_t kind;
  ::pthread_mutexattr_init(&kind);
  ::pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_NORMAL);
  pthread_mutex_t mutex;
  ::pthread_mutex_init(&mutex, &kind);
  while (true) ::pthread_mutex_lock(&mutex);
}

[[noreturn]] void spin() {
  while (true) asm volatile("");
}

void sleep_for(std::uint64_t ns) {
  timespec left{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
  while (::clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) continue;
}

void throw_standard(const ThrowNote& note) {
  throw_with(note, std::runtime_error("injected by crashworthy"));
}
std::atomic<Thrower> registered{throw_standard};

// Its destructor runs when the exception finds somebody who catches it.
struct LeaveNote {
  Firing& firing;
  ~LeaveNote() { firing.left_ns.store(monotonic_ns(), std::memory_order_release); }
};

void throw_out(const Entry& entry, Firing& firing, int event_fd) {
  watch_signal(SIGABRT, firing);
  last_throw.store(&firing);
  const LeaveNote note{firing};
  announce(firing, event_fd);
  (entry.value == kThrowStandard ? throw_standard : registered.load())(ThrowNote(firing));
}

void flip_bit(const Entry& entry, Firing& firing, Buffer buffer, int event_fd) {
  if (buffer.bytes == 0) {
    firing.failed = EINVAL;
    announce(firing, event_fd);
    return;
  }
  const std::uint64_t drawn = entry.schedule.draw(~firing.hit);
  firing.bit = static_cast<std::uint32_t>(drawn & 7);
  firing.offset = (drawn >> 3) % buffer.bytes;
  volatile unsigned char* byte = buffer.data + firing.offset;
  firing.address = reinterpret_cast<std::uintptr_t>(byte);
  firing.before = firing.after = *byte;
  announce(firing, event_fd);
  *byte = static_cast<unsigned char>(firing.before ^ (1u << firing.bit));
  firing.after = *byte;
}

void crash(Action action, Firing& firing, int event_fd) {
  switch (action) {
    case Action::kSegv:
      firing.address = kUnmapped;
      watch_signal(SIGSEGV, firing);
      announce(firing, event_fd);
      return write_to(kUnmapped);
    case Action::kBus: {
      const std::uintptr_t page = page_beyond_a_file();
      firing.failed = page == 0 ? errno : 0;
      firing.address = page;
      watch_signal(SIGBUS, firing);
      announce(firing, event_fd);
      if (page != 0) write_to(page);
      return;
    }
    case Action::kFpe:
      watch_signal(SIGFPE, firing);
      announce(firing, event_fd);
      firing.offset = static_cast<std::uint64_t>(divide(1, 0));  // Some processors have a result.
      return;
    case Action::kIll:
      watch_signal(SIGILL, firing);
      announce(firing, event_fd);
      __builtin_trap();
    case Action::kStackOverflow:
      watch_signal(SIGSEGV, firing);
      announce(firing, event_fd);
      recurse(firing, 0);
      return;
    case Action::kHeapCorrupt:
      watch_signal(SIGABRT, firing);
      announce(firing, event_fd);
      return free_twice();
    default:
      watch_signal(SIGABRT, firing);
      announce(firing, event_fd);
      std::abort();
  }
}

}  // namespace

std::int64_t monotonic_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

void act(const Entry& entry, Firing& firing, Buffer buffer, int event_fd) {
  switch (entry.action) {
    case Action::kCount:
      return;
    case Action::kThrow:
      return throw_out(entry, firing, event_fd);
    case Action::kBitflip:
      flip_bit(entry, firing, buffer, event_fd);
      break;
    case Action::kDeadlock:
      announce(firing, event_fd);
      lock_for_ever();
    case Action::kSpin:
      announce(firing, event_fd);
      spin();
    case Action::kSlow:
      announce(firing, event_fd);
      sleep_for(entry.value);
      break;
    case Action::kExitEarly:
      announce(firing, event_fd);
      ::_exit(static_cast<int>(entry.value));
    default:
      crash(entry.action, firing, event_fd);
  }
  firing.left_ns.store(monotonic_ns(), std::memory_order_release);
}

ThrowNote::ThrowNote(Firing& firing)
    : firing_(&firing, [](Firing* its) {
        its->caught_ns.store(monotonic_ns(), std::memory_order_release);
      }) {}

void ThrowNote::write_type(const std::type_info& type) const {
  int failed = 0;
  char* name = abi::__cxa_demangle(type.name(), nullptr, nullptr, &failed);
  std::strncpy(firing_->thrown, failed == 0 ? name : type.name(), sizeof firing_->thrown - 1);
  std::free(name);
}

void set_thrower(Thrower thrower) { registered.store(thrower); }

}  // namespace crashworthy::point

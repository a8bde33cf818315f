// A program for the tests of this room: does one simple thing until it fails, and ends with the
// errno value that it saw as its exit code. Static where that can be had, so that nothing can be
// preloaded.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kPauseUs = 1'000;
constexpr int kSteps = 20'000;
constexpr int kOwnExit = 5;  // Of a handler.

int open_until_it_fails() {
  for (int i = 0; i < kSteps; ++i) {
    if (::open("/dev/null", O_RDONLY) < 0) return errno;
    ::usleep(kPauseUs);
    if (i > 1'000) ::close(i);
  }
  return 0;
}

int fork_until_it_fails() {
  for (int i = 0; i < kSteps; ++i) {
    const pid_t child = ::fork();
    if (child < 0) return errno;
    if (child == 0) ::_exit(0);
    ::waitpid(child, nullptr, 0);
    ::usleep(kPauseUs);
  }
  return 0;
}

int map_until_it_fails() {
  constexpr std::size_t kSize = 1 << 20;
  for (int i = 0; i < kSteps; ++i) {
    void* memory =
        ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return errno;
    ::munmap(memory, kSize);
    ::usleep(kPauseUs);
  }
  return 0;
}

int break_until_it_fails() {
  for (int i = 0; i < kSteps; ++i) {
    if (::sbrk(4096) == reinterpret_cast<void*>(-1)) return errno;
    ::usleep(kPauseUs);
  }
  return 0;
}

// Uses a little more memory all the time, 64 MB at most.
int touch() {
  constexpr std::size_t kSize = 64 << 20;
  auto* memory = static_cast<char*>(
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (std::size_t at = 0; at < kSize; at += 1 << 14) {
    std::memset(memory + at, 1, 1 << 14);
    ::usleep(kPauseUs);
  }
  return 0;
}

[[noreturn]] void* spin(void*) {
  volatile unsigned long count = 0;
  while (true) count = count + 1;
}

int spin_in_threads(int count) {
  for (int i = 1; i < count; ++i) {
    pthread_t thread{};
    ::pthread_create(&thread, nullptr, spin, nullptr);
  }
  spin(nullptr);
}

// Processes below processes, as deep as told, which all go on starting short-lived others.
[[noreturn]] void grow(int depth) {
  for (int i = 0; depth > 0 && i < 2; ++i) {
    if (::fork() == 0) grow(depth - 1);
  }
  while (true) {
    if (::fork() == 0) {
      ::usleep(10 * kPauseUs);
      ::_exit(0);
    }
    ::usleep(10 * kPauseUs);
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}

int wait_for_ever() {
  while (true) ::pause();
}

// Starts itself anew whenever it has died, as a supervisor would.
int restart_for_ever() {
  while (true) {
    const pid_t child = ::fork();
    if (child == 0) wait_for_ever();
    ::waitpid(child, nullptr, 0);
  }
}

void treat_sigterm(const char* how) {
  if (std::strcmp(how, "ignore") == 0) ::signal(SIGTERM, SIG_IGN);
  if (std::strcmp(how, "exit") == 0) ::signal(SIGTERM, [](int) { ::_exit(kOwnExit); });
  if (std::strcmp(how, "catch") == 0) ::signal(SIGTERM, [](int) {});
  if (std::strcmp(how, "block") == 0) {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  const char* how = argc > 2 ? argv[2] : "";
  const auto is = [&](const char* name) { return std::strcmp(what, name) == 0; };
  if (is("term")) treat_sigterm(how);
  (void)!::write(1, "ready\n", 6);
  if (is("open")) return open_until_it_fails();
  if (is("fork")) return fork_until_it_fails();
  if (is("map")) return map_until_it_fails();
  if (is("break")) return break_until_it_fails();
  if (is("touch")) return touch();
  if (is("spin")) return spin_in_threads(std::atoi(how));
  if (is("grow")) grow(std::atoi(how));
  if (is("restart")) return restart_for_ever();
  if (is("exit")) return std::atoi(how);
  if (is("term") || is("wait")) return wait_for_ever();
  std::fprintf(stderr, "victim: do what? '%s' is not known\n", what);
  return 64;
}

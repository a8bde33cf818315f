// The victim of trace_test: passes a function so often, in one of several ways, and exits with 0 if
// nothing of it went wrong.
//
//   victim plain N | deep N | threads T N | fork C N | spawn C | late FILE N | exec PROGRAM N |
//   signals N | stop N
#include <dlfcn.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {
std::atomic<int> passed{0};
}

// Begins with an instruction that is no push: it has to be stepped over.
extern "C" __attribute__((noinline)) int trace_test_pass(int value) {
  passed.fetch_add(1);
  asm volatile("" ::: "memory");
  return value + 1;
}
// Begins with a push.
extern "C" __attribute__((noinline)) int trace_test_deep(int depth) {
  volatile int here = depth;
  return depth > 0 ? trace_test_deep(depth - 1) + here : 0;
}

namespace {

int pass(int times) {
  int sum = 0;
  for (int i = 0; i < times; ++i) sum = trace_test_pass(sum);
  return sum == times ? 0 : 1;
}

int in_threads(int count, int times) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&wrong, times] { wrong += pass(times); });
  for (std::thread& thread : threads) thread.join();
  return wrong == 0 && passed == count * times ? 0 : 1;
}

int reap_all() {
  int wrong = 0;
  int status = 0;
  while (::wait(&status) > 0) wrong += status == 0 ? 0 : 1;
  return wrong;
}

int in_children(int count, int times) {
  for (int i = 0; i < count; ++i) {
    if (::fork() == 0) ::_exit(pass(times));
  }
  return reap_all();
}

int spawned(const char* self, int count) {
  for (int i = 0; i < count; ++i) {
    const char* arguments[] = {self, "plain", "2", nullptr};
    pid_t pid = 0;
    if (::posix_spawn(&pid, self, nullptr, nullptr, const_cast<char**>(arguments), environ) != 0)
      return 1;
  }
  return reap_all();
}

#if !defined(TRACE_TEST_STATIC)
int loaded_late(const char* file, int times) {
  for (int round = 0; round < 2; ++round) {
    void* library = ::dlopen(file, RTLD_NOW);
    if (library == nullptr) return 1;
    const auto function = reinterpret_cast<int (*)(int)>(::dlsym(library, "trace_test_late"));
    if (function == nullptr) return 1;
    for (int i = 0; i < times; ++i) {
      if (function(i) != i + 2) return 1;
    }
    ::dlclose(library);
  }
  return 0;
}
#endif

std::atomic<int> alarms{0};

int with_signals(int times) {
  std::signal(SIGUSR1, [](int) { ++alarms; });
  std::thread other([times] {
    for (int i = 0; i < times; ++i) ::kill(::getpid(), SIGUSR1);
  });
  const int wrong = pass(times);
  other.join();
  return wrong == 0 && alarms > 0 ? 0 : 1;
}

// A child that is stopped and continued as a shell would.
int stopped_and_continued(int times) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::raise(SIGSTOP);
    ::_exit(pass(times));
  }
  int status = 0;
  if (::waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status)) return 1;
  ::kill(child, SIGCONT);
  if (::waitpid(child, &status, 0) != child) return 1;
  return status == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  const char* mode = argv[1];
  const int first = std::atoi(argv[2]);
  const int second = argc > 3 ? std::atoi(argv[3]) : 0;
  if (std::strcmp(mode, "plain") == 0) return pass(first);
  if (std::strcmp(mode, "deep") == 0) return trace_test_deep(first) > 0 ? 0 : 1;
  if (std::strcmp(mode, "threads") == 0) return in_threads(first, second);
  if (std::strcmp(mode, "fork") == 0) return in_children(first, second);
  if (std::strcmp(mode, "spawn") == 0) return spawned(argv[0], first);
#if !defined(TRACE_TEST_STATIC)
  if (std::strcmp(mode, "late") == 0) return loaded_late(argv[2], second);
#endif
  if (std::strcmp(mode, "signals") == 0) return with_signals(first);
  if (std::strcmp(mode, "stop") == 0) return stopped_and_continued(first);
  if (std::strcmp(mode, "exec") == 0) {
    ::execl(argv[2], argv[2], "plain", argv[3], nullptr);
    return 127;
  }
  return 64;
}

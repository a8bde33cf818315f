// The functions that the tests over real processes run as children, and the main() without which
// no function is run.
#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <set>
#include <string>
#include <thread>

#include "harness/os/file.h"
#include "harness/supervision/function.h"

namespace crashworthy {
namespace {

using namespace std::chrono_literals;

constexpr int kTestFd = 7;  // What a test gives to its child.
constexpr int kReadyFd = 3;
constexpr int kHeartbeatFd = 4;

int fail(const char* what) {
  std::perror(what);
  return 99;
}

int sleep_for_ever(const std::string&) {
  while (true) ::pause();
}

// Gives its argument back, byte by byte.
int echo(const std::string& argument) {
  return write_all(kTestFd, argument).ok() ? 0 : fail("write");
}

// "0 1 2 7 ", what descriptor 0 is, and the variables that only a tree sets.
int describe(const std::string&) {
  std::set<int> numbers;
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return fail("opendir");
  while (const dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] != '.') numbers.insert(std::atoi(entry->d_name));
  }
  numbers.erase(::dirfd(directory));
  ::closedir(directory);
  std::string text;
  for (const int number : numbers) text += std::to_string(number) + " ";
  char target[256] = {};
  if (::readlink("/proc/self/fd/0", target, sizeof target - 1) < 0) return fail("readlink");
  text += target;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string variable = *entry;
    const bool ours = variable.starts_with("CRASHWORTHY_") &&
                      !variable.starts_with("CRASHWORTHY_TEST") &&
                      !variable.starts_with("CRASHWORTHY_LONG");
    if (ours) {
      text += " " + variable;
    }
  }
  if (!write_all(kTestFd, text + "\n").ok()) return fail("write");
  if (std::getenv("CRASHWORTHY_READY_FD") != nullptr && !write_all(kReadyFd, "\n").ok()) {
    return fail("write");
  }
  return sleep_for_ever("");
}

// "1\n2\n3\n" and so on, for as long as somebody reads.
int count(const std::string&) {
  for (long number = 1; write_all(kTestFd, std::to_string(number) + "\n").ok(); ++number) {
  }
  return 0;
}

// `argument` heartbeats, and then none.
int beat(const std::string& argument) {
  for (int left = std::atoi(argument.c_str()); left > 0; --left) {
    if (!write_all(kHeartbeatFd, "x").ok()) return fail("write");
    std::this_thread::sleep_for(20ms);
  }
  return sleep_for_ever("");
}

// Dies with a core dump, where the machine allows one. `argument` is the directory for it.
int dump_core(const std::string& argument) {
  rlimit limit{};
  ::getrlimit(RLIMIT_CORE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_CORE, &limit);
  if (::chdir(argument.c_str()) != 0) return fail("chdir");
  std::abort();
}

int ignore_sigterm(const std::string&) {
  ::signal(SIGTERM, SIG_IGN);
  if (!write_all(kReadyFd, "ready\n").ok()) return fail("write");
  return sleep_for_ever("");
}

}  // namespace
}  // namespace crashworthy

int main(int argc, char** argv) {
  using namespace crashworthy;
  register_function("sleep", sleep_for_ever);
  register_function("echo", echo);
  register_function("describe", describe);
  register_function("count", count);
  register_function("beat", beat);
  register_function("dump_core", dump_core);
  register_function("ignore_sigterm", ignore_sigterm);
  if (const auto code = run_child_function()) return *code;
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

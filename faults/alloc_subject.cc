// A subject for the tests of native.alloc_fail: asks for COUNT blocks by HOW, and exits with the
// number of the one it did not get, 0 when it got all, 100 when it was told so in a wrong way.
// "fork": two children, one after the other, ask by malloc; the sum of what they say.
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

namespace {

constexpr std::size_t kSize = 300'000;
constexpr int kWrong = 100;
void* volatile sink;  // So that nothing is left out.

bool ask(const std::string& how, bool& wrong) {
  errno = 0;
  void* block = nullptr;
  if (how == "malloc" || how == "fork") {
    block = std::malloc(kSize);
  } else if (how == "calloc") {
    block = std::calloc(kSize / 4, 4);
  } else if (how == "realloc") {
    void* before = std::malloc(16);
    block = std::realloc(before, kSize);
    if (block == nullptr) std::free(before);  // It is still ours.
  } else if (how == "memalign") {
    block = ::memalign(64, kSize);
  } else if (how == "aligned_alloc") {
    block = ::aligned_alloc(64, kSize - kSize % 64);
  } else if (how == "posix_memalign") {
    const int said = ::posix_memalign(&block, 64, kSize);
    wrong = said != 0 && said != ENOMEM;
    if (said != 0) return false;
  } else {
    try {
      block = how == "new" ? ::operator new(kSize) : ::operator new(kSize, std::align_val_t(64));
    } catch (const std::bad_alloc&) {
      return false;
    }
  }
  if (block == nullptr) {
    wrong = errno != ENOMEM;
    return false;
  }
  std::memset(block, 1, kSize - 64);
  sink = block;
  std::free(sink);
  return true;
}

int ask_all(const std::string& how, int count) {
  int failed = 0;
  for (int i = 1; i <= count; ++i) {
    bool wrong = false;
    if (ask(how, wrong)) continue;
    if (wrong || failed != 0) return kWrong;
    failed = i;
  }
  return failed;
}

int ask_in_children(int count) {
  int sum = 0;
  for (int child = 0; child < 2; ++child) {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(ask_all("malloc", count));
    int status = 0;
    ::waitpid(pid, &status, 0);
    sum += WEXITSTATUS(status);
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return kWrong;
  const int count = std::atoi(argv[2]);
  return argv[1] == std::string("fork") ? ask_in_children(count) : ask_all(argv[1], count);
}

// crashworthy-start FD COMMAND...: put before a command by process.slow_start and
// process.fail_start. Waits or refuses as the memory behind FD says, writes down what it did, and
// becomes the command. A restarted command comes by here again.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "faults/start_log.h"

namespace {

using crashworthy::StartLog;

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

void sleep_until(std::int64_t until_ns) {
  const timespec until{until_ns / 1'000'000'000, until_ns % 1'000'000'000};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int fd = argc > 2 ? std::atoi(argv[1]) : -1;
  void* memory = fd < 0
                     ? MAP_FAILED
                     : ::mmap(nullptr, sizeof(StartLog), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED || static_cast<StartLog*>(memory)->magic != StartLog::kMagic) {
    std::fprintf(stderr, "crashworthy-start is started by crashworthy, not by hand\n");
    return 64;
  }
  ::close(fd);
  auto& log = *static_cast<StartLog*>(memory);
  const std::uint32_t number = log.count.fetch_add(1);
  StartLog::Start none;
  StartLog::Start& start = number < StartLog::kMaxStarts ? log.starts[number] : none;
  start.pid = ::getpid();
  start.begun_ns = now_ns();
  if (log.delay_ns > 0) {
    sleep_until(start.begun_ns + log.delay_ns);
    start.slept_ns = now_ns();
  }
  if (number < static_cast<std::uint64_t>(log.refusals)) {
    start.refused_ns = now_ns();
    ::_exit(log.code);
  }
  ::execvp(argv[2], argv + 2);
  start.error = errno;
  std::fprintf(stderr, "unable to start '%s': %s\n", argv[2], std::strerror(start.error));
  return start.error == ENOENT ? 127 : 126;  // As a shell ends then.
}

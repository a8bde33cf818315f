// call-victim: makes system calls, and says on stdout what it saw of them. For tests of faults that
// strike calls; built once more as a static program.
//
//   call-victim count N FILE [THREADS [PROCESSES]]   N writes of 8 bytes in each thread of each
//                                                    process, at places of their own
//   call-victim copy IN OUT                          reads IN and writes OUT, in loops that go on
//                                                    after short transfers; says how many were
//                                                    short
//   call-victim pipe SIZE                            a process writes to another, which reads
//   call-victim write FD                             5 writes to FD, then 5 to stderr
//   call-victim time FILE                            the duration of each of 5 fsyncs
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>
#include <thread>
#include <vector>

namespace {

struct Seen {
  std::atomic<int> errors = 0;
  std::atomic<int> number = 0;
  std::atomic<long> at = -1;  // The place of the last error.
};

void write_places(int file, long first, long count, Seen* seen) {
  for (long i = first; i < first + count; ++i) {
    const std::int64_t value = i + 1;
    if (::pwrite(file, &value, sizeof value, i * 8) == sizeof value) continue;
    seen->number = errno;
    seen->at = i;
    ++seen->errors;
  }
}

int count(long calls, const char* path, int threads, int processes) {
  void* memory =
      ::mmap(nullptr, sizeof(Seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  Seen* seen = new (memory) Seen;
  const int file = ::open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  for (int p = 0; p < processes; ++p) {
    if (processes > 1 && ::fork() != 0) continue;
    std::vector<std::thread> running;
    const long first = p * threads * calls;
    for (int t = 1; t < threads; ++t)
      running.emplace_back(write_places, file, first + t * calls, calls, seen);
    write_places(file, first, calls, seen);
    for (std::thread& thread : running) thread.join();
    if (processes > 1) ::_exit(0);
  }
  while (::waitpid(-1, nullptr, 0) > 0) continue;
  std::printf("errors=%d errno=%d at=%ld\n", seen->errors.load(), seen->number.load(),
              seen->at.load());
  return 0;
}

// Reads in two buffers at a time.
int copy(const char* from, const char* to) {
  constexpr std::size_t kHalf = 500;
  const int in = ::open(from, O_RDONLY);
  const int out = ::open(to, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  char data[2 * kHalf];
  int short_reads = 0, short_writes = 0, ends = 0;
  while (ends == 0) {
    const iovec parts[] = {{data, kHalf}, {data + kHalf, kHalf}};
    const ssize_t got = ::readv(in, parts, 2);
    if (got < 0) return 1;
    if (got < static_cast<ssize_t>(sizeof data)) ++short_reads;
    if (got == 0) ++ends;
    for (ssize_t done = 0; done < got;) {
      const ssize_t put = ::write(out, data + done, static_cast<std::size_t>(got - done));
      if (put <= 0) return 2;
      if (put < got - done) ++short_writes;
      done += put;
    }
  }
  std::printf("short_reads=%d short_writes=%d\n", short_reads, short_writes);
  return 0;
}

int pipe_between(std::size_t size) {
  int ends[2];
  if (::pipe(ends) != 0) return 1;
  const pid_t child = ::fork();
  if (child == 0) {
    ::usleep(100'000);  // The reader waits.
    std::vector<char> data(size, 'x');
    for (std::size_t done = 0; done < size;) {
      const ssize_t put = ::write(ends[1], data.data() + done, size - done);
      if (put <= 0) ::_exit(1);
      done += static_cast<std::size_t>(put);
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  std::vector<char> data(size);
  std::size_t total = 0;
  ssize_t first = -1;
  while (true) {
    const ssize_t got = ::read(ends[0], data.data(), data.size());
    if (got < 0) return 2;
    if (first < 0) first = got;
    if (got == 0) break;
    total += static_cast<std::size_t>(got);
  }
  ::waitpid(child, nullptr, 0);
  std::printf("first=%zd total=%zu\n", first, total);
  return 0;
}

int write_to(int descriptor) {
  int errors[2] = {0, 0};
  const int files[2] = {descriptor, STDERR_FILENO};
  for (int i = 0; i < 10; ++i) {
    const std::int64_t value = 1;
    if (::write(files[i / 5], &value, sizeof value) < 0) ++errors[i / 5];
  }
  std::printf("errors=%d,%d\n", errors[0], errors[1]);
  return 0;
}

int time_syncs(const char* path) {
  const int file = ::open(path, O_WRONLY | O_CREAT, 0644);
  long long ms[5];
  for (long long& one : ms) {
    timespec before{}, after{};
    ::clock_gettime(CLOCK_MONOTONIC, &before);
    if (::fsync(file) != 0) return 1;
    ::clock_gettime(CLOCK_MONOTONIC, &after);
    one = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1'000'000;
  }
  std::printf("%lld %lld %lld %lld %lld\n", ms[0], ms[1], ms[2], ms[3], ms[4]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto is = [&](const char* name, int arguments) {
    return argc >= 2 + arguments && std::strcmp(argv[1], name) == 0;
  };
  if (is("count", 2)) {
    return count(std::atol(argv[2]), argv[3], argc > 4 ? std::atoi(argv[4]) : 1,
                 argc > 5 ? std::atoi(argv[5]) : 1);
  }
  if (is("copy", 2)) return copy(argv[2], argv[3]);
  if (is("pipe", 1)) return pipe_between(static_cast<std::size_t>(std::atol(argv[2])));
  if (is("write", 1)) return write_to(std::atoi(argv[2]));
  if (is("time", 1)) return time_syncs(argv[2]);
  return 64;
}

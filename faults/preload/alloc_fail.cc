// libcrashworthy-alloc.so: put before the C library by LD_PRELOAD, it lets the chosen call of the
// malloc family fail, in whichever process of the trial makes it.
//
// operator new needs nothing of its own here: the C++ library's calls malloc, gets null, and does
// what it does when memory is exhausted (the program's new handler, or std::bad_alloc).
//
// It must be nothing to a program that is not its victim: it needs no library but libc, keeps no
// memory, and costs a call two branches and a jump. Whoever is next in line allocates: libc, or an
// allocator that the program has preloaded or linked.
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>

#include "faults/preload/alloc_table.h"

namespace {

using crashworthy::alloc::Firing;
using crashworthy::alloc::Function;
using crashworthy::alloc::kMaxFirings;
using crashworthy::alloc::Table;

#define EXPORT_ extern "C" [[gnu::visibility("default")]]

struct Real {
  void* (*malloc)(std::size_t);
  void* (*calloc)(std::size_t, std::size_t);
  void* (*realloc)(void*, std::size_t);
  void* (*memalign)(std::size_t, std::size_t);
  void* (*aligned_alloc)(std::size_t, std::size_t);
  int (*posix_memalign)(void**, std::size_t, std::size_t);
};

Real real;
Table* table = nullptr;
bool ready = false;
[[gnu::tls_model("initial-exec")]] thread_local bool setting_up = false;

template <typename Pointer>
void find(Pointer& into, const char* name) {
  into = reinterpret_cast<Pointer>(::dlsym(RTLD_NEXT, name));
}

bool is_exempt(const Table& mapped) {
  struct stat self {};
  return ::stat("/proc/self/exe", &self) == 0 && self.st_dev == mapped.exempt_device &&
         self.st_ino == mapped.exempt_inode;
}

Table* map_table() {
  const char* text = std::getenv(crashworthy::alloc::kVariable);
  if (text == nullptr) return nullptr;
  const int fd = std::atoi(text);
  struct stat info {};
  if (fd <= 0 || ::fstat(fd, &info) != 0 || static_cast<std::size_t>(info.st_size) < sizeof(Table))
    return nullptr;
  void* data = ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return nullptr;
  auto* mapped = static_cast<Table*>(data);
  if (mapped->magic == Table::kMagic && !is_exempt(*mapped)) {
    mapped->loaded.fetch_add(1);
    return mapped;
  }
  ::munmap(data, sizeof(Table));
  return nullptr;
}

// At the first call, which may be the dynamic linker's own, before any constructor has run.
[[gnu::noinline]] void set_up() {
  if (setting_up) return;
  const int error = errno;
  setting_up = true;
  if (real.malloc == nullptr) {
    find(real.calloc, "calloc");
    find(real.realloc, "realloc");
    find(real.memalign, "memalign");
    find(real.aligned_alloc, "aligned_alloc");
    find(real.posix_memalign, "posix_memalign");
    find(real.malloc, "malloc");
  }
  if (::environ != nullptr) {
    table = map_table();
    ready = true;
  }
  setting_up = false;
  errno = error;
}

[[gnu::constructor]] void set_up_at_start() {
  if (!ready) set_up();
}

[[gnu::noinline]] bool count(Function function, std::size_t size) {
  if (size < table->size_min) return false;
  const std::uint64_t call = table->schedule.count();
  if (call == 0 || !table->schedule.fires(call)) return false;
  // With the last one done, calls cost again what they cost before.
  if (table->schedule.fired.load() >= table->schedule.times) table->schedule.open.store(0);
  const std::uint32_t index = table->firing_count.fetch_add(1);
  if (index < kMaxFirings) {
    Firing& firing = table->firings[index];
    firing.pid = ::getpid();
    firing.tid = static_cast<std::int32_t>(::syscall(SYS_gettid));
    firing.function = function;
    firing.error = ENOMEM;
    firing.size = size;
    firing.call = call;
    firing.returned = 0;
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    firing.time_ns.store(static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec,
                         std::memory_order_release);
  }
  errno = ENOMEM;
  return true;
}

// Whether this call fails; errno is set then.
inline bool fails(Function function, std::size_t size) {
  if (__builtin_expect(!ready, 0)) set_up();
  if (table == nullptr || table->schedule.open.load(std::memory_order_relaxed) == 0) return false;
  return count(function, size);
}

// While set_up() asks for the next in line, nobody is there to allocate; what dlsym() wants memory
// for, it can do without.
void* nothing() {
  errno = ENOMEM;
  return nullptr;
}

}  // namespace

EXPORT_ void* malloc(std::size_t size) {
  if (fails(Function::kMalloc, size)) return nullptr;
  return real.malloc == nullptr ? nothing() : real.malloc(size);
}

EXPORT_ void* calloc(std::size_t count, std::size_t size) {
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(count, size, &bytes)) return nothing();
  if (fails(Function::kCalloc, bytes)) return nullptr;
  return real.calloc == nullptr ? nothing() : real.calloc(count, size);
}

EXPORT_ void* realloc(void* block, std::size_t size) {
  // With a block and no size it frees, and cannot fail.
  if ((block == nullptr || size != 0) && fails(Function::kRealloc, size)) return nullptr;
  return real.realloc == nullptr ? nothing() : real.realloc(block, size);
}

EXPORT_ void* memalign(std::size_t alignment, std::size_t size) {
  if (fails(Function::kMemalign, size)) return nullptr;
  return real.memalign == nullptr ? nothing() : real.memalign(alignment, size);
}

EXPORT_ void* aligned_alloc(std::size_t alignment, std::size_t size) {
  if (fails(Function::kAlignedAlloc, size)) return nullptr;
  return real.aligned_alloc == nullptr ? nothing() : real.aligned_alloc(alignment, size);
}

EXPORT_ int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  const int error = errno;  // It says by its result what is wrong, not by errno.
  const bool failed = fails(Function::kPosixMemalign, size);
  errno = error;
  if (failed || real.posix_memalign == nullptr) return ENOMEM;
  return real.posix_memalign(block, alignment, size);
}

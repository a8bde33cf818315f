#include "faults/point/point.h"

#include <execinfo.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace crashworthy::point {
namespace {

Table* map_table() {
  const char* text = std::getenv("CRASHWORTHY_POINTS");
  if (text == nullptr) return nullptr;
  const int fd = std::atoi(text);
  struct stat info {};
  if (fd <= 0 || ::fstat(fd, &info) != 0 || static_cast<std::size_t>(info.st_size) < sizeof(Table))
    return nullptr;
  void* data = ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return nullptr;
  auto* mapped = static_cast<Table*>(data);
  if (mapped->magic == Table::kMagic) return mapped;
  ::munmap(data, sizeof(Table));
  return nullptr;
}

std::int64_t monotonic_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

Firing* current_firing = nullptr;  // Of the thread that aborts; the process ends with it.

// Sees the siginfo of our own abort(); returning makes abort() raise the signal again with its
// default effect.
void record_signal(int signal, siginfo_t* info, void*) {
  if (current_firing == nullptr) return;
  current_firing->signal_code = info->si_code;
  current_firing->signal_sender = info->si_pid;
  current_firing->signal = signal;
}

[[noreturn]] void abort_with_evidence(Firing* firing) {
  if (std::getenv("CRASHWORTHY_POINT_BACKTRACE") != nullptr) {
    void* frames[64];
    ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), STDERR_FILENO);
  }
  if (firing != nullptr) {
    current_firing = firing;
    struct sigaction action {};
    action.sa_sigaction = record_signal;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGABRT, &action, nullptr);
    firing->time_ns.store(monotonic_ns(), std::memory_order_release);
  }
  std::abort();
}

Firing* reserve_firing(Table& shared, std::uint32_t entry, std::uint64_t hit) {
  const std::uint32_t index = shared.firing_count.fetch_add(1, std::memory_order_acq_rel);
  if (index >= kMaxFirings) return nullptr;
  Firing& firing = shared.firings[index];
  firing.entry = entry;
  firing.pid = ::getpid();
  firing.tid = static_cast<std::int32_t>(::syscall(SYS_gettid));
  firing.hit = hit;
  return &firing;
}

bool fires(const Entry& entry, std::uint64_t hit) {
  if (entry.action == Action::kCount || entry.first == 0 || hit < entry.first) return false;
  if (hit == entry.first) return entry.times > 0;
  const std::uint64_t since = hit - entry.first;
  return entry.every > 0 && since % entry.every == 0 && since / entry.every < entry.times;
}

}  // namespace

Table* const table = map_table();

void Site::hit() {
  Table& shared = *table;
  const std::uint32_t count = shared.count.load(std::memory_order_acquire);
  Entry* entry = entry_.load(std::memory_order_relaxed);
  if (entry == nullptr && looked_up_.load(std::memory_order_relaxed) != count) {
    for (std::uint32_t i = 0; i < count && entry == nullptr; ++i) {
      if (std::strncmp(shared.entries[i].name, name_, kNameSize) == 0) entry = &shared.entries[i];
    }
    entry_.store(entry, std::memory_order_relaxed);
    looked_up_.store(count, std::memory_order_relaxed);
  }
  if (entry == nullptr) return;
  const std::uint64_t number = entry->hits.fetch_add(1, std::memory_order_acq_rel) + 1;
  if (!fires(*entry, number)) return;
  entry->fired.fetch_add(1, std::memory_order_acq_rel);
  abort_with_evidence(
      reserve_firing(shared, static_cast<std::uint32_t>(entry - shared.entries), number));
}

}  // namespace crashworthy::point

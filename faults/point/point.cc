#include "faults/point/point.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cstdlib>
#include <cstring>

#include "faults/point/action.h"

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

Firing& reserve_firing(Table& shared) {
  static Firing unkept;  // What fires once the table is full leaves no evidence.
  const std::uint32_t index = shared.firing_count.fetch_add(1, std::memory_order_acq_rel);
  return index < kMaxFirings ? shared.firings[index] : unkept;
}

// Whether this hit, of that number, is the poisoned item's.
bool is_poisoned(Entry& entry, std::uint64_t hit, std::uint64_t item) {
  if (item == kNoItem || hit < entry.schedule.first) return false;
  std::uint64_t poisoned = entry.item.load(std::memory_order_acquire);
  if (poisoned == kNoItem && entry.schedule.fires(hit)) {
    // Another may be choosing just now: the first is the one.
    if (entry.item.compare_exchange_strong(poisoned, item, std::memory_order_acq_rel))
      poisoned = item;
  }
  return poisoned == item;
}

}  // namespace

Table* const table = map_table();

struct Site::Passage {
  std::uint64_t item = kNoItem;
  Buffer buffer;
};

void Site::hit() { pass({}); }
void Site::hit_item(std::uint64_t item) { pass({item, {}}); }
void Site::hit_buffer(void* data, std::size_t bytes) {
  pass({kNoItem, {static_cast<unsigned char*>(data), bytes}});
}

std::uint32_t Site::entries(const Table& shared) {
  const std::uint64_t count = shared.count.load(std::memory_order_acquire);
  const std::uint64_t known = found_.load(std::memory_order_relaxed);
  if (known >> 32 == count) return static_cast<std::uint32_t>(known);
  std::uint32_t ours = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (std::strncmp(shared.entries[i].name, name_, kNameSize) == 0) ours |= 1u << i;
  }
  found_.store(count << 32 | ours, std::memory_order_relaxed);
  return ours;
}

void Site::pass(const Passage& passage) {
  Table& shared = *table;
  const std::uint32_t ours = entries(shared);
  // All of them count this hit before any of them acts, after which there may be no more to do.
  std::uint32_t firing = 0;
  std::uint64_t hits[kMaxEntries];
  for (std::uint32_t left = ours; left != 0; left &= left - 1) {
    const int i = std::countr_zero(left);
    Entry& entry = shared.entries[i];
    hits[i] = entry.schedule.count();
    if (hits[i] == 0 || entry.action == Action::kCount) continue;
    const bool fires = entry.action == Action::kPoison ? is_poisoned(entry, hits[i], passage.item)
                                                       : entry.schedule.fires(hits[i]);
    if (fires) firing |= 1u << i;
  }
  for (; firing != 0; firing &= firing - 1) {
    const int i = std::countr_zero(firing);
    Firing& record = reserve_firing(shared);
    record.entry = static_cast<std::uint32_t>(i);
    record.pid = ::getpid();
    record.tid = static_cast<std::int32_t>(::syscall(SYS_gettid));
    record.hit = hits[i];
    record.item = passage.item;
    act(shared.entries[i], record, passage.buffer, shared.event_fd);
  }
}

}  // namespace crashworthy::point

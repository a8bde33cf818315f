#include "harness/probe/probe.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "harness/os/clock.h"

namespace crashworthy {

struct ProbeHeader {
  static constexpr std::uint64_t kMagic = 0x31424f5250575243;  // "CRWPROB1"
  std::uint64_t magic;
  std::uint64_t capacity;
  alignas(64) std::atomic<std::uint64_t> head;  // Next position to be reserved.
  alignas(64) std::atomic<std::uint64_t> tail;  // Next position to be read.
  std::atomic<std::uint64_t> dropped;
  alignas(64) std::array<std::atomic<std::uint64_t>, kProbeEventCount> counts;
  alignas(64) std::array<std::atomic<std::uint64_t>, kProbeEventCount> watched;  // 0: nobody waits.

  ProbeRecord* slot(std::uint64_t position) {
    auto* records = reinterpret_cast<ProbeRecord*>(reinterpret_cast<std::byte*>(this) + kRecordsAt);
    return records + (position & (capacity - 1));
  }
  static constexpr std::size_t kRecordsAt = 4096;
};
static_assert(sizeof(ProbeHeader) <= ProbeHeader::kRecordsAt);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free,
              "the ring is shared between processes");

namespace {

std::atomic_ref<std::uint64_t> stamp_of(ProbeRecord* record) {
  return std::atomic_ref<std::uint64_t>(record->stamp);
}

void notify(int event_fd) {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored =
      ::write(event_fd, &one, sizeof one);  // Full means already readable.
}

}  // namespace

const char* probe_event_name(ProbeEvent event) {
  static constexpr std::array<const char*, kProbeEventCount> kNames{
      "none",         "taken",       "started",     "done",  "failed",   "delivered",
      "worker_ready", "worker_died", "replacement", "error", "suspected"};
  const auto index = static_cast<std::size_t>(event);
  return index < kNames.size() ? kNames[index] : "unknown";
}

const char* failure_reason_name(FailureReason reason) {
  switch (reason) {
    case FailureReason::kUnreadable:
      return "unreadable";
    case FailureReason::kPoison:
      return "poison";
    case FailureReason::kDeadline:
      return "deadline";
    case FailureReason::kWrite:
      return "write";
    case FailureReason::kTooLarge:
      return "too_large";
    case FailureReason::kRetries:
      return "retries";
    case FailureReason::kThrew:
      return "threw";
    case FailureReason::kReported:
      return "reported";
  }
  return "unknown";
}

Probe Probe::from_environment() {
  Probe probe;
  const char* text = std::getenv("CRASHWORTHY_PROBE");
  int ring_fd = -1;
  int event_fd = -1;
  if (text == nullptr || std::sscanf(text, "%d,%d", &ring_fd, &event_fd) != 2) return probe;
  struct stat info {};
  if (::fstat(ring_fd, &info) != 0 ||
      static_cast<std::size_t>(info.st_size) <= ProbeHeader::kRecordsAt)
    return probe;
  void* data = ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ | PROT_WRITE,
                      MAP_SHARED, ring_fd, 0);
  if (data == MAP_FAILED) return probe;
  auto* header = static_cast<ProbeHeader*>(data);
  if (header->magic != ProbeHeader::kMagic) {
    ::munmap(data, static_cast<std::size_t>(info.st_size));
    return probe;
  }
  probe.header_ = header;
  probe.event_fd_ = event_fd;
  return probe;
}

void Probe::emit(ProbeEvent event, const ProbeIdentity& who, std::uint64_t item, std::uint32_t part,
                 std::uint32_t attempt, std::int64_t value) const {
  if (header_ == nullptr) return;
  emit_for(::getpid(), event, who, item, part, attempt, value);
}

void Probe::emit_for(std::int32_t pid, ProbeEvent event, const ProbeIdentity& who,
                     std::uint64_t item, std::uint32_t part, std::uint32_t attempt,
                     std::int64_t value) const {
  if (header_ == nullptr) return;
  const std::int64_t time_ns = now_ns();
  const std::uint64_t position = header_->head.fetch_add(1, std::memory_order_relaxed);
  if (position - header_->tail.load(std::memory_order_acquire) >= header_->capacity) {
    header_->dropped.fetch_add(
        1, std::memory_order_relaxed);  // The slot still holds an unread record.
  } else {
    ProbeRecord* record = header_->slot(position);
    record->time_ns = time_ns;
    record->item = item;
    record->part = part;
    record->attempt = attempt;
    record->pid = pid;
    record->worker = who.worker;
    record->incarnation = who.incarnation;
    record->event = static_cast<std::uint16_t>(event);
    record->value = value;
    stamp_of(record).store(position + 1, std::memory_order_release);
  }
  const auto kind = static_cast<std::size_t>(event);
  const std::uint64_t count = header_->counts[kind].fetch_add(1, std::memory_order_acq_rel) + 1;
  if (count == header_->watched[kind].load(std::memory_order_acquire)) notify(event_fd_);
}

std::uint64_t Probe::count(ProbeEvent event) const {
  if (header_ == nullptr) return 0;
  return header_->counts[static_cast<std::size_t>(event)].load(std::memory_order_acquire);
}

void Probe::hide_from_programs() {
  const char* text = std::getenv("CRASHWORTHY_PROBE");
  int descriptors[2] = {-1, -1};
  if (text != nullptr && std::sscanf(text, "%d,%d", &descriptors[0], &descriptors[1]) == 2) {
    for (const int fd : descriptors) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  ::unsetenv("CRASHWORTHY_PROBE");
}

Result<ProbeRing> ProbeRing::create(std::size_t capacity) {
  CRASHWORTHY_CHECK(capacity > 0 && (capacity & (capacity - 1)) == 0, capacity);
  auto memory = SharedMemory::create("crashworthy-probe",
                                     ProbeHeader::kRecordsAt + capacity * sizeof(ProbeRecord));
  if (!memory) return memory.error();
  ProbeRing ring;
  ring.memory_ = std::move(*memory);
  ring.event_fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!ring.event_fd_.valid()) return system_error("create an event descriptor", errno);
  ring.capacity_ = capacity;
  ring.header()->capacity = capacity;
  ring.header()->magic = ProbeHeader::kMagic;
  return ring;
}

std::string ProbeRing::environment(int ring_fd, int event_fd) {
  return "CRASHWORTHY_PROBE=" + std::to_string(ring_fd) + "," + std::to_string(event_fd);
}

ProbeHeader* ProbeRing::header() const { return reinterpret_cast<ProbeHeader*>(memory_.data()); }

void ProbeRing::drain(std::vector<ProbeRecord>& out, bool final) {
  ProbeHeader* ring = header();
  const std::uint64_t head = ring->head.load(std::memory_order_acquire);
  // At most a ringful is there; positions beyond it found the ring full and were dropped.
  for (std::uint64_t left = std::min<std::uint64_t>(head - tail_, capacity_); left > 0; --left) {
    const std::uint64_t position = tail_;
    auto* records = reinterpret_cast<ProbeRecord*>(memory_.data() + ProbeHeader::kRecordsAt);
    ProbeRecord* record = records + (position & (capacity_ - 1));
    if (stamp_of(record).load(std::memory_order_acquire) != position + 1) {
      const std::int64_t now = now_ns();
      if (gap_since_ns_ == 0) gap_since_ns_ = now;
      if (!final && now - gap_since_ns_ < kGapPatienceNs) break;
      ++gaps_;
    } else {
      out.push_back(*record);
    }
    gap_since_ns_ = 0;
    ring->tail.store(++tail_, std::memory_order_release);
  }
}

void ProbeRing::watch(ProbeEvent event, std::uint64_t count) {
  const auto kind = static_cast<std::size_t>(event);
  header()->watched[kind].store(count, std::memory_order_release);
  if (count != 0 && header()->counts[kind].load(std::memory_order_acquire) >= count)
    notify(event_fd_.get());
}

std::uint64_t ProbeRing::count(ProbeEvent event) const {
  return header()->counts[static_cast<std::size_t>(event)].load(std::memory_order_acquire);
}

std::uint64_t ProbeRing::dropped() const {
  return header()->dropped.load(std::memory_order_relaxed);
}

void ProbeRing::clear_event() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t ignored = ::read(event_fd_.get(), &count, sizeof count);
}

Probe ProbeRing::probe() const {
  Probe probe;
  probe.header_ = header();
  probe.event_fd_ = event_fd_.get();
  return probe;
}

}  // namespace crashworthy

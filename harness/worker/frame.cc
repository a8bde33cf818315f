#include "harness/worker/frame.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <utility>

#include "harness/os/check.h"

namespace crashworthy {
namespace {

constexpr std::uint64_t kPage = 4096;
// Memory of a frame that goes back to the system with it, instead of waiting for the next one.
constexpr std::uint64_t kLargeFrame = std::uint64_t{16} << 20;

std::uint64_t whole_pages(std::uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

}  // namespace

std::size_t frame_extent(std::size_t bytes) { return whole_pages(bytes) + kPage; }

struct Frame::Owner {
  std::shared_ptr<FrameArena> arena;
  FrameRef ref;

  Owner(std::shared_ptr<FrameArena> of, FrameRef which) : arena(std::move(of)), ref(which) {}
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
  ~Owner() {
    if (ref.bytes > 0) arena->release(ref.region, ref.offset, frame_extent(ref.bytes));
  }
};

std::byte* Frame::data() const {
  return owner_ ? owner_->arena->at(owner_->ref.region, owner_->ref.offset) : nullptr;
}

FrameRef Frame::ref() const { return owner_ ? owner_->ref : FrameRef{}; }

FrameArena::FrameArena(SharedMemory memory, std::size_t regions, std::size_t region_bytes,
                       std::size_t bank_bytes)
    : memory_(std::move(memory)),
      region_bytes_(region_bytes),
      free_(regions),
      free_banks_(regions),
      bank_bytes_(bank_bytes) {
  const std::size_t banks = kBanks * bank_bytes;
  for (Extents& extents : free_) extents.emplace(banks, region_bytes - banks);
  for (auto& free : free_banks_) {
    if (bank_bytes > 0) free.set();
  }
}

Result<std::shared_ptr<FrameArena>> FrameArena::create(std::size_t regions,
                                                       std::size_t region_bytes,
                                                       std::size_t bank_bytes) {
  constexpr std::size_t kMost = std::size_t{1} << 62;  // More than any machine can map.
  const std::size_t bank = whole_pages(bank_bytes);
  if (region_bytes > kMost || bank > kMost / (2 * kBanks)) {
    return system_error("size shared memory for frames", EFBIG);
  }
  region_bytes += kBanks * bank;
  const std::size_t rounded = whole_pages(region_bytes);
  if (rounded < region_bytes || rounded > kMost / std::max<std::size_t>(regions, 1)) {
    return system_error("size shared memory for frames", EFBIG);
  }
  auto memory = SharedMemory::create("crashworthy-frames", regions * rounded);
  if (!memory) return memory.error();
  // A core dump reads all that is mapped, and what is read of a memfd takes memory from then on:
  // the death of one worker would fill the whole arena. Should it be refused, we are no worse off.
  ::madvise(memory->data(), memory->size(), MADV_DONTDUMP);
  return std::shared_ptr<FrameArena>(new FrameArena(*std::move(memory), regions, rounded, bank));
}

Frame FrameArena::allocate(std::uint32_t region, std::size_t bytes) {
  CRASHWORTHY_CHECK(bytes > 0 && region < free_.size(), bytes, region);
  if (bytes > region_bytes_) return {};
  const std::uint64_t length = frame_extent(bytes);
  const std::lock_guard lock(mutex_);
  Extents& extents = free_[region];
  for (auto extent = extents.begin(); extent != extents.end(); ++extent) {
    const auto [offset, room] = *extent;
    if (room < length) continue;
    extents.erase(extent);
    if (room > length) extents.emplace(offset + length, room - length);
    return hold(region, offset, bytes);
  }
  return {};
}

Frame FrameArena::hold(std::uint32_t region, std::uint64_t offset, std::size_t bytes) {
  return Frame(
      std::make_shared<Frame::Owner>(shared_from_this(), FrameRef{region, 0, offset, bytes}));
}

Frame FrameArena::allocate_output(std::uint32_t region, std::size_t bytes) {
  if (bytes > 0 && frame_extent(bytes) <= bank_bytes_) {
    const std::lock_guard lock(mutex_);
    auto& free = free_banks_.at(region);
    for (std::size_t bank = 0; bank < kBanks; ++bank) {
      if (!free.test(bank)) continue;
      free.reset(bank);
      return hold(region, bank * bank_bytes_, bytes);
    }
  }
  return allocate(region, bytes);
}

void FrameArena::shrink(Frame& frame, std::size_t bytes) {
  if (!frame) return;
  FrameRef& ref = frame.owner_->ref;
  CRASHWORTHY_CHECK(frame.owner_.use_count() == 1 && bytes <= ref.bytes, bytes, ref.bytes);
  if (bytes == 0) {
    frame = Frame();
    return;
  }
  const std::uint64_t kept = frame_extent(bytes);
  const std::uint64_t length = frame_extent(std::exchange(ref.bytes, bytes));
  const bool banked = ref.offset < kBanks * bank_bytes_;  // A bank has one frame, however small.
  if (kept < length && !banked) release(ref.region, ref.offset + kept, length - kept);
}

void FrameArena::release(std::uint32_t region, std::uint64_t offset, std::uint64_t length) {
  // Before anybody else may take it. Should it fail, the memory waits for the next frame there.
  if (length > kLargeFrame && owner_.is_here()) {  // Else it is no place of ours to empty.
    ::fallocate(memory_.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(region * region_bytes_ + offset), static_cast<off_t>(length));
  }
  const std::lock_guard lock(mutex_);
  if (offset < kBanks * bank_bytes_) {
    free_banks_[region].set(offset / bank_bytes_);
    return;
  }
  Extents& extents = free_[region];
  const auto next = extents.lower_bound(offset);
  CRASHWORTHY_CHECK(next == extents.end() || offset + length <= next->first, region, offset);
  auto merged = extents.emplace_hint(next, offset, length);
  if (next != extents.end() && offset + length == next->first) {
    merged->second += next->second;
    extents.erase(next);
  }
  if (merged == extents.begin()) return;
  const auto before = std::prev(merged);
  CRASHWORTHY_CHECK(before->first + before->second <= offset, region, offset);
  if (before->first + before->second == offset) {
    before->second += merged->second;
    extents.erase(merged);
  }
}

std::span<std::byte> FrameArena::view(const FrameRef& ref) const {
  if (ref.region >= free_.size() || ref.offset > region_bytes_ ||
      ref.bytes > region_bytes_ - ref.offset) {
    return {};
  }
  return {at(ref.region, ref.offset), ref.bytes};
}

void FrameArena::give_up() {
  memory_.close_descriptor();
  seal_all();
}

void FrameArena::seal_all() {
  const int refused = ::mprotect(memory_.data(), memory_.size(), PROT_READ);
  CRASHWORTHY_CHECK(refused == 0, errno);
}

bool FrameArena::protect(const FrameRef& ref, int protection) const {
  const std::span<std::byte> bytes = view(ref);
  return bytes.empty() || ::mprotect(bytes.data(), whole_pages(bytes.size()), protection) == 0;
}

bool FrameArena::unseal(const FrameRef& ref) const {
  if (is_copied(ref)) return true;
  if (const auto key = key_of(ref)) return ::pkey_set(*key, 0) == 0;
  return protect(ref, PROT_READ | PROT_WRITE);
}

bool FrameArena::seal(const FrameRef& ref) const {
  if (is_copied(ref)) return true;
  if (const auto key = key_of(ref)) return ::pkey_set(*key, PKEY_DISABLE_WRITE) == 0;
  return protect(ref, PROT_READ);
}

// ---- Protection keys ----

std::optional<int> FrameArena::key_of(const FrameRef& ref) const {
  if (keys_.empty() || ref.bytes == 0 || ref.offset >= kBanks * bank_bytes_) return std::nullopt;
  return keys_[ref.offset / bank_bytes_];
}

void FrameArena::use_keys(std::uint32_t region) {
  if (bank_bytes_ == 0) return;
  std::vector<int> keys;
  for (std::size_t bank = 0; bank < kBanks; ++bank) {
    const int key = ::pkey_alloc(0, PKEY_DISABLE_WRITE);
    if (key < 0) break;
    keys.push_back(key);
  }
  bool all = keys.size() == kBanks;
  for (std::size_t bank = 0; all && bank < kBanks; ++bank) {
    // The last page of a bank is its guard.
    all = ::pkey_mprotect(at(region, bank * bank_bytes_), bank_bytes_ - kPage,
                          PROT_READ | PROT_WRITE, keys[bank]) == 0;
  }
  if (all) {
    keys_ = std::move(keys);
    return;
  }
  // As if nothing had been; key 0 is what all memory has.
  for (std::size_t bank = 0; bank < kBanks; ++bank) {
    ::pkey_mprotect(at(region, bank * bank_bytes_), bank_bytes_ - kPage, PROT_READ, 0);
  }
  for (const int key : keys) ::pkey_free(key);
}

// ---- Copies ----

void FrameArena::use_copies() {
  auto file = FileIdentity::of(memory_.fd());
  // Shared: what a job forks fills its output, too.
  void* memory = ::mmap(nullptr, kMostCopied + kPage, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (!file || memory == MAP_FAILED) return;  // Then frames are opened and closed.
  auto* copy = static_cast<std::byte*>(memory);
  if (::mprotect(copy + kMostCopied, kPage, PROT_NONE) != 0) return;
  file_ = *file;
  copy_ = copy;
}

bool FrameArena::is_copied(const FrameRef& ref) const {
  return copy_ != nullptr && ref.bytes <= kMostCopied && !key_of(ref);
}

std::span<std::byte> FrameArena::writable(const FrameRef& ref) const {
  if (!is_copied(ref)) return view(ref);
  return {copy_ + kMostCopied - whole_pages(ref.bytes), ref.bytes};
}

bool FrameArena::write_back(const FrameRef& ref, std::size_t bytes) const {
  if (!is_copied(ref)) return true;
  const std::span<std::byte> target = view(ref);
  CRASHWORTHY_CHECK(bytes <= target.size(), bytes, target.size());
  const std::byte* from = writable(ref).data();
  if (!file_.is(memory_.fd())) {  // A job has closed it.
    if (!protect(ref, PROT_READ | PROT_WRITE)) return false;
    std::memcpy(target.data(), from, bytes);
    return protect(ref, PROT_READ);
  }
  auto at = static_cast<off_t>(target.data() - memory_.data());
  while (bytes > 0) {
    const ssize_t written = ::pwrite(memory_.fd(), from, bytes, at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    from += written;
    at += written;
    bytes -= static_cast<std::size_t>(written);
  }
  return true;
}

}  // namespace crashworthy

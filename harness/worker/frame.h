// Frames: pixels, or any bytes, in shared memory. They pass between the coordinator and its workers
// by name. A worker fills a small one beside it (use_copies()).
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "harness/os/file_identity.h"
#include "harness/os/result.h"
#include "harness/os/shared_memory.h"
#include "harness/worker/forked.h"

namespace crashworthy {

// The name of a frame: valid in every process of the executor that gave it, for as long as somebody
// holds the Frame. Plain data, so it may stand in a job's arguments or in another frame.
struct FrameRef {
  std::uint32_t region = 0;
  std::uint32_t reserved = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

class FrameArena;

// What a frame of `bytes` bytes takes of its region: whole pages, and its guard page.
std::size_t frame_extent(std::size_t bytes);

// A shared hold on a frame of the arena; the last one gives the memory back. Empty when made by
// default. Copies may live in different threads. Outlives the executor that gave it.
class Frame {
 public:
  Frame() = default;
  explicit operator bool() const { return owner_ != nullptr; }
  // What the frame held before is still in it; who takes a frame writes all of what he hands on.
  std::byte* data() const;
  std::size_t size() const { return ref().bytes; }
  FrameRef ref() const;

 private:
  friend class FrameArena;
  struct Owner;
  explicit Frame(std::shared_ptr<Owner> owner) : owner_(std::move(owner)) {}
  std::shared_ptr<Owner> owner_;
};

// One anonymous shared mapping, cut into equal regions, each written by one process at most. Takes
// memory only where it is touched, and is no part of a core dump.
//
// Between two frames lies a guard page that is part of neither: in a worker, who may write to its
// leased frames alone, an overrun ends there. Safe from any thread. Held by shared_ptr, since
// frames keep it alive.
class FrameArena : public std::enable_shared_from_this<FrameArena> {
 public:
  // Parts of a region that hold one frame at most, so that each can have a protection key. The
  // guard page is behind the bank, then.
  static constexpr std::size_t kBanks = 12;

  // Sizes are rounded up to whole pages. With `bank_bytes` each region has kBanks banks of that
  // size in front of its `region_bytes`.
  static Result<std::shared_ptr<FrameArena>> create(std::size_t regions, std::size_t region_bytes,
                                                    std::size_t bank_bytes = 0);

  std::size_t region_bytes() const { return region_bytes_; }

  // The lowest free place of the region that has room for `bytes` (at least 1); an empty Frame when
  // there is none.
  Frame allocate(std::uint32_t region, std::size_t bytes);
  // The same, in a bank if it fits one and one is free.
  Frame allocate_output(std::uint32_t region, std::size_t bytes);
  // Gives back what of `frame`, of which nobody else has a copy, lies beyond its first `bytes`
  // bytes; 0 gives back all.
  void shrink(Frame& frame, std::size_t bytes);

  // The bytes of a frame in this process. A reference that leaves its region is answered by an
  // empty span.
  std::span<std::byte> view(const FrameRef& ref) const;

  // In a worker process: makes the whole arena read-only for it, or the pages of one frame
  // writable, or read-only again. False when the kernel refuses, which for the whole is a bug: a
  // job has unmapped the frame, or filled the table of mappings. Of frames that are copied
  // (use_copies()) nothing changes.
  void seal_all();
  // The same for a process that has nothing to do with the arena: it cannot map it anew either.
  void give_up();
  [[nodiscard]] bool unseal(const FrameRef& ref) const;
  [[nodiscard]] bool seal(const FrameRef& ref) const;
  // After seal_all(): from now on the banks of this region are opened and closed by protection keys
  // (pkeys(7)), which takes no system call, but concerns the calling thread alone. Where there are
  // none, nothing changes.
  void use_keys(std::uint32_t region);

  // After seal_all(), once in a worker process: from now on a frame of up to kMostCopied bytes that
  // has no key is never opened here. It is filled beside, in memory of this process and of what
  // that forks, and written back whole by the kernel: two changes of the page table for each frame
  // cost more than the copy, on some virtual machines tens of times as much.
  void use_copies();
  static constexpr std::size_t kMostCopied = std::size_t{256} << 10;
  // Where this process fills a frame: the frame itself once it is unsealed, or its copy, of which a
  // guard page is behind the last page too. One frame at a time.
  std::span<std::byte> writable(const FrameRef& ref) const;
  // The first `bytes` bytes that were filled are in the frame afterwards. False when the kernel
  // refuses, as for unseal().
  [[nodiscard]] bool write_back(const FrameRef& ref, std::size_t bytes) const;

 private:
  friend class Frame;
  friend struct Frame::Owner;
  using Extents = std::map<std::uint64_t, std::uint64_t>;  // Offset and length, in bytes.

  FrameArena(SharedMemory memory, std::size_t regions, std::size_t region_bytes,
             std::size_t bank_bytes);
  Frame hold(std::uint32_t region, std::uint64_t offset, std::size_t bytes);
  // Of the bank that the frame lies in; empty without keys.
  std::optional<int> key_of(const FrameRef& ref) const;
  void release(std::uint32_t region, std::uint64_t offset, std::uint64_t length);
  std::byte* at(std::uint32_t region, std::uint64_t offset) const {
    return memory_.data() + region * region_bytes_ + offset;
  }
  bool protect(const FrameRef& ref, int protection) const;
  bool is_copied(const FrameRef& ref) const;

  const Owner owner_;
  SharedMemory memory_;
  const std::size_t region_bytes_;
  std::mutex mutex_;                             // Guards `free_` and `free_banks_`.
  std::vector<Extents> free_;                    // By region; neighbours are merged.
  std::vector<std::bitset<kBanks>> free_banks_;  // By region.
  const std::size_t bank_bytes_;
  std::vector<int> keys_;  // By bank, in a worker that uses them.
  // In a worker that uses copies: kMostCopied bytes, and the file that they are written back to.
  std::byte* copy_ = nullptr;
  FileIdentity file_;
};

}  // namespace crashworthy

#include "pipelines/tiles/frames.h"

#include <fcntl.h>

#include <new>
#include <utility>

#include "harness/os/check.h"

namespace crashworthy::tiles {
namespace {

using Inode = std::atomic<std::uint64_t>;
static_assert(Inode::is_always_lock_free, "it is shared between processes");

constexpr std::uint64_t kKeptBytes = std::uint64_t{16} << 20;  // Of a frame, between two images.

}  // namespace

Result<FrameSlots> FrameSlots::create(int count, std::uint64_t frame_bytes) {
  FrameSlots frames;
  frames.frame_bytes_ = frame_bytes;
  for (int i = 0; i < count; ++i) {
    auto input = SharedMemory::create("tiles-input", frame_bytes);
    if (!input) return input.error().with_context("make the input frames");
    auto output = SharedMemory::create("tiles-output", frame_bytes);
    if (!output) return output.error().with_context("make the output frames");
    frames.slots_.push_back({*std::move(input), *std::move(output)});
  }
  auto inodes =
      SharedMemory::create("tiles-inodes", static_cast<std::size_t>(count) * sizeof(Inode));
  if (!inodes) return inodes.error().with_context("make the frames");
  frames.inodes_ = *std::move(inodes);
  for (int i = 0; i < count; ++i) new (frames.inodes_.data() + i * sizeof(Inode)) Inode(0);
  return frames;
}

cv::Mat FrameSlots::frame(const SharedMemory& memory, int width, int height, int channels) const {
  const std::uint64_t bytes =
      std::uint64_t(width) * std::uint64_t(height) * std::uint64_t(channels);
  CRASHWORTHY_CHECK(width > 0 && height > 0 && bytes <= frame_bytes_, width, height, channels);
  return cv::Mat(height, width, CV_8UC(channels), memory.data());
}

cv::Mat FrameSlots::input(std::uint32_t slot, int width, int height, int channels) const {
  return frame(slots_.at(slot).input, width, height, channels);
}

cv::Mat FrameSlots::output(std::uint32_t slot, int width, int height, int channels) const {
  return frame(slots_.at(slot).output, width, height, channels);
}

Inode& FrameSlots::inode(std::uint32_t slot) const {
  CRASHWORTHY_CHECK(slot < slots_.size(), slot);
  return *std::launder(reinterpret_cast<Inode*>(inodes_.data() + slot * sizeof(Inode)));
}

void FrameSlots::recycle(std::uint32_t slot, std::uint64_t used_bytes) {
  inode(slot).store(0);
  if (used_bytes <= kKeptBytes) return;
  // Should it fail, the next image writes over it.
  for (const SharedMemory* memory : {&slots_.at(slot).input, &slots_.at(slot).output}) {
    ::fallocate(memory->fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                static_cast<off_t>(frame_bytes_));
  }
}

}  // namespace crashworthy::tiles

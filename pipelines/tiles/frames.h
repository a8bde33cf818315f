// Shared memory for the images in flight. It exists before the workers are forked, so an image goes
// from one process to the next without a copy, and outlives whoever worked on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include <opencv2/core.hpp>

#include "harness/os/result.h"
#include "harness/os/shared_memory.h"

namespace crashworthy::tiles {

// `count` slots of an input and an output frame each. Frames take memory only where they are
// touched. Whoever gives out the slots sees to it that one image at a time uses a slot.
class FrameSlots {
 public:
  static Result<FrameSlots> create(int count, std::uint64_t frame_bytes);

  int count() const { return static_cast<int>(slots_.size()); }
  std::uint64_t frame_bytes() const { return frame_bytes_; }

  // The pixels of an image of this size, which must fit the frame (8 bit, lying close).
  cv::Mat input(std::uint32_t slot, int width, int height, int channels) const;
  cv::Mat output(std::uint32_t slot, int width, int height, int channels) const;

  // The inode of the file that is about to get the final name of the slot's image, 0 while there is
  // none: it tells for certain, after a death, whether the rename has happened.
  std::atomic<std::uint64_t>& inode(std::uint32_t slot) const;

  // Makes the slot ready for another image: forgets the inode, and gives the memory of large frames
  // back. Small ones stay warm for the next image.
  void recycle(std::uint32_t slot, std::uint64_t used_bytes);

 private:
  struct Slot {
    SharedMemory input;
    SharedMemory output;
  };
  cv::Mat frame(const SharedMemory& memory, int width, int height, int channels) const;

  std::uint64_t frame_bytes_ = 0;
  std::vector<Slot> slots_;
  SharedMemory inodes_;
};

}  // namespace crashworthy::tiles

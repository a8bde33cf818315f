// What a fault point does when it fires. For point.cc alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "faults/point/point.h"

namespace crashworthy::point {

std::int64_t monotonic_ns();

// The memory that the point offers; null: none.
struct Buffer {
  unsigned char* data = nullptr;
  std::size_t bytes = 0;
};

// Does what `entry` says, having completed `firing`'s evidence before. Returns after what lets the
// program go on; throws for kThrow.
void act(const Entry& entry, Firing& firing, Buffer buffer, int event_fd);

}  // namespace crashworthy::point

// How much a run keeps in flight, computed from its settings: jobs for the workers, and shared
// memory for what lies between two jobs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pipelines/tiles/settings.h"

namespace crashworthy::tiles {

// The largest tile of a result, in bytes.
std::uint64_t largest_tile_bytes(const Settings& settings);

struct Sizing {
  // Jobs for each worker: one that it executes and those that wait. The same for all arms.
  int jobs_per_worker = 0;

  // What the pipeline may have handed out, in extents: of a frame of the largest image and of the
  // largest tile, of all images together and of all tiles together.
  std::uint64_t image = 0;
  std::uint64_t tile = 0;
  std::uint64_t images = 0;
  std::uint64_t tiles = 0;
  // Then a region of so many bytes always has room; see the .cc file.
  std::uint64_t region = 0;
};

Sizing size_up(const Settings& settings);

}  // namespace crashworthy::tiles

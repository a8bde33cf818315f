#include "pipelines/tiles/sizing.h"

#include <algorithm>

#include "harness/worker/frame.h"

namespace crashworthy::tiles {
namespace {

// Tiles of 64 x 64 take 30 us: as many of them wait for a worker as it does in half a millisecond,
// in which the coordinator surely looks up. Few of the large ones, so that a read or a batch that
// becomes possible goes before tiles that are not begun.
constexpr std::int64_t kPixelsPerWorker = 16 * 64 * 64;
constexpr std::int64_t kLeastJobs = 3;
constexpr std::int64_t kMostJobs = 16;

}  // namespace

std::uint64_t largest_tile_bytes(const Settings& settings) {
  const std::uint64_t bytes = std::uint64_t(settings.tile.width) *
                              std::uint64_t(settings.tile.height) *
                              std::uint64_t(settings.chain.output_channels(3));
  return std::min(bytes, settings.frame_bytes);
}

// No job may wait for room that never comes. Of what lies in a worker's region,
//   images  are those being read, of the largest size each, and those read: the pipeline begins to
//           read one only when all of them keep to `images`;
//   tiles   are results of images whose tiles all have room in `tiles` together: the pipeline hands
//           out the first tile of an image only then (an image that would not fit alone is
//           refused);
//   one     more of the largest size is what a spare keeps for a job that it takes over.
// A job has no more than one frame in a region: what the process of a region left when it died is
// freed before that region has another process.
//
// A tile finds no place only where every gap is smaller than it. There are not more gaps than
// frames and one, so a region that holds all of the above and such a gap for each always has a
// place for one more tile, however scattered the frames are. Jobs that write need no room. So all
// images whose tiles were handed out come to their end, and give back what they had.
//
// A read may find no gap that is large enough. Then it waits, those behind it do not (see
// WorkerPool::dispatch()), and at the latest when all other images have ended there is nothing left
// but what the spare keeps: of the room for three on one side of it is room for one.
Sizing size_up(const Settings& settings) {
  Sizing sizing;
  const std::int64_t pixels = std::int64_t{settings.tile.width} * settings.tile.height;
  sizing.jobs_per_worker =
      static_cast<int>(std::clamp(kPixelsPerWorker / pixels, kLeastJobs, kMostJobs));

  const auto most = static_cast<std::uint64_t>(settings.max_demand);
  const auto producers = static_cast<std::uint64_t>(settings.producers);
  sizing.image = frame_extent(settings.frame_bytes);
  sizing.tile = frame_extent(largest_tile_bytes(settings));
  // Beside those being read, images as large as one of the largest; all of them if they are small.
  sizing.images = sizing.image * std::min(most, producers + 1);
  // The result of the largest image in tiles of 64 x 64 (with its guard page, each is twice as
  // large), of which those at the edges are cut; and a tile for each image.
  sizing.tiles = sizing.image * 5 / 2 + sizing.tile * most;
  const std::uint64_t gaps = sizing.tiles + sizing.tile * (most + 3);
  sizing.region = std::max(sizing.images + sizing.image + sizing.tiles + gaps, 3 * sizing.image);
  return sizing;
}

}  // namespace crashworthy::tiles

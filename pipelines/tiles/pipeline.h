// The coordinator: takes images, hands out their work, and knows what became of each. It touches no
// pixel, so that no pixel can kill it.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/probe/probe.h"
#include "harness/worker/executor.h"
#include "pipelines/tiles/batches.h"
#include "pipelines/tiles/job_wire.h"
#include "pipelines/tiles/output_directory.h"
#include "pipelines/tiles/settings.h"
#include "pipelines/tiles/sizing.h"

namespace crashworthy::tiles {

// The coordinator's own name in the probe: no worker has it.
inline constexpr ProbeIdentity kCoordinator{65535, 0};

struct Summary {
  std::uint64_t delivered = 0;
  std::uint64_t failed = 0;
  std::uint64_t lost = 0;
  std::uint64_t unfinished = 0;  // Left when the run ended early.
  std::optional<Error> gave_up;  // The executor's reason to end it.
};

// Runs all items through an executor, once. One thread uses it.
class Pipeline {
 public:
  // `executor` offers what size_up(settings) says.
  Pipeline(const Settings& settings, const std::vector<Item>& items, const OutputDirectory& output,
           Executor& executor, const Probe& probe);

  // Returns when every item has an outcome, when the executor gives up, or soon after `stop`
  // becomes other than 0. Failed items are told on stderr, a line each.
  Summary run(const std::atomic<int>& stop);

 private:
  // An image between being taken and being done with.
  struct Image {
    ImagePlace place;
    Frame pixels;                 // What was read, until it is filtered.
    std::vector<Frame> filtered;  // By tile; none if they go to a file.
    Frame table;                  // Their FrameRefs.
    // What of the room for images and for tiles is taken for it.
    std::uint64_t image_room = 0;
    std::uint64_t tile_room = 0;
    std::uint32_t tiles = 0;
    std::uint32_t next_tile = 0;  // The first that is not handed out.
    std::uint32_t tiles_done = 0;
    int in_flight = 0;     // Jobs that may still touch its frames and files.
    bool dropped = false;  // It has its outcome already; what is in flight is waited for.
  };

  void hand_out();
  void begin_tiles();
  bool hand_out_read();
  bool hand_out_tile();
  bool hand_out_batch(bool partial);
  void submit(std::uint64_t item, std::uint32_t part, const std::vector<ImagePlace>& places,
              std::uint64_t output_bytes, std::vector<Frame> inputs);
  std::chrono::milliseconds patience() const;

  void settle(JobResult& result);
  void read(std::uint64_t item, std::uint32_t part, std::uint64_t output_bytes);
  void settle_read(Image& image, JobResult& result);
  bool read_again(const ImagePlace& told, const JobResult& result);
  void settle_tile(Image& image, JobResult& result);
  void end_tiles(Image& image);
  void settle_batch(const JobResult& result);
  void settle_write(Image& image, const JobResult& batch, const WriteOutcome& outcome);

  void deliver(Image& image);
  void fail(Image& image, FailureReason reason, const std::string& message);
  void lose(Image& image);
  void drop(Image& image);
  void release(std::uint64_t item);
  Image& image(std::uint64_t item);
  bool maps_output(const Image& image) const;
  std::uint64_t tile_bytes(const Image& image, std::uint32_t tile) const;
  static void resize(std::uint64_t& taken, std::uint64_t& all, std::uint64_t bytes);

  const Settings& settings_;
  const std::vector<Item>& items_;
  const OutputDirectory& output_;
  Executor& executor_;
  const Probe probe_;
  const Sizing sizing_;
  const std::size_t window_;  // Jobs in flight beside reads, at most.

  std::uint64_t next_item_ = 0;
  std::map<std::uint64_t, Image> images_;
  std::uint64_t images_room_ = 0;        // Taken by all images.
  std::uint64_t tiles_room_ = 0;         // Taken by the tiles of all images.
  std::deque<std::uint64_t> to_begin_;   // Images that were read and wait for room for their tiles.
  std::deque<std::uint64_t> to_filter_;  // Images with tiles to hand out, oldest first.
  Batches batches_;
  std::map<std::uint64_t, std::vector<std::uint64_t>> being_written_;  // By the job's item.
  std::size_t in_flight_ = 0;
  std::size_t reading_ = 0;
  std::array<std::uint64_t, 8> last_sizes_{};  // Of the images that were decoded last, in bytes.
  std::size_t decoded_ = 0;
  Summary summary_;
};

}  // namespace crashworthy::tiles

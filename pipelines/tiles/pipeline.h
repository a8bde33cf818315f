// The coordinator: takes images, hands out their work, and knows what became of each. It touches no
// pixel, so that no pixel can kill it.
#pragma once

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
#include "pipelines/tiles/frames.h"
#include "pipelines/tiles/job_wire.h"
#include "pipelines/tiles/output_directory.h"
#include "pipelines/tiles/settings.h"

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
  Pipeline(const Settings& settings, const std::vector<Item>& items, FrameSlots& frames,
           const OutputDirectory& output, Executor& executor, const Probe& probe);

  // Returns when every item has an outcome, when the executor gives up, or soon after `stop`
  // becomes other than 0. Failed items are told on stderr, a line each.
  Summary run(const std::atomic<int>& stop);

 private:
  // An image between being taken and being done with.
  struct Image {
    ImagePlace place;
    std::uint32_t tiles = 0;
    std::uint32_t next_tile = 0;  // The first that is not handed out.
    std::uint32_t tiles_done = 0;
    int in_flight = 0;     // Jobs that may still touch its slot.
    bool dropped = false;  // It has its outcome already; what is in flight is waited for.
  };

  void hand_out();
  bool hand_out_read();
  bool hand_out_tile();
  bool hand_out_batch(bool partial);
  void submit(std::uint64_t item, std::uint32_t part, const std::vector<ImagePlace>& places);
  std::chrono::milliseconds patience() const;

  void settle(const JobResult& result);
  void settle_read(Image& image, const JobResult& result);
  void settle_tile(Image& image, const JobResult& result);
  void settle_batch(const JobResult& result);
  void settle_write(Image& image, const JobResult& batch, const WriteOutcome& outcome);

  void deliver(Image& image);
  void fail(Image& image, FailureReason reason, const std::string& message);
  void lose(Image& image);
  void drop(Image& image);
  void release(std::uint64_t item);
  Image& image(std::uint64_t item);

  const Settings& settings_;
  const std::vector<Item>& items_;
  FrameSlots& frames_;
  const OutputDirectory& output_;
  Executor& executor_;
  const Probe probe_;
  const std::size_t window_;  // Jobs in flight, at most.

  std::uint64_t next_item_ = 0;
  std::map<std::uint64_t, Image> images_;
  std::vector<std::uint32_t> free_slots_;
  std::deque<std::uint64_t> to_filter_;  // Images with tiles to hand out, oldest first.
  Batches batches_;
  std::map<std::uint64_t, std::vector<std::uint64_t>> being_written_;  // By the job's item.
  std::size_t in_flight_ = 0;
  int reading_ = 0;
  Summary summary_;
};

}  // namespace crashworthy::tiles

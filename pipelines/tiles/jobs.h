// The work itself: reading an image, filtering a tile, writing a batch. The same code runs in the
// threads and in the worker processes; all that it shares lies in frames and files.
#pragma once

#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/probe/probe.h"
#include "harness/worker/executor.h"
#include "pipelines/tiles/job_wire.h"
#include "pipelines/tiles/output_directory.h"
#include "pipelines/tiles/ppm.h"
#include "pipelines/tiles/settings.h"

namespace crashworthy::tiles {

// Every job may be done again from its start, by anybody, at any point of its first execution, and
// then leaves the same bytes. An image passes through
//   kPartRead   decodes the input into its frame, or tells only its size if the frame is too small.
//               A PPM is not decoded: the tiles map it. With format ppm it also makes the file that
//               the tiles write to.
//   0 to n-1    filter a tile, from the read job's frame to a small one of its own.
//   kPartMerge  for several images: puts the tiles together, finishes the result (Canny's
//               hysteresis), encodes and publishes it.
// Each writes to its own frame and to nobody else's.
//
// Merging and finishing never touch what the tiles wrote: they work on a private image, or (format
// ppm) on a copy of the file. That costs the job one more image of memory, or of disk for a while;
// redoing it costs the job alone and no tile.
//
// A fault of an image is returned. What is no image's fault, that is cv::Error::StsNoMem and
// std::bad_alloc, ends the process.
class Jobs {
 public:
  // All arguments must outlive the workers.
  Jobs(const Settings& settings, const std::vector<Item>& items, const OutputDirectory& output)
      : settings_(settings), items_(items), output_(output) {}

  // Of kNoItem: see warm_up_job().
  JobOutput run(const Job& job, const JobContext& context) const noexcept;

 private:
  JobOutput read(ImagePlace place, const JobContext& context) const;
  Result<void> read_mapped(ImagePlace& place) const;
  JobOutput decode(ImagePlace& place, const JobContext& context) const;
  JobOutput make_room(const ImagePlace& place) const;

  JobOutput filter(const ImagePlace& place, std::uint32_t part, const JobContext& context) const;
  JobOutput open_files(const ImagePlace& place) const;

  WriteOutcome write(const ImagePlace& place, const JobContext& context) const;
  cv::Mat merge(const ImagePlace& place, const JobContext& context) const;
  Result<void> write_encoded(const ImagePlace& place, const JobContext& context) const;
  Result<void> write_mapped(const ImagePlace& place) const;

  const Item& item(const ImagePlace& place) const { return items_.at(place.item); }
  bool maps_output(const ImagePlace& place) const {
    return item(place).format == OutputFormat::kPpm;
  }
  // The file that the tiles of a mapped output are written to.
  std::filesystem::path tiles_file(const ImagePlace& place) const;

  const Settings& settings_;
  const std::vector<Item>& items_;
  const OutputDirectory& output_;
};

}  // namespace crashworthy::tiles

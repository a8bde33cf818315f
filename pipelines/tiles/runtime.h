// What a process of this pipeline sets once for itself: how it takes memory, and whom it tells when
// there is none.
#pragma once

#include <cstddef>
#include <span>

#include "harness/probe/probe.h"
#include "harness/worker/executor.h"
#include "pipelines/tiles/settings.h"

namespace crashworthy::tiles {

// To be called before any thread or worker exists; all arms get the same. See the .cc file for the
// allocator's policy and its reasons. Tells `probe` of every error that OpenCV reports, and of
// every failed operator new, as kError of the worker that it happens to.
void set_up_process(const Settings& settings, const Probe& probe);

// Runs each kind of OpenCV call once on a made-up picture, as large as a tile may be up to a bound,
// so that what they load, prepare and touch for the first call is there: in the coordinator before
// the workers are forked, and in each of them before it counts as ready. A replacement then begins
// with work. The tile goes to `output` if that is large enough.
void warm_up(const Settings& settings, std::span<std::byte> output = {});

// The job that does it: of kNoItem, without any effect.
Job warm_up_job(const Settings& settings);

// Names the job that this thread is executing, for the errors above.
class CurrentJob {
 public:
  CurrentJob(const Job& job, const JobContext& context);
  ~CurrentJob();
  CurrentJob(const CurrentJob&) = delete;
  CurrentJob& operator=(const CurrentJob&) = delete;
};

}  // namespace crashworthy::tiles

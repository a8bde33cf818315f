// What a process of this pipeline sets once for itself: how it takes memory, and whom it tells when
// there is none.
#pragma once

#include "harness/probe/probe.h"
#include "harness/worker/executor.h"
#include "pipelines/tiles/settings.h"

namespace crashworthy::tiles {

// To be called before any thread or worker exists; all arms get the same. See the .cc file for the
// allocator's policy and its reasons. Tells `probe` of every error that OpenCV reports, and of
// every failed operator new, as kError of the worker that it happens to.
void set_up_process(const Settings& settings, const Probe& probe);

// Runs each kind of OpenCV call once on a picture of a few pixels, so that what they load and
// prepare for the first call exists before the workers are forked: a replacement then begins with
// work.
void warm_up(const Settings& settings);

// Names the job that this thread is executing, for the errors above.
class CurrentJob {
 public:
  CurrentJob(const Job& job, const JobContext& context);
  ~CurrentJob();
  CurrentJob(const CurrentJob&) = delete;
  CurrentJob& operator=(const CurrentJob&) = delete;
};

}  // namespace crashworthy::tiles

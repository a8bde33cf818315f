// Victims that struck themselves, as their own records and the probe tell of them.
#pragma once

#include "faults/injection.h"

namespace crashworthy {

// Who worked on what, by all that the probe has told.
inline WorkerTracker tracker_of(const InjectionEvidence& evidence) {
  WorkerTracker tracker;
  tracker.add(evidence.records);
  return tracker;
}

// `pid` is as the subject sees it.
inline Victim self_struck(const WorkerTracker& tracker, std::int32_t pid, pid_t host_pid = 0) {
  Victim victim;
  victim.pid = pid;
  victim.host_pid = host_pid;
  victim.worker = tracker.by_pid(pid);
  return victim;
}

}  // namespace crashworthy

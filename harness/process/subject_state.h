// What a Subject holds; shared by the files that implement it.
#pragma once

#include <deque>

#include "harness/process/launcher.h"
#include "harness/process/message.h"

namespace crashworthy {

struct Subject::State {
  Containment containment = Containment::kPidNamespace;
  std::string reason;
  pid_t main_pid = 0;
  UniqueFd control;
  UniqueFd lifeline;  // The write end: closing it ends the tree.
  UniqueFd main;      // pidfds
  UniqueFd outer;
  UniqueFd reaper;
  UniqueFd cgroup;
  std::deque<Report> waiting;  // Received while waiting for something else.
  bool over = false;           // kChildless or kGuardLost is in `waiting` or was read.
  bool killed = false;
  bool gone = false;

  // Our pid of the process that a message speaks of; 0 when it is not known.
  pid_t our_pid(const Received& received) const;
  // Takes what waits in the control socket, at most so much that `waiting` stays bounded.
  Result<void> receive();
  void kill();
  bool wait_until_gone(std::chrono::milliseconds bound);
};

}  // namespace crashworthy

// A child that behaves as a test says: it connects to the test, which tells it its conduct, and
// then when to end.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "harness/os/unique_fd.h"
#include "harness/supervision/behaviours.h"

namespace crashworthy {

// Registered as kChildFunction.
int behave(const std::string& argument);

// What the test tells a process: first its kConduct, then what it shall do.
struct ProcessOrder {
  enum class Kind : std::int32_t { kConduct, kExit, kRaise, kSilence };
  Kind kind = Kind::kConduct;
  std::int32_t number = 0;
  Conduct conduct;
  bool ready = false;         // It has a readiness,
  bool by_heartbeat = false;  // which is its first heartbeat.
  std::int64_t beat_ns = 0;   // Between two heartbeats; 0: it has none.
};

// The test's side. The processes find it by the environment of this process, so there is one at a
// time.
class ProcessControl {
 public:
  ProcessControl();
  ~ProcessControl();
  ProcessControl(const ProcessControl&) = delete;
  ProcessControl& operator=(const ProcessControl&) = delete;

  // Takes in who has connected or answered, and drops who has ended. Never blocks.
  void update();
  // It has connected.
  bool knows(pid_t pid) const { return processes_.contains(pid); }
  // It behaves as it was told.
  bool is_settled(pid_t pid) const;
  bool send(pid_t pid, const ProcessOrder& order);

 private:
  struct Process {
    UniqueFd socket;
    bool settled = false;
  };
  UniqueFd listener_;
  std::map<pid_t, Process> processes_;
};

}  // namespace crashworthy

// What happens in a tree, in the order in which it happens, each with what caused it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/wait_status.h"
#include "harness/supervision/lifecycle.h"

namespace crashworthy {

enum class EventKind {
  kState,           // The part `path` is now in `state`.
  kReady,           // The child said that it serves.
  kEnded,           // Its process ended with `status`.
  kStartFailed,     // It could not be started, or ended or said nothing before it was ready.
  kHang,            // It missed its heartbeats or its deadline, and is killed.
  kStopTimeout,     // It did not end when asked, and is killed.
  kRestart,         // It (and its group) is to be restarted; `budget_left` restarts remain.
  kIntensitySpent,  // Its supervisor gives up.
  kAutoShutdown,    // Its end shuts its supervisor down.
  kCrashLoop,       // It keeps ending in the same way soon after its start.
  kOrder            // Somebody asked for something: `text` says what.
};
std::string_view event_name(EventKind kind);

inline constexpr std::size_t kMaxCauses = 16;
inline constexpr std::size_t kRememberedEvents = 1024;

struct Event {
  std::uint64_t number = 0;  // 1, 2, 3, ...
  std::uint64_t cause = 0;   // The number of the event that led to this one; 0: none did.
  // That number, the cause of that event, and so on: at most kMaxCauses, and only of events that
  // are no longer ago than kRememberedEvents.
  std::vector<std::uint64_t> causes;
  std::int64_t time_ns = 0;  // CLOCK_MONOTONIC
  EventKind kind = EventKind::kState;
  std::string path;                       // "" is the root, "inner/worker" a child of its child.
  std::uint32_t incarnation = 0;          // From 1.
  pid_t pid = 0;                          // 0: there is no process (yet, or ever).
  LifeState state = LifeState::kInitial;  // kState
  std::optional<WaitStatus> status;       // kEnded
  int budget_left = -1;                   // kRestart; -1: does not apply.
  std::string text;                       // For people: why, or what was asked.
};

using EventSink = std::function<void(const Event&)>;

// "2026-01-02 03:04:05.678901", UTC, for a time in ns since 1970.
std::string log_time(std::int64_t unix_ns);

// The line of the lifecycle log for an event of kind kState, without line end:
// log_time TAB [name] TAB pid:01234 TAB running. `root` is the name of the root; other parts are
// named by their path.
std::string log_line(const Event& event, std::int64_t unix_ns, std::string_view root);

// The event as one line of JSON (docs/supervision.md), without line end.
std::string event_json(const Event& event, std::int64_t unix_ns);

}  // namespace crashworthy

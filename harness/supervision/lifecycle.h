// The life of a part: its states, the transitions that are allowed, and how the state of a whole
// follows from the states of its parts.
//
// A part is one incarnation of a child, or a supervisor. It ends in `completed` or `terminated` and
// never leaves them: a restart is a new part, which begins at `initial`.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace crashworthy {

enum class LifeState {
  kInitial,      // Nothing has been done for it.
  kReady,        // Prepared; may be started.
  kRunning,      // Its process runs.
  kCompleted,    // Ended as it should: by itself with success, or because it was asked to.
  kDisabled,     // Waits for its next try (back-off).
  kIntermitted,  // Its process is stopped, and can be continued.
  kTerminated    // Ended otherwise: crashed, killed, or never started.
};
inline constexpr std::size_t kLifeStates = 7;

enum class Transition {
  kActivate,  // initial -> ready; runs the hook `prepare`.
  kDisable,   // initial -> disabled
  kEnable,    // disabled -> ready
  kStart,     // ready -> running; runs the main, which is the process.
  kComplete,  // running -> completed; runs the hook `shutdown`.
  kSuspend,   // running -> intermitted
  kResume,    // intermitted -> running
  kTerminate  // ready, running, disabled, intermitted -> terminated; runs the hook `teardown`.
};
inline constexpr std::size_t kTransitions = 8;

// "initial", "ready", ...: as in logs and files.
std::string_view life_state_name(LifeState state);
std::optional<LifeState> life_state_from_name(std::string_view name);
std::string_view transition_name(Transition transition);

// The transition that leads from one state to the other; empty when none does. (ready, disabled and
// intermitted -> terminated are ours; the others are those of the system-of-systems lifecycle.)
std::optional<Transition> transition_between(LifeState from, LifeState to);

// Where `transition` leads from `from`; empty when it is refused there.
std::optional<LifeState> apply(LifeState from, Transition transition);

// completed or terminated.
bool is_closed(LifeState state);
// ready or further: everything but initial and disabled.
bool is_booted(LifeState state);

// The state of a whole that has these parts (at least one), by the one rule:
//   all closed                -> terminated if any part is, else completed;
//   otherwise, of those open:
//     any initial             -> initial
//     else any disabled       -> disabled
//     else any ready          -> ready
//     else all intermitted    -> intermitted
//     else                    -> running
// So a whole is booted when all its parts are, and closed when all are.
LifeState state_of_whole(std::span<const LifeState> parts);
// The same from how many parts are in each state.
using LifeCounts = std::array<std::size_t, kLifeStates>;
LifeState state_of_whole(const LifeCounts& parts);

// The transitions by which a whole that is in `current` follows its parts to `wanted`, in order;
// empty when it is there, or when no allowed way leads there: it then stays what it is. (A whole
// that runs goes on running while one part is born again.)
std::vector<Transition> way(LifeState current, LifeState wanted);

}  // namespace crashworthy

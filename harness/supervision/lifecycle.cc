#include "harness/supervision/lifecycle.h"

#include <algorithm>
#include <numeric>

namespace crashworthy {
namespace {

constexpr std::array<std::string_view, kLifeStates> kStateNames{
    "initial", "ready", "running", "completed", "disabled", "intermitted", "terminated"};
constexpr std::array<std::string_view, kTransitions> kTransitionNames{
    "activate", "disable", "enable", "start", "complete", "suspend", "resume", "terminate"};

struct Edge {
  LifeState from;
  Transition transition;
  LifeState to;
};
// `disable` stands before `activate`: what never became ready ends by way of `disabled` (see way).
constexpr Edge kEdges[] = {
    {LifeState::kInitial, Transition::kDisable, LifeState::kDisabled},
    {LifeState::kInitial, Transition::kActivate, LifeState::kReady},
    {LifeState::kReady, Transition::kStart, LifeState::kRunning},
    {LifeState::kReady, Transition::kTerminate, LifeState::kTerminated},
    {LifeState::kRunning, Transition::kComplete, LifeState::kCompleted},
    {LifeState::kRunning, Transition::kSuspend, LifeState::kIntermitted},
    {LifeState::kRunning, Transition::kTerminate, LifeState::kTerminated},
    {LifeState::kDisabled, Transition::kEnable, LifeState::kReady},
    {LifeState::kDisabled, Transition::kTerminate, LifeState::kTerminated},
    {LifeState::kIntermitted, Transition::kResume, LifeState::kRunning},
    {LifeState::kIntermitted, Transition::kTerminate, LifeState::kTerminated},
};

constexpr std::size_t index(LifeState state) { return static_cast<std::size_t>(state); }

}  // namespace

std::string_view life_state_name(LifeState state) { return kStateNames[index(state)]; }

std::optional<LifeState> life_state_from_name(std::string_view name) {
  const auto found = std::find(kStateNames.begin(), kStateNames.end(), name);
  if (found == kStateNames.end()) return std::nullopt;
  return static_cast<LifeState>(found - kStateNames.begin());
}

std::string_view transition_name(Transition transition) {
  return kTransitionNames[static_cast<std::size_t>(transition)];
}

std::optional<Transition> transition_between(LifeState from, LifeState to) {
  for (const Edge& edge : kEdges) {
    if (edge.from == from && edge.to == to) return edge.transition;
  }
  return std::nullopt;
}

std::optional<LifeState> apply(LifeState from, Transition transition) {
  for (const Edge& edge : kEdges) {
    if (edge.from == from && edge.transition == transition) return edge.to;
  }
  return std::nullopt;
}

bool is_closed(LifeState state) {
  return state == LifeState::kCompleted || state == LifeState::kTerminated;
}

bool is_booted(LifeState state) {
  return state != LifeState::kInitial && state != LifeState::kDisabled;
}

LifeState state_of_whole(std::span<const LifeState> parts) {
  LifeCounts counts{};
  for (const LifeState part : parts) ++counts[index(part)];
  return state_of_whole(counts);
}

LifeState state_of_whole(const LifeCounts& counts) {
  const auto any = [&counts](LifeState state) { return counts[index(state)] > 0; };
  const std::size_t closed =
      counts[index(LifeState::kCompleted)] + counts[index(LifeState::kTerminated)];
  if (closed == std::accumulate(counts.begin(), counts.end(), std::size_t{0})) {
    return any(LifeState::kTerminated) ? LifeState::kTerminated : LifeState::kCompleted;
  }
  for (const LifeState state : {LifeState::kInitial, LifeState::kDisabled, LifeState::kReady}) {
    if (any(state)) return state;
  }
  return any(LifeState::kRunning) ? LifeState::kRunning : LifeState::kIntermitted;
}

// Breadth first, over seven states.
std::vector<Transition> way(LifeState current, LifeState wanted) {
  struct Reached {
    LifeState state;
    std::vector<Transition> by;
  };
  std::vector<Reached> reached{{current, {}}};
  for (std::size_t i = 0; i < reached.size(); ++i) {
    if (reached[i].state == wanted) return reached[i].by;
    for (const Edge& edge : kEdges) {
      if (edge.from != reached[i].state) continue;
      const bool known = std::any_of(reached.begin(), reached.end(),
                                     [&](const Reached& other) { return other.state == edge.to; });
      if (known) continue;
      Reached next{edge.to, reached[i].by};
      next.by.push_back(edge.transition);
      reached.push_back(std::move(next));
    }
  }
  return {};
}

}  // namespace crashworthy

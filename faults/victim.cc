#include "faults/victim.h"

namespace crashworthy {

void WorkerTracker::add(std::span<const ProbeRecord> records) {
  for (const ProbeRecord& record : records) {
    const auto event = static_cast<ProbeEvent>(record.event);
    Place& place = places_[record.worker];
    const bool current = place.state.incarnation == record.incarnation;
    switch (event) {
      case ProbeEvent::kWorkerReady:
        if (record.incarnation < place.state.incarnation) break;
        place = Place{WorkerState{record.worker, record.incarnation, record.pid, {}}, false};
        last_[record.pid] = place.state;
        break;
      case ProbeEvent::kStarted:
        if (!current) break;
        place.state.holds = HeldUnit{record.item, record.part, record.attempt};
        last_[record.pid] = place.state;
        break;
      case ProbeEvent::kDone:
        if (!current) break;
        place.state.holds.reset();
        last_[record.pid] = place.state;
        break;
      case ProbeEvent::kWorkerDied:
        if (current && place.state.pid == record.pid) place.dead = true;
        break;
      default:
        if (place.state.incarnation == 0)
          places_.erase(record.worker);  // No worker: a record of the coordinator.
        break;
    }
  }
}

std::vector<WorkerState> WorkerTracker::alive() const {
  std::vector<WorkerState> states;
  for (const auto& [number, place] : places_) {
    if (!place.dead && place.state.incarnation > 0) states.push_back(place.state);
  }
  return states;
}

std::optional<WorkerState> WorkerTracker::by_pid(std::int32_t pid) const {
  const auto found = last_.find(pid);
  if (found == last_.end()) return std::nullopt;
  return found->second;
}

}  // namespace crashworthy

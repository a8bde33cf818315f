// native.abort@POINT: the victim itself calls abort() when it passes the point on the chosen hit.
//
// The proof is the victim's own: its hit record, and the siginfo of its SIGABRT (sent by itself),
// written to memory that survives it; and its wait status, from whoever reaped it.
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "faults/injection.h"
#include "faults/point/point.h"
#include "harness/os/clock.h"
#include "harness/os/shared_memory.h"

namespace crashworthy {
namespace {

using nlohmann::json;

class PointInjection : public Injection {
 public:
  using Injection::Injection;

  std::optional<std::pair<int, std::string>> inherited() const override {
    return std::pair(memory_.fd(), std::string("CRASHWORTHY_POINTS="));
  }

 protected:
  Result<void> prepare(ProbeRing&) override {
    auto memory = SharedMemory::create("crashworthy-points", sizeof(point::Table));
    if (!memory) return memory.error();
    memory_ = std::move(*memory);
    point::Entry& entry = table().entries[0];
    std::strncpy(entry.name, fault_.point.c_str(), point::kNameSize - 1);
    entry.action = disarmed_ ? point::Action::kCount : point::Action::kAbort;
    entry.first = static_cast<std::uint64_t>(*trigger_.hit);
    entry.every = static_cast<std::uint64_t>(fault_.repeat_every);
    entry.times = static_cast<std::uint64_t>(fault_.repeat_times);
    table().count.store(1, std::memory_order_release);
    table().magic = point::Table::kMagic;
    return {};
  }

  bool fire(SubjectView&) override { return false; }  // The victim fires by itself.

  Outcome confirm(const InjectionEvidence& evidence) override {
    const std::uint64_t hits = table().entries[0].hits.load();
    const std::uint32_t firings =
        std::min<std::uint32_t>(table().firing_count.load(), point::kMaxFirings);
    if (firings == 0) {
      return {"not_activated",
              "the point '" + fault_.point + "' was passed " + std::to_string(hits) +
                  " times, hit " + std::to_string(*trigger_.hit) + " was to fire",
              std::nullopt};
    }
    WorkerTracker tracker;
    tracker.add(evidence.records);
    for (std::uint32_t i = 0; i < firings; ++i) {
      const Outcome outcome = confirm_one(table().firings[i], evidence, tracker);
      if (outcome.name != "confirmed") return outcome;
    }
    const point::Firing& first = table().firings[0];
    victim_.pid = first.pid;
    victim_.worker = tracker.by_pid(first.pid);
    const std::string count =
        std::to_string(firings) + " of " + std::to_string(fault_.repeat_times) + " fired";
    return {"confirmed", fault_.repeat_times > 1 ? count : "", first.time_ns.load()};
  }

 private:
  point::Table& table() const { return *reinterpret_cast<point::Table*>(memory_.data()); }

  Outcome confirm_one(const point::Firing& firing, const InjectionEvidence& evidence,
                      const WorkerTracker& tracker) {
    const ObservedEnd* death = nullptr;
    for (const ObservedEnd& end : evidence.ends) {
      if (end.pid == firing.pid && (death == nullptr || end.time_ns >= firing.time_ns.load()))
        death = &end;
    }
    json proof{{"pid", firing.pid},
               {"tid", firing.tid},
               {"hit", firing.hit},
               {"hit_ns", firing.time_ns.load()},
               {"siginfo",
                {{"signal", firing.signal},
                 {"code", firing.signal_code},
                 {"sender", firing.signal_sender}}},
               {"status", death == nullptr ? json(nullptr) : json(death->status.describe())}};
    if (const auto worker = tracker.by_pid(firing.pid)) {
      proof["worker"] = worker->worker;
      proof["incarnation"] = worker->incarnation;
    }
    log_step("evidence", proof);
    if (firing.signal != SIGABRT || firing.signal_sender != firing.pid) {
      return {"indeterminate", "the victim passed the hit, but its own SIGABRT was not seen",
              std::nullopt};
    }
    if (death == nullptr)
      return {"indeterminate", "the victim aborted, but nobody reported its end", std::nullopt};
    if (!death->status.signalled() || death->status.signal() != SIGABRT) {
      return {"indeterminate", "the victim aborted, but " + death->status.describe(), std::nullopt};
    }
    return {"confirmed", "", std::nullopt};
  }

  SharedMemory memory_;
};

}  // namespace

std::unique_ptr<Injection> make_point_injection(FaultSpec fault, ResolvedTrigger trigger,
                                                std::uint64_t seed, bool disarmed, StepLog log) {
  return std::make_unique<PointInjection>(std::move(fault), trigger, seed, disarmed,
                                          std::move(log));
}

}  // namespace crashworthy

// native.abort@POINT: the victim itself calls abort() when it passes the point on the chosen hit.
//
// The proof is the victim's own: its hit record, and the siginfo of its SIGABRT (sent by itself),
// written to memory that survives it; and its wait status, from whoever reaped it.
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
#include "faults/point/point.h"
#include "harness/os/clock.h"
#include "harness/os/shared_memory.h"

namespace crashworthy {
namespace {

using nlohmann::json;

class PointInjection : public Injection {
 public:
  using Injection::Injection;

  std::int64_t fired_ns() const override {
    if (memory_.data() == nullptr) return 0;
    std::int64_t last = 0;
    for (std::uint32_t i = 0; i < firings(); ++i)
      last = std::max(last, table().firings[i].time_ns.load());
    return last;
  }

 protected:
  Result<void> prepare(LaunchPlan& launch) override {
    auto memory = SharedMemory::create("crashworthy-points", sizeof(point::Table));
    if (!memory) return memory.error();
    memory_ = std::move(*memory);
    point::Entry& entry = table().entries[0];
    std::strncpy(entry.name, fault_.point.c_str(), point::kNameSize - 1);
    entry.action = disarmed_ ? point::Action::kCount : point::Action::kAbort;
    entry.first = static_cast<std::uint64_t>(watch_.trigger().count->low);
    entry.every = static_cast<std::uint64_t>(watch_.trigger().every);
    entry.times = static_cast<std::uint64_t>(watch_.trigger().times);
    table().count.store(1, std::memory_order_release);
    table().magic = point::Table::kMagic;
    const int number = launch.inherit(memory_.fd());
    launch.environment.push_back("CRASHWORTHY_POINTS=" + std::to_string(number));
    return {};
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    const std::uint64_t hits = table().entries[0].hits.load();
    const auto first_hit = watch_.trigger().count->low;
    if (firings() == 0) {
      return not_activated("the point '" + fault_.point + "' was passed " + std::to_string(hits) +
                           " times, hit " + std::to_string(first_hit) + " was to fire");
    }
    WorkerTracker tracker;
    tracker.add(evidence.records);
    for (std::uint32_t i = 0; i < firings(); ++i) {
      const point::Firing& firing = table().firings[i];
      Victim victim;
      victim.pid = firing.pid;
      victim.worker = tracker.by_pid(firing.pid);
      victims_.push_back(std::move(victim));
      Outcome outcome = confirm_one(firing, evidence, tracker);
      if (outcome.verdict != Verdict::kConfirmed) return outcome;
    }
    const std::string count =
        std::to_string(firings()) + " of " + std::to_string(watch_.trigger().times) + " fired";
    return confirmed(table().firings[0].time_ns.load(), watch_.trigger().times > 1 ? count : "");
  }

 private:
  std::uint32_t firings() const {
    return std::min<std::uint32_t>(table().firing_count.load(), point::kMaxFirings);
  }
  point::Table& table() const { return *reinterpret_cast<point::Table*>(memory_.data()); }

  Outcome confirm_one(const point::Firing& firing, const InjectionEvidence& evidence,
                      const WorkerTracker& tracker) {
    const ObservedEnd* death = evidence.end_of(firing.pid, firing.time_ns.load());
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
      return indeterminate("the victim passed the hit, but its own SIGABRT was not seen");
    }
    if (death == nullptr) return indeterminate("the victim aborted, but nobody reported its end");
    if (!death->status.signalled() || death->status.signal() != SIGABRT) {
      return indeterminate("the victim aborted, but " + death->status.describe());
    }
    return confirmed(firing.time_ns.load());
  }

  SharedMemory memory_;
};

}  // namespace

std::unique_ptr<Injection> make_point_injection(InjectionSetup setup) {
  return std::make_unique<PointInjection>(std::move(setup));
}

}  // namespace crashworthy

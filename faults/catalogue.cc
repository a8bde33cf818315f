#include "faults/catalogue.h"

#include <array>

namespace crashworthy {
namespace {

constexpr FaultKey kRole{"victim.role",
                         "worker (default): a process that executes items; main; supervisor; any"};
constexpr FaultKey kHolding{"victim.holding_item",
                            "true: only a worker that is executing an item at that moment (needs "
                            "the probe); default false"};
constexpr FaultKey kItem{"when.item",
                         "N or [LOW, HIGH]: when the N-th item has been taken (needs the probe); a "
                         "range is drawn once a block"};
constexpr FaultKey kAfter{
    "when.after",
    "DURATION or [LOW, HIGH] since the start of the subject; without any `when`, a moment in the "
    "middle of the golden run's duration is drawn once a block"};
constexpr FaultKey kHit{"when.hit",
                        "N or [LOW, HIGH]: the N-th time the point is passed, counted over all "
                        "processes of the trial; default 1"};
constexpr FaultKey kRepeat{
    "when.repeat",
    "{\"times\": T, \"every\": E}: fire T times, each E hits after the one before; default once"};
constexpr FaultKey kHeadroom{
    "set.headroom",
    "SIZE that the victim may still map beyond what it has; default: none, whatever it frees "
    "(the limit is half of what it has mapped)"};

constexpr std::array kKillKeys{kRole, kHolding, kItem, kAfter};
constexpr std::array kAbortKeys{kHit, kRepeat};
constexpr std::array kMemCapKeys{kRole, kHolding, kItem, kAfter, kHeadroom};

constexpr std::array<FaultRow, 3> kRows{{
    {"process.kill", Mechanism::kSignal, false, "SIGKILL to one process of the subject",
     "the OOM killer, an operator's kill -9, a container runtime that enforces a limit",
     "the kernel's exit status of the victim is SIGKILL and our send came before it",
     "nothing to undo", kKillKeys,
     "crashworthy run --fault process.kill --when after=200ms -- ./pipeline in/ out/"},
    {"native.abort", Mechanism::kFaultPoint, true,
     "abort() inside the victim, at a fault point of its own code",
     "a failed assertion or an uncaught exception in native code, deep inside a library's call",
     "the victim's hit record, the siginfo of its own SIGABRT (sender is itself), and its wait "
     "status",
     "nothing to undo", kAbortKeys,
     "crashworthy run --fault native.abort@my.point --when hit=3 -- ./my_pipeline in/ out/"},
    {"resource.mem_cap", Mechanism::kResourceLimit, false,
     "RLIMIT_AS on one process: it can map no more memory",
     "a container or ulimit memory bound, address-space exhaustion by a leak",
     "the limit read back, and an allocation that failed in the victim after it (the probe's error "
     "record)",
     "the limit is restored if the victim still lives", kMemCapKeys,
     "crashworthy run --fault resource.mem_cap --when after=200ms -- ./my_pipeline in/ out/"},
}};

}  // namespace

std::span<const FaultRow> fault_catalogue() { return kRows; }

const FaultRow* find_fault(std::string_view name) {
  for (const FaultRow& row : kRows) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

std::vector<std::string> fault_names() {
  std::vector<std::string> names;
  for (const FaultRow& row : kRows) names.emplace_back(row.name);
  return names;
}

}  // namespace crashworthy

#include "faults/catalogue.h"

#include <array>

#include "faults/mechanisms.h"

namespace crashworthy {
namespace {

// ---- Keys that many rows have ----

constexpr FaultKey kRole{"victim.role",
                         "worker (default): a process that executes items; main; supervisor; any"};
constexpr FaultKey kHolding{"victim.holding_item",
                            "true: only a worker that is executing an item at that moment (needs "
                            "the probe); default false"};
constexpr FaultKey kWorker{"victim.worker",
                           "N: the worker at that place, from 0 (needs the probe)"};
constexpr FaultKey kIncarnation{"victim.incarnation",
                                "N: only in that life of its place, from 1 (needs the probe)"};
constexpr FaultKey kCommand{"victim.command",
                            "GLOB: a process of the subject's tree with that name or command line"};
constexpr FaultKey kChild{"victim.child",
                          "N: the N-th process of the tree by birth; 1 is the main"};
constexpr FaultKey kPick{"victim.pick",
                         "random (default), oldest, newest, all, or a number: so many at random"};
constexpr FaultKey kAfter{
    "when.after",
    "DURATION or [LOW, HIGH] since the start of the subject; without any `when`, a moment in the "
    "middle of the golden run's duration is drawn once a block (100ms where there is none)"};
constexpr FaultKey kItem{"when.item",
                         "N or [LOW, HIGH]: when the N-th item has been taken (needs the probe); a "
                         "range is drawn once a block"};
constexpr FaultKey kPhase{"when.phase", "startup, steady, delivering"};
constexpr FaultKey kEvent{"when.event",
                          "ready, first_output, recovered or fired, with a delay if wanted: "
                          "\"recovered+2s\""};
constexpr FaultKey kAll{"when.all", "a list of conditions, all of which must have come true"};
constexpr FaultKey kAny{"when.any", "a list of conditions, one of which must have come true"};
constexpr FaultKey kThen{"when.then",
                         "a list of conditions, each counted from when the one before came true"};
constexpr FaultKey kRepeat{
    "when.repeat", "{\"times\": T, \"gap\": DURATION or EVENT}: fire T times; default once"};
constexpr FaultKey kHit{"when.hit",
                        "N or [LOW, HIGH]: the N-th time the point is passed, counted over all "
                        "processes of the trial (from when other conditions hold); default 1"};
constexpr FaultKey kHitRepeat{
    "when.repeat",
    "{\"times\": T, \"every\": E}: fire T times, each E hits after the one before; default once"};
constexpr FaultKey kProbability{"when.probability",
                                "P: each hit or call fires with this chance; default 1"};
constexpr FaultKey kException{
    "set.exception",
    "program (default): what the program has registered, else std::runtime_error; std: that always",
    KeyType::kText, "program"};
constexpr FaultKey kPoisonItem{
    "set.item",
    "N: the number of the item; default: that which passes the point on the chosen hit (a range "
    "is drawn), and from then on always",
    KeyType::kCount};
constexpr FaultKey kAllocCall{
    "when.call",
    "N or [LOW, HIGH]: the N-th call of malloc, calloc, realloc, memalign, aligned_alloc or "
    "posix_memalign (operator new calls malloc), counted over all processes of the trial from "
    "their start on (from when other conditions hold); default 1"};
constexpr FaultKey kCallRepeat{
    "when.repeat",
    "{\"times\": T, \"every\": E}: fail T times, each E calls after the one before; default once"};
constexpr FaultKey kSizeMin{"set.size_min", "SIZE: smaller calls do not count; default: all count",
                            KeyType::kSize};
constexpr FaultKey kHeadroom{
    "set.headroom",
    "SIZE that the victim may still map beyond what it has; default: none, whatever it frees "
    "(the limit is half of what it has mapped)",
    KeyType::kSize};

// ---- The keys of each row ----

constexpr std::array kKillKeys{kRole,  kHolding, kWorker, kIncarnation, kCommand,
                               kChild, kPick,    kAfter,  kItem,        kPhase,
                               kEvent, kAll,     kAny,    kThen,        kRepeat};
constexpr std::array kAbortKeys{kHit, kHitRepeat, kAfter, kItem, kPhase, kEvent, kAll, kAny, kThen};
constexpr FaultKey kDelay{"set.delay", "DURATION; default 100ms", KeyType::kDuration, "100ms"};
constexpr FaultKey kCode{"set.code", "N: the exit code; default 0", KeyType::kCount, "0"};
constexpr std::array kSlowKeys{kHit,   kHitRepeat, kAfter, kItem, kPhase,
                               kEvent, kAll,       kAny,   kThen, kDelay};
constexpr std::array kExitKeys{kHit,   kHitRepeat, kAfter, kItem, kPhase,
                               kEvent, kAll,       kAny,   kThen, kCode};
constexpr std::array kThrowKeys{kHit,   kHitRepeat, kProbability, kAfter, kItem,     kPhase,
                                kEvent, kAll,       kAny,         kThen,  kException};
constexpr std::array kPoisonKeys{kHit, kAfter, kItem, kPhase,     kEvent,
                                 kAll, kAny,   kThen, kPoisonItem};
constexpr std::array kAllocKeys{kAllocCall, kCallRepeat, kProbability, kAfter, kItem,   kPhase,
                                kEvent,     kAll,        kAny,         kThen,  kSizeMin};
constexpr std::array kMemCapKeys{kRole,  kHolding, kWorker, kIncarnation, kCommand,
                                 kChild, kAfter,   kItem,   kPhase,       kEvent,
                                 kAll,   kAny,     kThen,   kHeadroom};

constexpr std::array kRows{
    FaultRow{"process.kill", "signal", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "SIGKILL to one process of the subject",
             "the OOM killer, an operator's kill -9, a container runtime that enforces a limit",
             "the kernel's exit status of the victim is SIGKILL and our send came before it",
             "nothing to undo", "nothing", kKillKeys,
             "crashworthy run --fault process.kill --when after=200ms -- ./pipeline in/ out/",
             make_signal_injection},
    FaultRow{"native.abort", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
             "abort() inside the victim, at a fault point of its own code",
             "a failed assertion or an uncaught exception in native code, deep inside a library's "
             "call",
             "the victim's hit record, the siginfo of its own SIGABRT (sender is itself), and its "
             "wait status",
             "nothing to undo", "a program that was built with fault points", kAbortKeys,
             "crashworthy run --fault native.abort@my.point --when hit=3 -- ./my_pipeline in/ out/",
             make_point_injection},
    FaultRow{"native.throw", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
             "an exception thrown at a fault point of the victim's own code",
             "an error that a library reports by an exception nobody thought of",
             "the victim's hit record, and either that the exception was caught (it was destroyed, "
             "and the process went on) or the siginfo of its own SIGABRT and its wait status",
             "nothing to undo", "a program that was built with fault points", kThrowKeys,
             "crashworthy run --fault native.throw@my.point --when hit=3 -- ./my_pipeline in/ out/",
             make_point_injection},
    FaultRow{
        "native.poison", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
        "one item that makes whoever works on it abort() at a fault point, on every attempt",
        "an input that a decoder or filter cannot survive",
        "for each attempt the hit record with the item, the siginfo of the victim's own "
        "SIGABRT, and its wait status",
        "nothing to undo", "a program that was built with fault points which name their item",
        kPoisonKeys,
        "crashworthy run --fault native.poison@my.point --set item=7 -- ./my_pipeline in/ out/",
        make_point_injection},
    FaultRow{"native.segv", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
             "a write to an address where nothing is mapped, inside the victim, at a fault point "
             "of its own code",
             "a null or dangling pointer in native code",
             "the victim's hit record, the siginfo of its own signal, and its wait status",
             "nothing to undo", "a program that was built with fault points", kAbortKeys,
             "crashworthy run --fault native.segv@my.point --when hit=3 -- ./my_pipeline in/ out/",
             make_point_injection},
    FaultRow{"native.bus", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
             "a write to a mapped file beyond its end, at a fault point",
             "a mapped file that somebody truncates",
             "the victim's hit record, the siginfo of its own signal, and its wait status",
             "nothing to undo", "a program that was built with fault points", kAbortKeys,
             "crashworthy run --fault native.bus@my.point --when hit=3 -- ./my_pipeline in/ out/",
             make_point_injection},
    FaultRow{"native.fpe", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
             "an integer division by zero, at a fault point", "an unchecked size of 0",
             "the victim's hit record, the siginfo of its own signal, and its wait status",
             "nothing to undo", "a program that was built with fault points", kAbortKeys,
             "crashworthy run --fault native.fpe@my.point --when hit=3 -- ./my_pipeline in/ out/",
             make_point_injection},
    FaultRow{"native.ill", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
             "an invalid instruction, at a fault point", "a library built for another processor",
             "the victim's hit record, the siginfo of its own signal, and its wait status",
             "nothing to undo", "a program that was built with fault points", kAbortKeys,
             "crashworthy run --fault native.ill@my.point --when hit=3 -- ./my_pipeline in/ out/",
             make_point_injection},
    FaultRow{"native.stack_overflow", "fault_point", PointRule::kRequired, TriggerKind::kCounted,
             "hit", "recursion until the stack is used up, at a fault point",
             "a recursive parser and a deep input",
             "the victim's hit record, the siginfo of its own signal, and its wait status",
             "nothing to undo", "a program that was built with fault points", kAbortKeys,
             "crashworthy run --fault native.stack_overflow@my.point --when hit=3 -- ./my_pipeline "
             "in/ out/",
             make_point_injection},
    FaultRow{"native.heap_corrupt", "fault_point", PointRule::kRequired, TriggerKind::kCounted,
             "hit", "a block that is freed twice, at a fault point",
             "a double free that the allocator finds",
             "the victim's hit record, the siginfo of its own signal, and its wait status",
             "nothing to undo", "a program that was built with fault points", kAbortKeys,
             "crashworthy run --fault native.heap_corrupt@my.point --when hit=3 -- ./my_pipeline "
             "in/ out/",
             make_point_injection},
    FaultRow{
        "native.deadlock", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
        "a mutex that the thread waits for although it holds it, at a fault point",
        "a lock order that was never tested",
        "the victim's hit record, the siginfo of its own signal, and its wait status",
        "nothing to undo", "a program that was built with fault points", kAbortKeys,
        "crashworthy run --fault native.deadlock@my.point --when hit=3 -- ./my_pipeline in/ out/",
        make_point_injection},
    FaultRow{"native.spin", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
             "an endless loop, at a fault point", "a loop whose end never comes",
             "the victim's hit record, the siginfo of its own signal, and its wait status",
             "nothing to undo", "a program that was built with fault points", kAbortKeys,
             "crashworthy run --fault native.spin@my.point --when hit=3 -- ./my_pipeline in/ out/",
             make_point_injection},
    FaultRow{"native.slow", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
             "a delay, at a fault point",
             "a slow disk, a page fault storm, a long garbage collection",
             "the victim's hit record, the siginfo of its own signal, and its wait status",
             "nothing to undo", "a program that was built with fault points", kSlowKeys,
             "crashworthy run --fault native.slow@my.point --when hit=3 -- ./my_pipeline in/ out/",
             make_point_injection},
    FaultRow{
        "native.bitflip", "fault_point", PointRule::kRequired, TriggerKind::kCounted, "hit",
        "one bit of a buffer flipped, at a fault point that offers one",
        "a memory error, a stray write",
        "the victim's hit record, the siginfo of its own signal, and its wait status",
        "nothing to undo", "a program that was built with fault points", kAbortKeys,
        "crashworthy run --fault native.bitflip@my.point --when hit=3 -- ./my_pipeline in/ out/",
        make_point_injection},
    FaultRow{"process.exit_early", "fault_point", PointRule::kRequired, TriggerKind::kCounted,
             "hit", "_exit() at a fault point", "a library that ends the process by itself",
             "the victim's hit record, the siginfo of its own signal, and its wait status",
             "nothing to undo", "a program that was built with fault points", kExitKeys,
             "crashworthy run --fault process.exit_early@my.point --when hit=3 -- ./my_pipeline "
             "in/ out/",
             make_point_injection},
    FaultRow{"native.alloc_fail", "alloc_fail", PointRule::kNone, TriggerKind::kCounted, "call",
             "one allocation that returns null, with ENOMEM",
             "memory that runs out for one moment, in the one place where nobody checks",
             "the record of the call, in the process that made it: its number, its size, and that "
             "it returned null",
             "nothing to undo: every other call is as before",
             "programs that are dynamically linked, and not set-user-ID", kAllocKeys,
             "crashworthy run --fault native.alloc_fail --when call=100 -- ./my_pipeline in/ out/",
             make_alloc_injection},
    FaultRow{
        "resource.mem_cap", "resource_limit", PointRule::kNone, TriggerKind::kMoment, nullptr,
        "RLIMIT_AS on one process: it can map no more memory",
        "a container or ulimit memory bound, address-space exhaustion by a leak",
        "the limit read back, and an allocation that failed in the victim after it (the "
        "probe's error record)",
        "the limit is restored if the victim still lives", "nothing", kMemCapKeys,
        "crashworthy run --fault resource.mem_cap --when after=200ms -- ./my_pipeline in/ out/",
        make_limit_injection},
};

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

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
constexpr FaultKey kHeadroom{
    "set.headroom",
    "SIZE that the victim may still map beyond what it has; default: none, whatever it frees "
    "(the limit is half of what it has mapped)",
    KeyType::kSize};

constexpr FaultKey kCallNumber{
    "when.call",
    "N or [LOW, HIGH]: the N-th matching call, counted over all processes of the trial from the "
    "command's exec on (or from when other conditions hold); default 1"};
constexpr FaultKey kCallRepeat{"when.repeat",
                               "{\"times\": T, \"every\": E}: fire T times, each E matching calls "
                               "after the one before; default "
                               "once"};
constexpr FaultKey kProbability{"when.probability",
                                "P: each of those calls is struck with this chance; default 1"};
constexpr FaultKey kCall{"set.call",
                         "NAME or NAME,NAME: the system calls that count, by the kernel's names "
                         "(pwrite64, openat)",
                         KeyType::kCalls, nullptr, true};
constexpr FaultKey kPath{
    "set.path",
    "GLOB: only calls on such a file: a path argument as written or made absolute, or what "
    "/proc/PID/fd/N says of a descriptor (/data/*, pipe:*); default: all",
    KeyType::kText};
constexpr FaultKey kErrno{"set.errno", "NAME: what the call fails with; default EIO",
                          KeyType::kErrno, "EIO"};
constexpr FaultKey kBytes{
    "set.bytes",
    "SIZE of what is transferred, at most 64M; calls that ask for no more do not match; default: "
    "half of what is asked for",
    KeyType::kSize};
constexpr FaultKey kDelay{"set.delay", "DURATION for which the call is held; default 100ms",
                          KeyType::kDuration, "100ms"};

constexpr const char* kNotifyNeeds =
    "seccomp user notification (Linux 5.6); no privilege; static programs too. The whole tree runs "
    "with NO_NEW_PRIVS: set-user-ID programs gain nothing. A path argument is read before the "
    "kernel reads it: a program that changes it meanwhile may be matched by the old one. Of "
    "several injections that want one call the first decides. 32-bit calls are not seen, the "
    "probe's own are not counted. When the harness dies, waiting calls fail with ENOSYS, and the "
    "tree is killed";

// ---- The keys of each row ----

constexpr std::array kKillKeys{kRole,  kHolding, kWorker, kIncarnation, kCommand,
                               kChild, kPick,    kAfter,  kItem,        kPhase,
                               kEvent, kAll,     kAny,    kThen,        kRepeat};
constexpr std::array kAbortKeys{kHit, kHitRepeat, kAfter, kItem, kPhase, kEvent, kAll, kAny, kThen};
constexpr std::array kMemCapKeys{kRole,  kHolding, kWorker, kIncarnation, kCommand,
                                 kChild, kAfter,   kItem,   kPhase,       kEvent,
                                 kAll,   kAny,     kThen,   kHeadroom};
constexpr std::array kIoErrnoKeys{kCall,        kErrno, kPath, kCallNumber, kCallRepeat,
                                  kProbability, kAfter, kItem, kPhase,      kEvent,
                                  kAll,         kAny,   kThen};
constexpr std::array kIoShortKeys{kCall,        kBytes, kPath, kCallNumber, kCallRepeat,
                                  kProbability, kAfter, kItem, kPhase,      kEvent,
                                  kAll,         kAny,   kThen};
constexpr std::array kIoDelayKeys{kCall,        kDelay, kPath, kCallNumber, kCallRepeat,
                                  kProbability, kAfter, kItem, kPhase,      kEvent,
                                  kAll,         kAny,   kThen};

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
    FaultRow{
        "resource.mem_cap", "resource_limit", PointRule::kNone, TriggerKind::kMoment, nullptr,
        "RLIMIT_AS on one process: it can map no more memory",
        "a container or ulimit memory bound, address-space exhaustion by a leak",
        "the limit read back, and an allocation that failed in the victim after it (the "
        "probe's error record)",
        "the limit is restored if the victim still lives", "nothing", kMemCapKeys,
        "crashworthy run --fault resource.mem_cap --when after=200ms -- ./my_pipeline in/ out/",
        make_limit_injection},
    FaultRow{"io.errno", "notify", PointRule::kNone, TriggerKind::kCounted, "call",
             "the N-th matching system call fails with an error of choice, and is not made",
             "a failing disk, a full one, a connection that breaks: EIO, ENOSPC, ECONNRESET",
             "the kernel took our answer to exactly that call (its number in the count, caller, "
             "arguments, file and error are the evidence)",
             "calls go on untouched", kNotifyNeeds, kIoErrnoKeys,
             "crashworthy inject io.errno --set call=write --set errno=EIO --when call=7 -- "
             "./program",
             make_notify_injection},
    FaultRow{"io.short", "notify", PointRule::kNone, TriggerKind::kCounted, "call",
             "the N-th matching read or write transfers fewer bytes than it was asked for",
             "signals, slow pipes and sockets, full disks: a program that does not loop over the "
             "rest loses it",
             "the bytes that we transferred in its place, fewer than it asked for and than there "
             "were, and that the kernel took their number as the answer to exactly that call",
             "calls go on untouched", kNotifyNeeds, kIoShortKeys,
             "crashworthy inject io.short --set call=read --set bytes=1 --when call=3 -- ./program",
             make_notify_injection},
    FaultRow{"io.delay", "notify", PointRule::kNone, TriggerKind::kCounted, "call",
             "the N-th matching system call is held for a time, then made as it is",
             "a slow or retrying disk, a stalled network file system, a paused virtual machine",
             "how long exactly that call was held until the kernel let it go on, or until its "
             "caller was ended by somebody (it can be killed meanwhile; other signals wait)",
             "what is still held goes on at once", kNotifyNeeds, kIoDelayKeys,
             "crashworthy inject io.delay --set call=fsync --set delay=2s --when call=5 -- "
             "./program",
             make_notify_injection},
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

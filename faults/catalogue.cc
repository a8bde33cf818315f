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

constexpr FaultKey kMainRole{"victim.role", "main (default); worker; supervisor; any",
                             KeyType::kReserved, "main"};
constexpr FaultKey kSupervisorRole{"victim.role", "supervisor (default, and the only one)",
                                   KeyType::kReserved, "supervisor"};
constexpr FaultKey kSignal{"set.signal", "NAME of the signal: SIGTERM, SIGSEGV, SIGUSR1, ...",
                           KeyType::kSignal, nullptr, true};
constexpr FaultKey kGrace{"set.grace", "DURATION until SIGKILL; default 5s", KeyType::kDuration,
                          "5s"};
constexpr FaultKey kHangDuration{"set.duration",
                                 "DURATION until SIGCONT; default: until the end of the trial",
                                 KeyType::kDuration};
constexpr FaultKey kLoopTimes{"set.times", "N deaths; default 3", KeyType::kCount, "3"};
constexpr FaultKey kDelay{"set.delay", "DURATION before each start", KeyType::kDuration, nullptr,
                          true};
constexpr FaultKey kCode{"set.code", "N: the exit code; default 127", KeyType::kCount, "127"};
constexpr FaultKey kRefusals{"set.times", "N: so many starts are refused, the first; default 1",
                             KeyType::kCount, "1"};
constexpr FaultKey kDescriptors{
    "set.limit", "N: descriptors have lower numbers than this; default: it can open no more",
    KeyType::kCount};
constexpr FaultKey kProcesses{
    "set.limit", "N processes and threads (of the user; for root: of the victim); default: no more",
    KeyType::kCount};
constexpr FaultKey kMemory{"set.limit", "SIZE that the victim may use from then on; default 64K",
                           KeyType::kSize, "64K"};
constexpr FaultKey kSpinners{"set.workers", "N processes that spin; default: as many as processors",
                             KeyType::kCount};
constexpr FaultKey kDuration{"set.duration",
                             "DURATION for which it lasts; default: until the end of the trial",
                             KeyType::kDuration};
constexpr FaultKey kShare{"set.share", "PERCENT of the time that the victim may run, 1 to 99",
                          KeyType::kCount, nullptr, true};
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
constexpr FaultKey kHeldFor{"set.delay", "DURATION for which the call is held; default 100ms",
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
constexpr std::array kSignalKeys{kRole, kHolding, kWorker, kIncarnation, kCommand, kChild,
                                 kPick, kAfter,   kItem,   kPhase,       kEvent,   kAll,
                                 kAny,  kThen,    kRepeat, kSignal};
constexpr std::array kTermKeys{kRole, kHolding, kWorker, kIncarnation, kCommand, kChild,
                               kPick, kAfter,   kItem,   kPhase,       kEvent,   kAll,
                               kAny,  kThen,    kRepeat, kGrace};
constexpr std::array kHangKeys{kRole, kWorker, kIncarnation, kCommand, kChild,
                               kPick, kAfter,  kItem,        kPhase,   kEvent,
                               kAll,  kAny,    kThen,        kRepeat,  kHangDuration};
constexpr std::array kTreeKeys{kMainRole, kWorker, kIncarnation, kCommand, kChild, kAfter,
                               kItem,     kPhase,  kEvent,       kAll,     kAny,   kThen};
constexpr std::array kSupervisorKeys{kSupervisorRole, kAfter, kItem, kPhase,
                                     kEvent,          kAll,   kAny,  kThen};
constexpr std::array kLoopKeys{kRole,  kHolding, kWorker, kIncarnation, kCommand,
                               kChild, kPick,    kAfter,  kItem,        kPhase,
                               kEvent, kAll,     kAny,    kThen,        kLoopTimes};
constexpr std::array kSlowStartKeys{kDelay};
constexpr std::array kFailStartKeys{kCode, kRefusals};
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
constexpr std::array kFdKeys{kRole,  kHolding, kWorker, kIncarnation, kCommand,
                             kChild, kAfter,   kItem,   kPhase,       kEvent,
                             kAll,   kAny,     kThen,   kDescriptors};
constexpr std::array kProcessKeys{kRole,  kHolding, kWorker, kIncarnation, kCommand,
                                  kChild, kAfter,   kItem,   kPhase,       kEvent,
                                  kAll,   kAny,     kThen,   kProcesses};
constexpr std::array kOomKeys{kRole, kHolding, kWorker, kIncarnation, kCommand, kChild, kAfter,
                              kItem, kPhase,   kEvent,  kAll,         kAny,     kThen,  kMemory};
constexpr std::array kStealKeys{kAfter, kItem, kPhase,    kEvent,   kAll,
                                kAny,   kThen, kSpinners, kDuration};
constexpr std::array kQuotaKeys{kRole,  kWorker, kIncarnation, kCommand, kChild, kAfter, kItem,
                                kPhase, kEvent,  kAll,         kAny,     kThen,  kShare, kDuration};
constexpr std::array kIoErrnoKeys{kCall,        kErrno, kPath, kCallNumber, kCallRepeat,
                                  kProbability, kAfter, kItem, kPhase,      kEvent,
                                  kAll,         kAny,   kThen};
constexpr std::array kIoShortKeys{kCall,        kBytes, kPath, kCallNumber, kCallRepeat,
                                  kProbability, kAfter, kItem, kPhase,      kEvent,
                                  kAll,         kAny,   kThen};
constexpr std::array kIoDelayKeys{kCall,        kHeldFor, kPath, kCallNumber, kCallRepeat,
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
    FaultRow{"process.signal", "signal", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "any signal, from outside, to processes of the subject",
             "a crash as its parent sees it, an operator, a terminal that closes, a job scheduler",
             "the victim's exit status is that signal, or it has a handler and nothing is pending, "
             "or all its threads are stopped; our send came before",
             "SIGCONT if it was stopped", "nothing", kSignalKeys,
             "crashworthy run --fault process.signal --set signal=SIGTERM -- ./pipeline in/ out/",
             make_signal_injection},
    FaultRow{"process.term", "signal", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "SIGTERM, and SIGKILL to whoever still lives after a grace",
             "an orderly shutdown: systemd, a container runtime, a roll-out",
             "the victim died of our signals, or ended within the grace and had a handler; whether "
             "the grace was used up",
             "nothing to undo", "nothing", kTermKeys,
             "crashworthy run --fault process.term --set grace=2s -- ./pipeline in/ out/",
             make_signal_injection},
    FaultRow{"process.hang", "hang", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "SIGSTOP: the process neither goes on nor ends",
             "a dead lock, a wait for a device or a lost reply, a suspended virtual machine",
             "every thread of the victim is seen stopped", "SIGCONT", "nothing", kHangKeys,
             "crashworthy run --fault process.hang --set duration=2s -- ./pipeline in/ out/",
             make_hang_injection},
    FaultRow{"process.kill_tree", "kill_tree", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "SIGKILL to a process and all below it, who cannot react to each other's death",
             "a container or a session that ends, the kill of a whole control group",
             "none of the tree is left, and the victim's exit status is SIGKILL", "nothing to undo",
             "nothing", kTreeKeys,
             "crashworthy run --fault process.kill_tree --when after=1s -- ./pipeline in/ out/",
             make_tree_kill_injection},
    FaultRow{"process.kill_supervisor", "signal", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "SIGKILL to the process that watches and replaces the others",
             "the OOM killer or a bug strikes the supervisor itself",
             "as for process.kill; what became of its children is recorded", "nothing to undo",
             "an arm with a supervisor", kSupervisorKeys,
             "crashworthy run --fault process.kill_supervisor -- ./pipeline in/ out/",
             make_signal_injection},
    FaultRow{"process.crashloop", "crashloop", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "SIGKILL to a process, and to each that takes its place, so many times",
             "a bad release or input that kills every new process at its start",
             "so many processes of that place died of SIGKILL, each after our send",
             "nothing to undo: it stops by itself", "somebody who replaces the victim", kLoopKeys,
             "crashworthy run --fault process.crashloop --set times=5 -- ./pipeline in/ out/",
             make_crashloop_injection},
    FaultRow{"process.slow_start", "start", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "the command takes longer to start, each time",
             "a cold cache, a slow disk or network at start-up, loading of large models",
             "the helper before the command wrote down that the delay was over",
             "it ends with the "
             "trial",
             "nothing", kSlowStartKeys,
             "crashworthy run --fault process.slow_start --set delay=2s -- ./pipeline in/ out/",
             make_start_injection},
    FaultRow{"process.fail_start", "start", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "the command ends with an exit code instead of starting, the first times",
             "a missing library or file, a port in use, a bad configuration after a roll-out",
             "the helper before the command wrote down each refusal, and its exit code",
             "it ends with the trial", "nothing", kFailStartKeys,
             "crashworthy run --fault process.fail_start --set times=2 -- ./pipeline in/ out/",
             make_start_injection},
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
        "the limit read back, and after it a call of the victim that failed with ENOMEM (a witness "
        "traces it until then), or OpenCV's error record of the probe",
        "the limit is restored if the victim still lives",
        "ptrace, or a probe: else it is indeterminate", kMemCapKeys,
        "crashworthy run --fault resource.mem_cap --when after=200ms -- ./my_pipeline in/ out/",
        make_limit_injection},
    FaultRow{"resource.fd_limit", "resource_limit", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "RLIMIT_NOFILE on one process: it can open no more descriptors",
             "a leak of descriptors, a low ulimit, many connections at once",
             "the limit read back, and after it a call of the victim that failed with EMFILE",
             "the limit is restored if the victim still lives", "ptrace: else it is indeterminate",
             kFdKeys,
             "crashworthy run --fault resource.fd_limit --when after=200ms -- ./pipeline in/ out/",
             make_limit_injection},
    FaultRow{"resource.process_limit", "resource_limit", PointRule::kNone, TriggerKind::kMoment,
             nullptr, "RLIMIT_NPROC on one process: it can start no more processes and threads",
             "a fork bomb of somebody else, a container's pids limit, leaked threads",
             "the limit read back, and after it a fork or clone of the victim that failed with "
             "EAGAIN",
             "the limit is restored if the victim still lives; the cgroup is removed",
             "ptrace: else it is indeterminate. For root, whom the limit does not bind, a writable "
             "cgroup with the controller pids: else it is skipped",
             kProcessKeys,
             "crashworthy run --fault resource.process_limit --when after=200ms -- ./pipeline in/",
             make_limit_injection},
    FaultRow{"resource.oom_kill", "oom_kill", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "the kernel's OOM killer strikes the victim, in a memory cgroup of its own",
             "a container that exceeds its memory limit, a machine without memory",
             "the cgroup's counter of OOM kills has risen, and the victim's exit status is SIGKILL",
             "the cgroup is removed", "a writable cgroup with the controller memory", kOomKeys,
             "crashworthy run --fault resource.oom_kill --when after=200ms -- ./pipeline in/ out/",
             make_oom_injection},
    FaultRow{"resource.cpu_steal", "cpu", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "processes that spin beside the subject",
             "a noisy neighbour, a stolen virtual processor, a runaway process",
             "each of them has had processor time", "they are killed", "nothing", kStealKeys,
             "crashworthy run --fault resource.cpu_steal --set workers=4 -- ./pipeline in/ out/",
             make_cpu_injection},
    FaultRow{"resource.cpu_quota", "cpu", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "the victim is stopped for a part of every 10 ms",
             "a container's CPU limit, a throttled or overheated processor",
             "the victim was runnable when it was stopped, and had no more than its share of the "
             "processor",
             "SIGCONT", "nothing", kQuotaKeys,
             "crashworthy run --fault resource.cpu_quota --set share=20 -- ./pipeline in/ out/",
             make_cpu_injection},
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

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
constexpr FaultKey kNativeRepeat{
    "when.repeat",
    "{\"times\": T, \"every\": E} with a point or symbol: fire T times, each E hits after the one "
    "before; {\"times\": T, \"gap\": DURATION or EVENT} without; default once"};
constexpr FaultKey kDelay{"set.delay", "DURATION that the thread stands still; default 1s",
                          KeyType::kDuration, "1s"};
constexpr FaultKey kCode{"set.code", "the exit code, 0 to 255; default 0", KeyType::kCount, "0"};
constexpr FaultKey kHeadroom{
    "set.headroom",
    "SIZE that the victim may still map beyond what it has; default: none, whatever it frees "
    "(the limit is half of what it has mapped)",
    KeyType::kSize};

// ---- The keys of each row ----

constexpr std::array kKillKeys{kRole,  kHolding, kWorker, kIncarnation, kCommand,
                               kChild, kPick,    kAfter,  kItem,        kPhase,
                               kEvent, kAll,     kAny,    kThen,        kRepeat};
constexpr std::array kNativeKeys{kRole, kHolding, kWorker, kIncarnation, kCommand, kChild,
                                 kPick, kAfter,   kItem,   kPhase,       kEvent,   kAll,
                                 kAny,  kThen,    kHit,    kNativeRepeat};
constexpr std::array kSlowKeys{kRole, kHolding, kWorker, kIncarnation,  kCommand, kChild,
                               kPick, kAfter,   kItem,   kPhase,        kEvent,   kAll,
                               kAny,  kThen,    kHit,    kNativeRepeat, kDelay};
constexpr std::array kExitKeys{kRole, kHolding, kWorker, kIncarnation,  kCommand, kChild,
                               kPick, kAfter,   kItem,   kPhase,        kEvent,   kAll,
                               kAny,  kThen,    kHit,    kNativeRepeat, kCode};
constexpr std::array kMemCapKeys{kRole,  kHolding, kWorker, kIncarnation, kCommand,
                                 kChild, kAfter,   kItem,   kPhase,       kEvent,
                                 kAll,   kAny,     kThen,   kHeadroom};

constexpr const char* kNativeNeeds =
    "tracing (ptrace) of the victim, on x86-64: no other tracer, no Yama or seccomp rule against "
    "it; "
    "at a fault point: a program that was built with it; at a symbol: a build with libelf";

constexpr std::array kRows{
    FaultRow{"process.kill", "signal", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "SIGKILL to one process of the subject",
             "the OOM killer, an operator's kill -9, a container runtime that enforces a limit",
             "the kernel's exit status of the victim is SIGKILL and our send came before it",
             "nothing to undo", "nothing", kKillKeys,
             "crashworthy run --fault process.kill --when after=200ms -- ./pipeline in/ out/",
             make_signal_injection},
    FaultRow{"native.segv", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "one thread jumps to address 0",
             "a call through a null or stale function pointer in native code",
             "the siginfo of its own SIGSEGV (SEGV_MAPERR at address 0), and its wait status",
             "nothing to undo", kNativeNeeds, kNativeKeys,
             "crashworthy run --fault native.segv --when after=200ms -- ./pipeline in/ out/",
             make_native_injection},
    FaultRow{
        "native.abort", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
        "the victim calls its own abort() (without one that is found by symbol: its own tgkill)",
        "a failed assertion or an uncaught exception in native code, deep inside a library's call",
        "the siginfo of its own SIGABRT (sender is itself), and its wait status; at a fault point "
        "also its hit record",
        "nothing to undo", kNativeNeeds, kNativeKeys,
        "crashworthy run --fault native.abort@jpeg_read_header --when hit=3 -- mogrify -resize 50% "
        "a.jpg",
        make_native_injection},
    FaultRow{"native.fpe", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "one thread divides by zero", "an integer division by an empty image's size",
             "the siginfo of its own SIGFPE (FPE_INTDIV), and its wait status", "nothing to undo",
             kNativeNeeds, kNativeKeys,
             "crashworthy run --fault native.fpe --when item=3 -- ./pipeline in/ out/",
             make_native_injection},
    FaultRow{"native.ill", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "one thread executes an undefined instruction",
             "code built for another processor, a compiler's trap after undefined behaviour",
             "the siginfo of its own SIGILL (ILL_ILLOPN), and its wait status", "nothing to undo",
             kNativeNeeds, kNativeKeys,
             "crashworthy run --fault native.ill --when item=3 -- ./pipeline in/ out/",
             make_native_injection},
    FaultRow{"native.bus", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "one thread loads from a mapped file that has no such page",
             "a file that was truncated while it was mapped, a full /dev/shm",
             "the siginfo of its own SIGBUS (BUS_ADRERR), and its wait status", "nothing to undo",
             kNativeNeeds, kNativeKeys,
             "crashworthy run --fault native.bus --when item=3 -- ./pipeline in/ out/",
             make_native_injection},
    FaultRow{"native.stack_overflow", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "one thread calls itself until its stack ends", "recursion on a deep or hostile input",
             "the siginfo of its own SIGSEGV just below its stack pointer, and its wait status",
             "nothing to undo",
             "tracing (ptrace) of the victim, on x86-64, and a stack of at most 1 GiB", kNativeKeys,
             "crashworthy run --fault native.stack_overflow --when item=3 -- ./pipeline in/ out/",
             make_native_injection},
    FaultRow{"native.heap_corrupt", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "the victim frees a pointer that its allocator never gave",
             "a double free or a buffer overrun that the allocator notices",
             "the siginfo of the SIGABRT by its own allocator, and its wait status",
             "nothing to undo",
             "tracing (ptrace) of the victim, on x86-64, and a free() that is found by symbol",
             kNativeKeys,
             "crashworthy run --fault native.heap_corrupt --when item=3 -- ./pipeline in/ out/",
             make_native_injection},
    FaultRow{"native.spin", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "one thread loops for ever", "a loop whose end condition never comes true",
             "the thread is found in the loop, and has spent processor time there",
             "nothing: it lasts until somebody ends the victim", kNativeNeeds, kNativeKeys,
             "crashworthy run --fault native.spin --when item=3 -- ./pipeline in/ out/",
             make_native_injection},
    FaultRow{"native.deadlock", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "one thread waits in the kernel for ever, with whatever locks it holds",
             "a lock that is never released, a reply that never comes",
             "the call in which the thread stands (/proc/PID/syscall)",
             "nothing: it lasts until somebody ends the victim", kNativeNeeds, kNativeKeys,
             "crashworthy run --fault native.deadlock --when item=3 -- ./pipeline in/ out/",
             make_native_injection},
    FaultRow{
        "native.slow", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
        "one thread sleeps for a while, with whatever locks it holds, and goes on unharmed",
        "a page fault on a slow disk, a processor that is taken away, a slow lock",
        "the thread was found asleep in the injected call when the time was over",
        "registers, signal mask and mappings are put back after the delay", kNativeNeeds, kSlowKeys,
        "crashworthy run --fault native.slow --set delay=2s --when item=3 -- ./pipeline in/ out/",
        make_native_injection},
    FaultRow{"native.bitflip", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "one bit of the victim's own memory changes: of a byte that is not zero, on a "
             "resident page of its heap or of other anonymous memory",
             "a failing memory cell, a stray write", "the byte read back",
             "the bit is flipped back if the victim still lives and has not changed the byte",
             kNativeNeeds, kNativeKeys,
             "crashworthy run --fault native.bitflip --when item=3 -- ./pipeline in/ out/",
             make_native_injection},
    FaultRow{"process.exit_early", "trace", PointRule::kOptional, TriggerKind::kMoment, "hit",
             "the victim exits at once, without any clean-up, in the middle of its work",
             "a library that calls exit() on an error, a script that ends too soon",
             "the exit seen in the injected call, and its wait status", "nothing to undo",
             kNativeNeeds, kExitKeys,
             "crashworthy run --fault process.exit_early --set code=3 --when item=3 -- ./pipeline "
             "in/ out/",
             make_native_injection},
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

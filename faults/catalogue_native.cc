// The catalogue: what goes wrong inside of native code.
#include <array>

#include "faults/catalogue_rows.h"
#include "faults/mechanisms.h"

namespace crashworthy {
namespace {

using namespace keys;

constexpr FaultKey kNativeRepeat{
    "when.repeat",
    "{\"times\": T, \"every\": E} with a point or symbol: fire T times, each E hits after the one "
    "before; {\"times\": T, \"gap\": DURATION or EVENT} without; default once"};
constexpr FaultKey kHitRepeat{
    "when.repeat",
    "{\"times\": T, \"every\": E}: fire T times, each E hits after the one before; default once"};
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
constexpr FaultKey kDelay{"set.delay",
                          "DURATION that the thread stands still; default 1s",
                          KeyType::kDuration,
                          "1s",
                          false,
                          1};
constexpr FaultKey kCode{
    "set.code", "the exit code, 0 to 255; default 0", KeyType::kCount, "0", false, 0, 255};
constexpr const char* kNativeNeeds =
    "tracing (ptrace) of the victim, on x86-64: no other tracer, no Yama or seccomp rule against "
    "it; at a "
    "fault point: a program that was built with it; at a symbol: a build with libelf";

constexpr std::array kSlowKeys{kRole, kHolding, kWorker, kIncarnation,  kCommand, kChild,
                               kPick, kAfter,   kItem,   kPhase,        kEvent,   kAll,
                               kAny,  kThen,    kHit,    kNativeRepeat, kDelay};
constexpr std::array kExitKeys{kRole, kHolding, kWorker, kIncarnation,  kCommand, kChild,
                               kPick, kAfter,   kItem,   kPhase,        kEvent,   kAll,
                               kAny,  kThen,    kHit,    kNativeRepeat, kCode};
constexpr std::array kThrowKeys{kHit,   kHitRepeat, kProbability, kAfter, kItem,     kPhase,
                                kEvent, kAll,       kAny,         kThen,  kException};
constexpr std::array kPoisonKeys{kHit, kAfter, kItem, kPhase,     kEvent,
                                 kAll, kAny,   kThen, kPoisonItem};
constexpr std::array kAllocKeys{kAllocCall, kCallRepeat, kProbability, kAfter, kItem,   kPhase,
                                kEvent,     kAll,        kAny,         kThen,  kSizeMin};
constexpr std::array kNativeKeys{kRole, kHolding, kWorker, kIncarnation,  kCommand,    kChild,
                                 kPick, kAfter,   kItem,   kPhase,        kEvent,      kAll,
                                 kAny,  kThen,    kHit,    kNativeRepeat, kProbability};

constexpr std::array kRows{
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
    FaultRow{"native.alloc_fail", "alloc_fail", PointRule::kNone, TriggerKind::kCounted, "call",
             "one allocation that returns null, with ENOMEM",
             "memory that runs out for one moment, in the one place where nobody checks",
             "the record of the call, in the process that made it: its number, its size, and that "
             "it returned null",
             "nothing to undo: every other call is as before",
             "programs that are dynamically linked, and not set-user-ID", kAllocKeys,
             "crashworthy run --fault native.alloc_fail --when call=100 -- ./my_pipeline in/ out/",
             make_alloc_injection},
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
             make_native_injection}};

}  // namespace

std::span<const FaultRow> native_rows() { return kRows; }

}  // namespace crashworthy

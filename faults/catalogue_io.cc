// The catalogue: what system calls meet.
#include <array>

#include "faults/catalogue_rows.h"
#include "faults/mechanisms.h"

namespace crashworthy {
namespace {

using namespace keys;

constexpr FaultKey kCallRepeat{"when.repeat",
                               "{\"times\": T, \"every\": E}: fire T times, each E matching calls "
                               "after the one before; default "
                               "once"};
constexpr FaultKey kCallNumber{
    "when.call",
    "N or [LOW, HIGH]: the N-th matching call, counted over all processes of the trial from the "
    "command's exec on (or from when other conditions hold); default 1"};
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
    "SIZE of what is transferred, 1 to 64M; calls that ask for no more do not match; default: "
    "half of what is asked for",
    KeyType::kSize,
    nullptr,
    false,
    1,
    64 << 20};
constexpr FaultKey kHeldFor{"set.delay",
                            "DURATION for which the call is held; default 100ms",
                            KeyType::kDuration,
                            "100ms",
                            false,
                            1};
constexpr const char* kNotifyNeeds =
    "seccomp user notification (Linux 5.6); no privilege; static programs too. The whole tree runs "
    "with NO_NEW_PRIVS: set-user-ID programs gain nothing. A path argument is read before the "
    "kernel reads it: a program that changes it meanwhile may be matched by the old one. Of "
    "several injections that want one call the first decides. 32-bit calls are not seen, the "
    "probe's own are not counted. When the harness dies, waiting calls fail with ENOSYS, and the "
    "tree is killed";

constexpr std::array kIoErrnoKeys{kCall,        kErrno, kPath, kCallNumber, kCallRepeat,
                                  kProbability, kAfter, kItem, kPhase,      kEvent,
                                  kAll,         kAny,   kThen};
constexpr std::array kIoShortKeys{kCall,        kBytes, kPath, kCallNumber, kCallRepeat,
                                  kProbability, kAfter, kItem, kPhase,      kEvent,
                                  kAll,         kAny,   kThen};
constexpr std::array kIoDelayKeys{kCall,        kHeldFor, kPath, kCallNumber, kCallRepeat,
                                  kProbability, kAfter,   kItem, kPhase,      kEvent,
                                  kAll,         kAny,     kThen};

constexpr std::array kRows{
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
             make_notify_injection}};

}  // namespace

std::span<const FaultRow> io_rows() { return kRows; }

}  // namespace crashworthy

// The catalogue: what happens to processes from outside.
#include <array>

#include "faults/catalogue_rows.h"
#include "faults/mechanisms.h"

namespace crashworthy {
namespace {

using namespace keys;

constexpr FaultKey kDelay{
    "set.delay", "DURATION before each start", KeyType::kDuration, nullptr, true, 1};
constexpr FaultKey kCode{
    "set.code", "N: the exit code, 0 to 255; default 127", KeyType::kCount, "127", false, 0, 255};
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
                                 KeyType::kDuration,
                                 nullptr,
                                 false,
                                 1};
constexpr FaultKey kLoopTimes{
    "set.times", "N deaths, at least 1; default 3", KeyType::kCount, "3", false, 1, 10'000};
constexpr FaultKey kRefusals{
    "set.times",     "N, at least 1: so many starts are refused, the first; default 1",
    KeyType::kCount, "1",
    false,           1};

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
             make_start_injection}};

}  // namespace

std::span<const FaultRow> process_rows() { return kRows; }

}  // namespace crashworthy

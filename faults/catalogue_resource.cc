// The catalogue: what runs out.
#include <array>

#include "faults/catalogue_rows.h"
#include "faults/mechanisms.h"

namespace crashworthy {
namespace {

using namespace keys;

constexpr FaultKey kHeadroom{
    "set.headroom",
    "SIZE that the victim may still map beyond what it has; default: none, whatever it frees "
    "(the limit is half of what it has mapped)",
    KeyType::kSize};
constexpr FaultKey kDescriptors{
    "set.limit", "N: descriptors have lower numbers than this; default: it can open no more",
    KeyType::kCount};
constexpr FaultKey kProcesses{
    "set.limit", "N processes and threads (of the user; for root: of the victim); default: no more",
    KeyType::kCount};
constexpr FaultKey kMemory{"set.limit", "SIZE that the victim may use from then on; default 64K",
                           KeyType::kSize, "64K"};
constexpr FaultKey kSpinners{"set.workers",
                             "N processes that spin, 1 to 64; default: as many as processors",
                             KeyType::kCount,
                             nullptr,
                             false,
                             1,
                             64};
constexpr FaultKey kDuration{"set.duration",
                             "DURATION for which it lasts; default: until the end of the trial",
                             KeyType::kDuration,
                             nullptr,
                             false,
                             1};
constexpr FaultKey kShare{"set.share",
                          "PERCENT of the time that the victim may run, 1 to 99",
                          KeyType::kCount,
                          nullptr,
                          true,
                          1,
                          99};

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

// (A tmpfs of size 0 has no bound.)
constexpr FaultKey kRoom{
    "set.size", "SIZE that it has room for; default 1M", KeyType::kSize, "1M", false, 1};
constexpr std::array kShmFullKeys{kRoom};
constexpr std::array kDiskFullKeys{
    kRoom, FaultKey{"set.path",
                    "DIRECTORY, which is there, that becomes a small file system; default: the "
                    "subject's output directory, where it is known (`inject` does not know it). "
                    "What lies there is not seen by the subject",
                    KeyType::kText}};

constexpr std::array kRows{
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
    FaultRow{
        "resource.disk_full", "full_fs", PointRule::kNone, TriggerKind::kLaunch, nullptr,
        "a directory of the subject is a file system with little room", "a full disk or a quota",
        "a call of the subject that failed with ENOSPC on that file system",
        "the file system ends with the subject; what a trial wrote there is copied out and "
        "judged",
        "the containment level pid_namespace", kDiskFullKeys,
        "crashworthy run --fault resource.disk_full --set size=64K --set path=out -- ./program",
        make_full_fs_injection},
    FaultRow{"resource.shm_full", "full_fs", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "/dev/shm has little room for the subject",
             "a container with the usual 64 MB of shared memory",
             "a call of the subject that failed with ENOSPC in /dev/shm, or its SIGBUS when that "
             "was full",
             "the file system ends with the subject", "the containment level pid_namespace",
             kShmFullKeys, "crashworthy run --fault resource.shm_full --set size=64K -- ./program",
             make_full_fs_injection}};

}  // namespace

std::span<const FaultRow> resource_rows() { return kRows; }

}  // namespace crashworthy

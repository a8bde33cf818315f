// The catalogue: what is wrong with the input.
#include <array>

#include "faults/catalogue_rows.h"
#include "faults/mechanisms.h"

namespace crashworthy {
namespace {

constexpr FaultKey kInputCount{
    "set.count", "N, at least 1: so many files; default 1", KeyType::kCount, "1", false, 1};
constexpr FaultKey kInputPath{
    "set.path",
    "GLOB: only inputs of that name, as the subject's working directory has them; default: any",
    KeyType::kText};

constexpr std::array kInputKeys{kInputPath, kInputCount};
constexpr std::array kReorderKeys{kInputPath};
constexpr std::array kTruncateKeys{
    kInputPath, kInputCount,
    FaultKey{"set.keep", "what is left of it: a share, 0% to 99%, or SIZE; default 50%",
             KeyType::kPortion, "50%", false, 0, 99}};
constexpr std::array kInputBitflipKeys{
    kInputPath, kInputCount,
    FaultKey{"set.bits", "N, at least 1: so many bits; default 1", KeyType::kCount, "1", false, 1},
    FaultKey{"set.skip", "SIZE of the start that is left alone; default 0", KeyType::kSize, "0"}};
constexpr std::array kHugeHeaderKeys{
    kInputPath, kInputCount,
    FaultKey{"set.pixels", "N, at least 1: the width and the height that it claims; default 65500",
             KeyType::kCount, "65500", false, 1, UINT32_MAX}};
constexpr std::array kLateKeys{
    kInputPath, kInputCount,
    FaultKey{"set.delay", "DURATION after the launch", KeyType::kDuration, nullptr, true, 1}};

constexpr const char* kInputProof =
    "the file's checksum before and after, and inotify: the changed file was opened for reading";
constexpr const char* kInputUndone =
    "only the trial's own copy is changed, or a changed copy is mounted over it; the original is "
    "never touched";
constexpr const char* kInputNeeds =
    "inputs of the trial's own (`run --inputs`, a pipeline's set); else the containment level "
    "pid_namespace, and a subject that does not replace the file";
constexpr const char* kOwnInputNeeds =
    "inputs of the trial's own (`run --inputs`, a pipeline's set)";

constexpr std::array kRows{
    FaultRow{"input.truncate", "input", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "the end of an input file is missing",
             "an interrupted copy or download, a full disk at the producer", kInputProof,
             kInputUndone, kInputNeeds, kTruncateKeys,
             "crashworthy run --inputs '*.jpg' --fault input.truncate --set keep=50% -- ./program",
             make_input_injection},
    FaultRow{"input.bitflip", "input", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "bits of an input file are flipped",
             "a bad memory module, cable or disk behind no checksum", kInputProof, kInputUndone,
             kInputNeeds, kInputBitflipKeys,
             "crashworthy run --inputs '*.jpg' --fault input.bitflip --set bits=3 --set skip=100 "
             "-- ./program",
             make_input_injection},
    FaultRow{"input.garbage", "input", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "an input file holds random bytes of the same length",
             "a wrong file under the right name, a lost encryption key", kInputProof, kInputUndone,
             kInputNeeds, kInputKeys,
             "crashworthy run --inputs '*.jpg' --fault input.garbage -- ./program",
             make_input_injection},
    FaultRow{"input.empty", "input", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "an input file has no bytes", "a producer that crashed between creating and writing",
             kInputProof, kInputUndone, kInputNeeds, kInputKeys,
             "crashworthy run --inputs '*.jpg' --fault input.empty -- ./program",
             make_input_injection},
    FaultRow{"input.huge_header", "input", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "the header of an input image claims a huge width and height",
             "a malicious or damaged file: a decompression bomb", kInputProof, kInputUndone,
             kInputNeeds, kHugeHeaderKeys,
             "crashworthy run --inputs '*.jpg' --fault input.huge_header -- ./program",
             make_input_injection},
    FaultRow{"input.missing", "input", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "an input file is not there", "a producer that failed, a file that somebody deleted",
             "its directory was listed without it (inotify), or a call on its name failed "
             "with ENOENT (seen by tracing)",
             kInputUndone, kOwnInputNeeds, kInputKeys,
             "crashworthy run --inputs '*.jpg' --fault input.missing -- ./program",
             make_input_injection},
    FaultRow{"input.duplicate", "input", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "an input file is there twice, under another name", "a producer that repeats its work",
             "inotify: the copy was opened for reading", kInputUndone, kOwnInputNeeds, kInputKeys,
             "crashworthy run --inputs '*.jpg' --fault input.duplicate -- ./program",
             make_input_injection},
    FaultRow{"input.reorder", "input", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "two input files have each other's content", "a race of two producers for a name",
             kInputProof, kInputUndone, kInputNeeds, kReorderKeys,
             "crashworthy run --inputs '*.jpg' --fault input.reorder -- ./program",
             make_input_injection},
    FaultRow{"input.late", "input", PointRule::kNone, TriggerKind::kLaunch, nullptr,
             "an input file appears only some time after the launch",
             "a slow producer or network file system",
             "before it appeared, its directory was listed without it (inotify), or a call on "
             "its name failed with ENOENT (seen by tracing)",
             kInputUndone, kOwnInputNeeds, kLateKeys,
             "crashworthy run --inputs '*.jpg' --fault input.late --set delay=500ms -- ./program",
             make_input_injection}};

}  // namespace

std::span<const FaultRow> input_rows() { return kRows; }

}  // namespace crashworthy

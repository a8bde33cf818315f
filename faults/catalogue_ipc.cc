// The catalogue: what happens to streams.
#include <array>

#include "faults/catalogue_rows.h"
#include "faults/mechanisms.h"

namespace crashworthy {
namespace {

using namespace keys;

constexpr FaultKey kStream{"set.stream", "stdin, stdout or stderr of the subject; or else `socket`",
                           KeyType::kText};
constexpr FaultKey kSocket{"set.socket",
                           "PATH at which the relay listens (a Unix stream socket; nothing may be "
                           "there); the subject, or who talks to it, is told this path",
                           KeyType::kText};
constexpr FaultKey kUpstream{"set.upstream", "PATH of the socket that `socket` stands for",
                             KeyType::kText};
constexpr FaultKey kDirection{"set.direction",
                              "of a socket: forth (default), what those who connect send; or back",
                              KeyType::kText, "forth"};
constexpr FaultKey kAfterBytes{"set.after_bytes",
                               "N: not before N bytes have come; without any `when`, exactly there",
                               KeyType::kCount};
constexpr std::array kCommonKeys{kStream, kSocket, kUpstream, kDirection, kAfterBytes, kAfter,
                                 kItem,   kPhase,  kEvent,    kAll,       kAny,        kThen};

template <typename... Keys>
constexpr auto common_and(const Keys&... more) {
  std::array<FaultKey, kCommonKeys.size() + sizeof...(Keys)> keys{};
  std::size_t count = 0;
  for (const FaultKey& key : kCommonKeys) keys[count++] = key;
  ((keys[count++] = more), ...);
  return keys;
}

constexpr std::array kStallKeys =
    common_and(kRepeat, FaultKey{"set.duration", "DURATION; default: until the subject's end",
                                 KeyType::kDuration, nullptr, false, 1});
constexpr std::array kDropKeys =
    common_and(kRepeat, FaultKey{"set.bytes", "SIZE of what is lost, at least 1; default 4096",
                                 KeyType::kSize, "4096", false, 1});
constexpr std::array kCorruptKeys = common_and(
    kRepeat, FaultKey{"set.bits", "N, 1 to 1000000: one bit in each of N bytes; default 1",
                      KeyType::kCount, "1", false, 1, 1'000'000});

constexpr const char* kRelayUndone =
    "the relay passes on what is left and ends with the subject; a socket's file is removed";
constexpr const char* kRelayNeeds =
    "nothing; the subject sees a pipe, and passed descriptors do not come through a socket";

constexpr std::array kRows{
    FaultRow{
        "ipc.close", "relay", PointRule::kNone, TriggerKind::kMoment, nullptr,
        "one direction of a stream of the subject ends: readers see its end, and what is still "
        "written is lost and makes the next write fail",
        "the other side of a pipe or socket that crashed",
        "the relay's counts: bytes that came after the end", kRelayUndone, kRelayNeeds, kCommonKeys,
        "crashworthy run --fault ipc.close --set stream=stdout --set after_bytes=1000 -- "
        "./program",
        make_relay_injection},
    FaultRow{"ipc.stall", "relay", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "a stream of the subject stays open, and nothing goes through it",
             "a reader that hangs, a full queue behind a pipe",
             "the relay's counts: bytes that waited while it stalled", kRelayUndone, kRelayNeeds,
             kStallKeys,
             "crashworthy run --fault ipc.stall --set stream=stdout --set duration=2s -- ./program",
             make_relay_injection},
    FaultRow{"ipc.drop", "relay", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "bytes of a stream of the subject are lost",
             "a reader that was restarted, a buffer that was thrown away",
             "the relay's counts: bytes in and out, and where the gap is", kRelayUndone,
             kRelayNeeds, kDropKeys,
             "crashworthy run --fault ipc.drop --set stream=stdout --set bytes=100 -- ./program",
             make_relay_injection},
    FaultRow{"ipc.corrupt", "relay", PointRule::kNone, TriggerKind::kMoment, nullptr,
             "bits of a stream of the subject are flipped",
             "a damaged message, a sender with a memory error",
             "the relay's record of each changed byte; digests of what came and went", kRelayUndone,
             kRelayNeeds, kCorruptKeys,
             "crashworthy run --fault ipc.corrupt --set stream=stdin --set bits=3 -- ./program",
             make_relay_injection}};

}  // namespace

std::span<const FaultRow> ipc_rows() { return kRows; }

}  // namespace crashworthy

// What the harness and crashworthy-init say to each other. Both come from one build, so the structs
// carry a version and nothing to negotiate.
//
// The harness gives crashworthy-init the command in a memfd (SpecHeader, the descriptor numbers,
// then the strings) and keeps the write end of the lifeline, a pipe on which nothing is ever
// written. crashworthy-init answers with one Message a packet on a SEQPACKET socket. A shim takes
// one Order a packet on the same socket.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crashworthy {

// Descriptors of a process started as `crashworthy-init --launch` or `--shim`; 0, 1 and 2 are the
// subject's.
inline constexpr int kControlFd = 3;
inline constexpr int kLaunchLifelineFd = 4;
inline constexpr int kSpecFd = 5;
inline constexpr int kFirstSubjectFd = 6;  // --launch: LaunchSpec::descriptors, in order; then
                                           // the gate, where the command is to be held.

// Descriptors of a process started as `crashworthy-init --guard PATH`.
inline constexpr int kGuardLifelineFd = 3;
inline constexpr int kGuardDirectoryFd = 4;

inline constexpr std::uint32_t kProtocolMagic = 0x43570003;  // "CW", version 3

// More would not fit into the jumps of the filter's program.
inline constexpr std::size_t kMaxNotifiedCalls = 250;

struct SpecHeader {
  std::uint32_t magic = kProtocolMagic;
  std::int32_t harness_pid = 0;
  std::int32_t forced_containment = -1;  // A Containment; -1: the best that works.
  std::uint32_t descriptors = 0;         // So many int32 numbers follow,
  std::uint32_t directories = 0;  // then so many NUL-terminated strings (0 or 1: the directory),
  std::uint32_t candidates = 0;   // the files to execute, the first that works,
  std::uint32_t arguments = 0;    // argv,
  std::uint32_t variables = 0;    // environ.
  std::uint64_t core_limit = 0;
  std::uint32_t limits_core = 0;  // 0: the limit stays as inherited.
  std::uint32_t held = 0;         // 1: the command waits for a byte at its gate before its exec.
  std::uint32_t mounts = 0;       // After environ: three strings each (source, target, options).
  std::uint32_t notified = 0;     // Before the strings: so many int32 numbers of system calls.
};
static_assert(sizeof(SpecHeader) == 56);

enum class MessageKind : std::uint32_t {
  kStarted,  // The command was executed. Descriptors: its pidfd, the reaper's pidfd, the cgroup.
  kFailed,   // It was not; `stage` and `error` say why. Nothing follows.
  kMainEnded,
  kDescendantEnded,
  kChildless,
  kHeld,      // Before kStarted: `pid` waits at its gate.
  kListener,  // Before kStarted: descriptor: the listener of the command's system call filter.
  // Of a shim only. Its kFailed is followed by more, its kStarted has the pidfd alone.
  kSetUp,  // `pid` is the reaper; orders are taken.
  kSuspended,
  kSuspendFailed,  // Not all of it could be stopped; all of it was continued.
  kResumed
};

enum class Stage : std::uint32_t {
  kProtocol,     // The specification could not be read.
  kContainment,  // The forced level does not work; `reason` says why.
  kFork,
  kSession,
  kMount,
  kFilter,
  kJoinCgroup,
  kCoreLimit,
  kDirectory,
  kDescriptors,
  kExecute
};

struct Message {
  std::uint32_t magic = kProtocolMagic;
  MessageKind kind = MessageKind::kFailed;
  std::int32_t pid = 0;         // As the subject sees it.
  std::int32_t raw_status = 0;  // The status word of waitpid(2).
  std::int64_t time_ns = 0;     // CLOCK_MONOTONIC.
  Stage stage = Stage::kProtocol;
  std::int32_t error = 0;  // An errno value.
  std::uint32_t containment = 0;
  std::uint32_t names_process = 0;  // 1: the packet's credentials are those of `pid`.
  std::uint32_t childless = 0;      // 1: kMainEnded, and kChildless in the same packet.
  char reason[228] = {};            // NUL-terminated: why the containment is not a better one.
};
static_assert(sizeof(Message) == 272);

enum class OrderKind : std::uint32_t {
  kStart,    // Descriptors: those of this incarnation.
  kStop,     // `signal`, then SIGCONT, to all.
  kKill,     // SIGKILL until nothing is left.
  kSuspend,  // SIGSTOP until all are stopped.
  kResume    // SIGCONT to all.
};

// What one packet can carry (the kernel's SCM_MAX_FD).
inline constexpr std::size_t kMaxOrderDescriptors = 253;

struct Order {
  std::uint32_t magic = kProtocolMagic;
  OrderKind kind = OrderKind::kKill;
  std::int32_t signal = 0;
  std::uint32_t descriptors = 0;                    // kStart: so many,
  std::int32_t numbers[kMaxOrderDescriptors] = {};  // which are these in the command.
};
static_assert(sizeof(Order) == 1028);

}  // namespace crashworthy

// What the harness and crashworthy-init say to each other. Both come from one build, so the structs
// carry a version and nothing to negotiate.
//
// The harness gives crashworthy-init the command in a memfd (SpecHeader, the descriptor numbers,
// then the strings) and keeps the write end of the lifeline, a pipe on which nothing is ever
// written. crashworthy-init answers with one Message a packet on a SEQPACKET socket.
#pragma once

#include <cstdint>

namespace crashworthy {

// Descriptors of a process started as `crashworthy-init --launch`; 0, 1 and 2 are the subject's.
inline constexpr int kControlFd = 3;
inline constexpr int kLaunchLifelineFd = 4;
inline constexpr int kSpecFd = 5;
inline constexpr int kFirstSubjectFd = 6;  // LaunchSpec::descriptors, in order.

// Descriptors of a process started as `crashworthy-init --guard PATH`.
inline constexpr int kGuardLifelineFd = 3;
inline constexpr int kGuardDirectoryFd = 4;

inline constexpr std::uint32_t kProtocolMagic = 0x43570001;  // "CW", version 1

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
};

enum class MessageKind : std::uint32_t {
  kStarted,  // The command was executed. Descriptors: its pidfd, the reaper's pidfd, the cgroup.
  kFailed,   // It was not; `stage` and `error` say why. Nothing follows.
  kMainEnded,
  kDescendantEnded,
  kChildless
};

enum class Stage : std::uint32_t {
  kProtocol,     // The specification could not be read.
  kContainment,  // The forced level does not work; `reason` says why.
  kFork,
  kSession,
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
  char reason[232] = {};            // NUL-terminated: why the containment is not a better one.
};
static_assert(sizeof(Message) == 272);

}  // namespace crashworthy

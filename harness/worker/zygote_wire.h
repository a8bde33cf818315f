// The packets between the coordinator and a zygote, each with at most one descriptor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

enum class ZygoteRequestKind : std::uint32_t {
  kWorker = 1,
  kTwin = 2,
  kKill =
      3  // Of a worker, or of the twin: the coordinator may have lost the right to do so itself.
};

// For the twin: in a ZygotePacket of the kind kFailed it could not be forked.
inline constexpr std::uint32_t kNoCell = 0xFFFFFFFF;

struct ZygoteRequest {
  ZygoteRequestKind kind = ZygoteRequestKind::kWorker;
  std::uint32_t cell = 0;
  std::uint32_t generation = 0;
};  // With kTwin comes the socket of the new zygote.

struct ZygotePacket {  // A ZygoteReport without its descriptor, which comes along.
  std::uint32_t kind = 0;
  std::uint32_t cell = 0;
  std::uint32_t generation = 0;
  std::int32_t pid = 0;
  std::int32_t value = 0;
};

// Sends one packet, and `descriptor` unless it is -1. 0 or an errno; EAGAIN when it may not wait
// and the socket is full.
int send_packet(int socket, const void* data, std::size_t size, int descriptor, bool wait);

enum class Packet { kWhole, kNothing, kClosed };
// Receives one packet of exactly `size` bytes without waiting; one of another size is kClosed, as
// is a dead peer.
Packet receive_packet(int socket, void* data, std::size_t size, UniqueFd& descriptor);

}  // namespace crashworthy

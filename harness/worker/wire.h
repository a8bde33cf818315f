// The messages between the coordinator and a worker: one datagram of a SOCK_SEQPACKET pair each, so
// a message is there whole or not at all, whatever kills its sender.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "harness/worker/executor.h"
#include "harness/worker/job_key.h"

namespace crashworthy {

inline constexpr std::size_t kMaxMessage = 1024;  // Of JobOutput::message; the rest is cut off.

enum class OrderKind : std::uint32_t {
  kActivate = 1,  // Become `worker`, `incarnation`, and say that you are ready.
  kJob = 2        // Execute (`item`, `part`) with the arguments that follow.
};

struct WorkerOrder {
  OrderKind kind = OrderKind::kJob;
  std::uint32_t worker = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t attempt = 0;
  std::uint64_t item = 0;
  std::uint32_t part = 0;
  std::uint32_t reserved = 0;
};

struct WorkerAnswer {
  std::uint32_t worker = 0;
  std::uint32_t incarnation = 0;
  std::uint64_t item = 0;
  std::uint32_t part = 0;
  std::int32_t failure = 0;  // FailureReason, 0 for none.
  std::uint32_t bytes_size = 0;
  std::uint32_t message_size = 0;
};

// --- The coordinator's side: never blocks. ---

// 0, or the errno of the refusal (EAGAIN: the worker's queue is full; EPIPE, ECONNRESET: it is
// gone).
int send_order(int socket, const WorkerOrder& order, std::string_view arguments = {});

struct AnswerBuffer {
  WorkerAnswer answer;
  std::array<char, kMaxPayload + kMaxMessage> data;
  JobOutput output() const;  // A copy of what the answer carries.
};
enum class Received { kAnswer, kNothing, kClosed, kMalformed };
Received receive_answer(int socket, AnswerBuffer& buffer);

// --- The worker's side: blocks. ---

struct OrderBuffer {
  WorkerOrder order;
  std::size_t size = 0;
  std::array<char, kMaxPayload> data;
  std::string_view arguments() const { return {data.data(), size}; }
};
// False when the coordinator is gone or speaks nonsense.
bool receive_order(int socket, OrderBuffer& buffer);
// Sends `output`, which must keep to kMaxPayload. False when the coordinator is gone.
bool send_answer(int socket, const ProbeIdentity& who, const JobKey& key, const JobOutput& output);

}  // namespace crashworthy

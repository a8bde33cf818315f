#include "harness/worker/wire.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <type_traits>

namespace crashworthy {
namespace {

static_assert(std::is_trivially_copyable_v<WorkerOrder> &&
              std::is_trivially_copyable_v<WorkerAnswer>);

template <std::size_t kCount>
ssize_t send_parts(int socket, std::array<iovec, kCount>& parts, int flags) {
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket, &message, flags | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

// The size of the datagram, 0 at the end, -1 with errno; a cut-off datagram is EMSGSIZE.
ssize_t receive_parts(int socket, std::array<iovec, 2> parts, int flags) {
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  ssize_t size = 0;
  do {
    // A peer that died with unread orders leaves one ECONNRESET in front of what it had sent. It is
    // told once; its answers come after it.
    size = ::recvmsg(socket, &message, flags);
  } while (size < 0 && (errno == EINTR || errno == ECONNRESET));
  if (size >= 0 && (message.msg_flags & MSG_TRUNC) != 0) {
    errno = EMSGSIZE;
    return -1;
  }
  return size;
}

iovec out(const void* data, std::size_t size) { return {const_cast<void*>(data), size}; }

}  // namespace

int send_order(int socket, const WorkerOrder& order, std::string_view arguments) {
  std::array<iovec, 2> parts{out(&order, sizeof order), out(arguments.data(), arguments.size())};
  return send_parts(socket, parts, MSG_DONTWAIT) < 0 ? errno : 0;
}

JobOutput AnswerBuffer::output() const {
  JobOutput output;
  output.bytes.assign(data.data(), answer.bytes_size);
  output.message.assign(data.data() + answer.bytes_size, answer.message_size);
  if (answer.failure != 0) output.failure = static_cast<FailureReason>(answer.failure);
  return output;
}

Received receive_answer(int socket, AnswerBuffer& buffer) {
  const ssize_t size = receive_parts(
      socket,
      {iovec{&buffer.answer, sizeof buffer.answer}, iovec{buffer.data.data(), buffer.data.size()}},
      MSG_DONTWAIT);
  if (size == 0) return Received::kClosed;
  if (size < 0) return errno == EAGAIN ? Received::kNothing : Received::kMalformed;
  const WorkerAnswer& answer = buffer.answer;
  const bool whole =
      static_cast<std::size_t>(size) >= sizeof answer && answer.bytes_size <= kMaxPayload &&
      answer.message_size <= kMaxMessage &&
      static_cast<std::size_t>(size) == sizeof answer + answer.bytes_size + answer.message_size;
  return whole ? Received::kAnswer : Received::kMalformed;
}

bool receive_order(int socket, OrderBuffer& buffer) {
  const ssize_t size = receive_parts(
      socket,
      {iovec{&buffer.order, sizeof buffer.order}, iovec{buffer.data.data(), buffer.data.size()}},
      0);
  if (size < static_cast<ssize_t>(sizeof buffer.order)) return false;
  buffer.size = static_cast<std::size_t>(size) - sizeof buffer.order;
  return true;
}

bool send_answer(int socket, const ProbeIdentity& who, const JobKey& key, const JobOutput& output) {
  WorkerAnswer answer;
  answer.worker = who.worker;
  answer.incarnation = who.incarnation;
  answer.item = key.item;
  answer.part = key.part;
  answer.failure = output.failure ? static_cast<std::int32_t>(*output.failure) : 0;
  answer.bytes_size = static_cast<std::uint32_t>(output.bytes.size());
  answer.message_size = static_cast<std::uint32_t>(std::min(output.message.size(), kMaxMessage));
  std::array<iovec, 3> parts{out(&answer, sizeof answer),
                             out(output.bytes.data(), answer.bytes_size),
                             out(output.message.data(), answer.message_size)};
  return send_parts(socket, parts, 0) >= 0;
}

}  // namespace crashworthy

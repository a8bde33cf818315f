#include "harness/process/message.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace crashworthy {
namespace {

// Room for both control messages, aligned as the CMSG macros need.
struct alignas(cmsghdr) ControlBuffer {
  char bytes[CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(sizeof(int) * kMaxOrderDescriptors)];
};

std::size_t put(ControlBuffer* buffer, std::size_t offset, int type, const void* data,
                std::size_t size) {
  auto* header = reinterpret_cast<cmsghdr*>(buffer->bytes + offset);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(size);
  std::memcpy(CMSG_DATA(header), data, size);
  return offset + CMSG_SPACE(size);
}

void take_control(msghdr* header, pid_t* credentials_pid, std::vector<UniqueFd>* descriptors) {
  for (cmsghdr* c = CMSG_FIRSTHDR(header); c != nullptr; c = CMSG_NXTHDR(header, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials{};
      std::memcpy(&credentials, CMSG_DATA(c), sizeof credentials);
      *credentials_pid = credentials.pid;
    } else if (c->cmsg_type == SCM_RIGHTS) {
      for (std::size_t at = 0; at < c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
        descriptors->emplace_back(fd);
      }
    }
  }
}

// Sends `size` bytes as one packet; returns 0 or an errno value.
int send_packet(int socket, const void* bytes, std::size_t size, std::span<const int> descriptors,
                pid_t named, int flags) {
  iovec data{const_cast<void*>(bytes), size};
  ControlBuffer buffer;  // Only what is put in is sent.
  std::size_t used = 0;
  if (named > 0) {
    const ucred credentials{named, ::geteuid(), ::getegid()};
    used = put(&buffer, used, SCM_CREDENTIALS, &credentials, sizeof credentials);
  }
  if (!descriptors.empty()) {
    used = put(&buffer, used, SCM_RIGHTS, descriptors.data(), descriptors.size_bytes());
  }
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = used > 0 ? buffer.bytes : nullptr;
  header.msg_controllen = used;
  while (::sendmsg(socket, &header, flags | MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

// Receives one packet of `size` bytes without blocking: false when none waits, kGone at the end of
// the stream, kCorrupt when it has another size.
Result<bool> receive_packet(int socket, void* bytes, std::size_t size, pid_t* credentials_pid,
                            std::vector<UniqueFd>* descriptors) {
  iovec data{bytes, size};
  ControlBuffer buffer;
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = buffer.bytes;
  header.msg_controllen = sizeof buffer.bytes;
  ssize_t count = 0;
  // ECONNRESET says, once, that the other side has ended without reading all of ours; what it had
  // sent before still waits behind that.
  bool reset = false;
  do {
    reset = reset || (count < 0 && errno == ECONNRESET);
    count = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (count < 0 && (errno == EINTR || (errno == ECONNRESET && !reset)));
  if (count < 0 && errno == EAGAIN) return false;
  if (count == 0 || (count < 0 && errno == ECONNRESET)) {
    return Error{ErrorKind::kGone, 0, "crashworthy-init has ended", {}};
  }
  if (count < 0) return system_error("receive from crashworthy-init", errno);
  take_control(&header, credentials_pid, descriptors);
  if (count != static_cast<ssize_t>(size) || (header.msg_flags & MSG_TRUNC) != 0) {
    return corrupt_error("a packet of another size than those of this version");
  }
  return true;
}

}  // namespace

Result<SocketPair> make_control_sockets() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    return system_error("create the control socket", errno);
  }
  SocketPair pair{UniqueFd(fds[0]), UniqueFd(fds[1])};
  const int on = 1;
  if (::setsockopt(pair.ours.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) {
    return system_error("ask for credentials on the control socket", errno);
  }
  return pair;
}

int send_message(int socket, const Message& message, std::span<const int> descriptors, pid_t named,
                 int flags) {
  return send_packet(socket, &message, sizeof message, descriptors, named, flags);
}

Result<std::optional<Received>> receive_message(int socket) {
  Received received;
  Message& message = received.message;
  const auto some = receive_packet(socket, &message, sizeof message, &received.credentials_pid,
                                   &received.descriptors);
  if (!some && some.error().kind != ErrorKind::kCorrupt) return some.error();
  if (some && !*some) return std::optional<Received>();
  if (!some || message.magic != kProtocolMagic) {
    return corrupt_error("crashworthy-init sent what is no message of this version");
  }
  message.reason[sizeof message.reason - 1] = '\0';
  return std::optional<Received>(std::move(received));
}

int send_order(int socket, const Order& order, std::span<const int> descriptors) {
  return send_packet(socket, &order, sizeof order, descriptors, 0, MSG_DONTWAIT);
}

Result<std::optional<ReceivedOrder>> receive_order(int socket) {
  ReceivedOrder received;
  pid_t nobody = 0;
  const auto some = receive_packet(socket, &received.order, sizeof received.order, &nobody,
                                   &received.descriptors);
  if (!some) return some.error();
  if (!*some) return std::optional<ReceivedOrder>();
  if (received.order.magic != kProtocolMagic || received.order.descriptors > kMaxOrderDescriptors) {
    return corrupt_error("an order of another version");
  }
  return std::optional<ReceivedOrder>(std::move(received));
}

}  // namespace crashworthy

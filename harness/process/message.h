// Messages over the control socket, with descriptors and with the pid of the process they speak of,
// which the kernel translates from the subject's pid namespace to ours.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/process/protocol.h"

namespace crashworthy {

struct SocketPair {
  UniqueFd ours;    // Receives messages, sends orders.
  UniqueFd theirs;  // Sends messages, receives orders; given to the other process.
};
// A SEQPACKET pair, close-on-exec, whose `ours` is told who each packet is from. Neither end is
// non-blocking by itself: each call below says whether it waits.
Result<SocketPair> make_control_sockets();

// Sends one packet. `named` > 0 puts that process (not the sender) into the credentials, which
// needs CAP_SYS_ADMIN over its pid namespace. Returns 0 or an errno value: EAGAIN when `flags` has
// MSG_DONTWAIT and the socket is full.
int send_message(int socket, const Message& message, std::span<const int> descriptors, pid_t named,
                 int flags);

struct Received {
  Message message;
  pid_t credentials_pid = 0;  // As the receiver sees it; 0 when it cannot.
  std::vector<UniqueFd> descriptors;
};

// Receives one packet without blocking; empty when none waits, kGone at the end of the stream,
// kCorrupt for what is no Message.
Result<std::optional<Received>> receive_message(int socket);

// The other way, to a shim. Sends one packet without blocking; returns 0 or an errno value.
int send_order(int socket, const Order& order, std::span<const int> descriptors);

struct ReceivedOrder {
  Order order;
  std::vector<UniqueFd> descriptors;  // Fewer than the order says where we may hold no more.
};
// As receive_message().
Result<std::optional<ReceivedOrder>> receive_order(int socket);

}  // namespace crashworthy

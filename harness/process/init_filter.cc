// The system call filter of a command: seccomp(2) with SECCOMP_RET_USER_NOTIF.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "harness/process/init.h"

namespace crashworthy {
namespace {

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#endif

// Allows all but the calls, all calls of other ABIs (x32, 32 bits), and those that carry our mark.
std::vector<sock_filter> program_for(const std::vector<int>& calls) {
  constexpr auto kMarkAt = offsetof(seccomp_data, args[kMarkArgument]);
  constexpr auto kLow = static_cast<std::uint32_t>(kOwnCallMark);
  constexpr auto kHigh = static_cast<std::uint32_t>(kOwnCallMark >> 32);
  std::vector<sock_filter> program{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
  };
  for (std::size_t i = 0; i < calls.size(); ++i) {
    // To what follows the last comparison and its "allow".
    const auto reported = static_cast<std::uint8_t>(calls.size() - i);
    program.push_back(
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(calls[i]), reported, 0));
  }
  for (const sock_filter& step : {
           sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
           sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kMarkAt),  // Little-endian: its low half.
           sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kLow, 0, 3),
           sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kMarkAt + 4),
           sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kHigh, 0, 1),
           sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
           sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
       }) {
    program.push_back(step);
  }
  return program;
}

// The listener's descriptor, or -1 with errno.
int install(const sock_fprog& filter) {
  // A caller whose call has been taken up can only be killed until it is answered; without that
  // (before Linux 5.19) a signal may have it make the call again.
  constexpr unsigned long kWaitKillable = 1ul << 5;
  constexpr unsigned long kListener = SECCOMP_FILTER_FLAG_NEW_LISTENER;
  long listener =
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, kListener | kWaitKillable, &filter);
  if (listener < 0 && errno == EINVAL) {
    listener = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, kListener, &filter);
  }
  return static_cast<int>(listener);
}

}  // namespace

int install_filter(const std::vector<int>& calls, int control) {
  if (calls.size() > kMaxNotifiedCalls) return E2BIG;
  std::vector<sock_filter> program = program_for(calls);
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  Message message;
  message.kind = MessageKind::kListener;
  iovec part{&message, sizeof message};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))] = {};
  msghdr packet{};
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  packet.msg_control = ancillary;
  packet.msg_controllen = sizeof ancillary;
  cmsghdr* rights = CMSG_FIRSTHDR(&packet);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  const int listener = install(filter);
  if (listener < 0) return errno;
  std::memcpy(CMSG_DATA(rights), &listener, sizeof listener);
  // The listener is close-on-exec.
  return own_call(SYS_sendmsg, control, &packet, 0) < 0 ? errno : 0;
}

}  // namespace crashworthy

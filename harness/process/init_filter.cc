// The system call filter of a command: seccomp(2) with SECCOMP_RET_USER_NOTIF.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
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

// Allows all but the calls, and all calls of other ABIs (x32, 32 bits).
std::vector<sock_filter> program_for(const std::vector<int>& calls) {
  std::vector<sock_filter> program{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
  };
  for (const int call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  return program;
}

}  // namespace

int install_filter(const std::vector<int>& calls, int control) {
  std::vector<sock_filter> program = program_for(calls);
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  Message message;
  message.kind = MessageKind::kListener;
  iovec part{&message, sizeof message};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))] = {};
  mmsghdr packet{};
  packet.msg_hdr.msg_iov = &part;
  packet.msg_hdr.msg_iovlen = 1;
  packet.msg_hdr.msg_control = ancillary;
  packet.msg_hdr.msg_controllen = sizeof ancillary;
  cmsghdr* rights = CMSG_FIRSTHDR(&packet.msg_hdr);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  // Whichever of the two calls is not reported: a reported one would wait for a listener that
  // nobody has yet.
  const bool one = std::find(calls.begin(), calls.end(), SYS_sendmsg) == calls.end();
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  const int listener = static_cast<int>(
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter));
  if (listener < 0) return errno;
  std::memcpy(CMSG_DATA(rights), &listener, sizeof listener);
  const long sent = one ? ::syscall(SYS_sendmsg, control, &packet.msg_hdr, 0)
                        : ::syscall(SYS_sendmmsg, control, &packet, 1, 0);
  // The listener is close-on-exec.
  return sent < 0 ? errno : 0;
}

}  // namespace crashworthy

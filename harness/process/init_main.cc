// crashworthy-init: started by crashworthy, of no use by hand.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "harness/process/init.h"

int main(int argc, char** argv) {
  // Only SIGKILL and SIGSTOP can reach this program; children are waited for with a signalfd.
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  // An ignored SIGCHLD, inherited from the harness, would let the kernel reap in our place.
  ::signal(SIGCHLD, SIG_DFL);
  // _exit: nothing of this process is worth a clean-up that could take time.
  if (argc >= 2 && std::strcmp(argv[1], "--launch") == 0) ::_exit(crashworthy::run_outer(false));
  if (argc >= 2 && std::strcmp(argv[1], "--shim") == 0) ::_exit(crashworthy::run_outer(true));
  if (argc == 3 && std::strcmp(argv[1], "--guard") == 0) ::_exit(crashworthy::run_guard(argv[2]));
  std::fprintf(stderr, "crashworthy-init is started by crashworthy, not by hand\n");
  return 64;
}

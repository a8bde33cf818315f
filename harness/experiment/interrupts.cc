#include "harness/experiment/interrupts.h"

#include <sys/signalfd.h>
#include <unistd.h>

namespace crashworthy {

Interrupts::Interrupts() {
  sigemptyset(&signals_);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    struct sigaction now {};
    // What nohup(1) has us ignore stays ignored: a blocked signal would reach the descriptor.
    if (::sigaction(signal, nullptr, &now) != 0 || now.sa_handler != SIG_IGN)
      sigaddset(&signals_, signal);
  }
  ::sigprocmask(SIG_BLOCK, &signals_, &before_);
  fd_.reset(::signalfd(-1, &signals_, SFD_CLOEXEC | SFD_NONBLOCK));
}

Interrupts::~Interrupts() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

int Interrupts::take() const {
  signalfd_siginfo info{};
  return ::read(fd_.get(), &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo)
                                                              : 0;
}

}  // namespace crashworthy

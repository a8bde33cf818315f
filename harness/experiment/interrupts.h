// The user's wish to stop, as a descriptor.
#pragma once

#include <csignal>

#include "harness/os/unique_fd.h"

namespace crashworthy {

// SIGINT, SIGTERM, SIGHUP and SIGQUIT, as far as they are not ignored, while it lives: they do not
// end us, but make fd() readable.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  int fd() const { return fd_.get(); }
  // The signal that came, or 0.
  int take() const;

 private:
  sigset_t signals_{};
  sigset_t before_{};
  UniqueFd fd_;
};

}  // namespace crashworthy

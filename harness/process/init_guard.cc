// crashworthy-init --guard PATH: removes a scratch directory when its owner has ended.
#include <poll.h>
#include <unistd.h>

#include <chrono>

#include "harness/os/pidfd.h"
#include "harness/process/init.h"
#include "harness/process/remove_tree.h"

namespace crashworthy {

int run_guard(const char* path) {
  constexpr std::chrono::milliseconds kBound{5'000};
  ::setsid();
  (void)!::chdir("/");
  // The pidfd too, because a fork of the owner may hold the lifeline open. A parent that is another
  // process by now makes no difference: the lifeline has ended then.
  const auto owner = open_pidfd(::getppid());
  pollfd fds[2] = {{kGuardLifelineFd, POLLIN, 0}, {owner ? owner->get() : -1, POLLIN, 0}};
  while (::poll(fds, 2, -1) < 0) {
  }
  return remove_directory(kGuardDirectoryFd, path, kBound) ? 0 : 1;
}

}  // namespace crashworthy

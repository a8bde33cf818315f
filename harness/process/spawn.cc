#include "harness/process/spawn.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/process/v2/posix/vfork_launcher.hpp>
#include <boost/process/v2/process.hpp>
#include <cerrno>
#include <csignal>
#include <exception>

#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

namespace process = boost::process::v2;

// vfork keeps a start as cheap from a harness that holds gigabytes as from a small one. It needs a
// Boost that closes descriptors with close_range: the other way, opendir, allocates in the child.
#if defined(BOOST_PROCESS_V2_HAS_CLOSE_RANGE)
using Launcher = process::posix::vfork_launcher;
#else
using Launcher = process::posix::default_launcher;
#endif

// Gives the child `sources` as 0, 1, 2, ... Boost's own bind_fd does not fit: its on_setup returns
// nothing, and close_all (1.81) leaves open what lies in the gaps between the wanted numbers.
class Descriptors {
 public:
  explicit Descriptors(const std::vector<int>& sources)
      : sources_(sources), raised_(sources.size(), -1) {}

  // In the child, between fork and exec: async-signal-safe. Plain system calls, because TSan, under
  // which vfork is fork, takes locks in fcntl and dup2 that another thread may have held.
  template <typename BoostLauncher>
  process::error_code on_exec_setup(BoostLauncher&, const process::filesystem::path&,
                                    const char* const*&) {
    const int count = static_cast<int>(sources_.size());
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      raised_[i] = static_cast<int>(::syscall(SYS_fcntl, sources_[i], F_DUPFD_CLOEXEC, count));
      if (raised_[i] < 0) return failure();
    }
    for (int i = 0; i < count; ++i) {
      if (::syscall(SYS_dup3, raised_[static_cast<std::size_t>(i)], i, 0) < 0) return failure();
    }
    return {};
  }

  // The launcher would call exit() here and run the handlers of its parent.
  template <typename... Arguments>
  void on_exec_error(Arguments&&...) {
    ::_exit(127);
  }

 private:
  static process::error_code failure() { return {errno, process::system_category()}; }

  const std::vector<int>& sources_;
  std::vector<int> raised_;  // Allocated before the fork.
};

// The child of vfork shares our memory, so no handler of ours may run in it.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

Result<Spawned> spawn(const std::filesystem::path& program,
                      const std::vector<std::string>& arguments,
                      const std::vector<int>& descriptors) {
  const std::string what = "start '" + program.string() + "'";
  boost::asio::io_context context;
  Launcher launcher;
  for (std::size_t i = 3; i < descriptors.size(); ++i) {
    launcher.fd_whitelist.push_back(static_cast<int>(i));
  }
  process::error_code failure;
  const process::filesystem::path file(program.native());
  const BlockedSignals blocked;
  auto child = launcher(context.get_executor(), failure, file, arguments, Descriptors(descriptors));
  if (failure) {
    if (launcher.pid > 0) ::waitpid(launcher.pid, nullptr, 0);
    return system_error(what, failure.value());
  }
  auto pidfd = open_pidfd(child.id());  // Boost's own cannot be had: native_handle() is missing.
  if (!pidfd) return pidfd.error().with_context(what);  // `child` kills it and reaps it.
  Spawned spawned{child.id(), *std::move(pidfd)};
  child.detach();
  return spawned;
}

}  // namespace

Result<Spawned> spawn_helper(const std::filesystem::path& program,
                             const std::vector<std::string>& arguments,
                             const std::vector<int>& descriptors) {
  CRASHWORTHY_CHECK(descriptors.size() >= 3, descriptors.size());
  try {
    return spawn(program, arguments, descriptors);
  } catch (const std::exception& exception) {
    return Error{
        ErrorKind::kSystem, 0, "start '" + program.string() + "': " + exception.what(), {}};
  }
}

}  // namespace crashworthy

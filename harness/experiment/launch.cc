#include "harness/experiment/launch.h"

#include <sys/resource.h>

namespace crashworthy {
namespace {

constexpr rlim_t kLeastOpenFiles = 128;

}  // namespace

Result<void> check_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kLeastOpenFiles) return {};
  return usage_error("a process may have " + std::to_string(limit.rlim_cur) +
                         " open files here (ulimit -n), and it takes " +
                         std::to_string(kLeastOpenFiles) + " to run a command under faults",
                     "raise it first: ulimit -n 256");
}

LaunchSpec launch_spec(const LaunchPlan& plan) {
  LaunchSpec launch;
  launch.argv = plan.argv;
  launch.environment = plan.environment;
  launch.directory = plan.directory;
  launch.descriptors = plan.descriptors;
  for (const LaunchPlan::Mount& mount : plan.mounts)
    launch.mounts.push_back({mount.source, mount.target, mount.options});
  launch.notified_calls = plan.notified_calls;
  launch.on_listener = plan.on_listener;
  if (plan.before_exec.empty()) return launch;
  launch.before_exec = [hooks = plan.before_exec](pid_t pid) -> Result<void> {
    for (const auto& hook : hooks) {
      if (auto done = hook(pid); !done) return done;
    }
    return {};
  };
  return launch;
}

}  // namespace crashworthy

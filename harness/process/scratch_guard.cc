#include "harness/process/scratch_guard.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>

#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/remove_tree.h"
#include "harness/process/spawn.h"

namespace crashworthy {
namespace fs = std::filesystem;

namespace {

constexpr std::chrono::milliseconds kRemoveBound{5'000};
constexpr int kGuardEndMs = 1'000;

Result<fs::path> absolute_path(const fs::path& path) {
  std::error_code failure;
  fs::path absolute = fs::absolute(path, failure).lexically_normal();
  if (failure) return system_error("resolve '" + path.string() + "'", failure.value());
  if (!absolute.has_filename()) absolute = absolute.parent_path();  // A slash at the end.
  return absolute;
}

Result<UniqueFd> open_empty_directory(const fs::path& path) {
  const std::string shown = "'" + path.string() + "'";
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid() && (errno == ENOTDIR || errno == ELOOP)) {
    return usage_error("scratch directory " + shown + " is a symlink or no directory",
                       "name a directory that does not exist yet");
  }
  if (!fd.valid()) return system_error("open scratch directory " + shown, errno);
  std::error_code failure;
  if (!fs::is_empty(path, failure) || failure) {
    return usage_error("scratch directory " + shown + " is not empty, and would be removed whole",
                       "name a directory that does not exist yet");
  }
  return fd;
}

Result<UniqueFd> make_directory(const fs::path& path) {
  if (path.empty() || path == path.root_path()) {
    return usage_error("'" + path.string() + "' cannot be a scratch directory");
  }
  if (auto made = make_directories(path.parent_path()); !made) return made.error();
  if (::mkdir(path.c_str(), 0777) != 0 && errno != EEXIST) {
    return system_error("create scratch directory '" + path.string() + "'", errno);
  }
  return open_empty_directory(path);
}

}  // namespace

Result<ScratchGuard> ScratchGuard::create(const fs::path& path) {
  if (path.empty()) return usage_error("the scratch directory has no name");
  const auto absolute = absolute_path(path);
  if (!absolute) return absolute.error();
  const auto program = find_helper("crashworthy-init");
  if (!program) return program.error();
  auto directory = make_directory(*absolute);
  if (!directory) return directory.error();
  const fs::path& place = *absolute;
  const auto give_up = [&place](Error error) {
    ::rmdir(place.c_str());
    return error;
  };
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) return give_up(system_error("create a pipe", errno));
  const UniqueFd read_end(pipe[0]);
  ScratchGuard guard;
  guard.lifeline_.reset(pipe[1]);
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  auto spawned =
      spawn_helper(*program, {"--guard", place.string()},
                   {null.get(), null.get(), null.get(), read_end.get(), directory->get()});
  if (!spawned) return give_up(spawned.error().with_context("guard '" + place.string() + "'"));
  guard.path_ = place;
  guard.directory_ = *std::move(directory);
  guard.guard_ = std::move(spawned->pidfd);
  return guard;
}

Result<void> ScratchGuard::remove() {
  if (!directory_.valid()) return {};
  // Before the guard goes: should we be killed half-way, it does the rest.
  auto removed = remove_directory(directory_.get(), path_, kRemoveBound);
  directory_.reset();
  (void)send_signal(guard_.get(), SIGKILL);  // It could do no more than we did.
  if (wait_for_end(guard_.get(), kGuardEndMs)) (void)reap(guard_.get());
  lifeline_.reset();
  guard_.reset();
  return removed;
}

ScratchGuard& ScratchGuard::operator=(ScratchGuard&& other) noexcept {
  if (this == &other) return *this;
  (void)remove();
  path_ = std::move(other.path_);
  directory_ = std::move(other.directory_);
  lifeline_ = std::move(other.lifeline_);
  guard_ = std::move(other.guard_);
  return *this;
}

ScratchGuard::~ScratchGuard() { (void)remove(); }

}  // namespace crashworthy

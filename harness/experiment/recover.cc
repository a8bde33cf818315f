#include "harness/experiment/recover.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "harness/experiment/injected_subject.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/process_tree.h"
#include "harness/process/remove_tree.h"
#include "results/history.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Kind = Resource::Kind;

constexpr std::chrono::seconds kBound(5);
constexpr std::chrono::milliseconds kPause(10);
constexpr int kTries = 200;
constexpr std::array<const char*, 6> kWords{"file",   "directory", "socket",
                                            "cgroup", "process",   "limit"};

std::string name_of(const Resource& resource) {
  const std::string word = kWords[static_cast<std::size_t>(resource.kind)];
  if (resource.kind <= Kind::kCgroup) return word + " '" + resource.path.string() + "'";
  const std::string of = resource.kind == Kind::kLimit ? " of process " : " ";
  return word + of + std::to_string(resource.pid);
}

bool is_of_kind(const Resource& resource) {
  std::error_code failure;
  switch (fs::symlink_status(resource.path, failure).type()) {
    case fs::file_type::directory:
      return resource.kind == Kind::kDirectory || resource.kind == Kind::kCgroup;
    case fs::file_type::socket:
      return resource.kind == Kind::kSocket;
    default:
      return resource.kind == Kind::kFile;
  }
}

Finding outcome(Finding finding, Leftover state, std::string detail) {
  finding.state = state;
  finding.detail = std::move(detail);
  return finding;
}

// SIGKILL to whatever is in it. Its name says that it is of ours alone.
void kill_members(const fs::path& cgroup) {
  const int kill = ::open((cgroup / "cgroup.kill").c_str(), O_WRONLY | O_CLOEXEC);
  if (kill >= 0) {
    (void)!::write(kill, "1", 1);
    ::close(kill);
  }
  // Version 1 has no such file; and a frozen process does not die.
  for (const auto& [file, word] :
       {std::pair("freezer.state", "THAWED"), std::pair("cgroup.freeze", "0")}) {
    const UniqueFd fd(::open((cgroup / file).c_str(), O_WRONLY | O_CLOEXEC));
    if (fd.valid()) (void)!::write(fd.get(), word, std::strlen(word));
  }
  const auto members = read_file(cgroup / "cgroup.procs");
  std::istringstream pids(members ? *members : std::string());
  for (pid_t pid = 0; pids >> pid;) {
    auto pidfd = open_pidfd(pid);
    if (pidfd && pid > 1 && pid != ::getpid()) (void)send_signal(pidfd->get(), SIGKILL);
  }
}

Finding undo_cgroup(const Resource& resource, Finding finding) {
  for (int i = 0; i < kTries; ++i) {
    kill_members(resource.path);
    if (::rmdir(resource.path.c_str()) == 0 || errno == ENOENT)
      return outcome(finding, Leftover::kUndone, "removed");
    std::this_thread::sleep_for(kPause);
  }
  return outcome(finding, Leftover::kRemaining, std::strerror(errno));
}

Finding undo_path(const Resource& resource, Finding finding) {
  const auto there = inode_at(resource.path);
  if (!there) return outcome(finding, Leftover::kGone, "");
  if (!resource.path.is_absolute() || !resource.path.filename().string().starts_with(kOwnPrefix))
    return outcome(finding, Leftover::kForeign, "its name is not one of ours");
  if (!is_of_kind(resource)) return outcome(finding, Leftover::kForeign, "it is something else");
  if (resource.inode && !(*resource.inode == *there))
    return outcome(finding, Leftover::kForeign, "another one has its name");
  if (resource.kind == Kind::kCgroup) return undo_cgroup(resource, std::move(finding));
  if (resource.kind == Kind::kDirectory) {
    const UniqueFd fd(
        ::open(resource.path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd.valid()) return outcome(finding, Leftover::kRemaining, std::strerror(errno));
    if (auto removed = remove_directory(fd.get(), resource.path, kBound); !removed)
      return outcome(finding, Leftover::kRemaining, removed.error().message);
    return outcome(finding, Leftover::kUndone, "removed");
  }
  if (::unlink(resource.path.c_str()) != 0)
    return outcome(finding, Leftover::kRemaining, std::strerror(errno));
  return outcome(finding, Leftover::kUndone, "removed");
}

Finding undo_in_process(const Resource& resource, Finding finding) {
  auto pidfd = open_pidfd(resource.pid);  // First: then it stays the process that is looked at.
  const auto born = start_time_of(resource.pid);
  if (!pidfd || !born || resource.start_time == 0) return outcome(finding, Leftover::kGone, "");
  if (*born != resource.start_time)
    return outcome(finding, Leftover::kForeign, "another process has its number");
  if (resource.kind == Kind::kProcess) {
    if (!resource.kill && !all_threads_stopped(resource.pid))
      return outcome(finding, Leftover::kGone, "it is not stopped");
    auto sent = send_signal(pidfd->get(), resource.kill ? SIGKILL : SIGCONT);
    if (!sent && sent.error().kind != ErrorKind::kGone)
      return outcome(finding, Leftover::kRemaining, sent.error().message);
    if (resource.kill && !wait_for_end(pidfd->get(), 5000))
      return outcome(finding, Leftover::kRemaining, "it does not end");
    return outcome(finding, Leftover::kUndone, resource.kill ? "killed" : "continued");
  }
  const auto which = static_cast<__rlimit_resource>(resource.which);
  rlimit now{};
  if (::prlimit(resource.pid, which, nullptr, &now) != 0)
    return outcome(finding, Leftover::kRemaining, std::strerror(errno));
  if (now.rlim_cur == resource.before.rlim_cur && now.rlim_max == resource.before.rlim_max)
    return outcome(finding, Leftover::kGone, "it is as it was");
  if (::prlimit(resource.pid, which, &resource.before, nullptr) != 0)
    return outcome(finding, Leftover::kRemaining, std::strerror(errno));
  return outcome(finding, Leftover::kUndone, "restored");
}

// ---- Histories ----

std::vector<fs::path> histories_in(const fs::path& directory) {
  std::vector<fs::path> found;
  std::error_code failure;
  for (const fs::path& place : {directory, directory / "golden"}) {
    if (fs::exists(place / "history.jsonl", failure)) found.push_back(place);
  }
  for (const auto& entry : fs::directory_iterator(directory / "trials", failure)) {
    if (fs::exists(entry.path() / "history.jsonl", failure)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// True: it was of this boot and has ended. False: of another boot, so that no process of it is
// left, but files may be.
Result<bool> judge_harness(const json& header, const fs::path& directory) {
  const json harness = header.value("harness", json::object());
  const json here = harness_identity();
  if (harness.value("boot", "") != here["boot"]) return false;
  if (harness.value("pid_namespace", "") != here["pid_namespace"]) {
    return usage_error("'" + directory.string() + "' was written in another pid namespace",
                       "recover it there: its processes cannot be told from others here");
  }
  const pid_t pid = harness.value("pid", 0);
  const auto born = start_time_of(pid);
  if (born && *born == harness.value("start_time", std::uint64_t{0})) {
    return usage_error("the harness that writes '" + directory.string() + "' still runs: process " +
                           std::to_string(pid),
                       "stop it first: it undoes what it has done by itself");
  }
  return true;
}

void undo_all(const TrialHistory& history, bool same_boot, std::vector<Finding>& findings) {
  std::vector<Resource> resources;
  for (const json& event : history.events) {
    const auto type = event.value("type", "");
    if (type == "process" && event.value("event", "") == "launched") {
      Resource main;
      main.kind = Kind::kProcess;
      main.pid = event.value("host_pid", 0);
      main.start_time = event.value("start_time", std::uint64_t{0});
      main.kill = true;
      if (main.pid > 1) resources.push_back(main);
    }
    if (type != "injection" || event.value("step", "") != "resources") continue;
    for (const json& object : event.value("resources", json::array())) {
      auto resource = resource_from_json(object);
      if (resource) {
        resources.push_back(*std::move(resource));
      } else {
        findings.push_back({"a resource", Leftover::kForeign, resource.error().message});
      }
    }
  }
  // The last first: what was made in something goes before it.
  for (auto resource = resources.rbegin(); resource != resources.rend(); ++resource) {
    const bool of_process = resource->kind == Kind::kProcess || resource->kind == Kind::kLimit;
    if (same_boot || !of_process) findings.push_back(undo(*resource));
  }
}

void remove_scratch(const fs::path& directory, std::vector<Finding>& findings) {
  const fs::path scratch = directory / "scratch";
  const UniqueFd fd(::open(scratch.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return;
  auto removed = remove_directory(fd.get(), scratch, kBound);
  findings.push_back({"scratch directory '" + scratch.string() + "'",
                      removed ? Leftover::kUndone : Leftover::kRemaining,
                      removed ? "removed" : removed.error().message});
}

}  // namespace

const char* leftover_name(Leftover leftover) {
  constexpr std::array<const char*, 4> kNames{"gone", "foreign", "undone", "remaining"};
  return kNames[static_cast<std::size_t>(leftover)];
}

Finding undo(const Resource& resource) {
  Finding finding{name_of(resource), Leftover::kGone, {}};
  return resource.kind <= Kind::kCgroup ? undo_path(resource, std::move(finding))
                                        : undo_in_process(resource, std::move(finding));
}

namespace {

// What a history says is carried out with our rights: it must be ours.
Result<void> check_owner(const fs::path& place) {
  struct stat info {};
  const fs::path file = place / "history.jsonl";
  if (::lstat(file.c_str(), &info) != 0)
    return system_error("inspect '" + file.string() + "'", errno);
  if (info.st_uid == ::geteuid()) return {};
  return usage_error("'" + file.string() + "' belongs to user " + std::to_string(info.st_uid),
                     "recover as that user");
}

Result<std::vector<Finding>> recover_all(const fs::path& directory) {
  const std::vector<fs::path> places = histories_in(directory);
  if (places.empty()) {
    return usage_error("there is no history in '" + directory.string() + "'",
                       "name a record of inject, or a run directory");
  }
  std::vector<std::pair<TrialHistory, bool>> histories;
  for (const fs::path& place : places) {
    if (auto ours = check_owner(place); !ours) return ours.error();
    auto history = read_history(place);
    if (!history) continue;  // Cut off in its first line: nothing was started.
    auto same_boot = judge_harness(history->events.front(), place);
    if (!same_boot) return same_boot.error();
    histories.emplace_back(*std::move(history), *same_boot);
  }
  std::vector<Finding> findings;
  for (const auto& [history, same_boot] : histories) undo_all(history, same_boot, findings);
  remove_scratch(directory, findings);
  return findings;
}

}  // namespace

Result<std::vector<Finding>> recover(const fs::path& directory) {
  try {
    return recover_all(directory);
  } catch (const json::exception& failure) {  // A field of another type than we write.
    return corrupt_error("a history in '" + directory.string() + "' makes no sense");
  }
}

}  // namespace crashworthy

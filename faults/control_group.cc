#include "faults/control_group.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <sstream>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

constexpr const char* kProcesses = "cgroup.procs";
constexpr std::int64_t kRemoveBoundNs = 2'000'000'000;
constexpr long kRetryNs = 2'000'000;
constexpr int kGuardianTries = 15'000;  // 30 s, for those that end with the subject.

std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, by);) parts.push_back(part);
  return parts;
}

bool contains(const std::vector<std::string>& list, const std::string& word) {
  for (const std::string& element : list) {
    if (element == word) return true;
  }
  return false;
}

Error missing(std::string why) { return {ErrorKind::kMissing, 0, std::move(why), {}}; }

// Lines of mountinfo read: ID PARENT DEVICE ROOT POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS.
// The directory of `path` of the hierarchy; `controller` empty: of version 2.
std::optional<fs::path> mounted(const std::string& controller, const std::string& path) {
  const auto text = read_file("/proc/self/mountinfo");
  for (const std::string& line : split(text ? *text : "", '\n')) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const auto before = split(line.substr(0, dash), ' ');
    const auto after = split(line.substr(dash + 3), ' ');
    if (before.size() < 5 || after.size() < 3) continue;
    const bool meant = controller.empty()
                           ? after[0] == "cgroup2"
                           : after[0] == "cgroup" && contains(split(after[2], ','), controller);
    const std::string root = before[3] == "/" ? "" : before[3];
    if (meant && path.starts_with(root)) return fs::path(before[4] + path.substr(root.size()));
  }
  return std::nullopt;
}

// In version 2 a group with processes gives controllers to none below it, so it may have to be made
// beside that of the process.
Result<fs::path> unified_parent(const fs::path& own, const std::string& controller) {
  for (const fs::path& parent : {own, own.parent_path()}) {
    const auto enabled = read_file(parent / "cgroup.subtree_control");
    std::istringstream words(enabled ? *enabled : "");
    for (std::string word; words >> word;) {
      if (word == controller) return parent;
    }
  }
  return missing("the cgroup controller '" + controller + "' is not delegated to us");
}

void rest() {
  const timespec time{0, kRetryNs};
  ::nanosleep(&time, nullptr);
}

// Async-signal-safe.
void remove_group(const char* path, const struct stat&) {
  for (int i = 0; i < kGuardianTries && ::rmdir(path) != 0 && errno != ENOENT; ++i) rest();
}

}  // namespace

Result<fs::path> ControlGroup::place_for(pid_t pid, const std::string& controller) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/cgroup");
  if (!text) return text.error();
  std::optional<fs::path> parent;
  for (const std::string& line : split(*text, '\n')) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (contains(split(names, ','), controller)) {
      parent = mounted(controller, path);
      break;
    }
    if (!names.empty()) continue;
    const auto own = mounted("", path);
    if (!own) continue;
    auto found = unified_parent(*own, controller);
    if (found) parent = *found;
  }
  if (!parent) return missing("no cgroup hierarchy here has the controller '" + controller + "'");
  if (::access(parent->c_str(), W_OK) != 0 || ::access((*parent / kProcesses).c_str(), W_OK) != 0)
    return missing("the cgroup '" + parent->string() + "' may not be changed by us");
  return *parent / ("crashworthy-" + controller + "-" + std::to_string(::getpid()) + "-" +
                    std::to_string(now_ns()));
}

Result<ControlGroup> ControlGroup::create(const fs::path& path) {
  if (::mkdir(path.c_str(), 0755) != 0)
    return system_error("create cgroup '" + path.string() + "'", errno);
  ControlGroup group(path);
  auto guardian = Guardian::start(path, remove_group);
  if (!guardian) return guardian.error();
  group.guardian_ = *std::move(guardian);
  return group;
}

ControlGroup::~ControlGroup() { remove(); }

bool ControlGroup::unified() const { return ::access((path_ / "cgroup.type").c_str(), F_OK) == 0; }

Result<void> ControlGroup::add(pid_t pid) { return write(kProcesses, std::to_string(pid)); }

Result<void> ControlGroup::write(const std::string& file, const std::string& value) {
  const fs::path path = path_ / file;
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return system_error("open '" + path.string() + "'", errno);
  auto written = write_all(fd.get(), value);
  if (!written) return written.error().with_context("write " + value + " to '" + file + "'");
  return {};
}

std::optional<std::int64_t> ControlGroup::number(const std::string& file,
                                                 const std::string& key) const {
  return number_in(path_ / file, key);
}

std::int64_t ControlGroup::total(const std::string& file, const std::string& key) const {
  std::int64_t sum = number(file, key).value_or(0);
  std::error_code failure;
  for (fs::recursive_directory_iterator at(path_, failure), end; !failure && at != end;
       at.increment(failure)) {
    if (at->is_directory(failure)) sum += number_in(at->path() / file, key).value_or(0);
  }
  return sum;
}

std::optional<std::int64_t> ControlGroup::number_in(const fs::path& file, const std::string& key) {
  const auto text = read_file(file);
  std::istringstream words(text ? *text : "");
  for (std::string word; words >> word;) {
    if (!key.empty() && word != key) continue;
    if (!key.empty() && !(words >> word)) break;
    return std::strtoll(word.c_str(), nullptr, 10);
  }
  return std::nullopt;
}

bool ControlGroup::remove() {
  if (path_.empty()) return true;
  const std::int64_t deadline = now_ns() + kRemoveBoundNs;
  while (::rmdir(path_.c_str()) != 0 && errno != ENOENT && now_ns() < deadline) {
    const auto members = read_file(path_ / kProcesses);
    for (const std::string& pid : split(members ? *members : "", '\n')) {
      const UniqueFd home(::open((path_.parent_path() / kProcesses).c_str(), O_WRONLY | O_CLOEXEC));
      if (home.valid()) (void)write_all(home.get(), pid);
    }
    rest();
  }
  const bool gone = ::access(path_.c_str(), F_OK) != 0;
  guardian_.dismiss();  // Where it is still in use, it goes on trying.
  path_.clear();
  return gone;
}

}  // namespace crashworthy

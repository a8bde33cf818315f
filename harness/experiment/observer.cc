#include "harness/experiment/observer.h"

#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "harness/os/clock.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

struct ChangeRow {
  OutputChange change;
  std::uint32_t inotify;
  std::uint64_t fanotify;
};
constexpr std::array<ChangeRow, 6> kRows{{{OutputChange::kCreated, IN_CREATE, FAN_CREATE},
                                          {OutputChange::kOpened, IN_OPEN, 0},
                                          {OutputChange::kClosed, IN_CLOSE_WRITE, FAN_CLOSE_WRITE},
                                          {OutputChange::kMovedIn, IN_MOVED_TO, FAN_MOVED_TO},
                                          {OutputChange::kMovedOut, IN_MOVED_FROM, FAN_MOVED_FROM},
                                          {OutputChange::kDeleted, IN_DELETE, FAN_DELETE}}};

// IN_EXCL_UNLINK: who closes a file that was deleted meanwhile publishes nothing.
constexpr std::uint32_t kWatched = IN_CREATE | IN_OPEN | IN_CLOSE_WRITE | IN_MOVED_TO |
                                   IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR | IN_DONT_FOLLOW |
                                   IN_EXCL_UNLINK;

Result<WriterSource> wanted_source(WriterSource source) {
  const char* name = std::getenv("CRASHWORTHY_OBSERVER");
  if (source != WriterSource::kBest || name == nullptr || *name == '\0') return source;
  if (std::strcmp(name, "fanotify") == 0) return WriterSource::kFanotify;
  if (std::strcmp(name, "inotify") == 0) return WriterSource::kNone;
  return usage_error("CRASHWORTHY_OBSERVER is '" + std::string(name) + "'",
                     "use fanotify or inotify, or unset it");
}

}  // namespace

const char* output_change_name(OutputChange change) {
  static constexpr std::array<const char*, kOutputChanges> kNames{
      "created", "opened", "closed", "moved_in", "moved_out", "deleted", "found"};
  return kNames[static_cast<std::size_t>(change)];
}

bool publishes(OutputChange change) {
  return change == OutputChange::kClosed || change == OutputChange::kMovedIn ||
         change == OutputChange::kFound;
}

std::vector<std::pair<std::size_t, Publication>> publications_among(
    const std::vector<OutputEvent>& events) {
  std::map<std::string, std::size_t> created;  // And not touched since.
  std::vector<std::pair<std::size_t, Publication>> found;
  const auto publish = [&](std::size_t at) {
    const OutputEvent& event = events[at];
    found.push_back({at, {event.name, event.time_ns, event.host_pid, event.change}});
  };
  for (std::size_t i = 0; i < events.size(); ++i) {
    created.erase(events[i].name);
    if (events[i].change == OutputChange::kCreated) created[events[i].name] = i;
    if (publishes(events[i].change)) publish(i);
  }
  for (const auto& [name, at] : created) publish(at);
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  return found;
}

Result<OutputObserver> OutputObserver::create(const fs::path& root, WriterSource source) {
  auto wanted = wanted_source(source);
  if (!wanted) return wanted.error();
  OutputObserver observer;
  observer.root_ = root;
  observer.inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!observer.inotify_.valid()) return system_error("watch '" + root.string() + "'", errno);
  if (*wanted == WriterSource::kNone) {
    observer.reason_ = "so it was asked for";
  } else {
    auto writers = OutputWriters::create();
    if (writers) observer.writers_ = *std::move(writers);
    if (!writers) observer.reason_ = writers.error().message;
  }
  observer.watch(root, "", nullptr);
  if (observer.prefixes_.empty()) return system_error("watch '" + root.string() + "'", errno);
  if (*wanted == WriterSource::kFanotify && !observer.writers_) {
    return Error{ErrorKind::kMissing, 0, "who writes outputs cannot be seen: " + observer.reason_,
                 "unset CRASHWORTHY_OBSERVER"};
  }
  return observer;
}

// A directory made while we look may already hold files: those are found by listing it once the
// watch stands.
void OutputObserver::watch(const fs::path& directory, const std::string& prefix,
                           std::vector<OutputEvent>* found) {
  const int descriptor = ::inotify_add_watch(inotify_.get(), directory.c_str(), kWatched);
  if (descriptor < 0) return;
  prefixes_[descriptor] = prefix;
  if (writers_) {
    if (auto marked = writers_->watch(directory, prefix); !marked && prefix.empty()) {
      reason_ = marked.error().message;  // This file system has no handles, say.
      writers_.reset();
    }
  }
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(directory, failure)) {
    const std::string name = prefix + entry.path().filename().string();
    if (entry.is_symlink(failure)) continue;
    if (entry.is_directory(failure)) {
      watch(entry.path(), name + "/", found);
    } else if (found != nullptr) {
      found->push_back({OutputChange::kFound, name, now_ns(), 0});
    }
  }
}

void OutputObserver::read(std::vector<OutputEvent>& out) {
  alignas(inotify_event) std::array<char, 1 << 16> buffer;
  while (true) {
    const ssize_t length = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (length <= 0) break;
    const std::int64_t time_ns = now_ns();
    for (ssize_t at = 0; at < length;) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      const char* name = buffer.data() + at + sizeof event;
      at += static_cast<ssize_t>(sizeof event + event.len);
      if ((event.mask & IN_Q_OVERFLOW) != 0) overflowed_ = true;
      const auto prefix = prefixes_.find(event.wd);
      if (prefix == prefixes_.end() || event.len == 0) continue;
      const std::string path = prefix->second + name;
      if ((event.mask & IN_ISDIR) != 0) {
        if ((event.mask & (IN_CREATE | IN_MOVED_TO)) != 0) watch(root_ / path, path + "/", &out);
        continue;
      }
      for (const ChangeRow& row : kRows) {
        if ((event.mask & row.inotify) != 0) out.push_back({row.change, path, time_ns, 0});
      }
    }
  }
  read_writers();
}

void OutputObserver::read_writers() {
  if (!writers_) return;
  std::vector<OutputWriters::Record> records;
  writers_->read(records);
  for (const OutputWriters::Record& record : records) {
    seen_.try_emplace(record.host_pid, false);
    for (const ChangeRow& row : kRows) {
      if ((record.mask & row.fanotify) != 0)
        did_[{row.change, record.name}].push_back(record.host_pid);
    }
  }
}

void OutputObserver::add_writers(std::vector<OutputEvent>& events) {
  if (!writers_ || writers_->overflowed()) return;
  read_writers();
  std::map<Key, std::vector<OutputEvent*>> happened;
  for (OutputEvent& event : events) happened[{event.change, event.name}].push_back(&event);
  for (const auto& [key, same] : happened) {
    const auto did = did_.find(key);
    if (did == did_.end()) continue;
    const std::vector<pid_t>& pids = did->second;
    const bool one =
        std::adjacent_find(pids.begin(), pids.end(), std::not_equal_to<>()) == pids.end();
    if (!one && pids.size() != same.size()) continue;  // Some were joined: whose, is not known.
    for (std::size_t i = 0; i < same.size(); ++i) same[i]->host_pid = one ? pids[0] : pids[i];
  }
}

std::vector<pid_t> OutputObserver::new_writers() {
  std::vector<pid_t> pids;
  for (auto& [pid, told] : seen_) {
    if (!told && pid > 0) pids.push_back(pid);
    told = true;
  }
  return pids;
}

}  // namespace crashworthy

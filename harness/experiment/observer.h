// The observer: stamps what happens to outputs, from outside. Live it only stamps; what they
// contain is read after the trial.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "harness/experiment/output_writers.h"
#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

enum class OutputChange : std::uint8_t {
  kCreated,   // Its name appeared: by open(2), or by link(2).
  kOpened,    // To be written or read.
  kClosed,    // After it was open for writing.
  kMovedIn,   // Renamed to this name.
  kMovedOut,  // Renamed to another name.
  kDeleted,
  kFound  // It was there when its directory, a new one, was first looked into.
};
inline constexpr std::size_t kOutputChanges = 7;
const char* output_change_name(OutputChange change);

struct OutputEvent {
  OutputChange change = OutputChange::kCreated;
  std::string name;  // Relative to the root.
  std::int64_t time_ns = 0;
  pid_t host_pid = 0;  // Who did it, as we see it; 0: not known.
};

// An output that may be whole: it was closed, renamed into place, found, or linked.
struct Publication {
  std::string name;
  std::int64_t time_ns = 0;
  pid_t host_pid = 0;
  OutputChange by = OutputChange::kClosed;  // kCreated: linked.
};
// The publications among `events`, in order, and the number of the event of each. A name that
// appeared and was never opened since was linked there.
std::vector<std::pair<std::size_t, Publication>> publications_among(
    const std::vector<OutputEvent>& events);
// True for those changes that publish by themselves.
bool publishes(OutputChange change);

enum class WriterSource { kBest, kFanotify, kNone };

// How often a live observer is read: its wake-ups take time from the subject. A change that follows
// another, as a close follows its open, is stamped so much late at most; who made it may not be
// known by name when it lived no longer.
inline constexpr std::int64_t kOutputsEveryNs = 1'000'000;

// Watches a directory tree, new directories in it too. Order and number of events are inotify's;
// the writers are fanotify's, where that is allowed. Whether an output was complete is not known;
// the last publication of a name is the one that counts. One thread uses it.
class OutputObserver {
 public:
  // kBest: as CRASHWORTHY_OBSERVER says (fanotify or inotify), else fanotify where it works. Fails
  // when the tree cannot be watched, or fanotify is demanded and refused.
  static Result<OutputObserver> create(const std::filesystem::path& root,
                                       WriterSource source = WriterSource::kBest);
  int fd() const { return inotify_.get(); }
  // Appends what happened since the last call, stamped now. Never blocks. The writers are not known
  // yet.
  void read(std::vector<OutputEvent>& out);
  // Fills in who did what, of all events that read() has given. What several processes did to one
  // name so fast that the kernel joined it stays unknown.
  void add_writers(std::vector<OutputEvent>& events);
  // The writers that have been seen since the last call, each once.
  std::vector<pid_t> new_writers();
  // True when the kernel's queue overflowed: some stamps are missing.
  bool overflowed() const { return overflowed_; }
  // "fanotify": writers are known; "inotify": they are not, and why.
  const char* source() const { return writers_ ? "fanotify" : "inotify"; }
  const std::string& reason() const { return reason_; }

 private:
  using Key = std::pair<OutputChange, std::string>;
  void watch(const std::filesystem::path& directory, const std::string& prefix,
             std::vector<OutputEvent>* found);
  void read_writers();
  UniqueFd inotify_;
  std::optional<OutputWriters> writers_;
  std::string reason_;
  std::filesystem::path root_;
  // Watch -> path of its directory relative to the root, with a slash.
  std::map<int, std::string> prefixes_;
  std::map<Key, std::vector<pid_t>> did_;
  std::map<pid_t, bool> seen_;  // Writer -> whether new_writers() has told of it.
  bool overflowed_ = false;
};

}  // namespace crashworthy

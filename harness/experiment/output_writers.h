// Who writes outputs, as fanotify tells: the pid behind each event of a directory tree.
//
// fanotify alone would not do: while they wait in its queue it joins the events of one process to
// one name into a single one, so that "closed, deleted, closed again" reads "closed and deleted".
// The order and number of events are therefore inotify's; this adds their writers.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// One thread uses it.
class OutputWriters {
 public:
  struct Record {
    std::string name;        // Relative to the root.
    std::uint64_t mask = 0;  // Of fanotify(7); several events may be in one.
    pid_t host_pid = 0;      // 0: not one of our pid namespace.
  };

  // Fails, with the reason, where fanotify is refused or tells no pids (that needs CAP_SYS_ADMIN).
  static Result<OutputWriters> create();
  // Marks `directory`, which is `prefix` (with a slash; "" for the root) below the root.
  Result<void> watch(const std::filesystem::path& directory, const std::string& prefix);
  // Appends what happened since the last call. Never blocks.
  void read(std::vector<Record>& out);
  // True when the kernel's queue overflowed: some writers are not known.
  bool overflowed() const { return overflowed_; }

 private:
  void read_event(const char* event, std::size_t length, std::vector<Record>& out);
  UniqueFd fd_;
  std::map<std::string, std::string> prefixes_;  // By the bytes of the directory's file handle.
  bool overflowed_ = false;
};

}  // namespace crashworthy

// Births and ends of a subject's processes, from outside, grandchildren too.
//
// The kernel's proc connector tells of each fork, exec and exit as it happens, with its own stamp
// and the exact status. Where it is refused, the tree is looked at now and then: a process that
// lived shorter than between two looks is not seen, and an end has a status only where the kernel
// keeps it behind a pidfd (Linux 6.15), or crashworthy-init has reaped it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/os/wait_status.h"

namespace crashworthy {

struct SeenProcess {
  pid_t host_pid = 0;
  pid_t pid = 0;        // As the subject sees it; 0: it was gone before that was asked.
  pid_t parent = 0;     // Host pid of who gave birth to it; 0: not known.
  std::string command;  // Its name; empty: not known.
  std::optional<std::int64_t> started_ns;  // Empty: it was there at the first look.
  std::optional<std::int64_t> ended_ns;
  std::optional<WaitStatus> status;  // Empty although it has ended: nobody tells.
  bool orphan = false;               // Its parent had ended before: crashworthy-init reaped it.
};

enum class ProcessSource { kBest, kConnector, kLooks };

// How often the connector is read: it tells of all processes of the machine, and we do not wake up
// for each. Its stamps are the kernel's; the name of what lived shorter may not be known.
inline constexpr std::int64_t kConnectorEveryNs = 5'000'000;

// One thread uses it.
class ProcessWatch {
 public:
  // Before the subject is launched. kBest: as CRASHWORTHY_PROCESSES says (connector or looks), else
  // the connector where it works. Fails when that is demanded and refused.
  static Result<ProcessWatch> create(ProcessSource source = ProcessSource::kBest);

  // The subject runs: its main process, and when that was launched.
  void begin(pid_t main, std::int64_t launched_ns);
  // Takes in what is known by now; with `tree`, the pids of the live processes (main first), also
  // by looking at them. Never blocks.
  void update(const std::vector<pid_t>& tree);
  // What the connector has to tell alone, without a walk through the tree.
  void read_connector();
  // crashworthy-init has reaped it. False when it cannot be kept.
  bool add_orphan(pid_t host_pid, pid_t pid, const WaitStatus& status, std::int64_t time_ns);
  // Asks for its name and pid now: it may soon be gone.
  void name_now(pid_t host_pid);

  // Readable when the connector tells something; -1 where it does not.
  int fd() const { return connector_.get(); }
  const char* source() const { return connector_.valid() ? "connector" : "looks"; }
  const std::string& reason() const { return reason_; }
  // The kernel's queue overflowed: some are missing.
  bool overflowed() const { return overflowed_; }
  std::int64_t left_out() const { return left_out_; }

  const SeenProcess* find(pid_t host_pid) const;
  // In order of their births.
  const std::vector<SeenProcess>& all() const { return processes_; }

 private:
  struct LeaderEnd {
    std::uint32_t status;
    std::int64_t time_ns;
  };
  Result<void> listen();
  SeenProcess* record(pid_t host_pid);
  SeenProcess* add(SeenProcess process);
  void take_message(const char* data, std::size_t length);
  void take_exit(pid_t thread, pid_t process, LeaderEnd end);
  void end_if_gone(pid_t host_pid, std::int64_t time_ns);
  void end(SeenProcess& process, std::optional<WaitStatus> status, std::int64_t time_ns);
  void look_at(const std::vector<pid_t>& tree);
  void name(SeenProcess& process);

  UniqueFd connector_;
  std::string reason_;
  pid_t main_ = 0;
  bool overflowed_ = false;
  std::int64_t left_out_ = 0;
  std::vector<SeenProcess> processes_;
  std::map<pid_t, std::size_t> index_;  // Of the last process with that pid.
  std::vector<std::size_t> unnamed_;    // Born since they were last named.
  std::map<pid_t, LeaderEnd> leaders_;  // Their first thread has ended, others may run.
  std::map<pid_t, UniqueFd> held_;      // Looks: pidfds of those whose end is not known.
};

}  // namespace crashworthy

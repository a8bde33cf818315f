// Whom a fault strikes: the workers of a subject as its probe tells of them, and the processes the
// harness can reach.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <vector>

#include "faults/fault_spec.h"
#include "harness/os/random.h"
#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/os/wait_status.h"
#include "harness/probe/probe.h"

namespace crashworthy {

struct HeldUnit {
  std::uint64_t item = kNoItem;
  std::uint32_t part = 0;
  std::uint32_t attempt = 0;
};

struct WorkerState {
  std::uint32_t worker = 0;
  std::uint32_t incarnation = 0;
  std::int32_t pid = 0;  // As the subject sees it.
  std::optional<HeldUnit> holds;
};

// Who works on what, kept up to date from the probe's records.
class WorkerTracker {
 public:
  void add(std::span<const ProbeRecord> records);
  // Workers that are ready and not known to be dead, by place.
  std::vector<WorkerState> alive() const;
  // The worker `pid` was, alive or dead; empty when the probe never told of it.
  std::optional<WorkerState> by_pid(std::int32_t pid) const;
  // Whether any worker has told of itself.
  bool any() const { return !places_.empty(); }

 private:
  struct Place {
    WorkerState state;
    bool dead = false;
  };
  std::map<std::uint32_t, Place> places_;
  std::map<std::int32_t, WorkerState>
      last_;  // By pid, with what it held when it was last heard of.
};

// What an injection may ask of the running subject. Implemented by the trial runner; a fake in unit
// tests.
class SubjectView {
 public:
  virtual ~SubjectView() = default;
  // Reads what the probe has by now into the tracker.
  virtual void refresh() = 0;
  virtual const WorkerTracker& workers() const = 0;
  // True when a process of the subject watches others and replaces them.
  virtual bool supervised() const = 0;
  // True when its workers are processes of their own: then its main process is no worker.
  virtual bool isolated() const = 0;
  // Of the process that does the work where there are no isolated workers, as the subject sees it;
  // 0 when there is none now (it is being restarted).
  virtual std::int32_t main_pid() const = 0;
  // Of the process that watches and replaces, where supervised().
  virtual std::int32_t supervisor_pid() const = 0;
  // A pidfd by the pid as the subject sees it; kGone when there is none in its tree.
  virtual Result<UniqueFd> open(std::int32_t pid) const = 0;
  virtual std::vector<pid_t> host_pids() const = 0;  // Live processes of the tree, main first.
  // What conditions can see now; `fired_ns` is left 0.
  virtual Moment moment() const = 0;
};

// A process of the tree, held by its pidfd.
struct TreeProcessFd {
  pid_t pid = 0;  // Ours.
  UniqueFd pidfd;
};
// Those of `pids`, in their order, that are live processes of the subject's tree. A number alone
// may go to a stranger before it is opened: the tree is looked at once more afterwards.
std::vector<TreeProcessFd> open_members(const SubjectView& subject, const std::vector<pid_t>& pids);

// A process that was or is to be struck.
struct Victim {
  std::int32_t pid = 0;  // As the subject sees it; 0 when only the host's pid is known.
  pid_t host_pid = 0;
  UniqueFd pidfd;
  std::optional<WorkerState> worker;
  // For those chosen by what only the tree knows: its program's name, and the how-manieth process
  // of the tree it is by birth, from 1; else empty and 0.
  std::string command;
  std::int64_t child = 0;
  std::int64_t struck_ns = 0;  // When the firing that struck it was done; 0: not known.
};

// Those of the subject who fit the rule, as many as it asks for, by chance where there are more;
// none when there are fewer.
std::vector<Victim> choose_victims(const SubjectView& subject, const VictimRule& rule,
                                   Random& random);

nlohmann::json to_json(const Victim& victim, Role role);

}  // namespace crashworthy

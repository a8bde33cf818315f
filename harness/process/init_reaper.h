// What the reaper of a subject and that of a shim have in common: the wait for whatever may happen,
// the start of the command, the look at who has ended.
#pragma once

#include <sys/types.h>

#include <csignal>
#include <optional>
#include <span>
#include <vector>

#include "harness/os/unique_fd.h"
#include "harness/process/init.h"
#include "harness/process/protocol.h"

namespace crashworthy {

class Reaper {
 protected:
  explicit Reaper(const ReaperStart& start) : start_(start), children_(make_child_signal()) {}
  ~Reaper() = default;

  // What wait() has found.
  struct Ready {
    bool outcome = false;  // take_outcome() will not block.
    bool children = false;
    bool control = false;
    bool hung_up = false;  // The other side of the control socket is closed.
  };
  // Waits until something of it may be done, or `timeout_ms` passes (-1: never). Empty when the
  // tree must end, because the harness or the outer process has.
  std::optional<Ready> wait(short control_events, int timeout_ms);

  // Forks the command; its pid is main(). What became of it is told by take_outcome().
  std::optional<ExecFailure> start_main(std::vector<Command::Descriptor> descriptors, int join);
  // To be called once after start_main(); empty when the command was executed, or killed before.
  std::optional<ExecFailure> take_outcome();
  bool outcome_is_open() const { return failure_.valid(); }

  // Sends to the harness. With `names_process`, the packet has the credentials of the process that
  // is spoken of, so that the harness learns its own pid of it, where that is allowed. False when
  // the socket is full; any other failure means that the harness is gone, which the lifeline tells.
  static bool send(Message* message, std::span<const int> descriptors, bool names_process,
                   int flags);

  enum class Look { kNobody, kSomebody, kChildless };
  // Looks for a child that has ended, and does not reap it.
  static Look look_for_ended(siginfo_t* ended);
  // A report of that end, seen now.
  Message end_message(const siginfo_t& ended) const;
  void drain_signals();

  const ReaperStart& start_;
  pid_t main_ = 0;

 private:
  UniqueFd children_;  // A signalfd.
  UniqueFd failure_;   // Open until it is known whether the command was executed.
};

}  // namespace crashworthy

// What became of each item, what becomes of one whose execution has ended, and what the probe is
// told of it. It knows nothing of processes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/os/wait_status.h"
#include "harness/probe/probe.h"
#include "harness/worker/ledger.h"
#include "pipelines/each/settings.h"

namespace crashworthy::each {

// What a death says of the item that was being executed.
enum class Blame {
  kNone,      // Killed from outside, or it had not begun.
  kCrash,     // It has brought it about itself.
  kDeadline,  // Killed by us: it took too long,
  kSilence,   // or gave no sign of life,
  kNonsense   // or said what makes no sense.
};

// A process at a place.
struct Doer {
  ProbeIdentity who;
  std::int32_t pid = 0;
};

// One execution of an item, as it was given to a process.
struct Attempt {
  Ledger::Ticket ticket = 0;
  Holder holder;
  std::uint64_t item = kNoItem;
  std::uint32_t number = 1;
  bool alone = false;  // A retry by a process that has executed nothing before.
  std::string input;
  std::string output;  // Where it writes: maybe beside the output.
};

struct Summary {
  std::size_t delivered = 0;
  std::size_t failed = 0;  // Quarantined ones, too.
  std::size_t lost = 0;
};

class Books {
 public:
  // Borrows `settings` and `items`. All items wait.
  Books(const Settings& settings, const std::vector<Item>& items, const Probe& probe);

  // Items without an outcome.
  std::size_t open() const { return ledger_.open(); }
  // Items that wait all need a process that has executed nothing before.
  bool only_for_fresh() const { return queue_.empty() && !alone_queue_.empty(); }
  // The next one for a process; `fresh`: it has executed nothing. Empty: none for it.
  std::optional<Attempt> take(const Holder& holder, bool fresh);

  // How an attempt goes on. All but began() end it.
  void began(const Attempt& attempt, const Doer& doer);
  void succeeded(const Attempt& attempt, const Doer& doer);
  void failed(const Attempt& attempt, const Doer& doer, FailureReason reason,
              const std::string& why);
  void died(const Attempt& attempt, Blame blame, const std::string& why);
  // Nobody will know how it would have ended: we are being stopped.
  void abandon(const Attempt& attempt);

  // Nobody is left who could execute what waits.
  void lose_waiting(const std::string& why);

  const Summary& summary() const { return summary_; }

 private:
  std::optional<Error> put_in_place(const Attempt& attempt) const;
  void discard(const Attempt& attempt) const;
  void close(const Attempt& attempt, std::optional<FailureReason> failure, const std::string& why);
  void say(std::uint64_t item, const std::string& what) const;

  const Settings& settings_;
  const std::vector<Item>& items_;
  Probe probe_;
  bool renames_;
  Ledger ledger_;
  std::deque<Ledger::Ticket> queue_;
  std::deque<Ledger::Ticket> alone_queue_;  // To be retried by a fresh process.
  std::vector<int> failures_;               // By item: how often it was reported to have failed.
  std::set<std::uint64_t> taken_;
  Summary summary_;
};

}  // namespace crashworthy::each

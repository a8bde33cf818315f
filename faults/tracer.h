// A thread that traces: one thread of a process, into which a fault is struck; or a whole tree of
// processes from its first exec on, in which passes of a function are counted.
//
// Whatever is traced goes on unharmed when the Tracer ends: breakpoints are taken out, what was set
// is put back, and every thread is let go.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "faults/strike.h"
#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// The passes of a function that are to fire.
struct SymbolRule {
  std::string symbol;
  std::uint64_t first = 1;
  std::uint64_t every = 1;
  std::uint64_t times = 1;  // 0: only count.
  double probability = 1;
  std::uint64_t seed = 0;
  bool counts_at_once = true;  // Else from open_gate() on.
};

struct SymbolFiring {
  std::uint64_t hit = 0;
  std::int32_t own_pid = 0;  // As the subject sees it.
  std::string file;          // That has the function.
  StrikeRecord strike;
  std::shared_ptr<const UniqueFd> pidfd;  // Opened while it stood; null: it could not be.
  std::string command;                    // Its program's name,
  std::int64_t child = 0;  // and the how-manieth of those that live it is by birth, from 1.
};

class Tracer {
 public:
  // Seizes one thread of `pid`, the main one unless that has ended, and stops it. It stands still
  // until strike() or the end of this. Fails with kGone, or with what forbids it.
  static Result<std::unique_ptr<Tracer>> hold(pid_t pid);
  // Seizes the process, which has executed nothing of the subject yet, and follows its tree.
  static Result<std::unique_ptr<Tracer>> follow(pid_t pid, const NativeFault& fault,
                                                const SymbolRule& rule);
  ~Tracer();

  // For hold(): strikes and lets go on. Returns when the thread runs again; its effect follows.
  StrikeRecord strike(const NativeFault& fault);
  // For follow().
  void open_gate();

  // What is known by now; final once ended().
  struct Report {
    bool ended = false;   // Nothing is traced any more.
    StrikeRecord strike;  // Of hold().
    std::vector<SymbolFiring> firings;
    std::uint64_t hits = 0;
    std::vector<std::string> files;  // That have the function.
    std::string trouble;             // Why some passes may have gone uncounted.
  };
  Report report() const;
  // Readable when the report has changed; report() does not clear it, clear_event() does.
  int event_fd() const;
  void clear_event();
  // Waits at most so long for its end; false if it goes on.
  bool wait_until_ended(std::int64_t until_ns);

 private:
  struct State;
  explicit Tracer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace crashworthy

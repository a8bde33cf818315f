// A model of supervisors, written from OTP's description of them and from nothing else, to be held
// against TreeLogic. In its world every start and stop is done at once, so it is a few plain
// recursive functions.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/wait_status.h"
#include "harness/supervision/behaviours.h"
#include "harness/supervision/lifecycle.h"
#include "harness/supervision/spec.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

// How a model may be wrong on purpose, to see that a comparison with it finds that.
enum class Wrong {
  kNothing,
  kOneRestartMore,       // than the intensity.
  kWindowIsClosed,       // [t - period, t]
  kRestartsCompleted,    // Transient children that exited with 0 are restarted.
  kGroupCountsEach,      // A group restart costs one restart a child.
  kGroupLeavesStopped,   // A group restart does not start what was stopped.
  kKeepsTemporary,       // A temporary child that its group stops is kept.
  kHeedsStops,           // The stop of a significant child by order shuts down.
  kRetriesFromTheFirst,  // rest_for_one tries again from the child that ended first.
  kForgetsWaiting        // What came while it was suspended is forgotten.
};

class Model {
 public:
  // `stop_codes`: children that exit with a code when asked to end; others die of SIGTERM.
  Model(SupervisorSpec tree, std::map<std::string, int> stop_codes, Wrong wrong = Wrong::kNothing);
  ~Model();

  // Does `action` (an order, an end, a start that will fail) with all that follows.
  void act(const Action& action, std::int64_t now);

  std::optional<TreeEnd> ended() const { return ended_; }
  // The whole tree in words, supervisor by supervisor.
  std::string text(std::int64_t now);
  // Since the last call: "answer stop a: ok".
  std::vector<std::string> take_answers();

  // For whoever invents actions: all supervisors that live, all children that are known, those
  // whose process runs, and whether some are suspended.
  struct Known {
    std::vector<std::string> supervisors;
    std::vector<std::string> children;
    std::vector<std::string> processes;
    std::vector<std::string> suspended_processes;
    std::vector<std::string> suspended_supervisors;
  };
  Known known() const;
  // The supervisor for which something waits; empty: none does.
  std::optional<std::string> waiting() const;

 private:
  struct Part;
  struct Supervisor;
  struct Message;

  void order(const Action& action);
  void process_ends(const std::string& path, WaitStatus status);
  void pump();
  Supervisor* ready_supervisor(Supervisor& from) const;
  void handle(Supervisor& supervisor, const Message& message);
  void take_up(Supervisor& supervisor, const Action& action);
  void start_by_order(Supervisor& supervisor, const Action& action);
  void restart_by_order(Supervisor& supervisor, const Action& action);
  void handle_end(Supervisor& supervisor, std::size_t index, bool orderly);
  bool should_shut_down(const Supervisor& supervisor, bool significant) const;
  void restart(Supervisor& supervisor, std::size_t index);
  void restart_group(Supervisor& supervisor, std::size_t begin, const Part* ended);
  bool spend(Supervisor& supervisor, int count);
  int left(const Supervisor& supervisor, std::int64_t now) const;

  bool start_all(Supervisor& supervisor);
  bool start_part(Supervisor& supervisor, Part& part);
  void stop_part(Supervisor& supervisor, Part& part, bool kill);
  LifeState close(Supervisor& supervisor, LifeState loop, bool kill);
  void give_up(Supervisor& supervisor, TreeEnd end);

  void suspend_below(Supervisor& supervisor, bool suspend);
  void suspend(const Action& action);
  Supervisor* find_supervisor(const std::string& path) const;
  Part* find_part(const std::string& path) const;
  LifeState state(const Supervisor& supervisor) const;
  LifeState state(const Part& part) const;
  void add_text(const Supervisor& supervisor, std::int64_t now, std::string& text) const;
  void add_known(const Supervisor& supervisor, Known& known) const;
  void answer(const Action& action, const std::string& path, const std::string& result);

  std::unique_ptr<Supervisor> root_;
  std::map<std::string, int> stop_codes_;
  Wrong wrong_;
  std::optional<TreeEnd> ended_;
  LifeState end_state_ = LifeState::kInitial;
  std::map<std::string, int> failing_;
  std::vector<std::string> answers_;
  std::int64_t now_ = 0;
  std::uint64_t next_serial_ = 1;
};

}  // namespace crashworthy

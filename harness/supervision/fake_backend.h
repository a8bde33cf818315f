// A Backend over processes that are only played, with a clock that is only counted.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/supervision/backend.h"
#include "harness/supervision/behaviours.h"
#include "harness/supervision/transcript.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

// Plays each process as its Conduct says. Answers are queued, and delivered in order by run_one().
// What a tree may not ask for is noted as a complaint.
class FakeBackend : public Backend {
 public:
  // Once, before the first start: to whom answers go, and whose clock it is.
  void attach(TreeLogic* logic, const std::int64_t* now) {
    logic_ = logic;
    now_ = now;
  }

  void start(ProcessKey key, const std::string& path, const ChildSpec& spec) override;
  void stop(ProcessKey key) override;
  void kill(ProcessKey key) override;
  void suspend(ProcessKey key) override;
  void resume(ProcessKey key) override;
  void forget(std::uint64_t child) override;

  // The script. A path is that of a process that lives; false when none does.
  void set_conduct(const std::string& path, const Conduct& conduct) { conducts_[path] = conduct; }
  void fail_starts(const std::string& path, int count) { failing_starts_[path] = count; }
  bool exit(const std::string& path, int code);
  bool die(const std::string& path, int signal);
  bool silence(const std::string& path);

  // The time of the first thing that waits; empty: nothing does.
  std::optional<std::int64_t> next_time() const;
  // Does the first thing that waits.
  void run_one();

  int living() const;
  std::vector<ProcessKey> keys() const;
  const std::vector<std::string>& complaints() const { return complaints_; }

 private:
  struct Process {
    std::string path;
    Conduct conduct;
    pid_t pid = 0;
    bool started = false;  // Not if its start was told to fail.
    bool dead = false;
    bool end_told = false;
    bool suspended = false;
    bool ready_waits = false;  // It would have said so, but for being suspended.
    bool beats = false;
    Nanoseconds beat{0};  // Between two of them.
  };

  void later(Nanoseconds delay, std::function<void()> what);
  void end(ProcessKey key, WaitStatus status);
  void say_ready(ProcessKey key);
  void beat(ProcessKey key);
  Process* living_process(ProcessKey key, const char* what);
  std::optional<ProcessKey> key_at(const std::string& path) const;

  TreeLogic* logic_ = nullptr;
  const std::int64_t* now_ = nullptr;
  std::map<ProcessKey, Process> processes_;
  std::map<std::string, ProcessKey> latest_;  // Of each path.
  std::map<std::string, Conduct> conducts_;
  std::map<std::string, int> failing_starts_;
  std::map<std::uint64_t, bool> forgotten_;
  std::multimap<std::int64_t, std::function<void()>> waiting_;  // Alike times in order.
  std::vector<std::string> complaints_;
  pid_t next_pid_ = 1001;
};

// A tree over a FakeBackend, with its clock and its transcript.
class World {
 public:
  explicit World(SupervisorSpec tree, bool hooks = false, std::uint64_t seed = 0);

  // Does `action`, if it is no question, and all that follows from it at this time.
  void act(const Action& action);
  // The answer to the question `action`.
  std::string ask(const Action& action) const;
  static bool is_question(const Action& action) {
    return action.kind >= Action::Kind::kExpectChildren;
  }

  void advance(Nanoseconds time);
  std::int64_t now() const { return now_; }
  TreeLogic& logic() { return *logic_; }
  FakeBackend& backend() { return backend_; }
  Transcript& transcript() { return transcript_; }

  // What was wrong, whatever the script.
  std::vector<std::string> complaints() const;

 private:
  void do_one(const Action& action);
  void settle();

  std::int64_t now_ = 1'000'000'000'000;
  Transcript transcript_;
  FakeBackend backend_;
  std::unique_ptr<TreeLogic> logic_;
  std::vector<std::string> complaints_;
};

WaitStatus exit_status(int code);
WaitStatus signal_status(int signal);

}  // namespace crashworthy

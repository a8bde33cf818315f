// TreeLogic: a supervision tree as a pure state machine. It is told what happens and what time it
// is, asks a Backend for processes, and says what it does in events; it never waits, and never
// looks at a clock. SupervisionTree (tree.h) drives it over real processes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/wait_status.h"
#include "harness/supervision/backend.h"
#include "harness/supervision/event.h"
#include "harness/supervision/spec.h"

namespace crashworthy {

// OTP's which_children: what a supervisor has in the place of a child.
enum class Presence {
  kStopped,     // No process: it ended and is not restarted, or was stopped. OTP: undefined.
  kStarting,    // Its process is being started, or is not ready yet.
  kRunning,     // OTP: a pid.
  kStopping,    // It was asked to end, or is being killed.
  kRestarting,  // Waits for the next try of a restart that failed, or for its back-off.
};
std::string_view presence_name(Presence presence);

struct ChildInfo {
  std::string id;
  std::string path;
  ChildType type = ChildType::kWorker;
  RestartType restart = RestartType::kPermanent;
  bool significant = false;
  Presence presence = Presence::kStopped;
  LifeState state = LifeState::kInitial;  // Of its last incarnation.
  std::uint32_t incarnation = 0;          // 0: never started.
  pid_t pid = 0;                          // 0: no process.
  std::int64_t started_ns = 0;            // Of its last incarnation.
  std::optional<WaitStatus> last_end;     // How its last process ended.
  // The same for people, and why: "exited with 3", "hung: it missed 4 heartbeats", "did not end in
  // 5s", "could not be started: ..."; of a supervisor, why it gave up. Empty: it never ended.
  std::string end_reason;
  bool crash_loop = false;
  // The moment until which it waits: for its next try (kRestarting), to be ready (kStarting), or to
  // end by itself (kStopping); 0: there is no such moment.
  std::int64_t due_ns = 0;
};

// OTP's count_children.
struct ChildCounts {
  int specs = 0;
  int active = 0;
  int supervisors = 0;
  int workers = 0;
  friend bool operator==(const ChildCounts&, const ChildCounts&) = default;
};

// A supervisor with all below it, for people and for `ctl tree`.
struct SupervisorInfo {
  std::string path;
  Strategy strategy = Strategy::kOneForOne;
  int intensity = 0;
  Nanoseconds period{0};
  AutoShutdown auto_shutdown = AutoShutdown::kNever;
  LifeState state = LifeState::kInitial;
  int budget_left = 0;
  struct Entry {
    ChildInfo child;
    std::vector<SupervisorInfo> below;  // One, when the child is a nested supervisor that lives.
  };
  std::vector<Entry> children;  // In start order.
};

// Why an order was refused. The first four are OTP's, and named as there; the others are ours.
enum class Refusal {
  kNotFound,        // not_found
  kRunning,         // running; for start_child: already_started
  kRestarting,      // restarting
  kAlreadyPresent,  // already_present
  kDynamic,         // The supervisor is dynamic (OTP says simple_one_for_one).
  kStartFailed,     // The child could not be started.
  kInvalid,         // The specification, or the order in this state, makes no sense.
  kEnding           // The supervisor is shutting down, or ended before it came to the order.
};
std::string_view refusal_name(Refusal refusal);

// What became of an order.
struct Answer {
  std::optional<Refusal> refusal;  // Empty: done.
  std::string text;                // Why it was refused, for people.
  ChildInfo child;                 // As it is now, where one is meant.
  bool ok() const { return !refusal.has_value(); }
};
using Reply = std::function<void(const Answer&)>;

// How a tree ended.
enum class TreeEnd {
  kAsked,           // shutdown() or kill().
  kAutoShutdown,    // By the end of significant children.
  kIntensitySpent,  // The root gave up.
  kStartFailed      // The first start failed; all is rolled back.
};
std::string_view tree_end_name(TreeEnd end);

// One thread uses a TreeLogic. Times are CLOCK_MONOTONIC ns and never go back. A Reply is called
// once, from within a later call or the same one, and may give orders itself; it may be empty, and
// it is not called when the TreeLogic is destroyed before. A sink must not call the TreeLogic.
//
// Orders wait for what their supervisor is doing (a start, a stop, the restart of a group) and for
// what came before; only shutdown() and kill() do not wait. Questions are answered at once.
class TreeLogic {
 public:
  // `spec` has been checked (check_spec). `seed` is the source of jitter.
  TreeLogic(SupervisorSpec spec, Backend& backend, EventSink sink, std::uint64_t seed);
  ~TreeLogic();
  TreeLogic(const TreeLogic&) = delete;
  TreeLogic& operator=(const TreeLogic&) = delete;

  // Starts the tree, child by child. Once.
  void start(std::int64_t now);
  // Empty until the tree has ended: then nothing of it runs, and nothing more happens.
  std::optional<TreeEnd> ended() const;
  const std::string& end_text() const;  // Why, for people: "child 'a' could not be started: ...".
  bool booted() const;                  // All children were started once.

  // Orders. A path names a child from the root: "inner/worker"; "" the root itself.
  // Adds a child at the end of the start order and starts it. kDynamic: a copy of the template with
  // `spec.command` appended to its command, `spec.id` as its id or, when that is empty,
  // "<template>-<n>"; all else in `spec` is ignored.
  void start_child(const std::string& supervisor, ChildSpec spec, std::int64_t now, Reply reply);
  void restart_child(const std::string& path, std::int64_t now, Reply reply);
  void stop_child(const std::string& path, std::int64_t now, Reply reply);  // terminate_child
  void delete_child(const std::string& path, std::int64_t now, Reply reply);
  // Stops the processes of a child, or of all below a supervisor, and continues them. A supervisor
  // that is suspended restarts nothing, and takes up no orders, until it is resumed. The later of
  // two orders that contradict each other counts; the earlier one is then refused (kInvalid), if it
  // is not done. So is a suspension that some process does not obey.
  void suspend(const std::string& path, std::int64_t now, Reply reply);
  void resume(const std::string& path, std::int64_t now, Reply reply);
  // Stops all in reverse order and ends.
  void shutdown(std::int64_t now);
  // Kills all at once and ends.
  void kill(std::int64_t now);
  // Counts a restart of what is no child (a pool's spare, say) against the intensity of a
  // supervisor; false when that is spent by it (the supervisor then ends), or was spent before.
  bool count_restart(const std::string& supervisor, const std::string& why, std::int64_t now);

  // Questions.
  std::optional<std::vector<ChildInfo>> which_children(const std::string& supervisor) const;
  std::optional<ChildCounts> count_children(const std::string& supervisor) const;
  std::optional<ChildSpec> get_child_spec(const std::string& path) const;
  std::optional<ChildInfo> find(const std::string& path) const;
  SupervisorInfo info(std::int64_t now) const;

  // What the backend tells. Answers of processes that are not the current ones are ignored.
  void on_started(ProcessKey key, pid_t pid, std::int64_t now);
  void on_start_failed(ProcessKey key, const std::string& why, std::int64_t now);
  void on_ready(ProcessKey key, std::int64_t now);
  void on_ready_closed(ProcessKey key, std::int64_t now);  // Without having said that it is ready.
  void on_heartbeat(ProcessKey key, std::int64_t now);
  void on_suspended(ProcessKey key, std::int64_t now);
  void on_suspend_failed(ProcessKey key, std::int64_t now);  // It runs on.
  void on_resumed(ProcessKey key, std::int64_t now);
  // Its process has ended, and nothing of its tree is left.
  void on_ended(ProcessKey key, WaitStatus status, std::int64_t now);

  // Time. The next moment at which on_time() has something to do; empty: none.
  std::optional<std::int64_t> next_deadline() const;
  void on_time(std::int64_t now);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace crashworthy

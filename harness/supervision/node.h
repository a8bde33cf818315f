// Node: one living supervisor of a TreeLogic, and the children it has. Private to this directory.
//
// A node does one thing at a time. What it does now is its *plan*, a queue of steps (start this
// child, stop that one, then go on with ...); what waits until then is its *mailbox* (ends of
// children, retries, orders), which it takes up in order: as OTP's supervisor is one process that
// handles one message at a time, but without ever blocking. node.cc runs plan and mailbox,
// node_restart.cc decides about restarts and ends, node_orders.cc carries out orders, child.cc
// knows what one child does.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "harness/os/random.h"
#include "harness/supervision/intensity.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

class Node;

// A child in its place: what outlives its incarnations.
struct Child {
  ChildSpec spec;
  std::string path;
  std::uint64_t number = 0;  // ProcessKey::child
  Node* parent = nullptr;
  std::unique_ptr<Node> node;  // A nested supervisor, while it lives.

  std::uint32_t incarnation = 0;
  LifeState state = LifeState::kInitial;
  Presence presence = Presence::kStopped;
  pid_t pid = 0;
  std::int64_t started_ns = 0;
  std::optional<WaitStatus> last_end;

  enum class Outcome { kNone, kStarted, kFailed };
  Outcome start = Outcome::kNone;  // Of the last start.
  std::string failure;             // Why it failed.
  std::string kill_reason;         // Why we killed it.
  std::string end_reason;          // How and why its last incarnation ended.
  bool process = false;            // The backend has a process for this incarnation.
  bool asked = false;              // It was asked to end, or killed as its stop policy says.
  bool killed = false;             // We killed it.
  bool hung = false;
  bool early_ready = false;  // It said that it is ready before we heard that it was started.
  bool hold_wanted = false;  // It is to be suspended,
  bool held = false;         // and its time does not count, from then until it is resumed.
  bool end_pending = false;  // It ended by itself; its supervisor has not come to it yet.
  bool end_normal = false;   // What OTP calls normal or shutdown.

  std::uint64_t last_event = 0;  // Numbers: of its last event,
  std::uint64_t end_cause = 0;   // of what led to its end,
  std::uint64_t hold_cause = 0;  // and of what asked to suspend or resume it.

  std::optional<LifeState> counted;  // As what its supervisor counts it among its parts.
  int messages = 0;                  // About it, in the mailbox.

  // Deadlines, to be set by Node::set_deadline(); 0: none.
  std::int64_t queued_at = 0;  // Where it stands in TreeContext::deadlines.
  std::int64_t ready_by = 0;
  std::int64_t heartbeat_by = 0;
  std::int64_t run_by = 0;
  std::int64_t stop_by = 0;
  std::int64_t retry_at = 0;
  std::int64_t held_since = 0;

  int failures = 0;  // Restarts since it last ran long enough: for back-off.
  std::string last_signature;
  int same_ends = 0;  // Soon after the start, with the same signature.
  bool crash_loop = false;

  ProcessKey key() const { return {number, incarnation}; }
  ChildContext context() const { return {path, incarnation}; }
  // The first of its deadlines that holds now; 0: none.
  std::int64_t next_deadline() const;
  bool lives() const { return presence != Presence::kStopped && presence != Presence::kRestarting; }
  ChildInfo info() const;
  void run_end_hook() const;  // If it has completed or terminated.
};

// What the nodes of a tree share.
struct TreeContext {
  Backend& backend;
  EventSink sink;
  Random random;
  std::int64_t now = 0;
  std::uint64_t events = 0;
  // What caused each of the last events, by its number.
  std::array<std::uint64_t, kRememberedEvents> cause_of{};
  std::uint64_t children = 0;
  std::map<std::uint64_t, Child*> by_number{};
  // By time and child, one entry a child; what no longer holds is passed over when it comes up.
  std::priority_queue<std::pair<std::int64_t, std::uint64_t>,
                      std::vector<std::pair<std::int64_t, std::uint64_t>>, std::greater<>>
      deadlines{};
  std::deque<Node*> runnable{};  // The supervisors that may have something to do.
  // What was removed while it may still be on the stack.
  std::vector<std::unique_ptr<Child>> removed_children{};
  std::vector<std::unique_ptr<Node>> removed_nodes{};

  // Numbers the event, stamps it and hands it to the sink; returns its number.
  std::uint64_t emit(Event event);
  // The next moment at which a child must be looked at, and which child.
  std::optional<std::pair<std::int64_t, Child*>> next_deadline();
};

class Node {
 public:
  // `owner`: the child that this node is; null for the root.
  Node(TreeContext& tree, std::shared_ptr<const SupervisorSpec> spec, Child* owner,
       std::string path, std::uint64_t cause);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Begins to boot.
  void start();
  // Goes on as far as it can now.
  void run();

  // Stops everything in reverse order, then ends; what was going on is dropped.
  void begin_end(TreeEnd end, std::string text, std::uint64_t cause);
  // Kills everything at once, then ends.
  void kill_all(std::uint64_t cause);

  // An order, to be taken up in its turn.
  struct Order {
    enum class Kind { kStart, kRestart, kStop, kDelete } kind = Kind::kStart;
    std::string id;
    ChildSpec spec;  // kStart
    Reply reply;
  };
  void submit(Order order);
  void set_suspended(bool suspended);
  // Suspends or resumes every process below, and the node itself.
  void hold_all(bool hold, std::uint64_t cause);
  bool all_held() const;   // Nothing below runs.
  bool none_held() const;  // Nothing below is stopped.
  bool count_restart(const std::string& why);

  // Of children; `answers` of the backend for the current incarnation (child.cc).
  void on_started(Child& child, pid_t pid);
  void on_start_failed(Child& child, const std::string& why);
  void on_ready(Child& child);
  void on_ready_closed(Child& child);
  void on_heartbeat(Child& child);
  void on_suspended(Child& child);
  void on_suspend_failed(Child& child);
  void on_resumed(Child& child);
  void on_ended(Child& child, WaitStatus status);
  void hold(Child& child, bool hold, std::uint64_t cause);

  void check_deadlines(Child& child);

  // Questions.
  Child* find(const std::string& id) const;
  std::vector<ChildInfo> which_children() const;
  ChildCounts count_children() const;
  SupervisorInfo info();
  const SupervisorSpec& spec() const { return *spec_; }
  LifeState state() const { return state_; }
  bool booted() const { return booted_; }
  std::optional<TreeEnd> ended() const { return finished_ ? ending_ : std::nullopt; }
  const std::string& end_text() const { return end_text_; }

 private:
  enum class StartMode { kBoot, kRestart, kOrder };
  struct Step {
    enum class Kind { kStart, kStop, kStopAll, kDo } kind = Kind::kDo;
    Child* child = nullptr;
    StartMode mode = StartMode::kBoot;
    std::function<void()> action = {};  // kDo
    bool begun = false;
    bool failed_at_once = false;  // kStart: nothing was waited for.
  };
  struct Message {
    enum class Kind { kEnded, kRetry, kBackoffOver, kOrder } kind = Kind::kEnded;
    Child* child = nullptr;
    Order order;
  };

  // node.cc
  void wake();
  bool advance();
  bool advance_start(Step& step);
  bool advance_stop(Step& step);
  bool advance_stop_all(Step& step);
  void take(Message message);
  void cancel_restart(Child& child);
  void plan_start(Child& child, StartMode mode);
  void plan_stop(Child& child);
  void plan_stop_all();
  void plan_do(std::function<void()> action);
  void fail_boot(const Child& child);
  void finish();
  void on_nested_end(Child& child);
  Child& add_child(ChildSpec spec);
  void remove(Child& child);
  void post(Message message);
  void drop_messages(Child& child);
  void set_presence(Child& child, Presence presence);
  void count(Child& child, std::optional<LifeState> as);
  void set_loop(LifeState loop);
  void follow_parts();

  // child.cc
  std::uint64_t emit(Event event, std::uint64_t cause);
  Event event_of(const Child& child, EventKind kind) const;
  Event own_event(EventKind kind) const;
  void set_state(Child& child, LifeState state, std::uint64_t cause);
  void begin_incarnation(Child& child);
  void begin_start(Child& child);
  void started(Child& child);
  void fail_start(Child& child, std::string why, std::uint64_t cause);
  void abandon_start(Child& child, std::string why);
  void begin_stop(Child& child);
  void kill_child(Child& child);
  void close(Child& child, bool completed, std::uint64_t cause);
  void note_end(Child& child, const std::string& signature, std::uint64_t cause);
  void set_deadline(Child& child, std::int64_t Child::*deadline, std::int64_t at);
  void expect_heartbeat(Child& child);
  void arm(Child& child);

  // node_restart.cc
  void decide(Child& child);
  void restart(Child& child);
  void give_up(const std::string& why, std::uint64_t cause);
  void check_auto_shutdown(const Child& ended);
  std::vector<Child*> group_of(Child& child) const;
  void start_group(Child& child);
  void plan_group_starts(Child& child);
  std::int64_t backoff_of(Child& child);

  // node_orders.cc
  void carry_out(Order order);
  std::string free_instance_id();
  void order_start(Order& order);
  void order_restart(Child& child);
  void order_stop(Child& child);
  void order_delete(Child& child);
  std::optional<Answer> refuse(const Order& order) const;
  void take_up(const std::string& path, const char* text);
  void answer(Answer answer);
  void answer_about(const Child& child);

  TreeContext& tree_;
  const std::shared_ptr<const SupervisorSpec> spec_;
  Child* const owner_;
  const std::string path_;
  const bool dynamic_;
  std::uint64_t instances_ = 0;  // Of a dynamic supervisor, ever.
  RestartIntensity intensity_;
  std::map<std::uint64_t, std::unique_ptr<Child>> children_;  // By number: in start order.
  std::unordered_map<std::string, Child*> by_id_;
  std::size_t present_ = 0;    // How many have a presence other than kStopped.
  LifeCounts parts_{};         // The states of those that were started,
  std::size_t unstarted_ = 0;  // and how many never were.

  LifeState state_ = LifeState::kInitial;
  LifeState loop_ = LifeState::kInitial;  // Its own part.
  bool booted_ = false;
  bool suspended_ = false;
  bool queued_ = false;  // Among TreeContext::runnable.
  bool killing_ = false;
  std::optional<TreeEnd> ending_;
  bool finished_ = false;
  std::string end_text_;

  std::deque<Step> plan_;
  std::deque<Message> mailbox_;
  std::uint64_t cause_;    // Of what is done now.
  Reply reply_;            // Of the order that is carried out now.
  bool stopping_ = false;  // That order is a stop, which is under way.
};

}  // namespace crashworthy

// WorkerPool: the coordinator. Private to this directory; users see pool.h.
//
// pool.cc hands out and takes in; pool_recovery.cc has what follows a death; pool_guard.cc who
// watches whom. It sleeps in one place, look(), and wakes for the doorbell, the zygotes'
// sockets and the next deadline, never by the clock alone.
#pragma once

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/unique_fd.h"
#include "harness/supervision/intensity.h"
#include "harness/worker/cell.h"
#include "harness/worker/doorbell.h"
#include "harness/worker/forked.h"
#include "harness/worker/ledger.h"
#include "harness/worker/pool.h"
#include "harness/worker/worker_main.h"
#include "harness/worker/zygote.h"

namespace crashworthy {

class WorkerPool final : public Pool {
 public:
  // No process exists before boot().
  WorkerPool(const PoolOptions& options, WorkerSetup setup, CellMemory memory,
             std::shared_ptr<FrameArena> frames, Doorbell doorbell);
  ~WorkerPool() override;
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Forks the zygotes and all processes, and waits until they are ready.
  Result<void> boot();

  Frame allocate_frame(std::size_t bytes) override;
  Result<void> check(const Job& job) const override;
  std::uint64_t submit(Job job) override;
  Result<std::vector<JobResult>> wait(std::chrono::milliseconds timeout) override;
  Result<std::vector<JobResult>> drain(std::chrono::milliseconds timeout) override;
  std::optional<Error> failure() const override { return failure_; }
  std::size_t in_flight() const override;
  std::size_t demand() const override;
  void interrupt() override;
  PoolStatistics statistics() const override;
  std::vector<pid_t> workers() const override;
  std::vector<pid_t> spares() const override;
  std::vector<pid_t> zygotes() const override { return {zygotes_.pid(0), zygotes_.pid(1)}; }
  bool takes_over() const override { return guarding_; }

 private:
  friend class PoolBooks;  // A test, which plays the processes itself.
  using Ticket = Ledger::Ticket;

  // A job that a process holds.
  struct Held {
    std::uint64_t position = 0;  // In the orders of `source`.
    Ticket ticket = 0;
    Frame output;
    // The process to which it was given: this one, or the dead one that this one took over from.
    std::uint32_t source = 0;
    std::uint32_t source_generation = 0;
  };

  // An execution, for the probe.
  struct Unit {
    std::uint64_t item = kNoItem;
    std::uint32_t part = 0;
    std::uint32_t attempt = 0;
  };

  enum class State {
    kFree,      // No process; the cell can have one.
    kLimbo,     // Perhaps still a process: its zygote died before it told.
    kStarting,  // Asked for, forked, warming up, or not told of by its zygote.
    kSpare,
    kActive,  // Has a place.
    kEnding   // Suspected or killed; its end is not proved yet.
  };

  // A cell and the process in it.
  struct Process {
    State state = State::kFree;
    std::uint32_t cell = 0;
    std::uint32_t generation = 0;
    std::uint32_t zygote = 0;  // That was asked to fork it.
    pid_t pid = 0;             // 0: not told yet.
    UniqueFd pidfd;
    bool ready = false;     // It has said so.
    bool orphaned = false;  // Its zygote is dead: nobody will tell how it ended.
    bool unused = false;    // There was no descriptor for it; it is told to end.
    std::int64_t limbo_until_ns = 0;

    std::optional<std::size_t> place;  // Set once it was active.
    std::uint32_t incarnation = 0;
    // Active, and said so: until then it may be busy with something that it has taken over.
    bool settled = false;
    std::deque<Held> held;  // In the order of its execution.
    std::uint64_t next_order = 0;
    std::uint64_t next_completion = 0;
    std::optional<std::uint32_t> told_source;  // Of its last result, and its position there.
    std::uint64_t told_position = 0;
    std::uint32_t last_call = 0;  // For must_call().
    Frame takeover;               // Of its region, for what it takes over while a spare.
    // Its last completion, or its first job after idleness; before, when it last became something.
    std::int64_t progress_ns = 0;
    std::int64_t killed_ns = 0;  // When it was killed as hung; 0: it was not.
    bool silent = false;         // For its heartbeat, not for the deadline.
    bool nonsense = false;       // Killed for records that cannot be.
    bool used = false;     // It was given a job, or took one over: who knows what that has left.
    bool retired = false;  // It makes room for one that is not.
    std::int64_t born_ns = 0;              // When it was asked for.
    std::int64_t ending_ns = 0;            // When it was killed for whatever reason.
    int untold = 0;                        // How often its zygote should have told of its end.
    std::uint64_t heartbeats = 0;          // As last seen...
    std::int64_t heartbeat_ns = 0;         // ...to change.
    std::optional<std::uint32_t> guard;    // The spare that guards it.
    std::vector<std::uint64_t> guards;     // Whom it guards, as its desk says.
    std::optional<std::uint32_t> heir_of;  // The cell whose job it took over.
    std::optional<Unit> died_in;           // What an heir was given, or has finished.
    bool counted = false;  // Dead, and what it was executing has one more execution.

    bool alive() const { return state != State::kFree && state != State::kLimbo; }
    ProbeIdentity who() const { return {static_cast<std::uint32_t>(*place), incarnation}; }
  };

  // Why a death counts against what the process was executing.
  enum class Guilt { kNone, kCrash, kDeadline, kSilence, kNonsense };
  static bool is_hang(Guilt guilt) { return guilt == Guilt::kDeadline || guilt == Guilt::kSilence; }

  // A worker's place outlives the processes that fill it, one incarnation after the other.
  struct Place {
    std::optional<std::uint32_t> cell;
    std::uint32_t incarnation = 0;
    std::optional<std::uint32_t> last;  // The cell of the one before, while it may have an heir.
  };

  // pool.cc: handing out and taking in.
  enum class Offer {
    kTaken,
    kNoWorker,  // All are busy.
    kNoRoom     // Those that are not have no room for its output until somebody lets go of some.
  };
  void dispatch();
  Offer offer(Ticket ticket);
  bool has_room(const Process& process) const;
  bool unused_one_comes();
  bool lacks_room() const;
  Error room_error() const;
  void retire(Process& process);
  bool hand_out(Process& process, Ticket ticket);
  void order(Process& process, const Order& order, std::string_view arguments);
  void call(Process& process);
  bool collect();
  bool collect_from(Process& process);
  void take_completion(Process& process, const Completion& completion, JobOutput output);
  static bool is_of(const Held& held, const Completion& completion);
  void take_result(Process& process, const Completion& completion, JobOutput output);
  void accept(Process& holder, std::deque<Held>::iterator held, const Process& doer,
              JobOutput output, Frame filled);
  void close(Ledger::Closed closed);
  void look_for_gaps();
  void wait_for_news(std::int64_t until_ns);
  bool looks_due() const;
  void look(std::int64_t until_ns);
  bool spin_for_news();

  // pool_recovery.cc: processes that start, die and hang.
  void take_reports();
  void take_report(ZygoteReport& report);
  void on_started(Process& process, ZygoteReport& report);
  void become_spare(Process& process);
  void on_zygote_death(std::uint32_t zygote);
  void on_end(Process& process, WaitStatus status);
  std::optional<Unit> executed_by(const Process& dead) const;
  void tell_of_death(const Process& process, WaitStatus status);
  bool settle_held(Process& process, WaitStatus status);
  void settle(Process& process, WaitStatus status, Held held, bool executing);
  bool settle_elsewhere(Process& process, WaitStatus status);
  void count(Process& dead, Ticket ticket);
  bool put_back(Process& process, WaitStatus status, Held& held, bool executing);
  bool give_back(const Process& heir, Held& held);
  void let_go(const Process& process, Held held);
  Guilt guilt_of(const Process& process, WaitStatus status, const Job& job) const;
  std::chrono::nanoseconds deadline_of(const Job& job) const;
  std::string cause_of(Guilt guilt, WaitStatus status, const Job& job) const;
  void requeue(Ticket ticket, Guilt guilt = Guilt::kNone,
               std::optional<WaitStatus> status = std::nullopt);
  void lose(Ticket ticket, bool executing, Guilt guilt, WaitStatus status);
  void suspect(Process& process);
  void leave_place(const Process& process);
  void check_orphans();
  void kill(Process& process);
  void send_kill(const Process& process);
  void kill_for_nonsense(Process& process);
  void kill_hung(std::int64_t now);
  static std::int64_t untold_at(const Process& process);
  void kill_untelling(std::int64_t now);
  std::int64_t hung_at(Process& process) const;
  std::int64_t stuck_at(const Process& process) const;
  std::int64_t next_deadline();
  void fill_places();
  void activate(Place& place, Process& process);
  void refill();
  void refill_later();
  void enlist();
  void strike();
  void seal_other_pools();
  std::size_t wanted() const;
  std::size_t starting() const;
  Result<void> start_process();
  Process* free_cell();
  void give_up();
  void fail(Error error);
  void end_all();

  // pool_guard.cc: who watches whom.
  bool begun(const Process& process, const Held& held) const;
  std::optional<std::size_t> executing(const Process& process) const;
  bool lease_is_plausible(const Process& process) const;
  std::int64_t began_ns(const Process& process, std::int64_t now) const;
  Unit unit_of(const Held& held) const;
  Process* heir(const Process& dead, const Held& held);
  void hand_over(Process& heir, Process& dead, Held held);
  void pass(Process& heir, Held held);
  void assign_guards();
  bool look_for_the_dead();

  const Owner owner_;
  const PoolOptions options_;
  CellMemory memory_;
  std::shared_ptr<FrameArena> frames_;
  Doorbell doorbell_;
  WorkerSetup setup_;  // Must stay where it is: the workers' copies refer to it.
  const Probe probe_;
  const bool guarding_;

  std::vector<Process> processes_;  // By cell.
  std::vector<Place> places_;
  // Not before then, after a failed fork; the next death ends that, too.
  std::int64_t refill_at_ns_ = 0;
  bool booted_ = false;
  bool replacing_ = false;     // One was retired, and none has become a spare since.
  bool guards_stale_ = false;  // A spare or a worker came or went.
  int limbo_ = 0;              // Cells in it.

  Ledger ledger_;
  std::deque<Ticket> queue_;        // Open jobs that nobody holds; redone ones at the head.
  std::deque<Ticket> alone_queue_;  // Those of them that must be alone on their worker.
  std::vector<JobResult> results_;  // Closed, not yet returned by wait().
  std::map<std::uint64_t, JobResult> early_;  // With `ordered`: closed before their turn.
  std::uint64_t next_serial_ = 0;             // To be returned, with `ordered`.
  std::uint64_t next_number_ = 0;             // To be submitted.
  RestartIntensity budget_;
  PoolStatistics statistics_;
  int unready_deaths_ = 0;  // Of processes that had not warmed up.
  std::string last_death_;
  std::optional<Error> failure_;  // Set once: no job runs any more.
  std::atomic<bool> interrupted_{false};
  std::int64_t looked_ns_ = 0;
  Zygotes zygotes_;  // Last: its destructor ends all processes.
};

}  // namespace crashworthy

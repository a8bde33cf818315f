// WorkerPool: the coordinator. Private to this directory; users see pool.h.
//
// The event loop (pool.cc) runs inside wait() and wakes for pidfds, sockets and the next deadline,
// never by the clock alone. What follows a death is in pool_recovery.cc.
#pragma once

#include <poll.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/supervision/tree_logic.h"
#include "harness/worker/ledger.h"
#include "harness/worker/pool.h"
#include "harness/worker/wire.h"
#include "harness/worker/worker_process.h"

namespace crashworthy {

// The workers are the children of a supervisor (one_for_one; permanent, or temporary without
// `restart`), whose logic alone decides who is replaced and when to give up; the pool is the
// Backend that has the processes.
class WorkerPool final : public Executor, private Backend {
 public:
  WorkerPool(const PoolOptions& options, JobFunction function, Probe probe);
  ~WorkerPool() override;
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Forks the workers and the spares.
  Result<void> boot();

  void submit(Job job) override;
  Result<std::vector<JobResult>> wait(std::chrono::milliseconds timeout) override;
  std::size_t in_flight() const override { return ledger_.open() + results_.size(); }

 private:
  // A worker's place outlives the processes that fill it, one incarnation after the other.
  struct Place {
    std::uint32_t number = 0;
    std::uint32_t incarnation = 0;
    std::optional<WorkerProcess> process;  // Empty: dead, and not replaced.
    std::vector<JobKey> held;              // Given to the process, in order, no answer yet.
    std::int64_t progress_ns = 0;          // Its last answer, or its first job after idleness.
    std::int64_t killed_ns = 0;            // When it was killed as hung; 0: it was not.
    bool full = false;                     // Its socket takes no more now.
    bool closed = false;                   // Its socket has ended: it is dying.
    ProcessKey process_key;                // For the supervisor.

    Holder holder() const { return {number, incarnation}; }
    ProbeIdentity who() const { return {number, incarnation}; }
    bool holds(const JobKey& key) const;
  };

  // pool.cc: handing out and taking in.
  void dispatch();
  void feed(Place& place);
  bool has_room(const Place& place) const;
  std::optional<JobKey> next_job(const Place& place);
  void hand_out(Place& place, const JobKey& key);
  void read_answers(Place& place);
  void take_answer(Place& place);
  void poll_once(std::int64_t until_ns);
  bool poll_events(std::int64_t until_ns);

  // pool_recovery.cc: what the supervisor asks for. Of these, only start() is ever needed: who ends
  // the pool kills what is left himself.
  void start(ProcessKey key, const std::string& path, const ChildSpec& spec) override;
  void stop(ProcessKey) override {}
  void kill(ProcessKey) override {}
  void suspend(ProcessKey) override {}
  void resume(ProcessKey) override {}
  void forget(std::uint64_t) override {}
  void on_event(const Event& event);
  void carry_out_starts();
  void check_budget();
  Result<WorkerProcess> next_process();

  // pool_recovery.cc: processes that start, die and hang.
  Result<WorkerProcess> fork_worker();
  void forget_all();  // In a forked child.
  void activate(Place& place, WorkerProcess process);
  void on_death(Place& place);
  void settle_held(Place& place, const LeaseView& lease, WaitStatus status);
  bool charge_and_convict(const JobKey& key, WaitStatus status, bool hung);
  void on_spare_death(std::size_t index);
  bool refill_spares();
  std::int64_t overdue_at(const Place& place) const;
  void kill_overdue(std::int64_t now);
  void fail(Error error);

  const PoolOptions options_;
  const JobFunction function_;
  const Probe probe_;
  std::vector<Place> places_;
  std::vector<WorkerProcess> spares_;
  bool refill_ = true;  // False after a failed refill, until the next death.

  Ledger ledger_;
  std::deque<JobKey> queue_;        // Open jobs that nobody holds; redone ones at the head.
  std::deque<JobKey> alone_queue_;  // Those of them that must be alone on their worker.
  std::vector<JobResult> results_;  // Closed, not yet returned by wait().
  struct Start {
    Place* place;
    ProcessKey key;
  };
  std::deque<Start> starts_;  // Asked for by the supervisor, not yet carried out.
  bool spent_ = false;        // The supervisor has given up.
  std::string last_death_;
  TreeLogic supervisor_;
  std::optional<Error> failure_;  // Set once: no job runs any more.

  std::vector<pollfd> polls_;
  std::unique_ptr<AnswerBuffer> buffer_ = std::make_unique<AnswerBuffer>();
};

}  // namespace crashworthy

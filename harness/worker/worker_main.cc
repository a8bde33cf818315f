#include "harness/worker/worker_main.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/check.h"
#include "harness/os/clock.h"
#include "harness/os/scheduling.h"
#include "harness/worker/futex.h"
#include "harness/worker/run_job.h"

namespace crashworthy {
namespace {

constexpr int kSpinsPerLook = 16;  // Between two looks at the clock.
// Completions that there must be room for before a job is taken over: its own, and kActive.
constexpr std::uint64_t kRoomToTakeOver = 2;

class Worker {
 public:
  Worker(const WorkerSetup& setup, std::uint32_t cell)
      : setup_(setup),
        memory_(*setup.memory),
        number_(cell),
        desk_(memory_.desk(cell)),
        cell_(memory_.cell(cell)),
        generation_(desk_.card.generation.load()),
        next_order_(desk_.card.first_order.load()),
        first_completion_(desk_.card.first_completion.load()),
        next_completion_(first_completion_) {}

  [[noreturn]] void run() {
    // What jobs fork ends with us, whoever else may be dead by then. What they start otherwise
    // (posix_spawn, and what that forks) comes to the zygote, and is ended there.
    const int refused = ::pthread_atfork(note_parent, nullptr, end_with_parent);
    CRASHWORTHY_CHECK(refused == 0, refused);
    memory_.unseal(number_);
    if (setup_.protection_keys) setup_.frames->use_keys(region_of(number_));
    setup_.frames->use_copies();
    if (setup_.warm_up) warm_up(*setup_.warm_up);
    memory_.touch_leases();
    memory_.touch(number_);
    take_guard(cell_);
    // A spare that wakes on the CPU of whoever has just died must not wait until the kernel has
    // taken that down.
    request_time_slice(kShortestTimeSlice);
    publish({CompletionKind::kReady}, {});
    call_coordinator();
    for (;;) {
      const std::uint32_t signal = desk_.signal.load(std::memory_order_seq_cst);
      if (take_order()) continue;
      flush();
      if (spin(signal)) continue;
      sleep(signal);
    }
  }

 private:
  static void note_parent() { parent_ = ::getpid(); }
  static void end_with_parent() {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // It may have died before the line above: then no signal will ever come. 0: it lives outside of
    // our pid namespace, which a job has made.
    const pid_t parent = ::getppid();
    if (parent != parent_ && parent != 0) ::_exit(0);
  }

  void warm_up(const Job& job) {
    if (job.output_bytes > desk_.card.takeover_bytes.load()) return;
    const FrameRef frame = own_frame(job.output_bytes);
    bool opened = setup_.frames->unseal(frame);
    CRASHWORTHY_CHECK(opened, errno);
    JobContext context = context_of({0, 0}, 0, frame);
    context.heartbeats = nullptr;
    [[maybe_unused]] const JobOutput dropped = setup_.function(job, context);
    opened = !setup_.frames->seal(frame);
    CRASHWORTHY_CHECK(!opened, errno);
  }

  // Reserved for the warm-up, and for what is taken over.
  FrameRef own_frame(std::size_t bytes) const {
    return {region_of(number_), 0, desk_.card.takeover_offset.load(), bytes};
  }

  // ---- Waiting ----

  bool spin(std::uint32_t signal) const {
    if (setup_.spin.count() == 0) return false;
    const std::int64_t until = now_ns() + setup_.spin.count();
    do {
      for (int i = 0; i < kSpinsPerLook; ++i) {
        if (desk_.signal.load(std::memory_order_acquire) != signal) return true;
        relax();
      }
    } while (now_ns() < until);
    return false;
  }

  void sleep(std::uint32_t signal) {
    std::array<FutexWait, kMaxFutexWaits> waits;
    std::size_t count = 0;
    waits[count++] = {&desk_.signal, signal};
    if (who_.incarnation == 0) {
      for (std::size_t i = 0; i < desk_.guarded.size(); ++i) {
        const std::uint64_t guarded = desk_.guarded[i].load(std::memory_order_acquire);
        if (guarded == 0 || was_taken_over(guarded)) continue;
        if (std::exchange(touched_[i], guarded) != guarded) memory_.touch(guarded_cell(guarded));
        const auto& word = guard_word(memory_.cell(guarded_cell(guarded)));
        const std::uint32_t now = word.load(std::memory_order_seq_cst);
        if (owner_is_dead(now)) return take_over(guarded);
        if (guard_is_held(now)) waits[count++] = {&word, now};
      }
    }
    fall_asleep(cell_.sleeps);
    // Where a job has taken the right to wait for several, the proof will tell of deaths.
    if (count == 1 || !futex_wait_any({waits.data(), count})) futex_wait(desk_.signal, signal);
    wake_up(cell_.sleeps);
  }

  // ---- Orders ----

  bool take_order() {
    const auto order = memory_.read_order(number_, next_order_, job_.arguments);
    if (!order) return false;
    const std::uint64_t position = next_order_++;
    switch (order->kind) {
      case OrderKind::kActivate:
        who_ = {order->place, order->incarnation};
        request_time_slice({});
        taken_over_.clear();
        // An heir has said so already, when it took over.
        if (heir_.worker != who_.worker || heir_.incarnation != who_.incarnation) {
          setup_.probe.emit(ProbeEvent::kWorkerReady, who_);
        }
        publish({CompletionKind::kActive}, {});
        call_coordinator();
        return true;
      case OrderKind::kJob: {
        const FrameRef frame{region_of(number_), 0, order->output_offset, order->output_bytes};
        use(frame);  // Before it begins: should that fail, others have done it.
        begin_lease(cell_.lease, number_, position, now_ns());
        execute(*order, {number_, generation_, position}, who_, order->attempt, frame);
        if (waiting_.size() >= setup_.batch) flush();
        return true;
      }
      case OrderKind::kEnd:
        flush();
        break;
    }
    leave();
  }

  [[noreturn]] static void leave() {
    std::fflush(nullptr);  // What jobs printed; the parent's own text was flushed before the fork.
    ::_exit(0);
  }

  JobContext context_of(ProbeIdentity who, std::uint32_t attempt, const FrameRef& frame) {
    JobContext context;
    context.who = who;
    context.attempt = attempt;
    context.output = setup_.frames->writable(frame);
    context.frames = setup_.frames;
    context.heartbeats = &cell_.heartbeats;
    return context;
  }

  // Where an order stands.
  struct Source {
    std::uint32_t cell;
    std::uint32_t generation;
    std::uint64_t position;
  };

  // Runs the job in job_.arguments, of which the lease tells. Its result waits for flush().
  void execute(const Order& order, const Source& source, ProbeIdentity who, std::uint32_t attempt,
               const FrameRef& frame) {
    job_.item = order.item;
    job_.part = order.part;
    job_.output_bytes = order.output_bytes;
    JobOutput output =
        run_job(setup_.function, job_, context_of(who, attempt, frame), setup_.probe);
    if (!output.failure && !setup_.frames->write_back(frame, output.frame_bytes)) give_up();
    Completion completion{CompletionKind::kJob,
                          source.cell,
                          source.generation,
                          source.position,
                          order.item,
                          order.part,
                          attempt,
                          output.failure ? static_cast<std::int32_t>(*output.failure) : 0,
                          frame.offset,
                          output.frame_bytes};
    if (setup_.batch <= 1) {
      unsealed_ = frame;
      publish(completion, output);
      // Only now: what was begun and has no result is known to have been begun (max_attempts).
      end_lease(cell_.lease, number_);
      if (!has_enough()) call_coordinator();
    } else {
      end_lease(cell_.lease, number_);
      waiting_.push_back({completion, std::move(output), frame});
    }
  }

  // Makes the frame writable, and the last one no longer: once a result is told, its frame must not
  // be written by what is executed next. Until then nothing is executed here, so there is time;
  // somebody waits for the result, and often the next one goes to the same place.
  void use(const FrameRef& frame) {
    if (frame.region == unsealed_.region && frame.offset == unsealed_.offset &&
        frame.bytes == unsealed_.bytes) {
      return;
    }
    if (!setup_.frames->seal(unsealed_) || !setup_.frames->unseal(frame)) give_up();
    unsealed_ = FrameRef();
  }

  // A job that was executed here has ruined this process. It cannot be told which, so by a signal
  // that convicts nobody; if any of them has no result yet, each is tried alone.
  [[noreturn]] void give_up() {
    if (!waiting_.empty()) publish({CompletionKind::kBroken}, {});
    ::kill(::getpid(), SIGKILL);
    for (;;) ::pause();
  }

  // ---- Results ----

  void publish(const Completion& completion, const JobOutput& output) {
    memory_.write_completion(number_, next_completion_++, completion, output);
  }

  // All results of a batch are read-only to us before the first of them is told.
  void flush() {
    if (waiting_.empty()) return;
    for (const Waiting& result : waiting_) {
      if (!setup_.frames->seal(result.frame)) give_up();
    }
    for (const Waiting& result : waiting_) publish(result.completion, result.output);
    waiting_.clear();
    if (!has_enough()) call_coordinator();
  }

  // While more than `min_demand` orders wait here, the coordinator has no reason to wake.
  bool has_enough() const { return memory_.has_order(number_, next_order_ + setup_.min_demand); }

  void call_coordinator() {
    if (!must_call(memory_.board().coordinator_sleeps, last_call_)) return;
    // A job has closed it. No job is being executed here, so this convicts nobody; the zygote
    // tells.
    if (!setup_.doorbell->ring_if_there()) leave();
  }

  // ---- Taking over ----

  static std::uint32_t guarded_cell(std::uint64_t guarded) {
    return static_cast<std::uint32_t>(guarded) - 1;
  }
  bool was_taken_over(std::uint64_t guarded) const {
    for (const std::uint64_t taken : taken_over_) {
      if (taken == guarded) return true;
    }
    return false;
  }

  // Whether another spare, which guarded the cell before us, has taken over already, even if it has
  // died of it. Of two at once neither goes on: then the job waits for the proof.
  bool has_other_heir(std::uint32_t source, std::uint64_t executing) const {
    for (std::uint32_t other = 0; other < memory_.cells(); ++other) {
      if (other == number_ || other == source) continue;
      if (executes(memory_.cell(other).lease, source, executing - 1)) return true;
    }
    return false;
  }

  // The process in the guarded cell seems to have died: what it was executing is executed again,
  // here and now. Only the coordinator decides whether that counts.
  void take_over(std::uint64_t guarded) {
    taken_over_.push_back(guarded);
    const std::uint32_t source = guarded_cell(guarded);
    const CellCard& card = memory_.desk(source).card;
    const auto generation = static_cast<std::uint32_t>(guarded >> 32);
    if (memory_.board().closing.load() != 0 || card.generation.load() != generation) return;
    const Lease& lease = memory_.cell(source).lease;
    const std::uint64_t executing = lease.executing.load(std::memory_order_acquire);
    const bool spoken_for = lease.source.load(std::memory_order_acquire) != source;
    const ProbeIdentity dead{card.place.load(), card.incarnation.load()};
    setup_.probe.emit_for(card.pid.load(), ProbeEvent::kSuspected, dead);
    // The coordinator may not have looked for long: there is room for so much until it does.
    const bool full = next_completion_ - first_completion_ + kRoomToTakeOver > memory_.ring();
    if (executing == Lease::idle(source) || spoken_for || full) return call_coordinator();
    const auto order = memory_.read_order(source, executing - 1, job_.arguments);
    if (!order || order->kind != OrderKind::kJob) return call_coordinator();
    // In the coordinator's words, not those of whoever died.
    const std::uint32_t attempt = order->attempt + 1;
    if (attempt > setup_.max_take_over) return call_coordinator();
    // Once only: who takes over has executed nothing yet, so a second death is the job's own doing.
    if (heir_.incarnation != 0 || order->output_bytes > desk_.card.takeover_bytes.load()) {
      return call_coordinator();
    }
    begin_lease(cell_.lease, source, executing - 1, now_ns());
    const bool second = setup_.spares > 1 && has_other_heir(source, executing);
    if (second) end_lease(cell_.lease, number_);
    if (second || !may_take_over(cell_.lease, number_, card.generation, generation)) {
      publish({CompletionKind::kDeclined, source, generation, executing - 1}, {});
      return call_coordinator();
    }
    heir_ = {dead.worker, dead.incarnation + 1};
    setup_.probe.emit(ProbeEvent::kReplacement, heir_);
    setup_.probe.emit(ProbeEvent::kWorkerReady, heir_);
    const FrameRef frame = own_frame(order->output_bytes);
    use(frame);
    execute(*order, {source, generation, executing - 1}, heir_, attempt, frame);
    flush();
    call_coordinator();
  }

  struct Waiting {
    Completion completion;
    JobOutput output;
    FrameRef frame;
  };

  static inline std::atomic<pid_t> parent_{0};  // Of the next fork.

  const WorkerSetup& setup_;
  CellMemory& memory_;
  const std::uint32_t number_;
  Desk& desk_;
  Cell& cell_;
  const std::uint32_t generation_;
  std::uint64_t next_order_;
  const std::uint64_t first_completion_;
  std::uint64_t next_completion_;
  std::uint32_t last_call_ = 0;  // For must_call().
  ProbeIdentity who_{0, 0};      // Incarnation 0: a spare.
  ProbeIdentity heir_{0, 0};     // What it will be, as it took over from the one before.
  Job job_;
  std::vector<Waiting> waiting_;           // Executed, not yet told.
  FrameRef unsealed_;                      // Told, and still writable; empty: none.
  std::vector<std::uint64_t> taken_over_;  // As in Desk::guarded.
  // Of Desk::guarded, whose cells have been touched.
  std::array<std::uint64_t, kMaxGuarded> touched_{};
};

}  // namespace

void run_worker(const WorkerSetup& setup, std::uint32_t cell) noexcept {
  Worker(setup, cell).run();
}

bool can_guard() {
  // A word that is not what is expected: a kernel that can wait for it says so at once.
  const std::atomic<std::uint32_t> word{0};
  const std::array<FutexWait, 2> waits{FutexWait{&word, 1}, FutexWait{&word, 1}};
  return futex_wait_any(waits);
}

}  // namespace crashworthy

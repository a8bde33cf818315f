// Zygotes: small single-threaded processes that fork the pool's workers, so that a fork costs the
// same however large or threaded the coordinator is, and finds all libraries loaded and warm.
//
// There are two, and either can replace the other: the death of one costs its own workers, which
// die with it (the kernel sees to that), and no more. Zygotes end when the coordinator does.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/os/wait_status.h"
#include "harness/worker/forked.h"

namespace crashworthy {

// Fails unless the calling process has exactly one thread now: a forked copy of a process with more
// may hold locks whose owner it does not have.
Result<void> require_single_thread();

// An error of the system with the hint which limit of this process or user may be in the way. Any
// other error, and one with a hint, as it is.
Error with_limit_hint(Error error);

// What runs in the processes.
struct ZygoteBody {
  std::function<void()> prepare;              // In the first zygote, before it forks anything.
  std::function<void(std::uint32_t)> worker;  // In a worker, with its cell; must not return.
};

// What a zygote tells.
struct ZygoteReport {
  enum class Kind : std::uint32_t {
    kStarted = 1,  // `pid`, `pidfd`: the process of `cell`.
    kFailed,       // The fork for `cell` failed; `value` is the errno.
    kEnded,        // The process of `cell` was reaped; `value` is its raw wait status.
    kTwin,         // `pid`, `pidfd`: the other zygote was forked.
    kReady,        // The zygote `pid`, `pidfd` has prepared itself.
    kGone          // The zygote is dead, and its workers die; made up by the coordinator.
  };
  Kind kind = Kind::kReady;
  std::uint32_t cell = 0;
  std::uint32_t generation = 0;
  std::int32_t pid = 0;
  std::int32_t value = 0;
  std::uint32_t zygote = 0;  // Which of the two told it.
  UniqueFd pidfd;
};

// The coordinator's hold on both. One thread uses it. The destructor ends them, and so all workers,
// and waits until they are gone; in a forked copy of the coordinator it only closes descriptors.
class Zygotes {
 public:
  static constexpr std::size_t kCount = 2;

  explicit Zygotes(ZygoteBody body) : body_(std::move(body)) {}
  ~Zygotes();
  Zygotes(const Zygotes&) = delete;
  Zygotes& operator=(const Zygotes&) = delete;

  // What the destructor does; afterwards there is no zygote. False when one is left that we may not
  // kill: it was stopped, and is of a user that we are no more.
  bool end();

  // Forks the first one, which forks the other. The caller must be single-threaded (kUsage
  // otherwise); kGone when the first one dies while it prepares itself, with how it died.
  Result<void> boot();

  // Asks the zygote with the fewest workers to fork one; returns which. The answer comes as a
  // report.
  Result<std::uint32_t> fork_worker(std::uint32_t cell, std::uint32_t generation);

  // Sockets to be polled for reports, -1 for a zygote that is not there.
  std::array<int, kCount> sockets() const;
  // What has been told; never blocks. Replaces a dead zygote through the other one, or, when both
  // are dead and the caller is single-threaded, anew; else fails with kGone.
  Result<std::vector<ZygoteReport>> reports();

  // Allows that a zygote that could not be forked is asked for again.
  void retry_twin() { twin_refused_ = false; }
  bool lacks_twin() const { return twin_refused_; }

  // A zygote that does not answer for a second is killed if it is stopped; it may be that the
  // machine is busy, so another one has half a minute. One that prepares itself has a minute.
  void kill_silent(std::int64_t now_ns);
  // False for one that is stopped, or of which nothing can be seen.
  bool runs(std::uint32_t zygote) const;
  // One that does not tell what it must know is killed, too.
  void kill(std::uint32_t zygote);
  // Asks the zygote to kill its worker: for a coordinator that may not do so (any more) itself.
  void kill_worker(std::uint32_t zygote, std::uint32_t cell, std::uint32_t generation);
  // When kill_silent() may have something to do.
  std::int64_t silent_at() const;

  pid_t pid(std::size_t zygote) const { return zygotes_[zygote].pid; }  // 0: none.

 private:
  struct Zygote {
    UniqueFd socket;
    UniqueFd pidfd;
    pid_t pid = 0;
    bool ours = false;           // Our child, to be reaped.
    bool ready = false;          // It has prepared itself.
    int workers = 0;             // Forked and not reaped, and asked for.
    int asked = 0;               // Requests without an answer...
    std::int64_t asked_ns = 0;   // ...the oldest of them, or the last answer.
    std::int64_t looked_ns = 0;  // When it was silent, and seen not to be stopped.
  };

  static std::int64_t silent_at(const Zygote& zygote);
  Result<void> fork_first(std::size_t index);
  Result<void> request_twin(std::size_t from);
  Result<void> revive();
  void read(std::size_t index, std::vector<ZygoteReport>& reports);
  void bury(std::size_t index, std::vector<ZygoteReport>& reports);

  const Owner owner_;
  ZygoteBody body_;
  std::array<Zygote, kCount> zygotes_;
  bool twin_refused_ = false;  // There was no room for a second one; not asked again for a while.
};

}  // namespace crashworthy

// Answers the system calls of a subject that its filter reports (seccomp_unotify(2)), for all
// injections of a trial: each puts in its rules, one thread serves the one listener.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "faults/launch_plan.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// A call whose caller waits for the answer.
struct ReportedCall {
  std::uint64_t id = 0;
  pid_t tid = 0;  // Of the calling thread, as we see it.
  int number = 0;
  std::array<std::uint64_t, 6> arguments{};
  std::int64_t received_ns = 0;
  int listener = -1;

  // False when the caller has ended: what is read of `tid` then may be of somebody else. To be
  // asked after each reading, before what was read is believed.
  bool waits() const;
  // These answer it. False when nobody waits any more: the caller was killed, or, before
  // Linux 5.19, interrupted.
  bool go_on() const;
  bool fail(int error) const;
  bool give(std::int64_t value) const;
};

// Who decides about calls. All of it is called in the server's thread.
class CallRule {
 public:
  struct Step {
    enum class Kind {
      kAnswered,
      kVanished,  // It could not be answered: nobody waits any more.
      kHeld       // Ask again at `until_ns`, or when `descriptor` is ready, or after a wake().
    };
    Kind kind = Kind::kAnswered;
    std::int64_t until_ns = INT64_MAX;
    int descriptor = -1;
    short events = 0;
  };

  virtual ~CallRule() = default;
  // Sees each call of its numbers once. True: it wants to decide this one.
  virtual bool wants(const ReportedCall& call) = 0;
  // It may.
  virtual Step decide(const ReportedCall& call) = 0;
  // It wanted to, but a rule before it did too.
  virtual void was_beaten(const ReportedCall& call) = 0;
  // The call, which it saw last, was never made: its caller was killed or interrupted first.
  virtual void take_back(const ReportedCall& call) = 0;
  // The caller of a call that it holds has ended.
  virtual void caller_ended(const ReportedCall& call) = 0;
};

class CallServer {
 public:
  // That of the launch, made when there is none yet.
  static std::shared_ptr<CallServer> of(LaunchPlan& launch);
  ~CallServer();
  CallServer(const CallServer&) = delete;
  CallServer& operator=(const CallServer&) = delete;

  // Before the launch.
  void add(LaunchPlan& launch, std::span<const int> numbers, std::shared_ptr<CallRule> rule);
  // Rules look again at the calls that they hold. From any thread.
  void wake() const;
  // Ends the serving, when the subject is gone: what rules have seen is final then. What is still
  // held goes on; whoever lives still has such calls fail with ENOSYS from here on.
  void stop();

 private:
  struct Entry {
    int number;
    std::shared_ptr<CallRule> rule;
  };
  struct Held {
    ReportedCall call;
    CallRule* rule = nullptr;
    CallRule::Step step;
    UniqueFd caller;  // pidfd
  };

  CallServer();
  void serve(UniqueFd listener);
  void run();
  bool wait();
  void take_call();
  static bool look_at(Held& held, bool caller_ended, bool ready);

  std::vector<Entry> entries_;
  UniqueFd listener_;
  UniqueFd wake_;  // eventfd
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
  std::vector<Held> held_;  // From here on: the thread's.
  std::vector<pollfd> polled_;
};

// Whether calls can be reported here. Tried once, in a process of its own.
struct NotifySupport {
  std::string refused;    // Why not; empty: they can.
  bool killable = false;  // Callers who wait can only be killed (Linux 5.19).
};
const NotifySupport& notify_support();

}  // namespace crashworthy

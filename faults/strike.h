// A genuine native fault in one traced thread: what is done to the thread while it stands still,
// and what of it is seen afterwards.
//
// Nothing of the program's code is changed, as its other threads may run there: registers are set,
// and instructions that the program does not have lie on a page of their own, which is mapped by an
// injected call. Where the fault passes, or cannot be done, everything is put back.
#pragma once

#include <sys/types.h>
#include <csignal>

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "faults/tracee.h"
#include "harness/os/wait_status.h"

namespace crashworthy {

enum class NativeKind {
  kSegv,
  kAbort,
  kFpe,
  kIll,
  kBus,
  kStackOverflow,
  kHeapCorrupt,
  kSpin,
  kDeadlock,
  kSlow,
  kExit,
  kBitflip,
};

struct NativeFault {
  NativeKind kind = NativeKind::kSegv;
  std::int64_t delay_ns = 0;  // kSlow
  int exit_code = 0;          // kExit
  std::uint64_t seed = 0;     // kBitflip
};

// One changed bit of a process's memory.
struct FlippedBit {
  std::uint64_t address = 0;
  std::uint8_t before = 0;
  std::uint8_t after = 0;  // As read back.
  std::uint8_t mask = 0;
  std::string mapping;  // "[heap]", or empty.
};

// Flips one bit, drawn by `seed`, of a byte that is not zero on a resident, writable page of `pid`
// that belongs to no file. Empty when there is none, or it cannot be written.
std::optional<FlippedBit> flip_bit(pid_t pid, std::uint64_t seed);
// Flips it back; false when the byte is no longer what it was made.
bool unflip_bit(pid_t pid, const FlippedBit& bit);

// What was done and seen.
struct StrikeRecord {
  pid_t pid = 0;              // Ours, of the process,
  pid_t tid = 0;              // and of the thread.
  std::int64_t begun_ns = 0;  // When it was set up; 0: it could not be, `failure` says why.
  std::int64_t seen_ns = 0;   // The effect; 0: it was not seen.
  std::string how;            // "called abort() of /usr/lib/libc.so.6"
  std::string effect;         // What was seen.
  std::string failure;        // Why it could not be done, or had no effect.
  // Of the signal, where it is one.
  int signal = 0;
  int code = 0;
  int sender = 0;  // As the process sees it.
  std::uint64_t address = 0;
  bool caught = false;            // The process had a handler for it.
  std::optional<WaitStatus> end;  // Of the process, as the kernel told while it still stood.
  bool put_back = false;          // The thread went on as if nothing had been.
  std::optional<FlippedBit> bit;
};

class Strike {
 public:
  // `tid` is stopped, and stays so until the caller resumes it.
  Strike(const NativeFault& fault, pid_t pid, pid_t tid);

  // Sets it up. When done() already: there is nothing to wait for, and the thread is resumed as any
  // other with what is returned, the signal for it.
  int begin();
  // The thread has stopped. Returns the signal with which it goes on.
  int on_stop(int status);
  bool done() const { return done_; }
  // When to interrupt() the thread: INT64_MAX: never.
  std::int64_t deadline_ns() const { return deadline_ns_; }
  void interrupt();
  // Puts everything back, wherever it is. The thread is stopped. Returns the signal for it.
  int undo();

  const StrikeRecord& record() const { return record_; }

 private:
  bool set_up();
  bool set_up_call(const char* function, std::uint64_t argument);
  bool set_up_code(std::span<const std::uint8_t> code);
  bool set_up_truncated_file();
  bool map_page();
  bool has_bounded_stack();
  int fail(std::string why);
  int on_signal(int signal);
  int on_exit();
  int on_interrupted();
  bool is_expected(int signal, const siginfo_t& info);
  bool on_page(std::uint64_t address) const;
  std::uint64_t cpu_time_ns() const;

  const NativeFault fault_;
  StrikeRecord record_;
  Registers saved_{};
  Registers wanted_{};
  SignalMask saved_mask_ = 0;
  std::uint64_t syscall_instruction_ = 0;
  std::uint64_t page_ = 0;
  std::uint64_t cpu_time_before_ns_ = 0;
  std::int64_t deadline_ns_ = INT64_MAX;
  std::int32_t own_pid_ = 0;  // As the process sees itself.
  bool done_ = false;
};

}  // namespace crashworthy

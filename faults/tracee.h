// What can be done to one thread that we trace (ptrace(2), x86-64). All of it comes from the thread
// that traces it.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

// One line of /proc/PID/maps.
struct Mapping {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t offset = 0;  // In its file.
  bool readable = false;
  bool writable = false;
  bool executable = false;
  bool shared = false;
  std::string path;  // "[heap]", empty for anonymous memory.
};
std::vector<Mapping> mappings_of(pid_t pid);

// The first function of that name in the process: its program's own, else that of whatever library
// has it. `file` gets the name of that file. Empty: none, or this build cannot read symbols.
std::optional<std::uint64_t> function_address(pid_t pid, const std::string& name,
                                              std::string* file);

using Registers = user_regs_struct;
// False when the thread is gone, or does not stand still.
bool get_registers(pid_t tid, Registers* registers);
bool set_registers(pid_t tid, const Registers& registers);
// Writes also where the program itself may only read or execute.
bool poke(pid_t tid, std::uint64_t address, std::span<const std::uint8_t> bytes);
// False when not all of it can be read. Needs no stopped thread.
bool read_memory(pid_t pid, std::uint64_t address, void* into, std::size_t size);

using SignalMask = std::uint64_t;
bool get_mask(pid_t tid, SignalMask* mask);
bool set_mask(pid_t tid, SignalMask mask);

// The next stop or end of `tid`, -1: of any thread that we trace. `tid` is 0 when there was none:
// the bound has passed, a Waker woke us, or (`none_left`) there is nothing to wait for.
struct Stop {
  pid_t tid = 0;
  int status = 0;
  bool none_left = false;
};
Stop wait_for_stop(pid_t tid, std::int64_t until_ns);

// Lets the thread that makes it be woken from wait_for_stop(), by a bound or by others. No
// descriptor tells of stops, hence a real-time signal without effect, upon which waitpid(2)
// returns. A thread without a Waker has no bounds.
class Waker {
 public:
  Waker();
  ~Waker();
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;
  // Any thread. May come just before the wait: to be repeated until it was heard.
  void wake() const;

 private:
  pid_t thread_;
};

// Lets the stopped thread make one system call and stop again, with any registers. Its signals must
// be blocked meanwhile. What the kernel returns (-errno), or empty when the thread is gone.
std::optional<std::int64_t> inject_call(pid_t tid, std::uint64_t syscall_instruction, long number,
                                        std::array<std::uint64_t, 6> arguments);
// Where the process has a `syscall` instruction; 0: nowhere.
std::uint64_t find_syscall_instruction(pid_t pid);

}  // namespace crashworthy

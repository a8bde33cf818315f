#include "faults/strike.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <sstream>
#include <utility>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"
#include "harness/os/random.h"
#include "harness/os/system_names.h"
#include "harness/os/unique_fd.h"
#include "harness/os/wait_status.h"

namespace crashworthy {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kRedZone = 128;  // Below the stack pointer, a leaf function's own.
constexpr std::int64_t kPatienceNs = 10'000'000'000;
constexpr std::int64_t kLookNs = 20'000'000;  // How long a hanging thread is watched.
constexpr std::uint64_t kFlagAlignment = 1 << 18;
constexpr std::uint64_t kFlagDirection = 1 << 10;
constexpr rlim_t kMostStack = 1 << 30;
constexpr int kMaxPagesTried = 256;
constexpr unsigned long kTillItsEnd = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXIT;
// Places on the page of our own.
constexpr std::uint64_t kReturnAt = 0x7f0;  // An int3: where a call returns to that should not.
constexpr std::uint64_t kWordAt = 0xa00;    // Zero, for ever.
constexpr std::uint64_t kTextAt = 0x900;
constexpr std::uint64_t kChunkAt = 0x808;  // No pointer that an allocator gives: not aligned.

constexpr std::uint8_t kDivide[] = {0x31, 0xd2,                      // xor edx, edx
                                    0x31, 0xc9,                      // xor ecx, ecx
                                    0xb8, 0x01, 0x00, 0x00, 0x00,    // mov eax, 1
                                    0xf7, 0xf1};                     // div ecx
constexpr std::uint8_t kUndefined[] = {0x0f, 0x0b};                  // ud2
constexpr std::uint8_t kLoad[] = {0x8a, 0x00};                       // mov al, [rax]
constexpr std::uint8_t kRecurse[] = {0xe8, 0xfb, 0xff, 0xff, 0xff};  // call itself
constexpr std::uint8_t kLoop[] = {0xf3, 0x90, 0xeb, 0xfc};           // pause; jmp back
// tgkill(getpid(), gettid(), SIGABRT), for programs without abort().
constexpr std::uint8_t kOwnAbort[] = {
    0xb8, 0x27, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x89, 0xc7,  // edi = getpid()
    0xb8, 0xba, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x89, 0xc6,  // esi = gettid()
    0xba, 0x06, 0x00, 0x00, 0x00,                          // edx = SIGABRT
    0xb8, 0xea, 0x00, 0x00, 0x00, 0x0f, 0x05};             // tgkill
constexpr std::uint8_t kCallAgain[] = {0x0f, 0x05,         // syscall
                                       0x4c, 0x89, 0xf8,   // mov rax, r15
                                       0xeb, 0xf9};        // jmp back
constexpr std::uint8_t kBreakpoint[] = {0xcc};

std::uint64_t page_size() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

std::string hex(std::uint64_t value) {
  std::ostringstream text;
  text << "0x" << std::hex << value;
  return text.str();
}

// Bit 63 of an entry of /proc/PID/pagemap: the page is in memory.
bool is_resident(int pagemap, std::uint64_t address) {
  std::uint64_t entry = 0;
  const auto at = static_cast<off_t>(address / page_size() * sizeof entry);
  return ::pread(pagemap, &entry, sizeof entry, at) == sizeof entry && (entry >> 63) != 0;
}

std::optional<FlippedBit> flip_in_page(pid_t pid, std::uint64_t page, Random& random) {
  std::vector<std::uint8_t> bytes(page_size());
  if (!read_memory(pid, page, bytes.data(), bytes.size())) return std::nullopt;
  std::vector<std::size_t> used;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != 0) used.push_back(i);
  }
  if (used.empty()) return std::nullopt;
  FlippedBit bit;
  const std::size_t at = used[random.below(used.size())];
  bit.address = page + at;
  bit.mask = static_cast<std::uint8_t>(1u << random.below(8));
  bit.before = bytes[at];
  bit.after = bit.before ^ bit.mask;
  return bit;
}

bool write_byte(pid_t pid, std::uint64_t address, std::uint8_t value) {
  const iovec ours{&value, 1};
  const iovec theirs{reinterpret_cast<void*>(address), 1};
  std::uint8_t found = 0;
  return ::process_vm_writev(pid, &ours, 1, &theirs, 1, 0) == 1 &&
         read_memory(pid, address, &found, 1) && found == value;
}

}  // namespace

std::optional<FlippedBit> flip_bit(pid_t pid, std::uint64_t seed) {
  Random random(seed);
  const UniqueFd pagemap(
      ::open(("/proc/" + std::to_string(pid) + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  if (!pagemap.valid()) return std::nullopt;
  std::vector<std::pair<std::uint64_t, std::string>> pages;
  for (const Mapping& mapping : mappings_of(pid)) {
    const bool data = mapping.path.empty() || mapping.path == "[heap]";
    if (!data || !mapping.readable || !mapping.writable || mapping.shared) continue;
    for (std::uint64_t page = mapping.start; page < mapping.end; page += page_size()) {
      if (is_resident(pagemap.get(), page)) pages.emplace_back(page, mapping.path);
    }
  }
  for (int i = 0; i < kMaxPagesTried && !pages.empty(); ++i) {
    const std::size_t at = random.below(pages.size());
    auto bit = flip_in_page(pid, pages[at].first, random);
    if (bit && write_byte(pid, bit->address, bit->after)) {
      bit->mapping = pages[at].second;
      return bit;
    }
    pages.erase(pages.begin() + static_cast<std::ptrdiff_t>(at));
  }
  return std::nullopt;
}

bool unflip_bit(pid_t pid, const FlippedBit& bit) {
  std::uint8_t found = 0;
  return read_memory(pid, bit.address, &found, 1) && found == bit.after &&
         write_byte(pid, bit.address, bit.before);
}

Strike::Strike(const NativeFault& fault, pid_t pid, pid_t tid) : fault_(fault) {
  record_.pid = pid;
  record_.tid = tid;
  own_pid_ = pid_in_own_namespace(pid).value_or(0);
}

int Strike::begin() {
  const pid_t tid = record_.tid;
  if (fault_.kind == NativeKind::kBitflip) {
    const std::int64_t before_ns = now_ns();
    record_.bit = flip_bit(tid, fault_.seed);
    if (!record_.bit) return fail("no resident writable page of its own could be changed");
    record_.begun_ns = before_ns;
    record_.seen_ns = now_ns();
    record_.how = "changed one bit of its memory";
    record_.effect = "byte at " + hex(record_.bit->address) + " read back changed";
    done_ = true;
    return 0;
  }
  if (!get_registers(tid, &saved_) || !get_mask(tid, &saved_mask_))
    return fail("the thread ended before it");
  wanted_ = saved_;
  wanted_.orig_rax = ~0ull;  // An interrupted call is not restarted: the thread goes elsewhere.
  wanted_.eflags &= ~(kFlagDirection | kFlagAlignment);
  // No signal of the program's own may come in between.
  set_mask(tid, ~SignalMask{0});
  if (!set_up()) {
    if (record_.failure.empty()) record_.failure = "its memory could not be written";
    return undo();
  }
  const bool sleeps = fault_.kind == NativeKind::kSlow;
  if (!sleeps) set_mask(tid, saved_mask_);
  if (!set_registers(tid, wanted_)) return fail("the thread ended before it");
  record_.begun_ns = now_ns();
  const bool hangs = fault_.kind == NativeKind::kSpin || fault_.kind == NativeKind::kDeadlock;
  deadline_ns_ = record_.begun_ns + (sleeps ? fault_.delay_ns : hangs ? kLookNs : kPatienceNs);
  cpu_time_before_ns_ = cpu_time_ns();
  return 0;
}

bool Strike::set_up() {
  syscall_instruction_ = find_syscall_instruction(record_.tid);
  switch (fault_.kind) {
    case NativeKind::kSegv:
      // As a call of a null function pointer: the stack tells who called.
      record_.how = "jumped to address 0";
      return set_up_call(nullptr, 0);
    case NativeKind::kAbort:
      if (set_up_call("abort", 0)) return true;
      record_.how = "no abort() found by symbol: its own tgkill(SIGABRT), by injected instructions";
      return set_up_code(kOwnAbort);
    case NativeKind::kHeapCorrupt:
      if (!map_page()) return false;
      if (set_up_call("free", page_ + kChunkAt)) return true;
      record_.failure = "the program has no free() that is found by symbol";
      return false;
    case NativeKind::kFpe:
      record_.how = "injected a division by zero";
      return set_up_code(kDivide);
    case NativeKind::kIll:
      record_.how = "injected an undefined instruction (ud2)";
      return set_up_code(kUndefined);
    case NativeKind::kBus:
      return set_up_truncated_file() && set_up_code(kLoad);
    case NativeKind::kStackOverflow:
      record_.how = "injected a call of itself without end";
      return has_bounded_stack() && set_up_code(kRecurse);
    case NativeKind::kSpin:
      record_.how = "injected a loop without end";
      return set_up_code(kLoop);
    case NativeKind::kDeadlock:
    case NativeKind::kSlow:
      if (!set_up_code(kCallAgain)) return false;
      if (fault_.kind == NativeKind::kDeadlock) {
        record_.how = "injected a futex wait that nobody ends";
        wanted_.rax = wanted_.r15 = SYS_futex;
        wanted_.rdi = page_ + kWordAt;
        wanted_.rsi = 128;  // FUTEX_WAIT_PRIVATE, while the word is
        wanted_.rdx = 0;
        wanted_.r10 = 0;  // without a bound.
        return true;
      }
      // Not nanosleep: it would make the kernel forget what is left of the program's own
      // interrupted sleep.
      record_.how = "injected a sleep (ppoll)";
      wanted_.rax = wanted_.r15 = SYS_ppoll;
      wanted_.rdi = wanted_.rsi = wanted_.rdx = wanted_.r10 = 0;
      return true;
    case NativeKind::kExit:
      if (syscall_instruction_ == 0) return false;
      record_.how = "injected exit_group(" + std::to_string(fault_.exit_code) + ")";
      wanted_.rip = syscall_instruction_;
      wanted_.rax = SYS_exit_group;
      wanted_.rdi = static_cast<std::uint64_t>(fault_.exit_code);
      ::ptrace(PTRACE_SETOPTIONS, record_.tid, nullptr, kTillItsEnd);
      return true;
    case NativeKind::kBitflip:
      break;
  }
  return false;
}

// As a call from where it stands; `function` null: of address 0.
bool Strike::set_up_call(const char* function, std::uint64_t argument) {
  std::uint64_t address = 0;
  if (function != nullptr) {
    std::string file;
    const auto found = function_address(record_.tid, function, &file);
    if (!found) return false;
    address = *found;
    record_.how = std::string("called ") + function + "() of " + file;
  }
  const std::uint64_t back = page_ != 0 ? page_ + kReturnAt : saved_.rip;
  wanted_.rsp = ((saved_.rsp - kRedZone) & ~std::uint64_t{15}) - sizeof back;
  wanted_.rip = address;
  wanted_.rdi = argument;
  std::uint8_t bytes[sizeof back];
  std::memcpy(bytes, &back, sizeof back);
  return poke(record_.tid, wanted_.rsp, bytes);
}

// A page with these instructions, and a trap after them.
bool Strike::set_up_code(std::span<const std::uint8_t> code) {
  if (!map_page() || !poke(record_.tid, page_, code) ||
      !poke(record_.tid, page_ + code.size(), kBreakpoint))
    return false;
  wanted_.rip = page_;
  wanted_.rsp = (saved_.rsp - kRedZone) & ~std::uint64_t{15};
  return true;
}

// Without a bound it would eat the machine's memory.
bool Strike::has_bounded_stack() {
  rlimit limit{};
  if (::prlimit(record_.pid, RLIMIT_STACK, nullptr, &limit) == 0 && limit.rlim_cur <= kMostStack)
    return true;
  record_.failure = "its stack has no bound (RLIMIT_STACK)";
  return false;
}

bool Strike::map_page() {
  if (page_ != 0) return true;
  if (syscall_instruction_ == 0) {
    record_.failure = "the program has no system call instruction";
    return false;
  }
  const auto mapped =
      inject_call(record_.tid, syscall_instruction_, SYS_mmap,
                  {0, kPage, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, ~0ull, 0});
  if (!mapped || (*mapped < 0 && *mapped > -4096)) {
    record_.failure = !mapped ? "the thread ended before it"
                              : "map a page in it: " + errno_name(static_cast<int>(-*mapped));
    return false;
  }
  page_ = static_cast<std::uint64_t>(*mapped);
  // For free(): a chunk of 32 bytes.
  constexpr std::uint8_t kSize[8] = {0x21};
  return poke(record_.tid, page_ + kReturnAt, kBreakpoint) &&
         poke(record_.tid, page_ + kChunkAt - sizeof kSize, kSize);
}

// A mapping of a file that has no such page, as after a truncation or on a full /dev/shm.
bool Strike::set_up_truncated_file() {
  record_.how = "injected a load from a mapped file that is too short";
  if (!map_page()) return false;
  constexpr std::uint8_t kName[] = "crashworthy-bus";
  if (!poke(record_.tid, page_ + kTextAt, kName)) return false;
  const auto file = inject_call(record_.tid, syscall_instruction_, SYS_memfd_create,
                                {page_ + kTextAt, MFD_CLOEXEC, 0, 0, 0, 0});
  if (!file || *file < 0) {
    record_.failure = "create a file in memory in it";
    return false;
  }
  const auto descriptor = static_cast<std::uint64_t>(*file);
  const auto mapped = inject_call(record_.tid, syscall_instruction_, SYS_mmap,
                                  {0, kPage, PROT_READ, MAP_SHARED, descriptor, 0});
  inject_call(record_.tid, syscall_instruction_, SYS_close, {descriptor, 0, 0, 0, 0, 0});
  if (!mapped || (*mapped < 0 && *mapped > -4096)) {
    record_.failure = "map an empty file in it";
    return false;
  }
  wanted_.rax = static_cast<std::uint64_t>(*mapped);
  return true;
}

int Strike::fail(std::string why) {
  if (record_.failure.empty()) record_.failure = std::move(why);
  done_ = true;
  deadline_ns_ = INT64_MAX;
  return 0;
}

void Strike::interrupt() {
  deadline_ns_ = INT64_MAX;
  if (fault_.kind == NativeKind::kDeadlock) {
    // While it stands in the call, /proc tells which.
    const auto call = read_file("/proc/" + std::to_string(record_.tid) + "/syscall");
    const std::string wanted = std::to_string(SYS_futex) + " " + hex(page_ + kWordAt) + " ";
    if (call && call->starts_with(wanted)) {
      record_.seen_ns = now_ns();
      record_.effect = "the thread stands in futex(" + hex(page_ + kWordAt) + ")";
    }
  }
  ::ptrace(PTRACE_INTERRUPT, record_.tid, nullptr, nullptr);
}

int Strike::on_stop(int status) {
  const int event = status >> 16;
  const int signal = WSTOPSIG(status);
  if (event == PTRACE_EVENT_EXIT) return on_exit();
  if (event == PTRACE_EVENT_STOP) return on_interrupted();
  if (event != 0 || signal == (SIGTRAP | 0x80)) return 0;
  return on_signal(signal);
}

// It ends, but nobody can have reaped it yet.
int Strike::on_exit() {
  unsigned long code = 0;
  ::ptrace(PTRACE_GETEVENTMSG, record_.tid, nullptr, &code);
  const auto end = WaitStatus::from_raw(static_cast<int>(code));
  if (record_.signal != 0) record_.end = end;
  Registers registers{};
  if (fault_.kind == NativeKind::kExit && get_registers(record_.tid, &registers) &&
      registers.orig_rax == SYS_exit_group && registers.rip == syscall_instruction_ + 2) {
    record_.seen_ns = now_ns();
    record_.effect = end.describe() + " by the injected call";
    record_.end = end;
  }
  return fail(record_.seen_ns != 0 ? "" : "it ended otherwise");
}

int Strike::on_interrupted() {
  if (deadline_ns_ != INT64_MAX) return 0;   // Not by interrupt().
  if (record_.signal != 0) return fail("");  // It lives on with its signal.
  Registers registers{};
  if (!get_registers(record_.tid, &registers)) return fail("the thread is gone");
  const std::int64_t now = now_ns();
  switch (fault_.kind) {
    case NativeKind::kSlow: {
      const bool slept = on_page(registers.rip) && now - record_.begun_ns >= fault_.delay_ns;
      if (slept) record_.seen_ns = now;
      if (slept)
        record_.effect = "the thread slept " + std::to_string(now - record_.begun_ns) + " ns";
      return undo();
    }
    case NativeKind::kSpin: {
      const std::uint64_t spun = cpu_time_ns() - cpu_time_before_ns_;
      // On a loaded machine it may not have had its turn yet.
      if (on_page(registers.rip) && spun == 0 && now - record_.begun_ns < kPatienceNs) {
        deadline_ns_ = now + kLookNs;
        return 0;
      }
      if (on_page(registers.rip) && spun > 0) {
        record_.seen_ns = now;
        record_.effect = "the thread has spent " + std::to_string(spun) + " ns in the loop";
      }
      done_ = true;
      return 0;
    }
    case NativeKind::kDeadlock:
      if (record_.seen_ns == 0 && now - record_.begun_ns < kPatienceNs) {
        deadline_ns_ = now + kLookNs;
        return 0;
      }
      done_ = true;
      return 0;
    default:
      record_.failure = "no effect was seen within 10 s";
      return undo();
  }
}

int Strike::on_signal(int signal) {
  siginfo_t info{};
  if (::ptrace(PTRACE_GETSIGINFO, record_.tid, nullptr, &info) != 0)
    return fail("the thread is gone");
  if (signal == SIGTRAP) {
    Registers registers{};
    if (get_registers(record_.tid, &registers) && on_page(registers.rip)) {
      record_.failure = "it went on after it: " + record_.how + " had no effect";
      return undo();
    }
  }
  if (!is_expected(signal, info)) return signal;  // The program's own.
  record_.seen_ns = now_ns();
  record_.signal = signal;
  record_.code = info.si_code;
  if (info.si_code <= 0) {
    record_.sender = info.si_pid;
  } else {
    record_.address = reinterpret_cast<std::uint64_t>(info.si_addr);
  }
  const std::uint64_t caught =
      std::strtoull(status_field(record_.tid, "SigCgt").c_str(), nullptr, 16);
  record_.caught = (caught >> (signal - 1) & 1) != 0;
  record_.effect = signal_name(signal) + " of its own";
  if (record_.caught) {
    done_ = true;
    deadline_ns_ = INT64_MAX;
    return signal;
  }
  // Of a process that its parent reaps at once nobody else may see how it ends.
  ::ptrace(PTRACE_SETOPTIONS, record_.tid, nullptr, kTillItsEnd);
  deadline_ns_ = now_ns() + kPatienceNs;
  return signal;
}

bool Strike::is_expected(int signal, const siginfo_t& info) {
  const auto address = reinterpret_cast<std::uint64_t>(info.si_addr);
  switch (fault_.kind) {
    case NativeKind::kSegv:
      return signal == SIGSEGV && info.si_code == SEGV_MAPERR && address == 0;
    case NativeKind::kAbort:
    case NativeKind::kHeapCorrupt:
      return signal == SIGABRT && info.si_code == SI_TKILL && info.si_pid == own_pid_;
    case NativeKind::kFpe:
      return signal == SIGFPE && info.si_code == FPE_INTDIV && on_page(address);
    case NativeKind::kIll:
      return signal == SIGILL && info.si_code == ILL_ILLOPN && on_page(address);
    case NativeKind::kBus:
      return signal == SIGBUS && info.si_code == BUS_ADRERR && address == wanted_.rax;
    case NativeKind::kStackOverflow: {
      Registers registers{};
      return signal == SIGSEGV && get_registers(record_.tid, &registers) &&
             registers.rip == page_ && address == registers.rsp - sizeof registers.rsp;
    }
    default:
      return false;
  }
}

int Strike::undo() {
  const pid_t tid = record_.tid;
  set_mask(tid, ~SignalMask{0});
  if (page_ != 0) {
    inject_call(tid, syscall_instruction_, SYS_munmap, {page_, kPage, 0, 0, 0, 0});
    if (fault_.kind == NativeKind::kBus && wanted_.rax != saved_.rax)
      inject_call(tid, syscall_instruction_, SYS_munmap, {wanted_.rax, kPage, 0, 0, 0, 0});
  }
  page_ = 0;
  record_.put_back = set_registers(tid, saved_) && set_mask(tid, saved_mask_);
  // Only on its way through the kernel's signal code is an interrupted call of its own restarted.
  int signal = 0;
  if (::ptrace(PTRACE_INTERRUPT, tid, nullptr, nullptr) == 0 &&
      ::ptrace(PTRACE_CONT, tid, nullptr, nullptr) == 0) {
    Stop stop;
    do {
      stop = wait_for_stop(tid, INT64_MAX);
    } while (stop.tid == 0 && !stop.none_left);
    if (WIFSTOPPED(stop.status) && stop.status >> 16 == 0) signal = WSTOPSIG(stop.status);
  }
  done_ = true;
  deadline_ns_ = INT64_MAX;
  return signal;
}

bool Strike::on_page(std::uint64_t address) const {
  return page_ != 0 && address >= page_ && address < page_ + kPage;
}

std::uint64_t Strike::cpu_time_ns() const {
  const auto text = read_file("/proc/" + std::to_string(record_.tid) + "/task/" +
                              std::to_string(record_.tid) + "/schedstat");
  return text ? std::strtoull(text->c_str(), nullptr, 10) : 0;
}

}  // namespace crashworthy

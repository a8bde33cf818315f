// resource.mem_cap, resource.fd_limit, resource.process_limit: a limit of a live process is set, by
// prlimit(2), so that it can map no more memory, open no more descriptors, start no more processes.
//
// The limit is read back at once. It counts as activated when a call of the victim, or of a process
// that it started since, failed by it: seen by a witness that traces it until then. Where tracing
// is refused only OpenCV's "insufficient memory" in the probe's error record proves a memory cap.
//
// root may start as many processes as it likes, whatever its limit; there the `pids` controller of
// a cgroup of ours says no.
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "faults/control_group.h"
#include "faults/errno_witness.h"
#include "faults/mechanisms.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"
#include "harness/os/system_names.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kOutOfMemoryCode = -4;  // cv::Error::StsNoMem

// What is limited, and how that is felt.
struct LimitKind {
  const char* fault;
  const char* limit;
  __rlimit_resource number;
  std::vector<int> errors;
  std::vector<int> calls;
};

const LimitKind& resource_of(const std::string& fault) {
  static const std::array<LimitKind, 3> all{
      LimitKind{
          "resource.mem_cap", "RLIMIT_AS", RLIMIT_AS, {ENOMEM}, {SYS_mmap, SYS_brk, SYS_mremap}},
      LimitKind{"resource.fd_limit", "RLIMIT_NOFILE", RLIMIT_NOFILE, {EMFILE}, {}},
      LimitKind{"resource.process_limit",
                "RLIMIT_NPROC",
                RLIMIT_NPROC,
                {EAGAIN},
                {SYS_clone, SYS_clone3,
#ifdef SYS_fork
                 SYS_fork, SYS_vfork
#endif
                }}};
  for (const LimitKind& resource : all) {
    if (fault == resource.fault) return resource;
  }
  return all.front();
}

Result<std::uint64_t> mapped_bytes(pid_t pid) {
  auto text = read_file("/proc/" + std::to_string(pid) + "/statm");
  if (!text) return text.error();
  std::uint64_t pages = 0;
  if (!(std::istringstream(*text) >> pages)) return corrupt_error("/proc/PID/statm has no size");
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// The number that its next descriptor would have.
Result<std::uint64_t> next_descriptor(pid_t pid) {
  std::error_code failure;
  std::set<std::uint64_t> open;
  const std::filesystem::path directory = "/proc/" + std::to_string(pid) + "/fd";
  for (std::filesystem::directory_iterator at(directory, failure), end; !failure && at != end;
       at.increment(failure)) {
    open.insert(std::strtoull(at->path().filename().c_str(), nullptr, 10));
  }
  if (failure) return system_error("read '" + directory.string() + "'", failure.value());
  std::uint64_t number = 0;
  while (open.contains(number)) ++number;
  return number;
}

// Sets a limit of the process behind `pidfd`; gives the one that it had. prlimit(2) takes a number
// only. While its process has not ended, not even been a zombie, the number was its own; else
// whoever has got it since, if anybody, is given back what it had.
Result<rlimit> change_limit(int pidfd, pid_t pid, __rlimit_resource which, const rlimit& wanted) {
  rlimit before{};
  const bool done = ::prlimit(pid, which, &wanted, &before) == 0;
  const int error = errno;
  if (has_ended(pidfd)) {
    if (done) ::prlimit(pid, which, &before, nullptr);
    return Error{ErrorKind::kGone, ESRCH, "the victim has ended", {}};
  }
  if (!done) return system_error("set the victim's limit", error);
  return before;
}

// The root of the machine, whom RLIMIT_NPROC does not bind; one of a user namespace is bound.
bool is_real_root(pid_t pid) {
  const auto map = read_file("/proc/self/uid_map");
  std::uint64_t inside = 1;
  std::uint64_t outside = 1;
  std::uint64_t count = 0;
  std::istringstream(map ? *map : "") >> inside >> outside >> count;
  std::uint64_t real = 1;
  std::istringstream(status_field(pid, "Uid")) >> real;
  return real == 0 && inside == 0 && outside == 0 && count == UINT32_MAX;
}

class LimitInjection : public Injection {
 public:
  explicit LimitInjection(InjectionSetup setup)
      : Injection(std::move(setup)), resource_(resource_of(fault_.fault)) {}
  ~LimitInjection() override { restore(); }

 protected:
  bool fire(SubjectView& subject) override {
    auto victim = pick_victim(subject);
    if (!victim || victim->host_pid == 0 || has_ended(victim->pidfd.get())) return false;
    const pid_t pid = victim->host_pid;
    auto value = limit_for(pid);
    if (!value) return refused(value.error());
    watch(pid);
    log_step("fire", {{"limit", resource_.limit},
                      {"value", *value},
                      {"witness", witness_ ? "traces the victim" : unwitnessed_},
                      {"victim", to_json(*victim, fault_.victim.role)}});
    applied_ns_ = now_ns();  // Before the call: the first failure may come while it returns.
    auto done = by_group(pid) ? put_into_group(*victim, *value) : set_limit(*victim, *value);
    if (!done) {
      witness_.reset();
      return refused(done.error());
    }
    log_step("fired", {{"applied_ns", applied_ns_}, {"read_back", read_back_}});
    victims_.push_back(*std::move(victim));
    return true;
  }

  void work(SubjectView&) override { (void)take_failure(); }
  std::vector<int> descriptors() const override {
    return witness_ && !failure_ ? std::vector{witness_->descriptor()} : std::vector<int>{};
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    const Victim& victim = victims_.front();
    if (!read_back_ && !has_ended(victim.pidfd.get()))
      return indeterminate("the limit could not be read back");
    if (take_failure() && failure_->time_ns < applied_ns_)
      return indeterminate("a call had failed just before the limit, then nobody watched any more");
    if (failure_) return confirmed(failure_->time_ns);
    for (const ProbeRecord& record : evidence.records) {
      const bool failed = resource_.number == RLIMIT_AS &&
                          record.event == static_cast<std::uint16_t>(ProbeEvent::kError) &&
                          record.value == kOutOfMemoryCode;
      if (!failed || record.pid != victim.pid || record.time_ns < applied_ns_) continue;
      log_step("evidence", {{"allocation_failed_ns", record.time_ns}, {"item", record.item}});
      return confirmed(record.time_ns);
    }
    if (!witness_)
      return indeterminate("the limit held, but nobody could see whether a call failed by it: " +
                           unwitnessed_);
    return not_activated("the limit held, but no call of the victim failed by it");
  }

  std::string heal() override {
    if (witness_) witness_->stop();
    return restore();
  }

 private:
  bool by_group(pid_t pid) const { return resource_.number == RLIMIT_NPROC && is_real_root(pid); }

  Result<std::uint64_t> limit_for(pid_t pid) const {
    if (fault_.has("limit")) return static_cast<std::uint64_t>(fault_.number("limit"));
    if (resource_.number == RLIMIT_NPROC) return std::uint64_t{0};
    if (resource_.number == RLIMIT_NOFILE) return next_descriptor(pid);
    auto mapped = mapped_bytes(pid);
    if (!mapped || !fault_.has("headroom")) return mapped ? Result(*mapped / 2) : mapped;
    return *mapped + static_cast<std::uint64_t>(fault_.number("headroom"));
  }

  void watch(pid_t pid) {
    auto witness = ErrnoWitness::attach(pid, {resource_.errors, resource_.calls, true});
    if (witness) {
      witness_ = *std::move(witness);
    } else {
      unwitnessed_ = witness.error().message;
    }
  }

  Result<void> set_limit(const Victim& victim, std::uint64_t value) {
    const pid_t pid = victim.host_pid;
    rlimit wanted{};
    if (::prlimit(pid, resource_.number, nullptr, &wanted) != 0)
      return system_error("read the victim's limit", errno);
    wanted.rlim_cur = std::min<rlim_t>(value, wanted.rlim_max);
    auto before = change_limit(victim.pidfd.get(), pid, resource_.number, wanted);
    if (!before) return before.error();
    before_ = *before;
    set_ = wanted.rlim_cur;
    rlimit found{};
    read_back_ =
        ::prlimit(pid, resource_.number, nullptr, &found) == 0 && found.rlim_cur == wanted.rlim_cur;
    return {};
  }

  Result<void> put_into_group(const Victim& victim, std::uint64_t value) {
    auto place = ControlGroup::place_for(victim.host_pid, "pids");
    if (!place)
      return place.error().with_context(
          "root is exempt from RLIMIT_NPROC, and no cgroup can do it");
    announce({Resource::at(Resource::Kind::kCgroup, *place)});
    auto group = ControlGroup::create(*place);
    if (!group) return group.error();
    group_ = std::make_unique<ControlGroup>(*std::move(group));
    announce({Resource::at(Resource::Kind::kCgroup, *place)});
    if (auto set = group_->write("pids.max", std::to_string(value)); !set) return set;
    read_back_ = group_->number("pids.max") == static_cast<std::int64_t>(value);
    auto added = group_->add(victim.host_pid);
    if (has_ended(victim.pidfd.get()))
      return Error{ErrorKind::kGone, ESRCH, "the victim has ended", {}};
    return added;
  }

  // A refusal is final; a victim that died meanwhile is not: another one is looked for.
  bool refused(const Error& error) {
    group_.reset();
    if (error.kind != ErrorKind::kGone && error.sys_errno != ESRCH && error.sys_errno != ENOENT)
      skip(error.message);
    return false;
  }

  bool take_failure() {
    if (failure_ || !witness_) return failure_.has_value();
    failure_ = witness_->seen();
    if (failure_) {
      log_step("evidence", {{"error", errno_name(failure_->error)},
                            {"call", failure_->call},
                            {"host_pid", failure_->pid},
                            {"failed_ns", failure_->time_ns}});
    }
    return failure_.has_value();
  }

  std::string restore() {
    if (group_) {
      const bool gone = group_->remove();
      group_.reset();
      return gone ? "cgroup removed" : "the cgroup is still in use; its guardian removes it";
    }
    if (!before_ || victims_.empty()) return "nothing to undo";
    const Victim& victim = victims_.front();
    const rlimit before = *std::exchange(before_, std::nullopt);
    rlimit now{};
    if (has_ended(victim.pidfd.get())) return "nothing to undo: the limit ended with the victim";
    if (::prlimit(victim.host_pid, resource_.number, nullptr, &now) != 0 || now.rlim_cur != set_)
      return "nothing to undo: somebody else has changed the limit";
    if (!change_limit(victim.pidfd.get(), victim.host_pid, resource_.number, before))
      return "nothing to undo: the limit ended with the victim";
    return "limit restored";
  }

  const LimitKind& resource_;
  bool read_back_ = false;
  std::optional<rlimit> before_;
  rlim_t set_ = 0;
  std::int64_t applied_ns_ = 0;
  std::unique_ptr<ControlGroup> group_;
  std::unique_ptr<ErrnoWitness> witness_;
  std::string unwitnessed_;  // Why there is none.
  std::optional<ErrnoWitness::Failure> failure_;
};

}  // namespace

std::unique_ptr<Injection> make_limit_injection(InjectionSetup setup) {
  return std::make_unique<LimitInjection>(std::move(setup));
}

}  // namespace crashworthy

// resource.mem_cap: RLIMIT_AS of a live process is set, by prlimit(2), so that it can map no more
// memory: to half of what it has mapped, or to `headroom` beyond that. (A limit of exactly what is
// mapped leaves room for whatever it frees.)
//
// The limit is read back at once. It counts as activated when an allocation failed in the victim
// afterwards: the probe's error record with OpenCV's "insufficient memory", which comes from inside
// the library's own failed call.
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <sstream>

#include "faults/mechanisms.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kOutOfMemoryCode = -4;  // cv::Error::StsNoMem

class LimitInjection : public Injection {
 public:
  using Injection::Injection;

 protected:
  bool fire(SubjectView& subject) override {
    auto victim = pick_victim(subject);
    if (!victim || victim->host_pid == 0) return false;
    auto mapped = mapped_bytes(victim->host_pid);
    if (!mapped) return false;  // It died meanwhile: another one is looked for.
    if (::prlimit(victim->host_pid, RLIMIT_AS, nullptr, &before_) != 0)
      return refused("read the victim's limit", errno);
    rlimit wanted = before_;
    wanted.rlim_cur = static_cast<rlim_t>(
        fault_.has("headroom") ? *mapped + static_cast<std::uint64_t>(fault_.number("headroom"))
                               : *mapped / 2);
    log_step("fire", {{"limit", "RLIMIT_AS"},
                      {"mapped_bytes", *mapped},
                      {"bytes", wanted.rlim_cur},
                      {"victim", to_json(*victim, fault_.victim.role)}});
    applied_ns_ = now_ns();  // Before the call: the first allocation may fail while it returns.
    if (::prlimit(victim->host_pid, RLIMIT_AS, &wanted, nullptr) != 0)
      return refused("set the victim's limit", errno);
    rlimit found{};
    read_back_ = ::prlimit(victim->host_pid, RLIMIT_AS, nullptr, &found) == 0 &&
                 found.rlim_cur == wanted.rlim_cur;
    log_step("fired", {{"applied_ns", applied_ns_}, {"read_back", found.rlim_cur}});
    victims_.push_back(*std::move(victim));
    return true;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    const Victim& victim = victims_.front();
    if (!read_back_ && !has_ended(victim.pidfd.get()))
      return indeterminate("the limit could not be read back");
    for (const ProbeRecord& record : evidence.records) {
      const bool failed = record.event == static_cast<std::uint16_t>(ProbeEvent::kError) &&
                          record.value == kOutOfMemoryCode;
      if (!failed || record.pid != victim.pid || record.time_ns < applied_ns_) continue;
      log_step("evidence", {{"allocation_failed_ns", record.time_ns}, {"item", record.item}});
      return confirmed(record.time_ns);
    }
    return not_activated("the limit held, but no allocation of the victim failed");
  }

  std::string heal() override {
    if (victims_.empty() || has_ended(victims_.front().pidfd.get()))
      return "nothing to undo: the limit ended with the victim";
    ::prlimit(victims_.front().host_pid, RLIMIT_AS, &before_, nullptr);
    return "limit restored";
  }

 private:
  static Result<std::uint64_t> mapped_bytes(pid_t pid) {
    auto text = read_file("/proc/" + std::to_string(pid) + "/statm");
    if (!text) return text.error();
    std::uint64_t pages = 0;
    if (!(std::istringstream(*text) >> pages)) return corrupt_error("/proc/PID/statm has no size");
    return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  }

  // A refusal is final; a victim that died meanwhile is not: another one is looked for.
  bool refused(const char* what, int number) {
    if (number != ESRCH) skip(system_error(what, number).message);
    return false;
  }

  bool read_back_ = false;
  rlimit before_{};
  std::int64_t applied_ns_ = 0;
};

}  // namespace

std::unique_ptr<Injection> make_limit_injection(InjectionSetup setup) {
  return std::make_unique<LimitInjection>(std::move(setup));
}

}  // namespace crashworthy

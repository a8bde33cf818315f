// native.* by ptrace(2): a genuine fault inside one thread of the victim. Without a symbol it
// strikes one thread of a chosen victim at once; with one, the thread that passes the function on
// the chosen hit, counted over the whole tree.
//
// The proof is what the kernel tells about the thread while it is traced (the siginfo of its own
// signal, the call it stands in, the time it spent), and the wait status of its process.
#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
#if defined(__x86_64__)
#include "faults/elf_symbols.h"
#include "faults/tracer.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#endif

namespace crashworthy {
namespace {

using nlohmann::json;

#if defined(__x86_64__)

constexpr std::pair<const char*, NativeKind> kKinds[] = {
    {"native.segv", NativeKind::kSegv},
    {"native.abort", NativeKind::kAbort},
    {"native.fpe", NativeKind::kFpe},
    {"native.ill", NativeKind::kIll},
    {"native.bus", NativeKind::kBus},
    {"native.stack_overflow", NativeKind::kStackOverflow},
    {"native.heap_corrupt", NativeKind::kHeapCorrupt},
    {"native.spin", NativeKind::kSpin},
    {"native.deadlock", NativeKind::kDeadlock},
    {"native.slow", NativeKind::kSlow},
    {"process.exit_early", NativeKind::kExit},
    {"native.bitflip", NativeKind::kBitflip},
};
constexpr std::int64_t kLastEffectNs = 1'000'000'000;
// Programs that trace others, who can have one tracer.
constexpr const char* kTracingPrograms[] = {"strace", "ltrace", "gdb", "lldb", "rr"};

NativeFault native_fault_of(const FaultSpec& fault, std::uint64_t seed) {
  NativeFault native;
  for (const auto& [name, kind] : kKinds) {
    if (fault.fault == name) native.kind = kind;
  }
  if (fault.has("delay")) native.delay_ns = fault.number("delay");
  if (fault.has("code")) native.exit_code = static_cast<int>(fault.number("code"));
  native.seed = seed;
  return native;
}

UniqueFd duplicate(const UniqueFd& fd) { return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

json to_json(const StrikeRecord& record) {
  json object{{"thread", record.tid == record.pid ? json("main") : json(record.tid)},
              {"how", record.how},
              {"effect", record.effect},
              {"begun_ns", record.begun_ns},
              {"seen_ns", record.seen_ns}};
  if (!record.failure.empty()) object["failure"] = record.failure;
  if (record.put_back) object["registers_restored"] = true;
  if (record.signal != 0) {
    object["siginfo"] = {{"signal", record.signal}, {"code", record.code}};
    if (record.code <= 0) object["siginfo"]["sender"] = record.sender;
    if (record.code > 0) object["siginfo"]["address"] = record.address;
    object["handler"] = record.caught;
  }
  if (record.bit) {
    object["bit"] = {{"address", record.bit->address},
                     {"before", record.bit->before},
                     {"after", record.bit->after},
                     {"mask", record.bit->mask},
                     {"mapping", record.bit->mapping}};
  }
  return object;
}

class TraceInjection : public Injection {
 public:
  explicit TraceInjection(InjectionSetup setup)
      : Injection(std::move(setup)), native_(native_fault_of(fault_, random_.next())) {}

  std::vector<int> descriptors() const override {
    std::vector<int> all;
    if (disarmed_ || gave_up_) return all;  // Nobody would clear them.
    for (const auto& tracer : tracers_) all.push_back(tracer->event_fd());
    return all;
  }

  std::int64_t fired_ns() const override {
    if (!counted()) return Injection::fired_ns();
    std::int64_t last = 0;
    for (const SymbolFiring& firing : logged_) last = std::max(last, firing.strike.begun_ns);
    return last;
  }

 protected:
  Result<void> prepare(LaunchPlan& launch) override {
    if (!counted()) return {};
    if (!symbols_supported()) {
      skip("this build cannot read symbols (libelf was missing)");
      return {};
    }
    if (auto possible = refuse_tracers(launch); !possible) return possible;
    launch.before_exec.push_back([this](pid_t pid) -> Result<void> {
      SymbolRule rule;
      rule.symbol = fault_.point;
      rule.first = static_cast<std::uint64_t>(watch_.trigger().count->low);
      rule.every = static_cast<std::uint64_t>(watch_.trigger().every);
      rule.times = disarmed_ ? 0 : static_cast<std::uint64_t>(watch_.trigger().times);
      rule.probability = watch_.trigger().probability;
      rule.seed = random_.next();
      rule.counts_at_once = !watch_.trigger().gate;
      auto tracer = Tracer::follow(pid, native_, rule);
      if (tracer) {
        tracers_.push_back(*std::move(tracer));
      } else {
        skip(tracer.error().message);
      }
      return {};
    });
    return {};
  }

  void open_gate() override {
    for (const auto& tracer : tracers_) tracer->open_gate();
  }

  void work(SubjectView& subject) override {
    subject.refresh();
    for (const auto& tracer : tracers_) tracer->clear_event();
    if (counted()) log_firings(&subject);
  }

  bool fire(SubjectView& subject) override {
    bool struck = false;
    for (Victim& victim : pick_victims(subject)) struck = strike(subject, victim) || struck;
    return struck;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    if (counted()) return confirm_counted(evidence);
    std::int64_t first_ns = INT64_MAX;
    std::string reason;
    for (std::size_t i = 0; i < victims_.size(); ++i) {
      tracers_[i]->wait_until_ended(now_ns() + kLastEffectNs);
      const StrikeRecord record = tracers_[i]->report().strike;
      Outcome outcome = confirm_one(record, victims_[i].pid, victims_[i].pidfd.get(), evidence);
      if (outcome.verdict != Verdict::kConfirmed) return outcome;
      first_ns = std::min(first_ns, *outcome.activated_ns);
      reason = outcome.reason;
    }
    return confirmed(first_ns, reason);
  }

  std::string heal() override {
    std::size_t flipped_back = 0;
    bool put_back = false;
    for (const auto& tracer : tracers_) {
      const Tracer::Report report = tracer->report();
      std::vector<StrikeRecord> records{report.strike};
      for (const SymbolFiring& firing : report.firings) records.push_back(firing.strike);
      for (const StrikeRecord& record : records) {
        put_back = put_back || record.put_back;
        if (record.bit && lives(record.pid) && unflip_bit(record.pid, *record.bit)) ++flipped_back;
      }
    }
    tracers_.clear();  // Ends the tracing, where it still goes on.
    if (flipped_back > 0) return "the bit is as it was";
    return put_back ? "registers and code are as they were" : "nothing to undo";
  }

 private:
  bool counted() const { return fault_.trigger_kind() == TriggerKind::kCounted; }

  Result<void> refuse_tracers(const LaunchPlan& launch) const {
    if (launch.argv.empty()) return {};
    const std::string program = std::filesystem::path(launch.argv.front()).filename();
    for (const char* tracing : kTracingPrograms) {
      if (program != tracing) continue;
      return usage_error("'" + fault_.name + "' traces the whole tree, in which '" + program +
                             "' then can trace nobody",
                         "give the program itself, without " + program);
    }
    return {};
  }

  void give_up(std::string reason) {
    gave_up_ = true;
    skip(std::move(reason));
  }

  // Only a victim whose pidfd says so: its pid may be somebody else's by now.
  bool lives(pid_t host_pid) const {
    return std::any_of(victims_.begin(), victims_.end(), [&](const Victim& victim) {
      return victim.host_pid == host_pid && victim.pidfd.valid() && !has_ended(victim.pidfd.get());
    });
  }

  bool strike(SubjectView& subject, Victim& victim) {
    if (victim.host_pid == 0) return false;
    auto tracer = Tracer::hold(victim.host_pid);
    if (!tracer) {
      if (tracer.error().kind != ErrorKind::kGone) give_up(tracer.error().message);
      return false;
    }
    if (has_ended(victim.pidfd.get())) return false;  // We held whoever got its pid.
    if (fault_.victim.holding_item && !still_holds(subject, victim)) return false;
    log_step("fire", {{"victim", to_json(victim, fault_.victim.role)}});
    const StrikeRecord record = (*tracer)->strike(native_);
    if (record.begun_ns == 0) {
      // It may have ended just now: then another one is looked for.
      log_step("missed", {{"reason", record.failure}});
      if (!has_ended(victim.pidfd.get())) give_up(record.failure);
      return false;
    }
    log_step("fired", {{"begun_ns", record.begun_ns}, {"how", record.how}});
    tracers_.push_back(*std::move(tracer));
    victims_.push_back(std::move(victim));
    return true;
  }

  // Only while its main thread stands still can that be known.
  bool still_holds(SubjectView& subject, Victim& victim) {
    subject.refresh();
    for (const WorkerState& worker : subject.workers().alive()) {
      if (worker.pid != victim.pid || !worker.holds) continue;
      victim.worker = worker;
      return true;
    }
    return false;
  }

  // `subject` null: it has ended.
  void log_firings(SubjectView* subject) {
    for (const auto& tracer : tracers_) {
      const Tracer::Report report = tracer->report();
      for (std::size_t i = logged_.size(); i < report.firings.size(); ++i) {
        const SymbolFiring& firing = report.firings[i];
        Victim victim;
        victim.pid = firing.own_pid;
        victim.host_pid = firing.strike.pid;
        if (firing.pidfd) victim.pidfd = duplicate(*firing.pidfd);
        victim.command = firing.command;
        victim.child = firing.child;
        if (subject != nullptr) victim.worker = subject->workers().by_pid(firing.own_pid);
        log_step("fired", {{"hit", firing.hit},
                           {"file", firing.file},
                           {"victim", to_json(victim, Role::kAny)},
                           {"begun_ns", firing.strike.begun_ns}});
        if (firing.strike.begun_ns == 0) give_up(firing.strike.failure);
        victims_.push_back(std::move(victim));
        logged_.push_back(firing);
      }
    }
  }

  Outcome confirm_counted(const InjectionEvidence& evidence) {
    if (tracers_.empty()) return indeterminate("the subject was never launched");
    tracers_.front()->wait_until_ended(now_ns() + kLastEffectNs);
    log_firings(nullptr);
    const Tracer::Report report = tracers_.front()->report();
    const Trigger& trigger = watch_.trigger();
    if (report.firings.empty()) {
      if (report.files.empty()) {
        return not_activated("no program and no library of the subject has a function '" +
                             fault_.point + "' that could be counted" +
                             (report.trouble.empty() ? "" : "; " + report.trouble));
      }
      return not_activated("'" + fault_.point + "' was passed " + std::to_string(report.hits) +
                           " times, hit " + std::to_string(trigger.count->low) + " was to fire" +
                           (report.trouble.empty() ? "" : "; " + report.trouble));
    }
    for (std::size_t i = 0; i < report.firings.size(); ++i) {
      const SymbolFiring& firing = report.firings[i];
      Outcome outcome =
          confirm_one(firing.strike, firing.own_pid, victims_[i].pidfd.get(), evidence);
      if (outcome.verdict != Verdict::kConfirmed) return outcome;
    }
    std::string reason;
    if (trigger.times > 1) {
      reason =
          std::to_string(report.firings.size()) + " of " + std::to_string(trigger.times) + " fired";
    }
    return confirmed(report.firings.front().strike.seen_ns, reason);
  }

  Outcome confirm_one(const StrikeRecord& record, std::int32_t pid, int pidfd,
                      const InjectionEvidence& evidence) {
    std::optional<WaitStatus> status = record.end;
    const ObservedEnd* end = evidence.end_of(pid, record.begun_ns);
    if (!status && end != nullptr) status = end->status;
    if (!status && pidfd >= 0) status = exit_status_from_kernel(pidfd);
    json proof = to_json(record);
    proof["pid"] = pid;
    proof["status"] = status ? json(status->describe()) : json(nullptr);
    log_step("evidence", proof);
    if (record.seen_ns == 0) {
      return not_activated(record.failure.empty() ? "the victim ended before its effect was seen"
                                                  : record.failure);
    }
    if (record.signal != 0) return confirm_death(record, status);
    if (native_.kind == NativeKind::kExit &&
        !(status && status->exited() && status->exit_code() == native_.exit_code)) {
      return indeterminate("the victim's exit was seen, but " +
                           (status ? "then it " + status->describe() : "nobody reported its end"));
    }
    return confirmed(record.seen_ns);
  }

  static Outcome confirm_death(const StrikeRecord& record,
                               const std::optional<WaitStatus>& status) {
    if (status && status->signalled() && status->signal() == record.signal)
      return confirmed(record.seen_ns);
    // A program that handles the signal decides itself what becomes of it.
    const std::string end = status ? "it " + status->describe() : "nobody reported its end";
    if (record.caught) return confirmed(record.seen_ns, "the victim handled the signal; " + end);
    return indeterminate("the signal was delivered, but " + end);
  }

  const NativeFault native_;
  std::vector<std::unique_ptr<Tracer>> tracers_;  // One a victim; for a symbol one for all.
  std::vector<SymbolFiring> logged_;
  bool gave_up_ = false;
};

#else

class TraceInjection : public Injection {
 public:
  using Injection::Injection;

 protected:
  Result<void> prepare(LaunchPlan&) override {
    skip("tracing is written for x86-64 only");
    return {};
  }
  Outcome confirm(const InjectionEvidence&) override { return indeterminate("not on x86-64"); }
};

#endif

}  // namespace

std::unique_ptr<Injection> make_trace_injection(InjectionSetup setup) {
  return std::make_unique<TraceInjection>(std::move(setup));
}

}  // namespace crashworthy

// io.errno, io.short, io.delay: the n-th matching system call of the subject fails, transfers less
// than was asked for, or takes longer.
//
// The subject's tree has a filter (seccomp_unotify(2)) that reports the chosen calls to us; each
// waits until we answer it. That needs no privilege and nothing of the program, which may be
// statically linked. Calls are counted over the whole tree in the order in which the kernel reports
// them, from the exec of the command on, once a trial; the exec itself is not among them.
//
// The proof is the kernel's word that the answer to exactly that call was delivered.
#include <fnmatch.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "faults/call_server.h"
#include "faults/caller.h"
#include "faults/mechanisms.h"
#include "faults/self_struck.h"
#include "faults/short_transfer.h"
#include "faults/system_calls.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/os/system_names.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::size_t kMostEvidence = 100;  // Firings that are written down one by one.

enum class Effect { kFail, kShorten, kDelay };

// What a rule does, as it was asked for.
struct Order {
  Effect effect = Effect::kFail;
  int error = 0;                      // kFail
  std::optional<std::uint64_t> size;  // kShorten; empty: half.
  std::int64_t delay_ns = 0;          // kDelay
  std::string path;                   // A glob; empty: any call.
  std::vector<const SystemCall*> calls;
  Trigger trigger;
  bool disarmed = false;
  std::uint64_t seed = 0;
};

struct Firing {
  std::uint64_t count = 0;  // The how-manieth matching call.
  std::string call;
  std::array<std::uint64_t, 6> arguments{};
  std::string file;
  std::int32_t pid = 0;  // As the subject sees it.
  pid_t host_pid = 0;
  pid_t host_tid = 0;
  std::int64_t received_ns = 0;
  std::int64_t answered_ns = 0;
  std::uint64_t asked = 0;  // kShorten: bytes,
  std::uint64_t bytes = 0;  // and how many it got.
  bool effective = true;    // kShorten: there was more; kDelay: it was held to the end.
  bool caller_ended = false;
};

// What a rule has seen and done.
struct Account {
  std::vector<Firing> firings;
  std::uint64_t beaten = 0;  // Another injection decided.
  std::string refused;       // Why a call could not be shortened.
  std::uint64_t unreadable = 0;
  std::string unreadable_why;
};

class NotifyRule : public CallRule {
 public:
  explicit NotifyRule(Order order)
      : order_(std::move(order)),
        open_(!order_.trigger.gate),
        random_(order_.seed),
        news_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  bool wants(const ReportedCall& call) override {
    counted_ = false;
    if (!open_.load(std::memory_order_relaxed) || !matches(call)) return false;
    counted_ = true;
    const std::uint64_t count = matched_.load(std::memory_order_relaxed) + 1;
    matched_.store(count, std::memory_order_relaxed);
    return !order_.disarmed && is_due(count);
  }

  Step decide(const ReportedCall& call) override {
    switch (order_.effect) {
      case Effect::kFail:
        return fail(call);
      case Effect::kShorten:
        return shorten(call);
      case Effect::kDelay:
        return delay(call);
    }
    return {};
  }

  void was_beaten(const ReportedCall&) override {
    const std::lock_guard lock(mutex_);
    ++account_.beaten;
  }

  void take_back(const ReportedCall&) override {
    if (counted_) matched_.fetch_sub(1, std::memory_order_relaxed);
  }

  void caller_ended(const ReportedCall& call) override {
    transfers_.erase(call.id);
    const auto held = delayed_.find(call.id);
    if (held == delayed_.end()) return;
    held->second.caller_ended = true;
    write_down(std::move(held->second));
    delayed_.erase(held);
  }

  // ---- From the trial's thread ----

  // Before the server has its thread.
  void set_our_numbers(std::set<int> numbers) { our_numbers_ = std::move(numbers); }
  void open() { open_ = true; }
  // From here on nothing is counted, and what is held goes on.
  void close() {
    open_ = false;
    closed_ = true;
  }
  std::uint64_t matched() const { return matched_; }
  std::int64_t fired_ns() const { return fired_ns_; }
  int news() const { return news_.get(); }
  Account account() const {
    const std::lock_guard lock(mutex_);
    return account_;
  }

 private:
  bool is_due(std::uint64_t count) {
    const Trigger& trigger = order_.trigger;
    const auto first = static_cast<std::uint64_t>(trigger.count->low);
    const auto every = static_cast<std::uint64_t>(trigger.every);
    if (count < first || (count - first) % every != 0) return false;
    if (trigger.probability >= 1)
      return (count - first) / every < static_cast<std::uint64_t>(trigger.times);
    return fired_ < trigger.times && random_.unit() < trigger.probability;
  }

  const SystemCall& kind_of(const ReportedCall& call) const {
    return **std::find_if(order_.calls.begin(), order_.calls.end(),
                          [&](const SystemCall* kind) { return kind->number == call.number; });
  }

  bool matches(const ReportedCall& call) {
    const SystemCall& kind = kind_of(call);
    if (const int argument = kind.descriptor_argument(); argument >= 0) {
      const auto number = static_cast<int>(call.arguments[static_cast<std::size_t>(argument)]);
      if (our_numbers_.contains(number)) return false;
    }
    if (order_.effect == Effect::kShorten) {
      const auto asked = ShortTransfer::asked(call);
      if (!asked || *asked <= size_for(*asked) || size_for(*asked) == 0) return false;
    }
    if (order_.path.empty()) return true;
    const auto files = files_of(call, kind);
    if (!files) {
      const std::lock_guard lock(mutex_);
      ++account_.unreadable;
      account_.unreadable_why = files.error().message;
      return false;
    }
    const bool fits = std::any_of(files->begin(), files->end(), [&](const std::string& file) {
      return ::fnmatch(order_.path.c_str(), file.c_str(), 0) == 0;
    });
    return fits && call.waits();
  }

  std::uint64_t size_for(std::uint64_t asked) const { return order_.size.value_or(asked / 2); }

  // Before the answer: afterwards the caller may be gone.
  Firing describe(const ReportedCall& call) const {
    Firing firing;
    firing.count = matched_;
    firing.call = kind_of(call).name;
    firing.arguments = call.arguments;
    if (const auto files = files_of(call, kind_of(call)); files && !files->empty())
      firing.file = files->front();
    firing.host_tid = call.tid;
    firing.host_pid = process_of(call.tid);
    firing.pid = pid_in_own_namespace(firing.host_pid).value_or(0);
    firing.received_ns = call.received_ns;
    return firing;
  }

  void write_down(Firing firing) {
    firing.answered_ns = now_ns();
    {
      const std::lock_guard lock(mutex_);
      account_.firings.push_back(std::move(firing));
    }
    tell();
  }

  void tell() {
    fired_ns_ = now_ns();
    const std::uint64_t one = 1;
    (void)!::write(news_.get(), &one, sizeof one);
  }

  Step fail(const ReportedCall& call) {
    Firing firing = describe(call);
    if (!call.fail(order_.error)) return {Step::Kind::kVanished};
    ++fired_;
    write_down(std::move(firing));
    return {};
  }

  Step delay(const ReportedCall& call) {
    const auto held = delayed_.find(call.id);
    if (held == delayed_.end()) {
      Firing firing = describe(call);
      if (!call.waits()) return {Step::Kind::kVanished};
      ++fired_;
      delayed_[call.id] = std::move(firing);
      tell();  // It is in force from now on.
      return {Step::Kind::kHeld, call.received_ns + order_.delay_ns};
    }
    const std::int64_t until_ns = call.received_ns + order_.delay_ns;
    held->second.effective = now_ns() >= until_ns;
    if (!held->second.effective && !closed_) return {Step::Kind::kHeld, until_ns};
    if (!call.go_on()) return {Step::Kind::kVanished};
    write_down(std::move(held->second));
    delayed_.erase(held);
    return {};
  }

  Step shorten(const ReportedCall& call) {
    auto transfer = transfers_.find(call.id);
    if (transfer == transfers_.end()) {
      const std::uint64_t asked = ShortTransfer::asked(call).value_or(0);
      ++fired_;
      transfer =
          transfers_.emplace(call.id, Transfer{describe(call), {call, size_for(asked)}}).first;
      transfer->second.firing.asked = asked;
    }
    Transfer& mine = transfer->second;
    ShortTransfer::Attempt attempt;
    if (!closed_) attempt = mine.transfer.attempt();
    if (attempt.kind == ShortTransfer::Attempt::Kind::kWait) {
      return {Step::Kind::kHeld, INT64_MAX, mine.transfer.descriptor(), attempt.events};
    }
    Firing firing = std::move(mine.firing);
    transfers_.erase(transfer);
    if (attempt.kind == ShortTransfer::Attempt::Kind::kRefused) {
      {
        const std::lock_guard lock(mutex_);
        account_.refused =
            closed_ ? "it was still waiting when the fault was healed" : errno_name(attempt.error);
      }
      return {call.go_on() ? Step::Kind::kAnswered : Step::Kind::kVanished};
    }
    if (!call.give(static_cast<std::int64_t>(attempt.bytes))) return {Step::Kind::kVanished};
    firing.bytes = attempt.bytes;
    firing.effective = attempt.cut;
    write_down(std::move(firing));
    return {};
  }

  struct Transfer {
    Firing firing;
    ShortTransfer transfer;
  };

  const Order order_;
  std::set<int> our_numbers_;  // Descriptors through which the probe and our points tell.
  std::atomic<bool> open_;
  std::atomic<bool> closed_ = false;
  std::atomic<std::uint64_t> matched_ = 0;
  std::atomic<std::int64_t> fired_ns_ = 0;
  Random random_;  // The server's thread has these.
  bool counted_ = false;
  std::int64_t fired_ = 0;
  std::map<std::uint64_t, Firing> delayed_;
  std::map<std::uint64_t, Transfer> transfers_;
  UniqueFd news_;  // eventfd: there is a new firing.
  mutable std::mutex mutex_;
  Account account_;
};

class NotifyInjection : public Injection {
 public:
  using Injection::Injection;

  std::int64_t fired_ns() const override { return rule_ ? rule_->fired_ns() : 0; }
  std::vector<int> descriptors() const override {
    return rule_ ? std::vector{rule_->news()} : std::vector<int>{};
  }

 protected:
  Result<void> prepare(LaunchPlan& launch) override {
    const NotifySupport& support = notify_support();
    if (!support.refused.empty()) return skipped(support.refused);
    Order order;
    order.effect = fault_.fault == "io.errno"   ? Effect::kFail
                   : fault_.fault == "io.short" ? Effect::kShorten
                                                : Effect::kDelay;
    auto calls = parse_calls(fault_.text("call"));
    if (!calls) return calls.error();
    order.calls = *std::move(calls);
    if (fault_.has("errno")) order.error = static_cast<int>(fault_.number("errno"));
    if (fault_.has("bytes")) order.size = static_cast<std::uint64_t>(fault_.number("bytes"));
    if (fault_.has("delay")) order.delay_ns = fault_.number("delay");
    if (fault_.has("path")) order.path = fault_.text("path");
    if (order.effect == Effect::kShorten && !support.killable)
      return skipped(
          "a signal could have the caller repeat what was transferred already here "
          "(needs Linux 5.19)");
    order.trigger = watch_.trigger();
    order.disarmed = disarmed_;
    order.seed = random_.next();
    std::vector<int> numbers;
    for (const SystemCall* call : order.calls) numbers.push_back(call->number);
    rule_ = std::make_shared<NotifyRule>(std::move(order));
    server_ = CallServer::of(launch);
    server_->add(launch, numbers, rule_);
    return {};
  }

  void all_armed(const LaunchPlan& launch) override {
    std::set<int> numbers;
    for (const auto& [ours, number] : launch.descriptors)
      if (launch.is_our_number(number)) numbers.insert(number);
    if (rule_) rule_->set_our_numbers(std::move(numbers));
  }

  void open_gate() override { rule_->open(); }

  void work(SubjectView&) override {
    std::uint64_t news = 0;
    if (::read(rule_->news(), &news, sizeof news) == sizeof news)
      log_step("fired", {{"firings", news}});
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    server_->stop();  // Its last words are in the account then.
    const Account account = rule_->account();
    const WorkerTracker tracker = tracker_of(evidence);
    const Firing* first = nullptr;
    std::int64_t effective = 0;
    for (const Firing& firing : account.firings) {
      if (victims_.size() < kMostEvidence) {
        victims_.push_back(self_struck(tracker, firing.pid, firing.host_pid));
        log_step("evidence", to_json(firing));
      }
      if (!firing.effective && !firing.caller_ended) continue;
      ++effective;
      if (first == nullptr) first = &firing;
    }
    if (first == nullptr) return not_activated(why_not(account));
    const std::string count = std::to_string(effective) + " of at most " +
                              std::to_string(watch_.trigger().times) + " fired";
    const bool delays = fault_.fault == "io.delay";
    return confirmed(delays ? first->received_ns : first->answered_ns,
                     first->caller_ended          ? "its caller ended while the call was held"
                     : watch_.trigger().times > 1 ? count
                                                  : "");
  }

  std::string heal() override {
    if (!rule_) return "nothing to undo";
    rule_->close();
    server_->wake();
    return "calls go on untouched; " + std::to_string(rule_->matched()) + " matching were counted";
  }

 private:
  Result<void> skipped(std::string reason) {
    skip(std::move(reason));
    return {};
  }

  std::string why_not(const Account& account) const {
    std::string why = std::to_string(rule_->matched()) + " matching calls of " +
                      fault_.text("call") + " were made, number " +
                      std::to_string(watch_.trigger().count->low) + " was to be struck";
    if (!account.firings.empty() && fault_.fault == "io.short")
      why += "; the call would not have transferred more";
    if (!account.firings.empty() && fault_.fault == "io.delay")
      why += "; the call was let go before its time";
    if (account.beaten > 0) why += "; another injection decided about it";
    if (!account.refused.empty()) why += "; it could not be shortened: " + account.refused;
    if (account.unreadable > 0) {
      why += "; the files of " + std::to_string(account.unreadable) +
             " calls could not be read: " + account.unreadable_why;
    }
    return why;
  }

  json to_json(const Firing& firing) const {
    json proof{{"call", firing.call},
               {"count", firing.count},
               {"arguments", firing.arguments},
               {"pid", firing.pid},
               {"host_pid", firing.host_pid},
               {"host_tid", firing.host_tid},
               {"received_ns", firing.received_ns},
               {"answered_ns", firing.answered_ns}};
    if (!firing.file.empty()) proof["file"] = firing.file;
    if (fault_.has("errno")) proof["errno"] = fault_.text("errno");
    if (firing.asked > 0) {
      proof["asked_bytes"] = firing.asked;
      proof["bytes"] = firing.bytes;
      proof["cut"] = firing.effective;
    }
    if (fault_.has("delay")) {
      proof["held_ns"] = firing.answered_ns - firing.received_ns;
      proof["caller_ended"] = firing.caller_ended;
    }
    return proof;
  }

  std::shared_ptr<NotifyRule> rule_;
  std::shared_ptr<CallServer> server_;
};

}  // namespace

std::unique_ptr<Injection> make_notify_injection(InjectionSetup setup) {
  return std::make_unique<NotifyInjection>(std::move(setup));
}

}  // namespace crashworthy

// native.NAME@POINT: the victim does it by itself when it passes a fault point of its own code (see
// faults/point/point.h) on the chosen hit.
//
// The proof is the victim's own: its record of what it was about to do, written to memory that
// survives it before it was done; the siginfo of its signal, as it saw it; and its wait status,
// from whoever reaped it. Of a victim that hangs: what the kernel says of that thread while it
// does. Of one that goes on: that it did.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
#include "faults/point/point.h"
#include "faults/self_struck.h"
#include "faults/thread_watch.h"
#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/os/shared_memory.h"
#include "harness/os/system_names.h"

namespace crashworthy {
namespace {

using nlohmann::json;
using point::Action;
using point::Firing;

// How a victim ends, by what it does.
struct Death {
  int signal = 0;
  const char* name = nullptr;
  std::array<int, 2> codes{};  // Any of them.
};

struct Row {
  const char* fault;
  Action action;
  Death death = {};
};
constexpr std::array kActions{
    Row{"native.abort", Action::kAbort, {SIGABRT, "SIGABRT", {SI_TKILL}}},
    Row{"native.segv", Action::kSegv, {SIGSEGV, "SIGSEGV", {SEGV_MAPERR}}},
    Row{"native.bus", Action::kBus, {SIGBUS, "SIGBUS", {BUS_ADRERR}}},
    Row{"native.fpe", Action::kFpe, {SIGFPE, "SIGFPE", {FPE_INTDIV}}},
    Row{"native.ill", Action::kIll, {SIGILL, "SIGILL", {ILL_ILLOPN}}},
    // Below a thread's stack is a guard page, below the main thread's nothing at all.
    Row{"native.stack_overflow",
        Action::kStackOverflow,
        {SIGSEGV, "SIGSEGV", {SEGV_MAPERR, SEGV_ACCERR}}},
    Row{"native.heap_corrupt", Action::kHeapCorrupt, {SIGABRT, "SIGABRT", {SI_TKILL}}},
    Row{"native.throw", Action::kThrow, {SIGABRT, "SIGABRT", {SI_TKILL}}},
    Row{"native.poison", Action::kPoison, {SIGABRT, "SIGABRT", {SI_TKILL}}},
    Row{"native.deadlock", Action::kDeadlock},
    Row{"native.spin", Action::kSpin},
    Row{"native.slow", Action::kSlow},
    Row{"native.bitflip", Action::kBitflip},
    Row{"process.exit_early", Action::kExitEarly},
};

// How far below the deepest frame that was entered the overflow may strike.
constexpr std::uint64_t kNextFrame = 16 * 1024;

// What the points of one trial share.
struct SharedPoints {
  SharedMemory memory;
  UniqueFd event;
  point::Table& table() const { return *reinterpret_cast<point::Table*>(memory.data()); }
};

Result<std::shared_ptr<SharedPoints>> shared_points(LaunchPlan& launch) {
  if (launch.points) return std::static_pointer_cast<SharedPoints>(launch.points);
  auto memory = SharedMemory::create("crashworthy-points", sizeof(point::Table));
  if (!memory) return memory.error();
  auto points = std::make_shared<SharedPoints>();
  points->memory = std::move(*memory);
  points->event.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (points->event.get() < 0) return system_error("make an eventfd", errno);
  points->table().magic = point::Table::kMagic;
  const int number = launch.inherit(points->memory.fd());
  points->table().event_fd = launch.inherit(points->event.get());
  launch.environment.push_back("CRASHWORTHY_POINTS=" + std::to_string(number));
  launch.points = points;
  return points;
}

std::string item_name(std::uint64_t item) {
  return item == point::kNoItem ? "none" : std::to_string(item);
}

// What the subject has written, for the record.
template <std::size_t size>
std::string plain_text(const char (&text)[size]) {
  std::string plain(text, ::strnlen(text, size));
  for (char& c : plain) c = c < ' ' || c > '~' ? '?' : c;
  return plain;
}

class PointInjection : public Injection {
 public:
  using Injection::Injection;

  std::int64_t fired_ns() const override {
    std::int64_t last = 0;
    for (const Firing* firing : firings()) last = std::max(last, firing->time_ns.load());
    return last;
  }
  std::vector<int> descriptors() const override {
    return points_ ? std::vector<int>{points_->event.get()} : std::vector<int>{};
  }

 protected:
  Result<void> prepare(LaunchPlan& launch) override {
    for (const Row& row : kActions) {
      if (fault_.fault == row.fault) row_ = &row;
    }
    if (fault_.point.size() >= point::kNameSize)
      return usage_error("the name of the point '" + fault_.point + "' is too long");
    auto points = shared_points(launch);
    if (!points) return points.error();
    points_ = *std::move(points);
    index_ = table().count.load();
    if (index_ == point::kMaxEntries) return usage_error("too many faults at points in one trial");
    point::Entry& entry = table().entries[index_];
    std::strncpy(entry.name, fault_.point.c_str(), point::kNameSize - 1);
    entry.action = disarmed_ ? Action::kCount : row_->action;
    entry.item =
        fault_.has("item") ? static_cast<std::uint64_t>(fault_.number("item")) : point::kNoItem;
    entry.value = value_of_action();
    write_schedule(entry.schedule);
    table().count.store(index_ + 1, std::memory_order_release);
    return {};
  }

  void open_gate() override { entry().schedule.open.store(1, std::memory_order_release); }

  void work(SubjectView& subject) override {
    std::uint64_t told = 0;
    // Others of the trial share it, and look as well whoever reads it.
    [[maybe_unused]] const ssize_t got = ::read(points_->event.get(), &told, sizeof told);
    if (row_->action != Action::kDeadlock && row_->action != Action::kSpin) return;
    for (const Firing* firing : firings()) {
      auto [watch, is_new] = watches_.try_emplace(firing);
      if (is_new) watch->second = ThreadWatch(subject, firing->pid, firing->tid);
      watch->second.look();
    }
  }
  std::int64_t next_work_ns() const override {
    std::int64_t next = INT64_MAX;
    for (const auto& [firing, watch] : watches_) {
      if (!is_proved(watch)) next = std::min(next, watch.next_ns());
    }
    return next;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    const std::vector<const Firing*> all = firings();
    if (all.empty()) return not_activated(why_it_never_fired());
    const WorkerTracker tracker = tracker_of(evidence);
    for (const Firing* firing : all) {
      victims_.push_back(self_struck(tracker, firing->pid));
      Outcome outcome = confirm_one(*firing, evidence, tracker);
      if (outcome.verdict != Verdict::kConfirmed) return outcome;
    }
    return confirmed(all.front()->time_ns.load(), summary(all));
  }

 private:
  // ---- The table ----

  point::Table& table() const { return points_->table(); }
  point::Entry& entry() const { return table().entries[index_]; }

  // Those of this fault that are complete, in their order.
  std::vector<const Firing*> firings() const {
    std::vector<const Firing*> ours;
    if (!points_) return ours;
    const std::uint32_t count =
        std::min<std::uint32_t>(table().firing_count.load(), point::kMaxFirings);
    for (std::uint32_t i = 0; i < count; ++i) {
      const Firing& firing = table().firings[i];
      if (firing.time_ns.load(std::memory_order_acquire) != 0 && firing.entry == index_)
        ours.push_back(&firing);
    }
    return ours;
  }

  void write_schedule(point::Schedule& schedule) {
    const Trigger& trigger = watch_.trigger();
    schedule.first = static_cast<std::uint64_t>(trigger.count->low);
    schedule.every = static_cast<std::uint64_t>(trigger.every);
    schedule.times = static_cast<std::uint64_t>(trigger.times);
    schedule.seed = random_.next();
    schedule.set_probability(trigger.probability);
    // A disarmed one has no gate: its hits are counted for the record.
    schedule.open = !trigger.gate || disarmed_ ? 1 : 0;
  }

  std::uint64_t value_of_action() const {
    if (fault_.has("delay")) return static_cast<std::uint64_t>(fault_.number("delay"));
    if (fault_.has("code")) return static_cast<std::uint64_t>(fault_.number("code"));
    return fault_.has("exception") && fault_.text("exception") == "std" ? point::kThrowStandard : 0;
  }

  // ---- The outcome ----

  std::string why_it_never_fired() const {
    const std::string passed = "the point '" + fault_.point + "' was passed " +
                               std::to_string(entry().schedule.hits.load()) + " times";
    if (fault_.has("item")) return passed + ", never with item " + fault_.text("item");
    if (watch_.trigger().probability < 1) return passed + ", and by chance no hit was to fire";
    return passed + ", hit " + std::to_string(watch_.trigger().count->low) + " was to fire" +
           (row_->action == Action::kPoison ? " if it had an item" : "");
  }

  std::string summary(const std::vector<const Firing*>& all) const {
    if (row_->action == Action::kPoison) {
      return "item " + item_name(entry().item.load()) + " ended " + std::to_string(all.size()) +
             (all.size() == 1 ? " attempt" : " attempts");
    }
    if (row_->action == Action::kThrow && all.size() == 1)
      return all.front()->signal == 0 ? "the exception was caught" : "nobody caught the exception";
    if (watch_.trigger().times == 1) return "";
    return std::to_string(all.size()) + " of " + std::to_string(watch_.trigger().times) + " fired";
  }

  Outcome confirm_one(const Firing& firing, const InjectionEvidence& evidence,
                      const WorkerTracker& tracker) {
    const ObservedEnd* end = evidence.end_of(firing.pid, firing.time_ns.load());
    log_step("evidence", proof_of(firing, end, tracker));
    if (firing.failed == EINVAL)
      return not_activated("the point '" + fault_.point + "' has no buffer");
    if (firing.failed != 0)
      return not_activated("the victim could not do it: " + errno_name(firing.failed));
    switch (row_->action) {
      case Action::kSlow:
        return confirm_slow(firing);
      case Action::kBitflip:
        return confirm_bitflip(firing);
      case Action::kDeadlock:
      case Action::kSpin:
        return confirm_hang(firing);
      case Action::kExitEarly:
        return confirm_exit(firing, end);
      case Action::kThrow:
        if (firing.caught_ns != 0) return confirmed(firing.time_ns.load());
        // Whoever ends the process while it handles the exception has caught it too.
        if (firing.left_ns != 0 && end != nullptr && end->status.exited())
          return confirmed(firing.time_ns.load());
        return confirm_death(firing, end);
      default:
        return confirm_death(firing, end);
    }
  }

  json proof_of(const Firing& firing, const ObservedEnd* end, const WorkerTracker& tracker) const {
    json proof{{"pid", firing.pid},
               {"tid", firing.tid},
               {"hit", firing.hit},
               {"hit_ns", firing.time_ns.load()},
               {"status", end == nullptr ? json(nullptr) : json(end->status.describe())}};
    if (firing.item != point::kNoItem) proof["item"] = firing.item;
    if (const auto worker = tracker.by_pid(firing.pid)) {
      proof["worker"] = worker->worker;
      proof["incarnation"] = worker->incarnation;
    }
    if (row_->death.signal != 0) {
      proof["siginfo"] = {{"signal", firing.signal},
                          {"code", firing.signal_code},
                          {"sender", firing.signal_sender},
                          {"address", firing.signal_address}};
    }
    if (firing.left_ns != 0) proof["left_ns"] = firing.left_ns.load();
    if (row_->action == Action::kThrow) {
      proof["exception"] = plain_text(firing.thrown);
      proof["caught_ns"] = firing.caught_ns.load();
    }
    if (row_->action == Action::kBitflip && firing.failed == 0) {
      proof["offset"] = firing.offset;
      proof["bit"] = firing.bit;
      proof["before"] = firing.before;
      proof["after"] = firing.after;
    }
    if (const auto watch = watches_.find(&firing); watch != watches_.end())
      proof["thread"] = watch->second.describe();
    return proof;
  }

  Outcome confirm_death(const Firing& firing, const ObservedEnd* end) const {
    const Death& death = row_->death;
    const std::string name = death.name;
    if (firing.signal != death.signal || !code_is_right(firing))
      return indeterminate("the victim passed the hit, but its own " + name + " was not seen");
    if (end == nullptr)
      return indeterminate("the victim had its " + name + ", but nobody reported its end");
    if (!end->status.signalled() || end->status.signal() != death.signal)
      return indeterminate("the victim had its " + name + ", but " + end->status.describe());
    return confirmed(firing.time_ns.load());
  }

  bool code_is_right(const Firing& firing) const {
    const auto& codes = row_->death.codes;
    if (firing.signal_code != codes[0] && (codes[1] == 0 || firing.signal_code != codes[1]))
      return false;
    if (firing.signal_code <= 0) return firing.signal_sender == firing.pid;
    if (row_->action == Action::kSegv || row_->action == Action::kBus)
      return firing.signal_address == firing.address;
    if (row_->action == Action::kStackOverflow)
      return firing.signal_address < firing.address &&
             firing.address - firing.signal_address < kNextFrame;
    return true;
  }

  Outcome confirm_slow(const Firing& firing) const {
    if (firing.left_ns == 0)
      return indeterminate("the victim did not go on: it ended while it was delayed");
    if (firing.left_ns - firing.time_ns < fault_.number("delay"))
      return indeterminate("the victim went on too early");
    return confirmed(firing.time_ns.load());
  }

  static Outcome confirm_bitflip(const Firing& firing) {
    if ((firing.before ^ firing.after) != 1u << firing.bit)
      return indeterminate("the byte was not read back as it was written");
    return confirmed(firing.time_ns.load());
  }

  bool is_proved(const ThreadWatch& watch) const {
    return row_->action == Action::kSpin ? watch.spins() : watch.waits();
  }

  Outcome confirm_hang(const Firing& firing) const {
    const auto watch = watches_.find(&firing);
    if (watch == watches_.end() || !is_proved(watch->second)) {
      return indeterminate(
          std::string("the victim passed the hit, but was not seen ") +
          (row_->action == Action::kSpin ? "using the processor" : "waiting for ever"));
    }
    return confirmed(firing.time_ns.load());
  }

  Outcome confirm_exit(const Firing& firing, const ObservedEnd* end) const {
    if (end == nullptr) return indeterminate("nobody reported the victim's end");
    if (!end->status.exited() ||
        static_cast<std::uint64_t>(end->status.exit_code()) != entry().value)
      return indeterminate("the victim was to exit, but " + end->status.describe());
    return confirmed(firing.time_ns.load());
  }

  const Row* row_ = nullptr;
  std::shared_ptr<SharedPoints> points_;
  std::uint32_t index_ = 0;
  std::map<const Firing*, ThreadWatch> watches_;
};

}  // namespace

std::unique_ptr<Injection> make_point_injection(InjectionSetup setup) {
  return std::make_unique<PointInjection>(std::move(setup));
}

}  // namespace crashworthy

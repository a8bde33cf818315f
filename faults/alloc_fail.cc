// native.alloc_fail: the chosen call of malloc and its kin returns null, in whichever process of
// the subject makes it; what operator new does with that is the program's affair.
//
// A small library, preloaded into the subject's programs (see preload/alloc_fail.cc), counts the
// calls in memory that they all share. The proof is its record of the call it let fail.
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
#include "faults/preload/alloc_table.h"
#include "faults/self_struck.h"
#include "harness/os/file.h"
#include "harness/os/shared_memory.h"

namespace crashworthy {
namespace {

using alloc::Firing;
using nlohmann::json;

constexpr const char* kLibrary = "libcrashworthy-alloc.so";
constexpr std::string_view kPreload = "LD_PRELOAD=";

// Puts `library` before what the user preloads: an allocator there is then next in line.
void preload(std::vector<std::string>& environment, const std::string& library) {
  for (std::string& variable : environment) {
    if (!variable.starts_with(kPreload)) continue;
    const std::string others = variable.substr(kPreload.size());
    variable = std::string(kPreload) + library + (others.empty() ? "" : ":" + others);
    return;
  }
  environment.push_back(std::string(kPreload) + library);
}

class AllocInjection : public Injection {
 public:
  using Injection::Injection;

  std::int64_t fired_ns() const override {
    std::int64_t last = 0;
    for (const Firing* firing : firings()) last = std::max(last, firing->time_ns.load());
    return last;
  }

 protected:
  Result<void> prepare(LaunchPlan& launch) override {
    const auto library = find_helper(kLibrary);
    if (!library) {
      skip(library.error().message);
      return {};
    }
    if (library->string().find_first_of(": ") != std::string::npos) {
      skip("LD_PRELOAD takes no path with a blank or a colon, such as " + library->string());
      return {};
    }
    const std::string variable = std::string(alloc::kVariable) + "=";
    for (const std::string& other : launch.environment) {
      if (other.starts_with(variable))
        return usage_error("native.alloc_fail is twice in one trial", "use when.repeat");
    }
    auto memory = SharedMemory::create("crashworthy-alloc", sizeof(alloc::Table));
    if (!memory) return memory.error();
    memory_ = std::move(*memory);
    write_table();
    preload(launch.environment, library->string());
    launch.environment.push_back(variable + std::to_string(launch.inherit(memory_.fd())));
    return {};
  }

  void open_gate() override { table().schedule.open.store(1, std::memory_order_release); }

  Outcome confirm(const InjectionEvidence& evidence) override {
    const std::vector<const Firing*> all = firings();
    if (all.empty()) return not_activated(why_none_failed());
    const WorkerTracker tracker = tracker_of(evidence);
    for (const Firing* firing : all) {
      victims_.push_back(self_struck(tracker, firing->pid));
      const ObservedEnd* end = evidence.end_of(firing->pid, firing->time_ns.load());
      const auto name = static_cast<std::size_t>(firing->function);
      log_step(
          "evidence",
          {{"pid", firing->pid},
           {"tid", firing->tid},
           {"function", name < std::size(alloc::kFunctionNames) ? json(alloc::kFunctionNames[name])
                                                                : json(nullptr)},
           {"size", firing->size},
           {"call", firing->call},
           {"returned", firing->returned},
           {"errno", firing->error},
           {"failed_ns", firing->time_ns.load()},
           {"status", end == nullptr ? json(nullptr) : json(end->status.describe())}});
      if (firing->returned != 0) return indeterminate("the call did not return null");
    }
    const std::string count =
        std::to_string(all.size()) + " of " + std::to_string(watch_.trigger().times) + " failed";
    return confirmed(all.front()->time_ns.load(), watch_.trigger().times > 1 ? count : "");
  }

 private:
  alloc::Table& table() const { return *reinterpret_cast<alloc::Table*>(memory_.data()); }

  void write_table() {
    const Trigger& trigger = watch_.trigger();
    alloc::Table& shared = table();
    shared.size_min =
        fault_.has("size_min") ? static_cast<std::uint64_t>(fault_.number("size_min")) : 0;
    // An arm may have our own supervisor between the subject's processes.
    struct stat own {};
    const auto program = find_helper("crashworthy");
    if (program && ::stat(program->c_str(), &own) == 0) {
      shared.exempt_device = own.st_dev;
      shared.exempt_inode = own.st_ino;
    }
    point::Schedule& schedule = shared.schedule;
    schedule.first = static_cast<std::uint64_t>(trigger.count->low);
    schedule.every = static_cast<std::uint64_t>(trigger.every);
    schedule.times = disarmed_ ? 0 : static_cast<std::uint64_t>(trigger.times);
    schedule.seed = random_.next();
    schedule.set_probability(trigger.probability);
    schedule.open = !trigger.gate || disarmed_ ? 1 : 0;
    shared.magic = alloc::Table::kMagic;
  }

  // Those that are complete, in their order.
  std::vector<const Firing*> firings() const {
    std::vector<const Firing*> all;
    if (memory_.data() == nullptr) return all;
    const std::uint32_t count =
        std::min<std::uint32_t>(table().firing_count.load(), alloc::kMaxFirings);
    for (std::uint32_t i = 0; i < count; ++i) {
      if (table().firings[i].time_ns.load(std::memory_order_acquire) != 0)
        all.push_back(&table().firings[i]);
    }
    return all;
  }

  std::string why_none_failed() const {
    if (table().loaded == 0) {
      return "no program of the subject has loaded " + std::string(kLibrary) +
             ": nothing can be preloaded into those that are statically linked or set-user-ID";
    }
    const std::uint64_t calls = table().schedule.hits.load();
    const std::string first = std::to_string(watch_.trigger().count->low);
    if (calls > 0 || watch_.trigger().gate || fault_.has("size_min"))
      return "the subject made " + std::to_string(calls) + " such calls, call " + first +
             " was to fail";
    return "the subject loaded the library but made no call of it: its programs have an allocator "
           "of their own";
  }

  SharedMemory memory_;
};

}  // namespace

std::unique_ptr<Injection> make_alloc_injection(InjectionSetup setup) {
  return std::make_unique<AllocInjection>(std::move(setup));
}

}  // namespace crashworthy

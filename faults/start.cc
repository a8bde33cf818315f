// process.slow_start, process.fail_start: a small program is put before the command, which waits
// before it becomes the command, or ends in its place the first `times` times.
//
// Whatever starts the command anew comes by it again, and it writes each start down in memory that
// it shares with us, so the proof outlives it. It is static and needs no rights.
#include <new>
#include <nlohmann/json.hpp>

#include "faults/mechanisms.h"
#include "faults/start_log.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/shared_memory.h"

namespace crashworthy {
namespace {

using nlohmann::json;

class StartInjection : public Injection {
 public:
  using Injection::Injection;

  // The first effect is before the launch has returned.
  std::int64_t fired_ns() const override {
    std::int64_t last = 0;
    for (std::uint32_t i = 0; i < starts(); ++i) {
      const StartLog::Start& start = log().starts[i];
      last = std::max(last, slow() ? (disarmed_ ? 0 : start.begun_ns) : start.refused_ns);
    }
    return last;
  }

 protected:
  Result<void> prepare(LaunchPlan& launch) override {
    auto helper = find_helper("crashworthy-start");
    if (!helper) return helper.error();
    auto memory = SharedMemory::create("crashworthy-start", sizeof(StartLog));
    if (!memory) return memory.error();
    memory_ = std::move(*memory);
    auto* made = new (memory_.data()) StartLog;
    if (!disarmed_ && slow()) made->delay_ns = fault_.number("delay");
    if (!disarmed_ && !slow()) {
      made->refusals = fault_.number("times");
      made->code = static_cast<std::int32_t>(fault_.number("code"));
    }
    const std::string number = std::to_string(launch.inherit(memory_.fd()));
    launch.argv.insert(launch.argv.begin(), {helper->string(), number});
    return {};
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    std::int64_t done = 0;
    std::int64_t first_ns = 0;
    for (std::uint32_t i = 0; i < starts(); ++i) {
      const StartLog::Start& start = log().starts[i];
      log_step("evidence", {{"pid", start.pid},
                            {"begun_ns", start.begun_ns},
                            {"slept_ns", start.slept_ns},
                            {"refused_ns", start.refused_ns},
                            {"start", i + 1},
                            {"did", start.refused_ns != 0 ? "refused it"
                                    : start.slept_ns != 0 ? "delayed it"
                                                          : "nothing yet"},
                            {"exec_error", start.error == 0 ? json(nullptr) : json(start.error)}});
      if (start.error != 0) return indeterminate("the command could not be executed at all");
      const bool effect =
          slow() ? start.slept_ns >= start.begun_ns + log().delay_ns : start.refused_ns != 0;
      if (effect && !slow() && !ended_as_told(start, evidence))
        return indeterminate("a start was refused, but did not end with the code");
      if (effect && done++ == 0) first_ns = slow() ? start.slept_ns : start.refused_ns;
    }
    if (done == 0) {
      return not_activated(starts() == 0 ? "the command was never started"
                                         : "no start was over when the subject ended");
    }
    const std::string what = slow() ? " starts delayed" : " starts refused";
    const std::int64_t of = slow() ? starts() : log().refusals;
    return confirmed(first_ns, std::to_string(done) + " of " + std::to_string(of) + what);
  }

  std::string heal() override { return "nothing to undo: it ends with the trial"; }

 private:
  bool slow() const { return fault_.fault == "process.slow_start"; }
  StartLog& log() const { return *reinterpret_cast<StartLog*>(memory_.data()); }
  std::uint32_t starts() const {
    if (memory_.data() == nullptr) return 0;
    return std::min(log().count.load(), StartLog::kMaxStarts);
  }

  // Where somebody reported that end; a supervisor that we do not know may have kept it to itself.
  bool ended_as_told(const StartLog::Start& start, const InjectionEvidence& evidence) const {
    const ObservedEnd* end = evidence.end_of(start.pid, start.refused_ns);
    return end == nullptr || (end->status.exited() && end->status.exit_code() == log().code);
  }

  SharedMemory memory_;
};

}  // namespace

std::unique_ptr<Injection> make_start_injection(InjectionSetup setup) {
  return std::make_unique<StartInjection>(std::move(setup));
}

}  // namespace crashworthy

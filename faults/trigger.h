// When a fault strikes: conditions as written (with ranges), as resolved for a block (one value
// each), and as they come true.
//
//   {"after": "200ms"}                    so long after the launch
//   {"item": 120}                         the 120th item has been taken (probe)
//   {"phase": "delivering"}               startup, steady, delivering
//   {"event": "first_output+50ms"}        ready, first_output, recovered, fired; with a delay
//   {"all": [..]}, {"any": [..]}          of conditions
//   {"then": [.., ..]}                    one after the other, each counted from the one before
//   {"hit": 3}, {"call": 7}               the victim's own passes of a point or calls, counted over
//                                         the trial from when the other conditions hold
//   {"probability": 0.1}                  each hit or call fires with this chance
//   {"repeat": {"times": 5, "gap": "1s"}} again, so long after the one before; "gap" may be an
//                                         event; for hits and calls {"every": E}
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/random.h"
#include "harness/os/result.h"

namespace crashworthy {

// A number, or a range from which one is drawn a block, so that repeated trials do not all hit the
// same moment.
struct Range {
  std::int64_t low = 0;
  std::int64_t high = 0;
};

// What of a running trial conditions can see. Times are CLOCK_MONOTONIC, 0: not yet.
struct Moment {
  std::int64_t now_ns = 0;
  std::int64_t launched_ns = 0;
  std::uint64_t items_taken = 0;
  std::int64_t ready_ns = 0;         // A worker told that it is ready; without a probe, the launch.
  std::int64_t first_output_ns = 0;  // An output was published.
  std::int64_t last_output_ns = 0;
  std::int64_t fired_ns = 0;  // The last firing of any injection of the trial.
};

// One condition. Resolved, `value.low` is `value.high`.
struct Condition {
  enum class Kind { kAfter, kItem, kPhase, kEvent, kAll, kAny, kThen };
  Kind kind = Kind::kAfter;
  Range value;                   // kAfter and kEvent: ns; kItem: items.
  std::string name;              // Of the phase or event.
  std::vector<Condition> parts;  // kAll, kAny, kThen
};

// When it strikes, as written or as resolved.
struct Trigger {
  std::optional<Condition> gate;  // Empty: from the launch on.
  std::optional<Range> count;     // The hit or call; empty for faults that we fire ourselves.
  double probability = 1;
  std::int64_t times = 1;        // Firings, at most.
  std::int64_t every = 1;        // Hits or calls between them.
  std::optional<Condition> gap;  // Between firings of ours: kAfter or kEvent.
};

// What a row's faults can be triggered by.
enum class TriggerKind {
  kLaunch,   // In force from the launch to the end: no key at all.
  kMoment,   // Fired by us.
  kCounted,  // Fired by the victim on a hit or call.
};

// Reads `when`. `count_key`: "hit" or "call", for kCounted.
Result<Trigger> parse_trigger(const nlohmann::json& object, const std::string& pointer,
                              TriggerKind kind, const char* count_key);
// As parse_trigger() reads it.
nlohmann::json to_json(const Trigger& trigger, const char* count_key);
// Draws every range. A trigger of ours without any condition strikes in the middle of a fault-free
// run of `golden_ns` (0: unknown, then 100 ms after the launch).
Trigger resolve(const Trigger& trigger, TriggerKind kind, std::uint64_t seed,
                std::int64_t golden_ns);

// Follows a resolved trigger through a trial.
class TriggerWatch {
 public:
  explicit TriggerWatch(Trigger trigger) : trigger_(std::move(trigger)) {}

  // True when a firing is due: the conditions hold (they hold for ever once they did), and, after a
  // firing, the gap has passed.
  bool due(const Moment& moment);
  // A firing has been done.
  void fired(std::int64_t time_ns);
  // All firings have been done.
  bool spent() const { return firings_ >= trigger_.times; }
  std::int64_t firings() const { return firings_; }
  // When due() may become true by time alone; INT64_MAX: only by something that happens.
  std::int64_t next_ns(const Moment& moment) const;
  // The number of taken items at which it may become due; empty: it waits for none.
  std::optional<std::uint64_t> next_item() const;

  const Trigger& trigger() const { return trigger_; }

 private:
  // How far a condition has come.
  struct Progress {
    std::int64_t since_ns = 0;  // It counts from here.
    std::uint64_t since_items = 0;
    std::int64_t held_ns = 0;  // When it came true; 0: not yet.
    std::vector<Progress> parts;
  };
  static Progress start(const Condition& condition, std::int64_t now_ns, std::uint64_t items);
  void advance(const Condition& condition, Progress& progress, const Moment& moment) const;
  std::int64_t next_of(const Condition& condition, const Progress& progress,
                       const Moment& moment) const;
  std::optional<std::uint64_t> item_of(const Condition& condition, const Progress& progress) const;

  Trigger trigger_;
  std::optional<Progress> gate_;  // Begun at the first look.
  std::optional<Progress> gap_;   // Begun at each firing.
  std::int64_t firings_ = 0;
};

}  // namespace crashworthy

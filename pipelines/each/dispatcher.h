// Executes items by processes: a command for each, or workers that speak lines, at most so many at
// once. One loop waits for their ends, their lines, and the time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/probe/probe.h"
#include "harness/supervision/intensity.h"
#include "pipelines/each/books.h"
#include "pipelines/each/child.h"
#include "pipelines/each/line_protocol.h"
#include "pipelines/each/settings.h"

namespace crashworthy::each {

// One thread makes and uses a Dispatcher: its processes die with that thread. The destructor ends
// them, and what they have left in their groups.
class Dispatcher {
 public:
  Dispatcher(const Settings& settings, const std::vector<Item>& items, const Probe& probe);
  ~Dispatcher();
  Dispatcher(const Dispatcher&) = delete;
  Dispatcher& operator=(const Dispatcher&) = delete;

  // Until every item has its outcome, or nobody is left to execute one, or `stop_fd` is readable.
  // Fails with what made it give up.
  Result<void> run(int stop_fd);
  const Summary& summary() const { return books_.summary(); }

 private:
  struct Place {
    enum class State {
      kEmpty,
      kStarting,  // A worker that has not said yet that it is ready.
      kIdle,      // A worker that waits.
      kBusy,
      kLeaving  // A worker that has been told to end.
    } state = State::kEmpty;
    bool given_up = false;  // Nobody is started here any more.
    std::optional<Child> child;
    Doer doer;
    std::uint32_t life = 0;
    bool lived = false;
    std::optional<Attempt> attempt;
    bool begun = false;  // It has said that it began.
    bool fresh = true;
    bool replaces = false;  // The one before has died.
    bool listening = false;
    Blame killed_for = Blame::kNone;
    std::string why;  // Of kNonsense.
    bool killed = false;
    std::int64_t since_ns = 0;    // Of the state.
    std::int64_t heard_ns = 0;    // The last line.
    std::int64_t not_before = 0;  // Nobody is started here until then.
    std::uint64_t handed_out = 0;
    LineReader reader;
    std::string unsent;
  };

  void hand_out();
  void start_command(Place& place);
  void start_worker(Place& place);
  bool start(Place& place, const std::vector<std::string>& words);
  void enter(Place& place, Place::State state);
  bool nobody_left() const;
  bool wait(int stop_fd);
  std::int64_t next_ns() const;
  std::int64_t due_ns(const Place& place) const;
  void check_time(Place& place);
  void kill(Place& place, Blame blame, std::string why = {});

  void on_end(Place& place);
  void settle(Place& place, WaitStatus status);
  void settle_command(Place& place, WaitStatus status);
  void settle_worker(Place& place, WaitStatus status);
  void tell_of_death(const Place& place, WaitStatus status);
  void count_death(Blame blame, const std::string& why);

  // Of workers.
  void hear(Place& place);
  void obey(Place& place, const std::string& line);
  void obey(Place& place, const Answer& answer);
  void give(Place& place);
  void send(Place& place);
  void dismiss(Place& place);
  void retire_for_retry();
  void leave();

  const Settings& settings_;
  Probe probe_;
  Books books_;
  std::uint32_t first_life_;
  std::vector<Place> places_;
  RestartIntensity intensity_;
  int starts_in_vain_ = 0;  // Workers in a row that ended before they were ready.
  std::optional<Error> gave_up_;
};

}  // namespace crashworthy::each

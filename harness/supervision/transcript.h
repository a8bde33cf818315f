// What the runners of the table of behaviours share: what is seen, written in words; orders given;
// questions answered; and what holds of every sequence of events.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness/supervision/behaviours.h"
#include "harness/supervision/event.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

// "a running", "a ended SIGKILL", "a restart left 1", "spent inner", "order stop a".
std::string describe(const Event& event);
// "ok", "not_found", "start_failed".
std::string describe(const Answer& answer);
// "a running #1", "b stopped completed #2": presence, state if it says more, incarnation.
std::string describe(const ChildInfo& child);
std::string describe(const ChildCounts& counts);
std::string describe(WaitStatus status);  // "exit 3", "SIGKILL"

// Not to be moved: sinks, replies and hooks point to it.
class Transcript {
 public:
  Transcript() = default;
  Transcript(const Transcript&) = delete;
  Transcript& operator=(const Transcript&) = delete;

  EventSink sink();
  // A reply that is seen as "answer ORDER PATH: ...".
  Reply reply(const std::string& order, const std::string& path);
  // Gives all children of `tree` hooks that are seen as "hook NAME PATH".
  void add_hooks(SupervisorSpec& tree);
  void fail_prepares(const std::string& path, int count) { failing_prepares_[path] = count; }

  // What was seen since the last call, joined by "; ".
  std::string take();
  const std::vector<Event>& events() const { return events_; }
  // The last event that reads `last`, what caused it, what caused that: "c <- b <- a".
  std::string chain(const std::string& last) const;
  int unanswered() const { return unanswered_; }

  // What is wrong with the sequence as such: numbers, times, causes, ways of the states.
  std::vector<std::string> complaints() const;

 private:
  std::vector<std::string> lines_;  // Since the last take().
  std::vector<Event> events_;
  std::map<std::string, int> failing_prepares_;
  std::vector<std::string> answered_twice_;
  int unanswered_ = 0;
};

// Gives the order that `action` is; false when it is none.
bool give_order(TreeLogic& logic, const Action& action, std::int64_t now, Transcript& transcript);

// The answer to the question that `action` is; compare with `action.text`.
std::string observe(const TreeLogic& logic, const Action& action, std::int64_t now,
                    const Transcript& transcript);

// `text` cut at "; " and sorted: for sequences without an order.
std::string sorted_lines(const std::string& text);

}  // namespace crashworthy

// What a supervision tree does, as a table: one row a behaviour, each a tree, a script and the
// whole sequence of what must be seen. Rows are data, so that they can be run over simulated
// processes (behaviour_test.cc) and over real ones. docs/supervision-behaviours.md is made from
// them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "harness/supervision/spec.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

// How a child behaves. Unless it is told to end, it lives for ever.
struct Conduct {
  enum class Stop { kDies, kExits, kIgnores };
  enum class Ready { kSays, kNever, kCloses, kExits };

  Stop stop = Stop::kDies;  // When asked to end: dies of SIGTERM, exits with `stop_code`, nothing.
  int stop_code = 0;
  Nanoseconds stop_after{0};

  Ready ready = Ready::kSays;  // What a child with readiness does `ready_after` its start.
  int ready_code = 1;          // kExits
  Nanoseconds ready_after{0};
};

struct Action {
  enum class Kind {
    // Of the world.
    kConduct,       // `path` behaves like `conduct` in incarnations that start from now on.
    kStartsFail,    // The next `number` starts of `path` fail.
    kPreparesFail,  // The next `number` hooks `prepare` of `path` fail.
    kExits,         // Its process exits with `number`,
    kDies,          //   or dies of the signal `number`.
    kSilent,        // Its process beats no more.
    kAdvance,       // `time` passes.
    kTogether,      // `together` happens before the tree sees any of it.
    // Of the tree.
    kBoot,
    kStartChild,  // `child` under the supervisor `path`.
    kRestartChild,
    kStopChild,
    kDeleteChild,
    kSuspend,
    kResume,
    kShutdown,
    kKill,
    kCountRestart,
    // Questions; `text` is the answer, as observe() writes it.
    kExpectChildren,  // which_children of the supervisor `path`: "a running #1, b stopped ...".
    kExpectCounts,    // count_children: "2 specs, 1 active, 0 supervisors, 2 workers".
    kExpectChild,     // find: presence, state and incarnation, last end, crash loop.
    kExpectSpec,      // get_child_spec: "permanent worker 5s", "none".
    kExpectBudget,    // What is left of the intensity of the supervisor `path`.
    kExpectEnd,       // How the tree ended: "asked", or "lives".
    kExpectEndText,   // A part of end_text().
    kExpectChain,     // The last event that reads like the first of "a running <- a restart ...".
    kExpectChecked    // check_spec of `tree`: the JSON pointer of its refusal, or "ok".
  };
  Kind kind = Kind::kBoot;
  std::string path;
  std::string text;
  int number = 0;
  Nanoseconds time{0};
  Conduct conduct;
  ChildSpec child;
  SupervisorSpec tree;
  std::vector<Action> together;
};

// An action, and exactly what is seen until the tree is quiet again: events and answers, in order,
// joined by "; " (Transcript writes them).
struct Step {
  Action action;
  std::string seen;
  bool any_order = false;  // Of ends that nothing orders: several processes end at once.
};

struct Behaviour {
  std::string name;                         // CamelCase; says what holds.
  std::string sentence;                     // The same for readers.
  std::vector<std::string> otp_cases = {};  // Of stdlib's supervisor_SUITE.
  std::string compared;                     // With OTP: "same", "different: why", "beyond OTP".
  std::string simulated_only = {};  // Why real processes cannot show it cheaply; empty: they can.
  SupervisorSpec tree = {};         // The leaves run `function` kChildFunction.
  bool hooks = false;               // All children have hooks, which are seen as "hook prepare a".
  std::vector<Step> script = {};
};

inline constexpr std::string_view kChildFunction = "behaviour";

// All rows. Built once.
const std::vector<Behaviour>& behaviours();

// A case of OTP's suite that has no meaning for processes, and why.
struct UnmeaningCase {
  std::string name;
  std::string why;
};
const std::vector<UnmeaningCase>& unmeaning_cases();

// The names of all cases of OTP's suite.
const std::vector<std::string>& otp_suite_cases();

// docs/supervision-behaviours.md.
std::string behaviours_markdown();

}  // namespace crashworthy

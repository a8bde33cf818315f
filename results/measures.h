// Measures: numbers computed from one trial's history (docs/measures.md has the definitions).
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "results/history.h"

namespace crashworthy {

enum class InjectionOutcome { kNone, kConfirmed, kNotActivated, kSkipped, kIndeterminate };
const char* injection_outcome_name(InjectionOutcome outcome);

struct ItemCounts {
  std::int64_t offered = 0;
  std::array<std::int64_t, kItemClassCount> classes{};  // By ItemClass; their sum is `offered`.
  std::int64_t duplicated = 0;
  std::int64_t misplaced = 0;
  std::int64_t torn = 0;             // Of the corrupt ones: the output stops before its end.
  std::int64_t empty = 0;            // Of the corrupt ones: the output has no bytes.
  std::int64_t extra = 0;            // Outputs that belong to no item.
  std::int64_t stale_temporary = 0;  // Files left behind that look unfinished by their names.
  std::int64_t redone = 0;  // Units of work executed again, beyond the first execution of each.

  std::int64_t of(ItemClass c) const { return classes[static_cast<std::size_t>(c)]; }
  bool exact() const;
  ItemCounts& operator+=(const ItemCounts& other);
};

// A value, or why there is none. A censored value never came within the trial; it stays in every
// statistic as "later than seen".
struct Sample {
  std::optional<double> value;
  bool censored = false;
  std::string reason;
  bool outside = false;  // From stamps of the harness alone, where others are the subject's.

  static Sample of(double value) { return {value, false, {}, false}; }
  static Sample never(std::string reason) { return {std::nullopt, true, std::move(reason), false}; }
  static Sample none(std::string reason) { return {std::nullopt, false, std::move(reason), false}; }
};

// The stamps of a trial, CLOCK_MONOTONIC ns. Inside stamps are the subject's through the probe;
// outside ones the harness's.
struct Stamps {
  std::int64_t launched = 0;              // Outside: the subject was started.
  std::optional<std::int64_t> ended;      // Outside: its main process ended by itself.
  std::optional<std::int64_t> activated;  // The fault was exercised.
  std::optional<std::int64_t> detected;   // Inside: the supervisor knew.
  std::optional<std::int64_t> initiated;  // Inside: a replacement was begun.
  std::optional<std::int64_t> up;         // Inside: the replacement accepted work.
  std::optional<std::int64_t>
      first_good;  // Inside: the replacement finished a unit of an item that was judged ok.
  // Outside: a victim or the main process ended badly, outputs stayed away, or a wrong one came.
  std::optional<std::int64_t> first_effect;
};

struct TrialResult {
  int number = 0;
  int block = 0;
  std::string arm;
  std::string fault;  // Its name in the experiment; "none" for the twin.
  std::string directory;
  std::int64_t deliverable = -1;  // Items that the golden run delivered.
  InjectionOutcome injection = InjectionOutcome::kNone;
  std::string injection_reason;
  bool harness_error = false;
  bool complete = false;    // The history has its end event.
  bool ran_to_end = false;  // The subject ended by itself in the way it ends when it has finished.
  bool recovered =
      false;  // Every item that the golden run delivered was delivered with the right content.
  bool tells = false;             // The subject told the probe of its work.
  std::int64_t records_lost = 0;  // Records of the probe that found the ring full.
  bool outputs_missed = false;    // The observer's queue overflowed.
  std::string stall;  // "hang", "slow", "stopped" or "disk": why it was ended; empty: it ended.
  // What running the command again afterwards led to; empty: it was not.
  std::optional<bool> rerun_whole;
  std::int64_t late_publications = 0;  // Outputs that came when the main process was dead.
  ItemCounts items;
  Stamps stamps;
  std::vector<std::int64_t>
      good_outputs;  // Outside: when each item that was judged ok was published, sorted.
  std::map<std::string, Sample>
      measures;  // Those of one trial alone; twins and arms are compared in summary.cc.
};

// Never fails on a readable history: what cannot be computed has its reason in the measure.
TrialResult measure_trial(const TrialHistory& history);

}  // namespace crashworthy

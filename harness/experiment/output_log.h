// What happened to a trial's outputs, kept until its end, and how that enters its history.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "harness/experiment/observer.h"
#include "harness/experiment/process_watch.h"
#include "results/history.h"

namespace crashworthy {

// One thread uses it.
class OutputLog {
 public:
  // Beyond a bound, events that publish nothing are only counted.
  void add(OutputEvent event);
  // The writers of all events become known.
  void add_writers(OutputObserver& observer) { observer.add_writers(events_); }

  // Records of items, by name, for items.bin.
  std::vector<ItemRecord> item_records(const std::map<std::string, std::size_t>& item_of,
                                       const ProcessWatch& processes) const;
  // Lines for what belongs to no item: temporary files, extra outputs. Bounded.
  std::vector<nlohmann::json> other_lines(const std::map<std::string, std::size_t>& item_of,
                                          const ProcessWatch& processes) const;
  // How often each change was seen, and what was not kept.
  nlohmann::json totals() const;
  // Publications after `time_ns`.
  std::int64_t published_after(std::int64_t time_ns) const;
  // The longest time from `from_ns` to `to_ns` in which nothing was published.
  std::int64_t longest_gap(std::int64_t from_ns, std::int64_t to_ns) const;

 private:
  std::vector<OutputEvent> events_;
  std::array<std::int64_t, kOutputChanges> counts_{};
  std::int64_t left_out_ = 0;
};

}  // namespace crashworthy

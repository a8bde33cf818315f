#include "harness/experiment/output_log.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxEvents = 200'000;
constexpr std::size_t kMaxLines = 2'000;

pid_t pid_in_subject(const ProcessWatch& processes, pid_t host_pid) {
  const SeenProcess* process = processes.find(host_pid);
  return process == nullptr ? 0 : process->pid;
}

ItemEvent item_event(OutputChange change) {
  switch (change) {
    case OutputChange::kCreated:
      return ItemEvent::kOutputCreated;
    case OutputChange::kOpened:
      return ItemEvent::kOutputOpened;
    case OutputChange::kMovedOut:
    case OutputChange::kDeleted:
      return ItemEvent::kOutputRemoved;
    case OutputChange::kClosed:
    case OutputChange::kMovedIn:
    case OutputChange::kFound:
      break;
  }
  return ItemEvent::kPublished;
}

// How it was published, as docs/results-format.md numbers it.
std::uint32_t way_of(const Publication& publication) {
  switch (publication.by) {
    case OutputChange::kClosed:
      return 1;
    case OutputChange::kMovedIn:
      return 2;
    case OutputChange::kFound:
      return 3;
    default:
      return 4;
  }
}

}  // namespace

void OutputLog::add(OutputEvent event) {
  ++counts_[static_cast<std::size_t>(event.change)];
  if (events_.size() >= kMaxEvents && !publishes(event.change)) {
    ++left_out_;
    return;
  }
  events_.push_back(std::move(event));
}

std::vector<ItemRecord> OutputLog::item_records(const std::map<std::string, std::size_t>& item_of,
                                                const ProcessWatch& processes) const {
  std::vector<ItemRecord> records;
  const auto publications = publications_among(events_);
  auto next = publications.begin();
  for (std::size_t i = 0; i < events_.size(); ++i) {
    const OutputEvent& event = events_[i];
    const bool published = next != publications.end() && next->first == i;
    const std::uint32_t way = published ? way_of((next++)->second) : 0;
    const auto item = item_of.find(event.name);
    if (item == item_of.end()) continue;
    ItemRecord record;
    record.time_ns = event.time_ns;
    record.item = item->second;
    record.pid = pid_in_subject(processes, event.host_pid);
    record.value = event.host_pid;
    record.event = static_cast<std::uint16_t>(item_event(event.change));
    if (!publishes(event.change)) records.push_back(record);
    if (!published) continue;
    record.event = static_cast<std::uint16_t>(ItemEvent::kPublished);
    record.part = way;
    records.push_back(record);
  }
  return records;
}

std::vector<json> OutputLog::other_lines(const std::map<std::string, std::size_t>& item_of,
                                         const ProcessWatch& processes) const {
  std::vector<json> lines;
  for (const OutputEvent& event : events_) {
    if (item_of.contains(event.name) || event.change == OutputChange::kOpened) continue;
    if (lines.size() >= kMaxLines) break;
    const pid_t pid = pid_in_subject(processes, event.host_pid);
    lines.push_back({{"type", "output"},
                     {"event", output_change_name(event.change)},
                     {"name", event.name},
                     {"host_pid", event.host_pid == 0 ? json(nullptr) : json(event.host_pid)},
                     {"pid", pid == 0 ? json(nullptr) : json(pid)},
                     {"time_ns", event.time_ns}});
  }
  return lines;
}

json OutputLog::totals() const {
  json totals{{"left_out", left_out_}};
  for (std::size_t i = 0; i < kOutputChanges; ++i)
    totals[output_change_name(static_cast<OutputChange>(i))] = counts_[i];
  return totals;
}

std::int64_t OutputLog::published_after(std::int64_t time_ns) const {
  const auto publications = publications_among(events_);
  return std::count_if(publications.begin(), publications.end(),
                       [&](const auto& one) { return one.second.time_ns > time_ns; });
}

std::int64_t OutputLog::longest_gap(std::int64_t from_ns, std::int64_t to_ns) const {
  std::int64_t longest = 0;
  std::int64_t last = from_ns;
  for (const auto& [at, one] : publications_among(events_)) {
    if (one.time_ns > to_ns) break;
    longest = std::max(longest, one.time_ns - last);
    last = one.time_ns;
  }
  return std::max(longest, to_ns - last);
}

}  // namespace crashworthy

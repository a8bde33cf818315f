// A trial's history on disk: the only thing that passes from running to judging
// (docs/results-format.md).
//
//   history.jsonl  control events, one JSON object a line, each written at once
//   items.bin      item events as fixed-width records in blocks with a CRC-32C
//
// Both are append-only. A reader takes everything up to the last whole line or block, so a history
// is of use whenever its writer died.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/file.h"
#include "harness/os/result.h"

namespace crashworthy {

inline constexpr int kSchemaVersion = 1;

// Inside events have the numbers of the probe (docs/subject-events.md); outside ones are the
// observer's and the checker's.
enum class ItemEvent : std::uint16_t {
  kTaken = 1,
  kStarted = 2,
  kDone = 3,
  kFailed = 4,
  kDelivered = 5,
  kWorkerReady = 6,
  kWorkerDied = 7,
  kReplacement = 8,
  kError = 9,
  kSuspected = 10,
  kPublished = 64,   // Outside: the item's output appeared under its final name.
  kJudged = 65,      // Outside: `value` is the ItemClass, decided from the output read again.
  kDuplicated = 66,  // Outside: `value` extra outputs have this item's content.
  kMisplaced =
      67,  // Outside: this item's content lies under another item's name; `value` is that item.
  // Outside, as kPublished, by the process `value` (as we see it; 0: not known): its output's name
  // appeared; it was opened; it was deleted or renamed away.
  kOutputCreated = 68,
  kOutputOpened = 69,
  kOutputRemoved = 70,
  kTorn = 80,   // Outside: the item is corrupt, and its output stops before its end.
  kEmpty = 81,  // Outside: the item is corrupt, and its output has no bytes.
};
const char* item_event_name(ItemEvent event);

enum class ItemClass : std::int64_t {
  kOk = 0,
  kCorrupt = 1,
  kFailed = 2,
  kLost = 3,
  kUnfinished = 4
};
inline constexpr std::size_t kItemClassCount = 5;
const char* item_class_name(ItemClass item_class);

// 48 bytes on disk, little-endian; fields as in the probe's record.
struct ItemRecord {
  std::int64_t time_ns = 0;
  std::uint64_t item = 0;
  std::uint32_t part = 0;
  std::uint32_t attempt = 0;
  std::int32_t pid = 0;
  std::uint32_t worker = 0;
  std::uint32_t incarnation = 0;
  std::uint16_t event = 0;
  std::uint16_t reserved = 0;
  std::int64_t value = 0;

  ItemEvent kind() const { return static_cast<ItemEvent>(event); }
};
static_assert(sizeof(ItemRecord) == 48);

// Writes one trial's history. One thread uses it.
class HistoryWriter {
 public:
  // Creates `directory` (with parents) and both files in it.
  static Result<HistoryWriter> create(const std::filesystem::path& directory);

  // Appends one line. `event` must be an object with "type" and "time_ns".
  Result<void> write(const nlohmann::json& event);
  // The same, and waits until it is on the disk: for an injection that is about to fire.
  Result<void> write_synced(const nlohmann::json& event);
  // Appends the records as one or more blocks.
  Result<void> write_items(std::span<const ItemRecord> records);

 private:
  AppendFile events_;
  AppendFile items_;
};

struct TrialHistory {
  std::filesystem::path directory;
  std::vector<nlohmann::json> events;
  std::vector<ItemRecord> items;
  bool truncated = false;  // A torn last line or block was left out.

  TrialHistory();
  ~TrialHistory();
  TrialHistory(TrialHistory&&) noexcept;
  TrialHistory& operator=(TrialHistory&&) noexcept;
};

// Appends the records of the whole blocks of an items.bin to `out`; false when its end is torn or
// damaged.
bool read_item_blocks(std::string_view data, std::vector<ItemRecord>& out);

// Reads what is there. Fails only when there is no readable header line ("type":"trial") or a file
// cannot be opened.
Result<TrialHistory> read_history(const std::filesystem::path& directory);

// One JSON line a record and event, in order of time: `crashworthy report --dump`.
std::string dump_history(const TrialHistory& history);

}  // namespace crashworthy

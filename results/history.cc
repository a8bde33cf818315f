#include "results/history.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "harness/os/crc32c.h"
#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "items.bin is little-endian");

constexpr std::array<char, 8> kFileMagic{'C', 'R', 'W', 'I', 'T', 'E', 'M', '1'};
constexpr std::uint32_t kBlockMagic = 0x42495743;  // "CWIB"
constexpr std::size_t kMaxBlockRecords = 4096;

struct BlockHeader {
  std::uint32_t magic;
  std::uint32_t count;
  std::uint32_t crc;
  std::uint32_t reserved;
};
static_assert(sizeof(BlockHeader) == 16);

json to_json(const ItemRecord& record) {
  json line{{"type", "item"},
            {"time_ns", record.time_ns},
            {"event", item_event_name(record.kind())},
            {"part", record.part},
            {"attempt", record.attempt},
            {"pid", record.pid},
            {"worker", record.worker},
            {"incarnation", record.incarnation},
            {"value", record.value}};
  line["item"] = record.item == ~std::uint64_t{0} ? json(nullptr) : json(record.item);
  if (record.kind() == ItemEvent::kJudged) {
    line["class"] = item_class_name(static_cast<ItemClass>(record.value));
  }
  return line;
}

}  // namespace

const char* item_event_name(ItemEvent event) {
  switch (event) {
    case ItemEvent::kTaken:
      return "taken";
    case ItemEvent::kStarted:
      return "started";
    case ItemEvent::kDone:
      return "done";
    case ItemEvent::kFailed:
      return "failed";
    case ItemEvent::kDelivered:
      return "delivered";
    case ItemEvent::kWorkerReady:
      return "worker_ready";
    case ItemEvent::kWorkerDied:
      return "worker_died";
    case ItemEvent::kReplacement:
      return "replacement";
    case ItemEvent::kError:
      return "error";
    case ItemEvent::kSuspected:
      return "suspected";
    case ItemEvent::kPublished:
      return "published";
    case ItemEvent::kJudged:
      return "judged";
    case ItemEvent::kDuplicated:
      return "duplicated";
    case ItemEvent::kMisplaced:
      return "misplaced";
    case ItemEvent::kTorn:
      return "torn";
    case ItemEvent::kEmpty:
      return "empty";
    case ItemEvent::kOutputCreated:
      return "output_created";
    case ItemEvent::kOutputOpened:
      return "output_opened";
    case ItemEvent::kOutputRemoved:
      return "output_removed";
  }
  return "unknown";
}

const char* item_class_name(ItemClass item_class) {
  static constexpr std::array<const char*, kItemClassCount> kNames{"ok", "corrupt", "failed",
                                                                   "lost", "unfinished"};
  const auto index = static_cast<std::size_t>(item_class);
  return index < kNames.size() ? kNames[index] : "unknown";
}

Result<HistoryWriter> HistoryWriter::create(const fs::path& directory) {
  if (auto made = make_directories(directory); !made) return made.error();
  HistoryWriter writer;
  auto events = AppendFile::create(directory / "history.jsonl");
  if (!events) return events.error();
  auto items = AppendFile::create(directory / "items.bin");
  if (!items) return items.error();
  writer.events_ = std::move(*events);
  writer.items_ = std::move(*items);
  auto begun = writer.items_.append(std::string_view(kFileMagic.data(), kFileMagic.size()));
  if (!begun) return begun.error();
  return writer;
}

Result<void> HistoryWriter::write(const json& event) {
  CRASHWORTHY_CHECK(event.contains("type") && event.contains("time_ns"), event.dump());
  return events_.append(event.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
}

Result<void> HistoryWriter::write_synced(const json& event) {
  if (auto written = write(event); !written) return written;
  return events_.sync();
}

Result<void> HistoryWriter::write_items(std::span<const ItemRecord> records) {
  while (!records.empty()) {
    const auto block = records.first(std::min(records.size(), kMaxBlockRecords));
    records = records.subspan(block.size());
    const BlockHeader header{kBlockMagic, static_cast<std::uint32_t>(block.size()),
                             crc32c(block.data(), block.size_bytes()), 0};
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes.append(reinterpret_cast<const char*>(block.data()), block.size_bytes());
    if (auto appended = items_.append(bytes); !appended) return appended;
  }
  return {};
}

TrialHistory::TrialHistory() = default;
TrialHistory::~TrialHistory() = default;
TrialHistory::TrialHistory(TrialHistory&&) noexcept = default;
TrialHistory& TrialHistory::operator=(TrialHistory&&) noexcept = default;

bool read_item_blocks(std::string_view data, std::vector<ItemRecord>& out) {
  if (data.size() < kFileMagic.size() ||
      std::memcmp(data.data(), kFileMagic.data(), kFileMagic.size()) != 0) {
    return data.empty();
  }
  data.remove_prefix(kFileMagic.size());
  while (!data.empty()) {
    BlockHeader header{};
    if (data.size() < sizeof header) return false;
    std::memcpy(&header, data.data(), sizeof header);
    data.remove_prefix(sizeof header);
    const std::size_t bytes = std::size_t{header.count} * sizeof(ItemRecord);
    if (header.magic != kBlockMagic || header.count > kMaxBlockRecords || data.size() < bytes)
      return false;
    if (crc32c(data.data(), bytes) != header.crc) return false;
    const std::size_t at = out.size();
    out.resize(at + header.count);
    std::memcpy(out.data() + at, data.data(), bytes);
    data.remove_prefix(bytes);
  }
  return true;
}

Result<TrialHistory> read_history(const fs::path& directory) {
  TrialHistory history;
  history.directory = directory;
  auto lines = read_file(directory / "history.jsonl");
  if (!lines) return lines.error();
  std::size_t at = 0;
  while (at < lines->size()) {
    const std::size_t end = lines->find('\n', at);
    if (end == std::string::npos) break;
    auto parsed = parse_json(lines->substr(at, end - at));
    if (!parsed) break;
    json event = *std::move(parsed);
    const bool usable = event.is_object() && event.contains("type") && event["type"].is_string() &&
                        event.contains("time_ns") && event["time_ns"].is_number_integer();
    if (!usable) break;
    history.events.push_back(std::move(event));
    at = end + 1;
  }
  history.truncated = at < lines->size();
  if (history.events.empty() || history.events.front()["type"] != "trial") {
    return corrupt_error("'" + (directory / "history.jsonl").string() + "' has no header line");
  }
  auto items = read_file(directory / "items.bin");
  if (!items) return items.error();
  if (!read_item_blocks(*items, history.items)) history.truncated = true;
  return history;
}

std::string dump_history(const TrialHistory& history) {
  std::vector<json> lines = history.events;
  for (const ItemRecord& record : history.items) lines.push_back(to_json(record));
  std::stable_sort(lines.begin(), lines.end(), [](const json& a, const json& b) {
    return a["time_ns"].get<std::int64_t>() < b["time_ns"].get<std::int64_t>();
  });
  std::string text;
  for (const json& line : lines)
    text += line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  return text;
}

}  // namespace crashworthy

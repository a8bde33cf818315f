// A history is of use whenever its writer died: torn lines and blocks are left out, whole ones are
// read; damage is seen.
#include "results/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class HistoryFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "crashworthy-history-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { fs::remove_all(directory_); }

  // A history of `blocks` blocks with two records each.
  void write(int blocks) {
    auto writer = HistoryWriter::create(directory_);
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->write({{"type", "trial"}, {"time_ns", 1}, {"trial", 1}}));
    for (int block = 0; block < blocks; ++block) {
      std::vector<ItemRecord> records(2);
      records[0].item = static_cast<std::uint64_t>(block);
      records[0].event = static_cast<std::uint16_t>(ItemEvent::kDone);
      records[0].time_ns = 10 + block;
      ASSERT_TRUE(writer->write_items(records));
    }
    ASSERT_TRUE(writer->write({{"type", "end"}, {"time_ns", 99}, {"outcome", "finished"}}));
  }
  void truncate(const char* file, std::uintmax_t bytes) {
    fs::resize_file(directory_ / file, fs::file_size(directory_ / file) - bytes);
  }

  fs::path directory_;
};

TEST_F(HistoryFiles, ReadsBackWhatWasWritten) {
  write(3);
  auto history = read_history(directory_);
  ASSERT_TRUE(history);
  EXPECT_FALSE(history->truncated);
  EXPECT_EQ(history->events.size(), 2u);
  ASSERT_EQ(history->items.size(), 6u);
  EXPECT_EQ(history->items[4].item, 2u);
}

TEST_F(HistoryFiles, EveryTornEndGivesTheWholeBlocksBeforeIt) {
  write(3);
  const std::uintmax_t block = 16 + 2 * sizeof(ItemRecord);
  for (std::uintmax_t cut = 1; cut < block; ++cut) {
    truncate("items.bin", 1);
    auto history = read_history(directory_);
    ASSERT_TRUE(history);
    EXPECT_TRUE(history->truncated) << cut;
    EXPECT_EQ(history->items.size(), 4u) << cut;
  }
}

TEST_F(HistoryFiles, ATornLineIsLeftOut) {
  write(1);
  truncate("history.jsonl", 3);
  auto history = read_history(directory_);
  ASSERT_TRUE(history);
  EXPECT_TRUE(history->truncated);
  EXPECT_EQ(history->events.size(), 1u);
}

TEST_F(HistoryFiles, AChangedByteIsSeen) {
  write(2);
  std::fstream file(directory_ / "items.bin", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(8 + 16 + 5);
  file.put('\x7f');
  file.close();
  auto history = read_history(directory_);
  ASSERT_TRUE(history);
  EXPECT_TRUE(history->truncated);
  EXPECT_TRUE(history->items.empty());
}

TEST_F(HistoryFiles, WithoutAHeaderLineItIsNoHistory) {
  write(0);
  std::ofstream(directory_ / "history.jsonl") << "{\"type\":\"end\",\"time_ns\":1}\n";
  EXPECT_FALSE(read_history(directory_));
  std::ofstream(directory_ / "history.jsonl") << "";
  EXPECT_FALSE(read_history(directory_));
}

TEST_F(HistoryFiles, DumpIsSortedByTimeAndIsJson) {
  write(2);
  auto history = read_history(directory_);
  ASSERT_TRUE(history);
  std::int64_t last = 0;
  std::istringstream lines(dump_history(*history));
  std::string line;
  std::getline(lines, line);  // Records without a stamp come first.
  for (; std::getline(lines, line);) {
    const json event = json::parse(line);
    EXPECT_GE(event["time_ns"].get<std::int64_t>(), last);
    last = event["time_ns"];
  }
  EXPECT_EQ(last, 99);
}

}  // namespace
}  // namespace crashworthy

// What a run of the program `tiles` is asked to do.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "pipelines/tiles/operations.h"

namespace crashworthy::tiles {

enum class Supervision {
  kNone,      // Threads of one process.
  kIsolate,   // Worker processes that are not replaced.
  kOneForOne  // Worker processes that are replaced; what they held is done again.
};

enum class OutputFormat { kPng, kJpeg, kPpm };

struct Item {
  std::filesystem::path input;
  std::string output;  // A plain file name in the output directory.
  OutputFormat format = OutputFormat::kPng;
};

// Writes finished images, several at a time.
struct Batcher {
  std::string name;
  int concurrency = 1;  // Batches that are being written at once.
  int size = 4;         // Images in a batch, at most.
};

inline constexpr int kMaxBatch = 64;  // A batch's outcome has to fit a job's output.
inline constexpr int kMaxInFlight = 256;

struct Settings {
  std::filesystem::path output;
  Chain chain;
  TileSize tile = 256;
  Supervision supervision = Supervision::kOneForOne;
  int workers = 2;
  int spares = 1;
  int intensity = 100;
  std::chrono::nanoseconds period = std::chrono::seconds(10);
  std::chrono::nanoseconds deadline = std::chrono::minutes(2);
  int producers = 1;    // Images being read at once, at most.
  int max_demand = 10;  // Images between being taken and being delivered, at most.
  std::vector<Batcher> batchers{{"default", 1, 4}};
  std::chrono::nanoseconds batch_timeout = std::chrono::milliseconds(100);
  double slow_percent = 0;
  std::uint64_t frame_bytes = std::uint64_t{256} << 20;
};

}  // namespace crashworthy::tiles

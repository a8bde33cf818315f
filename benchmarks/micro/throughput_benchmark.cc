// throughput-benchmark: what the protection costs while nothing goes wrong: tiles of an image
// filtered by the workers of the crash-isolated pool, and by as many threads of one process. The
// same job function, the same frames, the same allocator settings; they take turns, in random order
// within each round.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <string>
#include <vector>

#include "benchmarks/micro/paired.h"
#include "benchmarks/micro/recovery_job.h"
#include "harness/os/clock.h"
#include "harness/worker/pool.h"

namespace crashworthy::benchmark {
namespace {

using std::chrono::milliseconds;

constexpr int kWarmUp = 2;
constexpr int kImageSide = 2048;
constexpr double kSampleNs = 150e6;  // About how long a sample lasts.
// Below this a job is so short that it waits in a deeper queue and, without keys, shares its
// protection.
constexpr int kSmallTile = 128;

enum class Filters { kLight, kHeavy };

struct Settings {
  int rounds = 50;
  int tile = 256;
  Filters filters = Filters::kLight;
  int workers = 2;
  bool keys = true;
  std::uint64_t seed = 1;
};

struct TileTask {
  FrameRef image;
  std::int32_t x = 0;
  std::int32_t y = 0;
};

// Light: about 0.4 ms for 256 x 256; heavy: a bilateral filter in front of it, some milliseconds.
void filter(const cv::Mat& tile, cv::Mat& result, Filters filters) {
  cv::Mat smooth;
  cv::Mat gray;
  if (filters == Filters::kHeavy) {
    cv::bilateralFilter(tile, smooth, 7, 50, 50);
  } else {
    cv::GaussianBlur(tile, smooth, cv::Size(5, 5), 0);
  }
  cv::cvtColor(smooth, gray, cv::COLOR_BGR2GRAY);
  cv::Canny(gray, result, 50, 150);
}

JobOutput run_tile(const Settings& settings, const Job& job, const JobContext& context) {
  TileTask task;
  std::memcpy(&task, job.arguments.data(), sizeof task);
  auto pixels = context.frame(task.image);
  const std::vector<std::byte> blank(job.item == kNoItem ? kImageSide * kImageSide * 3 : 0);
  if (job.item == kNoItem) pixels = blank;  // The warm-up.
  const cv::Mat image(kImageSide, kImageSide, CV_8UC3, const_cast<std::byte*>(pixels.data()));
  cv::Mat result(settings.tile, settings.tile, CV_8UC1, context.output.data());
  filter(image(cv::Rect(task.x, task.y, settings.tile, settings.tile)), result, settings.filters);
  JobOutput output;
  output.frame_bytes = context.output.size();
  return output;
}

class Filtering {
 public:
  Filtering(const Settings& settings, std::unique_ptr<Executor> executor)
      : settings_(settings), executor_(std::move(executor)) {
    image_ = executor_->allocate_frame(kImageSide * kImageSide * 3);
    cv::Mat pixels(kImageSide, kImageSide, CV_8UC3, image_.data());
    cv::RNG random(7);
    random.fill(pixels, cv::RNG::UNIFORM, 0, 256);
    cv::GaussianBlur(pixels, pixels, cv::Size(0, 0), 8);     // Smooth, as photographs are...
    cv::normalize(pixels, pixels, 0, 255, cv::NORM_MINMAX);  // ...and with edges.
  }

  // Nanoseconds a tile, over `tiles` tiles.
  Result<double> measure(int tiles) {
    const std::int64_t before = now_ns();
    const std::size_t demand = 2 * static_cast<std::size_t>(demand_of(settings_)) *
                               static_cast<std::size_t>(settings_.workers);
    int given = 0, taken = 0;
    while (taken < tiles) {
      while (given < tiles && executor_->in_flight() < demand) submit(given++);
      auto results = executor_->wait(milliseconds(10'000));
      if (!results) return results.error();
      taken += static_cast<int>(results->size());
    }
    return static_cast<double>(now_ns() - before) / tiles;
  }

  static int demand_of(const Settings& settings) { return settings.tile < kSmallTile ? 8 : 4; }

 private:
  void submit(int number) {
    const int across = kImageSide / settings_.tile;
    const TileTask task{image_.ref(), number % across * settings_.tile,
                        number / across % across * settings_.tile};
    Job job;
    job.item = static_cast<std::uint64_t>(number);
    job.arguments.assign(reinterpret_cast<const char*>(&task), sizeof task);
    job.inputs = {image_};
    job.output_bytes =
        static_cast<std::size_t>(settings_.tile) * static_cast<std::size_t>(settings_.tile);
    executor_->submit(std::move(job));
  }

  const Settings settings_;
  std::unique_ptr<Executor> executor_;
  Frame image_;
};

std::unique_ptr<Executor> make_pool(const Settings& settings, const JobFunction& function) {
  PoolOptions options;
  options.workers = settings.workers;
  options.max_demand = Filtering::demand_of(settings);
  options.batch = settings.tile < kSmallTile && !settings.keys ? 8 : 1;
  options.protection_keys = settings.keys;
  options.output_bytes =
      static_cast<std::size_t>(settings.tile) * static_cast<std::size_t>(settings.tile);
  options.frame_bytes = kImageSide * kImageSide * 3 + 256 * frame_extent(options.output_bytes);
  Job warm_up;
  const TileTask task;
  warm_up.arguments.assign(reinterpret_cast<const char*>(&task), sizeof task);
  warm_up.output_bytes = options.output_bytes;
  options.warm_up = warm_up;
  return make_worker_pool(options, function, Probe()).value();
}

Result<nlohmann::json> run(const Settings& settings, bool print) {
  set_up_process();
  const auto function = [&settings](const Job& job, const JobContext& context) {
    return run_tile(settings, job, context);
  };
  Filtering pool(settings, make_pool(settings, function));
  // Last: it starts threads, after which nobody may fork.
  Filtering threads(settings, make_thread_executor(settings.workers, function, Probe(), 256 << 20));
  auto once = threads.measure(64);
  if (!once) return once.error();
  const int tiles = std::clamp(static_cast<int>(kSampleNs / *once), 48, 20000);
  const std::vector<Side> sides = {
      {"threads of one process", [&] { return threads.measure(tiles); }},
      {"pool, isolated", [&] { return pool.measure(tiles); }}};
  auto all = measure_in_turns(sides, settings.rounds, kWarmUp, settings.seed);
  if (!all) return all.error();
  return report(fmt::format("time for each tile of {0} x {0}, {1} work, {2} workers, {3} tiles a "
                            "sample, seed {4}",
                            settings.tile, settings.filters == Filters::kHeavy ? "heavy" : "light",
                            settings.workers, tiles, settings.seed),
                *all, 0, print);
}

}  // namespace
}  // namespace crashworthy::benchmark

int main(int argc, char** argv) {
  namespace bench = crashworthy::benchmark;
  CLI::App app(
      "Tiles filtered by the crash-isolated pool beside as many threads of one process, in turns. "
      "A ratio of 1.02 means that the pool takes 2 % longer.");
  bench::Settings settings;
  bool json = false;
  const std::map<std::string, bench::Filters> kinds = {{"light", bench::Filters::kLight},
                                                       {"heavy", bench::Filters::kHeavy}};
  app.add_option("--pairs", settings.rounds, "Rounds that count")->check(CLI::Range(6, 2000));
  app.add_option("--tile", settings.tile, "Pixels of a tile's side")->check(CLI::Range(16, 1024));
  app.add_option("--work", settings.filters, "light or heavy")
      ->type_name("KIND")
      ->transform(CLI::CheckedTransformer(kinds).description(""));
  app.add_option("--workers", settings.workers, "Of the pool, and threads")
      ->check(CLI::Range(1, 64));
  app.add_flag("!--no-keys", settings.keys,
               "Protect frames by system calls, not by the CPU's keys");
  app.add_option("--seed", settings.seed, "Of the order within the rounds");
  app.add_flag("--json", json, "Print JSON");
  app.footer("Exit codes: 0 measured, 5 it could not be, 64 wrong usage.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 64;
  }
  auto result = bench::run(settings, !json);
  if (!result) {
    std::fprintf(stderr, "throughput-benchmark: error: %s\n", result.error().message.c_str());
    return 5;
  }
  if (json) fmt::print("{}\n", result->dump(1));
  return 0;
}

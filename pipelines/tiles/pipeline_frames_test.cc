// The frames of `tiles`: a worker that is beside itself harms its own image only, images never wait
// for room that does not come, and the memory of the frames is given back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <opencv2/imgcodecs.hpp>

#include "harness/os/file.h"
#include "harness/worker/pool.h"
#include "pipelines/tiles/executors.h"
#include "pipelines/tiles/generate.h"
#include "pipelines/tiles/image_file.h"
#include "pipelines/tiles/items.h"
#include "pipelines/tiles/jobs.h"
#include "pipelines/tiles/pipeline.h"
#include "pipelines/tiles/runtime.h"
#include "pipelines/tiles/sizing.h"
#include "pipelines/tiles/test_images.h"

namespace crashworthy::tiles {
namespace {

namespace fs = std::filesystem;

using ::testing::Gt;
using ::testing::Le;

using Files = std::map<std::string, std::string>;
// Called in the worker once a job is done, before anybody is told.
using Deed = std::function<void(const Job&, const JobContext&)>;

constexpr unsigned char kScribble = 0xEE;

struct Mapping {
  std::byte* data;
  std::size_t size;
  std::string name;
};

// The shared memory to which this process may write now.
std::vector<Mapping> writable_shared() {
  std::vector<Mapping> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    std::string range, rights, offset, device, inode, name;
    words >> range >> rights >> offset >> device >> inode >> name;
    if (rights != "rw-s") continue;
    const std::size_t dash = range.find('-');
    const std::uint64_t first = std::stoull(range.substr(0, dash), nullptr, 16);
    const std::uint64_t last = std::stoull(range.substr(dash + 1), nullptr, 16);
    found.push_back({reinterpret_cast<std::byte*>(first), last - first, name});
  }
  return found;
}

// Writes over all of it whose name has `part` in it; tells how much that was.
std::size_t scribble(const std::string& part) {
  std::size_t bytes = 0;
  for (const Mapping& mapping : writable_shared()) {
    if (mapping.name.find(part) == std::string::npos) continue;
    std::memset(mapping.data, kScribble, mapping.size);
    bytes += mapping.size;
  }
  return bytes;
}

// What the frames of this process's pool take now.
std::uint64_t frame_memory() {
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (fs::read_symlink(entry, gone).string().find("crashworthy-frames") == std::string::npos)
      continue;
    struct stat info {};
    if (::stat(entry.path().c_str(), &info) == 0)
      bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
  }
  return bytes;
}

// A word that workers and their coordinator share.
class SharedWord {
 public:
  SharedWord()
      : word_(static_cast<std::atomic<std::size_t>*>(
            ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  SharedWord(const SharedWord&) = delete;
  SharedWord& operator=(const SharedWord&) = delete;
  ~SharedWord() { ::munmap(static_cast<void*>(word_), 4096); }
  std::atomic<std::size_t>& operator*() const { return *word_; }

 private:
  std::atomic<std::size_t>* word_;
};

class TilesFrames : public ::testing::Test {
 protected:
  struct Run {
    Summary summary;
    Files files;
    PoolStatistics pool;
    std::uint64_t frame_memory = 0;  // At its end, before the pool goes.
  };

  void SetUp() override {
    rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);  // Workers abort here: no core files.
    settings_.chain = *Chain::parse("sharpen");
    settings_.frame_bytes = std::uint64_t{16} << 20;
    settings_.batch_timeout = std::chrono::milliseconds(5);
    settings_.supervision = Supervision::kNone;
  }

  void make_inputs(int count) {
    ASSERT_TRUE(generate_set(directory_ / "in", count, 3));
    items_ = *find_items({(directory_ / "in").string()}, OutputFormat::kPng);
  }
  void make_ppm_outputs() {
    for (Item& item : items_) {
      item.format = OutputFormat::kPpm;
      item.output = fs::path(item.output).replace_extension(".ppm").string();
    }
  }

  Run bare() {
    return run_on([&](const JobFunction& work) -> std::unique_ptr<Executor> {
      return make_thread_executor(settings_.workers, work, Probe(), size_up(settings_).region);
    });
  }
  Run supervised(const Deed& deed = {}) {
    Pool* made = nullptr;
    return run_on(
        [&](const JobFunction& work) -> std::unique_ptr<Executor> {
          auto pool = make_pool(settings_, work, Probe());
          EXPECT_TRUE(pool) << pool.error().message;
          made = pool->get();
          return *std::move(pool);
        },
        deed, &made);
  }

  // Names of the files of `found` that are not as in `expected`.
  static std::vector<std::string> differing(const Files& expected, const Files& found) {
    std::vector<std::string> names;
    for (const auto& [name, content] : expected) {
      const auto at = found.find(name);
      if (at == found.end() || at->second != content) names.push_back(name);
    }
    EXPECT_THAT(found.size(), Le(expected.size()));
    return names;
  }

  TemporaryDirectory directory_;
  Settings settings_;
  std::vector<Item> items_;

  template <typename Make>
  Run run_on(const Make& make, const Deed& deed = {}, Pool* const* pool = nullptr) {
    Run result;
    const fs::path path = directory_ / ("out-" + std::to_string(++outputs_));
    const auto output = OutputDirectory::open(path);
    const Jobs jobs(settings_, items_, *output);
    const auto executor = make([&](const Job& job, const JobContext& context) {
      JobOutput done = jobs.run(job, context);
      if (deed && job.item != kNoItem) deed(job, context);
      return done;
    });
    const std::atomic<int> stop{0};
    result.summary = Pipeline(settings_, items_, *output, *executor, Probe()).run(stop);
    EXPECT_FALSE(result.summary.gave_up) << result.summary.gave_up->message;
    result.frame_memory = frame_memory();
    if (pool != nullptr) result.pool = (*pool)->statistics();
    for (const auto& entry : fs::directory_iterator(path))
      result.files[entry.path().filename()] = read_file(entry.path()).value();
    return result;
  }

 private:
  int outputs_ = 0;
};

// ---- Workers that are beside themselves ----

// Its tile is spoilt: so the scribbling took effect. No other image is, though the pixels and tiles
// of others lay in the same shared memory.
TEST_F(TilesFrames, AWorkerThatWritesOverAllFramesItCanSpoilsItsOwnImageOnly) {
  make_inputs(8);
  settings_.producers = 4;
  const Files expected = bare().files;
  for (const int side : {64, 256}) {
    settings_.tile = side;
    const Run run = supervised([&](const Job& job, const JobContext& context) {
      if (job.item != 3 || job.part != 0) return;
      scribble("crashworthy-frames");
      // A small frame is filled beside the arena.
      std::memset(context.output.data(), kScribble, context.output.size());
    });
    EXPECT_EQ(run.summary.delivered, 8u);
    EXPECT_EQ(differing(expected, run.files), std::vector<std::string>{items_[3].output}) << side;
  }
}

// The reader of one image, with the result of another still before it.
TEST_F(TilesFrames, AReaderThatWritesOverAllFramesAndResultsItCanSpoilsItsOwnImageOnly) {
  make_inputs(8);
  make_ppm_outputs();
  const Files expected = bare().files;
  const Run run = supervised([&](const Job& job, const JobContext&) {
    if (job.item != 5 || job.part < kPartRead || job.part == kPartMerge) return;
    scribble("crashworthy-frames");
    scribble(std::string(kTemporaryPrefix));
  });
  EXPECT_EQ(run.summary.delivered, 8u);
  EXPECT_EQ(differing(expected, run.files), std::vector<std::string>{items_[5].output});
}

// Also over what it tells its coordinator and its guard. If it dies of it, another does the image
// again; if it lives, it may still give an answer that counts, and that spoils its image.
TEST_F(TilesFrames, AWorkerThatWritesOverAllSharedMemoryItCanHarmsNobody) {
  make_inputs(8);
  const Files expected = bare().files;
  for (const bool dies : {true, false}) {
    settings_.deadline = std::chrono::seconds(2);  // A worker without its wits may hang, too.
    const SharedWord once;
    const Run run = supervised([&](const Job& job, const JobContext&) {
      if (job.item != 3 || job.part != 0 || (*once).fetch_add(1) > 0) return;
      scribble("memfd:");
      if (dies) std::abort();
    });
    std::vector<std::string> spoilt = differing(expected, run.files);
    if (!dies) std::erase(spoilt, items_[3].output);
    EXPECT_EQ(spoilt, std::vector<std::string>{});
    EXPECT_EQ(run.summary.delivered, 8u);
    EXPECT_TRUE(!dies || run.pool.worker_deaths > 0);
  }
}

// ---- Room ----

// Frames in which the largest image barely has room: reads wait for tiles, tiles for writers. All
// come to their end.
TEST_F(TilesFrames, ImagesThatBarelyFitAllComeToTheirEnd) {
  fs::create_directories(directory_ / "in");
  for (int i = 0; i < 24; ++i) {
    const cv::Mat image = random_image(300 - i % 5, 280 - i % 3, 3, 256, static_cast<unsigned>(i));
    ASSERT_TRUE(cv::imwrite(directory_ / "in" / ("i" + std::to_string(i) + ".png"), image));
  }
  items_ = *find_items({(directory_ / "in").string()}, OutputFormat::kPng);
  settings_.tile = 64;
  const Files expected = bare().files;
  ASSERT_EQ(expected.size(), 24u);
  settings_.frame_bytes = 300 * 280 * 3;
  settings_.max_demand = 24;
  for (const int producers : {1, 3, 24}) {
    settings_.producers = producers;
    const Run threads = bare();
    EXPECT_EQ(threads.summary.delivered, 24u);
    EXPECT_EQ(differing(expected, threads.files), std::vector<std::string>{});
    for (const std::uint64_t often : {0, 40}) {  // How often a worker dies.
      const Run run = supervised([&](const Job& job, const JobContext& context) {
        if (often > 0 && (job.item * 31 + job.part) % often == 0 && context.attempt == 1)
          ::raise(SIGKILL);
      });
      EXPECT_EQ(run.summary.delivered, 24u);
      EXPECT_EQ(differing(expected, run.files), std::vector<std::string>{});
    }
  }
}

// Frames so full that a read finds room only once the image before it is written.
class OneImageAtATime : public Executor {
 public:
  explicit OneImageAtATime(std::unique_ptr<Executor> executor) : executor_(std::move(executor)) {}
  Frame allocate_frame(std::size_t bytes) override { return executor_->allocate_frame(bytes); }
  Result<void> check(const Job& job) const override { return executor_->check(job); }
  std::uint64_t submit(Job job) override {
    if (job.part == kPartRead) {
      reads_.push_back(std::move(job));
    } else {
      executor_->submit(std::move(job));
    }
    return 0;  // The pipeline knows its jobs by item and part.
  }
  Result<std::vector<JobResult>> wait(std::chrono::milliseconds timeout) override {
    if (!std::exchange(busy_, true)) {
      executor_->submit(std::move(reads_.front()));
      reads_.pop_front();
    }
    auto results = executor_->wait(timeout);
    for (const JobResult& result : *results) {
      if (result.job.part == kPartMerge) busy_ = reads_.empty();
    }
    return results;
  }
  std::size_t in_flight() const override { return executor_->in_flight() + reads_.size(); }
  std::size_t demand() const override { return executor_->demand(); }

 private:
  std::unique_ptr<Executor> executor_;
  std::deque<Job> reads_;
  bool busy_ = false;
};

TEST_F(TilesFrames, ReadsThatWaitForRoomHoldNobodyUp) {
  make_inputs(12);
  const Files expected = bare().files;
  settings_.producers = settings_.max_demand = 12;  // More than there are jobs for all workers.
  settings_.batch_timeout = std::chrono::hours(1);
  const Run run = run_on([&](const JobFunction& work) -> std::unique_ptr<Executor> {
    return std::make_unique<OneImageAtATime>(*make_executor(settings_, work, Probe()));
  });
  EXPECT_EQ(differing(expected, run.files), std::vector<std::string>{});
}

TEST_F(TilesFrames, AnImageInTooManyTilesFailsAlone) {
  make_inputs(3);
  settings_.tile = 1;
  settings_.frame_bytes = std::uint64_t{1} << 20;
  fs::create_directories(directory_ / "small");
  ASSERT_TRUE(cv::imwrite(directory_ / "small/a.png", random_image(9, 9, 3, 256, 1)));
  items_.push_back({directory_ / "small/a.png", "a.png", OutputFormat::kPng});
  const Run run = supervised();
  EXPECT_EQ(run.summary.delivered, 1u);
  EXPECT_EQ(run.summary.failed, 3u);
  EXPECT_EQ(run.files.count("a.png"), 1u);
}

// ---- Memory ----

TEST_F(TilesFrames, TakeNoMoreMemoryHoweverManyImagesThereAre) {
  make_inputs(6);
  settings_.chain = *Chain::parse("blur:5,canny:60:150");
  settings_.max_demand = 3;
  const std::vector<Item> once = items_;
  items_.clear();
  std::uint64_t largest = 0, all = 0;
  for (int i = 0; i < 20; ++i) {
    for (Item item : once) {
      const auto info = inspect(item.input);
      ASSERT_TRUE(info);
      const std::uint64_t bytes = 4 * std::uint64_t(info->width) * std::uint64_t(info->height);
      largest = std::max(largest, bytes);  // With its result.
      all += bytes;
      item.output = std::to_string(i) + item.output;
      items_.push_back(item);
    }
  }
  const Run run = supervised();
  EXPECT_EQ(run.summary.delivered, items_.size());
  // Each of two workers may have had all that was in flight, with gaps.
  const std::uint64_t most = 2 * 3 * largest * 3 / 2;
  ASSERT_THAT(all, Gt(5 * most));
  EXPECT_THAT(run.frame_memory, Le(most));
}

// The room of large ones goes back to the system at once.
TEST_F(TilesFrames, TakeNoMemoryForLargeImagesThatAreDone) {
  fs::create_directories(directory_ / "in");
  const cv::Mat image(2600, 2600, CV_8UC3, cv::Scalar(1, 2, 3));  // 19 MiB.
  ASSERT_TRUE(cv::imwrite(directory_ / "in/large.png", image));
  items_ = *find_items({(directory_ / "in").string()}, OutputFormat::kPng);
  settings_.frame_bytes = std::uint64_t{32} << 20;
  settings_.tile = 4096;
  const Run run = supervised();
  EXPECT_EQ(run.summary.delivered, 1u);
  EXPECT_THAT(run.frame_memory, Le(std::uint64_t{2} << 20));
}

}  // namespace
}  // namespace crashworthy::tiles

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  crashworthy::tiles::set_up_process({}, crashworthy::Probe());  // No threads of OpenCV's own.
  return RUN_ALL_TESTS();
}

// Images that are larger than a process may be: PPM in, PPM out, both mapped, in little memory of
// our own. CRASHWORTHY_LONG=1 takes the full size.
#include <sys/statvfs.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "pipelines/tiles/pipeline.h"
#include "pipelines/tiles/pipeline_test_util.h"
#include "pipelines/tiles/ppm.h"

namespace crashworthy::tiles {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

// RssAnon of a process now, in bytes; 0 when it has ended.
std::uint64_t anonymous_bytes(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssAnon:")) return std::stoull(line.substr(8)) * 1024;
  }
  return 0;
}

// The largest sum of the RssAnon of the program and its workers while it runs.
std::uint64_t peak_anonymous_bytes(TilesRun& run) {
  std::uint64_t peak = 0;
  while (run.running()) {
    std::set<pid_t> pids{run.pid()};
    for (const ProbeRecord& ready : run.all(ProbeEvent::kWorkerReady)) pids.insert(ready.pid);
    std::uint64_t sum = 0;
    for (const pid_t pid : pids) sum += anonymous_bytes(pid);
    peak = std::max(peak, sum);
    ::usleep(5000);
  }
  return peak;
}

class LargeImage : public Tiles {
 protected:
  // Runs the arm over one square image; returns the peak.
  std::uint64_t run_arm(int side, const std::string& arm) {
    const fs::path output = fresh_output();
    TilesRun run(words(output, arm, {"--format", "ppm"}));
    const std::uint64_t peak = peak_anonymous_bytes(run);
    EXPECT_EQ(run.exit_code(), 0) << run.errors();
    EXPECT_EQ(names(files_of_names(output)), std::set<std::string>{"large.ppm"});
    const auto result = MappedImage::open(output / "large.ppm");
    EXPECT_TRUE(result);
    if (result) {
      EXPECT_EQ(result->width(), side);
      EXPECT_EQ(result->height(), side);
    }
    result_ = output / "large.ppm";
    RecordProperty("peak_anonymous_bytes_" + arm, std::to_string(peak));
    std::printf("%s: at most %.1f MiB of anonymous memory in all processes\n", arm.c_str(),
                static_cast<double>(peak) / kMiB);
    return peak;
  }
  // Without their content: they are large.
  static Files files_of_names(const fs::path& directory) {
    Files files;
    for (const auto& entry : fs::directory_iterator(directory)) files[entry.path().filename()];
    return files;
  }
  void make_large(int side) {
    fs::create_directories(inputs());
    ASSERT_TRUE(generate_ppm(inputs() / "large.ppm", side, side, 3));
  }
  fs::path result_;
};

// 192 MiB of pixels: held by anybody, they would be seen.
TEST_F(LargeImage, IsNeverReadIntoMemory) {
  constexpr int kSide = 8192;
  make_large(kSide);
  const auto input = MappedImage::open(inputs() / "large.ppm");
  const auto whole =
      run_whole(*Chain::parse("blur:5,canny:60:150"), input->pixels(), ChannelOrder::kRgb);
  for (const char* arm : {"none", "one_for_one"}) {
    const std::uint64_t peak = run_arm(kSide, arm);
    EXPECT_TRUE(kSanitized || peak < 160 * kMiB) << peak;
    EXPECT_EQ(difference(MappedImage::open(result_)->pixels(), *whole), 0);
  }
}

TEST_F(LargeImage, OfFortyThousandPixelsASide) {
  if (std::getenv("CRASHWORTHY_LONG") == nullptr)
    GTEST_SKIP() << "takes minutes: set CRASHWORTHY_LONG=1";
  struct statvfs room {};
  ASSERT_EQ(::statvfs(directory_.path().c_str(), &room), 0);
  if (room.f_bavail * room.f_frsize < 12 * 1024 * kMiB)
    GTEST_SKIP() << "less than 12 GiB free in the temporary directory";
  make_large(40000);
  EXPECT_LT(run_arm(40000, "one_for_one"), 512 * kMiB);
}

}  // namespace
}  // namespace crashworthy::tiles

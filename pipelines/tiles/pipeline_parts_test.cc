// The coordinator's parts that decide without any process: which images a batch takes and when,
// what goes over the wire, and when a rename is known to have happened.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "harness/os/file.h"
#include "harness/worker/executor.h"
#include "pipelines/tiles/batches.h"
#include "pipelines/tiles/frames.h"
#include "pipelines/tiles/job_wire.h"
#include "pipelines/tiles/output_directory.h"
#include "pipelines/tiles/test_images.h"

namespace crashworthy::tiles {
namespace {

using ::testing::ElementsAre;
using ::testing::Optional;

constexpr std::int64_t kTimeoutNs = 100'000'000;

Batches batches_of(std::vector<Batcher> batchers) {
  Settings settings;
  settings.batchers = std::move(batchers);
  settings.batch_timeout = std::chrono::nanoseconds(kTimeoutNs);
  return Batches(settings);
}

TEST(Batches, LeaveWhenTheyAreFull) {
  Batches batches = batches_of({{"a", 2, 3}});
  batches.add(0, 0);
  batches.add(1, 0);
  EXPECT_FALSE(batches.take(0, false));
  batches.add(2, 0);
  batches.add(3, 0);
  EXPECT_THAT(batches.take(0, false), Optional(ElementsAre(0u, 1u, 2u)));
  EXPECT_FALSE(batches.take(0, false));
  EXPECT_THAT(batches.take(0, true), Optional(ElementsAre(3u)));
  EXPECT_FALSE(batches.take(0, true));
}

TEST(Batches, LeaveWhenTheirFirstImageHasWaitedForTheTimeout) {
  Batches batches = batches_of({{"a", 1, 3}});
  EXPECT_FALSE(batches.due_ns());
  batches.add(0, 50);
  batches.add(1, 70);
  EXPECT_EQ(batches.due_ns(), 50 + kTimeoutNs);
  EXPECT_FALSE(batches.take(49 + kTimeoutNs, false));
  EXPECT_THAT(batches.take(50 + kTimeoutNs, false), Optional(ElementsAre(0u, 1u)));
}

TEST(Batches, OfOneBatcherKeepToItsConcurrency) {
  Batches batches = batches_of({{"a", 1, 1}});
  for (std::uint64_t i = 0; i < 3; ++i) batches.add(i, 0);
  EXPECT_THAT(batches.take(0, false), Optional(ElementsAre(0u)));
  EXPECT_FALSE(batches.take(0, true));
  EXPECT_FALSE(batches.due_ns()) << "nobody is to wake for what cannot leave";
  batches.done(0);
  EXPECT_THAT(batches.take(0, false), Optional(ElementsAre(1u)));
}

TEST(Batches, ImagesGoToTheBatchersInTurn) {
  Batches batches = batches_of({{"a", 1, 2}, {"b", 1, 2}});
  for (std::uint64_t i = 0; i < 4; ++i) batches.add(i, 0);
  EXPECT_THAT(batches.take(0, false), Optional(ElementsAre(0u, 2u)));
  EXPECT_THAT(batches.take(0, false), Optional(ElementsAre(1u, 3u)));
}

TEST(Batches, SuspectsGoAloneAndAtOnce) {
  Batches batches = batches_of({{"a", 5, 3}});
  batches.add(0, 1);
  batches.add_alone(7);
  batches.add_alone(8);
  EXPECT_THAT(batches.take(kTimeoutNs, false), Optional(ElementsAre(8u)));
  EXPECT_THAT(batches.take(kTimeoutNs, false), Optional(ElementsAre(7u)));
  EXPECT_FALSE(batches.take(kTimeoutNs, false));
  EXPECT_THAT(batches.take(kTimeoutNs, true), Optional(ElementsAre(0u)));
}

TEST(JobWire, GivesBackWhatItTook) {
  const std::vector<ImagePlace> places =
      unpack_places(pack(std::vector<ImagePlace>{{1, 2, 3, 4, 3, 1}, {9, 8, 7, 6, 1, 0}}));
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places[1].item, 9u);
  EXPECT_EQ(places[1].height, 6);
  EXPECT_EQ(places[0].mapped, 1u);
  EXPECT_TRUE(unpack_places("half").empty());
}

// A batch of the largest size, each image with a long message, still fits a job's output.
TEST(JobWire, OutcomesFitAJobsOutput) {
  std::vector<WriteOutcome> outcomes(kMaxBatch, {FailureReason::kWrite, std::string(5000, 'x')});
  outcomes[1] = {};
  const std::string bytes = pack(outcomes);
  EXPECT_LE(bytes.size(), kMaxPayload);
  const std::vector<WriteOutcome> found = unpack_outcomes(bytes);
  ASSERT_EQ(found.size(), outcomes.size());
  EXPECT_EQ(found[0].failure, FailureReason::kWrite);
  EXPECT_GT(found[0].message.size(), 200u);
  EXPECT_FALSE(found[1].failure);
  EXPECT_EQ(unpack_outcomes(bytes.substr(0, 12)).size(), 1u);
}

TEST(OutputDirectory, KnowsWhetherItsRenameHasHappened) {
  TemporaryDirectory temporary;
  const auto directory = OutputDirectory::open(temporary / "out");
  ASSERT_TRUE(directory);
  std::ofstream(temporary / "out/a.png") << "of an earlier run";
  std::atomic<std::uint64_t> inode{0};
  EXPECT_FALSE(directory->published("a.png", inode.load()));
  ASSERT_TRUE(directory->write(3, "a.png", "new", inode));
  EXPECT_TRUE(directory->published("a.png", inode.load()));
  EXPECT_EQ(read_file(temporary / "out/a.png").value(), "new");
  // Who redoes a publication that has happened finds it done; one that has not happened fails.
  EXPECT_TRUE(directory->publish(3, "a.png", inode));
  EXPECT_FALSE(directory->publish(4, "b.png", inode));
  EXPECT_FALSE(std::filesystem::exists(directory->part(3)));
}

TEST(Frames, GiveTheMemoryOfLargeImagesBack) {
  constexpr int kSide = 4096;
  auto frames = FrameSlots::create(1, 64 << 20);
  ASSERT_TRUE(frames);
  cv::Mat pixels = frames->input(0, kSide, kSide, 3);
  pixels.setTo(7);
  frames->inode(0).store(5);
  frames->recycle(0, pixels.total() * 3);
  EXPECT_EQ(cv::countNonZero(pixels.reshape(1)), 0) << "the pages are new ones";
  EXPECT_EQ(frames->inode(0).load(), 0u);
  pixels.setTo(7);
  frames->recycle(0, 1000);
  EXPECT_GT(cv::countNonZero(pixels.reshape(1)), 0) << "small ones stay warm";
}

}  // namespace
}  // namespace crashworthy::tiles

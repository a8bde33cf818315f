// The coordinator's parts that decide without any process: which images a batch takes and when,
// what goes over the wire, and when a rename is known to have happened.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "harness/os/file.h"
#include "harness/worker/executor.h"
#include "pipelines/tiles/batches.h"
#include "pipelines/tiles/job_wire.h"
#include "pipelines/tiles/output_directory.h"
#include "pipelines/tiles/sizing.h"
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
  const std::vector<ImagePlace> places = unpack_places(pack(std::vector<ImagePlace>{
      {1, {2, 0, 3, 4}, {5, 0, 6, 7}, 8, 9, 10, 3, 1}, {9, {}, {}, 8, 7, 6, 1, 0}}));
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places[0].pixels.offset, 3u);
  EXPECT_EQ(places[0].tiles.bytes, 7u);
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
  for (const std::string name : {"a.png", "new.png"}) {
    const std::uint64_t replaced = directory->holder(name);
    EXPECT_EQ(replaced == 0, name == "new.png");
    EXPECT_FALSE(directory->published(name, replaced));
    std::ofstream(directory->part(3)) << "half";
    EXPECT_FALSE(directory->published(name, replaced));
    ASSERT_TRUE(directory->write(3, name, "new", replaced));
    EXPECT_TRUE(directory->published(name, replaced));
    EXPECT_EQ(read_file(temporary / ("out/" + name)).value(), "new");
    // Who redoes a publication that has happened finds it done; one that has not happened fails.
    EXPECT_TRUE(directory->publish(3, name, replaced));
    EXPECT_FALSE(std::filesystem::exists(directory->part(3)));
  }
  EXPECT_FALSE(directory->publish(4, "b.png", 0));
  EXPECT_FALSE(directory->publish(4, "a.png", directory->holder("a.png")));
}

// The link is what has the name, not what it leads to.
TEST(OutputDirectory, KnowsWhetherALinkWasReplaced) {
  TemporaryDirectory temporary;
  const auto directory = OutputDirectory::open(temporary / "out");
  ASSERT_TRUE(directory);
  std::ofstream(temporary / "elsewhere") << "kept";
  for (const char* target : {"../elsewhere", "nowhere"}) {
    std::filesystem::remove(temporary / "out/a.png");
    std::filesystem::create_symlink(target, temporary / "out/a.png");
    const std::uint64_t replaced = directory->holder("a.png");
    EXPECT_NE(replaced, 0u);
    ASSERT_TRUE(directory->write(1, "a.png", "new", replaced));
    EXPECT_TRUE(directory->published("a.png", replaced));
  }
  EXPECT_EQ(read_file(temporary / "elsewhere").value(), "kept");
}

// ---- Sizes ----

Settings settings_of(std::uint64_t frame_bytes, const TileSize& tile, const char* chain) {
  Settings settings;
  settings.frame_bytes = frame_bytes;
  settings.tile = tile;
  settings.chain = *Chain::parse(chain);
  return settings;
}

TEST(Sizing, GivesSmallTilesMoreJobsForEachWorker) {
  const auto sized = [](int side) { return size_up(settings_of(1 << 28, side, "gray")); };
  EXPECT_EQ(sized(1).jobs_per_worker, 16);
  EXPECT_EQ(sized(64).jobs_per_worker, 16);
  EXPECT_EQ(sized(128).jobs_per_worker, 4);
  EXPECT_EQ(sized(256).jobs_per_worker, 3);
  EXPECT_EQ(sized(1 << 20).jobs_per_worker, 3);
}

// Whatever a frame may hold, cut into tiles that are not tiny.
TEST(Sizing, HasRoomForTheTilesOfTheLargestImage) {
  for (const std::uint64_t bytes :
       {std::uint64_t{1} << 16, std::uint64_t{1} << 28, std::uint64_t{1} << 36}) {
    for (const char* chain : {"gray", "sharpen"}) {
      const std::uint64_t channels = std::string(chain) == "gray" ? 1 : 3;
      for (const std::uint64_t side : {64, 100, 256, 5000}) {
        const Sizing sizing = size_up(settings_of(bytes, static_cast<int>(side), chain));
        // As many whole tiles as there are, and as many cut ones as a square has at two edges.
        const std::uint64_t whole = bytes / (side * side * channels);
        std::uint64_t edge = 0;
        while (edge * edge < whole) ++edge;
        EXPECT_LE((whole + 2 * edge + 1) * sizing.tile, sizing.tiles)
            << bytes << " " << chain << " " << side;
        EXPECT_LE(sizing.image + sizing.images + 2 * sizing.tiles, sizing.region);
        EXPECT_LE(3 * sizing.image, sizing.region);
      }
    }
  }
}

TEST(Sizing, TakesAFewGibibytesOfAddressesForEachWorker) {
  EXPECT_LT(size_up(settings_of(1 << 28, 256, "sharpen")).region, std::uint64_t{3} << 30);
}

}  // namespace
}  // namespace crashworthy::tiles

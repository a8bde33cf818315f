// A job that writes over all shared memory that it can: it can spoil nothing but its own result.
// What it cannot write ends it by SIGSEGV.
#include <linux/futex.h>

#include <csignal>

#include "harness/os/wait_status.h"
#include "harness/worker/pool_stress_test_util.h"

namespace crashworthy {
namespace {

using namespace test;

enum class Pattern { kRandom, kZeros, kOnes, kNeighbour };
enum class After { kDies, kReturns, kLoops };

// Another cell's bytes, from the mapping beside ours.
const std::byte* neighbour_of(const Mapping& cell) {
  for (const Mapping& other : pool_mappings()) {
    if (other.name != "cells" || other.writable) continue;
    if (other.end == cell.begin) return cell.begin - cell.size();
    if (other.begin == cell.end) return cell.end;
  }
  return nullptr;
}

void scribble(Pattern pattern, std::uint64_t seed) {
  Random random(seed);
  for (const Mapping& mapping : pool_mappings()) {
    if (!mapping.writable) continue;
    const std::byte* neighbour = mapping.name == "cells" ? neighbour_of(mapping) : nullptr;
    if (pattern == Pattern::kNeighbour && neighbour != nullptr) {
      std::memcpy(mapping.begin, neighbour, mapping.size());
      continue;
    }
    for (std::byte* at = mapping.begin; at < mapping.end; at += 8) {
      const std::uint64_t word = pattern == Pattern::kZeros  ? 0
                                 : pattern == Pattern::kOnes ? ~std::uint64_t{0}
                                                             : random.next();
      std::memcpy(at, &word, 8);
    }
  }
}

class PoolScribbles : public ::testing::Test {
 protected:
  PoolScribbles() {
    no_core_files();
    options.workers = 2;
    options.spares = 1;
    options.max_demand = 4;
    options.intensity = kUnlimited;
    options.max_attempts = 0;  // Its conviction bounds what scribbles.
    options.deadline = 300ms;
    options.output_bytes = kMostWords * 8;
    options.frame_bytes = 1 << 20;
  }
  ~PoolScribbles() override { EXPECT_TRUE(childless()); }

  // Each tenth item scribbles, at its first execution or at each. What the others have published
  // before may not have been collected: the coordinator is slow.
  void try_scribblers(Pattern pattern, After after, bool always) {
    const Counters counters;
    PoolUnderTest under(options, [&](const Job& given, const JobContext& context) {
      const bool first = counters[given.item]++ == 0;
      if (given.item % 10 == 3 && (first || always)) {
        scribble(pattern, given.item);
        if (after == After::kDies) ::raise(SIGSEGV);
        while (after == After::kLoops) continue;
      }
      return work(given, context);
    });
    constexpr std::uint64_t kItems = 40;
    Results results;
    for (std::uint64_t i = 0; i < kItems; ++i) {
      under.pool->submit(framed_job(*under.pool, i));
      if (i % 8 != 7) continue;
      ::usleep(1000);
      auto came = under.pool->wait(0ms);
      ASSERT_TRUE(came);
      collect(std::move(*came), results);
    }
    EXPECT_FALSE(finish(*under.pool, results).has_value());
    ASSERT_EQ(results.size(), kItems);
    for (const auto& [key, result] : results) {
      const bool scribbler = key.first % 10 == 3;
      if (!scribbler) {
        EXPECT_TRUE(golden(result)) << "item " << key.first << " " << result.output.message;
        continue;
      }
      EXPECT_TRUE(golden(result) || result.outcome != JobOutcome::kDone) << key.first;
      EXPECT_TRUE(always || result.outcome == JobOutcome::kDone) << result.output.message;
      if (always && after != After::kReturns) {
        EXPECT_NE(result.outcome, JobOutcome::kDone);
        EXPECT_LE(counters[key.first], 12) << "executed without an end";
      }
    }
    EXPECT_TRUE(settle(*under.pool, 1));
  }

  PoolOptions options;
};

TEST_F(PoolScribbles, NoItemButTheScribblerIsTouched) {
  for (const Pattern pattern :
       {Pattern::kRandom, Pattern::kZeros, Pattern::kOnes, Pattern::kNeighbour}) {
    for (const After after : {After::kDies, After::kReturns, After::kLoops}) {
      for (const bool always : {false, true}) {
        if (!long_counts() && always && after == After::kLoops && pattern != Pattern::kOnes) {
          continue;  // Some deadlines each.
        }
        SCOPED_TRACE("pattern " + std::to_string(static_cast<int>(pattern)) + " after " +
                     std::to_string(static_cast<int>(after)) + " always " + std::to_string(always));
        try_scribblers(pattern, after, always);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// One worker; three results wait to be read when the fourth job wipes them. Found long before the
// deadline.
TEST_F(PoolScribbles, ResultsThatWereWipedAreMadeAgainAtOnce) {
  options.workers = 1;
  options.max_demand = 8;
  options.deadline = 30s;
  for (const std::uint64_t at : {1u, 2u, 3u, 5u}) {
    const Counters counters;
    PoolUnderTest under(options, [&](const Job& given, const JobContext& context) {
      while (counters[100] == 0) ::usleep(100);
      if (counters[given.item]++ == 0 && given.item == at) scribble(Pattern::kZeros, 1);
      return work(given, context);
    });
    for (std::uint64_t i = 0; i < 8; ++i) under.pool->submit(framed_job(*under.pool, i));
    counters[100] = 1;
    ::usleep(20'000);
    const std::int64_t before = now_ns();
    Results results;
    EXPECT_FALSE(finish(*under.pool, results).has_value());
    EXPECT_LT(now_ns() - before, 10'000'000'000);
    EXPECT_EQ(results.size(), 8u);
    for (const auto& [key, result] : results) EXPECT_TRUE(golden(result)) << key.first;
    EXPECT_EQ(under.pool->statistics().nonsense, 1u);
  }
}

// ---- What cannot be written ----

enum class Place { kOtherCell, kOrders, kInput, kFinished, kGuardPage, kOtherRegion };

// Set by the job that ran before in the same worker.
FrameRef last_output;

std::byte* address_of(Place place, const Job& given, const JobContext& context) {
  FrameRef input;
  std::memcpy(&input, given.arguments.data(), sizeof input);
  const auto readable = [&](const FrameRef& ref) {
    return const_cast<std::byte*>(context.frame(ref).data());
  };
  switch (place) {
    case Place::kInput:
      return readable(input);
    case Place::kFinished:
      return last_output.bytes == 0 ? nullptr : readable(last_output);
    case Place::kGuardPage:
      return context.output.data() + (context.output.size() + 4095) / 4096 * 4096;
    case Place::kOtherRegion:
      return readable({input.region + 1, 0, 0, 8});
    default:
      break;
  }
  const char* name = place == Place::kOrders ? "orders" : "cells";
  for (const Mapping& mapping : pool_mappings()) {
    if (mapping.name == name && !mapping.writable) return mapping.begin;
  }
  return nullptr;
}

// Of outputs that are opened, and of small ones, which are copied: those lie in no frame.
class PoolWrites : public PoolScribbles, public ::testing::WithParamInterface<bool> {};

TEST_P(PoolWrites, AnywhereElseAreSegmentationFaults) {
  const bool copied = GetParam();
  const std::size_t output_bytes = copied ? 0 : FrameArena::kMostCopied + 4096;
  options.workers = 1;
  options.take_over = false;
  options.output_bytes += output_bytes;
  for (const Place place : {Place::kOtherCell, Place::kOrders, Place::kInput, Place::kFinished,
                            Place::kGuardPage, Place::kOtherRegion}) {
    if (copied && place == Place::kFinished) continue;  // Where it lies, a job is not told.
    SCOPED_TRACE(static_cast<int>(place));
    const Counters counters;
    PoolUnderTest under(options, [&](const Job& given, const JobContext& context) {
      if (counters[given.item]++ == 0 && given.item == 2) {
        std::byte* target = address_of(place, given, context);
        ++counters[100 + (target == nullptr)];
        if (target != nullptr) *const_cast<volatile std::byte*>(target) = std::byte{0xAA};
        ++counters[102];  // Not reached.
      }
      // In the first region there is nothing: the frame is of this cell's.
      for (const Mapping& mapping : pool_mappings()) {
        if (mapping.name == "frames" && mapping.begin <= context.output.data() &&
            context.output.data() < mapping.end) {
          ++counters[103];
        }
      }
      if (copied) return work(given, context);
      FrameRef input;
      std::memcpy(&input, given.arguments.data(), sizeof input);
      const std::byte* base = context.frame({0, 0, 0, 8}).data();
      const auto offset = static_cast<std::uint64_t>(context.output.data() - base);
      const std::size_t region = context.frames->region_bytes();
      last_output = {static_cast<std::uint32_t>(offset / region), 0, offset % region, 8};
      return work(given, context);
    });
    for (std::uint64_t i = 0; i < 6; ++i) {
      Job job = framed_job(*under.pool, i);
      job.output_bytes += output_bytes;
      under.pool->submit(std::move(job));
    }
    Results results;
    EXPECT_FALSE(finish(*under.pool, results).has_value());
    EXPECT_EQ(results.size(), 6u);
    for (const auto& [key, result] : results) EXPECT_TRUE(golden(result)) << key.first;
    EXPECT_EQ(counters[103] == 0, copied) << "where the outputs lie";
    EXPECT_EQ(counters[100], 1) << "it found where to write";
    EXPECT_EQ(counters[102], 0) << "it could write";
    const auto died = under.all(ProbeEvent::kWorkerDied);
    ASSERT_EQ(died.size(), 1u);
    EXPECT_EQ(died[0].item, 2u);
    const auto status = WaitStatus::from_raw(static_cast<int>(died[0].value));
    ASSERT_TRUE(status.signalled());
    EXPECT_EQ(status.signal(), SIGSEGV);
  }
}
INSTANTIATE_TEST_SUITE_P(Outputs, PoolWrites, ::testing::Bool(),
                         [](const auto& each) { return each.param ? "Copied" : "Opened"; });

}  // namespace
}  // namespace crashworthy

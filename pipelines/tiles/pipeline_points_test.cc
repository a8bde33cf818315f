// The program `tiles` under every fault that its points can have: the bare arm suffers it, the
// supervised one does the work again; and the record of the point tells the same as its end.
#include <csignal>

#include "pipelines/tiles/pipeline.h"
#include "pipelines/tiles/pipeline_test_util.h"

namespace crashworthy::tiles {
namespace {

using point::Action;
using point::Firing;
using ::testing::IsEmpty;

struct Crash {
  const char* name;
  Action action;
  int signal;
};
void PrintTo(const Crash& crash, std::ostream* out) { *out << crash.name; }

class TilesAtAPoint : public Tiles {
 protected:
  void SetUp() override { make_inputs(4); }
  static const Firing& firing(const PointTable& points) { return points.memory->firings[0]; }
};

class TilesCrash : public TilesAtAPoint, public ::testing::WithParamInterface<Crash> {
 protected:
  void SetUp() override {
    if (kSanitized &&
        (GetParam().action == Action::kHeapCorrupt || GetParam().action == Action::kStackOverflow))
      GTEST_SKIP() << "the sanitizer has a heap and a stack of its own";
    TilesAtAPoint::SetUp();
  }
};

TEST_P(TilesCrash, EndsTheBareArmAndIsRedoneUnderSupervision) {
  const Files expected = golden();
  for (const char* arm : {"none", "one_for_one"}) {
    PointTable points;
    points.arm("tile.filter", GetParam().action, 2).value = point::kThrowStandard;
    const fs::path output = fresh_output();
    TilesRun run(words(output, arm), &points);
    const WaitStatus status = run.wait();
    if (arm == std::string("none")) {
      ASSERT_TRUE(status.signalled()) << status.describe() << run.errors();
      EXPECT_EQ(status.signal(), GetParam().signal);
      EXPECT_EQ(firing(points).pid, run.pid());
    } else {
      EXPECT_EQ(run.exit_code(), 0) << run.errors();
      EXPECT_EQ(missing(expected, files_of(output)), 0u);
      const auto deaths = run.all(ProbeEvent::kWorkerDied);
      ASSERT_EQ(deaths.size(), 1u);
      EXPECT_EQ(deaths[0].pid, firing(points).pid);
      EXPECT_EQ(WaitStatus::from_raw(static_cast<int>(deaths[0].value)).signal(),
                GetParam().signal);
    }
    ASSERT_EQ(points.memory->firing_count, 1u);
    EXPECT_EQ(firing(points).signal, GetParam().signal) << arm;
    EXPECT_EQ(firing(points).hit, 2u);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TilesCrash,
                         ::testing::Values(Crash{"abort", Action::kAbort, SIGABRT},
                                           Crash{"segv", Action::kSegv, SIGSEGV},
                                           Crash{"bus", Action::kBus, SIGBUS},
                                           Crash{"fpe", Action::kFpe, SIGFPE},
                                           Crash{"ill", Action::kIll, SIGILL},
                                           Crash{"stack_overflow", Action::kStackOverflow, SIGSEGV},
                                           Crash{"heap_corrupt", Action::kHeapCorrupt, SIGABRT},
                                           Crash{"throw", Action::kThrow, SIGABRT}));

TEST_F(TilesAtAPoint, AnExceptionOfOpenCvIsCaughtAndCostsItsItem) {
  for (const char* arm : {"none", "one_for_one"}) {
    PointTable points;
    points.arm("tile.filter", Action::kThrow);
    TilesRun run(words(fresh_output(), arm), &points);
    EXPECT_EQ(run.exit_code(), 1) << run.errors();
    EXPECT_STREQ(firing(points).thrown, "cv::Exception");
    EXPECT_GE(firing(points).caught_ns, firing(points).left_ns);
    EXPECT_GT(firing(points).left_ns, 0);
    const auto failures = run.all(ProbeEvent::kFailed);
    ASSERT_EQ(failures.size(), 1u) << arm;
    EXPECT_EQ(failures[0].item, firing(points).item);
    EXPECT_THAT(run.all(ProbeEvent::kWorkerDied), IsEmpty());
  }
}

TEST_F(TilesAtAPoint, AHangStopsTheBareArmAndIsEndedByTheDeadlineUnderSupervision) {
  const Files expected = golden();
  for (const Action action : {Action::kDeadlock, Action::kSpin}) {
    PointTable points;
    points.arm("tile.filter", action);
    {
      TilesRun bare(words(fresh_output(), "none"), &points);
      // It goes on with its other thread, but never comes to its end.
      EXPECT_FALSE(wait_for_end(open_pidfd(bare.pid()).value().get(), 1500));
      EXPECT_EQ(points.memory->firing_count, 1u);
      EXPECT_EQ(firing(points).left_ns, 0);
    }
    PointTable again;
    again.arm("tile.filter", action);
    const fs::path output = fresh_output();
    TilesRun run(words(output, "one_for_one", {"--deadline", "500ms"}), &again);
    EXPECT_EQ(run.exit_code(), 0) << run.errors();
    EXPECT_EQ(missing(expected, files_of(output)), 0u);
    EXPECT_EQ(again.memory->firing_count, 1u);
  }
}

TEST_F(TilesAtAPoint, ADelayOnlyTakesTime) {
  const Files expected = golden();
  for (const char* arm : {"none", "one_for_one"}) {
    PointTable points;
    points.arm("tile.filter", Action::kSlow).value = 100'000'000;
    const fs::path output = fresh_output();
    TilesRun run(words(output, arm), &points);
    EXPECT_EQ(run.exit_code(), 0) << run.errors();
    EXPECT_EQ(missing(expected, files_of(output)), 0u);
    EXPECT_GE(firing(points).left_ns - firing(points).time_ns, 100'000'000);
  }
}

TEST_F(TilesAtAPoint, AnEarlyExitIsADeathLikeOthers) {
  const Files expected = golden();
  for (const char* arm : {"none", "one_for_one"}) {
    PointTable points;
    points.arm("tile.filter", Action::kExitEarly).value = 5;
    const fs::path output = fresh_output();
    TilesRun run(words(output, arm), &points);
    const bool bare = arm == std::string("none");
    EXPECT_EQ(run.exit_code(), bare ? 5 : 0) << run.errors();
    if (!bare) {
      EXPECT_EQ(missing(expected, files_of(output)), 0u);
    }
    EXPECT_EQ(points.memory->firing_count, 1u);
  }
}

TEST_F(TilesAtAPoint, AFlippedBitAltersExactlyOneResult) {
  const std::vector<std::string> plain{"--ops", "invert"};  // No filter hides it.
  const Files expected = golden(plain);
  for (const char* arm : {"none", "one_for_one"}) {
    PointTable points;
    points.arm("tile.pixels", Action::kBitflip, 3).schedule.seed = 7;
    const fs::path output = fresh_output();
    TilesRun run(words(output, arm, plain), &points);
    EXPECT_EQ(run.exit_code(), 0) << run.errors();
    std::size_t altered = 0;
    for (const auto& [name, content] : files_of(output)) altered += expected.at(name) != content;
    EXPECT_EQ(altered, 1u) << arm;
    EXPECT_EQ(firing(points).before ^ firing(points).after, 1 << firing(points).bit);
  }
}

TEST_F(TilesAtAPoint, APoisonedItemEndsEveryAttemptAndNothingElse) {
  const Files expected = golden();
  for (const char* arm : {"none", "one_for_one"}) {
    PointTable points;
    points.arm("tile.filter", Action::kPoison).item = 2;
    const fs::path output = fresh_output();
    TilesRun run(words(output, arm), &points);
    const WaitStatus status = run.wait();
    for (std::uint32_t i = 0; i < points.memory->firing_count; ++i) {
      EXPECT_EQ(points.memory->firings[i].item, 2u);
      EXPECT_EQ(points.memory->firings[i].signal, SIGABRT);
    }
    if (arm == std::string("none")) {
      EXPECT_TRUE(status.signalled());
      continue;
    }
    EXPECT_EQ(run.exit_code(), 1) << run.errors();
    EXPECT_GE(points.memory->firing_count, 2u) << "it is tried again before it is convicted";
    EXPECT_EQ(missing(expected, files_of(output)), 1u);
    const auto failures = run.all(ProbeEvent::kFailed);
    ASSERT_EQ(failures.size(), 1u);
    EXPECT_EQ(failures[0].item, 2u);
    EXPECT_EQ(failures[0].value, static_cast<std::int64_t>(FailureReason::kPoison));
  }
}

}  // namespace
}  // namespace crashworthy::tiles

// The program `tiles` under faults: what each arm loses, and that nothing under a final name is
// ever torn.
#include <sys/resource.h>

#include <algorithm>

#include "pipelines/tiles/pipeline.h"
#include "pipelines/tiles/pipeline_test_util.h"

namespace crashworthy::tiles {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class TilesUnderFault : public Tiles {
 protected:
  // Kills the worker that begins the n-th job that fits; tells what it began.
  template <typename Fits>
  static std::optional<ProbeRecord> kill_at(TilesRun& run, int n, const Fits& fits) {
    const auto started = run.await([&](const ProbeRecord& record) {
      return is(record, ProbeEvent::kStarted) && fits(record) && --n == 0;
    });
    if (started) ::kill(started->pid, SIGKILL);
    return started;
  }
  static bool any(const ProbeRecord&) { return true; }
  static bool tile(const ProbeRecord& record) { return record.part < kPartRead; }
};

// One image at a time, so whatever the dead worker held was of that image. Slow, so that it surely
// held it.
TEST_F(TilesUnderFault, IsolatedWorkersLoseExactlyWhatTheyHeld) {
  make_inputs(6);
  const Files expected = golden();
  const fs::path output = fresh_output();
  TilesRun run(words(output, "isolate", {"--max-demand", "1", "--slow", "500"}));
  const auto victim =
      kill_at(run, 1, [](const ProbeRecord& record) { return tile(record) && record.item == 2; });
  ASSERT_TRUE(victim);
  EXPECT_EQ(run.exit_code(), 1) << run.errors();
  Files found = files_of(output);
  EXPECT_EQ(missing(expected, found), 1u);
  EXPECT_FALSE(found.contains("image-00002.png"));
  EXPECT_THAT(run.output(), HasSubstr("5 delivered, 0 failed, 1 lost"));
  const auto deaths = run.all(ProbeEvent::kWorkerDied);
  ASSERT_EQ(deaths.size(), 1u);
  EXPECT_EQ(deaths[0].item, 2u);
  EXPECT_THAT(run.all(ProbeEvent::kReplacement), IsEmpty());
}

TEST_F(TilesUnderFault, IsolatedWorkersAllDeadGiveUp) {
  make_inputs(8);
  const Files expected = golden();
  const fs::path output = fresh_output();
  TilesRun run(words(output, "isolate", {"--slow", "300"}));
  ASSERT_TRUE(kill_at(run, 3, [](const ProbeRecord& record) { return record.worker == 0; }));
  ASSERT_TRUE(kill_at(run, 5, [](const ProbeRecord& record) { return record.worker == 1; }));
  EXPECT_EQ(run.exit_code(), 70);
  EXPECT_THAT(run.errors(), HasSubstr("tiles: error: the run ended early: no worker is left"));
  EXPECT_THAT(run.output(), HasSubstr("unfinished"));
  EXPECT_GT(missing(expected, files_of(output)), 0u);
}

TEST_F(TilesUnderFault, SupervisedWorkersKilledAgainAndAgainDeliverAll) {
  make_inputs(16);
  const Files expected = golden();
  for (const char* spares : {"0", "2"}) {
    const fs::path output = fresh_output();
    TilesRun run(words(output, "one_for_one", {"--spares", spares, "--slow", "100"}));
    int kills = 0;
    while (kill_at(run, 1, [&](const ProbeRecord& record) {
      return record.item == static_cast<std::uint64_t>(kills);
    }))
      ++kills;
    EXPECT_EQ(run.exit_code(), 0) << run.errors();
    EXPECT_EQ(kills, 16);
    EXPECT_EQ(missing(expected, files_of(output)), 0u);
    EXPECT_GT(run.all(ProbeEvent::kWorkerDied).size(), 8u);
    EXPECT_THAT(run.all(ProbeEvent::kFailed), IsEmpty());
    EXPECT_EQ(run.all(ProbeEvent::kDelivered).size(), 16u);
  }
}

TEST_F(TilesUnderFault, SupervisedWorkersGiveUpWhenTheIntensityIsSpent) {
  make_inputs(6);
  const fs::path output = fresh_output();
  TilesRun run(words(output, "one_for_one", {"--intensity", "0", "--slow", "300"}));
  ASSERT_TRUE(kill_at(run, 3, any));
  EXPECT_EQ(run.exit_code(), 70);
  EXPECT_THAT(run.errors(), HasSubstr("the worker pool gave up"));
  for (const std::string& name : names(files_of(output))) EXPECT_FALSE(name.starts_with("."));
}

// ---- Fault points ----

TEST_F(TilesUnderFault, AnAbortEndsTheBareArmAndIsRedoneUnderSupervision) {
  make_inputs(8);
  const Files expected = golden();
  for (const char* name : {"tile.read", "tile.filter", "tile.write"}) {
    PointTable bare_points;
    bare_points.abort_at(name, 2);
    const fs::path bare_output = fresh_output();
    TilesRun bare(words(bare_output, "none"), &bare_points);
    EXPECT_TRUE(bare.wait().signalled()) << name;
    EXPECT_EQ(bare.wait().signal(), SIGABRT);
    EXPECT_EQ(bare_points.memory->firing_count, 1u);

    PointTable points;
    points.abort_at(name, 2);
    const fs::path output = fresh_output();
    TilesRun run(words(output, "one_for_one"), &points);
    EXPECT_EQ(run.exit_code(), 0) << name << run.errors();
    EXPECT_EQ(missing(expected, files_of(output)), 0u);
    EXPECT_EQ(points.memory->firing_count, 1u);
    EXPECT_EQ(run.all(ProbeEvent::kWorkerDied).size(), 1u);
    // Its heir and the coordinator may both tell of the one successor.
    const auto told = run.all(ProbeEvent::kReplacement);
    EXPECT_THAT(told, Not(IsEmpty()));
    for (const ProbeRecord& replacement : told) {
      EXPECT_EQ(replacement.worker, told[0].worker) << name;
      EXPECT_EQ(replacement.incarnation, told[0].incarnation) << name;
    }
  }
}

TEST_F(TilesUnderFault, TheAbortOfAFilterHasOpenCvAboveIt) {
  make_inputs(1);
  for (const char* arm : {"none", "one_for_one"}) {
    PointTable points;
    points.abort_at("tile.filter", 1);
    TilesRun run(words(fresh_output(), arm), &points, true);
    run.wait();
    EXPECT_THAT(run.errors(), HasSubstr("libopencv_core")) << arm;
  }
}

TEST_F(TilesUnderFault, WhatKillsItsWorkerAlwaysIsPoison) {
  make_inputs(3);
  PointTable points;
  points.abort_at("tile.filter", 1, 1, 1000);
  const fs::path output = fresh_output();
  TilesRun run(words(output, "one_for_one"), &points);
  EXPECT_EQ(run.exit_code(), 1) << run.errors();
  EXPECT_THAT(files_of(output), IsEmpty());
  const auto failures = run.all(ProbeEvent::kFailed);
  EXPECT_EQ(failures.size(), 3u);
  for (const ProbeRecord& failure : failures)
    EXPECT_EQ(failure.value, static_cast<std::int64_t>(FailureReason::kPoison));
}

// The batch is convicted at its first and second execution; alone, each of its images is fine.
TEST_F(TilesUnderFault, APoisonedBatchCostsItsInnocentImagesNothing) {
  make_inputs(4);
  const Files expected = golden();
  PointTable points;
  points.abort_at("tile.write", 2, 2, 2);
  const fs::path output = fresh_output();
  TilesRun run(words(output, "one_for_one", {"--batch-timeout", "10s"}), &points);
  EXPECT_EQ(run.exit_code(), 0) << run.errors();
  EXPECT_EQ(missing(expected, files_of(output)), 0u);
  EXPECT_EQ(points.memory->firing_count, 2u);
}

// ---- Out of memory ----

rlim_t mapped_bytes(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmSize:")) return std::stoull(line.substr(7)) * 1024;
  }
  return 0;
}

class MemoryCap : public TilesUnderFault {
 protected:
  void SetUp() override {
    if (kSanitized) GTEST_SKIP() << "memory is the sanitizer's affair here";
    make_inputs(16);  // Most are larger than what the heap takes.
  }

  // The process that begins the third job may map nothing more from now on. The limit lies below
  // what it has: buffers that its threads give back meanwhile make no room.
  static pid_t cap(TilesRun& run) {
    int n = 3;
    const auto started = run.await([&](const ProbeRecord& record) {
      return is(record, ProbeEvent::kStarted) && record.worker == 0 && --n == 0;
    });
    if (!started) return 0;
    constexpr rlim_t kLess = 64 << 20;
    const rlimit limit{mapped_bytes(started->pid) - kLess, RLIM_INFINITY};
    EXPECT_EQ(::prlimit(started->pid, RLIMIT_AS, &limit, nullptr), 0);
    return started->pid;
  }

  static void expect_out_of_memory(TilesRun& run, pid_t pid) {
    const auto errors = run.all(ProbeEvent::kError);
    ASSERT_FALSE(errors.empty()) << run.errors();
    for (const ProbeRecord& error : errors) {
      EXPECT_EQ(error.value, -4);
      EXPECT_EQ(error.pid, pid);
      EXPECT_LT(error.worker, 2u);
      EXPECT_EQ(error.incarnation, 1u);
      EXPECT_NE(error.item, kNoItem);
    }
  }
};

TEST_F(MemoryCap, EndsTheBareArm) {
  TilesRun run(words(fresh_output(), "none", {"--slow", "100"}));
  const pid_t victim = cap(run);
  EXPECT_EQ(victim, run.pid());
  const WaitStatus status = run.wait();
  ASSERT_TRUE(status.signalled()) << status.describe();
  EXPECT_EQ(status.signal(), SIGABRT);
  expect_out_of_memory(run, victim);
}

TEST_F(MemoryCap, IsSurvivedUnderSupervision) {
  const Files expected = golden();
  const fs::path output = fresh_output();
  TilesRun run(words(output, "one_for_one", {"--slow", "100"}));
  const pid_t victim = cap(run);
  EXPECT_EQ(run.exit_code(), 0) << run.errors();
  EXPECT_EQ(missing(expected, files_of(output)), 0u);
  expect_out_of_memory(run, victim);
  const auto deaths = run.all(ProbeEvent::kWorkerDied);
  ASSERT_EQ(deaths.size(), 1u);
  EXPECT_EQ(deaths[0].pid, victim);
  EXPECT_EQ(WaitStatus::from_raw(static_cast<int>(deaths[0].value)).signal(), SIGABRT);
}

// ---- Writers ----

// Images large enough that a batch takes a while, and the writer is killed once the first of them
// has its final name.
class BatchWriter : public TilesUnderFault {
 protected:
  void SetUp() override {
    fs::create_directories(inputs());
    for (int i = 0; i < 8; ++i) {
      ASSERT_TRUE(generate_ppm(inputs() / ("p" + std::to_string(i) + ".ppm"), 2000, 1500,
                               static_cast<std::uint64_t>(i)));
    }
    expected_ = golden(kWork);
  }

  fs::path killed_in_the_middle(TilesRun& run, const fs::path& output) {
    const auto writing = run.await([](const ProbeRecord& record) {
      return is(record, ProbeEvent::kStarted) && record.part == kPartMerge;
    });
    EXPECT_TRUE(writing);
    while (run.running() && names(output).empty()) ::usleep(100);
    if (writing) ::kill(writing->pid, SIGKILL);
    return output;
  }
  static std::set<std::string> names(const fs::path& output) {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(output)) {
      const std::string name = entry.path().filename();
      if (!name.starts_with(".")) found.insert(name);
    }
    return found;
  }

  const std::vector<std::string> kWork{"--ops",           "sharpen",     "--max-demand", "8",
                                       "--batcher",       "default:1:8", "--tile",       "512",
                                       "--batch-timeout", "10s"};
  Files expected_;
};

TEST_F(BatchWriter, KilledInTheMiddleOfItsBatchLeavesNothingTorn) {
  const fs::path output = fresh_output();
  TilesRun run(words(output, "isolate", kWork));
  killed_in_the_middle(run, output);
  EXPECT_EQ(run.exit_code(), 1) << run.errors();
  const Files found = files_of(output);
  const std::size_t lost = missing(expected_, found);
  EXPECT_GT(lost, 0u);
  EXPECT_FALSE(found.empty());
  // What had its name already is delivered, though its writer never said so.
  EXPECT_EQ(run.all(ProbeEvent::kDelivered).size(), found.size());
  EXPECT_THAT(run.output(), HasSubstr(std::to_string(found.size()) + " delivered, 0 failed, " +
                                      std::to_string(lost) + " lost"));
}

TEST_F(BatchWriter, KilledInTheMiddleOfItsBatchIsRedoneUnderSupervision) {
  for (const char* format : {"png", "ppm"}) {
    const Files expected = golden({"--ops", "sharpen", "--format", format});
    const fs::path output = fresh_output();
    std::vector<std::string> work = kWork;
    work.insert(work.end(), {"--format", format});
    TilesRun run(words(output, "one_for_one", work));
    killed_in_the_middle(run, output);
    EXPECT_EQ(run.exit_code(), 0) << run.errors();
    EXPECT_EQ(missing(expected, files_of(output)), 0u);
    EXPECT_EQ(run.all(ProbeEvent::kDelivered).size(), 8u);
  }
}

// ---- The coordinator's own end ----

TEST_F(TilesUnderFault, SignalsEndItSoonAndCleanly) {
  make_inputs(8);
  for (const char* arm : {"none", "isolate", "one_for_one"}) {
    for (const int signal : {SIGTERM, SIGINT}) {
      const fs::path output = fresh_output();
      TilesRun run(words(output, arm, {"--slow", "1000", "--format", "ppm"}));
      ASSERT_TRUE(run.await([](const ProbeRecord& record) {
        return is(record, ProbeEvent::kStarted) && record.item == 1;
      }));
      const std::int64_t before = now_ns();
      ::kill(run.pid(), signal);
      const WaitStatus status = run.wait();
      EXPECT_LT(now_ns() - before, 5'000'000'000);
      ASSERT_TRUE(status.signalled()) << status.describe() << run.errors();
      EXPECT_EQ(status.signal(), signal);
      for (const std::string& name : names(files_of(output)))
        EXPECT_FALSE(name.starts_with(".")) << name << " is left";
    }
  }
}

TEST_F(TilesUnderFault, WorkersDieWithTheCoordinator) {
  make_inputs(8);
  TilesRun run(words(fresh_output(), "one_for_one", {"--slow", "1000"}));
  ASSERT_TRUE(run.await(
      [](const ProbeRecord& record) { return is(record, ProbeEvent::kStarted) && tile(record); }));
  std::vector<UniqueFd> workers;
  for (const ProbeRecord& ready : run.all(ProbeEvent::kWorkerReady))
    workers.push_back(open_pidfd(ready.pid).value());
  EXPECT_EQ(workers.size(), 2u);
  ::kill(run.pid(), SIGKILL);
  for (const UniqueFd& worker : workers) EXPECT_TRUE(wait_for_end(worker.get(), 2000));
}

}  // namespace
}  // namespace crashworthy::tiles

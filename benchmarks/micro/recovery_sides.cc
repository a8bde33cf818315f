#include "benchmarks/micro/recovery_sides.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"

namespace crashworthy::benchmark {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kVictimItem = 1'000'000;

// Lets the victim die; when that was.
std::int64_t let_die(const Stage& stage, Death death) {
  const std::int64_t before = now_ns();
  if (death == Death::kKill) {
    ::kill(stage.victim.load(), SIGKILL);
  } else {
    const_cast<Stage&>(stage).go.store(1, std::memory_order_release);
  }
  return before;
}

// From the death to the end that the settings ask for.
double elapsed(const RecoverySettings& settings, const Stage& stage, std::int64_t killed_ns,
               std::int64_t known_ns) {
  const std::int64_t died = settings.death == Death::kKill ? killed_ns : stage.died_ns.load();
  return static_cast<double>((settings.known ? known_ns : stage.redone_ns.load()) - died);
}

}  // namespace

Error too_late(const std::string& what) {
  return {ErrorKind::kTimeout,
          0,
          fmt::format("{} took longer than {} s", what, kRecoveryBoundNs / 1'000'000'000),
          {}};
}

// Smooth, with some edges, as photographs are: on noise, finding edges takes five times as long.
std::vector<std::byte> make_tile() {
  std::vector<std::byte> tile;
  for (int y = 0; y < kTileSide; ++y) {
    for (int x = 0; x < kTileSide; ++x) {
      const bool inside = (x / 64 + y / 64) % 2 == 0;
      for (int channel = 0; channel < 3; ++channel) {
        tile.push_back(static_cast<std::byte>((x + y) / 8 + channel * 16 + (inside ? 90 : 0)));
      }
    }
  }
  return tile;
}

SharedStage::SharedStage()
    : memory_(SharedMemory::create("recovery-stage", sizeof(Stage)).value()) {
  new (memory_.data()) Stage();
}

void SharedStage::clear() const {
  for (auto* word : {&(*this)->go, &(*this)->release}) word->store(0);
  (*this)->victim.store(0);
  (*this)->died_ns.store(0);
  (*this)->redone_ns.store(0);
}

// ---- The pool ----

PoolSide::PoolSide(const RecoverySettings& settings, int spares, bool take_over,
                   const std::vector<std::byte>& tile)
    : settings_(settings), random_(derive_seed(settings.seed, "victim")) {
  PoolOptions options;
  options.workers = settings.workers;
  options.spares = spares;
  options.take_over = take_over;
  options.max_demand = 1;
  options.intensity = 1'000'000;
  options.deadline = std::chrono::minutes(1);
  options.output_bytes = kTileBytes;
  options.frame_bytes = 4 * kTileBytes;
  Job warm_up;
  warm_up.output_bytes = kTileBytes;
  options.warm_up = warm_up;
  spares_ = static_cast<std::size_t>(spares);
  pool_ =
      make_worker_pool(
          options, [this](const Job& job, const JobContext& context) { return run(job, context); },
          Probe())
          .value();
  tile_ = pool_->allocate_frame(kTileBytes);
  std::memcpy(tile_.data(), tile.data(), kTileBytes);
}

Result<double> PoolSide::measure() {
  if (auto settled = settle(); !settled) return settled.error();
  stage_.clear();
  // Others asleep on the workers before it: so the victim is in a random place.
  const auto decoys = random_.below(static_cast<std::uint64_t>(settings_.workers));
  for (std::uint64_t i = 0; i < decoys; ++i) submit(i, {0, Death::kKill, Work::kTrivial, 1});
  submit(kVictimItem, {settings_.memory, settings_.death, settings_.work, 0});
  const std::int64_t until = now_ns() + kRecoveryBoundNs;
  while (stage_->victim.load() == 0) {
    if (now_ns() > until) return too_late("the victim's start");
    if (auto came = pool_->wait(milliseconds(1)); !came) return came.error();
  }
  const std::int64_t killed = let_die(*stage_, settings_.death);
  bool done = false;
  while (!done) {
    auto came = pool_->wait(milliseconds(1000));
    if (!came) return came.error();
    for (const JobResult& result : *came) done = done || result.job.item == kVictimItem;
    if (now_ns() > until) return too_late("the recovery");
  }
  const std::int64_t known = now_ns();
  stage_->release.store(1);
  if (auto rest = pool_->drain(milliseconds(60'000)); !rest) return rest.error();
  return elapsed(settings_, *stage_, killed, known);
}

JobOutput PoolSide::run(const Job& job, const JobContext& context) {
  if (job.item == kNoItem) {  // The warm-up.
    filter_tile(make_tile(), context.output);
    stage_->release.fetch_or(0);  // It touches what jobs do: a page fault takes up to 15 us.
    return {};
  }
  RecoveryTask task;
  std::memcpy(&task, job.arguments.data(), sizeof task);
  FrameRef input;
  std::memcpy(&input, job.arguments.data() + sizeof task, sizeof input);
  run_task(task, context.attempt, *stage_, context.frame(input), context.output);
  JobOutput output;
  if (task.work == Work::kTile) output.frame_bytes = kTileBytes / 3;
  return output;
}

void PoolSide::submit(std::uint64_t item, const RecoveryTask& task) {
  Job job;
  job.item = item;
  job.arguments.assign(reinterpret_cast<const char*>(&task), sizeof task);
  const FrameRef input = tile_.ref();
  job.arguments.append(reinterpret_cast<const char*>(&input), sizeof input);
  if (task.work == Work::kTile) job.output_bytes = kTileBytes;
  pool_->submit(std::move(job));
}

Result<void> PoolSide::settle() {
  const std::int64_t until = now_ns() + kRecoveryBoundNs;
  for (;;) {
    const auto workers = pool_->workers();
    const bool whole =
        std::count(workers.begin(), workers.end(), 0) == 0 && pool_->spares().size() == spares_;
    if (whole) return {};
    if (now_ns() > until) return too_late("the refill");
    if (auto came = pool_->wait(milliseconds(1)); !came) return came.error();
  }
}

// ---- A new program ----

ExecSide::ExecSide(const RecoverySettings& settings, const std::vector<std::byte>& tile)
    : settings_(settings),
      program_(find_helper("recovery-worker").value().string()),
      frame_(SharedMemory::create("recovery-frame", kTileBytes).value()) {
  std::memcpy(frame_.data(), tile.data(), kTileBytes);
}

Result<double> ExecSide::measure() {
  if (pid_ == 0) {
    if (auto started = start(); !started) return started.error();
  }
  stage_.clear();
  const RecoveryTask task{settings_.memory, settings_.death, settings_.work, 0};
  if (auto given = give(task, 1); !given) return given.error();
  const std::int64_t until = now_ns() + kRecoveryBoundNs;
  while (stage_->victim.load() == 0) {
    if (now_ns() > until) return too_late("the victim's start");
    ::usleep(200);
  }
  const std::int64_t killed = let_die(*stage_, settings_.death);
  if (!wait_for_end(pidfd_.get(), kRecoveryBoundNs / 1'000'000)) return too_late("the death");
  end();
  if (auto started = start(); !started) return started.error();
  if (auto given = give(task, 2); !given) return given.error();
  pollfd readable{from_.get(), POLLIN, 0};
  if (::poll(&readable, 1, kRecoveryBoundNs / 1'000'000) != 1) return too_late("the replacement");
  char done = 0;
  if (::read(from_.get(), &done, 1) != 1)
    return Error{ErrorKind::kGone, 0, "the replacement ended", {}};
  return elapsed(settings_, *stage_, killed, now_ns());
}

Result<void> ExecSide::start() {
  std::array<int, 2> in{}, out{};
  if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0) {
    return system_error("make a pipe", errno);
  }
  const UniqueFd theirs_in(in[0]), theirs_out(out[1]);
  to_.reset(in[1]);
  from_.reset(out[0]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, theirs_in.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, theirs_out.get(), STDOUT_FILENO);
  constexpr int kFrame = 10, kStage = 11;
  ::posix_spawn_file_actions_adddup2(&actions, frame_.fd(), kFrame);
  ::posix_spawn_file_actions_adddup2(&actions, stage_.fd(), kStage);
  std::string frame = std::to_string(kFrame), stage = std::to_string(kStage);
  char* const argv[] = {program_.data(), frame.data(), stage.data(), nullptr};
  const int refused = ::posix_spawn(&pid_, program_.c_str(), &actions, nullptr, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (refused != 0) return system_error("start " + program_, refused);
  auto pidfd = open_pidfd(pid_);
  if (!pidfd) return pidfd.error();
  pidfd_ = *std::move(pidfd);
  return {};
}

Result<void> ExecSide::give(const RecoveryTask& task, std::uint32_t attempt) {
  struct {
    RecoveryTask task;
    std::uint32_t attempt;
  } order{task, attempt};
  if (::write(to_.get(), &order, sizeof order) == sizeof order) return {};
  return system_error("give a task", errno);
}

void ExecSide::end() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

}  // namespace crashworthy::benchmark

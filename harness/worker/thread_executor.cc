// Threads of one process: what a C++ engineer writes today, and the baseline of every comparison.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "harness/os/check.h"
#include "harness/worker/executor.h"
#include "harness/worker/run_job.h"

namespace crashworthy {
namespace {

class ThreadExecutor final : public Executor {
 public:
  ThreadExecutor(int threads, JobFunction function, Probe probe, std::size_t frame_bytes)
      : function_(std::move(function)),
        probe_(probe),
        frame_bytes_(frame_bytes),
        frames_(FrameArena::create(kRegions, frame_extent(frame_bytes)).value()) {
    CRASHWORTHY_CHECK(threads > 0, threads);
    CRASHWORTHY_CHECK(function_ != nullptr);
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this, i] { work(static_cast<std::uint32_t>(i)); });
    }
  }

  // Drops what is still queued: current jobs end, then the threads.
  ~ThreadExecutor() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    queued_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Frame allocate_frame(std::size_t bytes) override { return frames_->allocate(kInputs, bytes); }

  Result<void> check(const Job& job) const override {
    return check_job(job, frame_bytes_, "make_thread_executor()'s frame_bytes");
  }

  std::uint64_t submit(Job job) override {
    const auto good = check(job);
    CRASHWORTHY_CHECK(good.ok(), good.error().message);
    std::uint64_t number = 0;
    {
      const std::lock_guard lock(mutex_);
      number = next_number_++;
      queue_.emplace_back(number, std::move(job));
      ++in_flight_;
    }
    queued_.notify_one();
    return number;
  }

  Result<std::vector<JobResult>> wait(std::chrono::milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    // A bound far away is still one: wait_for adds it to the clock, which must not overflow.
    finished_.wait_for(lock, std::min<std::chrono::milliseconds>(timeout, std::chrono::hours(24)),
                       [this] { return !results_.empty(); });
    in_flight_ -= results_.size();
    return std::exchange(results_, {});
  }

  std::size_t in_flight() const override {
    const std::lock_guard lock(mutex_);
    return in_flight_;
  }

  std::size_t demand() const override { return threads_.size(); }

 private:
  struct Taken {
    std::uint64_t number;
    Job job;
    Frame frame;
  };

  // The first job in the queue that there is room for, with its frame. One without room holds
  // nobody up: those behind it may be the ones whose results let go of the room.
  std::optional<Taken> take() {
    for (auto next = queue_.begin(); next != queue_.end(); ++next) {
      Frame frame;
      const std::size_t bytes = next->second.output_bytes;
      if (bytes > 0) frame = frames_->allocate(kOutputs, bytes);
      if (bytes > 0 && !frame) continue;
      Taken taken{next->first, std::move(next->second), std::move(frame)};
      queue_.erase(next);
      return taken;
    }
    return std::nullopt;
  }

  // Empty once the executor ends.
  std::optional<Taken> await_job(std::unique_lock<std::mutex>& lock) {
    for (;;) {
      queued_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return std::nullopt;
      if (auto taken = take()) return taken;
      // Nobody tells when the caller has given frames back, and it is seldom.
      queued_.wait_for(lock, kRetry);
    }
  }

  // noexcept: pthread_exit() in a job ends the process, or the job would never have a result.
  void work(std::uint32_t place) noexcept {
    JobContext context;
    context.who = {place, 1};
    context.frames = frames_.get();
    probe_.emit(ProbeEvent::kWorkerReady, context.who);
    std::unique_lock lock(mutex_);
    for (;;) {
      auto taken = await_job(lock);
      if (!taken) return;
      auto [number, job, frame] = *std::move(taken);
      lock.unlock();
      context.output = {frame.data(), frame.size()};
      JobOutput output = run_job(function_, job, context, probe_);
      const JobOutcome outcome = output.failure ? JobOutcome::kFailed : JobOutcome::kDone;
      frames_->shrink(frame, output.frame_bytes);
      lock.lock();
      results_.push_back(
          {std::move(job), outcome, std::move(output), 1, std::move(frame), number, std::nullopt});
      finished_.notify_one();
    }
  }

  static constexpr std::uint32_t kInputs = 0, kOutputs = 1, kRegions = 2;
  static constexpr std::chrono::microseconds kRetry{200};

  const JobFunction function_;
  const Probe probe_;
  const std::size_t frame_bytes_;
  const std::shared_ptr<FrameArena> frames_;
  mutable std::mutex mutex_;  // Guards all below, except `threads_`.
  std::condition_variable queued_;
  std::condition_variable finished_;
  std::deque<std::pair<std::uint64_t, Job>> queue_;
  std::uint64_t next_number_ = 0;
  std::vector<JobResult> results_;
  std::size_t in_flight_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Executor> make_thread_executor(int threads, JobFunction function, Probe probe,
                                               std::size_t frame_bytes) {
  return std::make_unique<ThreadExecutor>(threads, std::move(function), probe, frame_bytes);
}

}  // namespace crashworthy

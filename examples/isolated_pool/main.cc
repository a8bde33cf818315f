// Image processing that survives its own crashes, complete: eight generated frames are blurred in
// worker processes. One of them writes through a null pointer at its first attempt, which costs
// nothing but time; one aborts whenever it is tried, and is given up. Last, one native function is
// called by itself, and its crash is an error like any other.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "harness/worker/isolated.h"
#include "harness/worker/map.h"
#include "harness/worker/pool.h"

namespace {

using namespace std::chrono_literals;
using crashworthy::Error;
using crashworthy::Job;
using crashworthy::JobContext;
using crashworthy::JobOutcome;
using crashworthy::JobOutput;
using crashworthy::JobResult;
using crashworthy::Result;

constexpr int kWidth = 640, kHeight = 480;
constexpr std::size_t kFrameBytes = std::size_t{kWidth} * kHeight;
constexpr std::size_t kInFlight = 4;
constexpr std::uint64_t kFrames = 8, kCrashesOnce = 3, kPoison = 5;

// A Mat that owns nothing: pixels in shared memory, under OpenCV's name.
cv::Mat header(const std::byte* pixels) {
  return {kHeight, kWidth, CV_8UC1, const_cast<std::byte*>(pixels)};
}

void process(const cv::Mat& input, cv::Mat& output) {
  cv::GaussianBlur(input, output, cv::Size(9, 9), 2);
}

// Runs in a worker. The input is read-only there, and nothing but its own output can it overwrite.
JobOutput blur(const Job& job, const JobContext& context) {
  if (job.item == kCrashesOnce && context.attempt == 1) {
    int* volatile nowhere = nullptr;
    *nowhere = 1;
  }
  if (job.item == kPoison) std::abort();

  crashworthy::FrameRef ref;
  std::memcpy(&ref, job.arguments.data(), sizeof ref);
  const cv::Mat input = header(context.frame(ref).data());
  cv::Mat output = header(context.output.data());
  process(input, output);
  // With another size or type OpenCV would have put its result somewhere else.
  CV_Assert(output.data == reinterpret_cast<uchar*>(context.output.data()));
  JobOutput done;
  done.frame_bytes = kFrameBytes;
  return done;
}

// The picture of a frame: a disk that moves.
void draw(std::uint64_t number, cv::Mat& picture) {
  picture.setTo(32);
  cv::circle(picture, {80 + 60 * static_cast<int>(number), kHeight / 2}, 50, 255, cv::FILLED);
}

Job make_job(std::uint64_t number, crashworthy::Frame frame) {
  cv::Mat picture = header(frame.data());
  draw(number, picture);
  const crashworthy::FrameRef ref = frame.ref();
  Job job;
  job.item = number;
  job.arguments.assign(reinterpret_cast<const char*>(&ref), sizeof ref);
  job.inputs.push_back(std::move(frame));  // There until the result is let go of.
  job.output_bytes = kFrameBytes;
  return job;
}

// Says what came back, and whether it is what should have.
bool print(const JobResult& result) {
  const auto number = result.job.item;
  std::printf("frame %d: ", static_cast<int>(number));
  if (result.outcome != JobOutcome::kDone) {
    std::printf("given up, %s\n", result.output.message.c_str());
    return number == kPoison && result.outcome == JobOutcome::kPoisoned;
  }
  cv::Mat picture(kHeight, kWidth, CV_8UC1), expected;
  draw(number, picture);
  process(picture, expected);
  const bool right = cv::norm(expected, header(result.frame.data()), cv::NORM_INF) == 0;
  std::printf("%s after %u attempt(s)\n", right ? "blurred" : "WRONG", result.attempts);
  return right && number != kPoison && result.attempts == (number == kCrashesOnce ? 2u : 1u);
}

int fail(const Error& error) {
  std::fprintf(stderr, "isolated_pool: error: %s\n", error.message.c_str());
  return 1;
}

}  // namespace

int main() {
  // Workers are forked from this process as it is now: before it has any other thread.
  cv::setNumThreads(1);
  crashworthy::PoolOptions options;
  options.output_bytes = kFrameBytes;
  options.frame_bytes = kInFlight * (kFrameBytes + 8192);  // A guard page lies behind each.
  auto pool = crashworthy::make_worker_pool(options, blur, crashworthy::Probe());
  if (!pool) return fail(pool.error());

  crashworthy::IsolatedFunctions functions;
  functions.add("greet", [](std::string_view name) { return "hello, " + std::string(name); });
  functions.add("decode", [](std::string_view) -> std::string { std::abort(); });
  auto isolation = crashworthy::Isolation::start(functions, {});
  if (!isolation) return fail(isolation.error());

  // From now on threads are welcome. Frames are made as there is room for them, and come in order.
  std::uint64_t next = 0;
  int right = 0;
  crashworthy::MapOptions bounds;
  bounds.in_flight = kInFlight;
  const auto streamed = crashworthy::stream(
      **pool,
      [&]() -> Result<std::optional<Job>> {
        if (next == kFrames) return std::optional<Job>();
        auto frame = (*pool)->allocate_frame(kFrameBytes);
        if (!frame) return crashworthy::usage_error("frame_bytes is too small");
        return std::optional(make_job(next++, std::move(frame)));
      },
      [&](const JobResult& result) -> Result<void> {
        right += print(result) ? 1 : 0;
        return {};
      },
      bounds);
  if (!streamed) return fail(streamed.error());

  const auto greeting = (*isolation)->run("greet", "world");
  if (!greeting) return fail(greeting.error());
  const auto crash = (*isolation)->run("decode", "bytes that nobody can decode", 1s);
  if (crash) return 1;
  std::printf("greet: %s\ndecode: %s\n", greeting->c_str(), crash.error().message.c_str());
  return right == kFrames && crash.error().kind == crashworthy::ErrorKind::kGone ? 0 : 1;
}

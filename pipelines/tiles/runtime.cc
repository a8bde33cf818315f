#include "pipelines/tiles/runtime.h"

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>

#include <opencv2/core/utility.hpp>

#include "faults/point/point.h"
#include "pipelines/tiles/image_file.h"
#include "pipelines/tiles/items.h"
#include "pipelines/tiles/opencv_error.h"

namespace crashworthy::tiles {
namespace {

struct Identity {
  const Job* job = nullptr;
  const JobContext* context = nullptr;
};
thread_local Identity current;
Probe error_probe;

void tell_error(int code) {
  if (current.job == nullptr) return;
  error_probe.emit(ProbeEvent::kError, current.context->who, current.job->item, current.job->part,
                   current.context->attempt, code);
}

// Throws what operator new would have thrown, but not in silence.
[[noreturn]] void on_failed_new() {
  report_out_of_memory();
  throw std::bad_alloc();
}

// Whole images are mapped from the system for themselves and go straight back to it; what a tile
// needs stays in the heap, which is trimmed only of more than some tiles.
// - A process that has finished an image holds none of its memory, whatever the heap looks like: a
//   worker that lives long is as small as a fresh one.
// - Tiles come by the thousand. Their buffers would otherwise be mapped, cleared by the kernel and
//   unmapped for each filter.
// - A process whose address space is limited can go on with the tile in its hands, and then fails
//   where it takes an image: in OpenCV, with an error that says so.
// One arena for all threads: each further one reserves 64 MiB of address space, in which a limited
// process would find room for images still. What the threads wait for it cannot be measured.
void set_allocator_policy(const Settings& settings) {
  constexpr std::size_t kLeast = 256 * 1024;
  constexpr std::size_t kMost = 32 << 20;  // glibc's own bound.
  const auto side = [&](int pixels) {
    return static_cast<std::size_t>(pixels) + 2 * static_cast<std::size_t>(settings.chain.halo());
  };
  const std::size_t tile =
      side(settings.tile.width) * side(settings.tile.height) * 3;  // With its halo, in colour.
  // Twice: 16-bit gradients are the largest buffers. And what cv::fastMalloc adds to align them.
  const std::size_t threshold = std::clamp(2 * tile + 4096, kLeast, kMost);
  ::mallopt(M_MMAP_THRESHOLD, static_cast<int>(threshold));
  ::mallopt(M_TRIM_THRESHOLD, static_cast<int>(std::min(16 * threshold, std::size_t{1} << 30)));
  ::mallopt(M_ARENA_MAX, 1);
}

// Under a limit of the address space the stack cannot grow either, and a process whose stack cannot
// grow dies of SIGSEGV, with no error told. So ours grows now; it never shrinks.
[[gnu::noinline]] void grow_stack() {
  constexpr std::size_t kStack = 512 * 1024;
  volatile char room[kStack];
  for (std::size_t i = 0; i < kStack; i += 4096) room[i] = static_cast<char>(i);
  [[maybe_unused]] const char touched = room[0];
}

constexpr int kLeastSide = 64;  // More than any halo, so that all filters take their usual ways.
constexpr int kMostSide = 256;

cv::Size warm_up_size(const Settings& settings) {
  return {std::clamp(settings.tile.width, kLeastSide, kMostSide),
          std::clamp(settings.tile.height, kLeastSide, kMostSide)};
}

}  // namespace

void set_up_process(const Settings& settings, const Probe& probe) {
  set_allocator_policy(settings);
  grow_stack();
  error_probe = probe;
  watch_opencv_errors();
  set_opencv_observer(tell_error);
  std::set_new_handler(on_failed_new);
  CRASHWORTHY_FAULT_THROWER(
      cv::Exception(cv::Error::StsError, "an injected fault", "fault point", __FILE__, __LINE__));
  // One image after another is what a worker is for; more threads would not exist after a fork.
  cv::setNumThreads(1);
}

void warm_up(const Settings& settings, std::span<std::byte> output) {
  const cv::Size size = warm_up_size(settings);
  const cv::Mat input(size, CV_8UC3, cv::Scalar::all(0));
  cv::Mat result(size, CV_8UC(settings.chain.output_channels(3)));
  const bool fits = output.size() >= result.total() * result.elemSize();
  if (fits) result = cv::Mat(size, result.type(), output.data());
  [[maybe_unused]] const auto done =
      filter_tile(settings.chain, input, cv::Rect({0, 0}, size), result);
  const cv::Mat picture = result(cv::Rect(0, 0, kLeastSide, kLeastSide)).clone();
  for (const OutputFormat format : {OutputFormat::kPng, OutputFormat::kJpeg}) {
    const auto bytes = encode_image(format_extension(format), picture);
    if (bytes) [[maybe_unused]]
      const auto image = decode_image(*bytes);
  }
}

Job warm_up_job(const Settings& settings) {
  Job job;
  job.output_bytes = std::min<std::uint64_t>(std::uint64_t(warm_up_size(settings).area()) *
                                                 std::uint64_t(settings.chain.output_channels(3)),
                                             settings.frame_bytes);
  return job;
}

CurrentJob::CurrentJob(const Job& job, const JobContext& context) { current = {&job, &context}; }
CurrentJob::~CurrentJob() { current = {}; }

}  // namespace crashworthy::tiles

#include "benchmarks/micro/recovery_job.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "harness/os/clock.h"

namespace crashworthy::benchmark {
namespace {

void take_memory(std::uint64_t bytes) {
  if (bytes == 0) return;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  // As a heap of many small objects would be: 4 KB pages.
  ::madvise(memory, bytes, MADV_NOHUGEPAGE);
  auto* first = static_cast<volatile std::byte*>(memory);
  for (std::uint64_t i = 0; i < bytes; i += 4096) first[i] = std::byte{1};
}

[[noreturn]] void die(const RecoveryTask& task, Stage& stage) {
  take_memory(task.memory);
  stage.victim.store(::getpid());
  while (stage.go.load(std::memory_order_acquire) == 0) continue;
  stage.died_ns.store(now_ns());
  if (task.death == Death::kAbort) std::abort();
  for (;;) *static_cast<volatile int*>(nullptr) = 1;
}

}  // namespace

void set_up_process() {
  cv::setNumThreads(1);
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 256 << 20);
  ::mallopt(M_TOP_PAD, 1 << 20);
}

void filter_tile(std::span<const std::byte> input, std::span<std::byte> output) {
  const cv::Mat tile(kTileSide, kTileSide, CV_8UC3, const_cast<std::byte*>(input.data()));
  cv::Mat result(kTileSide, kTileSide, CV_8UC1, output.data());
  cv::Mat blurred;
  cv::Mat gray;
  cv::GaussianBlur(tile, blurred, cv::Size(5, 5), 0);
  cv::cvtColor(blurred, gray, cv::COLOR_BGR2GRAY);
  cv::Canny(gray, result, 50, 150);
}

void run_task(const RecoveryTask& task, std::uint32_t attempt, Stage& stage,
              std::span<const std::byte> input, std::span<std::byte> output) {
  if (task.decoy != 0) {
    while (stage.release.load() == 0) ::usleep(500);
    return;
  }
  if (attempt == 1) die(task, stage);
  if (task.work == Work::kTile) filter_tile(input, output);
  // That the codecs are linked at all is not to depend on the linker's mood.
  if (stage.go.load() == 77) [[maybe_unused]]
    const bool known = cv::haveImageReader("no such file");
  stage.redone_ns.store(now_ns());
}

}  // namespace crashworthy::benchmark

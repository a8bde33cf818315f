// plain_opencv: a pipeline as a C++ engineer writes it: OpenCV, and no thought of faults.
//
//   plain_opencv IN OUT [ROUNDS [PAUSE_MS]]
//
// Each image of IN is decoded, blurred, encoded as PNG beside its name in OUT and renamed. A thread
// is made for each item. An image that cannot be read or written is told on stderr, and the program
// goes on with the next one; then it ends with 1. An exception ends it.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace fs = std::filesystem;

long done = 0, errors = 0;

void refused(const fs::path& item, const char* what) {
  ++errors;
  std::fprintf(stderr, "plain: %s: %s failed\n", item.filename().c_str(), what);
}

void process(const fs::path& item, const fs::path& out) {
  const cv::Mat image = cv::imread(item.string());
  if (image.empty()) return refused(item, "imread");
  cv::Mat blurred;
  std::thread work([&] { cv::GaussianBlur(image, blurred, {9, 9}, 0); });
  work.join();
  const fs::path part = out / ("part_" + item.stem().string() + ".png");
  if (!cv::imwrite(part.string(), blurred)) return refused(item, "imwrite");
  fs::rename(part, out / (item.stem().string() + ".png"));
  ++done;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: plain_opencv IN OUT [ROUNDS [PAUSE_MS]]\n");
    return 64;
  }
  cv::setNumThreads(1);
  const long rounds = argc > 3 ? std::atol(argv[3]) : 1;
  const std::chrono::milliseconds pause(argc > 4 ? std::atol(argv[4]) : 0);
  const std::vector<fs::path> items(fs::directory_iterator(argv[1]), {});
  for (long round = 0; round < rounds; ++round) {
    for (const fs::path& item : items) {
      process(item, argv[2]);
      std::this_thread::sleep_for(pause);
    }
  }
  std::printf("%ld done, %ld errors\n", done, errors);
  return errors == 0 ? 0 : 1;
}

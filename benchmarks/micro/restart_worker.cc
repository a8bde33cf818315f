// What restart-benchmark kills: says when its main began, then waits to be killed. Built twice,
// once with OpenCV's image codecs linked, as a small worker and as one that takes long to load.
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>

#include "harness/os/clock.h"
#ifdef CRASHWORTHY_WITH_OPENCV
#include <opencv2/imgcodecs.hpp>
#endif

int main() {
  constexpr int kStampDescriptor = 3;
  const std::int64_t stamp = crashworthy::now_ns();
#ifdef CRASHWORTHY_WITH_OPENCV
  if (cv::haveImageWriter(".none")) return 1;  // So that the linker keeps the library.
#endif
  if (::write(kStampDescriptor, &stamp, sizeof stamp) != sizeof stamp) return 1;
  for (;;) ::pause();
}

// The one place where errors of OpenCV are heard of, and where its exceptions end.
#pragma once

#include <array>
#include <string>
#include <utility>

#include <opencv2/core.hpp>

#include "harness/os/result.h"

namespace crashworthy::tiles {

// What OpenCV reported last on this thread, before it threw: its image decoders swallow some
// exceptions, with the reason in them.
struct OpenCvReport {
  int code = 0;  // 0: nothing since the last clear.
  std::array<char, 256> text{};
};
OpenCvReport& last_opencv_report();

// Hears of every error before the exception travels, on the thread where it happened; it must not
// throw.
using OpenCvObserver = void (*)(int code);

// Makes OpenCV report its errors here, in the whole process and from now on (cv::redirectError, of
// which there is only one). OpenCV then no longer prints them to stderr by itself; it still throws
// them. Safe from any thread, and cheap the second time.
void watch_opencv_errors();

// Sets the one observer, before any thread uses OpenCV; null for none.
void set_opencv_observer(OpenCvObserver observer);

// For a new_handler: reports cv::Error::StsNoMem as OpenCV does where its own allocator fails, for
// OpenCV's containers take their memory from operator new. Allocates nothing.
void report_out_of_memory();

// `error` as a kCorrupt Error of one line: "<doing>: OpenCV: <its text>".
Error opencv_error(const std::string& doing, const cv::Exception& error);

// Calls `work`, which returns a Result, and turns a cv::Exception into an Error.
// cv::Error::StsNoMem and every other exception pass: a process that is out of memory is not to go
// on as if one image were bad.
template <typename Work>
auto guard_opencv(const std::string& doing, Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const cv::Exception& error) {
    if (error.code == cv::Error::StsNoMem) throw;
    return opencv_error(doing, error);
  }
}

}  // namespace crashworthy::tiles

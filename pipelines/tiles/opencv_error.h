// The one place where exceptions of OpenCV end.
#pragma once

#include <string>
#include <utility>

#include <opencv2/core.hpp>

#include "harness/os/result.h"

namespace crashworthy::tiles {

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

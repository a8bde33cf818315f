#include "pipelines/tiles/opencv_error.h"

#include <atomic>
#include <cstdio>
#include <mutex>

namespace crashworthy::tiles {
namespace {

thread_local OpenCvReport last_report;
std::atomic<OpenCvObserver> observer{nullptr};

int note_error(int code, const char*, const char* text, const char*, int, void*) {
  last_report.code = code;
  std::snprintf(last_report.text.data(), last_report.text.size(), "%s", text);
  if (const OpenCvObserver tell = observer.load(std::memory_order_acquire)) tell(code);
  return 0;
}

}  // namespace

OpenCvReport& last_opencv_report() { return last_report; }

void watch_opencv_errors() {
  static std::once_flag once;
  std::call_once(once, [] { cv::redirectError(note_error); });
}

void set_opencv_observer(OpenCvObserver wanted) {
  observer.store(wanted, std::memory_order_release);
}

void report_out_of_memory() {
  note_error(cv::Error::StsNoMem, nullptr, "operator new failed", nullptr, 0, nullptr);
}

Error opencv_error(const std::string& doing, const cv::Exception& error) {
  // OpenCV's texts have lines that begin with '>' and runs of blanks; an error of ours is one line.
  std::string text;
  bool line_start = true;
  for (const char c : error.err) {
    const bool blank = c == ' ' || c == '\n' || c == '\r' || c == '\t';
    if (c == '\n') line_start = true;
    if (!blank && !(c == '>' && line_start)) {
      text += c;
      line_start = false;
    } else if (!text.empty() && text.back() != ' ') {
      text += ' ';
    }
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return corrupt_error(
      doing + ": OpenCV: " + (text.empty() ? "error " + std::to_string(error.code) : text));
}

}  // namespace crashworthy::tiles

#include "pipelines/tiles/opencv_error.h"

namespace crashworthy::tiles {

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

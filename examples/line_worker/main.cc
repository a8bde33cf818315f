// A worker that halves images: reads items on stdin, answers on stdout (docs/worker-protocol.md).
#include <cstdlib>
#include <iostream>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <sstream>
#include <string>

namespace {

std::string decode(const std::string& path) {
  std::string decoded;
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '%' && i + 2 < path.size()) {
      decoded += static_cast<char>(std::strtol(path.substr(i + 1, 2).c_str(), nullptr, 16));
      i += 2;
    } else {
      decoded += path[i];
    }
  }
  return decoded;
}

// An empty string, or why not. A crash in here costs this item's attempt alone.
std::string halve(const std::string& input, const std::string& output) try {
  const cv::Mat image = cv::imread(input, cv::IMREAD_COLOR);
  if (image.empty()) return "unable to read " + input;
  cv::Mat half;
  cv::resize(image, half, {}, 0.5, 0.5, cv::INTER_AREA);
  return cv::imwrite(output, half) ? "" : "unable to write " + output;
} catch (const cv::Exception& failure) {
  return failure.err;
}

}  // namespace

int main() {
  std::cout << "ready" << std::endl;  // endl flushes: a line that is held back was not said.
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::string word, item, attempt, input, output;
    fields >> word >> item >> attempt >> input >> output;
    if (word != "item") continue;
    std::cout << "started " << item << std::endl;
    const std::string failure = halve(decode(input), decode(output));
    if (failure.empty()) {
      std::cout << "done " << item << std::endl;
    } else {
      std::cout << "failed " << item << " " << failure << std::endl;
    }
  }
}

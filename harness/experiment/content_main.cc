// crashworthy-content LIST: prints the canonical content of each file named in LIST (paths ended by
// NUL), a line each, at once.
//
// A process of its own, because it decodes what a crashing program left behind.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdio>
#include <filesystem>
#include <opencv2/imgcodecs.hpp>
#include <string>
#include <vector>

#include "harness/os/file.h"

namespace {

std::string hexadecimal(XXH128_hash_t hash) {
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

bool looks_like_image(const std::string& bytes) {
  static const std::string kMagics[] = {std::string("\x89PNG\r\n\x1a\n", 8),
                                        "\xff\xd8\xff",
                                        std::string("II*\0", 4),
                                        std::string("MM\0*", 4),
                                        "RIFF",
                                        "BM",
                                        "P5",
                                        "P6"};
  for (const std::string& magic : kMagics) {
    if (bytes.starts_with(magic)) return true;
  }
  return false;
}

std::string content_of(const std::string& path) {
  const auto bytes = crashworthy::read_file(path);
  if (!bytes) return "undecodable";
  if (!looks_like_image(*bytes))
    return "bytes:" + hexadecimal(XXH3_128bits(bytes->data(), bytes->size()));
  cv::Mat image;
  try {
    const cv::Mat encoded(1, static_cast<int>(bytes->size()), CV_8U,
                          const_cast<char*>(bytes->data()));
    image = cv::imdecode(encoded, cv::IMREAD_UNCHANGED);
  } catch (const cv::Exception&) {
    return "undecodable";
  }
  if (image.empty()) return "undecodable";
  if (!image.isContinuous()) image = image.clone();
  const std::string shape = std::to_string(image.cols) + "x" + std::to_string(image.rows) + ":" +
                            std::to_string(image.type()) + ":";
  return "pixels:" + shape +
         hexadecimal(XXH3_128bits(image.data, image.total() * image.elemSize()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: crashworthy-content LIST\n");
    return 64;
  }
  const auto list = crashworthy::read_file(argv[1]);
  if (!list) return 64;
  for (std::size_t at = 0; at < list->size(); at = list->find('\0', at) + 1) {
    std::printf("%s\n", content_of(list->c_str() + at).c_str());
    std::fflush(stdout);
  }
  return 0;
}

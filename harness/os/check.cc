#include "harness/os/check.h"

#include <cstdio>
#include <cstdlib>

namespace crashworthy {

void check_failed(const char* file, int line, const char* condition, const std::string& values) {
  std::fprintf(stderr, "crashworthy: bug: %s:%d: %s is false:%s\n", file, line, condition,
               values.c_str());
  std::abort();
}

}  // namespace crashworthy

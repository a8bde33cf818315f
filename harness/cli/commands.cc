#include "harness/cli/commands.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace crashworthy {

int fail(const Error& error) {
  std::fprintf(stderr, "crashworthy: error: %s\n", error.message.c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "  %s\n", error.hint.c_str());
  switch (error.kind) {
    case ErrorKind::kUsage:
      return 64;
    case ErrorKind::kMissing:
      return 77;
    case ErrorKind::kIncomparable:
      return 4;
    case ErrorKind::kNoData:
      return 3;
    default:
      return 5;
  }
}

void end_by_signal(int signal) {
  std::fflush(stdout);
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

bool use_colour() { return ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr; }

}  // namespace crashworthy

// crashworthy-content LIST: prints what each file named in LIST (paths ended by NUL) contains, a
// line each, at once: STATE TAB TYPE TAB CANONICAL TAB WHY.
//
// A process of its own, because it decodes what a crashing program left behind: a file that makes
// it crash, or takes too long, ends this process and no other.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "harness/experiment/content_ladder.h"
#include "harness/os/file.h"

namespace {

constexpr unsigned kSecondsPerFile = 60;
constexpr rlim_t kMemory = rlim_t{4} << 30;

// Libraries print what they think of a file: only answers may reach our stdout.
std::FILE* take_stdout() {
  const int answers = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  if (answers < 0 || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return nullptr;
  return ::fdopen(answers, "w");
}

// A small file may claim to be a huge picture.
void bound_memory() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // They reserve terabytes.
  const rlimit limit{kMemory, kMemory};
  (void)::setrlimit(RLIMIT_AS, &limit);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: crashworthy-content LIST\n");
    return 64;
  }
  const auto list = crashworthy::read_file(argv[1]);
  if (!list) {
    std::fprintf(stderr, "crashworthy-content: error: %s\n", list.error().message.c_str());
    return 64;
  }
  std::FILE* answers = take_stdout();
  if (answers == nullptr) return 5;
  bound_memory();
  for (std::size_t at = 0; at < list->size(); at = list->find('\0', at) + 1) {
    ::alarm(kSecondsPerFile);  // Its default action ends us.
    const crashworthy::Content content = crashworthy::content::read_content(list->c_str() + at);
    std::fprintf(answers, "%s\t%s\t%s\t%s\n", crashworthy::content_state_name(content.state),
                 content.type.c_str(), content.canonical.c_str(), content.why.c_str());
    std::fflush(answers);
  }
  return 0;
}

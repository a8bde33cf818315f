// Decoding by programs that may be installed: poppler's for documents, ffmpeg for films.
#define XXH_INLINE_ALL
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "harness/experiment/content_ladder.h"
#include "harness/os/unique_fd.h"

namespace crashworthy::content {
namespace {

// Two such programs, and our own work, fit into the time that a file has.
constexpr const char* kSeconds = "25";
constexpr int kNotFound = 127;  // Of timeout(1).
constexpr std::size_t kMostErrors = 4096;

struct Pipe {
  UniqueFd read, write;
};

Pipe make_pipe() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return {};
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// timeout(1) bounds it, so that it does not outlive us.
pid_t start(const std::vector<std::string>& argv, const Pipe& out, const Pipe& err) {
  std::vector<std::string> words{"timeout", "--kill-after=1", kSeconds};
  words.insert(words.end(), argv.begin(), argv.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, out.write.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, err.write.get(), STDERR_FILENO);
  pid_t pid = -1;
  if (::posix_spawnp(&pid, words[0].c_str(), &actions, nullptr, pointers.data(), environ) != 0)
    pid = -1;
  ::posix_spawn_file_actions_destroy(&actions);
  return pid;
}

// Reads both streams until they are closed.
void collect(int out, int err, ToolRun& run) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(),
                                                                      XXH3_freeState);
  XXH3_128bits_reset(hash.get());
  std::array<pollfd, 2> streams{{{out, POLLIN, 0}, {err, POLLIN, 0}}};
  std::vector<char> buffer(1 << 16);
  while (streams[0].fd >= 0 || streams[1].fd >= 0) {
    if (::poll(streams.data(), streams.size(), -1) < 0 && errno != EINTR) break;
    for (pollfd& stream : streams) {
      if (stream.fd < 0 || stream.revents == 0) continue;
      const ssize_t count = ::read(stream.fd, buffer.data(), buffer.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        stream.fd = -1;
      } else if (&stream == &streams[0]) {
        XXH3_128bits_update(hash.get(), buffer.data(), static_cast<std::size_t>(count));
        run.output_size += static_cast<std::uint64_t>(count);
        run.form_feeds +=
            static_cast<std::uint64_t>(std::count(buffer.begin(), buffer.begin() + count, '\f'));
      } else if (run.errors.size() < kMostErrors) {
        run.errors.append(buffer.data(), static_cast<std::size_t>(count));
      }
    }
  }
  const XXH128_hash_t digest = XXH3_128bits_digest(hash.get());
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(digest.high64),
                static_cast<unsigned long long>(digest.low64));
  run.output_hash = text;
}

}  // namespace

ToolRun run_tool(const std::vector<std::string>& argv) {
  ToolRun run;
  Pipe out = make_pipe();
  Pipe err = make_pipe();
  const pid_t pid = start(argv, out, err);
  out.write.reset();
  err.write.reset();
  if (pid < 0) {
    run.missing = true;
    return run;
  }
  collect(out.read.get(), err.read.get(), run);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  run.missing = WIFEXITED(status) && WEXITSTATUS(status) == kNotFound;
  run.succeeded = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return run;
}

}  // namespace crashworthy::content

#include "harness/experiment/content.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <csignal>
#include <memory>
#include <sstream>

#include "harness/experiment/environment.h"
#include "harness/os/file.h"
#include "harness/process/launcher.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::minutes kHelperBound(5);

// One run of the helper over `files`; fewer answers than files when it died half-way.
Result<std::vector<std::string>> run_helper(const std::vector<fs::path>& files,
                                            const fs::path& scratch) {
  auto helper = find_helper("crashworthy-content");
  if (!helper) return helper.error();
  std::string list;
  for (const fs::path& file : files) list += file.string() + '\0';
  const fs::path list_file = scratch / "content.list";
  const fs::path answer_file = scratch / "content.answers";
  fs::remove(answer_file);
  if (auto written = write_file_atomically(list_file, list); !written) return written.error();
  LaunchSpec spec;
  spec.argv = {helper->string(), list_file.string()};
  spec.environment = to_environment(inherited_variables());
  spec.stdout_file = answer_file;
  auto subject = Subject::launch(spec);
  if (!subject) return subject.error();
  const bool gone = subject->wait_until_gone(kHelperBound);
  if (!gone) return Error{ErrorKind::kTimeout, 0, "reading the outputs took too long", {}};
  // A damaged file may crash the helper; anything else that ends it early is our trouble, not the
  // subject's.
  auto reports = subject->read_reports();
  if (!reports) return reports.error();
  bool ended = false;
  for (const Report& report : *reports) {
    if (report.kind != Report::Kind::kMainEnded) continue;
    ended =
        report.status.success() || (report.status.signalled() && report.status.signal() != SIGKILL);
    if (!ended)
      return Error{ErrorKind::kSystem,
                   0,
                   "unable to read the outputs: crashworthy-content " + report.status.describe(),
                   {}};
  }
  if (!ended)
    return Error{
        ErrorKind::kSystem, 0, "unable to read the outputs: crashworthy-content was lost", {}};
  auto answers = read_file(answer_file);
  if (!answers) return answers.error();
  std::vector<std::string> lines;
  std::istringstream stream(*answers);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

Result<std::string> hash_file(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return system_error("open '" + path.string() + "'", errno);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<char> buffer(1 << 18);
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error("read '" + path.string() + "'", errno);
    if (count == 0) break;
    XXH3_128bits_update(state.get(), buffer.data(), static_cast<std::size_t>(count));
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

Result<std::vector<std::string>> read_contents(const std::vector<fs::path>& files,
                                               const fs::path& scratch) {
  std::vector<std::string> contents;
  while (contents.size() < files.size()) {
    const std::vector<fs::path> rest(files.begin() + static_cast<std::ptrdiff_t>(contents.size()),
                                     files.end());
    auto answers = run_helper(rest, scratch);
    if (!answers) return answers.error();
    for (std::string& answer : *answers) contents.push_back(std::move(answer));
    // The helper died on this file: nobody can decode it safely.
    if (contents.size() < files.size()) contents.emplace_back(kUndecodable);
  }
  contents.resize(files.size());
  return contents;
}

}  // namespace crashworthy

#include "harness/experiment/content_reader.h"

#include <array>
#include <chrono>
#include <csignal>
#include <optional>
#include <sstream>

#include "harness/experiment/environment.h"
#include "harness/os/file.h"
#include "harness/process/launcher.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

// The helper bounds the time of each file itself; this is for a helper that hangs all the same.
constexpr std::chrono::seconds kBoundPerFile(90);

struct HelperRun {
  std::vector<Content> contents;  // Fewer than files when it died half-way.
  std::string ended;              // How, when it did.
};

// "STATE TAB TYPE TAB CANONICAL TAB WHY"; nothing for a line that was cut off.
std::optional<Content> parse_answer(const std::string& line) {
  std::array<std::string, 4> fields;
  std::istringstream stream(line);
  for (std::string& field : fields) std::getline(stream, field, '\t');
  for (std::size_t i = 0; i < kContentStateCount; ++i) {
    const auto state = static_cast<ContentState>(i);
    if (fields[0] != content_state_name(state) || fields[2].empty()) continue;
    return Content{state, fields[1], fields[2], fields[3]};
  }
  return std::nullopt;
}

Error unreadable(const std::string& why) {
  return Error{ErrorKind::kSystem, 0, "unable to read the outputs: crashworthy-content " + why, {}};
}

// A file may crash the helper, or run it into its bound of time; anything else that ends it early
// is our trouble, not the subject's.
Result<std::string> helper_end(Subject& subject) {
  auto reports = subject.read_reports();
  if (!reports) return reports.error();
  for (const Report& report : *reports) {
    if (report.kind != Report::Kind::kMainEnded) continue;
    if (report.status.success()) return std::string();
    const bool by_file = report.status.signalled() && report.status.signal() != SIGKILL;
    if (!by_file) return unreadable(report.status.describe());
    return report.status.signal() == SIGALRM ? "reading it took too long"
                                             : "the reader was " + report.status.describe();
  }
  return unreadable("was lost");
}

Result<HelperRun> run_helper(const std::vector<fs::path>& files, const fs::path& scratch) {
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
  if (!subject->wait_until_gone(kBoundPerFile * (files.size() + 1)))
    return Error{ErrorKind::kTimeout, 0, "reading the outputs took too long", {}};
  auto ended = helper_end(*subject);
  if (!ended) return ended.error();
  auto answers = read_file(answer_file);
  if (!answers) return answers.error();
  HelperRun run;
  run.ended = *ended;
  std::istringstream stream(*answers);
  for (std::string line; std::getline(stream, line);) {
    auto content = parse_answer(line);
    if (!content) return unreadable("said '" + line + "'");
    run.contents.push_back(*std::move(content));
  }
  return run;
}

// What is known of a file at which the helper died.
Result<Content> unread(const fs::path& file, const std::string& why) {
  auto bytes = hash_file(file);
  if (!bytes) return bytes.error();
  return Content{ContentState::kDamaged, "any", "bytes:" + *bytes, why};
}

}  // namespace

Result<std::vector<Content>> read_contents(const std::vector<fs::path>& files,
                                           const fs::path& scratch) {
  std::vector<Content> contents;
  while (contents.size() < files.size()) {
    const std::vector<fs::path> rest(files.begin() + static_cast<std::ptrdiff_t>(contents.size()),
                                     files.end());
    auto run = run_helper(rest, scratch);
    if (!run) return run.error();
    for (Content& content : run->contents) contents.push_back(std::move(content));
    if (contents.size() >= files.size()) break;
    // The helper died on this file: nobody can decode it safely.
    auto content = unread(files[contents.size()], run->ended);
    if (!content) return content.error();
    contents.push_back(*std::move(content));
  }
  contents.resize(files.size());
  return contents;
}

}  // namespace crashworthy

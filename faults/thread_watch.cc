#include "faults/thread_watch.h"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kEveryNs = 10'000'000;
constexpr std::int64_t kLongEnoughNs = 50'000'000;
constexpr std::int64_t kBusyEnoughNs = 20'000'000;

// The last word of the line of /proc/.../status that begins with `key`; empty when there is none.
std::string status_word(const std::string& status, const std::string& key) {
  std::istringstream lines(status);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(key)) return line.substr(line.find_last_of(" \t") + 1);
  }
  return {};
}

std::uint64_t number_of(const std::string& word) {
  std::uint64_t number = 0;
  std::istringstream(word) >> number;
  return number;
}

// The directory in /proc of the thread that its process calls `tid`.
std::string find_thread(pid_t process, std::int32_t tid) {
  std::error_code failure;
  for (const auto& entry :
       fs::directory_iterator("/proc/" + std::to_string(process) + "/task", failure)) {
    const auto status = read_file(entry.path() / "status");
    if (status && status_word(*status, "NSpid:") == std::to_string(tid)) return entry.path();
  }
  return {};
}

}  // namespace

ThreadWatch::ThreadWatch(const SubjectView& subject, std::int32_t pid, std::int32_t tid) {
  auto process = subject.open(pid);
  if (!process) return;
  const auto host_pid = pid_of(process->get());
  if (!host_pid) return;
  process_ = *std::move(process);
  directory_ = find_thread(*host_pid, tid);
}

std::optional<ThreadWatch::Sample> ThreadWatch::take() const {
  const auto status = read_file(directory_ + "/status");
  const auto stat = read_file(directory_ + "/stat");
  if (!status || !stat || has_ended(process_.get())) return std::nullopt;
  Sample sample;
  sample.time_ns = now_ns();
  sample.waits = number_of(status_word(*status, "voluntary_ctxt_switches:"));
  sample.yields = number_of(status_word(*status, "nonvoluntary_ctxt_switches:"));
  // After the name, which may hold anything: the state, ten numbers, and the two times in ticks.
  std::istringstream fields(stat->substr(std::min(stat->rfind(')') + 1, stat->size())));
  std::string ignored;
  fields >> sample.state;
  for (int i = 0; i < 10; ++i) fields >> ignored;
  std::int64_t user = 0, system = 0;
  if (!(fields >> user >> system)) return std::nullopt;
  sample.cpu_ns = (user + system) * (1'000'000'000 / ::sysconf(_SC_CLK_TCK));
  return sample;
}

void ThreadWatch::look() {
  if (directory_.empty() || (last_ && now_ns() < last_->time_ns + kEveryNs)) return;
  const auto sample = take();
  if (!sample) {
    directory_.clear();
    return;
  }
  const bool as_before = since_ && sample->waits == since_->waits;
  // Of a sleeper a switch by force would be a sign of life as well.
  if (!as_before || (sample->state == 'S' && sample->yields != last_->yields)) since_ = sample;
  last_ = sample;
}

std::int64_t ThreadWatch::next_ns() const {
  if (directory_.empty()) return INT64_MAX;
  return last_ ? last_->time_ns + kEveryNs : 0;
}

bool ThreadWatch::waits() const {
  return last_ && since_->state == 'S' && last_->state == 'S' &&
         last_->time_ns - since_->time_ns >= kLongEnoughNs;
}

bool ThreadWatch::spins() const {
  return last_ && last_->state == 'R' && last_->cpu_ns - since_->cpu_ns >= kBusyEnoughNs;
}

nlohmann::json ThreadWatch::describe() const {
  if (!last_) return nullptr;
  return {{"state", std::string(1, last_->state)},
          {"for_ns", last_->time_ns - since_->time_ns},
          {"cpu_ns", last_->cpu_ns - since_->cpu_ns}};
}

}  // namespace crashworthy

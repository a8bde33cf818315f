#include "faults/thread_watch.h"

#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"

namespace crashworthy {
namespace {

constexpr std::int64_t kEveryNs = 10'000'000;
constexpr std::int64_t kLongEnoughNs = 50'000'000;
constexpr std::int64_t kBusyEnoughNs = 20'000'000;

std::uint64_t count_in(pid_t thread, const char* name) {
  return std::strtoull(status_field(thread, name).c_str(), nullptr, 10);
}

// Our number of the thread that its process calls `tid`; 0: there is none.
pid_t find_thread(pid_t process, std::int32_t tid) {
  for (const pid_t thread : numbers_in("/proc/" + std::to_string(process) + "/task")) {
    if (pid_in_own_namespace(thread) == tid) return thread;
  }
  return 0;
}

}  // namespace

ThreadWatch::ThreadWatch(const SubjectView& subject, std::int32_t pid, std::int32_t tid) {
  auto process = subject.open(pid);
  if (!process) return;
  const auto host_pid = pid_of(process->get());
  if (!host_pid) return;
  process_ = *std::move(process);
  pid_ = *host_pid;
  thread_ = find_thread(pid_, tid);
}

std::optional<ThreadWatch::Sample> ThreadWatch::take() const {
  const auto stat = read_stat(pid_, thread_);
  Sample sample;
  sample.waits = count_in(thread_, "voluntary_ctxt_switches");
  sample.yields = count_in(thread_, "nonvoluntary_ctxt_switches");
  if (!stat || has_ended(process_.get())) return std::nullopt;
  sample.time_ns = now_ns();
  sample.state = stat->state;
  sample.cpu_ns = stat->cpu_ticks * (1'000'000'000 / ::sysconf(_SC_CLK_TCK));
  return sample;
}

void ThreadWatch::look() {
  if (thread_ == 0 || (last_ && now_ns() < last_->time_ns + kEveryNs)) return;
  const auto sample = take();
  if (!sample) {
    thread_ = 0;
    return;
  }
  const bool as_before = since_ && sample->waits == since_->waits;
  // Of a sleeper a switch by force would be a sign of life as well.
  if (!as_before || (sample->state == 'S' && sample->yields != last_->yields)) since_ = sample;
  last_ = sample;
}

std::int64_t ThreadWatch::next_ns() const {
  if (thread_ == 0) return INT64_MAX;
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

#include "harness/worker/isolated.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "harness/os/check.h"
#include "harness/worker/pool.h"

namespace crashworthy {
namespace {

// An Error on its way out of the worker: kind, errno, size of the message; message; hint.
constexpr std::size_t kMaxText = 4096;

struct ErrorHead {
  std::int32_t kind = 0;
  std::int32_t sys_errno = 0;
  std::uint32_t message_bytes = 0;
};

std::string pack(const Error& error) {
  const std::string message = error.message.substr(0, kMaxText);
  const ErrorHead head{static_cast<std::int32_t>(error.kind), error.sys_errno,
                       static_cast<std::uint32_t>(message.size())};
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  return bytes + message + error.hint.substr(0, kMaxText);
}

// From a process that may have been beside itself.
Error unpack(const std::string& bytes) {
  ErrorHead head;
  const auto last = static_cast<std::int32_t>(ErrorKind::kIncomparable);
  if (bytes.size() >= sizeof head) std::memcpy(&head, bytes.data(), sizeof head);
  if (bytes.size() < sizeof head || head.message_bytes > bytes.size() - sizeof head ||
      head.kind < 0 || head.kind > last) {
    return corrupt_error("its worker returned an error that cannot be read");
  }
  return {static_cast<ErrorKind>(head.kind), head.sys_errno,
          bytes.substr(sizeof head, head.message_bytes),
          bytes.substr(sizeof head + head.message_bytes)};
}

Result<std::string> call(const IsolatedFunction& function, const std::string& name,
                         std::string_view bytes) {
  try {
    return function(bytes);
  } catch (const std::bad_alloc&) {
    return system_error("'" + name + "' threw std::bad_alloc", ENOMEM);
  } catch (const std::exception& thrown) {
    return corrupt_error("'" + name + "' threw: " + thrown.what());
  } catch (...) {
    return corrupt_error("'" + name + "' threw something that is no std::exception");
  }
}

JobOutput output_of(Result<std::string> result) {
  JobOutput output;
  if (result) {
    output.bytes = *std::move(result);
  } else {
    output.bytes = pack(result.error());
    output.failure = FailureReason::kUnreadable;
  }
  return output;
}

Error death_of(const std::string& name, WaitStatus status) {
  Error error{ErrorKind::kGone, 0, {}, {}};
  if (!status.signalled()) {
    error.message = "'" + name + "' ended its process: it " + status.describe();
    return error;
  }
  error.message = "'" + name + "' died of " + signal_name(status.signal());
  if (status.signal() == SIGKILL) {
    error.hint = "somebody sent that signal: the kernel, if memory ran out (see dmesg)";
  }
  return error;
}

Result<std::string> result_of(const std::string& name, const JobResult& done) {
  const JobOutput& output = done.output;
  if (done.outcome == JobOutcome::kDone) return output.bytes;
  if (output.failure == FailureReason::kDeadline) {
    return Error{ErrorKind::kTimeout, 0, "'" + name + "' was killed: " + output.message, {}};
  }
  if (done.death) return death_of(name, *done.death);
  if (output.failure == FailureReason::kTooLarge) {
    return usage_error("'" + name + "': " + output.message, "return less, or a file's name");
  }
  return unpack(output.bytes);
}

PoolOptions pool_options(const IsolationOptions& options) {
  PoolOptions pool;
  pool.workers = options.workers;
  pool.spares = options.spares;
  pool.deadline = options.deadline;
  pool.intensity = options.intensity;
  pool.period = options.period;
  // What was begun is not executed again; what was only handed out goes to another worker.
  pool.max_attempts = 1;
  pool.take_over = false;
  pool.max_demand = 1;
  return pool;
}

// Bounds how long the leader sleeps, not a call: it looks again.
constexpr std::chrono::milliseconds kLook = std::chrono::minutes(1);

}  // namespace

struct Isolation::Call {
  const std::string& name;
  std::optional<Result<std::string>> result;
  bool leads = false;
  std::condition_variable news;  // One of the two above.
};

void IsolatedFunctions::add(std::string name, IsolatedFunction function) {
  const bool known = std::any_of(entries_.begin(), entries_.end(),
                                 [&](const Entry& entry) { return entry.name == name; });
  CRASHWORTHY_CHECK(!known, name);
  CRASHWORTHY_CHECK(function != nullptr, name);
  entries_.push_back({std::move(name), std::move(function)});
}

Result<std::unique_ptr<Isolation>> Isolation::start(IsolatedFunctions functions,
                                                    const IsolationOptions& options) {
  if (functions.entries_.empty()) return usage_error("an isolation needs at least one function");
  std::vector<std::string> names;
  for (const auto& entry : functions.entries_) names.push_back(entry.name);
  const auto run = [entries = std::move(functions.entries_)](const Job& job, const JobContext&) {
    const auto& entry = entries.at(job.part);
    return output_of(call(entry.function, entry.name, job.arguments));
  };
  auto pool = make_worker_pool(pool_options(options), run, Probe());
  if (!pool) return pool.error().with_context("start an isolation");
  return std::unique_ptr<Isolation>(new Isolation(std::move(names), *std::move(pool)));
}

Isolation::Isolation(std::vector<std::string> names, std::unique_ptr<Pool> pool)
    : names_(std::move(names)), pool_(std::move(pool)) {}

Isolation::~Isolation() {
  if (!owner_.is_here()) return;  // Whose threads wait here is the other process's matter.
  std::unique_lock lock(mutex_);
  end({ErrorKind::kGone, 0, "the isolation was ended while the call waited for its result", {}});
  pool_->interrupt();
  returned_.wait(lock, [this] { return callers_ == 0; });
}

Result<std::string> Isolation::run(std::string_view name, std::string_view bytes,
                                   std::chrono::nanoseconds deadline) {
  CRASHWORTHY_CHECK(owner_.is_here());
  const auto found = std::find(names_.begin(), names_.end(), name);
  if (found == names_.end()) {
    std::string known;
    for (const std::string& each : names_) known += (known.empty() ? "'" : ", '") + each + "'";
    return usage_error("no isolated function is named '" + std::string(name) + "'; there are " +
                       known);
  }
  if (bytes.size() > kMaxBytes) {
    return usage_error("'" + *found + "' is given " + std::to_string(bytes.size()) +
                           " bytes, more than the " + std::to_string(kMaxBytes) +
                           " that a call can carry",
                       "give it a file's name, or use a pool, whose frames are of any size");
  }
  if (deadline.count() < 0) return usage_error("the deadline of '" + *found + "' is negative");
  Job job;
  job.part = static_cast<std::uint32_t>(found - names_.begin());
  job.arguments = bytes;
  job.deadline = deadline;

  std::unique_lock lock(mutex_);
  if (failure_) return *failure_;
  Call own{*found, {}, false, {}};
  ++callers_;
  job.item = next_++;
  calls_.emplace(job.item, &own);
  queued_.push_back(std::move(job));
  if (!led_) {
    led_ = own.leads = true;
  } else {
    // Who came before has called the leader already, if it has not yet taken what is queued.
    if (queued_.size() == 1) pool_->interrupt();
    own.news.wait(lock, [&own] { return own.result || own.leads; });
  }
  if (own.leads) look_after(lock, own);
  if (--callers_ == 0 && failure_) returned_.notify_all();
  return *std::move(own.result);
}

// The leader: until it has its own result, it takes in those of all.
void Isolation::look_after(std::unique_lock<std::mutex>& lock, const Call& own) {
  while (!own.result) {
    std::vector<Job> jobs = std::exchange(queued_, {});
    lock.unlock();
    for (Job& job : jobs) pool_->submit(std::move(job));
    const auto came = pool_->wait(kLook);
    lock.lock();
    if (!came) {
      end(came.error());
    } else {
      for (const JobResult& result : *came) settle(result);
    }
  }
  hand_on();
}

void Isolation::hand_on() {
  led_ = !calls_.empty();
  if (!led_) return;
  Call& next = *calls_.begin()->second;
  next.leads = true;
  next.news.notify_one();
}

void Isolation::settle(const JobResult& result) {
  const auto call = calls_.find(result.job.item);
  if (call == calls_.end()) return;  // The isolation is at an end.
  call->second->result = result_of(call->second->name, result);
  call->second->news.notify_one();
  calls_.erase(call);
}

// All calls fail, now and later.
void Isolation::end(const Error& error) {
  if (!failure_) failure_ = error;
  for (const auto& [item, call] : calls_) {
    call->result = *failure_;
    call->news.notify_one();
  }
  calls_.clear();
}

}  // namespace crashworthy

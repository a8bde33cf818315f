#include "harness/supervision/fake_backend.h"

#include <csignal>
#include <utility>

#include "harness/os/check.h"

namespace crashworthy {
namespace {

std::string text(ProcessKey key) {
  return "process " + std::to_string(key.child) + "/" + std::to_string(key.incarnation);
}

// A tree that does so many things at one time goes in circles.
constexpr int kMaxThings = 2'000'000;

}  // namespace

WaitStatus exit_status(int code) { return WaitStatus::from_raw(code << 8); }
WaitStatus signal_status(int signal) { return WaitStatus::from_raw(signal); }

void FakeBackend::start(ProcessKey key, const std::string& path, const ChildSpec& spec) {
  if (forgotten_[key.child]) complaints_.push_back(text(key) + " is started after forget()");
  if (key.incarnation == 0) complaints_.push_back(text(key) + " has no incarnation");
  if (processes_.contains(key)) complaints_.push_back(text(key) + " is started twice");
  const auto before = latest_.find(path);
  if (before != latest_.end() && !processes_.at(before->second).end_told) {
    complaints_.push_back(path + " is started while it has a process");
  }
  Process& process = processes_[key] = Process{};
  latest_[path] = key;
  process.path = path;
  process.conduct = conducts_[path];
  if (int& failing = failing_starts_[path]; failing > 0) {
    --failing;
    process.dead = process.end_told = true;
    later({}, [this, key] { logic_->on_start_failed(key, "told to fail", *now_); });
    return;
  }
  process.started = true;
  process.pid = next_pid_++;
  later({}, [this, key, pid = process.pid] { logic_->on_started(key, pid, *now_); });
  if (spec.ready && spec.ready->descriptor) {
    later(process.conduct.ready_after, [this, key] { say_ready(key); });
  }
  if (spec.heartbeat) {
    process.beats = !spec.ready || process.conduct.ready != Conduct::Ready::kNever;
    process.beat = spec.heartbeat->interval;
    later(process.conduct.ready_after, [this, key] { beat(key); });
  }
}

void FakeBackend::say_ready(ProcessKey key) {
  Process& process = processes_.at(key);
  if (process.dead) return;
  process.ready_waits = process.suspended;
  if (process.suspended) return;
  switch (process.conduct.ready) {
    case Conduct::Ready::kSays:
      logic_->on_ready(key, *now_);
      break;
    case Conduct::Ready::kCloses:
      logic_->on_ready_closed(key, *now_);
      break;
    case Conduct::Ready::kExits:
      end(key, exit_status(process.conduct.ready_code));
      break;
    case Conduct::Ready::kNever:
      break;
  }
}

void FakeBackend::beat(ProcessKey key) {
  const Process& process = processes_.at(key);
  if (process.dead || !process.beats) return;
  if (!process.suspended) logic_->on_heartbeat(key, *now_);
  later(process.beat, [this, key] { beat(key); });
}

void FakeBackend::stop(ProcessKey key) {
  Process* process = living_process(key, "stop");
  if (!process) return;
  process->suspended = false;
  const Conduct& conduct = process->conduct;
  if (conduct.stop == Conduct::Stop::kIgnores) return;
  const bool dies = conduct.stop == Conduct::Stop::kDies;
  const WaitStatus status = dies ? signal_status(SIGTERM) : exit_status(conduct.stop_code);
  if (conduct.stop_after.count() == 0) {
    end(key, status);
  } else {
    later(conduct.stop_after, [this, key, status] { end(key, status); });
  }
}

void FakeBackend::kill(ProcessKey key) {
  if (living_process(key, "kill")) end(key, signal_status(SIGKILL));
}

void FakeBackend::suspend(ProcessKey key) {
  Process* process = living_process(key, "suspend");
  if (!process || process->dead) return;
  process->suspended = true;
  later({}, [this, key] {
    if (!processes_.at(key).dead) logic_->on_suspended(key, *now_);
  });
}

void FakeBackend::resume(ProcessKey key) {
  Process* process = living_process(key, "resume");
  if (!process || process->dead) return;
  process->suspended = false;
  later({}, [this, key] {
    if (!processes_.at(key).dead) logic_->on_resumed(key, *now_);
  });
  if (process->ready_waits) later({}, [this, key] { say_ready(key); });
}

void FakeBackend::forget(std::uint64_t child) {
  const auto end = processes_.lower_bound(ProcessKey{child + 1, 0});
  for (auto one = processes_.lower_bound(ProcessKey{child, 0}); one != end; ++one) {
    if (!one->second.end_told) {
      complaints_.push_back(text(one->first) + " is forgotten while it lives");
    }
  }
  if (std::exchange(forgotten_[child], true)) {
    complaints_.push_back("child " + std::to_string(child) + " is forgotten twice");
  }
}

bool FakeBackend::exit(const std::string& path, int code) {
  const auto key = key_at(path);
  if (key) end(*key, exit_status(code));
  return key.has_value();
}

bool FakeBackend::die(const std::string& path, int signal) {
  const auto key = key_at(path);
  if (key) end(*key, signal_status(signal));
  return key.has_value();
}

bool FakeBackend::silence(const std::string& path) {
  const auto key = key_at(path);
  if (key) processes_.at(*key).beats = false;
  return key.has_value();
}

std::optional<std::int64_t> FakeBackend::next_time() const {
  if (waiting_.empty()) return std::nullopt;
  return waiting_.begin()->first;
}

void FakeBackend::run_one() {
  const auto what = std::move(waiting_.begin()->second);
  waiting_.erase(waiting_.begin());
  what();
}

int FakeBackend::living() const {
  int living = 0;
  for (const auto& [key, process] : processes_) living += process.dead ? 0 : 1;
  return living;
}

std::vector<ProcessKey> FakeBackend::keys() const {
  std::vector<ProcessKey> keys;
  for (const auto& [key, process] : processes_) keys.push_back(key);
  return keys;
}

void FakeBackend::later(Nanoseconds delay, std::function<void()> what) {
  waiting_.emplace(*now_ + delay.count(), std::move(what));
}

// A process ends once; what else would end it comes too late.
void FakeBackend::end(ProcessKey key, WaitStatus status) {
  Process& process = processes_.at(key);
  if (std::exchange(process.dead, true)) return;
  later({}, [this, key, status] {
    processes_.at(key).end_told = true;
    logic_->on_ended(key, status, *now_);
  });
}

// A tree may ask something of a process until it has been told of its end.
FakeBackend::Process* FakeBackend::living_process(ProcessKey key, const char* what) {
  const auto found = processes_.find(key);
  if (found == processes_.end()) {
    complaints_.push_back(std::string(what) + " of " + text(key) + ", which was never started");
    return nullptr;
  }
  if (found->second.started && found->second.end_told) {
    complaints_.push_back(std::string(what) + " of " + text(key) + ", whose end was told");
  }
  return found->second.dead ? nullptr : &found->second;
}

std::optional<ProcessKey> FakeBackend::key_at(const std::string& path) const {
  const auto found = latest_.find(path);
  if (found == latest_.end() || processes_.at(found->second).dead) return std::nullopt;
  return found->second;
}

World::World(SupervisorSpec tree, bool hooks, std::uint64_t seed) {
  if (hooks) transcript_.add_hooks(tree);
  logic_ = std::make_unique<TreeLogic>(std::move(tree), backend_, transcript_.sink(), seed);
  backend_.attach(logic_.get(), &now_);
}

void World::act(const Action& action) {
  if (action.kind == Action::Kind::kAdvance) {
    advance(action.time);
    return;
  }
  do_one(action);
  settle();
}

std::string World::ask(const Action& action) const {
  return observe(*logic_, action, now_, transcript_);
}

void World::do_one(const Action& action) {
  bool done = true;
  switch (action.kind) {
    case Action::Kind::kConduct:
      backend_.set_conduct(action.path, action.conduct);
      break;
    case Action::Kind::kStartsFail:
      backend_.fail_starts(action.path, action.number);
      break;
    case Action::Kind::kPreparesFail:
      transcript_.fail_prepares(action.path, action.number);
      break;
    case Action::Kind::kExits:
      done = backend_.exit(action.path, action.number);
      break;
    case Action::Kind::kDies:
      done = backend_.die(action.path, action.number);
      break;
    case Action::Kind::kSilent:
      done = backend_.silence(action.path);
      break;
    case Action::Kind::kTogether:
      for (const Action& one : action.together) do_one(one);
      break;
    default:
      done = give_order(*logic_, action, now_, transcript_);
  }
  if (!done) complaints_.push_back("nothing lives at '" + action.path + "': mend the script");
}

void World::settle() {
  for (int things = 0;; ++things) {
    CRASHWORTHY_CHECK(things < kMaxThings, now_);
    const auto answer = backend_.next_time();
    const auto deadline = logic_->next_deadline();
    if (answer && *answer <= now_) {
      backend_.run_one();
    } else if (deadline && *deadline <= now_) {
      logic_->on_time(now_);
    } else {
      return;
    }
  }
}

void World::advance(Nanoseconds time) {
  const std::int64_t target = now_ + time.count();
  for (;;) {
    settle();
    const auto answer = backend_.next_time();
    const auto deadline = logic_->next_deadline();
    std::int64_t next = target;
    if (answer && *answer < next) next = *answer;
    if (deadline && *deadline < next) next = *deadline;
    if (next == target) break;
    now_ = next;
  }
  now_ = target;
  settle();
}

std::vector<std::string> World::complaints() const {
  std::vector<std::string> all = complaints_;
  for (const std::string& one : backend_.complaints()) all.push_back(one);
  for (const std::string& one : transcript_.complaints()) all.push_back(one);
  if (logic_->ended() && backend_.living() > 0) all.push_back("a process outlives its tree");
  if (logic_->ended() && transcript_.unanswered() > 0) all.push_back("an order has no answer");
  return all;
}

}  // namespace crashworthy

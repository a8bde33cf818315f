#include "harness/supervision/real_world.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>
#include <utility>

#include "harness/os/check.h"
#include "harness/os/clock.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

// How long nothing must have happened before we take it that nothing will.
constexpr std::int64_t kQuietNs = 8'000'000;
// When something is missing, it may be late.
constexpr std::int64_t kMissingNs = 10'000'000'000;
// When something is seen that is not expected, waiting longer does not mend it.
constexpr std::int64_t kWrongNs = 300'000'000;
constexpr Nanoseconds kLongestPass = 20s;
constexpr std::int64_t kGoneNs = 5'000'000'000;

// Until its shim has reaped it: then it is known that and when it ended.
bool wait_until_reaped(pid_t pid) {
  const std::int64_t deadline = now_ns() + kGoneNs;
  while (::kill(pid, 0) == 0 || errno != ESRCH) {
    if (now_ns() > deadline) return false;
    std::this_thread::sleep_for(100us);
  }
  return true;
}

std::string above(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

const SupervisorInfo* find_below(const SupervisorInfo& info, const std::string& path) {
  if (info.path == path) return &info;
  for (const auto& entry : info.children) {
    for (const SupervisorInfo& below : entry.below) {
      if (const SupervisorInfo* found = find_below(below, path)) return found;
    }
  }
  return nullptr;
}

}  // namespace

RealWorld::RealWorld(SupervisorSpec tree, bool hooks, const fs::path& directory, std::uint64_t seed)
    : directory_(directory), transcribe_(transcript_.sink()) {
  if (hooks) transcript_.add_hooks(tree);
  prepare(&tree, "");
  TreeOptions options;
  options.seed = seed;
  options.sink = [this](const Event& event) { see(event); };
  auto made = SupervisionTree::create(std::move(tree), std::move(options));
  CRASHWORTHY_CHECK(made.ok(), made.error().message);
  tree_.emplace(*std::move(made));
}

// Each leaf gets a directory of its own: without it, its starts fail. All instances of a dynamic
// supervisor have that of their template.
fs::path RealWorld::directory_of(const std::string& path, bool instance) const {
  std::string name = instance ? above(path) + "/(instances)" : path;
  std::replace(name.begin(), name.end(), '/', '%');
  return directory_ / ("child-" + name);
}

bool RealWorld::is_dynamic(const std::string& supervisor) const {
  const SupervisorInfo info = tree_->logic().info(now_ns());
  const SupervisorInfo* found = find_below(info, supervisor);
  return found != nullptr && found->strategy == Strategy::kDynamic;
}

void RealWorld::prepare(ChildSpec* child, const std::string& path, bool instance) {
  if (child->supervisor) {
    auto below = std::make_shared<SupervisorSpec>(*child->supervisor);
    prepare(below.get(), path);
    child->supervisor = std::move(below);
  } else if (child->function == kChildFunction) {
    child->directory = directory_of(path, instance);
    if (!failing_starts_.contains(path)) fs::create_directories(child->directory);
  }
}

void RealWorld::prepare(SupervisorSpec* tree, const std::string& path) {
  for (ChildSpec& child : tree->children) {
    prepare(&child, path.empty() ? child.id : path + "/" + child.id,
            tree->strategy == Strategy::kDynamic);
  }
}

// ---- What is seen ----

void RealWorld::see(const Event& event) {
  transcribe_(event);
  if (event.kind == EventKind::kState && event.pid > 0) {
    Running& running = running_[event.path];
    if (running.pid != event.pid) running = Running{event.pid, false, false};
    running.suspended = event.state == LifeState::kIntermitted;
    if (is_closed(event.state)) running_.erase(event.path);
  }
  if (event.kind == EventKind::kEnded) running_.erase(event.path);
  if (event.kind != EventKind::kStartFailed) return;
  const auto failing = failing_starts_.find(event.path);
  if (failing == failing_starts_.end()) return;
  // A supervisor of that path may fail for reasons of its own.
  const fs::path& directory = failing->second.directory;
  if (event.text.find("'" + directory.string() + "'") == std::string::npos) return;
  if (--failing->second.count > 0) return;
  fs::create_directories(directory);
  failing_starts_.erase(failing);
}

bool RealWorld::is_settled() const {
  return std::all_of(running_.begin(), running_.end(), [this](const auto& entry) {
    return entry.second.suspended || control_.is_settled(entry.second.pid);
  });
}

void RealWorld::tell_conduct(const std::string& path, Running* running) {
  if (running->told || !control_.knows(running->pid)) return;
  ProcessOrder order;
  order.conduct = conducts_[path];
  const auto spec = tree_->logic().get_child_spec(path);
  if (spec) {
    order.ready = spec->ready.has_value();
    order.by_heartbeat = spec->ready && !spec->ready->descriptor;
    // More often than it must: a busy machine is late.
    if (spec->heartbeat) order.beat_ns = spec->heartbeat->interval.count() / 4;
  }
  running->told = control_.send(running->pid, order);
}

void RealWorld::run_for_a_moment() {
  if (tree_->logic().ended()) {
    std::this_thread::sleep_for(1ms);
  } else if (auto ran = tree_->run(1ms); !ran) {
    complaints_.push_back(ran.error().message);
  }
  control_.update();
  for (auto& [path, running] : running_) tell_conduct(path, &running);
  const std::string text = transcript_.take();
  if (!text.empty()) seen_ += (seen_.empty() ? "" : "; ") + text;
}

// Runs the tree until all is seen, by what `look` says of it, and nothing more happens.
std::string RealWorld::settle(std::int64_t earliest, const std::function<Sight()>& look) {
  std::size_t size = 0;
  std::int64_t last_change = now_ns();
  while (true) {
    run_for_a_moment();
    const std::int64_t now = now_ns();
    if (std::exchange(size, seen_.size()) != seen_.size()) last_change = now;
    if (now < earliest) continue;
    switch (look()) {
      case Sight::kAll:
        if (now - last_change >= (is_settled() ? kQuietNs : kMissingNs)) break;
        continue;
      case Sight::kPart:
        if (now - std::max(last_change, earliest) >= kMissingNs) break;
        continue;
      case Sight::kWrong:
        if (now - last_change >= kWrongNs) break;
        continue;
    }
    return std::exchange(seen_, {});
  }
}

// Processes that are suspended, or resumed, together are so in an order of their own.
std::string RealWorld::comparable(const Step& step, const std::string& text) {
  if (step.any_order) return sorted_lines(text);
  std::string result;
  std::string together;  // Lines of one ending, in a row.
  std::string ending;
  const auto add = [](std::string* to, const std::string& more) {
    if (!more.empty()) *to += (to->empty() ? "" : "; ") + more;
  };
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find("; ", begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 2;
    std::string now;
    for (const char* one : {" intermitted", " running"}) {
      if (line.ends_with(one)) now = one;
    }
    if (now != ending || now.empty()) add(&result, sorted_lines(std::exchange(together, "")));
    ending = now;
    add(now.empty() ? &result : &together, line);
  }
  add(&result, sorted_lines(together));
  return result;
}

// When the time has passed that `action` is to take. Of a tree that has ended no time shows more.
std::int64_t RealWorld::earliest_end(const Action& action) {
  if (tree_->logic().ended()) return now_ns();
  if (action.time > kLongestPass) {
    complaints_.push_back(format_duration(static_cast<double>(action.time.count())) +
                          " are too long to wait for: mark the row as simulated only");
    return now_ns();
  }
  return now_ns() + action.time.count();
}

std::string RealWorld::act(const Step& step) {
  const std::int64_t earliest = earliest_end(step.action);
  do_one(step.action, true);
  if (!booted_) return "";
  const std::string expected = comparable(step, step.seen);
  return comparable(step, settle(earliest, [&] {
                      const std::string seen = comparable(step, seen_);
                      if (seen == expected) return Sight::kAll;
                      return step.any_order || expected.starts_with(seen) ? Sight::kPart
                                                                          : Sight::kWrong;
                    }));
}

std::string RealWorld::act_until(const Action& action, const std::function<bool()>& holds) {
  const std::int64_t earliest = earliest_end(action);
  do_one(action, true);
  if (!booted_) return "";
  return settle(earliest, [&] { return holds() ? Sight::kAll : Sight::kPart; });
}

std::string RealWorld::ask(const Action& action) const {
  return observe(tree_->logic(), action, now_ns(), transcript_);
}

std::vector<std::string> RealWorld::complaints() const {
  std::vector<std::string> all = complaints_;
  for (const std::string& one : transcript_.complaints()) all.push_back(one);
  return all;
}

// ---- What is done ----

bool RealWorld::can_fail_starts(const std::string& path) const { return !is_dynamic(above(path)); }

void RealWorld::fail_starts(const std::string& path, int count) {
  std::error_code failure;
  const fs::path directory = directory_of(path, is_dynamic(above(path)));
  failing_starts_[path] = {count, directory};
  fs::remove(directory, failure);
  if (failure) complaints_.push_back("starts of " + path + " cannot be made to fail");
}

// The death of a process; if other things are to happen before the tree sees any of it, the
// process is dead when this returns.
bool RealWorld::end_process(const Action& action, bool alone) {
  const auto found = running_.find(action.path);
  if (found == running_.end()) return false;
  const pid_t pid = found->second.pid;
  ProcessOrder order;
  order.number = action.number;
  order.kind =
      action.kind == Action::Kind::kExits ? ProcessOrder::Kind::kExit : ProcessOrder::Kind::kRaise;
  const bool by_kill = action.kind == Action::Kind::kDies && action.number == SIGKILL;
  const bool told = by_kill ? ::kill(pid, SIGKILL) == 0 : control_.send(pid, order);
  return told && (alone || wait_until_reaped(pid));
}

void RealWorld::do_one(const Action& action, bool alone) {
  bool done = true;
  switch (action.kind) {
    case Action::Kind::kConduct:
      conducts_[action.path] = action.conduct;
      break;
    case Action::Kind::kStartsFail:
      fail_starts(action.path, action.number);
      break;
    case Action::Kind::kPreparesFail:
      transcript_.fail_prepares(action.path, action.number);
      break;
    case Action::Kind::kExits:
    case Action::Kind::kDies:
      done = end_process(action, alone);
      break;
    case Action::Kind::kSilent: {
      ProcessOrder order;
      order.kind = ProcessOrder::Kind::kSilence;
      const auto found = running_.find(action.path);
      done = found != running_.end() && control_.send(found->second.pid, order);
      break;
    }
    case Action::Kind::kBoot:  // The first run() starts it.
      booted_ = true;
      break;
    case Action::Kind::kAdvance:
      break;
    case Action::Kind::kTogether:
      for (const Action& one : action.together) do_one(one, false);
      break;
    case Action::Kind::kStartChild: {
      Action prepared = action;
      const std::string& id = action.child.id;
      const std::string path = action.path.empty() ? id : action.path + "/" + id;
      if (!is_dynamic(action.path)) prepare(&prepared.child, path, false);
      done = give_order(tree_->logic(), prepared, now_ns(), transcript_);
      break;
    }
    default:
      done = give_order(tree_->logic(), action, now_ns(), transcript_);
  }
  if (!done) complaints_.push_back("nothing lives at '" + action.path + "': mend the script");
}

}  // namespace crashworthy

#include "harness/supervision/transcript.h"

#include <algorithm>
#include <sstream>
#include <utility>

namespace crashworthy {
namespace {

std::string named(const std::string& path) { return path.empty() ? "root" : path; }

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : "; ") + line;
  return text;
}

std::string join_path(const std::string& supervisor, const std::string& id) {
  return supervisor.empty() ? id : supervisor + "/" + id;
}

std::string children_text(const std::optional<std::vector<ChildInfo>>& children) {
  if (!children) return "no supervisor";
  std::string text;
  for (const ChildInfo& child : *children) text += (text.empty() ? "" : ", ") + describe(child);
  return text;
}

std::string child_text(const std::optional<ChildInfo>& child) {
  if (!child) return "none";
  std::string text = describe(*child);
  if (child->last_end) text += ", last end " + describe(*child->last_end);
  if (child->crash_loop) text += ", crash loop";
  return text;
}

std::string spec_text(const std::optional<ChildSpec>& spec) {
  if (!spec) return "none";
  return std::string(restart_name(spec->restart)) + " " +
         std::string(type_name(spec->child_type())) + " " + stop_name(spec->stop_policy()) +
         (spec->significant ? " significant" : "");
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

std::string budget_text(const SupervisorInfo& root, const std::string& path) {
  const SupervisorInfo* found = find_below(root, path);
  return found ? std::to_string(found->budget_left) : "no supervisor";
}

std::string end_text(const TreeLogic& logic) {
  const auto end = logic.ended();
  if (!end) return "lives";
  switch (*end) {
    case TreeEnd::kAsked:
      return "asked";
    case TreeEnd::kAutoShutdown:
      return "auto shutdown";
    case TreeEnd::kIntensitySpent:
      return "intensity spent";
    case TreeEnd::kStartFailed:
      return "start failed";
  }
  return "?";
}

// check_spec's refusal begins with a JSON pointer.
std::string checked_text(const SupervisorSpec& tree) {
  const auto checked = check_spec(tree);
  if (checked) return "ok";
  const std::string& message = checked.error().message;
  return message.substr(0, message.find(':'));
}

// Follows one path through the events, and notes what cannot be.
struct PathWatch {
  LifeState state = LifeState::kTerminated;
  std::uint32_t incarnation = 0;
  std::uint64_t last_event = 0;   // Of any kind, of this path or below it.
  std::uint64_t ended_event = 0;  // kEnded of this incarnation.
  pid_t pid = 0;
};

class SequenceCheck {
 public:
  explicit SequenceCheck(std::vector<std::string>* complaints) : complaints_(complaints) {}

  void see(const Event& event) {
    if (event.number != last_number_ + 1) complain(event, "is not the next number");
    if (event.time_ns < last_time_) complain(event, "is before the event before it");
    if (event.cause >= event.number) complain(event, "is caused by what comes later");
    last_number_ = event.number;
    last_time_ = event.time_ns;
    PathWatch& watch = paths_[event.path];
    if (event.kind == EventKind::kState) see_state(event, watch);
    if (event.kind == EventKind::kEnded) see_end(event, watch);
    // (A supervisor that lives may count a restart of what is no child.)
    if (event.kind == EventKind::kRestart && is_closed(watch.state) &&
        event.cause != watch.last_event) {
      complain(event, "is not caused by the last event of its child");
    }
    watch.last_event = event.number;
    causes_[event.number] = event.cause;
  }

 private:
  void see_state(const Event& event, PathWatch& watch) {
    if (event.state == LifeState::kInitial) {
      if (!is_closed(watch.state)) complain(event, "begins before the last incarnation is closed");
      watch = PathWatch{};
      watch.incarnation = event.incarnation;
    } else {
      if (!transition_between(watch.state, event.state)) {
        complain(event, "does not follow from " + std::string(life_state_name(watch.state)));
      }
      if (event.incarnation != watch.incarnation) complain(event, "is of another incarnation");
    }
    if (event.state == LifeState::kRunning && event.pid != 0) watch.pid = event.pid;
    if (is_closed(event.state) && watch.ended_event != 0 && !follows(event, watch.ended_event)) {
      complain(event, "is not caused by the end of its process, but by event " +
                          std::to_string(event.cause));
    }
    watch.state = event.state;
  }

  // Is it caused by `before`, or by what that caused?
  bool follows(const Event& event, std::uint64_t before) const {
    const auto cause = causes_.find(event.cause);
    return event.cause == before || (cause != causes_.end() && cause->second == before);
  }

  void see_end(const Event& event, PathWatch& watch) {
    if (watch.ended_event != 0) complain(event, "comes a second time");
    if (is_closed(watch.state)) complain(event, "comes after its incarnation is closed");
    if (event.pid != watch.pid) complain(event, "is of another process");
    if (event.incarnation != watch.incarnation) complain(event, "is of another incarnation");
    if (!event.status) complain(event, "has no status");
    watch.ended_event = event.number;
  }

  void complain(const Event& event, const std::string& what) {
    complaints_->push_back("event " + std::to_string(event.number) + ", '" + describe(event) +
                           "', " + what);
  }

  std::vector<std::string>* complaints_;
  std::map<std::string, PathWatch> paths_;
  std::map<std::uint64_t, std::uint64_t> causes_;  // Of each event.
  std::uint64_t last_number_ = 0;
  std::int64_t last_time_ = 0;
};

}  // namespace

std::string describe(const Event& event) {
  const std::string who = named(event.path);
  switch (event.kind) {
    case EventKind::kState:
      return who + " " + std::string(life_state_name(event.state));
    case EventKind::kReady:
      return who + " serves";
    case EventKind::kEnded:
      return who + " ended " + (event.status ? describe(*event.status) : "?");
    case EventKind::kStartFailed:
      return who + " start failed";
    case EventKind::kHang:
      return who + " hangs";
    case EventKind::kStopTimeout:
      return who + " stop timeout";
    case EventKind::kRestart:
      return who + " restart left " + std::to_string(event.budget_left);
    case EventKind::kIntensitySpent:
      return "spent " + who;
    case EventKind::kAutoShutdown:
      return "auto shutdown " + who;
    case EventKind::kCrashLoop:
      return who + " crash loop";
    case EventKind::kOrder:
      return "order " + event.text + " " + who;
  }
  return "?";
}

std::string describe(const Answer& answer) {
  if (!answer.refusal) return "ok";
  switch (*answer.refusal) {
    case Refusal::kNotFound:
      return "not_found";
    case Refusal::kRunning:
      return "running";
    case Refusal::kRestarting:
      return "restarting";
    case Refusal::kAlreadyPresent:
      return "already_present";
    case Refusal::kDynamic:
      return "dynamic";
    case Refusal::kStartFailed:
      return "start_failed";
    case Refusal::kInvalid:
      return "invalid";
    case Refusal::kEnding:
      return "ending";
  }
  return "?";
}

std::string describe(const ChildInfo& child) {
  static const std::map<Presence, std::string> kNames = {{Presence::kStopped, "stopped"},
                                                         {Presence::kStarting, "starting"},
                                                         {Presence::kRunning, "running"},
                                                         {Presence::kStopping, "stopping"},
                                                         {Presence::kRestarting, "restarting"}};
  std::string text = child.id + " " + kNames.at(child.presence);
  if (child.presence != Presence::kRunning || child.state != LifeState::kRunning) {
    text += " " + std::string(life_state_name(child.state));
  }
  return text + " #" + std::to_string(child.incarnation);
}

std::string describe(const ChildCounts& counts) {
  std::ostringstream text;
  text << counts.specs << " specs, " << counts.active << " active, " << counts.supervisors
       << " supervisors, " << counts.workers << " workers";
  return text.str();
}

std::string describe(WaitStatus status) {
  return status.exited() ? "exit " + std::to_string(status.exit_code())
                         : signal_name(status.signal());
}

EventSink Transcript::sink() {
  return [this](const Event& event) {
    lines_.push_back(describe(event));
    events_.push_back(event);
  };
}

Reply Transcript::reply(const std::string& order, const std::string& path) {
  ++unanswered_;
  return [this, order, path, called = std::make_shared<bool>(false)](const Answer& answer) {
    // An instance of a dynamic supervisor learns its name only when it is made.
    const bool has_child = answer.ok() && !answer.child.path.empty();
    const std::string what = order + " " + named(has_child ? answer.child.path : path);
    if (std::exchange(*called, true)) {
      answered_twice_.push_back("'" + what + "' is answered twice");
    } else {
      --unanswered_;
    }
    lines_.push_back("answer " + what + ": " + describe(answer));
  };
}

void Transcript::add_hooks(SupervisorSpec& tree) {
  for (ChildSpec& child : tree.children) {
    child.hooks.prepare = [this](const ChildContext& who) -> Result<void> {
      lines_.push_back("hook prepare " + who.path);
      int& failing = failing_prepares_[who.path];
      if (failing == 0) return {};
      --failing;
      return usage_error("told to fail");
    };
    child.hooks.shutdown = [this](const ChildContext& who) {
      lines_.push_back("hook shutdown " + who.path);
    };
    child.hooks.teardown = [this](const ChildContext& who) {
      lines_.push_back("hook teardown " + who.path);
    };
    if (child.supervisor) {
      auto below = std::make_shared<SupervisorSpec>(*child.supervisor);
      add_hooks(*below);
      child.supervisor = std::move(below);
    }
  }
}

std::string Transcript::take() { return joined(std::exchange(lines_, {})); }

std::string Transcript::chain(const std::string& last) const {
  const auto found = std::find_if(events_.rbegin(), events_.rend(),
                                  [&](const Event& event) { return describe(event) == last; });
  if (found == events_.rend()) return "no event '" + last + "'";
  std::string text = last;
  std::uint64_t cause = found->cause;
  for (std::size_t bound = events_.size(); cause != 0 && bound > 0; --bound) {
    const auto before = std::find_if(events_.begin(), events_.end(),
                                     [&](const Event& event) { return event.number == cause; });
    if (before == events_.end()) return text + " <- an event that is not there";
    text += " <- " + describe(*before);
    cause = before->cause;
  }
  return text;
}

std::vector<std::string> Transcript::complaints() const {
  std::vector<std::string> complaints = answered_twice_;
  SequenceCheck check(&complaints);
  for (const Event& event : events_) check.see(event);
  return complaints;
}

bool give_order(TreeLogic& logic, const Action& action, std::int64_t now, Transcript& transcript) {
  const std::string& path = action.path;
  using enum Action::Kind;
  switch (action.kind) {
    case kBoot:
      return logic.start(now), true;
    case kStartChild:
      return logic.start_child(path, action.child, now,
                               transcript.reply("start", join_path(path, action.child.id))),
             true;
    case kRestartChild:
      return logic.restart_child(path, now, transcript.reply("restart", path)), true;
    case kStopChild:
      return logic.stop_child(path, now, transcript.reply("stop", path)), true;
    case kDeleteChild:
      return logic.delete_child(path, now, transcript.reply("delete", path)), true;
    case kSuspend:
      return logic.suspend(path, now, transcript.reply("suspend", path)), true;
    case kResume:
      return logic.resume(path, now, transcript.reply("resume", path)), true;
    case kShutdown:
      return logic.shutdown(now), true;
    case kKill:
      return logic.kill(now), true;
    case kCountRestart:
      return logic.count_restart(path, action.text, now), true;
    default:
      return false;
  }
}

std::string observe(const TreeLogic& logic, const Action& action, std::int64_t now,
                    const Transcript& transcript) {
  using enum Action::Kind;
  switch (action.kind) {
    case kExpectChildren:
      return children_text(logic.which_children(action.path));
    case kExpectCounts: {
      const auto counts = logic.count_children(action.path);
      return counts ? describe(*counts) : "no supervisor";
    }
    case kExpectChild:
      return child_text(logic.find(action.path));
    case kExpectSpec:
      return spec_text(logic.get_child_spec(action.path));
    case kExpectBudget:
      return budget_text(logic.info(now), action.path);
    case kExpectEnd:
      return end_text(logic);
    case kExpectEndText:  // The whole text, when it does not hold the part.
      return logic.end_text().find(action.text) == std::string::npos ? logic.end_text()
                                                                     : action.text;
    case kExpectChain:
      return transcript.chain(action.text.substr(0, action.text.find(" <- ")));
    case kExpectChecked:
      return checked_text(action.tree);
    default:
      return "not a question";
  }
}

std::string sorted_lines(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find("; ", begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 2;
  }
  std::ranges::sort(lines);
  return joined(lines);
}

}  // namespace crashworthy

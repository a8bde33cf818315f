#include "harness/supervision/model.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "harness/supervision/transcript.h"

namespace crashworthy {
namespace {

using Kind = Action::Kind;

std::string below(const std::string& supervisor, const std::string& id) {
  return supervisor.empty() ? id : supervisor + "/" + id;
}

std::string above(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string last_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string order_name(Kind kind) {
  switch (kind) {
    case Kind::kStartChild:
      return "start";
    case Kind::kRestartChild:
      return "restart";
    case Kind::kStopChild:
      return "stop";
    case Kind::kDeleteChild:
      return "delete";
    case Kind::kSuspend:
      return "suspend";
    default:
      return "resume";
  }
}

bool makes_sense(const ChildSpec& child, AutoShutdown auto_shutdown) {
  if (child.id.empty() || child.id.find('/') != std::string::npos) return false;
  if (child.function.empty() == (child.supervisor == nullptr)) return false;
  if (!child.significant) return true;
  return auto_shutdown != AutoShutdown::kNever && child.restart != RestartType::kPermanent;
}

}  // namespace

struct Model::Part {
  ChildSpec spec;
  std::uint64_t serial = 0;
  std::uint32_t incarnation = 0;
  bool runs = false;
  bool intermitted = false;
  bool ended = false;       // By itself, and its supervisor has not handled that yet.
  bool restarting = false;  // A restart of it failed, and is to be tried again.
  LifeState closed = LifeState::kInitial;  // When it does not run.
  std::optional<WaitStatus> last_end;
  std::unique_ptr<Supervisor> inner;  // A nested supervisor that lives.
};

struct Model::Message {
  enum class What { kEnd, kRetry, kOrder };
  What what = What::kOrder;
  std::uint64_t serial = 0;  // Of the part.
  std::uint32_t incarnation = 0;
  bool orderly = false;
  Action action;
};

struct Model::Supervisor {
  SupervisorSpec spec;
  std::string path;
  std::vector<std::unique_ptr<Part>> parts;
  std::vector<std::int64_t> restarts;
  bool suspended = false;
  std::deque<Message> waiting;

  bool is_dynamic() const { return spec.strategy == Strategy::kDynamic; }
  std::size_t index_of(const std::string& id) const {
    const auto found =
        std::ranges::find_if(parts, [&](const auto& part) { return part->spec.id == id; });
    return static_cast<std::size_t>(found - parts.begin());
  }
};

Model::Model(SupervisorSpec tree, std::map<std::string, int> stop_codes, Wrong wrong)
    : root_(std::make_unique<Supervisor>()), stop_codes_(std::move(stop_codes)), wrong_(wrong) {
  root_->spec = std::move(tree);
}

Model::~Model() = default;

void Model::act(const Action& action, std::int64_t now) {
  now_ = now;
  switch (action.kind) {
    case Kind::kBoot:
      if (!start_all(*root_)) ended_ = TreeEnd::kStartFailed;
      break;
    case Kind::kStartsFail:
      failing_[action.path] = action.number;
      break;
    case Kind::kExits:
      process_ends(action.path, WaitStatus::from_raw(action.number << 8));
      break;
    case Kind::kDies:
      process_ends(action.path, WaitStatus::from_raw(action.number));
      break;
    case Kind::kShutdown:
    case Kind::kKill:
      if (ended_) break;
      end_state_ = action.kind == Kind::kKill ? close(*root_, LifeState::kTerminated, true)
                                              : close(*root_, LifeState::kCompleted, false);
      ended_ = TreeEnd::kAsked;
      break;
    case Kind::kCountRestart:
      if (Supervisor* counted = find_supervisor(action.path); counted && !ended_) {
        if (!spend(*counted, 1)) give_up(*counted, TreeEnd::kIntensitySpent);
      }
      break;
    case Kind::kAdvance:
      break;
    default:
      order(action);
  }
  pump();
}

// Orders.

void Model::answer(const Action& action, const std::string& path, const std::string& result) {
  answers_.push_back("answer " + order_name(action.kind) + " " + (path.empty() ? "root" : path) +
                     ": " + result);
}

void Model::order(const Action& action) {
  const bool starts = action.kind == Kind::kStartChild;
  const std::string path = starts ? below(action.path, action.child.id) : action.path;
  if (ended_) return answer(action, path, "ending");
  if (action.kind == Kind::kSuspend || action.kind == Kind::kResume) return suspend(action);
  if (!starts && path.empty()) return answer(action, path, "invalid");
  Supervisor* supervisor = find_supervisor(starts ? action.path : above(path));
  if (!supervisor) return answer(action, path, "not_found");
  Message message;
  message.action = action;
  supervisor->waiting.push_back(std::move(message));
}

void Model::take_up(Supervisor& supervisor, const Action& action) {
  if (action.kind == Kind::kStartChild) return start_by_order(supervisor, action);
  if (action.kind == Kind::kRestartChild) return restart_by_order(supervisor, action);
  const bool deletes = action.kind == Kind::kDeleteChild;
  const std::string& path = action.path;
  if (deletes && supervisor.is_dynamic()) return answer(action, path, "dynamic");
  const std::size_t index = supervisor.index_of(last_of(path));
  if (index == supervisor.parts.size()) return answer(action, path, "not_found");
  Part& part = *supervisor.parts[index];
  if (deletes) {
    if (part.runs || part.ended) return answer(action, path, "running");
    if (part.restarting) return answer(action, path, "restarting");
  } else {
    stop_part(supervisor, part, false);
  }
  const bool significant = part.spec.significant && !deletes;
  const bool forgotten =
      deletes || supervisor.is_dynamic() || part.spec.restart == RestartType::kTemporary;
  if (forgotten) supervisor.parts.erase(supervisor.parts.begin() + static_cast<long>(index));
  answer(action, path, "ok");
  if (wrong_ == Wrong::kHeedsStops && should_shut_down(supervisor, significant)) {
    give_up(supervisor, TreeEnd::kAutoShutdown);
  }
}

void Model::start_by_order(Supervisor& supervisor, const Action& action) {
  ChildSpec spec = action.child;
  const std::string path = below(supervisor.path, spec.id);
  if (supervisor.is_dynamic()) {
    spec = supervisor.spec.children.front();
    spec.id = action.child.id;
  }
  if (!makes_sense(spec, supervisor.spec.auto_shutdown)) return answer(action, path, "invalid");
  const std::size_t index = supervisor.index_of(spec.id);
  if (index < supervisor.parts.size()) {
    const Part& there = *supervisor.parts[index];
    return answer(action, path, there.runs || there.ended ? "running" : "already_present");
  }
  auto part = std::make_unique<Part>();
  part->spec = spec;
  part->serial = next_serial_++;
  if (!start_part(supervisor, *part)) return answer(action, path, "start_failed");
  supervisor.parts.push_back(std::move(part));
  answer(action, path, "ok");
}

void Model::restart_by_order(Supervisor& supervisor, const Action& action) {
  if (supervisor.is_dynamic()) return answer(action, action.path, "dynamic");
  const std::size_t index = supervisor.index_of(last_of(action.path));
  if (index == supervisor.parts.size()) return answer(action, action.path, "not_found");
  Part& part = *supervisor.parts[index];
  if (part.runs || part.ended) return answer(action, action.path, "running");
  if (part.restarting) return answer(action, action.path, "restarting");
  answer(action, action.path, start_part(supervisor, part) ? "ok" : "start_failed");
}

void Model::suspend(const Action& action) {
  const bool suspends = action.kind == Kind::kSuspend;
  if (action.path.empty()) {
    suspend_below(*root_, suspends);
    return answer(action, action.path, "ok");
  }
  Part* part = find_part(action.path);
  if (!part) return answer(action, action.path, "not_found");
  if (!part->runs) return answer(action, action.path, "invalid");
  part->intermitted = suspends;
  if (part->inner) suspend_below(*part->inner, suspends);
  answer(action, action.path, "ok");
}

void Model::suspend_below(Supervisor& supervisor, bool suspend) {
  supervisor.suspended = suspend;
  if (wrong_ == Wrong::kForgetsWaiting) supervisor.waiting.clear();
  for (auto& part : supervisor.parts) {
    if (!part->runs) continue;
    part->intermitted = suspend;
    if (part->inner) suspend_below(*part->inner, suspend);
  }
}

// Ends, and what follows from them.

void Model::process_ends(const std::string& path, WaitStatus status) {
  Part* part = find_part(path);
  if (!part || !part->runs) return;
  const bool completed = status.success() && !part->intermitted;
  part->runs = part->intermitted = false;
  part->ended = true;
  part->last_end = status;
  part->closed = completed ? LifeState::kCompleted : LifeState::kTerminated;
  Message message;
  message.what = Message::What::kEnd;
  message.serial = part->serial;
  message.incarnation = part->incarnation;
  message.orderly = completed;
  find_supervisor(above(path))->waiting.push_back(std::move(message));
}

Model::Supervisor* Model::ready_supervisor(Supervisor& from) const {
  if (!from.suspended && !from.waiting.empty()) return &from;
  for (const auto& part : from.parts) {
    if (!part->inner) continue;
    if (Supervisor* found = ready_supervisor(*part->inner)) return found;
  }
  return nullptr;
}

void Model::pump() {
  while (!ended_) {
    Supervisor* supervisor = ready_supervisor(*root_);
    if (!supervisor) return;
    const Message message = std::move(supervisor->waiting.front());
    supervisor->waiting.pop_front();
    handle(*supervisor, message);
  }
}

void Model::handle(Supervisor& supervisor, const Message& message) {
  if (message.what == Message::What::kOrder) return take_up(supervisor, message.action);
  for (std::size_t i = 0; i < supervisor.parts.size(); ++i) {
    Part& part = *supervisor.parts[i];
    if (part.serial != message.serial) continue;
    if (message.what == Message::What::kRetry) {
      if (part.restarting) restart(supervisor, i);
    } else if (part.ended && part.incarnation == message.incarnation) {
      handle_end(supervisor, i, message.orderly);
    }
    return;
  }
}

void Model::handle_end(Supervisor& supervisor, std::size_t index, bool orderly) {
  Part& part = *supervisor.parts[index];
  part.ended = false;
  const RestartType how = part.spec.restart;
  if (wrong_ == Wrong::kRestartsCompleted && how == RestartType::kTransient) orderly = false;
  if (how == RestartType::kPermanent || (how == RestartType::kTransient && !orderly)) {
    return restart(supervisor, index);
  }
  const bool significant = part.spec.significant;
  if (how == RestartType::kTemporary || supervisor.is_dynamic()) {
    supervisor.parts.erase(supervisor.parts.begin() + static_cast<long>(index));
  }
  if (should_shut_down(supervisor, significant)) give_up(supervisor, TreeEnd::kAutoShutdown);
}

bool Model::should_shut_down(const Supervisor& supervisor, bool significant) const {
  if (!significant || supervisor.spec.auto_shutdown == AutoShutdown::kNever) return false;
  if (supervisor.spec.auto_shutdown == AutoShutdown::kAnySignificant) return true;
  return std::ranges::none_of(supervisor.parts, [](const auto& part) {
    return part->spec.significant && (part->runs || part->ended || part->restarting);
  });
}

bool Model::spend(Supervisor& supervisor, int count) {
  for (int i = 0; i < count; ++i) supervisor.restarts.push_back(now_);
  const int allowed = supervisor.spec.intensity + (wrong_ == Wrong::kOneRestartMore ? 1 : 0);
  const std::int64_t begin =
      now_ - supervisor.spec.period.count() - (wrong_ == Wrong::kWindowIsClosed ? 1 : 0);
  return std::ranges::count_if(supervisor.restarts, [&](auto time) { return time > begin; }) <=
         allowed;
}

int Model::left(const Supervisor& supervisor, std::int64_t now) const {
  const std::int64_t begin = now - supervisor.spec.period.count();
  const auto spent =
      std::ranges::count_if(supervisor.restarts, [&](auto time) { return time > begin; });
  return std::max(0, supervisor.spec.intensity - static_cast<int>(spent));
}

void Model::restart(Supervisor& supervisor, std::size_t index) {
  Part& part = *supervisor.parts[index];
  part.restarting = false;
  const bool group = supervisor.spec.strategy == Strategy::kOneForAll ||
                     supervisor.spec.strategy == Strategy::kRestForOne;
  const bool each = wrong_ == Wrong::kGroupCountsEach && group;
  if (!spend(supervisor, each ? static_cast<int>(supervisor.parts.size()) : 1)) {
    return give_up(supervisor, TreeEnd::kIntensitySpent);
  }
  if (group) {
    const bool all = supervisor.spec.strategy == Strategy::kOneForAll;
    return restart_group(supervisor, all ? 0 : index, &part);
  }
  if (start_part(supervisor, part)) return;
  part.restarting = true;
  Message again;
  again.what = Message::What::kRetry;
  again.serial = part.serial;
  supervisor.waiting.push_back(again);
}

void Model::restart_group(Supervisor& supervisor, std::size_t begin, const Part* ended) {
  auto& parts = supervisor.parts;
  std::vector<const Part*> were_stopped;
  for (std::size_t i = parts.size(); i-- > begin;) {
    Part& part = *parts[i];
    if (!part.runs && !part.ended && &part != ended) were_stopped.push_back(&part);
    stop_part(supervisor, part, false);
    if (part.spec.restart == RestartType::kTemporary && wrong_ != Wrong::kKeepsTemporary) {
      parts.erase(parts.begin() + static_cast<long>(i));
    }
  }
  for (std::size_t i = begin; i < parts.size(); ++i) {
    Part& part = *parts[i];
    const bool leave =
        wrong_ == Wrong::kGroupLeavesStopped && std::ranges::count(were_stopped, &part) > 0;
    if (leave || start_part(supervisor, part)) continue;
    Part& again = wrong_ == Wrong::kRetriesFromTheFirst ? *parts[begin] : part;
    if (&again != &part) stop_part(supervisor, again, false);
    again.restarting = true;
    Message message;
    message.what = Message::What::kRetry;
    message.serial = again.serial;
    supervisor.waiting.push_back(message);
    return;
  }
}

// Starts and stops.

bool Model::start_all(Supervisor& supervisor) {
  if (supervisor.is_dynamic()) return true;
  for (const ChildSpec& spec : supervisor.spec.children) {
    auto part = std::make_unique<Part>();
    part->spec = spec;
    part->serial = next_serial_++;
    const bool started = start_part(supervisor, *part);
    supervisor.parts.push_back(std::move(part));
    if (started) continue;
    const LifeState state = close(supervisor, LifeState::kTerminated, false);
    if (&supervisor == root_.get()) end_state_ = state;
    return false;
  }
  return true;
}

bool Model::start_part(Supervisor& supervisor, Part& part) {
  const std::string path = below(supervisor.path, part.spec.id);
  ++part.incarnation;
  part.restarting = part.intermitted = false;
  part.closed = LifeState::kTerminated;
  if (part.spec.supervisor) {
    auto inner = std::make_unique<Supervisor>();
    inner->spec = *part.spec.supervisor;
    inner->path = path;
    if (!start_all(*inner)) return false;
    part.inner = std::move(inner);
  } else if (int& failing = failing_[path]; failing > 0) {
    --failing;
    return false;
  }
  part.runs = true;
  return true;
}

void Model::stop_part(Supervisor& supervisor, Part& part, bool kill) {
  part.ended = part.restarting = false;  // What was to be done about it need not be.
  if (!part.runs) return;
  part.runs = part.intermitted = false;
  const bool killed = kill || part.spec.stop_policy().kind == StopPolicy::Kind::kKill;
  if (part.inner) {
    part.closed =
        close(*part.inner, killed ? LifeState::kTerminated : LifeState::kCompleted, killed);
    part.inner.reset();
    return;
  }
  const auto code = stop_codes_.find(below(supervisor.path, part.spec.id));
  WaitStatus status = WaitStatus::from_raw(SIGTERM);
  if (code != stop_codes_.end()) status = WaitStatus::from_raw(code->second << 8);
  if (killed) status = WaitStatus::from_raw(SIGKILL);
  const bool obeyed =
      status.exited() ? status.exit_code() == 0 || status.exit_code() == 143 : !killed;
  part.last_end = status;
  part.closed = obeyed ? LifeState::kCompleted : LifeState::kTerminated;
}

// Stops all in reverse order; what waits is in vain.
LifeState Model::close(Supervisor& supervisor, LifeState loop, bool kill) {
  LifeState whole = loop;
  for (std::size_t i = supervisor.parts.size(); i-- > 0;) {
    Part& part = *supervisor.parts[i];
    stop_part(supervisor, part, kill);
    // A temporary child is forgotten with its stop; instances are stopped all at once.
    if (part.spec.restart == RestartType::kTemporary && !supervisor.is_dynamic()) continue;
    if (part.closed == LifeState::kTerminated) whole = LifeState::kTerminated;
  }
  for (const Message& message : supervisor.waiting) {
    if (message.what != Message::What::kOrder) continue;
    const Action& order = message.action;
    const bool starts = order.kind == Kind::kStartChild;
    answer(order, starts ? below(order.path, order.child.id) : order.path, "ending");
  }
  supervisor.waiting.clear();
  return whole;
}

// The supervisor ends by itself; to the one above it that is an orderly end.
void Model::give_up(Supervisor& supervisor, TreeEnd end) {
  const LifeState loop =
      end == TreeEnd::kAutoShutdown ? LifeState::kCompleted : LifeState::kTerminated;
  const LifeState state = close(supervisor, loop, false);
  if (&supervisor == root_.get()) {
    ended_ = end;
    end_state_ = state;
    return;
  }
  const std::string path = supervisor.path;
  Part& part = *find_part(path);
  part.runs = part.intermitted = false;
  part.ended = true;
  part.closed = state;
  Message message;
  message.what = Message::What::kEnd;
  message.serial = part.serial;
  message.incarnation = part.incarnation;
  message.orderly = true;
  part.inner.reset();  // `supervisor` is no more.
  find_supervisor(above(path))->waiting.push_back(std::move(message));
}

// Questions.

Model::Supervisor* Model::find_supervisor(const std::string& path) const {
  if (path.empty()) return root_.get();
  Part* part = find_part(path);
  return part ? part->inner.get() : nullptr;
}

Model::Part* Model::find_part(const std::string& path) const {
  Supervisor* supervisor = find_supervisor(above(path));
  if (!supervisor) return nullptr;
  const std::size_t index = supervisor->index_of(last_of(path));
  return index < supervisor->parts.size() ? supervisor->parts[index].get() : nullptr;
}

LifeState Model::state(const Supervisor& supervisor) const {
  if (!supervisor.suspended) return LifeState::kRunning;
  const bool runs = std::ranges::any_of(
      supervisor.parts, [&](const auto& part) { return state(*part) == LifeState::kRunning; });
  return runs ? LifeState::kRunning : LifeState::kIntermitted;
}

LifeState Model::state(const Part& part) const {
  if (!part.runs) return part.closed;
  if (part.inner) return state(*part.inner);
  return part.intermitted ? LifeState::kIntermitted : LifeState::kRunning;
}

std::string Model::text(std::int64_t now) {
  if (ended_) return "ended, " + std::string(life_state_name(end_state_)) + "\n";
  std::string text;
  add_text(*root_, now, text);
  return text;
}

void Model::add_text(const Supervisor& supervisor, std::int64_t now, std::string& text) const {
  ChildCounts counts;
  std::string list;
  for (const auto& part : supervisor.parts) {
    ChildInfo info;
    info.id = part->spec.id;
    info.presence = part->runs         ? Presence::kRunning
                    : part->restarting ? Presence::kRestarting
                                       : Presence::kStopped;
    info.state = state(*part);
    info.incarnation = part->incarnation;
    list += "\n  " + describe(info) + (part->last_end ? " " + part->last_end->describe() : "");
    ++counts.specs;
    counts.active += part->runs ? 1 : 0;
    ++(part->spec.child_type() == ChildType::kWorker ? counts.workers : counts.supervisors);
  }
  if (supervisor.is_dynamic()) counts.specs = 1;
  text += "'" + supervisor.path + "' " + std::string(life_state_name(state(supervisor))) +
          ", left " + std::to_string(left(supervisor, now)) + ", " + describe(counts) + list + "\n";
  for (const auto& part : supervisor.parts) {
    if (part->inner) add_text(*part->inner, now, text);
  }
}

std::vector<std::string> Model::take_answers() { return std::exchange(answers_, {}); }

Model::Known Model::known() const {
  Known known;
  if (!ended_) add_known(*root_, known);
  return known;
}

void Model::add_known(const Supervisor& supervisor, Known& known) const {
  known.supervisors.push_back(supervisor.path);
  if (supervisor.suspended) known.suspended_supervisors.push_back(supervisor.path);
  for (const auto& part : supervisor.parts) {
    const std::string path = below(supervisor.path, part->spec.id);
    known.children.push_back(path);
    if (part->inner) {
      add_known(*part->inner, known);
    } else if (part->runs) {
      (part->intermitted ? known.suspended_processes : known.processes).push_back(path);
    }
  }
}

std::optional<std::string> Model::waiting() const {
  for (const std::string& path : known().supervisors) {
    if (!find_supervisor(path)->waiting.empty()) return path;
  }
  return std::nullopt;
}

}  // namespace crashworthy

#include "faults/victim.h"

#include <fnmatch.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/proc.h"

namespace crashworthy {

void WorkerTracker::add(std::span<const ProbeRecord> records) {
  for (const ProbeRecord& record : records) {
    const auto event = static_cast<ProbeEvent>(record.event);
    Place& place = places_[record.worker];
    const bool current = place.state.incarnation == record.incarnation;
    switch (event) {
      case ProbeEvent::kWorkerReady:
        if (record.incarnation < place.state.incarnation) break;
        place = Place{WorkerState{record.worker, record.incarnation, record.pid, {}}, false};
        last_[record.pid] = place.state;
        break;
      case ProbeEvent::kStarted:
        if (!current) break;
        place.state.holds = HeldUnit{record.item, record.part, record.attempt};
        last_[record.pid] = place.state;
        break;
      case ProbeEvent::kDone:
        if (!current) break;
        place.state.holds.reset();
        last_[record.pid] = place.state;
        break;
      case ProbeEvent::kWorkerDied:
        if (current && place.state.pid == record.pid) place.dead = true;
        break;
      default:
        if (place.state.incarnation == 0)
          places_.erase(record.worker);  // No worker: a record of the coordinator.
        break;
    }
  }
}

std::vector<WorkerState> WorkerTracker::alive() const {
  std::vector<WorkerState> states;
  for (const auto& [number, place] : places_) {
    if (!place.dead && place.state.incarnation > 0) states.push_back(place.state);
  }
  return states;
}

std::optional<WorkerState> WorkerTracker::by_pid(std::int32_t pid) const {
  const auto found = last_.find(pid);
  if (found == last_.end()) return std::nullopt;
  return found->second;
}

namespace {

struct TreeMember {
  pid_t host_pid = 0;
  std::uint64_t born = 0;  // In ticks since the boot.
  std::string name;
  std::string command_line;
};

// Empty when it has ended.
std::optional<TreeMember> look_at(pid_t pid) {
  const auto stat = read_stat(pid);
  if (!stat || stat->state == 'Z') return std::nullopt;
  TreeMember member;
  member.host_pid = pid;
  member.born = stat->start_time;
  member.name = stat->name;
  auto words = read_file("/proc/" + std::to_string(pid) + "/cmdline");
  if (words) {
    std::replace(words->begin(), words->end(), '\0', ' ');
    while (words->ends_with(' ')) words->pop_back();
    member.command_line = *std::move(words);
  }
  return member;
}

bool matches(const TreeMember& member, const std::string& pattern) {
  return ::fnmatch(pattern.c_str(), member.name.c_str(), 0) == 0 ||
         ::fnmatch(pattern.c_str(), member.command_line.c_str(), 0) == 0;
}

// The tree by birth; pids rise within one tick.
std::vector<TreeMember> members_of(const SubjectView& subject) {
  std::vector<TreeMember> members;
  for (const pid_t pid : subject.host_pids()) {
    if (auto member = look_at(pid)) members.push_back(*std::move(member));
  }
  std::sort(members.begin(), members.end(), [](const TreeMember& a, const TreeMember& b) {
    return std::pair(a.born, a.host_pid) < std::pair(b.born, b.host_pid);
  });
  return members;
}

std::vector<Victim> any_that_fit(const SubjectView& subject, const VictimRule& rule) {
  std::map<pid_t, std::pair<TreeMember, std::int64_t>> chosen;  // With their numbers by birth.
  std::vector<pid_t> pids;
  std::int64_t number = 0;
  for (TreeMember& member : members_of(subject)) {
    ++number;
    if (rule.child && *rule.child != number) continue;
    if (!rule.command.empty() && !matches(member, rule.command)) continue;
    const pid_t pid = member.host_pid;
    pids.push_back(pid);
    chosen[pid] = {std::move(member), number};
  }
  std::vector<Victim> fitting;
  for (TreeProcessFd& held : open_members(subject, pids)) {
    const auto& [member, at] = chosen[held.pid];
    const std::int32_t own = pid_in_own_namespace(held.pid).value_or(0);
    // Another of the tree may have got the number since it was looked at.
    if (own == 0 || start_time_of(held.pid) != member.born) continue;
    fitting.push_back(
        {own, held.pid, std::move(held.pidfd), subject.workers().by_pid(own), member.name, at, 0});
  }
  return fitting;
}

std::vector<Victim> all_that_fit(const SubjectView& subject, const VictimRule& rule) {
  if (rule.role == Role::kAny) return any_that_fit(subject, rule);
  std::vector<Victim> fitting;
  const auto add = [&](std::int32_t pid, const std::optional<WorkerState>& worker) {
    if (pid == 0) return;
    auto pidfd = subject.open(pid);
    if (!pidfd) return;
    const auto host = pid_of(pidfd->get());
    fitting.push_back({pid, host ? *host : 0, std::move(*pidfd), worker, {}, 0, 0});
  };
  const bool names_worker = rule.holding_item || rule.worker || rule.incarnation;
  if (rule.role == Role::kWorker && (subject.workers().any() || subject.isolated())) {
    for (const WorkerState& worker : subject.workers().alive()) {
      if (rule.holding_item && !worker.holds) continue;
      if (rule.worker && worker.worker != static_cast<std::uint64_t>(*rule.worker)) continue;
      if (rule.incarnation && worker.incarnation != static_cast<std::uint64_t>(*rule.incarnation))
        continue;
      add(worker.pid, worker);
    }
  } else if (rule.role == Role::kWorker && names_worker) {
    return {};  // No worker has told of itself yet; one that never does holds nothing that we know
                // of.
  } else if (rule.role == Role::kSupervisor) {
    add(subject.supervisor_pid(), std::nullopt);
  } else {
    add(subject.main_pid(), subject.workers().by_pid(subject.main_pid()));
  }
  return fitting;
}

std::uint64_t birth_of(const Victim& victim) {
  const auto member = look_at(victim.host_pid);
  return member ? member->born : 0;
}

}  // namespace

std::vector<TreeProcessFd> open_members(const SubjectView& subject,
                                        const std::vector<pid_t>& pids) {
  std::vector<TreeProcessFd> held;
  for (const pid_t pid : pids) {
    if (auto pidfd = open_pidfd(pid)) held.push_back({pid, *std::move(pidfd)});
  }
  const std::vector<pid_t> now = subject.host_pids();
  const std::set<pid_t> members(now.begin(), now.end());
  held.erase(std::remove_if(held.begin(), held.end(),
                            [&](const TreeProcessFd& process) {
                              // One that has ended may have left its number to a new member.
                              return !members.contains(process.pid) ||
                                     has_ended(process.pidfd.get());
                            }),
             held.end());
  return held;
}

std::vector<Victim> choose_victims(const SubjectView& subject, const VictimRule& rule,
                                   Random& random) {
  std::vector<Victim> fitting = all_that_fit(subject, rule);
  const auto count = static_cast<std::size_t>(rule.count);
  if (fitting.empty() || rule.pick == Pick::kAll) return fitting;
  if (fitting.size() < count) return {};
  std::vector<Victim> chosen;
  if (rule.pick == Pick::kRandom) {
    for (std::size_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::ptrdiff_t>(random.below(fitting.size()));
      chosen.push_back(std::move(fitting[static_cast<std::size_t>(at)]));
      fitting.erase(fitting.begin() + at);
    }
    return chosen;
  }
  const auto older = [](const Victim& a, const Victim& b) {
    return std::pair(birth_of(a), a.host_pid) < std::pair(birth_of(b), b.host_pid);
  };
  const auto at = rule.pick == Pick::kOldest
                      ? std::min_element(fitting.begin(), fitting.end(), older)
                      : std::max_element(fitting.begin(), fitting.end(), older);
  chosen.push_back(std::move(*at));
  return chosen;
}

nlohmann::json to_json(const Victim& victim, Role role) {
  nlohmann::json object{
      {"role", role_name(role)}, {"pid", victim.pid}, {"host_pid", victim.host_pid}};
  if (victim.worker) {
    object["worker"] = victim.worker->worker;
    object["incarnation"] = victim.worker->incarnation;
    if (victim.worker->holds) {
      object["item"] = victim.worker->holds->item;
      object["part"] = victim.worker->holds->part;
    }
  }
  if (victim.child > 0) {
    object["command"] = victim.command;
    object["child"] = victim.child;
  }
  if (victim.struck_ns != 0) object["struck_ns"] = victim.struck_ns;
  return object;
}

}  // namespace crashworthy

#include "harness/cli/tree_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMaxNamed = 8;  // In a message.

void collect(const SupervisorInfo& info, const std::string& id, std::vector<std::string>& paths) {
  for (const auto& [child, below] : info.children) {
    if (id.empty() || child.id == id) paths.push_back(child.path);
    for (const SupervisorInfo& nested : below) collect(nested, id, paths);
  }
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size() && i < kMaxNamed; ++i)
    text += (i == 0 ? "" : ", ") + words[i];
  if (words.size() > kMaxNamed)
    text += ", and " + std::to_string(words.size() - kMaxNamed) + " more";
  return text;
}

// How long until `due`; null when that is no moment.
ordered_json time_until(std::int64_t due, std::int64_t now) {
  if (due == 0) return nullptr;
  return std::max<std::int64_t>(due - now, 0);
}

}  // namespace

ordered_json child_json(const SupervisorInfo::Entry& entry, std::int64_t now) {
  const ChildInfo& child = entry.child;
  const bool lives =
      child.presence != Presence::kStopped && child.presence != Presence::kRestarting;
  ordered_json object{{"id", child.id},
                      {"path", child.path},
                      {"type", type_name(child.type)},
                      {"restart", restart_name(child.restart)},
                      {"significant", child.significant},
                      {"presence", presence_name(child.presence)},
                      {"state", life_state_name(child.state)},
                      {"incarnation", child.incarnation},
                      {"pid", child.pid},
                      {"uptime_ns", nullptr},
                      {"last_end", nullptr},
                      {"crash_loop", child.crash_loop},
                      {"due_in_ns", time_until(child.due_ns, now)}};
  if (lives && child.started_ns != 0)
    object["uptime_ns"] = std::max<std::int64_t>(now - child.started_ns, 0);
  if (!child.end_reason.empty()) object["last_end"] = child.end_reason;
  if (!entry.below.empty()) object["supervisor"] = tree_json(entry.below[0], child.id, now);
  return object;
}

ordered_json tree_json(const SupervisorInfo& info, const std::string& name, std::int64_t now) {
  ordered_json children = ordered_json::array();
  std::size_t running = 0;
  for (const SupervisorInfo::Entry& entry : info.children) {
    const bool runs =
        entry.child.presence == Presence::kRunning && entry.child.state != LifeState::kIntermitted;
    running += runs ? 1 : 0;
    children.push_back(child_json(entry, now));
  }
  return {{"name", name},
          {"path", info.path},
          {"state", life_state_name(info.state)},
          {"strategy", strategy_name(info.strategy)},
          {"intensity", info.intensity},
          {"period_ns", info.period.count()},
          {"period", stop_name({StopPolicy::Kind::kTime, info.period})},  // As people write it.
          {"auto_shutdown", auto_shutdown_name(info.auto_shutdown)},
          {"budget_left", info.budget_left},
          {"running", running},
          {"total", info.children.size()},
          {"children", children}};
}

Found find_entry(const SupervisorInfo& root, const std::string& path) {
  for (const SupervisorInfo::Entry& entry : root.children) {
    if (entry.child.path == path) return {&root, &entry};
    if (entry.below.empty() || !path.starts_with(entry.child.path + "/")) continue;
    return find_entry(entry.below[0], path);
  }
  return {};
}

Result<std::string> find_path(const SupervisorInfo& root, const std::string& root_name,
                              const std::string& name) {
  const std::string path = name.starts_with('/') ? name.substr(1) : name;
  if (path.empty()) return std::string();
  if (find_entry(root, path).entry != nullptr) return path;
  if (name == root_name) return std::string();
  std::vector<std::string> same;
  if (name.find('/') == std::string::npos) collect(root, name, same);
  if (same.size() == 1) return same.front();
  const std::string shown = quoted(nlohmann::json(name));
  if (same.size() > 1) {
    return usage_error(shown + " is the id of " + std::to_string(same.size()) + " children",
                       "name one by its path: " + join(same));
  }
  std::vector<std::string> all;
  collect(root, {}, all);
  std::string hint = suggest(name, all);
  if (!hint.starts_with("did you mean")) hint = all.empty() ? "" : "known: " + join(all);
  return Error{ErrorKind::kGone, 0, "there is no child " + shown, hint};
}

}  // namespace crashworthy

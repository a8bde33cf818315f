#include "harness/cli/tree_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "harness/os/clock.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::size_t kColumns = 7;
using Row = std::array<std::string, kColumns>;
constexpr std::size_t kStateColumn = 1;

// Code points, which is what a terminal's columns mostly are.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// 9.3 s, 5 min, 7 h, 3 d: for times that people read at a glance.
std::string short_time(const json& nanoseconds) {
  if (!nanoseconds.is_number()) return "-";
  const double seconds = nanoseconds.get<double>() / 1e9;
  if (seconds < 0.9995) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  if (seconds < 172'800) return fmt::format("{:.1f} h", seconds / 3600);
  return fmt::format("{:.0f} d", seconds / 86'400);
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::int64_t number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

std::string left_of(const json& supervisor) {
  return fmt::format("{}/{}", number_of(supervisor, "budget_left"),
                     number_of(supervisor, "intensity"));
}

// What it waits for, and that it is in a crash loop.
std::string note_of(const json& child) {
  const std::string presence = text_of(child, "presence");
  const json due = child.value("due_in_ns", json());
  const std::string time = due.is_number() ? short_time(due) : std::string();
  std::string note;
  if (presence == "starting") note = time.empty() ? "starting" : "not ready yet, " + time + " left";
  if (presence == "stopping") note = time.empty() ? "stopping" : "stopping, killed in " + time;
  if (presence == "restarting") note = time.empty() ? "to be restarted" : "next try in " + time;
  if (child.value("crash_loop", false)) note += note.empty() ? "crash loop" : "; crash loop";
  return note;
}

struct Branches {
  const char* middle;
  const char* last;
  const char* through;
};
constexpr Branches kBoxes{"├─ ", "└─ ", "│  "};
constexpr Branches kAscii{"|- ", "`- ", "|  "};

void add_children(const json& supervisor, const std::string& indent, const Branches& branches,
                  std::vector<Row>& rows) {
  const json children = supervisor.value("children", json::array());
  for (std::size_t i = 0; i < children.size(); ++i) {
    const json& child = children[i];
    const bool last = i + 1 == children.size();
    const bool nested = child.contains("supervisor");
    const std::int64_t pid = number_of(child, "pid");
    const std::string end = text_of(child, "last_end");
    rows.push_back({indent + (last ? branches.last : branches.middle) + text_of(child, "id"),
                    text_of(child, "state"), pid == 0 ? "-" : std::to_string(pid),
                    short_time(child.value("uptime_ns", json())),
                    fmt::format("#{}{}", number_of(child, "incarnation"),
                                nested ? ", " + left_of(child["supervisor"]) + " left" : ""),
                    end.empty() ? "-" : end, note_of(child)});
    if (nested)
      add_children(child["supervisor"], indent + (last ? "   " : branches.through), branches, rows);
  }
}

const char* colour_of(const std::string& state) {
  if (state == "running") return "\033[32m";
  if (state == "terminated") return "\033[31m";
  if (state == "completed") return "\033[2m";
  return "\033[33m";
}

std::string padded(const std::string& text, std::size_t width) {
  return text + std::string(width - std::min(width, width_of(text)), ' ');
}

void add_summary(const json& supervisor, const std::string& name, std::string& text) {
  text += fmt::format("{}: {}, {} of {} running, {} of {} restarts left in {}\n", name,
                      text_of(supervisor, "state"), number_of(supervisor, "running"),
                      number_of(supervisor, "total"), number_of(supervisor, "budget_left"),
                      number_of(supervisor, "intensity"), text_of(supervisor, "period"));
  for (const json& child : supervisor.value("children", json::array())) {
    if (child.contains("supervisor"))
      add_summary(child["supervisor"], text_of(child, "path"), text);
  }
}

}  // namespace

std::string tree_table(const json& tree, const TreeStyle& style) {
  std::vector<Row> rows{{"ID", "STATE", "PID", "UPTIME", "RESTARTS", "LAST END", ""}};
  rows.push_back({text_of(tree, "name"), text_of(tree, "state"),
                  std::to_string(number_of(tree, "pid")),
                  short_time(tree.value("uptime_ns", json())), left_of(tree) + " left", "-", ""});
  add_children(tree, "", style.box_characters ? kBoxes : kAscii, rows);
  std::array<std::size_t, kColumns> widths{};
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < kColumns; ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  std::string text;
  for (std::size_t number = 0; number < rows.size(); ++number) {
    std::string line;
    for (std::size_t i = 0; i < kColumns; ++i) {
      const std::string cell = padded(rows[number][i], widths[i]) + "  ";
      const bool coloured = style.colour && number > 0 && i == kStateColumn;
      line += coloured ? colour_of(rows[number][i]) + cell + "\033[0m" : cell;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string tree_summary(const json& tree) {
  std::string text;
  add_summary(tree, text_of(tree, "name"), text);
  return text;
}

std::string child_summary(const json& child) {
  const std::int64_t pid = number_of(child, "pid");
  if (child.value("forgotten", false)) return text_of(child, "path") + ": forgotten\n";
  std::string text = text_of(child, "path") + ": " + text_of(child, "state");
  if (pid != 0) text += fmt::format(", pid {}", pid);
  if (child.value("uptime_ns", json()).is_number())
    text += ", up " + short_time(child["uptime_ns"]);
  text += fmt::format(", incarnation {}", number_of(child, "incarnation"));
  if (const std::string end = text_of(child, "last_end"); !end.empty()) text += ", last " + end;
  if (const std::string note = note_of(child); !note.empty()) text += "; " + note;
  text += "\n";
  if (child.contains("supervisor")) add_summary(child["supervisor"], text_of(child, "path"), text);
  return text;
}

}  // namespace crashworthy

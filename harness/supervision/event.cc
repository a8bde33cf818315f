#include "harness/supervision/event.h"

#include <array>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

namespace crashworthy {
namespace {

constexpr std::array<std::string_view, 11> kNames{
    "state",   "ready",           "ended",         "start_failed", "hang", "stop_timeout",
    "restart", "intensity_spent", "auto_shutdown", "crash_loop",   "order"};
static_assert(kNames.size() == static_cast<std::size_t>(EventKind::kOrder) + 1);

}  // namespace

std::string_view event_name(EventKind kind) { return kNames[static_cast<std::size_t>(kind)]; }

std::string log_time(std::int64_t unix_ns) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  std::time_t second = unix_ns / kSecond;
  std::int64_t rest = unix_ns % kSecond;
  if (rest < 0) {  // Before 1970.
    rest += kSecond;
    --second;
  }
  std::tm parts{};
  ::gmtime_r(&second, &parts);
  std::array<char, 40> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts);
  std::snprintf(text.data() + length, text.size() - length, ".%06d", static_cast<int>(rest / 1000));
  return text.data();
}

std::string log_line(const Event& event, std::int64_t unix_ns, std::string_view root) {
  std::array<char, 16> pid{};
  std::snprintf(pid.data(), pid.size(), "%05d", static_cast<int>(event.pid));
  std::string line = log_time(unix_ns) + "\t[";
  line += event.path.empty() ? root : std::string_view(event.path);
  line += "]\tpid:";
  line += pid.data();
  line += '\t';
  line += life_state_name(event.state);
  return line;
}

std::string event_json(const Event& event, std::int64_t unix_ns) {
  nlohmann::ordered_json line{{"number", event.number},
                              {"cause", event.cause},
                              {"causes", event.causes},
                              {"time", log_time(unix_ns)},
                              {"unix_ns", unix_ns},
                              {"time_ns", event.time_ns},
                              {"event", event_name(event.kind)},
                              {"path", event.path},
                              {"incarnation", event.incarnation},
                              {"pid", event.pid}};
  if (event.kind == EventKind::kState) line["state"] = life_state_name(event.state);
  if (event.status) {
    if (event.status->exited()) {
      line["exit_code"] = event.status->exit_code();
    } else {
      line["signal"] = event.status->signal();
      line["core"] = event.status->dumped_core();
    }
    line["status"] = event.status->describe();
    line["raw_status"] = event.status->raw();  // Of waitpid(2).
  }
  if (event.budget_left >= 0) line["budget_left"] = event.budget_left;
  if (!event.text.empty()) line["text"] = event.text;
  // What a program said, or the kernel, need not be UTF-8.
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace crashworthy

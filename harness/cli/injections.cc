#include "harness/cli/injections.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "harness/cli/commands.h"
#include "harness/os/clock.h"
#include "harness/os/wait_status.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr int kNotConfirmed = 3;

std::string victim_text(const json& victim) {
  std::string text = victim.value("role", "");
  if (victim.contains("worker"))
    text += fmt::format(" {}, life {}", victim["worker"].dump(),
                        victim.value("incarnation", json()).dump());
  if (victim.contains("child"))
    text += fmt::format(" {} '{}'", victim["child"].dump(), victim.value("command", ""));
  return text + fmt::format(" (pid {})", victim.value("pid", 0));
}

}  // namespace

std::string injection_line(const json& injection) {
  std::string text = injection.value("name", "") + ": " + injection.value("outcome", "");
  const json proof = injection.value("proof", json());
  if (proof.is_string()) text += "; proof: " + proof.get<std::string>();
  if (const auto reason = injection.value("reason", ""); !reason.empty()) text += "; " + reason;
  std::string victims;
  for (const json& victim : injection.value("victims", json::array()))
    victims += (victims.empty() ? "" : ", ") + victim_text(victim);
  return text + (victims.empty() ? "" : "; victim: " + victims);
}

json injections_json(const InjectOptions& options, const InjectResult& result) {
  json document{{"schema", kSchemaVersion},
                {"command", options.command},
                {"seed", options.seed},
                {"disarmed", options.disarmed},
                {"confirmed", result.all_confirmed},
                {"injections", result.injections},
                {"ended", result.ended},
                {"duration_ns", result.duration_ns},
                {"timed_out", result.timed_out},
                {"interrupted", result.interrupted_by != 0},
                {"containment", result.containment},
                {"record", result.record.string()}};
  document["exit_code"] = result.exit_code ? json(*result.exit_code) : json(nullptr);
  document["signal"] = result.signal ? json(*result.signal) : json(nullptr);
  return document;
}

void tell_injections(const InjectOptions& options, const InjectResult& result, bool as_json,
                     bool quiet) {
  std::fflush(stdout);
  if (as_json) {
    const std::string text =
        injections_json(options, result).dump(-1, ' ', false, json::error_handler_t::replace);
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  if (quiet) return;
  const char* was = result.ended.starts_with("killed") ? "was " : "";
  const std::string command =
      fmt::format("'{}' {}{} after {}", options.command.front(), was, result.ended,
                  format_duration(static_cast<double>(result.duration_ns)));
  for (const json& injection : result.injections) {
    std::fprintf(stderr, "crashworthy: %s; %s\n", injection_line(injection).c_str(),
                 command.c_str());
  }
  std::fprintf(stderr, "crashworthy: record in %s\n", result.record.c_str());
}

int fail_injection(const Error& error) {
  const int code = fail(error);
  return error.kind == ErrorKind::kMissing ? kNotConfirmed : code;
}

}  // namespace crashworthy

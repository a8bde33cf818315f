#include "harness/experiment/service_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/os/file.h"
#include "harness/os/json_fields.h"
#include "harness/os/local_url.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostRequests = 100'000;
constexpr double kMostRate = 100'000;
const std::vector<std::string> kEndSignals{"TERM", "INT", "QUIT", "HUP", "KILL"};

Result<void> read_targets(const json& object, const std::string& pointer, ServiceSpec& service) {
  const auto found = object.find("targets");
  if (found == object.end()) {
    service.targets = {parse_local_url(service.ready)->target};
    return {};
  }
  const std::string here = pointer + "/targets";
  if (!found->is_array() || found->empty())
    return field_error(here, "must be a list of paths such as [\"/image.jpg\"]");
  for (const json& target : *found) {
    const std::string text = target.is_string() ? target.get<std::string>() : std::string();
    if (!text.starts_with("/") || text.find_first_of(" \t\r\n") != std::string::npos) {
      return field_error(here, quoted(target) + " is no path that a server can be asked for",
                         "write it as \"/image.jpg?width=100\", without blanks");
    }
    service.targets.push_back(text);
  }
  return {};
}

}  // namespace

Result<ServiceSpec> read_service(const json& object, const std::string& pointer) {
  if (auto good = require_object(object, pointer,
                                 {"ready", "targets", "requests", "rate", "request_timeout",
                                  "ready_timeout", "end", "grace"});
      !good)
    return good.error();
  ServiceSpec service;
  auto ready = read_string(object, pointer, "ready", "");
  if (!ready) return ready.error();
  auto url = parse_local_url(*ready);
  if (!url) return field_error(pointer + "/ready", url.error().message, url.error().hint);
  service.ready = *ready;
  if (auto read = read_targets(object, pointer, service); !read) return read.error();
  auto requests = read_integer(object, pointer, "requests", 100, 1, kMostRequests);
  if (!requests) return requests.error();
  service.requests = static_cast<int>(*requests);
  const json rate = object.value("rate", json(service.rate));
  if (!rate.is_number() || rate.get<double>() <= 0 || rate.get<double>() > kMostRate)
    return field_error(pointer + "/rate",
                       "must be a number of requests a second, above 0 and at most " +
                           std::to_string(static_cast<int>(kMostRate)) + ", not " + quoted(rate));
  service.rate = rate.get<double>();
  for (const auto& [key, target] :
       {std::pair("request_timeout", &service.request_timeout),
        std::pair("ready_timeout", &service.ready_timeout), std::pair("grace", &service.grace)}) {
    auto text = read_duration(object, pointer, key, *target, ZeroDuration::kRefused);
    if (!text) return text.error();
    *target = *text;
  }
  auto end = read_string(object, pointer, "end", service.end);
  if (!end) return end.error();
  if (std::find(kEndSignals.begin(), kEndSignals.end(), *end) == kEndSignals.end())
    return field_error(pointer + "/end", "unknown signal '" + *end + "'",
                       suggest(*end, kEndSignals));
  service.end = *end;
  return service;
}

Result<void> prepare_requests(PreparedSubject& prepared, const std::filesystem::path& work) {
  const ServiceSpec& service = *prepared.spec.service;
  prepared.items.emplace();
  std::string list;
  for (int i = 0; i < service.requests; ++i) {
    const std::string output = fmt::format("answers/{:05}", i);
    prepared.items->push_back({output});
    list += service.targets[static_cast<std::size_t>(i) % service.targets.size()] + "\t" + output +
            "\n";
  }
  prepared.list_file = work / "requests.list";
  return write_file_atomically(prepared.list_file, list);
}

std::vector<std::string> visit_arguments(const PreparedSubject& subject) {
  const ServiceSpec& service = *subject.spec.service;
  return {subject.dispatcher.string(),
          "--list",
          subject.list_file.string(),
          "--ready",
          service.ready,
          "--rate",
          fmt::format("{}", service.rate),
          "--request-timeout",
          service.request_timeout,
          "--ready-timeout",
          service.ready_timeout,
          "--end",
          service.end,
          "--grace",
          service.grace,
          "--"};
}

}  // namespace crashworthy

// crashworthy doctor: what this machine allows, found by trying it, and how noisy it is.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "harness/cli/commands.h"
#include "harness/experiment/clock_check.h"
#include "harness/experiment/conditions.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/launcher.h"

namespace crashworthy {
namespace {

using nlohmann::json;

struct Finding {
  std::string what;
  bool works = false;
  std::string detail;
};

// Starts /bin/true under one level.
Finding try_containment(Containment level) {
  Finding finding{std::string("containment ") + containment_name(level), false, {}};
  LaunchSpec spec;
  spec.argv = {"true"};
  spec.environment = {"PATH=/usr/bin:/bin"};
  spec.containment = level;
  auto subject = Subject::launch(spec);
  finding.works = subject.ok() && subject->wait_until_gone(std::chrono::seconds(5));
  finding.detail = !subject.ok() ? subject.error().message : subject->containment_reason();
  return finding;
}

std::vector<Finding> find_capabilities() {
  std::vector<Finding> findings;
  for (const Containment level : kContainments) findings.push_back(try_containment(level));
  auto self = open_pidfd(::getpid());
  findings.push_back({"pidfd", self.ok(), self.ok() ? "" : self.error().message});
  for (const char* helper :
       {"crashworthy-init", "crashworthy-content", "tiles", "tiles-generate", "canary"}) {
    auto path = find_helper(helper);
    findings.push_back({std::string("program ") + helper, path.ok(),
                        path.ok() ? path->string() : path.error().message});
  }
  const bool photographs = ::access("/usr/share/doc/opencv-doc/examples", R_OK) == 0;
  findings.push_back(
      {"image set photographs", photographs,
       photographs ? ""
                   : "Debian package opencv-doc is not installed: images are generated instead"});
  return findings;
}

}  // namespace

int doctor_command(bool as_json) {
  const auto clock = measure_clock_error();
  const std::vector<Finding> findings = find_capabilities();
  const json conditions = read_conditions();
  const json fingerprint = read_fingerprint();
  const bool contained = findings[0].works || findings[1].works || findings[2].works;
  const bool complete = contained && findings[3].works && findings[4].works && findings[5].works;
  if (as_json) {
    json list = json::array();
    for (const Finding& finding : findings)
      list.push_back(
          {{"what", finding.what}, {"works", finding.works}, {"detail", finding.detail}});
    const json document{{"capabilities", list},
                        {"conditions", conditions},
                        {"fingerprint", fingerprint_hash(fingerprint)},
                        {"fingerprint_fields", fingerprint},
                        {"clock_error_ns", clock ? json(clock->median_ns) : json(nullptr)}};
    std::printf("%s\n", document.dump(1).c_str());
    return complete ? 0 : 77;
  }
  for (const Finding& finding : findings) {
    std::printf("%-4s %-28s %s\n", finding.works ? "ok" : "no", finding.what.c_str(),
                finding.detail.c_str());
  }
  std::printf("\nfingerprint  %s\n", fingerprint_hash(fingerprint).c_str());
  for (const auto& [key, value] : fingerprint.items())
    std::printf("  %-14s %s\n", key.c_str(),
                value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  std::printf("noise\n");
  for (const auto& [key, value] : conditions.items())
    std::printf("  %-14s %s\n", key.c_str(), value.dump().c_str());
  if (clock) {
    std::printf("  %-14s %s (p90 %s), against a planted delay\n", "clock error",
                format_duration(clock->median_ns).c_str(), format_duration(clock->p90_ns).c_str());
  }
  for (const std::string& warning : noise_warnings(conditions))
    std::printf("warning: %s\n", warning.c_str());
  return complete ? 0 : 77;
}

}  // namespace crashworthy

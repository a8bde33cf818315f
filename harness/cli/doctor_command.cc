// crashworthy doctor: what this machine allows, found by trying it, and how noisy it is.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "harness/cli/capabilities.h"
#include "harness/cli/commands.h"
#include "harness/experiment/clock_check.h"
#include "harness/experiment/conditions.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

using nlohmann::json;

struct Report {
  std::vector<Capability> containment;
  std::vector<Capability> mechanisms;
  std::vector<Capability> programs;
  // What every run needs is there.
  bool complete() const {
    const auto works = [](const Capability& one) { return one.works; };
    return std::any_of(containment.begin(), containment.end(), works) && mechanisms[0].works &&
           programs[0].works && programs[1].works;
  }
  // The level that a run gets: the first that works.
  std::string level() const {
    for (const Capability& one : containment) {
      if (one.works) return one.what.substr(one.what.find(' ') + 1);
    }
    return "none";
  }
};

Report look() {
  Report report{containment_levels(), fault_mechanisms(), {}};
  for (const char* helper : {"crashworthy-init", "crashworthy-content", "crashworthy-each", "tiles",
                             "tiles-generate", "canary"}) {
    auto path = find_helper(helper);
    report.programs.push_back({std::string("program ") + helper, path.ok(),
                               path.ok() ? path->string() : path.error().message});
  }
  const bool photographs = ::access("/usr/share/doc/opencv-doc/examples", R_OK) == 0;
  report.programs.push_back(
      {"image set photographs", photographs,
       photographs ? ""
                   : "Debian package opencv-doc is not installed: images are generated instead"});
  return report;
}

void print_all(const char* title, const std::vector<Capability>& capabilities) {
  std::printf("%s\n", title);
  for (const Capability& one : capabilities) {
    std::printf("  %-4s %-32s %s\n", one.works ? "ok" : "no", one.what.c_str(), one.detail.c_str());
  }
}

}  // namespace

int doctor_command(bool as_json) {
  const auto clock = measure_clock_error();
  const Report report = look();
  const json conditions = read_conditions();
  const json fingerprint = read_fingerprint();
  if (as_json) {
    json list = json::array();
    for (const auto* part : {&report.containment, &report.mechanisms, &report.programs}) {
      for (const Capability& one : *part)
        list.push_back({{"what", one.what}, {"works", one.works}, {"detail", one.detail}});
    }
    const json document{{"capabilities", list},
                        {"containment", report.level()},
                        {"conditions", conditions},
                        {"fingerprint", fingerprint_hash(fingerprint)},
                        {"fingerprint_fields", fingerprint},
                        {"clock_error_ns", clock ? json(clock->median_ns) : json(nullptr)}};
    std::printf("%s\n", document.dump(1).c_str());
    return report.complete() ? 0 : 77;
  }
  std::printf("containment level in force: %s\n\n", report.level().c_str());
  print_all("containment", report.containment);
  print_all("mechanisms", report.mechanisms);
  print_all("programs", report.programs);
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
  return report.complete() ? 0 : 77;
}

}  // namespace crashworthy

#include "harness/experiment/needs.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "harness/experiment/environment.h"
#include "harness/os/json_fields.h"
#include "harness/process/launcher.h"
#include "harness/process/program_path.h"

namespace crashworthy {
namespace {

// Debian's packages are for Debian's interpreter; another may stand before it in PATH.
constexpr const char* kPython = "/usr/bin/python3";
constexpr const char* kPythonPackage = "python3";
constexpr std::chrono::seconds kPythonBound(60);
// Found, not imported: OpenCV takes a second to load.
constexpr const char* kFindModule =
    "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)";

bool has_program(const std::string& name, const std::filesystem::path& directory) {
  const auto candidates = program_candidates(name, to_environment(inherited_variables()));
  return look_for_executable(candidates, directory) == 0;
}

// In an empty environment, so that what lies in the user's own directories does not count: the
// trials do not see it either.
Result<bool> has_module(const std::string& name) {
  LaunchSpec spec;
  spec.argv = {kPython, "-B", "-I", "-c", kFindModule, name};
  auto subject = Subject::launch(spec);
  if (!subject) return subject.error().with_context("look for the Python module '" + name + "'");
  if (!subject->wait_until_gone(kPythonBound))
    return Error{ErrorKind::kTimeout, 0, "looking for the Python module '" + name + "' hangs", {}};
  auto reports = subject->read_reports();
  if (!reports) return reports.error();
  for (const Report& report : *reports) {
    if (report.kind == Report::Kind::kMainEnded) return report.status.success();
  }
  return Error{ErrorKind::kSystem, 0, "how Python ended is not known", {}};
}

Result<Need> read_need(const nlohmann::json& object, const std::string& pointer) {
  if (auto valid = require_object(object, pointer, {"program", "python", "package"}); !valid)
    return valid.error();
  Need need;
  for (const auto& [key, target] :
       {std::pair("program", &need.program), std::pair("python", &need.python),
        std::pair("package", &need.package)}) {
    auto text = read_string(object, pointer, key, "");
    if (!text) return text.error();
    *target = *std::move(text);
  }
  if (need.program.empty() == need.python.empty())
    return field_error(pointer, "needs either a 'program' or a module of 'python'");
  if (need.package.empty()) return field_error(pointer, "needs the 'package' that has it");
  return need;
}

class Needs {
 public:
  explicit Needs(const std::filesystem::path& directory) : directory_(directory) {}

  // What of it is missing; empty when nothing is.
  Result<std::string> missing(const std::vector<Need>& needs) {
    std::string reasons;
    for (const Need& need : needs) {
      const bool module = !need.python.empty();
      auto there = module ? module_there(need.python) : has_program(need.program, directory_);
      if (!there) return there.error();
      if (*there) continue;
      const bool no_python = module && !has_program(kPython, {});
      reasons += fmt::format("{}{} is missing (package {})", reasons.empty() ? "" : ", ",
                             no_python ? std::string(kPython)
                             : module  ? "Python's module " + need.python
                                       : need.program,
                             no_python ? kPythonPackage : need.package);
    }
    return reasons;
  }

 private:
  Result<bool> module_there(const std::string& name) {
    if (!has_program(kPython, {})) return false;
    const auto known = modules_.find(name);
    if (known != modules_.end()) return known->second;
    auto found = has_module(name);
    if (found) modules_[name] = *found;
    return found;
  }

  const std::filesystem::path& directory_;
  std::map<std::string, bool> modules_;  // Many arms ask for the same.
};

}  // namespace

Result<std::vector<Need>> read_needs(const nlohmann::json& value, const std::string& pointer) {
  if (!value.is_array())
    return field_error(pointer, "must be a list such as [{\"program\": .., \"package\": ..}]");
  std::vector<Need> needs;
  for (std::size_t i = 0; i < value.size(); ++i) {
    auto need = read_need(value[i], pointer + "/" + std::to_string(i));
    if (!need) return need.error();
    needs.push_back(*std::move(need));
  }
  return needs;
}

Result<std::vector<SkippedArm>> skip_arms(Experiment& experiment) {
  const char* const hint = "apt-get install --no-install-recommends PACKAGE";
  Needs needs(experiment.subject.directory);
  auto for_all = needs.missing(experiment.subject.needs);
  if (!for_all) return for_all.error();
  if (!for_all->empty())
    return Error{ErrorKind::kMissing, 0, "the subject cannot run here: " + *for_all, hint};
  std::vector<SkippedArm> skipped;
  std::vector<ArmSpec> kept;
  for (ArmSpec& arm : experiment.arms) {
    auto missing = needs.missing(arm.needs);
    if (!missing) return missing.error().with_context("arm '" + arm.name + "'");
    if (missing->empty()) {
      kept.push_back(std::move(arm));
    } else {
      skipped.push_back({arm.name, *std::move(missing)});
    }
  }
  experiment.arms = std::move(kept);
  if (!experiment.arms.empty()) return skipped;
  return Error{
      ErrorKind::kMissing, 0,
      fmt::format("no arm can run here; '{}': {}", skipped.front().arm, skipped.front().reason),
      hint};
}

}  // namespace crashworthy

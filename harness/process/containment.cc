#include "harness/process/containment.h"

#include <cstddef>

namespace crashworthy {
namespace {

constexpr std::array<const char*, 3> kNames{"pid_namespace", "cgroup", "subreaper"};
static_assert(kNames.size() == kContainments.size());

}  // namespace

const char* containment_name(Containment containment) {
  return kNames.at(static_cast<std::size_t>(containment));
}

std::optional<Containment> containment_from_name(std::string_view name) {
  for (const Containment containment : kContainments) {
    if (name == containment_name(containment)) return containment;
  }
  return std::nullopt;
}

}  // namespace crashworthy

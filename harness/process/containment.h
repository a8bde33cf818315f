// How a subject's tree is held together, from the strongest level to the weakest.
#pragma once

#include <array>
#include <optional>
#include <string_view>

namespace crashworthy {

enum class Containment {
  kPidNamespace,  // First process of a pid namespace: the kernel ends everything with it.
  kCgroup,        // A cgroup of its own and a guardian that writes cgroup.kill.
  kSubreaper      // A guardian that adopts every orphan and kills until childless.
};

// In the order in which they are tried.
inline constexpr std::array<Containment, 3> kContainments{
    Containment::kPidNamespace, Containment::kCgroup, Containment::kSubreaper};

// "pid_namespace", "cgroup", "subreaper": as in CRASHWORTHY_CONTAINMENT and in files.
const char* containment_name(Containment containment);
// The level of that name; empty for any other text.
std::optional<Containment> containment_from_name(std::string_view name);

}  // namespace crashworthy

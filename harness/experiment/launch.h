// From what the injections want of a launch to what the launcher is asked for.
#pragma once

#include "faults/launch_plan.h"
#include "harness/process/launcher.h"

namespace crashworthy {

LaunchSpec launch_spec(const LaunchPlan& plan);

}  // namespace crashworthy
